//! Reports about the messages of a fleet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::response::RequestError;
use crate::input::{FleetName, SharedSignature, describe};

/// A hint of other hosts that holds, with its effect here: the signature of a flood.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct HintReport<Signature = SharedSignature> {
    /// Local port of the attacked listeners.
    pub port: u16,
    /// The signature without its TTL; in the status in p0f-like words.
    pub signature: Signature,
    /// Number of hosts that report it.
    pub reporters: u16,
    /// SYNs of this host with the signature since the hint has held, estimated from sampled flows.
    pub syns: u64,
    /// True if cookies are sent ahead of a flood at a listener of this port.
    pub cookies_ahead: bool,
}

impl HintReport {
    /// Returns the report with its signature in words.
    pub fn in_words(self) -> HintReport<String> {
        let Self { port, signature, reporters, syns, cookies_ahead } = self;
        let parsed = signature.parsed();
        let signature = parsed.map_or_else(String::new, |(mask, print)| describe(mask, &print));
        HintReport { port, signature, reporters, syns, cookies_ahead }
    }
}

/// Reason that a message of the fleet is refused.
#[derive(Clone, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "snake_case")]
pub enum FleetRefusal {
    /// The message has no sense: no such signature, port or role, or a text that is too long.
    Malformed,
    /// Hints that matter more take all slots.
    HintsFull,
    /// There are as many rules of the fleet as there can be.
    RulesFull {
        /// The number of these.
        limit: u32,
    },
    /// Rules of the fleet change too fast.
    TooFast,
    /// An operator of this host decided otherwise about these sources.
    Overruled,
    /// A rule of the fleet on the same sources has priority.
    Outranked {
        /// The other rule.
        by: FleetName,
    },
    /// The rule would do harm on this host.
    Harmful(RequestError),
}

impl FleetRefusal {
    /// The name under which refusals are counted.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}
