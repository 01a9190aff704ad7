//! The listeners of an open incident: one, or those that are reported together.

use tcpguard_engine::{
    Completions, IncidentClass, IncidentReport, ListenerId, ListenerKind, ListenerReport,
    ListenerState, MitigationReport, Report,
};

/// The share by which the clients of a second differ from their mean at most, where cookies answer them alone.
const CLIENTS_VARY: f64 = 0.2;

/// The listeners of an incident; none where it is about the whole host.
pub(super) struct About<'r> {
    listeners: Vec<&'r ListenerReport>,
    class: IncidentClass,
}

impl<'r> About<'r> {
    pub fn of(report: &'r Report, incident: &IncidentReport) -> Self {
        let is_of_all = incident.listener_id == ListenerId::HOST && !incident.class.is_of_host();
        let is_about =
            |one: &&ListenerReport| one.id == incident.listener_id || is_of_all && one.with_others;
        Self {
            listeners: report.listeners.iter().filter(is_about).collect(),
            class: incident.class,
        }
    }

    fn sum(&self, rate: impl Fn(&ListenerReport) -> f64) -> f64 {
        self.listeners.iter().map(|one| rate(one)).sum()
    }

    /// The handshakes of its clients. The failures of the sum are judged, because those of a listener with few clients
    /// are chance.
    pub fn completions(&self) -> Option<Completions> {
        if let [one] = self.listeners[..] {
            return Some(one.completions);
        }
        let baselines = self.listeners.iter().filter_map(|one| one.completions.baseline);
        let (rate, failing) =
            (self.sum(|one| one.completions.rate), self.sum(|one| one.failing_rate));
        let all = || {
            let baseline = baselines.reduce(|sum, one| sum + one);
            Completions::of(rate, baseline, failing, Some(self.class))
        };
        (!self.listeners.is_empty()).then(all)
    }

    /// SYNs per second of the last second that were kept from the stack, and those without a completed handshake.
    pub fn stopped(&self) -> Option<(f64, f64)> {
        let (cookies, completed) =
            (self.sum(|one| one.cookie_rate), self.sum(|one| one.completions.rate));
        // A cookie that a client returns stops nothing. So little may be the clients of another second.
        let unreturned = (cookies - completed).max(0.0);
        let of_flood = if unreturned > cookies * CLIENTS_VARY { unreturned } else { 0.0 };
        let stopped = self.sum(|one| one.dropped_rate) + of_flood;
        let all = stopped + self.sum(|one| one.reaching_rate);
        (!self.listeners.is_empty()).then_some((stopped, all))
    }

    /// Returns whether the agent keeps the flood away from each of them.
    pub fn is_kept_away(&self) -> bool {
        self.listeners.iter().all(|one| one.state != ListenerState::Attacked)
    }

    pub fn mitigations(&self) -> impl Iterator<Item = &'r MitigationReport> {
        self.listeners.iter().flat_map(|one| &one.mitigations)
    }

    pub fn is_forwarded(&self) -> bool {
        !self.listeners.is_empty()
            && self.listeners.iter().all(|one| one.kind == ListenerKind::Forwarded)
    }
}
