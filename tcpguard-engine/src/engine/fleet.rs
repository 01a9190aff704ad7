//! Rules of a fleet's operators. They rank above automatic rules, and below the protected prefixes of this host and the
//! word of its own operators.

use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use super::rule_book::ALERTED_SINGLY;
use crate::incident::{Event, NamedRule, RuleTerms, Target};
use crate::input::{
    ClientsWithin, FleetAction, FleetMessage, FleetName, FleetRule, Matcher, Origin, Rule, RuleId,
    RuleReason, Timestamp,
};
use crate::output::{FleetRefusal, RequestError};
use crate::rules::{AllowReport, RemovalReason, touch};
use crate::settings::Limits;

/// A repeated rule whose end differs by less is the same: its message took that long, or its sender rounds.
const SLACK: Duration = Duration::from_secs(2);

impl Engine {
    /// Carries out a message of the fleet process. `clients`: the validated clients within the sources of a rule.
    ///
    /// # Errors
    /// When it has no sense, would do harm on this host or exceeds the bounds of a fleet; see [`FleetRefusal`].
    pub fn handle_fleet(
        &mut self,
        now: Timestamp,
        message: FleetMessage,
        clients: ClientsWithin,
    ) -> Result<(), FleetRefusal> {
        match message {
            FleetMessage::Hint(hint) => self.hinted.take(now, &hint),
            FleetMessage::Rule(rule) => self.take_fleet_rule(now, rule, clients),
            FleetMessage::RuleGone(name) => self.end_fleet_rule(now, &name),
        }
    }

    /// Returns whether a rule depends on the clients within its sources. Those of a rule that is repeated, or is
    /// refused anyway, need not be counted.
    pub fn asks_for_clients(&self, now: Timestamp, rule: &FleetRule) -> bool {
        self.rules.asks_for_clients(now, rule)
    }

    /// Refuses the rule with this name until `until`, because an operator of this host removed it.
    pub fn overrule(&mut self, now: Timestamp, name: FleetName, until: Timestamp) {
        self.rules.fleet.overrule(now, name, until);
    }

    /// The rules of the fleet that operators of this host removed, each with the time until which it is refused. They
    /// are for [`Engine::overrule`] of a later run.
    pub fn overruled(&self) -> impl Iterator<Item = (&FleetName, Timestamp)> {
        self.rules.fleet.overruled()
    }

    /// Returns the number of rules of the fleet, and of exemptions by it.
    pub fn of_fleet(&self) -> (u32, u32) {
        let rules = self.rules.table.of_fleet().count();
        let allowed = self.rules.exempt.allowed().filter(|entry| entry.fleet.is_some()).count();
        (rules as u32, allowed as u32)
    }

    /// Returns the names of the rules of the fleet, and of the exemptions by it.
    pub fn names_of_fleet(&self) -> impl Iterator<Item = &FleetName> {
        let allowed = self.rules.exempt.allowed().filter_map(|entry| entry.fleet.as_ref());
        self.rules.table.of_fleet().map(|(_, name)| name).chain(allowed)
    }

    /// Takes over an exemption of an earlier run. Returns false where the allowlist has no room for it.
    pub fn adopt_exemption(&mut self, now: Timestamp, entry: AllowReport) -> bool {
        let has_room = entry.expires <= now || self.rules.exempt.allow(entry);
        self.rules.hand_out_allowed(&mut self.outbox);
        has_room
    }

    fn take_fleet_rule(
        &mut self,
        now: Timestamp,
        rule: FleetRule,
        clients: ClientsWithin,
    ) -> Result<(), FleetRefusal> {
        let net = self.rules.check_fleet_rule(now, &rule)?;
        match rule.action {
            FleetAction::Block => self.block_for_fleet(now, net, rule, clients),
            FleetAction::Allow => self.allow_for_fleet(now, net, rule),
        }
    }

    fn block_for_fleet(
        &mut self,
        now: Timestamp,
        net: IpNet,
        rule: FleetRule,
        clients: ClientsWithin,
    ) -> Result<(), FleetRefusal> {
        let matcher = Matcher::Source(net, rule.ports);
        let lifetime = Duration::from_secs(rule.lifetime_s).min(Limits::MAX_MANUAL_RULE);
        let expires = now + lifetime;
        let known = self.rules.table.find(&matcher);
        if let Some(known) = known.filter(|entry| entry.fleet() == Some(&rule.name)) {
            let (id, before) = (known.rule.id, known.rule.expires);
            if differ(before, expires) {
                self.rules.renew(id, expires, &mut self.outbox);
            }
            return Ok(());
        }
        let same = known.map(|entry| entry.rule.id);
        if clients.validated > 0 {
            return Err(FleetRefusal::Harmful(RequestError::Clients { net, clients }));
        }
        let rivals: Vec<(RuleId, Matcher, FleetName)> = self
            .rules
            .table
            .of_fleet()
            .filter(|(entry, _)| entry.rule.matcher.prefix() == Some(net))
            .map(|(entry, name)| (entry.rule.id, entry.rule.matcher, name.clone()))
            .collect();
        if let Some((.., by)) = rivals.iter().find(|(.., rival)| !replaces(&rule.name, rival)) {
            return Err(FleetRefusal::Outranked { by: by.clone() });
        }
        let freed: usize = rivals.iter().map(|(_, matcher, _)| matcher.entries()).sum();
        let limit = Limits::FLEET_RULES.min(self.rules.table.room() / 4);
        let places = self.rules.table.places_of_fleet() - freed + matcher.entries();
        if places > limit as usize {
            return Err(FleetRefusal::RulesFull { limit });
        }
        if !self.rules.fleet.pay(now) {
            return Err(FleetRefusal::TooFast);
        }
        let made = Rule {
            // It gets its number with its slot.
            id: RuleId(0),
            matcher,
            origin: Origin::Fleet(rule.name),
            forced: false,
            reason: RuleReason::Given { text: rule.reason },
            created: now,
            expires,
            confirmation: None,
        };
        let old: Vec<RuleId> = rivals.iter().map(|(rival, ..)| *rival).collect();
        let replaces = old.iter().copied().find(|rival| Some(*rival) != same);
        let terms = RuleTerms { lifetime_s: lifetime.as_secs(), confirm_s: None, replaces };
        let full = FleetRefusal::RulesFull { limit: self.rules.table.room() };
        self.install_given(now, made, terms, &old).map(|_| ()).ok_or(full)
    }

