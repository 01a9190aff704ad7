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

impl Mode {
    /// Command that an operator is advised to use so that rules drop: the mode reverts by itself, in case the
    /// operator is locked out.
    pub const TRY_ENFORCE: &str = "tcpguard mode enforce --rollback-after 60s";
}
