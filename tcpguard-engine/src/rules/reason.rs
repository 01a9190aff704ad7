//! Reasons for the end of a rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::RuleId;
use crate::mitigation::{Harm, HeldBack};

/// Reason for which a rule is removed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RemovalReason {
    /// No SYN hits it any longer.
    NoHits,
    /// Its lifetime is over.
    Expired,
    /// No incident asks for it any longer.
    NotNeeded,
    /// Its incident is over.
    IncidentOver,
    /// The evidence no longer supports an attack.
    NoAttack,
    /// The evidence of this host alone is too little, and no hint of other hosts supports it any longer.
    Unsupported,
    /// The flood no longer comes from few sources.
    ManySources,
    /// The flood no longer comes from that source.
    SourceCeased,
    /// The source became exempt.
    Exempt {
        /// The exemption, as protected prefixes and the allowlist describe it.
        what: String,
    },
    /// The agent holds rules back.
    HeldBack {
        /// The cause.
        by: HeldBack,
    },
    /// Another rule replaces it.
    Replaced {
        /// The rule.
        by: RuleId,
    },
    /// No operator confirmed it in time.
    Unconfirmed,
    /// An operator removed it.
    Operator,
    /// An operator of the fleet removed it.
    Fleet,
    /// An operator forbids such rules at its listener.
    Forbidden,
    /// The rule is not among those that an operator imported.
    NotImported {
        /// User id of the operator.
        uid: u32,
    },
    /// The rule expired while there was no agent, or another rule stands in its place.
    NotAdopted,
    /// Fewer clients connect since it was installed.
    Harmful {
        /// The harm.
        harm: Harm,
    },
    /// Clients have the fingerprint that it matches.
    MatchesClients {
        /// SYNs that matched and passed because they were retransmitted; `None` where rules only count.
        accepted: Option<u64>,
        /// Handshakes that clients completed after that.
        completed: u64,
        /// SYNs that it hit.
        hits: u64,
    },
}