    fn allow_for_fleet(
        &mut self,
        now: Timestamp,
        net: IpNet,
        rule: FleetRule,
    ) -> Result<(), FleetRefusal> {
        let lifetime = Duration::from_secs(rule.lifetime_s).min(Limits::MAX_ALLOW);
        let expires = now + lifetime;
        let known = self.rules.exempt.allowed_at(&net).cloned();
        match known.as_ref().map(|entry| entry.fleet.as_ref()) {
            Some(None) => return Err(FleetRefusal::Overruled),
            Some(Some(name)) if *name == rule.name => {
                if let Some(entry) = known.filter(|entry| differ(entry.expires, expires)) {
                    self.rules.exempt.allow(AllowReport { expires, ..entry });
                    self.rules.hand_out_allowed(&mut self.outbox);
                }
                return Ok(());
            }
            Some(Some(by)) if !replaces(&rule.name, by) => {
                return Err(FleetRefusal::Outranked { by: by.clone() });
            }
            Some(Some(_)) | None => {}
        }
        let is_over = |prefix: Option<IpNet>| prefix.is_some_and(|prefix| touch(&prefix, &net));
        let is_blocked = self
            .rules
            .table
            .iter()
            .any(|entry| entry.is_operators() && is_over(entry.rule.matcher.prefix()));
        if is_blocked {
            return Err(FleetRefusal::Overruled);
        }
        let of_fleet = self.rules.exempt.allowed().filter(|entry| entry.fleet.is_some()).count();
        if known.is_none() && of_fleet >= Limits::FLEET_ALLOWED {
            return Err(FleetRefusal::RulesFull { limit: Limits::FLEET_ALLOWED as u32 });
        }
        if !self.rules.fleet.pay(now) {
            return Err(FleetRefusal::TooFast);
        }
        let FleetRule { name, reason, .. } = rule;
        let entry = AllowReport { net, reason, uid: 0, fleet: Some(name), created: now, expires };
        match self.exempt(now, entry) {
            true => Ok(()),
            false => Err(FleetRefusal::RulesFull { limit: Limits::ALLOWED }),
        }
    }

    /// Ends a rule or an exemption that the fleet no longer has. It may have ended already.
    fn end_fleet_rule(&mut self, now: Timestamp, name: &FleetName) -> Result<(), FleetRefusal> {
        if !name.is_valid() {
            return Err(FleetRefusal::Malformed);
        }
        let of_fleet = self.rules.table.of_fleet().filter(|(_, other)| *other == name);
        let ended: Vec<NamedRule> = of_fleet.map(|(entry, _)| named(&entry.rule)).collect();
        self.remove_of_fleet(now, ended, &RemovalReason::Fleet);
        let revoked = self.rules.exempt.revoke(name);
        self.rules.no_longer_allowed(&revoked, None, &mut self.outbox);
        Ok(())
    }

    /// Removes the rules of the fleet that touch one of these prefixes, which have become exempt.
    pub(super) fn release_fleet(&mut self, now: Timestamp, nets: &[IpNet]) {
        let of_fleet = self.rules.table.of_fleet().filter_map(|(entry, _)| {
            let prefix = entry.rule.matcher.prefix()?;
            nets.iter().find(|net| touch(net, &prefix))?;
            let (_, what) = self.rules.exempt.touched_by(&prefix)?;
            Some((named(&entry.rule), what))
        });
        let (touching, reasons): (Vec<NamedRule>, Vec<String>) = of_fleet.unzip();
        if let Some(what) = reasons.into_iter().next() {
            self.remove_of_fleet(now, touching, &RemovalReason::Exempt { what });
        }
    }

    fn remove_of_fleet(&mut self, now: Timestamp, rules: Vec<NamedRule>, why: &RemovalReason) {
        for rule in &rules {
            self.remove_rule(now, rule.id, why.clone());
        }
        let event = |rules, rule| Event::RuleRemoved { rules, rule, why: why.clone() };
        let events: Vec<Event> = match rules.len() {
            count if count > ALERTED_SINGLY => vec![event(count as u64, None)],
            _ => rules.into_iter().map(|rule| event(1, Some(rule))).collect(),
        };
        for event in events {
            self.outbox.alert(event, None);
        }
    }
}

/// Returns whether a rule of the fleet takes the place of another on the same sources: a later one of its own role.
fn replaces(name: &FleetName, other: &FleetName) -> bool {
    name.role == other.role && name.serial > other.serial
}

fn differ(one: Timestamp, other: Timestamp) -> bool {
    one.since(other).max(other.since(one)) > SLACK
}

fn named(rule: &Rule) -> NamedRule {
    NamedRule { id: rule.id, target: Target::of(&rule.matcher) }
}
