//! One listener's failed handshakes by its flows, and the verdict on them.

use std::time::Duration;

use super::Listeners;
use super::together::TOGETHER;
use crate::engine::mandate::Mandate;
use crate::evidence::{
    AlarmTest, Assessment, Background, Checks, Cohort, DISTINCT_MIN, EVIDENCE_FLOWS, Evidence,
    FailingClients, IncidentClass, Missing, Novelty, Outcomes, Reach, Surge, assess,
    flash_crowd_line, overload_line,
};
use crate::input::{Flow, FlowState, ListenerId, Timestamp, ValidatedClients, constants};
use crate::listener::{PressureKind, Signal};

constants! {
    /// Time after the alarm by which an incident is raised with the evidence so far.
    pub(crate) const EVIDENCE_PATIENCE: Duration = 1000 Milliseconds in 1000..=10_000,
        "Weighed against a late report: a flood of 32 SYN/s has shown enough by then.";
}

/// Evidence is refined only this long after a disturbance: in a flood's pauses the failed flows are the normally
/// lost clients, and would speak for them.
const DISTURBED: Duration = Duration::from_secs(1);
/// Time since the beginning of an incident from which its counters yield the failed share.
pub const COUNTED: Duration = Duration::from_secs(1);

/// Time that the first verdict may wait for other listeners to be judged with, where few handshakes fail: a
/// flood of many listeners raises its alarms one after the other.
pub const GATHERING: Duration = Duration::from_secs(2);

/// The failed handshakes of a listener, by its flows.
pub struct Inspection {
    pub id: ListenerId,
    pub cohort: Cohort,
    /// True if these flows are enough for a verdict, or more of them were waited for long enough.
    pub ready: bool,
    /// The verdict on these flows alone, where they are enough and are no flood.
    pub own: Option<Assessment>,
}

impl Inspection {
    /// Returns whether few enough handshakes fail at a listener that its own say little.
    pub fn is_thin(&self) -> bool {
        !self.ready || self.cohort.failing.len() < 2 * DISTINCT_MIN
    }
}

impl Listeners {
    /// Inspects one listener's flows: for failed handshakes, or to learn from them.
    pub fn inspect(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        flows: impl Iterator<Item = Flow> + Clone,
        mandate: &Mandate,
    ) -> Option<Inspection> {
        let monitor = self.monitors.get_mut(&id)?;
        if !monitor.is_suspicious() {
            monitor.clients.learn(now, flows);
            return None;
        }
        let failed = monitor.handshakes_failed();
        if monitor.suspect.is_none() && !failed {
            return None;
        }
        let settings = &mandate.settings.common;
        let rtt = monitor.rtt();
        let mature = monitor.clients.patience(now, flows.clone(), rtt);
        if let Some(suspect) = monitor.suspect.filter(|suspect| suspect.signal == Signal::Slow) {
            let outcomes = Outcomes::gather(now, flows.clone(), suspect.from, mature, settings);
            let patience = match outcomes.test(monitor.natural_share()) {
                AlarmTest::Confirmed => None,
                AlarmTest::TooFew => Some(patience(suspect.signal)),
                AlarmTest::Refuted => Some(EVIDENCE_PATIENCE * 2),
            };
            if let Some(patience) = patience {
                if now.since(suspect.since) >= patience {
                    monitor.dismiss();
                }
                return None;
            }
        }
        let waiting = |flow: &Flow| flow.state == FlowState::Acknowledged;
        let waiting = flows.clone().filter(waiting).count() >= EVIDENCE_FLOWS;
        let mut cohort = Cohort::gather(now, flows, rtt, mature, monitor.onset);
        let checks = Checks::among(&cohort);
        monitor.note_checks(checks.rate);
        if !checks.is_empty() {
            // Handshakes that the same sources leave open take slots of the queue, so they stay.
            cohort = cohort.without(|flow| flow.reset && checks.has(flow.source()));
            if !failed && cohort.failing.len() < EVIDENCE_FLOWS {
                monitor.dismiss();
                return None;
            }
        }
        if let Some(incident) = &mut monitor.incident {
            incident.admitted.note(now, &cohort.completed);
            cohort.admitted.clone_from(&incident.admitted);
        }
        let enough = cohort.failing.len() >= EVIDENCE_FLOWS;
        // A listener that wants data before it takes a connection (`TCP_DEFER_ACCEPT`) has idle clients.
        if !failed && !enough && waiting {
            monitor.dismiss();
            return None;
        }
        if failed && monitor.quiet(now) > DISTURBED {
            return None;
        }
        let ready = enough || !failed && self.is_overdue(now, id);
        Some(Inspection { id, cohort, ready, own: None })
    }

    /// Returns whether a suspicion is of handshakes that their own sources reset, and of no flood of them: these
    /// hold no slot, and count as health checks.
    pub fn is_harmless(
        &mut self,
        now: Timestamp,
        inspection: &Inspection,
        verdict: &Assessment,
    ) -> bool {
        let Some(monitor) = self.monitors.get_mut(&inspection.id) else { return false };
        let refused = inspection.cohort.is_refused(monitor.natural_share(), EVIDENCE_FLOWS);
        if !refused || verdict.class != IncidentClass::HandshakeDegraded {
            return false;
        }
        monitor.note_scans(inspection.cohort.reset_rate());
        let suspect = monitor.suspect.filter(|_| !monitor.handshakes_failed());
        let overdue = suspect.map(|suspect| now.since(suspect.since) >= patience(suspect.signal));
        if overdue == Some(true) {
            monitor.dismiss();
        }
        overdue.is_some()
    }

