//! The engine's state, for `status`, alerts and JSON. Plain data, no formatting of layout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Completed handshakes per second over the last second.
    pub completed_rate: f64,
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
    /// State of the listener.
    pub state: ListenerState,
    /// Egress check: whether its SYN-ACKs leave by an attached interface.
    pub egress: Egress,
    /// The mitigations beside rules that are active for it, and those that cannot be.
    pub mitigations: Vec<MitigationReport>,
}

/// Handshakes that a listener completes, compared with its baseline: the one measure of whether clients
/// connect. A share of the SYNs is none: in a flood most SYNs are spoofed, and those that are dropped or
/// answered with a cookie never complete.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Completions {
    /// Completed handshakes per second, mean of [`Completions::SPAN`].
    pub rate: f64,
    /// Their baseline, learned while no incident was open; `None` while too little was seen.
    pub baseline: Option<f64>,
    /// SYNs per second in the same time, without retransmissions.
    pub syn_rate: f64,
}

impl Completions {
    /// Span of the mean rate. With few clients a second, a shorter span would show little.
    pub const SPAN: std::time::Duration = std::time::Duration::from_secs(8);
    /// The lowest rate against which so short a mean says anything: of 16 handshakes that are to be
    /// expected fewer than half come by chance in 1 span of 100.
    const LEAST: f64 = 2.0;

    /// The rate as a share of the baseline, or of the SYNs where fewer came: clients that do not come do not fail.
    /// `None` where the baseline is not known, or that is too few to compare with.
    pub fn ratio(&self) -> Option<f64> {
        let expected = self.baseline?.min(self.syn_rate);
        (expected >= Self::LEAST).then_some(self.rate / expected)
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
    /// An incident other than a flash crowd is open. Either no mitigation is active, or most of its SYNs reach
    /// the stack.
    Attacked,
    /// An incident is open, and rules or other mitigations keep most of its SYNs from the stack.
    Mitigating,
    /// The accept queue is full: the application does not accept as fast as clients connect.
    Overloaded,
}
