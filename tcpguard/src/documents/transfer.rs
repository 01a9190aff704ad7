//! Export of rules from one agent, and import into another.

use serde::{Deserialize, Serialize};
use tcpguard_engine::{ImportReport, Ports};

use super::Rule;

/// The value of [`ExportedRules::schema`].
pub const RULES_SCHEMA: &str = "tcpguard.rules/1";

/// Output of `tcpguard rules export --json`, which `tcpguard rules import` reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExportedRules {
    /// Name and version of this document: `tcpguard.rules/1`.
    pub schema: String,
    /// The rules.
    pub rules: Vec<ExportedRule>,
}

/// A source rule as it is exported, and as one line of it may be imported.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExportedRule {
    /// Sources that the rule matches.
    pub prefix: String,
    /// Local ports to which the rule drops SYNs, ascending; left out: every port.
    #[serde(skip_serializing_if = "Ports::is_every")]
    #[cfg_attr(test, schemars(with = "Vec<u16>"))]
    pub ports: Ports,
    /// Seconds until the rule expires; at least 1.
    pub for_s: u64,
    /// Reason for the rule.
    pub reason: String,
    /// Origin of the rule: `incident` or `operator`.
    pub origin: String,
}

impl ExportedRule {
    /// Converts a rule of the status, with its reason in words. Returns `None` for a rule on a signature, which applies to one attack on
    /// one listener of this host.
    pub fn of(rule: &Rule, reason: String) -> Option<Self> {
        (rule.kind == "source").then(|| Self {
            prefix: rule.matches.clone(),
            ports: rule.ports,
            for_s: rule.expires_in_s.max(1),
            reason,
            origin: rule.origin.clone(),
        })
    }
}

/// Changes that `tcpguard rules import` made, or would make.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Imported {
    /// Number of rules that were not there before.
    pub added: u32,
    /// Number of rules that replace one on the same prefix and ports. They keep its hits.
    pub kept: u32,
    /// Number of rules that were removed.
    pub removed: u32,
    /// Number of rules that are there now, of any origin.
    pub total: u32,
    /// Number of imported rules that are pending confirmation: they end soon without it.
    #[serde(default)]
    pub pending_confirmation: u32,
}

impl From<ImportReport> for Imported {
    fn from(report: ImportReport) -> Self {
        let ImportReport { added, kept, removed, total, pending_confirmation } = report;
        Self { added, kept, removed, total, pending_confirmation }
    }
}
