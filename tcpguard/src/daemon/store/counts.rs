//! Counters of the events in alerts since the agent started. Alerts are remembered for a day, while these counters only
//! rise.

use std::collections::BTreeMap;

use tcpguard_engine::IncidentClass;

use crate::documents::{Counts as Document, IncidentCount};
use crate::telemetry::Alert;

/// Events that report an incident for the first time.
const BEGINNINGS: [&str; 3] = ["attack_started", "handshakes_degraded", "incident_started"];

#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Counts {
    incidents: BTreeMap<&'static str, (IncidentClass, u64)>,
    reloads_applied: u64,
    reloads_refused: u64,
}

impl Counts {
    /// Counts the event of `alert`.
    pub(in crate::daemon) fn note(&mut self, alert: &Alert) {
        match (alert.event.name(), &alert.incident) {
            (event, Some(incident)) if BEGINNINGS.contains(&event) => {
                let class = incident.class;
                self.incidents.entry(class.name()).or_insert((class, 0)).1 += 1;
            }
            ("config_reloaded", _) => self.reloads_applied += 1,
            ("config_refused", _) => self.reloads_refused += 1,
            _ => {}
        }
    }

    /// The counters as the status shows them.
    pub(in crate::daemon) fn document(&self) -> Document {
        let attack = |&(class, count): &(IncidentClass, u64)| IncidentCount {
            class,
            severity: class.severity(),
            count,
        };
        Document {
            incidents: self.incidents.values().map(attack).collect(),
            reloads_applied: self.reloads_applied,
            reloads_refused: self.reloads_refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Severity;

    use super::*;
    use crate::documents::AlertEvent;

    fn alert(event: &str) -> Alert {
        Alert {
            severity: Severity::Notice,
            event: AlertEvent::Unknown { event: event.to_owned() },
            message: String::new(),
            incident: None,
        }
    }

    #[test]
    fn only_what_begins_or_is_asked_for_counts() {
        let mut counts = Counts::default();
        for event in ["config_reloaded", "config_refused", "config_reloaded", "mode_changed"] {
            counts.note(&alert(event));
        }
        // Without its incident its class is unknown.
        counts.note(&alert("attack_started"));
        let found = counts.document();
        assert_eq!((found.reloads_applied, found.reloads_refused), (2, 1));
        assert_eq!(found.incidents, []);
    }
}
