//! Every rule that should be in the kernel now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{Fingerprint, Mask, maps};

use super::meter::Meter;
use super::recurrence::RULE_TTL;
use super::report::RuleReport;
use crate::input::{
    FleetName, Listener, ListenerId, Matcher, Origin, Rule, RuleConfirmation, RuleCounters, RuleId,
    RuleReason, RuleToImport, Timestamp,
};
use crate::settings::Limits;

/// A rule and its life.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The rule as it is in the kernel.
    pub rule: Rule,
    /// Time without hits after which it ends; `None` for a rule with a fixed end.
    pub ttl: Option<Duration>,
    /// Time at which it last hit enough to be needed.
    pub needed: Timestamp,
    /// Counts of its hits.
    pub meter: Meter,
    /// An automatic rule of an earlier run, which no incident of this run has asked for yet.
    pub orphan: bool,
}

impl Entry {
    fn new(
        id: RuleId,
        now: Timestamp,
        matcher: Matcher,
        origin: Origin,
        reason: RuleReason,
        life: Life,
    ) -> Self {
        let (ttl, expires) = match life {
            Life::WhileNeeded(ttl) => (Some(ttl), now + ttl),
            Life::Until(end) => (None, end),
        };
        let rule = Rule {
            id,
            matcher,
            origin,
            forced: false,
            reason,
            created: now,
            expires,
            confirmation: None,
        };
        Self { rule, ttl, needed: now, meter: Meter::default(), orphan: false }
    }

    /// Time at which it should end, by the hits so far.
    pub fn due(&self) -> Timestamp {
        self.ttl.map_or(self.rule.expires, |ttl| self.needed + ttl)
    }

    /// Returns whether it is a rule against a signature that clients in number have as well.
    pub fn is_harmful(&self, now: Timestamp) -> bool {
        matches!(self.rule.matcher, Matcher::Signature { .. }) && self.meter.is_harmful(now)
    }

    /// Returns whether it is one that any number of clients have.
    pub fn hits_clients(&self, now: Timestamp) -> bool {
        matches!(self.rule.matcher, Matcher::Signature { .. }) && self.meter.hits_clients(now)
    }

    /// Handshakes a second that new clients complete after a rule against a signature has let their
    /// retransmitted SYNs pass.
    pub fn completing(&self, now: Timestamp) -> f64 {
        match self.rule.matcher {
            Matcher::Signature { .. } => self.meter.completing(now),
            Matcher::Source(..) => 0.0,
        }
    }

    /// Returns whether it is a rule of the agent that hits hardly anything but clients by now: nothing is lost
    /// without it.
    pub fn hits_mostly_clients(&self, now: Timestamp) -> bool {
        self.incident().is_some() && self.meter.hits_mostly_clients(now)
    }

    /// The incident it was made for.
    pub fn incident(&self) -> Option<u64> {
        match self.rule.origin {
            Origin::Incident(id) => Some(id),
            Origin::Operator { .. } | Origin::Fleet(_) => None,
        }
    }

    /// Its name, where an operator of the fleet made it.
    pub const fn fleet(&self) -> Option<&FleetName> {
        match &self.rule.origin {
            Origin::Fleet(name) => Some(name),
            Origin::Incident(_) | Origin::Operator { .. } => None,
        }
    }

    /// Returns whether a hint of other hosts stands in for an indicator.
    pub const fn rests_on_hint(&self) -> bool {
        self.rule.reason.rests_on_hint()
    }

    /// Returns whether it is a rule for every listener.
    pub fn is_shared(&self) -> bool {
        matches!(self.rule.matcher, Matcher::Signature { listener: ListenerId::HOST, .. })
    }

    /// Returns whether it stands on the word of an operator of this host.
    pub fn is_operators(&self) -> bool {
        matches!(self.rule.origin, Origin::Operator { .. })
    }

    /// Its report at `now`. `listener` returns the address behind a listener's id.
    pub fn report(
        &self,
        now: Timestamp,
        listener: impl Fn(ListenerId) -> Option<Listener>,
    ) -> RuleReport {
        RuleReport {
            hits: self.meter.hits(),
            accepted_retransmits: self.meter.accepted_retransmits(),
            completed: self.meter.completed(),
            ..RuleReport::of(now, &self.rule, listener)
        }
    }
}