    /// The verdict on a cohort, completed by the counters.
    pub fn assess(
        &self,
        id: ListenerId,
        cohort: &Cohort,
        clients: Option<&dyn ValidatedClients>,
    ) -> Assessment {
        let monitor = &self.monitors[&id];
        let sums = monitor.recent(self.now);
        let counted = monitor.incident.is_some() && sums.span >= COUNTED;
        let failed_share = counted.then(|| sums.failures() as f64 / sums.attempts.max(1) as f64);
        let natural_share = monitor.natural_share();
        let novelty = Novelty::of(cohort, &self.networks, natural_share);
        let surge = Surge::of(&monitor.window.seconds(self.now), monitor.baseline());
        let clients_missing = Missing::of(&sums, monitor.baseline_completed());
        let failing_clients = clients.map(|validated| {
            FailingClients::of(cohort, &monitor.clients, validated, &sums, monitor.baseline())
        });
        let failing_clients = failing_clients.unwrap_or_default();
        let reach = Reach::of(cohort, monitor.routes(self.now), DISTINCT_MIN);
        let background = Background {
            natural_share,
            failed_share,
            novelty,
            surge,
            clients_missing,
            failing_clients,
            reach,
        };
        let assessment = assess(cohort, &monitor.clients, background);
        self.at(id, assessment)
    }

    /// A verdict on flows, completed by the counters of the listener.
    pub fn at(&self, id: ListenerId, mut assessment: Assessment) -> Assessment {
        let monitor = &self.monitors[&id];
        let sums = monitor.recent(self.now);
        let evidence = &mut assessment.evidence;
        if sums.attempts > 0 {
            evidence.completion = (sums.completed as f64 / sums.attempts as f64).min(1.0);
        }
        if let Some((sources, syns_per_source)) = monitor.sources() {
            evidence.sources_estimate = sources;
            evidence.syns_per_source = syns_per_source;
        }
        // Handshakes that the application does not take up fail as if the path were broken.
        if assessment.class == IncidentClass::HandshakeDegraded && monitor.overloaded() {
            assessment.overrule(overload_line());
        }
        assessment.moment = Some(monitor.moment(self.now));
        if self.one_sided || monitor.is_unsure() {
            assessment.evidence.replies_unseen = true;
        }
        assessment
    }

    /// Forgets an alarm that the flows do not confirm.
    pub fn dismiss(&mut self, id: ListenerId) {
        if let Some(monitor) = self.monitors.get_mut(&id) {
            monitor.dismiss();
        }
    }

    /// Returns whether an alarm has waited for more evidence long enough.
    pub fn is_overdue(&self, now: Timestamp, id: ListenerId) -> bool {
        let suspect = self.monitors.get(&id).and_then(|monitor| monitor.suspect);
        let patience = EVIDENCE_PATIENCE;
        suspect.is_some_and(|suspect| now.since(suspect.since) >= patience)
    }

    /// Returns whether a verdict may wait for more evidence.
    pub fn may_wait(&self, now: Timestamp, id: ListenerId) -> bool {
        let suspect = self.monitors.get(&id).and_then(|monitor| monitor.suspect);
        suspect.is_none_or(|suspect| now.since(suspect.since) < patience(suspect.signal))
    }

    /// Returns whether the first verdict on a listener at which little fails waits for others to be judged with.
    /// Cookies do not wait for it.
    pub fn awaits_others(&mut self, now: Timestamp, inspection: &Inspection) -> bool {
        if !self.monitors.has_at_least(TOGETHER) || !inspection.is_thin() {
            return false;
        }
        let Some(monitor) = self.monitors.get_mut(&inspection.id) else { return false };
        let is_young = monitor.suspect.is_some_and(|suspect| now.since(suspect.since) < GATHERING);
        monitor.awaits_others = is_young && !monitor.handshakes_failed();
        monitor.awaits_others
    }

    pub fn assess_pressure(&self, id: ListenerId, pressure_kind: PressureKind) -> Assessment {
        let monitor = &self.monitors[&id];
        let completion = monitor.completion().unwrap_or(0.0);
        let (sources_estimate, syns_per_source) = monitor.sources().unwrap_or_default();
        let evidence = Evidence {
            completion,
            sources_estimate,
            syns_per_source,
            baseline_syn_rate: monitor.baseline_syn_rate(),
            ..Evidence::default()
        };
        let line = match pressure_kind {
            PressureKind::Overload => overload_line(),
            PressureKind::FlashCrowd => flash_crowd_line(&evidence, monitor.syn_rate()),
        };
        let mut assessment = Assessment::of_counters(line, evidence);
        assessment.moment = Some(monitor.moment(self.now));
        assessment
    }
}

/// Returns the time that an alarm waits for flows. One of the slow path is given ten times as long: it may
/// rest on few failures, and without flows it says nothing.
pub fn patience(signal: Signal) -> Duration {
    match signal {
        Signal::Slow => EVIDENCE_PATIENCE * 10,
        _ => EVIDENCE_PATIENCE,
    }
}
