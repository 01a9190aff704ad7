//! The exchange with the other hosts of a fleet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::HintReport;
use tcpguard_host::time::Time;

/// Exchange with the other hosts of a fleet, by `tcpguard-fleet`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Fleet {
    /// True while `tcpguard-fleet` is connected.
    pub connected: bool,
    /// Time of its last message; `null`: none has come since the agent started.
    pub heard_at: Option<Time>,
    /// Number of hints of other hosts that hold.
    pub hints: u32,
    /// The hints with the most SYNs on this host, at most 16.
    pub top_hints: Vec<FleetHint>,
    /// Messages that were refused since the agent started, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Messages that a full queue dropped since the agent started.
    pub dropped: u64,
}

/// A hint of other hosts: the signature of a flood, in words.
pub type FleetHint = HintReport<String>;