/// The rules by their slot.
#[derive(Clone, Debug)]
pub(crate) struct RuleTable {
    entries: BTreeMap<RuleId, Entry>,
    /// Rule of each matcher: no two have the same.
    by_matcher: BTreeMap<Matcher, RuleId>,
    /// The counters that were read last.
    read: Option<Arc<[RuleCounters]>>,
    /// See [`Settings::rules`].
    room: u32,
}

impl RuleTable {
    /// Returns a book without rules and with room for `room` of them.
    pub const fn new(room: u32) -> Self {
        Self { entries: BTreeMap::new(), by_matcher: BTreeMap::new(), read: None, room }
    }

    /// Returns the number of rules that there can be.
    pub const fn room(&self) -> u32 {
        self.room
    }

    /// Returns the slots, which are the numbers of rules.
    const fn slots(&self) -> std::ops::Range<u32> {
        0..maps::rule_slots(self.room)
    }

    /// Adds a rule in the smallest free slot; `None` when there is none.
    ///
    /// A slot is free as soon as the removal of its rule has been ordered: commands are carried out
    /// in order.
    pub fn add(
        &mut self,
        now: Timestamp,
        matcher: Matcher,
        origin: Origin,
        reason: RuleReason,
        life: Life,
    ) -> Option<&mut Entry> {
        let is_signature = |entry: &&Entry| matches!(entry.rule.matcher, Matcher::Signature { .. });
        if matches!(matcher, Matcher::Signature { .. })
            && self.entries.values().filter(is_signature).count() >= Limits::SIGNATURES as usize
        {
            return None;
        }
        let taken = self.entries.keys().map(|id| id.0);
        let free = self.slots().zip(taken).find(|(slot, taken)| slot != taken);
        let slot = free.map_or(self.entries.len() as u32, |(slot, _)| slot);
        if self.places() + matcher.entries() > self.room as usize {
            return None;
        }
        let entry = Entry::new(RuleId(slot), now, matcher, origin, reason, life);
        Some(self.insert(entry))
    }

    /// The book with `staying` and, by operator `uid`, these rules, which are over different prefixes,
    /// each on its `terms`, which may depend on the operator's rule over the same prefix; `None` when
    /// those are too many. A rule over a prefix and ports that there was a rule for keeps its slot and
    /// its counts, and becomes the operator's. Any other gets a slot that none had, so that the rules of
    /// both books can be in the kernel at a time, and an operator's over other ports of the prefix goes.
    pub fn with_rules_of(
        &self,
        now: Timestamp,
        uid: u32,
        rules: &[RuleToImport],
        terms: impl Fn(&RuleToImport, Option<&Rule>) -> Terms,
        staying: impl Fn(&Entry) -> bool,
    ) -> Option<Self> {
        let mut free = self.slots().map(RuleId).filter(|id| !self.entries.contains_key(id));
        let operators: BTreeMap<IpNet, &Rule> = self
            .iter()
            .filter(|entry| entry.is_operators())
            .filter_map(|entry| Some((entry.rule.matcher.prefix()?, &entry.rule)))
            .collect();
        let named: BTreeSet<IpNet> = rules.iter().map(|rule| rule.net.trunc()).collect();
        let is_named = |entry: &Entry| {
            entry.is_operators()
                && entry.rule.matcher.prefix().is_some_and(|net| named.contains(&net))
        };
        let stays = self.entries.iter().filter(|(_, entry)| staying(entry) && !is_named(entry));
        let mut rule_table = Self::new(self.room);
        for (_, entry) in stays {
            rule_table.insert(entry.clone());
        }
        for rule in rules {
            let net = rule.net.trunc();
            let matcher = Matcher::Source(net, rule.ports);
            let origin = Origin::Operator { uid };
            let before = operators.get(&net).copied();
            let Terms { forced, expires, confirmation } = terms(rule, before);
            let end = Life::Until(expires);
            let given = rule.reason.clone().map(|text| RuleReason::Given { text });
            let kept = || before.filter(|before| rule.is(before)).map(|it| it.reason.clone());
            let reason = given.or_else(kept).unwrap_or(RuleReason::Imported);
            let mut entry = match self.find(&matcher) {
                Some(known) => {
                    let id = known.rule.id;
                    let entry = Entry::new(id, now, matcher, origin, reason, end);
                    let rule = Rule { created: known.rule.created, ..entry.rule };
                    Entry { rule, meter: known.meter.clone(), ..entry }
                }
                None => Entry::new(free.next()?, now, matcher, origin, reason, end),
            };
            (entry.rule.forced, entry.rule.confirmation) = (forced, confirmation);
            rule_table.insert(entry);
        }
        (rule_table.places() <= self.room as usize).then_some(rule_table)
    }

