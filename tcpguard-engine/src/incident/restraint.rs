//! Reasons that no rule is asked for.

use crate::evidence::IncidentClass;
use crate::input::RuleId;
use crate::mitigation::HeldBack;

/// Reason that no rule is asked for in an incident.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NoRule {
    /// Nothing is dropped in an incident of this class.
    Class {
        /// The class.
        class: IncidentClass,
    },
    /// The verdict calls for none.
    Verdict {
        /// What it lacks.
        text: String,
    },
    /// The agent holds rules back.
    HeldBack {
        /// The cause.
        by: HeldBack,
    },
    /// An operator removed it.
    Removed {
        /// Its number.
        rule: RuleId,
    },
}
