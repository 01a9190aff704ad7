//! The exchange with the other hosts of a fleet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{HintReport, SharedSignature, describe};
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

/// A hint of other hosts: the signature of a flood.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FleetHint {
    /// Local port of the attacked listeners.
    pub port: u16,
    /// Signature in p0f-like words, without its TTL.
    pub signature: String,
    /// Number of hosts that report it.
    pub reporters: u16,
    /// SYNs of this host with the signature since the hint has held, estimated.
    pub syns: u64,
    /// True if cookies are sent ahead of a flood at a listener of this port.
    pub cookies_ahead: bool,
}

impl FleetHint {
    /// Builds the entry from the engine's report.
    pub fn build(hint: &HintReport) -> Self {
        Self {
            port: hint.port,
            signature: in_words(&hint.signature),
            reporters: hint.reporters,
            syns: hint.syns,
            cookies_ahead: hint.cookies_ahead,
        }
    }
}

fn in_words(signature: &SharedSignature) -> String {
    let parsed = signature.parsed();
    parsed.map_or_else(String::new, |(mask, print)| describe(mask, &print))
}
