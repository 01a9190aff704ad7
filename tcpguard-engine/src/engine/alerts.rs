//! Alerts about incidents.

use super::Engine;
use crate::evidence::{IncidentClass, Severity};
use crate::incident::{EndFacts, EndReason, Event, IncidentFacts, IncidentReport};
use crate::input::{ListenerId, Timestamp};
use crate::output::Command;

impl Engine {
    /// Reports incidents that have changed.
    pub(super) fn alert_news(&mut self, now: Timestamp) {
        let changed: Vec<(ListenerId, Option<IncidentClass>)> = self
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
        let event = Event::news(before, IncidentFacts::of(&report, self.mode));
        self.alert(report.severity, event, Some(report));
    }

    /// Reports the end of an incident.
    pub(super) fn alert_end(&mut self, report: &IncidentReport, why: EndReason) {
        let event = Event::end(EndFacts::of(report, why));
        self.alert(Severity::Notice, event, Some(report.clone()));
    }

    /// Reports an event, with the incident that it belongs to.
    pub(super) fn alert(
        &mut self,
        severity: Severity,
        event: Event,
        incident: Option<IncidentReport>,
    ) {
        let incident = incident.map(Box::new);
        self.commands.push_back(Command::Alert { severity, event, incident });
    }
}
