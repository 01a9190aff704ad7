//! Alarms beyond the number of incidents that are tracked one by one: one incident of the host.
//!
//! It is an incident like any other. The failed handshakes of its listeners are judged together
//! ([`super::together`]), it may have a signature rule for every listener, and each of its listeners climbs
//! the ladder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::Engine;
use super::monitor::{ALERT_WINDOW, ListenerMonitor, Rolled, Shared, Suspect};
use crate::evidence::{Assessment, IncidentClass, Severity};
use crate::incident::{EndReason, Event, Incident, IncidentFacts, IncidentReport, Opening};
use crate::input::{Listener, ListenerCounters, ListenerId, Matcher, Mitigation, Mode, Timestamp};
use crate::listener::Tick;
use crate::mitigation::HeldBack;
use crate::rules::{Entry, RemovalReason};

/// Listeners that are named one by one. The list of actions holds more, because it also lists the
/// mitigations.
const NAMED: usize = 32;

/// The listeners with a common incident.
#[derive(Clone, Debug)]
pub(super) struct RollUp {
    pub incident: Incident,
    /// Listeners that are in the incident now.
    members: BTreeMap<ListenerId, Member>,
    /// Listeners that have ever been in it.
    seen: BTreeSet<ListenerId>,
}

/// A listener in the common incident.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
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
    fn new(incident: Incident) -> Self {
        Self { incident, members: BTreeMap::new(), seen: BTreeSet::new() }
    }

    fn add(
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

    /// Takes a listener out.
    pub fn remove(&mut self, id: ListenerId) -> Option<Member> {
        self.members.remove(&id)
    }
}

impl Engine {
    /// Takes a listener into the one incident for all that are too many to be monitored; opens it with the
    /// first. `alarm`: its handshakes fail; else it is under pressure.
    pub(super) fn roll_up(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        alarm: Option<Suspect>,
        opening: Opening,
        assessment: &Assessment,
    ) {
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let class = assessment.class;
        if let Some(rolled) = &mut self.rolled {
            if !rolled.members.contains_key(&id) {
                rolled.incident.count_syns(opening.syns);
            }
            rolled.add(now, monitor, alarm, class);
            return;
        }
        self.incidents += 1;
        let opening = Opening {
            id: self.incidents,
            listener_id: ListenerId::HOST,
            listener: Listener::HOST,
            baseline_completed: None,
            ..opening
        };
        let mut rolled = RollUp::new(Incident::open(now, opening, assessment));
        rolled.add(now, monitor, alarm, class);
        rolled.incident.note_actions_notified();
        let report = rolled.incident.report(Vec::new(), None);
        self.rolled = Some(rolled);
        let event = Event::TooManyIncidents {
            limit: self.settings.common.incidents as u64,
            about: Box::new(IncidentFacts::of(&report, self.mode)),
        };
        self.alert(Severity::Critical, event, Some(report));
    }

