//! The operators' rules of this host.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{Ports, Timestamp};
use tcpguard_host::time::Clock;

use super::admission::Identity;
use super::bounds::{MAX_RULE_TIME, MAX_RULES, MAX_SKEW};
use super::reason::Reason;
use super::role::Roles;
use crate::document::{Label, RuleBody, RuleKey, RuleKind, SignedRule};

/// Most rules that are known, active or not.
const MAX_KNOWN: usize = 2 * MAX_RULES;

/// The operators' rules of this host.
///
/// A rule ends at its time, or by a later rule of its role for the same target. The bus cannot make one, and cannot
/// end one: a document that was deleted from the store is no revocation.
#[derive(Clone, Debug)]
pub struct OperatorRules {
    own: Identity,
    site: Option<Label>,
    roles: Roles,
    known: BTreeMap<RuleKey, Known>,
    /// Serial of each role below which nothing is accepted, because the serials of its targets were forgotten.
    floors: BTreeMap<Label, u64>,
    position: u64,
}

/// The last rule for a target.
#[derive(Clone, Debug)]
struct Known {
    serial: u64,
    /// Time of day at which the serial is forgotten, in ms since 1970.
    forget_ms: i64,
    /// True if the rule with the serial is over: it was revoked, or its time has passed. Otherwise it may be active
    /// again, after a start with a wrong clock or when its role is back.
    is_over: bool,
    active: Option<Active>,
}

#[derive(Clone, Debug)]
struct Active {
    signed: SignedRule,
    rule: RuleBody,
    /// End of the rule, even if the clock is set back meanwhile.
    ends: Timestamp,
}

/// Name of a rule in the agent, in status, explanations and the journal: `fleet:ops/42`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RuleName {
    /// Role of the operator.
    pub role: Label,
    /// Number of the rule in the role.
    pub serial: u64,
}

/// A rule that the agent should have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActiveRule {
    /// Its name.
    pub name: RuleName,
    /// Role and target.
    pub key: RuleKey,
    /// True if sources are exempt from automatic rules, false if they are blocked.
    pub allows: bool,
    /// Sources for which it is.
    pub prefix: IpNet,
    /// Local ports for which it is.
    pub ports: Ports,
    /// Time until its end.
    pub remaining: Duration,
    /// Reason, in the operator's words.
    pub reason: String,
    /// Name of the operator.
    pub who: String,
}

/// Effect of a document on the rules that the agent should have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// There is none: the rule is known, or for other hosts.
    None,
    /// The agent should have this rule.
    Set {
        /// The rule.
        rule: ActiveRule,
        /// The rule that it replaces.
        replaced: Option<RuleName>,
    },
    /// The agent should no longer have this rule.
    Ended(RuleName),
}

/// The rules as a file keeps them over a restart.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SavedRules {
    /// Position in the store up to which documents were read.
    pub position: u64,
    /// The active rules. Their signatures are checked again.
    pub rules: Vec<SignedRule>,
    /// Serials of all targets that are known.
    pub serials: Vec<SavedSerial>,
    /// Serial of each role below which nothing is accepted.
    pub floors: BTreeMap<Label, u64>,
}

/// The serial of the last rule for a target.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SavedSerial {
    /// Role and target.
    pub key: RuleKey,
    /// The serial.
    pub serial: u64,
    /// Time of day at which it is forgotten, in ms since 1970.
    pub forget_ms: i64,
    /// True if the rule with the serial was revoked, or its time has passed.
    pub is_over: bool,
}

impl fmt::Display for RuleName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "fleet:{}/{}", self.role, self.serial)
    }
}

impl SavedRules {
    /// Name and version of the document.
    pub const SCHEMA: &str = "tcpguard.fleet.rules/1";
}

impl OperatorRules {
    /// No rules yet, for this host at this site, by these roles.
    pub fn new(own: Identity, site: Option<Label>, roles: Roles) -> Self {
        Self { own, site, roles, known: BTreeMap::new(), floors: BTreeMap::new(), position: 0 }
    }

