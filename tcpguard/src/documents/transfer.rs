//! Export of rules from one agent, and import into another.

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_engine::{Mitigation, Ports, RuleOrigin};

use super::Rule;

/// Output of `tcpguard rules export --json`, which `tcpguard rules import` reads.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct ExportedRules {
    /// The rules.
    pub rules: Vec<ExportedRule>,
}

/// A source rule as it is exported, and as one line of it may be imported.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct ExportedRule {
    /// Sources that the rule matches.
    pub prefix: String,
    /// Local ports to which the rule drops SYNs, ascending; left out: every port.
    #[serde(skip_serializing_if = "Ports::is_every")]
    #[schemars(with = "Option<Vec<u16>>")]
    pub ports: Ports,
    /// Seconds until the rule expires; at least 1.
    pub for_s: u64,
    /// Reason for the rule.
    pub reason: String,
    /// Origin of the rule: `incident`, `operator`, or the name of a rule of the fleet.
    #[schemars(with = "String")]
    pub origin: RuleOrigin,
}

impl ExportedRule {
    /// Converts a rule of the status, with its reason in words. Returns `None` for a rule on a signature, which applies to one attack on
    /// one listener of this host.
    pub fn of(rule: &Rule, reason: String) -> Option<Self> {
        (rule.kind == Mitigation::Source).then(|| Self {
            prefix: rule.matches.clone(),
            ports: rule.ports,
            for_s: rule.expires_in_s.max(1),
            reason,
            origin: rule.origin.clone(),
        })
    }
}
