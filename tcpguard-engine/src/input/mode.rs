//! The mode: the effect of a matching rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mode of operation: the effect of a rule that matches.
// The milder mode is the lesser.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No SYN is matched against rules.
    Off,
    /// Matching SYNs pass and are counted.
    #[default]
    Observe,
    /// Matching SYNs are dropped.
    Enforce,
}
