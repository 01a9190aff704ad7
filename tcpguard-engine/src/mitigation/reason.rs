//! Reasons for the state of a mitigation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::breaker::Harm;

/// Reason that tcpguard does less than the evidence calls for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBack {
    /// The agent is in mode `off`.
    AgentOff,
    /// The agent is in mode `observe`.
    AgentObserves,
    /// The configuration sets mode `off` for the listener.
    ListenerOff,
    /// The configuration sets mode `observe` for the listener.
    ListenerObserves,
    /// No SYN-ACK of the listener is seen.
    NoReplySeen,
    /// The accept queue of the listener is full.
    AcceptQueueFull,
}

/// Reason for which a mitigation is active, ended or is not active.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MitigationReason {
    /// A flood may bring out-of-state segments.
    Flood,
    /// The listener answers out-of-state segments with resets.
    Resets {
        /// Resets per second.
        per_second: f64,
    },
    /// A part of the flood matches no rule.
    Uncovered {
        /// Its share of the failed handshakes, 0 to 1.
        share: f64,
    },
    /// Clients have the fingerprint of SYNs that a rule drops.
    ClientsMatchRule,
    /// Clients have the fingerprint of SYNs that a rule for every listener drops.
    ClientsMatchSharedRule,
    /// More SYNs are retransmitted past a rule than the SYN queue takes.
    Retransmitted,
    /// The SYN queue is full.
    QueueFull,
    /// The SYN queue is nearly full.
    QueueNearlyFull,
    /// The SYN queue would fill without the SYN cookies that are sent.
    QueueWouldFill,
    /// More handshakes fail than clients could have started.
    Surge,
    /// The SYN queue stays full although every milder mitigation acts that is available.
    QueueStillFull,
    /// Other hosts of the fleet report a flood of the listener's port.
    Hinted {
        /// Number of these hosts.
        hosts: u16,
    },
    /// An earlier run of the agent started it.
    Inherited,
    /// An operator ordered it.
    Ordered {
        /// User id of the operator.
        uid: u32,
    },
    /// An operator forbids it.
    Forbidden {
        /// User id of the operator.
        uid: u32,
    },
    /// The configuration forbids it.
    Barred,
    /// The mitigation could not be started.
    Failed {
        /// The obstacle, in the words of the agent or the kernel.
        error: Box<str>,
        /// Remedy of the obstacle; left out where none is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<Box<str>>,
    },
    /// The mitigation did harm.
    Harmful {
        /// The harm.
        harm: Harm,
    },
    /// The agent holds it back.
    HeldBack {
        /// The cause.
        by: HeldBack,
    },
    /// The incident that called for it is over.
    IncidentOver,
    /// Nothing called for it any longer.
    NotNeeded {
        /// Seconds for which nothing called for it.
        for_s: u64,
    },
}

/// A mitigation that could not be started, and of which nothing is in the kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Setback {
    /// The obstacle.
    pub error: String,
    /// Its remedy, where one is known.
    pub remedy: Option<String>,
    /// True if the obstacle may be gone in a moment.
    pub soon: bool,
}

impl MitigationReason {
    /// Returns whether only other hosts' reports call for it.
    pub const fn is_hint(&self) -> bool {
        matches!(self, Self::Hinted { .. })
    }
}
