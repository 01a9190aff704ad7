//! `tcpguard.fleet.host/1`: a host, its versions, mode and state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::Mode;

use super::check;
use super::envelope::Envelope;
use super::error::DocumentError;

/// A host, as it reports itself at regular intervals.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Host {
    /// The sender.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Name of the host.
    pub hostname: String,
    /// Version of `tcpguard-fleet`.
    pub version: String,
    /// The agent; `null` while `tcpguard-fleet` does not reach it.
    pub agent: Option<Agent>,
    /// The host's part in the fleet.
    pub fleet: FleetCounts,
}

/// The agent of a host.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Agent {
    /// Version of the agent.
    pub version: String,
    /// Mode of operation.
    pub mode: Mode,
    /// State of protection in one word, as in `tcpguard.status/1`.
    pub state: String,
    /// Number of ports at which the host listens.
    pub ports: u32,
    /// Number of open incidents.
    pub incidents: u32,
    /// SYNs of the open incidents per second.
    pub syn_pps: f64,
    /// SYNs among them that are dropped per second.
    pub drop_pps: f64,
}

/// Numbers of a host's part in the fleet.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FleetCounts {
    /// Hints that the agent has now.
    pub hints: u32,
    /// Operators' rules that the agent has now.
    pub rules: u32,
    /// Documents that the host refused since its process started.
    pub refused: u64,
    /// Hosts that it ignores now, because it refused too many of their documents.
    pub muted: u32,
}

impl Host {
    /// Longest version, in bytes.
    pub const MAX_VERSION: usize = 32;
    /// Longest name of a host, in bytes: that of a domain name in text (RFC 1035, section 2.3.4).
    pub const MAX_HOSTNAME: usize = 253;

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check::text("hostname", &self.hostname, Self::MAX_HOSTNAME)?;
        check::text("version", &self.version, Self::MAX_VERSION)?;
        check::whole("refused", self.fleet.refused)?;
        self.agent.iter().try_for_each(Agent::check)
    }
}

impl Agent {
    fn check(&self) -> Result<(), DocumentError> {
        check::text("version", &self.version, Host::MAX_VERSION)?;
        check::word("state", &self.state)?;
        check::rate("syn_pps", self.syn_pps)?;
        check::rate("drop_pps", self.drop_pps)
    }
}
