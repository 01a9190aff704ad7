//! The mitigations of a listener, as they are reported.

use super::reason::MitigationReason;
use crate::input::{Mitigation, Timestamp};

/// A mitigation of a listener's ladder.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct MitigationReport {
    /// The mitigation.
    pub mitigation: Mitigation,
    /// Its state.
    pub state: MitigationState,
    /// Time since which it is active.
    pub since: Option<Timestamp>,
    /// Time until which an operator's order counts, or it is not tried again.
    pub until: Option<Timestamp>,
    /// Reason for its state.
    pub why: MitigationReason,
}

/// State of a mitigation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MitigationState {
    /// It is taken.
    Active,
    /// It could not be taken, or did harm.
    Refused,
    /// An operator forbids it, or the configuration.
    Forbidden,
    /// An operator asked for it, and it is not taken yet.
    Waiting,
}
