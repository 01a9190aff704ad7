//! Listeners that have an incident of their own: as many as are reported one by one, those at which the most
//! handshakes fail. The others are reported together, as one incident of the host.

use super::Engine;
use super::monitor::{ListenerMonitor, Suspect};
use super::rollup::Member;
use crate::evidence::{Assessment, VerdictLine};
use crate::incident::{EndReason, NOTIFY_GROWTH, Opening};
use crate::input::{ListenerId, Timestamp};
use crate::policy::SOURCES_PER_INCIDENT;
use crate::rules::RemovalReason;

/// Factor of failed handshakes over the listener with the fewest, from which that listener gives its slot
/// up. An incident is reported each time a slot changes hands, and this factor bounds how often. An attacker
/// that has a slot change hands again must send four times as much, which between 10 and a million SYN/s is
/// possible eight times. A rate that has grown as much is reported at once in any incident.
const MUCH: f64 = NOTIFY_GROWTH;

impl Engine {
    /// The number of a new incident at a listener, where there is a slot or another listener gives up its
    /// own; `None` where it is to be reported together with others. An incident of the host exists once for
    /// each class at most, and is always reported.
    pub(super) fn place(&mut self, now: Timestamp, id: ListenerId) -> Option<u64> {
        self.free_place().or_else(|| {
            let failing = self.monitors.get(&id)?.failed_rate();
            let (least, rate) = self.least_failing()?;
            if failing < MUCH * rate.max(1.0) {
                return None;
            }
            self.demote(now, least, id);
            self.free_place()
        })
    }

    /// The number of a new incident at a listener, where a slot is free.
    pub(super) fn free_place(&mut self) -> Option<u64> {
        let open = self.monitors.values().filter(|monitor| monitor.incident.is_some()).count();
        if open >= self.settings.common.incidents {
            return None;
        }
        self.incidents += 1;
        Some(self.incidents)
    }

    /// The listener with an incident of its own at which the fewest handshakes fail, and how many a second.
    fn least_failing(&self) -> Option<(ListenerId, f64)> {
        let rate = |monitor: &ListenerMonitor| match monitor.handshakes_failed() {
            true => monitor.failed_rate(),
            // Nothing is done about pressure, wherever it is reported.
            false => 0.0,
        };
        let open = self.monitors.values().filter(|monitor| monitor.incident.is_some());
        let rates = open.map(|monitor| (monitor.id, rate(monitor)));
        rates.min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// A listener is reported together with others from now on: `by` has its slot.
    fn demote(&mut self, now: Timestamp, id: ListenerId, by: ListenerId) {
        let by = self.monitors.get(&by).map(|monitor| monitor.listener);
        if let Some(monitor) = self.monitors.get_mut(&id) {
            let after = monitor.counts_now();
            monitor.incident.iter_mut().for_each(|incident| incident.keep_end(after));
        }
        let Some(report) = self.incident_report(id, Some(now)) else { return };
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let Some(mut incident) = monitor.incident.take() else { return };
        let signal = report.signal;
        let moment = monitor.moment(now);
        let suspect = Suspect { since: report.detected, from: report.started, signal, moment };
        let alarm = (!report.class.is_pressure()).then_some(suspect);
        let opening = Opening {
            id: 0,
            listener_id: id,
            listener: report.listener,
            signal,
            alarm: report.record.alarm.clone(),
            before: None,
            moment: Some(moment),
            started: now,
            detected: now,
            syns: 0,
            matched: 0,
            dropped: 0,
            completed: 0,
            baseline_completed: None,
            syn_rate: report.syn_rate,
        };
        let line = VerdictLine::earlier(report.class);
        let verdict = Assessment::of_counters(line, report.evidence.clone());
        self.removal_reasons.append(&mut incident.removal_reasons);
        self.roll_up(now, id, alarm, opening, &verdict);
        let Some(rolled) = &mut self.rolled else { return };
        // A rule that acts goes on acting, as far as an incident may have so many rules.
        let (number, most) = (rolled.incident.id(), SOURCES_PER_INCIDENT);
        for wanted in incident.take_wanted(0) {
            let matcher = wanted.matcher;
            if rolled.incident.take_over(wanted, most) {
                self.rule_table.hand_over(&matcher, number);
            } else {
                self.removal_reasons.insert(matcher, RemovalReason::Merged);
            }
        }
        if incident.takes_unreported() {
            self.alert_with(report.clone(), None);
        }
        self.alert_end(&report, EndReason::Merged { into: number, by });
        self.keep(report);
    }

    /// Gives those listeners an incident of their own for which there is a slot by now: those with most
    /// failed handshakes first. `verdict` is the verdict on one of them.
    pub(super) fn fill_places(
        &mut self,
        now: Timestamp,
        verdict: impl Fn(&Self, ListenerId) -> Option<Assessment>,
    ) {
        let Some(rolled) = &self.rolled else { return };
        let failing = rolled.failing().filter_map(|id| self.monitors.get(&id));
        let mut ranked: Vec<(f64, ListenerId)> =
            failing.map(|monitor| (monitor.failed_rate(), monitor.id)).collect();
        ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        for (rate, id) in ranked {
            let Some(verdict) = (rate > 0.0).then(|| verdict(self, id)).flatten() else { continue };
            let Some(number) = self.place(now, id) else { return };
            let alarm = self.rolled.as_mut().and_then(|rolled| rolled.remove(id));
            let Some(Member { alarm: Some(alarm), .. }) = alarm else { continue };
            let Some(monitor) = self.monitors.get_mut(&id) else { continue };
            monitor.rolled = None;
            // The time before is reported elsewhere.
            let alarm = Suspect { since: now, from: now, ..alarm };
            let settings = &self.settings.common;
            let opening = monitor.opening(number, &alarm, &verdict.evidence, settings);
            self.open(now, id, opening, &verdict);
        }
    }
}
