//! The mitigations and their names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumCount, IntoStaticStr, VariantArray};

/// A mitigation of a listener's ladder, the mildest first.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[derive(EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Mitigation {
    /// Out-of-state segments are looked for.
    OutOfState,
    /// SYNs from sources that are the attack are dropped. Rules do that.
    Source,
    /// SYNs with a signature of the attack are dropped. Rules do that.
    Signature,
    /// SYNs that no rule drops are answered with cookies.
    Cookies,
    /// SYNs from clients that are not validated are let through up to a rate.
    Budget,
}

impl Mitigation {
    /// Every mitigation, the mildest first.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.first_chunk().unwrap();

    /// The name in JSON, in the journal and on the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether rules do it, which have their own ends and conditions.
    pub const fn is_done_by_rules(self) -> bool {
        matches!(self, Self::Source | Self::Signature)
    }

    /// Returns whether it keeps SYNs from the stack, so that the queue says nothing about the attack.
    pub const fn keeps_syns_away(self) -> bool {
        !matches!(self, Self::OutOfState)
    }
}

/// An operator's order for a mitigation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Take it now.
    On,
    /// Do not take it.
    Off,
    /// Decide by the situation.
    Auto,
}
