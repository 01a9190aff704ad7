//! Alarms beyond the number of incidents that are followed one by one: one incident of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use crate::evidence::Assessment;
use crate::incident::{Incident, Opening};
use crate::watch::Watch;
use crate::window::Tick;
use crate::words::span;
use crate::{
    Command, IncidentReport, Limits, Listener, ListenerCounters, ListenerId, Settings, Severity,
    Timestamp,
};

/// The listeners whose alarms are told together. Each is followed like any other, but has no incident,
/// and so no rule of its own.
#[derive(Clone, Debug)]
pub(super) struct RollUp {
    incident: Incident,
    /// Those that are in it now.
    members: BTreeMap<ListenerId, Member>,
    /// All that ever were.
    seen: BTreeSet<ListenerId>,
}

/// A listener in it.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Counted so far.
    counters: ListenerCounters,
    /// It is under pressure, rather than failing.
    strained: bool,
}

impl Member {
    fn over_for(self, watch: &Watch, now: Timestamp) -> Duration {
        if self.strained { watch.over_for(now) } else { watch.quiet(now) }
    }
}

impl RollUp {
    fn add(&mut self, now: Timestamp, watch: &Watch, class: &str, strained: bool) {
        let new = Member { counters: *watch.counters(), strained };
        self.members.entry(watch.id).or_insert(new).strained = strained;
        // The last line is for how many they were.
        if self.seen.insert(watch.id) && self.seen.len() < Limits::ACTIONS {
            self.incident.note(now, format!("{class} on {}", watch.listener));
        }
    }
}

impl Engine {
    /// Takes an alarm into the one incident for all that are too many to be followed; opens it with the
    /// first.
    pub(super) fn roll_up(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        opening: impl FnOnce(&Watch, u64, &Settings) -> Opening,
        assessment: &Assessment,
    ) {
        let Some(watch) = self.watches.get(&id) else { return };
        let (class, strained) = (assessment.class, assessment.class.is_pressure());
        if let Some(rolled) = &mut self.rolled {
            if !rolled.members.contains_key(&id) {
                let settings = self.settings.of(watch.listener);
                let opening = opening(watch, self.incidents, settings);
                rolled.incident.count_syns(opening.syns);
            }
            rolled.add(now, watch, class.in_words(), strained);
            return;
        }
        self.incidents += 1;
        let opening = Opening {
            listener_id: ListenerId::HOST,
            listener: Listener::HOST,
            usual_completed: None,
            ..opening(watch, self.incidents, self.settings.of(watch.listener))
        };
        let mut rolled = RollUp {
            incident: Incident::open(now, opening, assessment),
            members: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        rolled.add(now, watch, class.in_words(), strained);
        rolled.incident.actions_told();
        let report = rolled.incident.report(Vec::new(), None);
        self.rolled = Some(rolled);
        self.commands.push_back(Command::Alert {
            severity: Severity::Critical,
            event: "too_many_incidents",
            message: format!(
                "{} incidents are open: what happens at further listeners is told together, as \
                 incident {}, and no rule is made for them: look at the whole host's SYN rate: \
                 tcpguard status",
                self.settings.common.incidents, report.id
            ),
            prefix: None,
            incident: Some(Box::new(report)),
        });
    }

    /// Counts what has come to the listeners in it, lets those go that are quiet, have gone or have an
    /// incident of their own by now, and ends it with the last.
    pub(super) fn follow_rolled(&mut self, now: Timestamp) {
        let Some(rolled) = &mut self.rolled else { return };
        let mut rate = 0.0;
        let quiet = self.settings.common.quiet;
        let (watches, incident) = (&self.watches, &mut rolled.incident);
        rolled.members.retain(|id, member| {
            let Some(watch) = watches.get(id) else { return false };
            let grown = |count: fn(&ListenerCounters) -> u64| {
                count(watch.counters()).saturating_sub(count(&member.counters))
            };
            incident.count(&Tick {
                syns: grown(|counters| counters.syn),
                established: grown(|counters| {
                    counters.established.unwrap_or(counters.acknowledged)
                }),
                ..Tick::default()
            });
            member.counters = *watch.counters();
            rate += watch.syn_rate();
            watch.incident.is_none() && member.over_for(watch, now) < quiet
        });
        incident.note_rate(rate);
        if !rolled.members.is_empty() {
            if let Some(before) = rolled.incident.news(now) {
                let report = rolled.incident.report(Vec::new(), None);
                self.tell_of(report, Some(before));
            }
            return;
        }
        let Some(mut rolled) = self.rolled.take() else { return };
        rolled.incident.note(now, format!("{} listeners in all", rolled.seen.len()));
        let report = rolled.incident.report(Vec::new(), Some(now));
        self.tell_of_end(&report, &format!("quiet for {}", span(quiet)));
        self.keep(report);
    }

    /// The incident of all that are too many to be followed.
    pub(super) fn rolled_report(&self) -> Option<IncidentReport> {
        self.rolled.as_ref().map(|rolled| rolled.incident.report(Vec::new(), None))
    }
}
