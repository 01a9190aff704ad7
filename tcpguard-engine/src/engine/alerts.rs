//! Alerts about incidents.

use super::Engine;
use super::listeners::active_rules;
use super::monitor::ListenerMonitor;
use crate::evidence::IncidentClass;
use crate::incident::{Event, IncidentReport};
use crate::input::{ListenerId, Timestamp};

impl Engine {
    /// Reports incidents that have changed.
    pub(super) fn alert_news(&mut self, now: Timestamp) {
        let changed: Vec<(ListenerId, Option<IncidentClass>)> = self
            .listeners
            .monitors
            .values_mut()
            .filter_map(|monitor| Some((monitor.id, monitor.incident.as_deref_mut()?.news(now)?)))
            .collect();
        for (id, before) in changed {
            self.alert_incident(id, before);
        }
    }

    /// Reports a listener's incident, which was last reported as `before`.
    pub(super) fn alert_incident(&mut self, id: ListenerId, before: Option<IncidentClass>) {
        if let Some(report) = self.incident_report(id, None) {
            self.alert_with(report, before);
        }
    }

    /// Reports an open incident, which was last reported as `before`.
    pub(super) fn alert_with(&mut self, report: IncidentReport, before: Option<IncidentClass>) {
        let event = Event::news(before, self.mandate.facts(&report));
        self.outbox.alert(event, Some(report));
    }

    /// Reports an event about a rule, and the incident for which it was made.
    pub(super) fn alert_rule(&mut self, event: Event, incident: Option<u64>) {
        if let Some(id) = incident
            && let Some(open) = self.listeners.open_incident(id)
        {
            open.note_actions_notified();
        }
        let incident = incident.and_then(|id| self.open_report(id));
        self.outbox.alert(event, incident);
    }

    /// Raises an alert about a listener, and notes it at its incident.
    pub(super) fn alert_at(&mut self, now: Timestamp, id: ListenerId, event: Event) {
        self.listeners.note_at(now, id, event.clone());
        let incident = self.report_at(id);
        self.outbox.alert(event, incident);
    }

    /// The open incident with this number, as it is now.
    fn open_report(&self, id: u64) -> Option<IncidentReport> {
        if self.listeners.rolled.as_ref().is_some_and(|rolled| rolled.incident.id() == id) {
            return self.listeners.rolled_report(None, &self.rules);
        }
        let is_it =
            |one: &&ListenerMonitor| one.incident.as_deref().is_some_and(|open| open.id() == id);
        self.incident_report(self.listeners.monitors.values().find(is_it)?.id, None)
    }

    /// The incident in which a listener is reported, as it is now.
    fn report_at(&self, id: ListenerId) -> Option<IncidentReport> {
        match self.listeners.is_rolled(id) {
            true => self.listeners.rolled_report(None, &self.rules),
            false => self.incident_report(id, None),
        }
    }

    /// The open incident of a listener; with an end, as it was then.
    pub(super) fn incident_report(
        &self,
        id: ListenerId,
        ended: Option<Timestamp>,
    ) -> Option<IncidentReport> {
        let listeners = &self.listeners;
        let monitor = listeners.monitors.get(&id)?;
        let incident = monitor.incident.as_deref()?;
        let rules = active_rules(monitor, &self.rules.table);
        let rules = rules.map(|entry| listeners.rule_report(listeners.now, entry)).collect();
        let lasts = monitor.over_for(listeners.now);
        let quiet = self.mandate.quiet(listeners.now, lasts).filter(|_| ended.is_none());
        Some(IncidentReport { quiet, ..incident.report(rules, ended) })
    }
}
