//! `tcpguard.fleet.rule/1`: an operator's rule, signed.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::Ports;
use tcpguard_host::time::Time;

use super::MAX_BYTES;
use super::check;
use super::error::DocumentError;
use super::id::Id;
use super::names::Label;
use super::selector::HostSelector;
use super::string_form::string_form;

/// An operator's rule with its signature. The signature is over the text of `body`, so that no two programs need to
/// write the same JSON.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SignedRule {
    /// Role of the operator.
    pub role: Label,
    /// Public key of the signer (Ed25519, RFC 8032), in 64 hexadecimal digits.
    pub key: String,
    /// The rule: a [`RuleBody`] as JSON on one line.
    pub body: String,
    /// The signature, in 128 hexadecimal digits.
    pub sig: String,
}

/// An operator's rule.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleBody {
    /// Its effect.
    pub kind: RuleKind,
    /// Sources for which it is.
    #[schemars(with = "String")]
    pub prefix: IpNet,
    /// Local ports for which it is, at most 4; empty for every port.
    #[serde(default)]
    #[schemars(with = "Vec<u16>")]
    pub ports: Ports,
    /// Hosts for which it is.
    pub hosts: HostSelector,
    /// Time of its end.
    pub not_after: Time,
    /// Reason, in the operator's words.
    pub reason: String,
    /// Name of the operator, as the signer reports it.
    pub who: String,
    /// Number of the rule, rising over all rules of the role: the time of its signature in ms since 1970. A host refuses
    /// one that is more than 300 s ahead of its clock.
    pub serial: u64,
}

/// Effect of an operator's rule.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// SYNs from the sources are dropped.
    Block,
    /// No automatic rule drops SYNs from the sources.
    Allow,
    /// An earlier rule of the role for the same sources, ports and hosts ends.
    Revoke,
}

/// Name of a rule in the durable store: role and target. A later rule of the role for the same target replaces it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RuleKey {
    /// Role of the operator.
    pub role: Label,
    /// The target: a hash of prefix, ports and hosts.
    pub target: Id,
}

/// Reason that a text is not a [`RuleKey`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the key of a rule: ROLE.ID")]
pub struct RuleKeyError;

impl SignedRule {
    pub(super) fn check(&self) -> Result<(), DocumentError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        for (field, text, digits) in [("key", &self.key, 64), ("sig", &self.sig, 128)] {
            if text.len() != digits || !text.bytes().all(is_digit) {
                return check::wrong(field, format!("not {digits} lower-case hexadecimal digits"));
            }
        }
        // Such a character is an escape when the document is sent again, which could make it too long.
        check::text("body", &self.body, MAX_BYTES)
    }
}

string_form!(RuleKey, "^[a-z0-9-]{1,32}[.][0-9a-f]{16}$");

impl RuleBody {
    /// Longest reason, in bytes: that which the agent takes.
    pub const MAX_REASON: usize = 256;
    /// Longest name of the operator, in bytes.
    pub const MAX_WHO: usize = 64;

    /// Parses the body of a signed rule.
    ///
    /// # Errors
    /// When it is not JSON of this type, or a field has a value that makes no sense.
    pub fn parse(body: &str) -> Result<Self, DocumentError> {
        let body: Self = serde_json::from_str(body)
            .map_err(|error| DocumentError::Malformed(format!("body: {error}")))?;
        body.check()?;
        Ok(body)
    }

    /// The text that is signed.
    ///
    /// # Errors
    /// When a field has a value that makes no sense.
    pub fn to_json(&self) -> Result<String, DocumentError> {
        self.check()?;
        serde_json::to_string(self).map_err(|error| DocumentError::Malformed(error.to_string()))
    }

    /// Name of the target: equal for rules about the same prefix, ports and hosts.
    pub fn target(&self) -> Id {
        let Self { prefix, ports, hosts, .. } = self;
        Id::of("rule", format!("{}|{:?}|{hosts}", prefix.trunc(), ports.certain()).as_bytes())
    }

    fn check(&self) -> Result<(), DocumentError> {
        check::prefix("prefix", self.prefix)?;
        if self.kind == RuleKind::Allow && !self.ports.is_every() {
            return check::wrong("ports", "a source is allowed at every port or at none");
        }
        check::text("reason", &self.reason, Self::MAX_REASON)?;
        check::text("who", &self.who, Self::MAX_WHO)?;
        check::within("serial", self.serial, 1..=check::MAX_WHOLE)
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.role, self.target)
    }
}

impl FromStr for RuleKey {
    type Err = RuleKeyError;

    fn from_str(text: &str) -> Result<Self, RuleKeyError> {
        let (role, target) = text.split_once('.').ok_or(RuleKeyError)?;
        let role = role.parse().map_err(|_| RuleKeyError)?;
        let target = target.parse().map_err(|_| RuleKeyError)?;
        Ok(Self { role, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"kind":"block","prefix":"203.0.113.0/24","ports":[443],"hosts":"site=fra","not_after":"2026-11-20T15:00:00Z","reason":"abuse","who":"ada","serial":42}"#;

    fn changed(from: &str, to: &str) -> Result<RuleBody, DocumentError> {
        let body = BODY.replace(from, to);
        assert_ne!(body, BODY, "{from}");
        RuleBody::parse(&body)
    }

    #[test]
    fn a_later_rule_for_the_same_target_has_the_same_key() {
        let rule = RuleBody::parse(BODY).expect("a rule");
        assert_eq!(rule.target(), changed("block", "revoke").expect("a rule").target());
        assert_eq!(rule.target(), changed("42", "43").expect("a rule").target());
        for (from, to) in [("/24", "/25"), ("[443]", "[80]"), ("site=fra", "all")] {
            assert_ne!(rule.target(), changed(from, to).expect("a rule").target(), "{to}");
        }
        let key = RuleKey { role: "ops".parse().expect("a role"), target: rule.target() };
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["ops", "ops.", "ops.x.y", ".0123456789abcdef"] {
            assert_eq!(text.parse::<RuleKey>(), Err(RuleKeyError), "{text}");
        }
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_field() {
        for (from, to, field) in [
            ("203.0.113.0/24", "203.0.113.1/24", "prefix"),
            ("block", "allow", "ports"),
            ("abuse", "\\u001b[2J", "reason"),
            ("42", "0", "serial"),
            ("[443]", "[0]", "body: 0 is not a port"),
            ("block", "drop", "body: unknown variant `drop`"),
            ("\"reason\":\"abuse\",", "", "body: missing field `reason`"),
        ] {
            let error = changed(from, to).expect_err(to).to_string();
            assert!(error.contains(field), "{error}");
        }
        let rule = RuleBody::parse(BODY).expect("a rule");
        assert_eq!(RuleBody::parse(&rule.to_json().expect("JSON")), Ok(rule));
    }
}