    /// The book with these of its rules only.
    pub fn only(&self, staying: impl Fn(&Entry) -> bool) -> Self {
        let mut rule_table = Self::new(self.room);
        for entry in self.iter().filter(|entry| staying(entry)) {
            rule_table.insert(entry.clone());
        }
        rule_table
    }

    /// Returns the number of rules here that `before` does not have.
    pub fn missing_before(&self, before: &Self) -> u32 {
        let new = self.entries.keys().filter(|id| !before.entries.contains_key(id));
        new.count() as u32
    }

    /// The rules of `other` that are not here.
    pub fn missing_of(&self, other: &Self) -> Vec<Entry> {
        let gone = other.entries.iter().filter(|(id, _)| !self.entries.contains_key(id));
        gone.map(|(_, entry)| entry.clone()).collect()
    }

    /// Returns the number of the kernel's entries that they take: a rule for certain ports takes one for each.
    fn places(&self) -> usize {
        self.iter().map(|entry| entry.rule.matcher.entries()).sum()
    }

    /// Returns the number of these that rules of the fleet take.
    pub fn places_of_fleet(&self) -> usize {
        self.of_fleet().map(|(entry, _)| entry.rule.matcher.entries()).sum()
    }

    /// Returns the number of rules.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a rule over that is in the kernel already; back when its slot or its matcher is taken,
    /// or it cannot be.
    pub fn adopt(&mut self, now: Timestamp, rule: Rule) -> Result<(), Box<Rule>> {
        let taken = self.entries.contains_key(&rule.id) || self.find(&rule.matcher).is_some();
        if taken || !self.slots().contains(&rule.id.0) || rule.expires <= now {
            return Err(Box::new(rule));
        }
        let orphan = matches!(rule.origin, Origin::Incident(_));
        let ttl = orphan.then_some(RULE_TTL);
        // Not needed until it is seen to hit: it ends when the kernel says, or is renewed.
        let needed = rule.created.min(now);
        let entry = Entry { rule, ttl, needed, meter: Meter::unread(), orphan };
        self.insert(entry);
        Ok(())
    }

