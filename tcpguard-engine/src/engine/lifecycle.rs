//! From alarm to incident, and from incident to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use crate::evidence::{Assessment, Cohort, assess};
use crate::incident::Incident;
use crate::policy::{Grounds, consider};
use crate::words::{percent, short, span, story};
use crate::{
    Command, Flow, IncidentClass, IncidentReport, KnownClients, Limits, ListenerId, Matcher,
    Sample, Severity, Timestamp,
};

/// Evidence is refined only this long after a disturbance: in a flood's pauses the failing flows
/// are the usual lost clients, and would speak for them.
const DISTURBED: Duration = Duration::from_secs(1);

impl Engine {
    /// Looks at one listener's flows: opens an incident, refines it, or learns.
    pub(super) fn inspect(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        flows: &[&Flow],
        known: &dyn KnownClients,
    ) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if !watch.is_suspicious() {
            watch.clients.learn(now, flows);
            return;
        }
        if watch.suspect.is_none() && watch.incident.is_none() {
            return;
        }
        let rtt = watch.rtt(&self.settings);
        let cohort = Cohort::gather(now, flows, rtt, &self.settings);
        let enough = cohort.failing.len() >= self.settings.evidence_flows;
        if watch.incident.is_some() {
            if !enough || watch.quiet(now) > DISTURBED {
                return;
            }
        } else if !enough && !self.is_overdue(now, id) {
            return;
        }
        let assessment = self.assess(id, &cohort);
        self.open_or_refine(now, id, &assessment);
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let Some(incident) = &mut watch.incident else { return };
        let grounds = Grounds {
            listener: id,
            cohort: &cohort,
            assessment: &assessment,
            clients: &watch.clients,
            known,
            protected: &self.protected,
            recurrence: &self.recurrence,
            unanswering: watch.window.last(DISTURBED).is_unanswered(),
            remembered: watch.armed.as_ref().map_or(&[], |armed| &armed.signatures),
            settings: &self.settings,
        };
        consider(now, incident, &grounds);
    }

    /// The verdict on a cohort, completed by what the counters say.
    fn assess(&self, id: ListenerId, cohort: &Cohort) -> Assessment {
        let watch = &self.watches[&id];
        let mut assessment = assess(cohort, &watch.clients, &self.settings);
        let evidence = &mut assessment.evidence;
        let sums = watch.recent(self.now, &self.settings);
        if sums.attempts > 0 {
            evidence.completion = (sums.completed as f64 / sums.attempts as f64).min(1.0);
        }
        if let Some((sources, syns_per_source)) = watch.sources() {
            evidence.sources_estimate = sources;
            evidence.syns_per_source = syns_per_source;
        }
        evidence.half_open = watch.half_open();
        assessment
    }

    /// Whether an alarm has waited for evidence long enough.
    fn is_overdue(&self, now: Timestamp, id: ListenerId) -> bool {
        let suspect = self.watches.get(&id).and_then(|watch| watch.suspect);
        suspect.is_some_and(|suspect| now.since(suspect.since) >= self.settings.evidence_patience)
    }

    /// Opens incidents for alarms for which no flows have come: with what is known, which is that
    /// handshakes fail.
    pub(super) fn open_overdue(&mut self, now: Timestamp) {
        let late = self.settings.evidence_patience + self.settings.poll;
        let overdue: Vec<ListenerId> = self
            .watches
            .values()
            .filter(|watch| watch.suspect.is_some_and(|suspect| now.since(suspect.since) > late))
            .map(|watch| watch.id)
            .collect();
        for id in overdue {
            let assessment = self.assess(id, &Cohort::default());
            self.open_or_refine(now, id, &assessment);
        }
    }

    fn open_or_refine(&mut self, now: Timestamp, id: ListenerId, assessment: &Assessment) {
        let open = self.watches.values().filter(|watch| watch.incident.is_some()).count();
        let number = self.incidents + 1;
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if let Some(incident) = &mut watch.incident {
            incident.refine(now, assessment);
            return;
        }
        let Some(suspect) = watch.suspect.take() else { return };
        if open >= self.settings.incidents {
            self.tell_of_crowd(open);
            return;
        }
        let opening = watch.opening(number, &suspect);
        watch.incident = Some(Incident::open(now, opening, assessment));
        self.incidents = number;
        self.tell_of_incident(id, None);
    }

    /// One alert for all that is too much to follow.
    fn tell_of_crowd(&mut self, open: usize) {
        if !self.crowded {
            self.crowded = true;
            self.commands.push_back(Command::Alert {
                severity: Severity::Critical,
                event: "too_many_incidents",
                message: format!(
                    "{open} incidents are open, further alarms are not followed up: look at the \
                     whole host's SYN rate: tcpguard status"
                ),
                incident: None,
            });
        }
    }

    /// Tells of incidents that have changed.
    pub(super) fn tell_news(&mut self, now: Timestamp) {
        let changed: Vec<(ListenerId, IncidentClass)> = self
            .watches
            .values_mut()
            .filter_map(|watch| {
                let syn_rate = watch.syn_rate();
                Some((watch.id, watch.incident.as_mut()?.news(now, syn_rate)?))
            })
            .collect();
        for (id, before) in changed {
            self.tell_of_incident(id, Some(before));
        }
    }

    /// Tells of an incident, which was last said to be `before`.
    fn tell_of_incident(&mut self, id: ListenerId, before: Option<IncidentClass>) {
        let Some(watch) = self.watches.get(&id) else { return };
        let Some(incident) = &watch.incident else { return };
        let event = match (before, incident.class()) {
            (Some(IncidentClass::HandshakeDegraded), IncidentClass::HandshakeDegraded) => {
                "handshakes_updated"
            }
            (_, IncidentClass::HandshakeDegraded) => "handshakes_degraded",
            (None | Some(IncidentClass::HandshakeDegraded), _) => "attack_started",
            (Some(_), _) => "attack_updated",
        };
        let message = story(
            incident.class(),
            &watch.listener,
            watch.syn_rate(),
            incident.evidence(),
            self.mode,
        );
        let alert = Command::Alert {
            severity: incident.severity(),
            event,
            message,
            incident: self.incident_report(id, None).map(Box::new),
        };
        self.commands.push_back(alert);
    }

    /// Ends the incidents that have been quiet for long enough.
    pub(super) fn end_quiet_incidents(&mut self, now: Timestamp) {
        let quiet: Vec<ListenerId> = self
            .watches
            .values()
            .filter(|watch| watch.incident.is_some() && watch.quiet(now) >= self.settings.quiet)
            .map(|watch| watch.id)
            .collect();
        for id in quiet {
            let why = format!("quiet for {}", span(self.settings.quiet));
            self.end(now, id, &why);
        }
    }

    /// Ends an incident. Its rules go with it, and the listener stays alert for a while.
    fn end(&mut self, now: Timestamp, id: ListenerId, why: &str) {
        let harmless = |matcher: &Matcher| {
            self.book.find(matcher).is_some_and(|entry| entry.meter.returned() == 0)
        };
        let Some(report) = self.incident_report(id, Some(now)) else { return };
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let Some(mut incident) = watch.incident.take() else { return };
        watch.settle();
        if incident.is_attack() {
            let signatures = incident.signatures().filter(|&(mask, fingerprint)| {
                harmless(&Matcher::Signature { listener: id, mask, fingerprint })
            });
            watch.arm(now + self.settings.armed, signatures.collect());
        }
        self.crowded = false;
        incident.release_rules(why);
        self.farewells.append(&mut incident.farewells);
        self.tell_of_end(&incident, &report, why);
        self.past.push_front(report);
        self.past.truncate(Limits::PAST_INCIDENTS);
    }

    fn tell_of_end(&mut self, incident: &Incident, report: &IncidentReport, why: &str) {
        let lasted = span(report.ended.unwrap_or(report.started).since(report.started));
        let stopped = match report.syns {
            0 => 0.0,
            syns => report.dropped as f64 / syns as f64,
        };
        let event = if incident.is_attack() { "attack_ended" } else { "handshakes_recovered" };
        self.commands.push_back(Command::Alert {
            severity: Severity::Notice,
            event,
            message: format!(
                "{} on {} ended after {lasted} ({why}): {} SYNs, {} of them dropped",
                report.class.in_words(),
                report.listener,
                short(report.syns as f64),
                percent(stopped.min(1.0)),
            ),
            incident: Some(Box::new(report.clone())),
        });
    }

    /// Stops following listeners that have gone.
    pub(super) fn drop_missing(&mut self, now: Timestamp, sample: &Sample) {
        let here: BTreeSet<ListenerId> =
            sample.listeners.iter().map(|listener| listener.id).collect();
        let gone: Vec<ListenerId> =
            self.watches.keys().filter(|id| !here.contains(id)).copied().collect();
        for id in gone {
            self.end(now, id, "nothing listens there any more");
            self.watches.remove(&id);
        }
    }
}
