//! What has happened, counted: for those who look now and then, such as a monitoring system.

use serde::{Deserialize, Serialize};

use super::{AttackKind, Severity};

/// What has happened since the agent started.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counts {
    /// Attacks and other incidents, by what they were told as; kinds that have not occurred are left
    /// out.
    pub attacks: Vec<AttackCount>,
    /// Configurations that were read again and applied.
    pub reloads_applied: u64,
    /// Configurations that were read again and refused.
    pub reloads_refused: u64,
}

/// Attacks of one kind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AttackCount {
    /// The kind.
    pub kind: AttackKind,
    /// How bad this kind is.
    pub severity: Severity,
    /// How many.
    pub count: u64,
}