    /// Hands the rules of an earlier run over to the incidents that ask for them now.
    pub fn reclaim_orphans<'a>(&mut self, wanted: impl Iterator<Item = (&'a Matcher, u64)>) {
        let wanted: BTreeMap<&Matcher, u64> = wanted.collect();
        for entry in self.entries.values_mut().filter(|entry| entry.orphan) {
            if let Some(incident) = wanted.get(&entry.rule.matcher) {
                entry.rule.origin = Origin::Incident(*incident);
                entry.orphan = false;
            }
        }
    }

    /// Gives up a rule of an earlier run, for which no incident of this run shall ask. Returns whether it was one.
    pub fn disown(&mut self, matcher: &Matcher) -> bool {
        let id = self.by_matcher.get(matcher);
        let entry = id.and_then(|id| self.entries.get_mut(id));
        entry.is_some_and(|entry| std::mem::take(&mut entry.orphan))
    }

    /// The rules of an earlier run that no incident of this run has asked for yet.
    pub fn orphans(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.orphan)
    }

    /// Takes a rule out.
    pub fn remove(&mut self, id: RuleId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.by_matcher.remove(&entry.rule.matcher);
        Some(entry)
    }

    /// The rule with exactly this matcher.
    pub fn find(&self, matcher: &Matcher) -> Option<&Entry> {
        self.entries.get(self.by_matcher.get(matcher)?)
    }

    /// The signature rules of a listener; those of [`ListenerId::HOST`] are for every one.
    pub fn signatures_of(&self, listener: ListenerId) -> impl Iterator<Item = &Entry> {
        let first =
            Matcher::Signature { listener, mask: Mask::Full, fingerprint: Fingerprint::default() };
        let rules = self.by_matcher.range(first..).take_while(move |(matcher, _)| {
            matches!(matcher, Matcher::Signature { listener: of, .. } if *of == listener)
        });
        rules.filter_map(|(_, id)| self.entries.get(id))
    }

    fn insert(&mut self, entry: Entry) -> &mut Entry {
        self.by_matcher.insert(entry.rule.matcher, entry.rule.id);
        self.entries.entry(entry.rule.id).insert_entry(entry).into_mut()
    }

    /// The operator's rule over the same prefix as this matcher, but for other ports.
    pub fn for_other_ports(&self, matcher: &Matcher) -> Option<&Entry> {
        let prefix = matcher.prefix()?;
        self.iter().filter(|entry| entry.is_operators()).find(|entry| {
            entry.rule.matcher.prefix() == Some(prefix) && entry.rule.matcher != *matcher
        })
    }

    /// The operator's rule over a prefix, for whatever ports.
    pub fn operators_over(&self, net: &IpNet) -> Option<&Rule> {
        let mut own = self.iter().filter(|entry| entry.is_operators()).map(|entry| &entry.rule);
        own.find(|rule| rule.matcher.prefix().as_ref() == Some(net))
    }

    /// The rules of the fleet, each with its name.
    pub fn of_fleet(&self) -> impl Iterator<Item = (&Entry, &FleetName)> {
        self.iter().filter_map(|entry| Some((entry, entry.fleet()?)))
    }

    /// A rule by its slot.
    pub fn entry_mut(&mut self, id: RuleId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// All rules in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Takes over the kernel's counters. The same allocation again has nothing new, and is not looked through.
    pub fn read(&mut self, now: Timestamp, counters: &Arc<[RuleCounters]>) {
        if self.read.as_ref().is_some_and(|last| Arc::ptr_eq(last, counters)) {
            return;
        }
        self.read = Some(Arc::clone(counters));
        for counter in counters.iter() {
            if let Some(entry) = self.entries.get_mut(&counter.id) {
                entry.meter.read(now, counter);
                if entry.meter.active(now) {
                    entry.needed = now;
                }
            }
        }
    }
}

/// Terms on which an operator's rule is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    /// See [`Rule::forced`].
    pub forced: bool,
    /// See [`Rule::expires`].
    pub expires: Timestamp,
    /// See [`Rule::confirmation`].
    pub confirmation: Option<RuleConfirmation>,
}

