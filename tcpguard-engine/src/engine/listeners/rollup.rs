//! A flood of many listeners, and alarms beyond the number of incidents that are tracked one by one: one incident of the
//! host.
//!
//! It is an incident like any other. The failed handshakes of its listeners are judged together
//! ([`super::together`]), it may have a signature rule for every listener, and each of its listeners climbs
//! the ladder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::Listeners;
use crate::engine::mandate::Mandate;
use crate::engine::monitor::{ALERT_WINDOW, ListenerMonitor, Rolled, Suspect};
use crate::engine::monitors::Monitors;
use crate::engine::rule_book::{RuleBook, signature};
use crate::evidence::IncidentClass;
use crate::incident::{Event, Incident, IncidentReport};
use crate::input::{ListenerCounters, ListenerId, Mitigation, Timestamp};
use crate::listener::Tick;

/// Listeners that are named one by one. The list of actions holds more, because it also lists the
/// mitigations.
const NAMED: usize = 32;

/// The listeners with a common incident.
#[derive(Clone, Debug)]
pub struct RollUp {
    pub incident: Incident,
    /// Listeners that are in the incident now.
    members: BTreeMap<ListenerId, Member>,
    /// Listeners that have ever been in it.
    seen: BTreeSet<ListenerId>,
}

/// A listener in the common incident.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Counters of the listener at the last count.
    counters: ListenerCounters,
    /// Alarm that put the listener into the incident; `None` where the listener is under pressure, and its
    /// handshakes do not fail.
    pub alarm: Option<Suspect>,
}

impl Member {
    fn over_for(&self, monitor: &ListenerMonitor, now: Timestamp) -> Duration {
        if self.alarm.is_some() { monitor.quiet(now) } else { monitor.over_for(now) }
    }
}

impl RollUp {
    pub fn new(incident: Incident) -> Self {
        Self { incident, members: BTreeMap::new(), seen: BTreeSet::new() }
    }

    pub fn add(
        &mut self,
        now: Timestamp,
        monitor: &mut ListenerMonitor,
        alarm: Option<Suspect>,
        class: IncidentClass,
    ) {
        let new = Member { counters: *monitor.counters(), alarm };
        let member = self.members.entry(monitor.id).or_insert(new);
        member.alarm = alarm.or(member.alarm);
        if let Some(alarm) = member.alarm {
            monitor.rolled = Some(Rolled { class, since: alarm.since });
        }
        if self.seen.insert(monitor.id) && self.seen.len() <= NAMED {
            let listener = monitor.listener;
            self.incident.note(now, Event::ListenerJoined { listener, class });
        }
        self.incident.set_listeners(self.seen.len());
    }

    /// Returns the listeners at which handshakes fail.
    pub fn failing(&self) -> impl Iterator<Item = ListenerId> {
        let failing = self.members.iter().filter(|(_, member)| member.alarm.is_some());
        failing.map(|(id, _)| *id)
    }

