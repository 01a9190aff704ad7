//! Roles of operators: the rules that each may make, as every host has it in its own configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_host::time::Clock;

use super::bounds::{MAX_RULE_TIME, MAX_SKEW};
use super::key::PublicKey;
use super::reason::Reason;
use crate::document::{Label, RuleBody, RuleKind, SignedRule};

/// A role of operators, and its limits at this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Role {
    /// Keys by which rules of the role are signed. Two are for the time in which a new one replaces an old one.
    pub keys: Vec<PublicKey>,
    /// True if the role may block sources.
    pub block: bool,
    /// True if the role may exempt sources from automatic rules.
    pub allow: bool,
    /// Shortest length of an IPv4 prefix.
    pub widest_v4: u8,
    /// Shortest length of an IPv6 prefix.
    pub widest_v6: u8,
    /// Longest time until the end of a rule; [`MAX_RULE_TIME`] at most.
    pub longest: Duration,
}

/// The roles that a host knows, by their names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roles(pub BTreeMap<Label, Role>);

impl Role {
    /// A role that may block and allow, with these keys and the default limits: prefixes as the agent takes them from
    /// an operator without force (/16, /32 for IPv6), and a day.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self {
            keys,
            block: true,
            allow: true,
            widest_v4: 16,
            widest_v6: 32,
            longest: Duration::from_secs(24 * 3600),
        }
    }

    /// Returns whether the role may make a rule of this kind. It may revoke all that it may make.
    pub const fn permits(&self, kind: RuleKind) -> bool {
        match kind {
            RuleKind::Block => self.block,
            RuleKind::Allow => self.allow,
            RuleKind::Revoke => self.block || self.allow,
        }
    }

    /// Returns the longest time until the end of a rule.
    pub fn longest(&self) -> Duration {
        self.longest.min(MAX_RULE_TIME)
    }
}

impl Roles {
    /// Checks a rule: its key, its signature, and the limits of its role. A rule that revokes another has no limits.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub fn check(&self, clock: Clock, signed: &SignedRule) -> Result<RuleBody, Reason> {
        let role = self.0.get(&signed.role).ok_or(Reason::UnknownRole)?;
        let key = role.keys.iter().find(|key| key.to_string() == signed.key);
        key.ok_or(Reason::UnknownKey)?.verify(signed)?;
        let rule = RuleBody::parse(&signed.body).map_err(|error| Reason::from(&error))?;
        if !role.permits(rule.kind) {
            return Err(Reason::NotPermitted);
        }
        if rule.kind == RuleKind::Revoke {
            return Ok(rule);
        }
        let widest = if rule.prefix.addr().is_ipv4() { role.widest_v4 } else { role.widest_v6 };
        if rule.prefix.prefix_len() < widest {
            return Err(Reason::TooWide);
        }
        match remaining(clock, &rule) {
            None => Err(Reason::Expired),
            Some(time) if time > role.longest() + MAX_SKEW => Err(Reason::EndsTooLate),
            Some(_) => Ok(rule),
        }
    }

    /// Time until the end of a rule, by the clock of this host, and never longer than its role permits. `None`: it
    /// has ended.
    pub fn remaining(&self, clock: Clock, role: &Label, rule: &RuleBody) -> Option<Duration> {
        let longest = self.0.get(role)?.longest();
        remaining(clock, rule).map(|time| time.min(longest))
    }
}

fn remaining(clock: Clock, rule: &RuleBody) -> Option<Duration> {
    let left = rule.not_after.0.as_millisecond().saturating_sub(clock.wall.as_millisecond());
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
}
