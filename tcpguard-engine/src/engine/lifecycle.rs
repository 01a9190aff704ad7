//! Lifecycle of an incident: from the alarm to its opening, and from there to its end.
//!
//! A flood of many listeners is one incident of the host. As many other listeners as are reported one by one have an
//! incident of their own, and the rest is reported with that flood.

use std::time::Duration;

use super::Engine;
use super::listeners::{GATHERING, Member, Pool, RollUp, patience};
use super::monitor::{ALERT_WINDOW, ListenerMonitor, Suspect};
use crate::evidence::{Assessment, Cohort};
use crate::incident::{EndReason, Incident, Opening};
use crate::input::{Listener, ListenerId, Matcher, POLL, Sample, Timestamp};
use crate::listener::Signal;
use crate::output::Command;
use crate::rules::RemovalReason;

/// An incident ends only after this delay, so that handshakes of the last moment of a quiet time are judged.
/// Where no queue can be read, SYNs without a reply count once clients would have retransmitted them, after
/// 1.5 s.
const GIVEN: Duration = Duration::from_secs(2);

impl Engine {
    /// Opens incidents for alarms for which no flows have come. The only evidence is that handshakes fail.
    /// For an alarm of the slow path not even that is known without flows.
    pub(super) fn open_overdue(&mut self, now: Timestamp) {
        let overdue = |monitor: &ListenerMonitor| {
            let suspect = monitor.suspect?;
            let patience = match monitor.awaits_others {
                true => GATHERING,
                false => patience(suspect.signal),
            };
            let is_overdue = now.since(suspect.since) > patience + POLL;
            is_overdue.then_some((monitor.id, suspect.signal))
        };
        let overdue: Vec<(ListenerId, Signal)> =
            self.listeners.monitors.values().filter_map(overdue).collect();
        for (id, signal) in overdue {
            if signal == Signal::Slow {
                self.listeners.dismiss(id);
                continue;
            }
            let assessment = self.listeners.assess(id, &Cohort::default(), None);
            self.open_or_refine(now, id, &assessment, None);
        }
    }

    /// Opens or refines the incident of a listener. `pool`: the failed handshakes of several listeners that the verdict
    /// is about.
    pub(super) fn open_or_refine(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        assessment: &Assessment,
        pool: Option<&Pool>,
    ) {
        let is_part = pool.is_some() && assessment.class.is_flood();
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        // An incident of which no alert was sent gives way to that of the flood.
        let gives_way = |open: &mut Box<Incident>| is_part && open.is_unreported();
        if let Some(open) = monitor.incident.take_if(gives_way) {
            let (since, from, signal) = (open.detected(), open.started(), open.signal());
            monitor.suspect = Some(Suspect { since, from, signal, moment: monitor.moment(now) });
        }
        let suspect = monitor.suspect.take();
        if let Some(incident) = &mut monitor.incident {
            if suspect.is_none() || assessment.class.is_pressure() {
                incident.refine(now, assessment);
                return;
            }
            self.end(now, id, EndReason::HandshakesFail);
        }
        let Some(suspect) = suspect else { return };
        let number = if is_part { None } else { self.free_place() };
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let settings = &self.mandate.settings.common;
        let opening =
            monitor.opening(number.unwrap_or_default(), &suspect, &assessment.evidence, settings);
        monitor.rate_before = monitor.window.rates_before(opening.started).into();
        match number {
            None => self.roll_up(now, id, Some(suspect), opening, assessment),
            Some(_) => self.open(now, id, opening, assessment),
        }
    }

    /// Opens the incident of a listener.
    pub(super) fn open(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        opening: Opening,
        assessment: &Assessment,
    ) {
        if let Some(monitor) = self.listeners.monitors.get_mut(&id) {
            let mut incident = Incident::open(now, opening, assessment);
            let waits = incident.withholds_opening();
            monitor.incident = Some(Box::new(incident));
            if !waits {
                self.alert_incident(id, None);
            }
        }
    }

    /// Ends the incidents that have been quiet for long enough.
    pub(super) fn end_quiet_incidents(&mut self, now: Timestamp) {
        let long = self.mandate.settings.common.quiet;
        let over = |monitor: &&ListenerMonitor| {
            let lasts = monitor.over_for(now);
            lasts >= long && (lasts >= long + GIVEN || !monitor.may_be_disturbed())
        };
        let open = self.listeners.monitors.values().filter(|monitor| monitor.incident.is_some());
        let quiet: Vec<ListenerId> = open.filter(over).map(|monitor| monitor.id).collect();
        for id in quiet {
            self.end(now, id, EndReason::Quiet { for_s: long.as_secs() });
        }
    }

    /// Ends an incident. Its rules go with it, and the listener stays alert for a while.
    fn end(&mut self, now: Timestamp, id: ListenerId, why: EndReason) {
        // A hint of other hosts makes no memory of an attack here.
        let harmless = |matcher: &Matcher| {
            let entry = self.rules.table.find(matcher);
            entry.is_some_and(|entry| entry.meter.completed() == 0 && !entry.rests_on_hint())
        };
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let (after, quiet) = (monitor.counts_now(), monitor.over_for(now));
        let Some(incident) = monitor.incident.as_deref_mut() else { return };
        incident.keep_end(after);
        let ended = match why {
            EndReason::Quiet { .. } => {
                incident.cut_tail();
                (now - quiet).max(incident.started())
            }
            _ => now,
        };
        let Some(report) = self.incident_report(id, Some(ended)) else { return };
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let Some(mut incident) = monitor.incident.take() else { return };
        monitor.reset_signals();
        if !incident.class().is_pressure() {
            monitor.failing_over = Some(now);
        }
        if incident.class().is_flood() {
            let signatures = incident.signatures().filter(|&(mask, fingerprint)| {
                harmless(&Matcher::Signature { listener: id, mask, fingerprint })
            });
            monitor.arm(now + ALERT_WINDOW, signatures.collect());
            monitor.ladder.forgive();
        }
        monitor.residual = None;
        incident.release_rules(&RemovalReason::IncidentOver);
        self.rules.removal_reasons.append(&mut incident.removal_reasons);
        if incident.takes_unreported() {
            self.alert_with(report.clone(), None);
        }
        self.archive.close(report, why, &mut self.outbox);
    }