    /// Takes a rule that the bus delivered under this key.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub fn accept(
        &mut self,
        clock: Clock,
        key: &RuleKey,
        signed: &SignedRule,
    ) -> Result<Change, Reason> {
        let active = self.known.get(key).and_then(|known| known.active.as_ref());
        if active.is_some_and(|active| active.signed == *signed) {
            return Ok(Change::None);
        }
        let rule = match self.roles.check(clock, signed) {
            // The store keeps them for longer than they are valid.
            Err(Reason::Expired) => return Ok(Change::None),
            checked => checked?,
        };
        if key.role != signed.role || key.target != rule.target() {
            return Err(Reason::Mismatch);
        }
        if !rule.hosts.matches(&self.own.host, self.site.as_ref()) {
            return Ok(Change::None);
        }
        // A stolen key could otherwise use the highest serial, which the next key of its role could not exceed.
        let latest = i128::from(clock.wall.as_millisecond()) + MAX_SKEW.as_millis() as i128;
        if i128::from(rule.serial) > latest {
            return Err(Reason::ClockSkew);
        }
        let floor = self.floors.get(&key.role).copied().unwrap_or_default();
        match self.known.get(key) {
            Some(known) if rule.serial == known.serial && active.is_none() && known.is_over => {
                // The store is read again and again, and has it for longer.
                return Ok(Change::None);
            }
            Some(known) if rule.serial == known.serial && active.is_none() => {}
            Some(known) if rule.serial <= known.serial => return Err(Reason::Superseded),
            None if rule.serial <= floor => return Err(Reason::Superseded),
            _ => {}
        }
        if rule.kind == RuleKind::Revoke {
            let ended = self.remember(clock, key.clone(), rule.serial, None);
            return Ok(ended.map_or(Change::None, |ended| Change::Ended(ended.name())));
        }
        if active.is_none() && self.active().count() >= MAX_RULES {
            return Err(Reason::RulesFull);
        }
        let remaining = self.roles.remaining(clock, &key.role, &rule).ok_or(Reason::Expired)?;
        let active = Active { signed: signed.clone(), rule, ends: clock.now + remaining };
        let rule = active.given(key, clock.now);
        let replaced = self.remember(clock, key.clone(), rule.name.serial, Some(active));
        Ok(Change::Set { rule, replaced: replaced.map(|replaced| replaced.name()) })
    }

    /// Ends rules whose time is over, and returns their names.
    pub fn expire(&mut self, clock: Clock) -> Vec<RuleName> {
        let wall = clock.wall.as_millisecond();
        // Time since boot is never wrong. A time of day may be, and then the rule returns.
        let over = self.end(|active| clock.now >= active.ends, true);
        let ended = self.end(|active| wall >= active.rule.not_after.0.as_millisecond(), false);
        self.known.retain(|_, known| known.active.is_some() || wall < known.forget_ms);
        [over, ended].concat()
    }

    /// Replaces the roles, and returns the names of rules that no role permits any longer: a key that was removed takes
    /// its rules along.
    pub fn set_roles(&mut self, clock: Clock, roles: Roles) -> Vec<RuleName> {
        self.roles = roles;
        let roles = self.roles.clone();
        self.end(|active| roles.check(clock, &active.signed).is_err(), false)
    }

    /// The rules that the agent should have now.
    pub fn rules(&self, now: Timestamp) -> impl Iterator<Item = ActiveRule> {
        self.active().map(move |(key, active)| active.given(key, now))
    }

    /// Roles and serials of the rules that the agent should have.
    pub fn names(&self) -> impl Iterator<Item = (&Label, u64)> {
        self.active().map(|(key, active)| (&key.role, active.rule.serial))
    }

    /// The rules that the agent should have, from the one behind `after` on.
    pub fn rules_after(
        &self,
        now: Timestamp,
        after: Option<&RuleKey>,
    ) -> impl Iterator<Item = ActiveRule> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.known.range::<RuleKey, _>((start, Bound::Unbounded));
        behind.filter_map(move |(key, known)| Some(known.active.as_ref()?.given(key, now)))
    }

    /// Number of rules that the agent should have.
    pub fn len(&self) -> usize {
        self.active().count()
    }

    /// Returns whether there is no rule that the agent should have.
    pub fn is_empty(&self) -> bool {
        self.active().next().is_none()
    }

    /// Position in the store up to which documents were read.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Remembers that documents were read up to this position. A store that was made anew begins at 0 again.
    pub const fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// The rules as a file keeps them.
    pub fn saved(&self) -> SavedRules {
        let serials = self.known.iter().map(|(key, known)| SavedSerial {
            key: key.clone(),
            serial: known.serial,
            forget_ms: known.forget_ms,
            is_over: known.is_over,
        });
        SavedRules {
            position: self.position,
            rules: self.active().map(|(_, active)| active.signed.clone()).collect(),
            serials: serials.collect(),
            floors: self.floors.clone(),
        }
    }

    /// Takes the rules of a file. Those that are not valid now are left out. The time of a rule counts from its first
    /// reception only as far as its end shows, since the time since boot is not comparable.
    pub fn restore(&mut self, clock: Clock, saved: SavedRules) {
        let SavedRules { position, rules, serials, floors } = saved;
        self.position = position;
        for signed in rules.into_iter().take(MAX_RULES) {
            let Ok(rule) = RuleBody::parse(&signed.body) else { continue };
            let key = RuleKey { role: signed.role.clone(), target: rule.target() };
            // A refused one is not used, which is all that follows.
            let _ = self.accept(clock, &key, &signed);
        }
        for saved in serials.into_iter().take(MAX_KNOWN) {
            let SavedSerial { key, serial, forget_ms, is_over } = saved;
            let known = Known { serial, forget_ms, is_over, active: None };
            let known = self.known.entry(key).or_insert(known);
            known.serial = known.serial.max(serial);
            known.forget_ms = known.forget_ms.max(forget_ms);
        }
        // Last: the floor is no limit for targets that are known.
        self.floors = floors;
    }

    fn active(&self) -> impl Iterator<Item = (&RuleKey, &Active)> {
        self.known.iter().filter_map(|(key, known)| Some((key, known.active.as_ref()?)))
    }

    /// Ends the rules for which this holds, for good or until they are valid again.
    fn end(&mut self, is_ended: impl Fn(&Active) -> bool, for_good: bool) -> Vec<RuleName> {
        let ended = self.known.values_mut().filter_map(|known| {
            let active = known.active.take_if(|active| is_ended(active))?;
            known.is_over = for_good;
            Some(active.name())
        });
        ended.collect()
    }

    /// Remembers the last rule for a target, and returns the rule that was active for it.
    ///
    /// A serial is remembered for as long as an earlier rule for the target could be valid. If there are too many,
    /// the lowest is forgotten, and becomes the floor of its role.
    fn remember(
        &mut self,
        clock: Clock,
        key: RuleKey,
        serial: u64,
        active: Option<Active>,
    ) -> Option<Active> {
        let memory = i64::try_from(MAX_RULE_TIME.as_millis()).unwrap_or(i64::MAX);
        let forget_ms = clock.wall.as_millisecond().saturating_add(memory);
        let is_over = active.is_none();
        let before = self.known.insert(key, Known { serial, forget_ms, is_over, active });
        if self.known.len() > MAX_KNOWN {
            let inactive = self.known.iter().filter(|(_, known)| known.active.is_none());
            let oldest = inactive.min_by_key(|(_, known)| known.serial).map(|(key, _)| key.clone());
            if let Some(key) = oldest
                && let Some(known) = self.known.remove(&key)
            {
                let floor = self.floors.entry(key.role).or_default();
                *floor = known.serial.max(*floor);
            }
        }
        before.and_then(|known| known.active)
    }
}