/// Lifetime of a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Life {
    /// The rule ends this long after the last time it was needed.
    WhileNeeded(Duration),
    /// The rule has a fixed end.
    Until(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Ports;

    const ROOM: u32 = maps::MIN_RULES;

    fn source(host: u8) -> Matcher {
        to_ports(host, &[])
    }

    fn to_ports(host: u8, ports: &[u16]) -> Matcher {
        let net = ipnet::Ipv4Net::from(std::net::Ipv4Addr::new(192, 0, 2, host)).into();
        Matcher::Source(net, Ports::new(ports).expect("ports"))
    }

    fn add(rule_table: &mut RuleTable, matcher: Matcher) -> Option<RuleId> {
        let life = Life::WhileNeeded(Duration::from_secs(60));
        let origin = Origin::Incident(1);
        rule_table
            .add(Timestamp::default(), matcher, origin, RuleReason::Found, life)
            .map(|e| e.rule.id)
    }

    #[test]
    fn the_smallest_free_slot_is_used() {
        let mut rule_table = RuleTable::new(ROOM);
        for host in 0..4 {
            assert_eq!(add(&mut rule_table, source(host)), Some(RuleId(host.into())));
        }
        rule_table.remove(RuleId(1));
        assert_eq!(add(&mut rule_table, source(9)), Some(RuleId(1)));
        assert_eq!(add(&mut rule_table, source(10)), Some(RuleId(4)));
    }

    #[test]
    fn a_rule_for_certain_ports_takes_a_place_for_each() {
        let mut rule_table = RuleTable::new(ROOM);
        let origin = Origin::Operator { uid: 0 };
        let rule = |n: u32| {
            Entry::new(
                RuleId(n),
                Timestamp::default(),
                Matcher::Source(
                    IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(n))),
                    Ports::new(&[22, 80, 443]).expect("ports"),
                ),
                origin.clone(),
                RuleReason::Found,
                Life::Until(Timestamp::from_millis(1)),
            )
        };
        let fit = ROOM / 3;
        for n in 0..fit {
            rule_table.insert(rule(n));
        }
        let left = ROOM - 3 * fit;
        assert!(left < 3);
        assert_eq!(add(&mut rule_table, to_ports(1, &[22, 80, 443])), None);
        for host in 0..left as u8 {
            assert!(add(&mut rule_table, source(host)).is_some());
        }
        assert_eq!(add(&mut rule_table, source(9)), None);
    }

    #[test]
    fn only_automatic_rules_go_when_they_hit_mostly_clients() {
        let now = Timestamp::from_millis(1000);
        for (origin, goes) in [(Origin::Incident(1), true), (Origin::Operator { uid: 0 }, false)] {
            let mut rule_table = RuleTable::new(ROOM);
            let life = Life::WhileNeeded(Duration::from_secs(60));
            let made =
                rule_table.add(Timestamp::default(), source(1), origin, RuleReason::Found, life);
            let id = made.expect("a slot").rule.id;
            let counters = RuleCounters { id, hits: 20, accepted_retransmits: 20, completed: 20 };
            rule_table.read(now, &[counters].into());
            let entry = rule_table.find(&source(1)).expect("the rule");
            assert_eq!(entry.hits_mostly_clients(now), goes);
            assert!(!entry.is_harmful(now), "cookies do not stand in for a rule on a source");
        }
    }

    #[test]
    fn the_signatures_of_a_listener_are_its_own_and_those_of_every_one_are_marked() {
        let mut rule_table = RuleTable::new(ROOM);
        let signature =
            |listener, mask| Matcher::Signature { listener, mask, fingerprint: Default::default() };
        let (one, every) = (ListenerId(7), ListenerId::HOST);
        let all = [
            (one, Mask::Full),
            (one, Mask::IpId),
            (every, Mask::NoTtl),
            (ListenerId(8), Mask::Full),
        ];
        for (listener, mask) in all {
            add(&mut rule_table, signature(listener, mask));
        }
        add(&mut rule_table, source(1));
        let found = |listener| {
            let rules = rule_table.signatures_of(listener).map(|entry| entry.rule.matcher);
            rules.collect::<Vec<_>>()
        };
        assert_eq!(found(one), [signature(one, Mask::Full), signature(one, Mask::IpId)]);
        assert_eq!(found(every), [signature(every, Mask::NoTtl)]);
        assert_eq!(found(ListenerId(9)), []);
        let entry = rule_table.find(&signature(every, Mask::NoTtl)).expect("it is there");
        assert!(
            entry.report(Timestamp::default(), |_| None).matches.ends_with(" to every listener")
        );
    }

    #[test]
    fn signatures_have_a_limit_of_their_own() {
        let mut rule_table = RuleTable::new(ROOM);
        let signature = |listener| Matcher::Signature {
            listener: ListenerId(listener),
            mask: Mask::Full,
            fingerprint: Default::default(),
        };
        for listener in 0..Limits::SIGNATURES {
            assert!(add(&mut rule_table, signature(listener)).is_some());
        }
        assert_eq!(add(&mut rule_table, signature(Limits::SIGNATURES)), None);
        assert!(add(&mut rule_table, source(1)).is_some());
    }
}