    /// Stops monitoring listeners that have gone.
    pub(super) fn drop_missing(&mut self, now: Timestamp, sample: &Sample) {
        for &id in &sample.gone {
            self.end(now, id, EndReason::ListenerGone);
            let Some(monitor) = self.listeners.monitors.remove(&id) else { continue };
            let left = monitor
                .ladder
                .taken()
                .map(|mitigation| Command::StopMitigation { listener: id, mitigation });
            self.outbox.extend(left);
        }
    }

    /// The number of a new incident at a listener, where a slot is free; `None` where it is to be reported together
    /// with others.
    pub(super) fn free_place(&mut self) -> Option<u64> {
        let open =
            self.listeners.monitors.values().filter(|monitor| monitor.incident.is_some()).count();
        if open >= self.mandate.settings.common.incidents {
            return None;
        }
        Some(self.archive.next_number())
    }

    /// Gives those listeners an incident of their own for which there is a slot by now: those with most
    /// failed handshakes first. `verdict` is the verdict on one of them.
    pub(super) fn fill_places(
        &mut self,
        now: Timestamp,
        verdict: impl Fn(&Self, ListenerId) -> Option<Assessment>,
    ) {
        let Some(rolled) = &self.listeners.rolled else { return };
        let failing = rolled.failing().filter_map(|id| self.listeners.monitors.get(&id));
        let mut ranked: Vec<(f64, ListenerId)> =
            failing.map(|monitor| (monitor.failed_rate(), monitor.id)).collect();
        ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        for (rate, id) in ranked {
            let Some(verdict) = (rate > 0.0).then(|| verdict(self, id)).flatten() else { continue };
            let Some(number) = self.free_place() else { return };
            let alarm = self.listeners.rolled.as_mut().and_then(|rolled| rolled.remove(id));
            let Some(Member { alarm: Some(alarm), .. }) = alarm else { continue };
            let Some(monitor) = self.listeners.monitors.get_mut(&id) else { continue };
            monitor.rolled = None;
            // The time before is reported elsewhere.
            let alarm = Suspect { since: now, from: now, ..alarm };
            let settings = &self.mandate.settings.common;
            let opening = monitor.opening(number, &alarm, &verdict.evidence, settings);
            self.open(now, id, opening, &verdict);
        }
    }

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
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let class = assessment.class;
        if let Some(rolled) = &mut self.listeners.rolled {
            if !rolled.has(id) {
                rolled.incident.count_syns(opening.counts.syns);
            }
            rolled.add(now, monitor, alarm, class);
            return;
        }
        let opening = Opening {
            id: self.archive.next_number(),
            listener_id: ListenerId::HOST,
            listener: Listener::HOST,
            baseline_completed: None,
            ..opening
        };
        let mut rolled = RollUp::new(Incident::open(now, opening, assessment));
        rolled.add(now, monitor, alarm, class);
        rolled.incident.note_actions_notified();
        // With the other listeners of this poll.
        rolled.incident.report_later();
        self.listeners.rolled = Some(rolled);
    }

    /// Counts the SYNs of its listeners, releases those that are quiet, have gone or have an incident of
    /// their own by now, and ends it with the last.
    pub(super) fn follow_rolled(&mut self, now: Timestamp) {
        let Some(rolled) = &mut self.listeners.rolled else { return };
        let left = rolled.follow(now, &self.listeners.monitors, &self.mandate);
        let is_over = rolled.is_empty();
        let news = if is_over { None } else { rolled.incident.news(now) };
        for id in left {
            self.listeners.let_go(now, id, &self.rules);
        }
        if let Some(before) = news
            && let Some(report) = self.listeners.rolled_report(None, &self.rules)
        {
            self.alert_with(report, before);
        }
        if is_over {
            self.end_rolled(now);
        }
    }

    fn end_rolled(&mut self, now: Timestamp) {
        if let Some(rolled) = &mut self.listeners.rolled {
            rolled.note_count(now);
        }
        // The last of its listeners has been quiet for so long.
        let quiet = self.mandate.settings.common.quiet;
        let ended = now - quiet;
        let Some(report) = self.listeners.rolled_report(Some(ended), &self.rules) else { return };
        let Some(mut rolled) = self.listeners.rolled.take() else { return };
        // Where an incident goes on in which these rules acted, it asks for them by itself.
        let signatures = self.rules.harmless_signatures();
        if !signatures.is_empty() {
            let until = now + ALERT_WINDOW;
            for monitor in
                self.listeners.monitors.values_mut().filter(|monitor| monitor.shares_rules())
            {
                monitor.arm(until, signatures.clone());
            }
        }
        rolled.incident.release_rules(&RemovalReason::IncidentOver);
        self.rules.removal_reasons.append(&mut rolled.incident.removal_reasons);
        let why = EndReason::Quiet { for_s: quiet.as_secs() };
        self.archive.close(report, why, &mut self.outbox);
    }
}