impl Active {
    fn name(&self) -> RuleName {
        RuleName { role: self.signed.role.clone(), serial: self.rule.serial }
    }

    fn given(&self, key: &RuleKey, now: Timestamp) -> ActiveRule {
        let RuleBody { kind, prefix, ports, ref reason, ref who, .. } = self.rule;
        ActiveRule {
            name: self.name(),
            key: key.clone(),
            allows: kind == RuleKind::Allow,
            prefix,
            ports,
            remaining: self.ends.since(now),
            reason: reason.clone(),
            who: who.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::{AT, host, time};
    use crate::document::{HostSelector, Id};
    use crate::trust::{OperatorKey, Role};

    fn rule(serial: u64) -> RuleBody {
        RuleBody {
            kind: RuleKind::Block,
            prefix: "203.0.113.0/24".parse().expect("a prefix"),
            ports: Ports::EVERY,
            hosts: HostSelector::default(),
            not_after: time("2026-11-20T15:00:00Z"),
            reason: String::new(),
            who: "ada".to_owned(),
            serial,
        }
    }

    fn key(number: u64) -> RuleKey {
        let target = Id::of("test", &number.to_be_bytes());
        RuleKey { role: "ops".parse().expect("a role"), target }
    }

    #[test]
    fn memory_is_bounded_and_a_forgotten_serial_stays_refused() {
        let operator = OperatorKey::from_seed(&[7; 32]);
        let role: Label = "ops".parse().expect("a role");
        let roles = Roles([(role.clone(), Role::new(vec![operator.public()]))].into());
        let own = Identity { host: host(1), boot: 1 };
        let mut rules = OperatorRules::new(own, None, roles);
        let clock = Clock { now: Timestamp::from_millis(1000), wall: time(AT).0 };
        for serial in 1..=3 * MAX_RULES as u64 {
            rules.remember(clock, key(serial), serial, None);
        }
        assert_eq!(rules.known.len(), MAX_KNOWN);
        assert_eq!(rules.floors.get(&role), Some(&(MAX_RULES as u64)));

        let accept = |rules: &mut OperatorRules, serial| -> Result<bool, Reason> {
            let rule = rule(serial);
            let signed = operator.sign(role.clone(), &rule).expect("signed");
            let key = RuleKey { role: role.clone(), target: rule.target() };
            let change = rules.accept(clock, &key, &signed)?;
            Ok(matches!(change, Change::Set { .. }))
        };
        assert_eq!(accept(&mut rules, MAX_RULES as u64 - 1), Err(Reason::Superseded));
        let saved = rules.saved();
        assert_eq!(accept(&mut rules, MAX_RULES as u64 + 1), Ok(true));

        // A table full of active rules takes no other.
        let signed = operator.sign(role.clone(), &rule(1)).expect("signed");
        let ends = clock.now + MAX_RULE_TIME;
        for number in 0..MAX_RULES as u64 {
            let active = Active { signed: signed.clone(), rule: rule(1), ends };
            rules.remember(clock, key(number), 9_999, Some(active));
        }
        assert_eq!(rules.len(), MAX_RULES + 1);
        let other =
            RuleBody { prefix: "198.51.100.0/24".parse().expect("a prefix"), ..rule(20_000) };
        let (target, signed) =
            (other.target(), operator.sign(role.clone(), &other).expect("signed"));
        let full = rules.accept(clock, &RuleKey { role: role.clone(), target }, &signed);
        assert_eq!(full, Err(Reason::RulesFull));
        assert_eq!(rules.known.len(), MAX_KNOWN);

        let own = Identity { host: host(1), boot: 2 };
        let mut restored = OperatorRules::new(own, None, rules.roles.clone());
        restored.restore(clock, saved);
        assert_eq!(restored.known.len(), MAX_KNOWN);
        assert_eq!(accept(&mut restored, MAX_RULES as u64 - 1), Err(Reason::Superseded));
    }
}
