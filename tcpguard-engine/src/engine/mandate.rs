//! The limits that the operator sets to the agent: the settings and the mode. At some listeners the agent does less than
//! elsewhere, because the configuration says so.

use std::time::Duration;

use super::monitor::ListenerMonitor;
use crate::incident::{IncidentFacts, IncidentReport, QuietReport};
use crate::input::{Listener, ListenerKind, Mitigation, Mode, Timestamp};
use crate::listener::Egress;
use crate::mitigation::HeldBack;
use crate::settings::Tuned;

/// Time without a sign of a flood after which it has stopped, as far as is known.
const STOPPED: Duration = Duration::from_secs(5);

/// The settings and the mode.
#[derive(Clone, Debug)]
pub(super) struct Mandate {
    pub settings: Tuned,
    pub mode: Mode,
    /// Time of the last change of the mode: in enforce mode, matches are dropped since then.
    pub enforced: Timestamp,
}

impl Mandate {
    /// Returns whether the agent acts.
    pub fn enforces(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// The mode at one listener.
    pub fn mode_at(&self, listener: Listener) -> Mode {
        self.settings.mode(listener, self.mode)
    }

    /// The facts about an incident.
    pub fn facts(&self, report: &IncidentReport) -> IncidentFacts {
        let own = Some(self.mode_at(report.listener)).filter(|own| *own < self.mode);
        IncidentFacts { listener_mode: own, ..IncidentFacts::of(report, self.mode) }
    }

    /// Returns the reason that no rules are made for a listener's incidents although the agent's mode allows
    /// them; `None` where the listener is treated like all others.
    pub fn held_back(&self, listener: Listener) -> Option<HeldBack> {
        why(self.settings.mode(listener, self.mode), self.mode)
    }

    /// Returns whether cookies can be sent ahead: how a listener answers is learned from its answers.
    pub fn may_answer(&self, monitor: &ListenerMonitor) -> bool {
        self.mode_at(monitor.listener) == Mode::Enforce
            && monitor.kind == ListenerKind::Local
            && monitor.egress() != Egress::Unseen
    }

    /// The report of an open incident of which nothing was seen for so long.
    pub fn quiet(&self, now: Timestamp, lasts: Duration) -> Option<QuietReport> {
        let since = now - lasts;
        let ends_at = since + self.settings.common.quiet;
        (lasts >= STOPPED).then_some(QuietReport { since, ends_at })
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
