//! Listeners at which the agent does less than elsewhere, because the configuration says so.

use super::Engine;
use crate::input::{Listener, Mitigation, Mode};
use crate::mitigation::HeldBack;
use crate::rules::RemovalReason;

impl Engine {
    /// Returns the reason that no rules are made for a listener's incidents although the agent's mode allows
    /// them; `None` where the listener is treated like all others.
    pub(super) fn held_back(&self, listener: Listener) -> Option<HeldBack> {
        why(self.settings.mode(listener, self.mode), self.mode)
    }

    /// Lets incidents ask for no rules where rules are held back or forbidden. A rule in the kernel drops, whatever
    /// the settings of the listener, and so it must not be there.
    pub(super) fn hold_back(&mut self) {
        for monitor in self.monitors.values_mut() {
            let Some(incident) = &mut monitor.incident else { continue };
            let mode = self.settings.mode(monitor.listener, self.mode);
            if let Some(by) = why(mode, self.mode) {
                incident.release_rules(&RemovalReason::HeldBack { by });
            }
            for mitigation in [Mitigation::Source, Mitigation::Signature] {
                if monitor.ladder.bars(mitigation) {
                    incident.release_mitigation(mitigation, &RemovalReason::Forbidden);
                }
            }
        }
        if self.rolled.is_some()
            && let Some(by) = self.no_shared_rules()
            && let Some(rolled) = &mut self.rolled
        {
            let why = RemovalReason::HeldBack { by };
            rolled.incident.release_mitigation(Mitigation::Signature, &why);
        }
    }
}

/// Returns the reason that no rules are made at a listener with mode `mode`, while the agent's mode elsewhere
/// is `agent_mode`; `None` where `mode` is not the milder one.
pub(super) fn why(mode: Mode, agent_mode: Mode) -> Option<HeldBack> {
    match mode {
        _ if mode >= agent_mode => None,
        Mode::Off => Some(HeldBack::ListenerOff),
        Mode::Observe | Mode::Enforce => Some(HeldBack::ListenerObserves),
    }
}

/// Returns the reason that a mitigation is not started at a listener with mode `mode`; `None` where it may
/// be. The check for out-of-state segments does no harm while the kernel only counts them. Where the kernel
/// would drop them, and the listener's own mode is milder, that check is left out too.
pub(super) fn idle(mitigation: Mitigation, mode: Mode, agent_mode: Mode) -> Option<HeldBack> {
    why(mode, agent_mode).or(match mode {
        _ if !mitigation.keeps_syns_away() => None,
        Mode::Off => Some(HeldBack::AgentOff),
        Mode::Observe => Some(HeldBack::AgentObserves),
        Mode::Enforce => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_listener_where_only_it_is_held_back() {
        let (observed, off) = (Some(HeldBack::ListenerObserves), Some(HeldBack::ListenerOff));
        for (mode, agent_mode, rules, cookies, out_of_state) in [
            (Mode::Enforce, Mode::Enforce, None, None, None),
            (Mode::Observe, Mode::Observe, None, Some(HeldBack::AgentObserves), None),
            (Mode::Off, Mode::Off, None, Some(HeldBack::AgentOff), None),
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
