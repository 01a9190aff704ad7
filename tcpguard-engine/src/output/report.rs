//! The engine's state, for `status`, alerts and JSON. Plain data, no formatting of layout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evidence::IncidentClass;
use crate::incident::IncidentReport;
use crate::input::{Listener, ListenerCounters, ListenerId, ListenerKind, Mode, Queues};
use crate::listener::Egress;
use crate::mitigation::MitigationReport;
use crate::rules::{AllowReport, RuleReport};

/// State of the engine at one moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// The mode.
    pub mode: Mode,
    /// Open incidents, oldest first.
    pub incidents: Vec<IncidentReport>,
    /// Closed incidents that are kept, the latest to end first (at most 64). None where [`crate::Engine::leave_past`] leaves
    /// them to the caller.
    pub past: Vec<IncidentReport>,
    /// Every listener monitored.
    pub listeners: Vec<ListenerReport>,
    /// Every rule wanted in the kernel.
    pub rules: Vec<RuleReport>,
    /// The allowlist.
    pub allowed: Vec<AllowReport>,
    /// One flow in `2^sample_shift` is tracked in detail.
    pub sample_shift: u8,
}

/// One listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ListenerReport {
    /// Its id.
    pub id: ListenerId,
    /// Its address.
    pub listener: Listener,
    /// Location of its sockets.
    pub kind: ListenerKind,
    /// Cumulative counters.
    pub counters: ListenerCounters,
    /// Queues of its sockets, where they could be read.
    pub queues: Option<Queues>,
    /// SYNs per second over the last second.
    pub syn_rate: f64,
    /// SYNs per second that rules matched, or that were too many, over the last second (in observe
    /// mode: rules would drop them).
    pub dropped_rate: f64,
    /// SYNs per second answered with cookies over the last second.
    pub cookie_rate: f64,
    /// SYNs per second over the last second that were left to the stack and completed no handshake. Those in
    /// frames that the XDP program cannot read are among them.
    pub reaching_rate: f64,
    /// Completed handshakes, compared with their baseline: whether its clients connect.
    pub completions: Completions,
    /// Handshakes per second of the same time that failed: those of clients, and those of a flood.
    pub failing_rate: f64,
    /// True if it is a part of the incident of several listeners.
    pub with_others: bool,
    /// State of the listener.
    pub state: ListenerState,
    /// Egress check: whether its SYN-ACKs leave by an attached interface.
    pub egress: Egress,
    /// The mitigations beside rules that are active for it, and those that cannot be.
    pub mitigations: Vec<MitigationReport>,
}

/// Handshakes of a listener's clients, those that complete and those that fail: the one measure of whether clients
/// connect.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Completions {
    /// Completed handshakes per second, mean of [`Completions::SPAN`].
    pub rate: f64,
    /// Their baseline, learned while no incident was open; `None` while too little was seen.
    pub baseline: Option<f64>,
    /// Handshakes of clients that failed per second in the same time: attempted and not completed. `None` where
    /// those of clients are not known among all.
    pub failed: Option<f64>,
}

impl Completions {
    /// Span of the mean rate. With few clients a second, a shorter span would show little.
    pub const SPAN: std::time::Duration = std::time::Duration::from_secs(8);
    /// The lowest rate of attempts of which so short a mean says anything: 16 handshakes.
    pub const LEAST: f64 = 2.0;

    /// Counts of clients, where `rate` handshakes complete and `failing` others fail per second. Of those that a flood or
    /// other unvalidated sources may have begun, no more are clients' than are missing from the baseline.
    pub fn of(
        rate: f64,
        baseline: Option<f64>,
        failing: f64,
        class: Option<IncidentClass>,
    ) -> Self {
        let failed = match (class, baseline) {
            (Some(class), _) if class.is_pressure() => Some(failing),
            (_, Some(baseline)) => Some(failing.min((baseline - rate).max(0.0))),
            (Some(class), None) if !class.is_flood() => Some(failing),
            (_, None) => None,
        };
        Self { rate, baseline, failed }
    }

    /// The completed handshakes as a share of those that clients attempted. Clients that do not come do not fail. `None`
    /// where their failures are not known, or where they are too few for a verdict.
    pub fn ratio(&self) -> Option<f64> {
        let attempted = self.rate + self.failed?;
        (attempted >= Self::LEAST).then_some(self.rate / attempted)
    }
}

/// State of a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerState {
    /// Handshakes complete.
    Ok,
    /// Handshakes fail and the cause is not known yet, the SYN queue is full, or SYNs that the XDP program
    /// cannot read reach the stack.
    Suspect,
    /// Handshakes fail, and the incident is no attack.
    Failing,
    /// An attack is open. Either no mitigation is active, or most of its SYNs reach the stack.
    Attacked,
    /// An attack is open, and rules or other mitigations keep most of its SYNs from the stack.
    Mitigating,
    /// The accept queue is full: the application does not accept as fast as clients connect.
    Overloaded,
    /// No socket listens there, and the kernel refuses the clients that try. Only the agent knows that.
    Closed,
}