    pub fn has(&self, id: ListenerId) -> bool {
        self.members.contains_key(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Counts the SYNs of its listeners. Returns those that are in it no longer: those that are quiet, and those that
    /// have an incident of their own by now.
    pub fn follow(
        &mut self,
        now: Timestamp,
        monitors: &Monitors,
        mandate: &Mandate,
    ) -> Vec<ListenerId> {
        let mut rate = 0.0;
        let (quiet, enforced) = (mandate.settings.common.quiet, mandate.enforces());
        let mut left = Vec::new();
        let incident = &mut self.incident;
        self.members.retain(|id, member| {
            let Some(monitor) = monitors.get(id) else { return false };
            incident.count(&since(&member.counters, monitor.counters(), enforced));
            member.counters = *monitor.counters();
            rate += monitor.syn_rate();
            let stays = monitor.incident.is_none() && member.over_for(monitor, now) < quiet;
            if !stays {
                left.push(*id);
            }
            stays
        });
        incident.note_rate(rate);
        left
    }

    /// Notes how many listeners have been in it.
    pub fn note_count(&mut self, now: Timestamp) {
        let listeners = self.seen.len() as u64;
        self.incident.note(now, Event::ListenersCounted { listeners });
    }

    /// Takes a listener out.
    pub fn remove(&mut self, id: ListenerId) -> Option<Member> {
        self.members.remove(&id)
    }
}

impl Listeners {
    /// A listener is no longer reported together with others.
    pub fn let_go(&mut self, now: Timestamp, id: ListenerId, rules: &RuleBook) {
        let signatures = rules.harmless_signatures();
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let Some(rolled) = monitor.rolled.take() else { return };
        if monitor.incident.is_some() {
            return;
        }
        monitor.reset_signals();
        monitor.failing_over = Some(now);
        if rolled.class.is_flood() {
            monitor.arm(now + ALERT_WINDOW, signatures);
            monitor.ladder.forgive();
        }
        monitor.residual = None;
    }

    /// The incident of all that are too many to be monitored; with an end, as it was then.
    pub fn rolled_report(
        &self,
        ended: Option<Timestamp>,
        rules: &RuleBook,
    ) -> Option<IncidentReport> {
        let incident = &self.rolled.as_ref()?.incident;
        let rules = incident.wanted().iter().filter_map(|wanted| rules.table.find(&wanted.matcher));
        Some(incident.report(rules.map(|entry| self.rule_report(self.now, entry)).collect(), ended))
    }

    /// Returns whether a mitigation at a listener that is reported together with others needs no alert of its own: it
    /// started at another of them before, or is no longer active at this one. The end of the mitigation is reported
    /// with the incident's end.
    pub fn goes_without_saying(&self, id: ListenerId, mitigation: Mitigation) -> bool {
        if !self.is_rolled(id) {
            return false;
        }
        let taken = |monitor: &ListenerMonitor| {
            monitor.ladder.since(mitigation).map(|since| (since, monitor.id))
        };
        let Some(here) = self.monitors.get(&id).and_then(taken) else { return true };
        let combined = self.monitors.values().filter(|monitor| monitor.rolled.is_some());
        combined.filter_map(taken).any(|there| there < here)
    }

    /// Returns whether a mitigation that could not be started at such a listener, and is tried again `soon` or later,
    /// needs no alert of its own: it could not be started at another of them either.
    pub fn failed_before(
        &self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        soon: bool,
    ) -> bool {
        let failed = |monitor: &ListenerMonitor| {
            let ladder = &monitor.ladder;
            let fails = ladder.refuses(mitigation, now) || soon && ladder.waits(mitigation, now);
            monitor.id != id && monitor.rolled.is_some() && fails
        };
        self.is_rolled(id) && self.monitors.values().any(failed)
    }

    /// The signatures that are dropped at a listener because they are at every one.
    pub fn signatures_shared_by(
        &self,
        id: ListenerId,
        rules: &RuleBook,
    ) -> Vec<(Mask, Fingerprint)> {
        let exempt = self.monitors.get(&id).is_some_and(|monitor| monitor.shared.is_exempt());
        let shared = rules.table.signatures_of(ListenerId::HOST).filter(|_| !exempt);
        shared.filter_map(signature).collect()
    }

    /// Returns whether an operator forbids rules of a kind anywhere.
    pub fn is_forbidden_somewhere(&self, now: Timestamp, mitigation: Mitigation) -> bool {
        self.monitors.values().any(|monitor| monitor.ladder.forbidden(now, mitigation))
    }
}

/// Counts of a listener between two readings.
fn since(before: &ListenerCounters, now: &ListenerCounters, enforced: bool) -> Tick {
    let grown = |count: fn(&ListenerCounters) -> u64| count(now).saturating_sub(count(before));
    let matched = grown(|counters| counters.dropped_source + counters.dropped_signature);
    let by_rules = if enforced { matched } else { 0 };
    Tick {
        syns: grown(|counters| counters.syn),
        established: grown(ListenerCounters::completed),
        matched,
        dropped: by_rules + grown(|counters| counters.limited),
        cookies_sent: grown(|counters| counters.cookies_sent),
        cookies_redeemed: grown(|counters| counters.cookies_redeemed),
        ..Tick::default()
    }
}
