//! The open incident from the view of a listener: one of its own, or that of the host, in which it is combined with
//! others.

use std::time::Duration;

use super::{ListenerMonitor, RATE_SPAN};
use crate::evidence::IncidentClass;
use crate::incident::Incident;
use crate::input::{Mitigation, Mode, Timestamp};
use crate::policy::Residual;
use crate::settings::Settings;

/// Span of the mean rate of failures: as far back as the window reaches, and longer than the pauses of pulsed floods
/// (2.75 s in a public capture, 10 s assumed). In a second a few SYNs vary too much to be compared.
const LATELY: Duration = Duration::from_secs(16);
/// Share of the failed flows that rules leave uncovered, up to which rules act against the flood: they cover most of
/// it. The uncovered rest calls for mitigations much earlier (`residual_share`).
const LEFT: f64 = 0.5;
/// Handshakes in a second from which a burst is waited for: fewer are not enough for a verdict (`evidence_flows`).
const BURST_MIN: u64 = 32;
/// Share of a second's SYNs without a completed handshake, from which they may be a burst's: most. Of clients that
/// arrive evenly, as many wait only where they are half a second away. For such clients the end is reported two
/// seconds later.
const BURST: f64 = 0.5;
/// SYNs of a client that is never answered: the first and six retransmissions (`net.ipv4.tcp_syn_retries`).
const UNANSWERED: f64 = 7.0;

/// A listener's part in the incident of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rolled {
    /// Class at this listener.
    pub class: IncidentClass,
    /// Time of the listener's alarm.
    pub since: Timestamp,
}

impl ListenerMonitor {
    /// Returns whether an incident is open that is about failed handshakes, rather than about pressure.
    pub fn handshakes_failed(&self) -> bool {
        let own = self.incident.as_deref();
        self.rolled.is_some() || own.is_some_and(|incident| !incident.class().is_pressure())
    }

    /// Returns the time of the alarm of the open incident.
    pub fn alarmed(&self) -> Option<Timestamp> {
        let own = self.incident.as_deref().map(Incident::detected);
        own.or(self.rolled.map(|rolled| rolled.since))
    }

    /// Class of the open incident.
    pub fn class(&self) -> Option<IncidentClass> {
        let own = self.incident.as_deref().map(Incident::class);
        own.or(self.rolled.map(|rolled| rolled.class))
    }

    /// Returns whether a flood is on.
    pub fn is_flooded(&self) -> bool {
        self.class().is_some_and(IncidentClass::is_flood)
    }

    /// Returns whether a full accept queue hides the flood: the kernel answers no SYN then, so that no handshake begins
    /// and none fails.
    pub fn hides_flood(&self, settings: &Settings) -> bool {
        let clients = self.baseline_syn_rate().max(settings.failure_floor);
        self.is_flooded() && self.pressure.is_full() && self.syn_rate() > UNANSWERED * clients
    }

    /// Time of the end of the last incident of failed handshakes, which may have called for mitigations. `None` while
    /// handshakes fail, whatever the verdict is, or where they never did.
    pub fn failing_ended(&self) -> Option<Timestamp> {
        self.failing_over.filter(|_| !self.handshakes_failed())
    }

    /// Returns whether the rules for every listener are among those that act against its flood.
    pub fn shares_rules(&self) -> bool {
        let covered = |residual: Residual| residual.share <= LEFT;
        let shares =
            self.rolled.is_some() || self.is_flooded() && self.residual.is_some_and(covered);
        shares && !self.shared.is_exempt()
    }

    /// Returns whether a full queue left most SYNs of the last moment without an answer.
    pub fn is_unanswering(&self) -> bool {
        self.window.last(RATE_SPAN).is_unanswered()
    }

    /// Returns whether more SYNs arrive than can be answered by any means. The agent may act since `enforced`, and acts
    /// according to `mode`.
    pub fn is_unanswerable(&self, now: Timestamp, enforced: Timestamp, mode: Mode) -> bool {
        // The SYN rate limit keeps the queue from being full.
        let overwhelmed = self.is_unanswering() || self.ladder.has(Mitigation::Budget);
        overwhelmed && self.is_without_cookies(now, enforced, mode)
    }

    /// Handshakes a second that have failed lately.
    pub fn failed_rate(&self) -> f64 {
        let sums = self.window.last(LATELY);
        sums.per_second(sums.failures())
    }

    /// Returns whether SYNs of the last second are a burst, by all that can be known before they have had their time:
    /// most of them have not completed a handshake.
    pub fn may_be_disturbed(&self) -> bool {
        let sums = self.window.last(RATE_SPAN);
        let waiting = sums.syns.saturating_sub(sums.completed);
        waiting >= BURST_MIN && waiting as f64 >= BURST * sums.syns as f64
    }
}
