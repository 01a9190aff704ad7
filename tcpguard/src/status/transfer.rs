//! Rules on their way out of one guard and into another.

use serde::{Deserialize, Serialize};
use tcpguard_engine::{ImportReport, Ports};

use super::Rule;

/// The value of [`ExportedRules::schema`].
pub const RULES_SCHEMA: &str = "tcpguard.rules/1";

/// What `tcpguard rules export --json` prints and `tcpguard rules import` reads.
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
    /// Which sources.
    pub prefix: String,
    /// To which local ports; left out: to every port.
    #[serde(skip_serializing_if = "Ports::is_every")]
    #[cfg_attr(test, schemars(with = "Vec<u16>"))]
    pub ports: Ports,
    /// Seconds until it ends; at least 1.
    pub for_s: u64,
    /// Why it exists.
    pub reason: String,
    /// `incident` or `operator`.
    pub origin: String,
}

impl ExportedRule {
    /// From a rule of the status; `None` for one that drops a signature, which says something of one
    /// attack on one listener of this host.
    pub fn of(rule: &Rule) -> Option<Self> {
        (rule.kind == "source").then(|| Self {
            prefix: rule.matches.clone(),
            ports: rule.ports,
            for_s: rule.expires_in_s.max(1),
            reason: rule.reason.clone(),
            origin: rule.origin.clone(),
        })
    }
}

/// What `tcpguard rules import` did.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Imported {
    /// Rules that were not there before.
    pub added: u32,
    /// Rules over a prefix and ports that were blocked before. Their hits go on.
    pub kept: u32,
    /// Rules that are there no longer.
    pub removed: u32,
    /// Rules that are there now, of any origin.
    pub total: u32,
    /// Of those imported, how many end soon unless they are confirmed.
    #[serde(default)]
    pub on_trial: u32,
}

impl From<ImportReport> for Imported {
    fn from(report: ImportReport) -> Self {
        let ImportReport { added, kept, removed, total, on_trial } = report;
        Self { added, kept, removed, total, on_trial }
    }
}
