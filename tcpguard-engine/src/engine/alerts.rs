//! Alerts about incidents.

use super::Engine;
use crate::evidence::{IncidentClass, Severity};
use crate::incident::IncidentReport;
use crate::input::{ListenerId, Timestamp, percent, short, span};
use crate::output::{Command, story};

impl Engine {
    /// Reports incidents that have changed.
    pub(super) fn alert_news(&mut self, now: Timestamp) {
        let changed: Vec<(ListenerId, IncidentClass)> = self
            .monitors
            .values_mut()
            .filter_map(|monitor| Some((monitor.id, monitor.incident.as_deref_mut()?.news(now)?)))
            .collect();
        for (id, before) in changed {
            self.alert_incident(id, Some(before));
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
        self.commands.push_back(Command::Alert {
            severity: report.severity,
            event: news_event(before, report.class),
            message: story(&report, self.mode),
            prefix: None,
            incident: Some(Box::new(report)),
        });
    }

    pub(super) fn alert_end(&mut self, report: &IncidentReport, why: &str) {
        let lasted = span(report.ended.unwrap_or(report.started).since(report.started));
        let stopped = match report.syns {
            0 => 0.0,
            syns => report.dropped as f64 / syns as f64,
        };
        let counted = match report.class {
            IncidentClass::Reflection => format!("{} answers", short(report.syns as f64)),
            IncidentClass::Scan | IncidentClass::FlashCrowd | IncidentClass::ListenerOverload => {
                format!("{} SYNs", short(report.syns as f64))
            }
            IncidentClass::ClosedPorts | IncidentClass::Evasion => format!(
                "{} SYNs, {} of them dropped",
                short(report.syns as f64),
                percent(stopped.min(1.0))
            ),
            _ => {
                let answered = match report.cookies_sent {
                    0 => String::new(),
                    sent => format!(", {} answered with cookies", short(sent as f64)),
                };
                format!(
                    "{} SYNs, {} of them dropped{answered}; {} clients got in",
                    short(report.syns as f64),
                    percent(stopped.min(1.0)),
                    short(report.completed as f64)
                )
            }
        };
        self.commands.push_back(Command::Alert {
            severity: Severity::Notice,
            event: end_event(report.class),
            message: format!(
                "{} on {} ended after {lasted} ({why}): {counted}",
                report.class.in_words(),
                report.place(),
            ),
            prefix: None,
            incident: Some(Box::new(report.clone())),
        });
    }
}

/// The event that reports an incident which was last reported as `before`.
fn news_event(before: Option<IncidentClass>, class: IncidentClass) -> &'static str {
    let degraded = |class| class == IncidentClass::HandshakeDegraded;
    let other = |class: IncidentClass| !class.is_flood() && !degraded(class);
    match before {
        Some(before) if class.is_flood() && before.is_flood() => "attack_updated",
        _ if class.is_flood() => "attack_started",
        Some(before) if degraded(class) && degraded(before) => "handshakes_updated",
        _ if degraded(class) => "handshakes_degraded",
        Some(before) if other(before) => "incident_updated",
        _ => "incident_started",
    }
}

/// The event that reports its end.
pub(super) fn end_event(class: IncidentClass) -> &'static str {
    match class {
        IncidentClass::HandshakeDegraded => "handshakes_recovered",
        class if class.is_flood() => "attack_ended",
        _ => "incident_ended",
    }
}
