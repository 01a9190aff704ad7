//! Listeners at which the agent does less than elsewhere, because the configuration says so.

use super::Engine;
use crate::evidence::RestraintReason;
use crate::input::{Listener, Mitigation, Mode};

/// Reason that no rule is made for all listeners at once.
pub(super) const SOME: &str = "there are listeners at which the guard is to do less than elsewhere";

impl Engine {
    /// Returns the reason that no rules are made for a listener's incidents although the agent's mode allows
    /// them; `None` where the listener is treated like all others.
    pub(super) fn held_back(&self, listener: Listener) -> Option<&'static str> {
        why(self.settings.mode(listener, self.mode), self.mode)
    }

    /// Lets incidents ask for no rules where rules are held back. A rule in the kernel drops, whatever the
    /// mode of the listener, and so it must not be there.
    pub(super) fn hold_back(&mut self) {
        for monitor in self.monitors.values_mut() {
            let mode = self.settings.mode(monitor.listener, self.mode);
            if let (Some(why), Some(incident)) = (why(mode, self.mode), &mut monitor.incident) {
                incident.release_rules(why);
            }
        }
        if self.rolled.is_some()
            && let Some(why) = self.no_shared_rules()
            && let Some(rolled) = &mut self.rolled
        {
            rolled.incident.release_mitigation(Mitigation::Signature, why);
        }
    }
}

/// Returns the reason that no rules are made at a listener with mode `mode`, while the agent's mode elsewhere
/// is `agent_mode`; `None` where `mode` is not the milder one.
pub(super) fn why(mode: Mode, agent_mode: Mode) -> Option<&'static str> {
    match mode {
        _ if mode >= agent_mode => None,
        Mode::Off => Some("the guard is off at this listener"),
        Mode::Observe | Mode::Enforce => Some("the guard only observes this listener"),
    }
}

/// The same reason as an incident records it.
pub(super) fn restraint(mode: Mode, agent_mode: Mode) -> Option<RestraintReason> {
    match mode {
        _ if mode >= agent_mode => None,
        Mode::Off => Some(RestraintReason::ListenerOff),
        Mode::Observe | Mode::Enforce => Some(RestraintReason::ListenerObserve),
    }
}

/// The reason that no mitigation that keeps SYNs away is started at a listener with mode `mode`, as an incident
/// records it.
pub(super) fn idle_restraint(mode: Mode, agent_mode: Mode) -> Option<RestraintReason> {
    restraint(mode, agent_mode).or(match mode {
        Mode::Off => Some(RestraintReason::Off),
        Mode::Observe => Some(RestraintReason::Observe),
        Mode::Enforce => None,
    })
}

/// Returns the reason that a mitigation is not started at a listener with mode `mode`; `None` where it may
/// be. The check for out-of-state segments does no harm while the kernel only counts them. Where the kernel
/// would drop them, and the listener's own mode is milder, that check is left out too.
pub(super) fn idle(mitigation: Mitigation, mode: Mode, agent_mode: Mode) -> Option<&'static str> {
    why(mode, agent_mode).or(match mode {
        _ if !mitigation.keeps_syns_away() => None,
        Mode::Off => Some("the guard is off"),
        Mode::Observe => Some("the guard only observes"),
        Mode::Enforce => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_listener_where_only_it_is_held_back() {
        let (observed, off) = (
            Some("the guard only observes this listener"),
            Some("the guard is off at this listener"),
        );
        for (mode, agent_mode, rules, cookies, out_of_state) in [
            (Mode::Enforce, Mode::Enforce, None, None, None),
            (Mode::Observe, Mode::Observe, None, Some("the guard only observes"), None),
            (Mode::Off, Mode::Off, None, Some("the guard is off"), None),
            (Mode::Observe, Mode::Enforce, observed, observed, observed),
            (Mode::Off, Mode::Enforce, off, off, off),
            (Mode::Off, Mode::Observe, off, off, off),
        ] {
            assert_eq!(why(mode, agent_mode), rules, "{mode:?} {agent_mode:?}");
            assert_eq!(
                idle(Mitigation::Cookies, mode, agent_mode),
                cookies,
                "{mode:?} {agent_mode:?}"
            );
            assert_eq!(
                idle(Mitigation::OutOfState, mode, agent_mode),
                out_of_state,
                "{mode:?} {agent_mode:?}"
            );
        }
    }
}
