//! Incidents beside the open ones: their numbers, those that have ended, and those of an earlier run.

use std::collections::VecDeque;

use super::monitor::ListenerMonitor;
use super::outbox::Outbox;
use super::rule_book::RuleBook;
use crate::incident::{EndFacts, EndReason, Event, IncidentReport, retained};
use crate::input::Timestamp;
use crate::rules::RULE_TTL;
use crate::settings::Limits;

/// The record of incidents.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    /// The last number of an incident.
    last: u64,
    pub past: VecDeque<IncidentReport>,
    /// True if the caller keeps closed incidents.
    leaves_past: bool,
    /// Incidents that an earlier run left open, until their listeners are known.
    pub left_open: Vec<IncidentReport>,
}

impl Archive {
    /// Numbers new incidents from after `last` on.
    pub fn number_after(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    pub fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Leaves closed incidents to the caller.
    pub fn leave_past(&mut self) {
        self.leaves_past = true;
        self.past.clear();
    }

    /// The incident of a listener that an earlier run left open goes on, with the rules that were made for
    /// it and are still there.
    pub fn go_on(&mut self, now: Timestamp, monitor: &mut ListenerMonitor, rules: &RuleBook) {
        let here = |incident: &IncidentReport| incident.listener == monitor.listener;
        let Some(place) = self.left_open.iter().position(here) else { return };
        let report = self.left_open.remove(place);
        monitor.resume(now, &report);
        let Some(incident) = &mut monitor.incident else { return };
        let ttl = RULE_TTL;
        for entry in rules.table.orphans().filter(|entry| entry.incident() == Some(report.id)) {
            incident.want(entry.rule.matcher, entry.rule.reason.clone(), ttl);
        }
    }

    /// Ends the incidents of an earlier run whose listeners have gone.
    pub fn end_gone(&mut self, outbox: &mut Outbox) {
        for report in std::mem::take(&mut self.left_open) {
            self.end_left_open(report, EndReason::ListenerGone, outbox);
        }
    }

    /// Ends an incident of an earlier run with its last known state.
    pub fn end_left_open(&mut self, report: IncidentReport, why: EndReason, outbox: &mut Outbox) {
        let looked = report.record.at_last.map_or(report.detected, |moment| moment.at);
        let report = IncidentReport { ended: Some(looked.max(report.detected)), ..report };
        self.close(report, why, outbox);
    }

    /// Reports the end of an incident, and keeps it for reports, unless the caller keeps them.
    pub fn close(&mut self, report: IncidentReport, why: EndReason, outbox: &mut Outbox) {
        let event = Event::end(EndFacts::of(&report, why));
        outbox.alert(event, Some(report.clone()));
        if !self.leaves_past {
            self.past.push_front(report);
            let kept =
                retained(self.past.iter().map(IncidentReport::worth), Limits::PAST_INCIDENTS);
            self.past.retain(|past| kept.contains(&past.id));
        }
    }
}
