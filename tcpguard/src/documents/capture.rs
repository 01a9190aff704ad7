//! SYNs that XDP dropped or answered, recorded by `tcpguard capture`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{Action, Reason};
use tcpguard_engine::hexadecimal;

/// A SYN that XDP dropped or answered, as the agent hands it over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CapturedSyn {
    /// Time of its arrival, in ns since 1970.
    pub at_ns: u64,
    /// Its header, from the IP header up to the end of the TCP options, at most 112 bytes.
    #[serde(rename = "hex", with = "hexadecimal")]
    pub header: Vec<u8>,
    /// Reason of its fate, as in the metrics: `drop_signature`, `cookie`, …
    pub reason: String,
    /// True if it was answered with a SYN cookie, false if it was dropped.
    pub answered: bool,
    /// One SYN in so many was kept.
    pub one_in: u32,
}

impl CapturedSyn {
    /// The document of a SYN with this header; `None` of one that went to the stack, where packet sockets see it.
    pub fn build(at_ns: u64, header: &[u8], reason: Reason, one_in: u32) -> Option<Self> {
        let answered = match reason.action() {
            Action::Pass => return None,
            Action::Drop => false,
            Action::Tx => true,
        };
        let (header, reason) = (header.to_vec(), reason.name().to_owned());
        Some(Self { at_ns, header, reason, answered, one_in })
    }
}

/// SYNs after a certain one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CapturedSyns {
    /// Number of the last one so far.
    pub last: u64,
    /// Those after the one that was named, oldest first, as far as they are remembered.
    pub syns: Vec<CapturedSyn>,
}

/// Reason why a recording ended.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureEnd {
    /// Limit of packets (`--count`).
    Packets,
    /// Limit of size (`--max-size`).
    Size,
    /// Limit of time (`--for`).
    Time,
    /// SIGINT or SIGTERM.
    Signal,
}

/// Result of a recording.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct CaptureResult {
    /// Name of the file.
    pub file: PathBuf,
    /// Number of packets in it.
    pub packets: u64,
    /// Approximate number of dropped and answered SYNs that these stand for.
    pub stand_for: u64,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// Time for which was recorded, in seconds.
    pub duration_s: f64,
    /// Reason why the recording ended.
    pub ended_by: CaptureEnd,
}
