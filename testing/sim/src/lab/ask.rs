//! Questions to a simulation.

use tcpguard_engine::{IncidentReport, ListenerReport, Matcher, Report, Rule};

use super::{Attempt, Lab, RaisedAlert};

impl Lab {
    /// The engine's report at this time.
    pub fn report(&self) -> Report {
        self.engine.report(self.kernel.now)
    }

    /// The same about one listener.
    pub fn listener_report(&self, index: usize) -> ListenerReport {
        self.report().listeners[index].clone()
    }

    /// The open incident; there must be one.
    pub fn incident(&self) -> IncidentReport {
        self.report().incidents.first().expect("an open incident").clone()
    }

    /// Times of the alerts about an event, s.
    pub fn times(&self, event: &str) -> Vec<f64> {
        self.alerts
            .iter()
            .filter(|alert| alert.event.name() == event)
            .map(|alert| alert.at)
            .collect()
    }

    /// All alerts, for failing tests.
    pub fn story(&self) -> String {
        let line = |alert: &RaisedAlert| format!("{:8.3} {:?}\n", alert.at, alert.event);
        self.alerts.iter().map(line).collect()
    }

    /// Share of the clients that began within `from..until` and were connected a second later. Only a
    /// laboratory of [`Lab::new`] knows.
    pub fn connected(&self, from: f64, until: f64) -> f64 {
        self.connected_to(0, from, until)
    }

    /// The same for one listener.
    pub fn connected_to(&self, to: usize, from: f64, until: f64) -> f64 {
        self.connected_if(|attempt| attempt.to == to, 1.0, from, until)
    }

    /// The same for one group of clients and another patience, s.
    pub fn group_connected(&self, group: usize, patience: f64, from: f64, until: f64) -> f64 {
        self.connected_if(|attempt| attempt.group == group, patience, from, until)
    }

    fn connected_if(
        &self,
        counts: impl Fn(&Attempt) -> bool,
        patience: f64,
        from: f64,
        until: f64,
    ) -> f64 {
        let attempts = self.attempts.as_ref().expect("attempts are remembered");
        let began: Vec<&Attempt> = attempts
            .iter()
            .filter(|attempt| counts(attempt))
            .filter(|attempt| attempt.started >= from && attempt.started < until)
            .collect();
        assert!(!began.is_empty(), "no client began between {from} and {until}");
        let quick = |attempt: &&&Attempt| {
            attempt.connected.is_some_and(|connected| connected - attempt.started <= patience)
        };
        began.iter().filter(quick).count() as f64 / began.len() as f64
    }

    /// The signature rules in the kernel.
    pub fn signature_rules(&self) -> Vec<Rule> {
        let is_signature = |rule: &&Rule| matches!(rule.matcher, Matcher::Signature { .. });
        self.kernel.rules().filter(is_signature).cloned().collect()
    }
}
