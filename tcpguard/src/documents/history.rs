//! The last five minutes of the host, second by second.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_host::time::Time;

/// Rates of the last five minutes, over all listeners and closed ports of the host.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct History {
    /// Rates of each second, oldest first; at most 300. Seconds before the start of the agent are absent.
    pub seconds: Vec<Second>,
}

/// Rates of one second. The second is longer where the agent polled late.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Second {
    /// End of the second.
    pub at: Time,
    /// SYNs per second, retransmissions and SYNs to closed ports included.
    pub syn_pps: f64,
    /// SYNs per second that were dropped, by rules or because they were too many.
    pub dropped_pps: f64,
    /// SYNs per second that XDP answered with a cookie.
    pub cookies_sent_pps: f64,
    /// Completed handshakes per second.
    pub completed_pps: f64,
}

impl Second {
    /// Returns the SYNs per second that passed to the network stack.
    pub fn passed_pps(&self) -> f64 {
        (self.syn_pps - self.dropped_pps - self.cookies_sent_pps).max(0.0)
    }
}