    /// Counts the SYNs of its listeners, releases those that are quiet, have gone or have an incident of
    /// their own by now, and ends it with the last.
    pub(super) fn follow_rolled(&mut self, now: Timestamp) {
        let Some(rolled) = &mut self.rolled else { return };
        let mut rate = 0.0;
        let quiet = self.settings.common.quiet;
        let enforced = self.mode == Mode::Enforce;
        let (monitors, incident) = (&self.monitors, &mut rolled.incident);
        let mut left = Vec::new();
        rolled.members.retain(|id, member| {
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
        let is_over = rolled.members.is_empty();
        let news = if is_over { None } else { rolled.incident.news(now) };
        for id in left {
            self.let_go(now, id);
        }
        if let Some(before) = news
            && let Some(report) = self.rolled_report(None)
        {
            self.alert_with(report, before);
        }
        if is_over {
            self.end_rolled(now, EndReason::Quiet { for_s: quiet.as_secs() });
        }
    }

    /// A listener is no longer reported together with others.
    fn let_go(&mut self, now: Timestamp, id: ListenerId) {
        let signatures = self.harmless_signatures();
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

    fn end_rolled(&mut self, now: Timestamp, why: EndReason) {
        if let Some(rolled) = &mut self.rolled {
            let listeners = rolled.seen.len() as u64;
            rolled.incident.note(now, Event::ListenersCounted { listeners });
        }
        // The last of its listeners has been quiet for so long.
        let ended = now - self.settings.common.quiet;
        let Some(report) = self.rolled_report(Some(ended)) else { return };
        let Some(mut rolled) = self.rolled.take() else { return };
        // Where an incident goes on in which these rules acted, it asks for them by itself.
        let signatures = self.harmless_signatures();
        if !signatures.is_empty() {
            let until = now + ALERT_WINDOW;
            for monitor in self.monitors.values_mut().filter(|monitor| monitor.shares_rules()) {
                monitor.arm(until, signatures.clone());
            }
        }
        rolled.incident.release_rules(&RemovalReason::IncidentOver);
        self.removal_reasons.append(&mut rolled.incident.removal_reasons);
        self.alert_end(&report, why);
        self.keep(report);
    }

    /// The incident of all that are too many to be monitored; with an end, as it was then.
    pub(super) fn rolled_report(&self, ended: Option<Timestamp>) -> Option<IncidentReport> {
        let incident = &self.rolled.as_ref()?.incident;
        let rules =
            incident.wanted().iter().filter_map(|wanted| self.rule_table.find(&wanted.matcher));
        Some(incident.report(rules.map(|entry| self.rule_report(entry)).collect(), ended))
    }

    /// The incident in which a listener is reported, as it is now.
    pub(super) fn report_at(&self, id: ListenerId) -> Option<IncidentReport> {
        let is_rolled = self.monitors.get(&id).is_some_and(|monitor| monitor.rolled.is_some());
        if is_rolled { self.rolled_report(None) } else { self.incident_report(id, None) }
    }

    /// The incident in which a listener is reported.
    pub(super) fn incident_at(&mut self, id: ListenerId) -> Option<&mut Incident> {
        let monitor = self.monitors.get_mut(&id)?;
        match monitor.rolled {
            Some(_) => self.rolled.as_mut().map(|rolled| &mut rolled.incident),
            None => monitor.incident.as_deref_mut(),
        }
    }

    /// Returns whether a listener is reported together with others, because its handshakes fail.
    pub(super) fn is_rolled(&self, id: ListenerId) -> bool {
        self.monitors.get(&id).is_some_and(|monitor| monitor.rolled.is_some())
    }

    /// Returns whether a mitigation at a listener that is reported together with others needs no alert of its own: it
    /// started at another of them before, or is no longer active at this one. The end of the mitigation is reported
    /// with the incident's end.
    pub(super) fn goes_without_saying(&self, id: ListenerId, mitigation: Mitigation) -> bool {
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
    pub(super) fn failed_before(
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
    pub(super) fn signatures_shared_by(&self, id: ListenerId) -> Vec<(Mask, Fingerprint)> {
        let exempt =
            self.monitors.get(&id).is_some_and(|monitor| monitor.shared == Shared::Exempting);
        let shared = self.rule_table.signatures_of(ListenerId::HOST).filter(|_| !exempt);
        shared.filter_map(signature).collect()
    }

    /// Returns the signatures that are dropped at every listener and have harmed no client.
    fn harmless_signatures(&self) -> Vec<(Mask, Fingerprint)> {
        let harmless = |entry: &&Entry| entry.meter.completed() == 0;
        let shared = self.rule_table.signatures_of(ListenerId::HOST).filter(harmless);
        shared.filter_map(signature).collect()
    }

    /// Returns the reason that there may be no rule for every listener; `None` where there may be one.
    pub(super) fn no_shared_rules(&self) -> Option<HeldBack> {
        let exempt = |monitor: &ListenerMonitor| {
            monitor.ladder.bars(Mitigation::Signature) || self.held_back(monitor.listener).is_some()
        };
        self.monitors.all().any(exempt).then_some(HeldBack::OtherListener)
    }

    /// Returns whether an operator forbids rules of a kind anywhere.
    pub(super) fn is_forbidden_somewhere(&self, now: Timestamp, mitigation: Mitigation) -> bool {
        self.monitors.values().any(|monitor| monitor.ladder.forbidden(now, mitigation))
    }
}

/// The signature that a rule matches.
pub(super) fn signature(entry: &Entry) -> Option<(Mask, Fingerprint)> {
    match entry.rule.matcher {
        Matcher::Signature { mask, fingerprint, .. } => Some((mask, fingerprint)),
        Matcher::Source(..) => None,
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
