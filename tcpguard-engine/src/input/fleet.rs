//! The input from a fleet of hosts: signatures of floods elsewhere, and rules of the fleet's operators.
//!
//! The process `tcpguard-fleet` sends these messages to the agent, and no others. It has checked authority, signatures
//! of operators and rates. The engine trusts none of that and has bounds of its own.

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ports::Ports;
use super::shared_signature::SharedSignature;

/// A message of the fleet process to the agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FleetMessage {
    /// Other hosts report a flood.
    Hint(Hint),
    /// An operator of the fleet made a rule. The message is repeated while the rule lasts.
    Rule(FleetRule),
    /// A rule of the fleet has been removed.
    RuleGone(FleetName),
}

/// Signature of a flood that other hosts report.
///
/// A hint is no evidence of this host. It never causes a drop by itself, and holds only while it is repeated.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hint {
    /// Local port of the attacked listeners.
    pub port: u16,
    /// The signature.
    pub signature: SharedSignature,
    /// Number of hosts that report it, at most one of each site where the fleet has several sites.
    pub reporters: u16,
    /// Seconds for which it holds unless it is repeated, at most 60. 0 ends it.
    pub ttl_s: u16,
}

/// Name of a rule of the fleet: the role of its operator, and a number that rises with each rule of the role.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct FleetName {
    /// Role with which the operator signed the rule.
    pub role: String,
    /// Serial number of the rule.
    pub serial: u64,
}

impl FleetName {
    /// The longest name of a role, in bytes.
    pub const LONGEST_ROLE: usize = 32;

    /// Returns whether it is well-formed: a role of lower-case letters, digits, `-` and `_`.
    pub fn is_valid(&self) -> bool {
        let fits = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
        };
        (1..=Self::LONGEST_ROLE).contains(&self.role.len()) && self.role.bytes().all(fits)
    }
}

/// Such as `fleet:ops/42`.
impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fleet:{}/{}", self.role, self.serial)
    }
}

/// A rule of an operator of the fleet, for each of its hosts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FleetRule {
    /// Its name.
    pub name: FleetName,
    /// Treatment of the sources.
    pub action: FleetAction,
    /// The sources.
    pub net: IpNet,
    /// Local ports to which their SYNs are dropped. An exemption is for every port.
    #[serde(default)]
    pub ports: Ports,
    /// Seconds from now until it ends, cut to the limits of operators' rules on this host.
    pub lifetime_s: u64,
    /// Reason, in the operator's words.
    pub reason: String,
}

impl FleetRule {
    /// The longest reason, in bytes.
    pub const LONGEST_REASON: usize = 256;

    /// Returns whether it is well-formed.
    pub fn is_valid(&self) -> bool {
        self.name.is_valid()
            && self.lifetime_s > 0
            && self.reason.len() <= Self::LONGEST_REASON
            && !self.reason.contains(char::is_control)
            && (self.action == FleetAction::Block || self.ports.is_every())
    }
}

/// Treatment of the sources of a rule of the fleet.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FleetAction {
    /// Their SYNs are dropped.
    Block,
    /// The sources are exempt from automatic rules.
    Allow,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> FleetRule {
        FleetRule {
            name: FleetName { role: "ops".to_owned(), serial: 42 },
            action: FleetAction::Block,
            net: "203.0.113.0/24".parse().expect("a prefix"),
            ports: Ports::new(&[443]).expect("a port"),
            lifetime_s: 3600,
            reason: "abuse report".to_owned(),
        }
    }

    #[test]
    fn a_rule_has_a_role_an_end_and_one_line_of_reason() {
        assert!(rule().is_valid());
        assert_eq!(rule().name.to_string(), "fleet:ops/42");
        let named = |role: &str| FleetName { role: role.to_owned(), serial: 1 };
        for bad in [
            FleetRule { name: named(""), ..rule() },
            FleetRule { name: named("ops/1"), ..rule() },
            FleetRule { name: named(&"a".repeat(33)), ..rule() },
            FleetRule { lifetime_s: 0, ..rule() },
            FleetRule { reason: "a\nb".to_owned(), ..rule() },
            FleetRule { reason: "a".repeat(257), ..rule() },
            FleetRule { action: FleetAction::Allow, ..rule() },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
