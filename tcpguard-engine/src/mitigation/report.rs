//! The mitigations of a listener, as they are reported.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reason::MitigationReason;
use crate::input::{Family, Mitigation, Timestamp, map_time};

/// Mitigation of a listener, and its state.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct MitigationReport<At = Timestamp> {
    /// The mitigation.
    pub mitigation: Mitigation,
    /// Family of the clients without the mitigation, which those of the other family have; `null` for both
    /// families.
    pub family: Option<Family>,
    /// Server address whose clients are without the mitigation, which those of the listener's other addresses have;
    /// `null` for all addresses.
    pub address: Option<IpAddr>,
    /// State of the mitigation.
    pub state: MitigationState,
    /// Time since which the mitigation is active; `null` while it is not.
    pub since: Option<At>,
    /// Time until which an operator's order counts, or else until which a refused mitigation is not retried;
    /// `null` where there is no such time.
    pub until: Option<At>,
    /// Reason for the state.
    pub why: MitigationReason,
}

map_time!(MitigationReport: since, until; mitigation, family, address, state, why);

/// State of a mitigation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MitigationState {
    /// The mitigation is active.
    Active,
    /// The mitigation could not be started, or did harm.
    Refused,
    /// An operator, or the configuration, forbids the mitigation.
    Forbidden,
    /// An operator ordered the mitigation, and it is not active yet.
    Waiting,
}
