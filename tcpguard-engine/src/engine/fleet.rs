//! Rules of a fleet's operators. They rank above automatic rules, and below the protected prefixes of this host and the
//! word of its own operators.

use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use super::unblock::ALERTED_SINGLY;
use crate::evidence::Severity;
use crate::incident::{Event, NamedRule, RuleTerms, Target};
use crate::input::{
    ClientsWithin, FleetAction, FleetMessage, FleetName, FleetRule, Matcher, Origin, Rule, RuleId,
    RuleReason, Timestamp,
};
use crate::output::{FleetRefusal, RequestError};
use crate::rules::{AllowReport, Entry, RemovalReason, touch};
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
            FleetMessage::Hint(hint) => self.take_hint(now, &hint),
            FleetMessage::Rule(rule) => self.take_fleet_rule(now, rule, clients),
            FleetMessage::RuleGone(name) => self.end_fleet_rule(now, &name),
        }
    }

    /// Returns whether a rule depends on the clients within its sources. Those of a rule that is repeated, or is
    /// refused anyway, need not be counted.
    pub fn asks_for_clients(&self, now: Timestamp, rule: &FleetRule) -> bool {
        let matcher = Matcher::Source(rule.net.trunc(), rule.ports);
        let known = self.rule_table.find(&matcher).and_then(Entry::fleet);
        rule.action == FleetAction::Block
            && known != Some(&rule.name)
            && self.check_fleet_rule(now, rule).is_ok()
    }

    /// Refuses the rule with this name until `until`, because an operator of this host removed it.
    pub fn overrule(&mut self, now: Timestamp, name: FleetName, until: Timestamp) {
        self.fleet.overrule(now, name, until);
    }

    /// The rules of the fleet that operators of this host removed, each with the time until which it is refused. They
    /// are for [`Engine::overrule`] of a later run.
    pub fn overruled(&self) -> impl Iterator<Item = (&FleetName, Timestamp)> {
        self.fleet.overruled()
    }

    /// Returns the number of rules of the fleet, and of exemptions by it.
    pub fn of_fleet(&self) -> (u32, u32) {
        let rules = self.rule_table.of_fleet().count();
        let allowed = self.exempt.allowed().filter(|entry| entry.fleet.is_some()).count();
        (rules as u32, allowed as u32)
    }

    /// Returns the names of the rules of the fleet, and of the exemptions by it.
    pub fn names_of_fleet(&self) -> impl Iterator<Item = &FleetName> {
        let allowed = self.exempt.allowed().filter_map(|entry| entry.fleet.as_ref());
        self.rule_table.of_fleet().map(|(_, name)| name).chain(allowed)
    }

    /// Takes over an exemption of an earlier run. Returns false where the allowlist has no room for it.
    pub fn adopt_exemption(&mut self, now: Timestamp, entry: AllowReport) -> bool {
        let has_room = entry.expires <= now || self.exempt.allow(entry);
        self.hand_out_allowed();
        has_room
    }

    fn take_fleet_rule(
        &mut self,
        now: Timestamp,
        rule: FleetRule,
        clients: ClientsWithin,
    ) -> Result<(), FleetRefusal> {
        let net = self.check_fleet_rule(now, &rule)?;
        match rule.action {
            FleetAction::Block => self.block_for_fleet(now, net, rule, clients),
            FleetAction::Allow => self.allow_for_fleet(now, net, rule),
        }
    }

    /// Returns the sources of a rule, unless it is refused whatever clients and other rules of the fleet there are.
    fn check_fleet_rule(&self, now: Timestamp, rule: &FleetRule) -> Result<IpNet, FleetRefusal> {
        if !rule.is_valid() {
            return Err(FleetRefusal::Malformed);
        }
        if self.fleet.is_overruled(now, &rule.name) {
            return Err(FleetRefusal::Overruled);
        }
        let net = rule.net.trunc();
        check_width(net).map_err(FleetRefusal::Harmful)?;
        if rule.action == FleetAction::Allow {
            return Ok(net);
        }
        if self.rule_table.operators_over(&net).is_some() {
            return Err(FleetRefusal::Overruled);
        }
        match self.exempt.touched_by(&net) {
            Some((covers, what)) => {
                Err(FleetRefusal::Harmful(RequestError::Protected { net, covers, what }))
            }
            None => Ok(net),
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
        let known = self.rule_table.find(&matcher);
        if let Some(known) = known.filter(|entry| entry.fleet() == Some(&rule.name)) {
            let (id, before) = (known.rule.id, known.rule.expires);
            if differ(before, expires) {
                self.renew_rule(id, expires);
            }
            return Ok(());
        }
        if clients.validated > 0 {
            return Err(FleetRefusal::Harmful(RequestError::Clients { net, clients }));
        }
        let rivals: Vec<(RuleId, Matcher, FleetName)> = self
            .rule_table
            .of_fleet()
            .filter(|(entry, _)| entry.rule.matcher.prefix() == Some(net))
            .map(|(entry, name)| (entry.rule.id, entry.rule.matcher, name.clone()))
            .collect();
        if let Some((.., by)) = rivals.iter().find(|(.., rival)| !replaces(&rule.name, rival)) {
            return Err(FleetRefusal::Outranked { by: by.clone() });
        }
        let freed: usize = rivals.iter().map(|(_, matcher, _)| matcher.entries()).sum();
        let limit = Limits::FLEET_RULES.min(self.rule_table.room() / 4);
        let places = self.rule_table.places_of_fleet() - freed + matcher.entries();
        if places > limit as usize {
            return Err(FleetRefusal::RulesFull { limit });
        }
        if !self.fleet.pay(now) {
            return Err(FleetRefusal::TooFast);
        }
        let (origin, reason) = (Origin::Fleet(rule.name), RuleReason::Given { text: rule.reason });
        let made = Rule {
            // It gets its number with its slot.
            id: RuleId(0),
            matcher,
            origin: origin.clone(),
            forced: false,
            reason: reason.clone(),
            created: now,
            expires,
            confirmation: None,
        };
        let full = FleetRefusal::RulesFull { limit: self.rule_table.room() };
        let id = self.install_operators(now, made).ok_or(full)?;
        // The new one is in the kernel before the old ones go.
        let old = rivals.iter().filter(|(rival, ..)| *rival != id).map(|(rival, ..)| *rival);
        let replaces = old.clone().next();
        for rival in old {
            self.remove_rule(now, rival, RemovalReason::Replaced { by: id });
        }
        let terms = RuleTerms { lifetime_s: lifetime.as_secs(), confirm_s: None, replaces };
        let rule = NamedRule { id, target: Target::of(&matcher) };
        let (mode, terms) = (self.mode, Some(terms));
        let event = Event::RuleInstalled { rule, origin, reason, mode, terms };
        self.alert(Severity::Notice, event, None);
        Ok(())
    }

    fn allow_for_fleet(
        &mut self,
        now: Timestamp,
        net: IpNet,
        rule: FleetRule,
    ) -> Result<(), FleetRefusal> {
        let lifetime = Duration::from_secs(rule.lifetime_s).min(Limits::MAX_ALLOW);
        let expires = now + lifetime;
        let known = self.exempt.allowed_at(&net).cloned();
        match known.as_ref().map(|entry| entry.fleet.as_ref()) {
            Some(None) => return Err(FleetRefusal::Overruled),
            Some(Some(name)) if *name == rule.name => {
                if let Some(entry) = known.filter(|entry| differ(entry.expires, expires)) {
                    self.exempt.allow(AllowReport { expires, ..entry });
                    self.hand_out_allowed();
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
            .rule_table
            .iter()
            .any(|entry| entry.is_operators() && is_over(entry.rule.matcher.prefix()));
        if is_blocked {
            return Err(FleetRefusal::Overruled);
        }
        let of_fleet = self.exempt.allowed().filter(|entry| entry.fleet.is_some()).count();
        if known.is_none() && of_fleet >= Limits::FLEET_ALLOWED {
            return Err(FleetRefusal::RulesFull { limit: Limits::FLEET_ALLOWED as u32 });
        }
        if !self.fleet.pay(now) {
            return Err(FleetRefusal::TooFast);
        }
        let FleetRule { name, reason, .. } = rule;
        let fleet = Some(name);
        let entry = AllowReport {
            net,
            reason: reason.clone(),
            uid: 0,
            fleet: fleet.clone(),
            created: now,
            expires,
        };
        if !self.exempt.allow(entry) {
            return Err(FleetRefusal::RulesFull { limit: Limits::ALLOWED });
        }
        self.hand_out_allowed();
        self.release_exempt(now);
        self.release_fleet(now, &[net]);
        let lifetime_s = lifetime.as_secs();
        let event = Event::AllowAdded { net, uid: 0, fleet, lifetime_s, reason };
        self.alert(Severity::Notice, event, None);
        Ok(())
    }

    /// Ends a rule or an exemption that the fleet no longer has. It may have ended already.
    fn end_fleet_rule(&mut self, now: Timestamp, name: &FleetName) -> Result<(), FleetRefusal> {
        if !name.is_valid() {
            return Err(FleetRefusal::Malformed);
        }
        let of_fleet = self.rule_table.of_fleet().filter(|(_, other)| *other == name);
        let ended: Vec<NamedRule> = of_fleet.map(|(entry, _)| named(&entry.rule)).collect();
        self.remove_of_fleet(now, ended, &RemovalReason::Fleet);
        let revoked = self.exempt.revoke(name);
        if !revoked.is_empty() {
            self.hand_out_allowed();
        }
        for AllowReport { net, fleet, .. } in revoked {
            self.alert(Severity::Notice, Event::AllowRemoved { net, uid: None, fleet }, None);
        }
        Ok(())
    }

    /// Removes the rules of the fleet that touch one of these prefixes, which have become exempt.
    pub(super) fn release_fleet(&mut self, now: Timestamp, nets: &[IpNet]) {
        let of_fleet = self.rule_table.of_fleet().filter_map(|(entry, _)| {
            let prefix = entry.rule.matcher.prefix()?;
            nets.iter().find(|net| touch(net, &prefix))?;
            let (_, what) = self.exempt.touched_by(&prefix)?;
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
            self.alert(Severity::Notice, event, None);
        }
    }

    /// Ends exemptions by the fleet that touch sources which an operator of this host blocks.
    pub(super) fn yield_exemptions(&mut self, nets: impl Iterator<Item = IpNet>) {
        let yielded: Vec<AllowReport> = nets.flat_map(|net| self.exempt.yield_to(&net)).collect();
        if !yielded.is_empty() {
            self.hand_out_allowed();
        }
        for AllowReport { net, fleet, .. } in yielded {
            self.alert(Severity::Notice, Event::AllowRemoved { net, uid: None, fleet }, None);
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

/// Refuses a prefix that is wider than rules may be without force.
pub(super) fn check_width(net: IpNet) -> Result<(), RequestError> {
    let shortest = match net {
        IpNet::V4(_) => Limits::MIN_PREFIX_V4,
        IpNet::V6(_) => Limits::MIN_PREFIX_V6,
    };
    if net.prefix_len() < shortest {
        return Err(RequestError::TooWide { net, shortest });
    }
    Ok(())
}
