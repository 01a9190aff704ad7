//! `tcpguard.fleet.incident/1`: an incident of one host.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{IncidentClass, Mitigation};
use tcpguard_host::time::Time;

use super::check;
use super::envelope::Envelope;
use super::error::DocumentError;
use super::id::Id;

/// An incident of one host.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Incident {
    /// The sender.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Its incident.
    #[serde(flatten)]
    pub facts: IncidentFacts,
}

/// An incident as its host sees it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IncidentFacts {
    /// Number of the incident at its host.
    pub number: u64,
    /// Class of the incident.
    pub class: IncidentClass,
    /// Addresses or networks that are attacked, at most 8; empty where the host does not know them.
    #[schemars(with = "Vec<String>")]
    pub victims: Vec<IpNet>,
    /// Ports that are attacked, at most 8.
    pub ports: Vec<u16>,
    /// Number of listeners that it concerns.
    pub listeners: u32,
    /// Time of its start, by the clock of its host.
    pub since: Time,
    /// Time of its end; left out while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// SYNs per second over the last second.
    pub syn_pps: f64,
    /// Highest rate over one second.
    pub peak_syn_pps: f64,
    /// Share of its SYNs that were dropped, 0 to 1.
    pub dropped_share: f64,
    /// Completed handshakes as a share of the attempted ones, 0 to 1.
    pub completion: f64,
    /// Distinct sources, estimated.
    pub sources: u64,
    /// Names of its signatures, at most 4, the most frequent first.
    pub signatures: Vec<Id>,
    /// Mitigations that are active for it.
    pub mitigations: Vec<Mitigation>,
}

impl IncidentFacts {
    /// Most victims of one document, and most ports.
    pub const MAX_TARGETS: usize = 8;
    /// Most signatures of one document.
    pub const MAX_SIGNATURES: usize = 4;

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check::whole("number", self.number)?;
        check::list("victims", &self.victims, Self::MAX_TARGETS)?;
        self.victims.iter().try_for_each(|victim| check::prefix("victims", *victim))?;
        check::list("ports", &self.ports, Self::MAX_TARGETS)?;
        check::rate("syn_pps", self.syn_pps)?;
        check::rate("peak_syn_pps", self.peak_syn_pps)?;
        check::share("dropped_share", self.dropped_share)?;
        check::share("completion", self.completion)?;
        check::whole("sources", self.sources)?;
        check::list("signatures", &self.signatures, Self::MAX_SIGNATURES)?;
        check::list("mitigations", &self.mitigations, Mitigation::ALL.len())
    }
}
