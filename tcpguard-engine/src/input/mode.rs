//! The mode: the effect of a matching rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Mode of operation: the effect of a rule that matches.
// The milder mode is the lesser.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// No SYN is matched against rules.
    Off,
    /// Matching SYNs pass and are counted.
    #[default]
    Observe,
    /// Matching SYNs are dropped.
    Enforce,
}

impl Mode {
    /// The name in JSON, in the journal and on the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
