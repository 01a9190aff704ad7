//! Lifecycle of an incident: from the alarm to its opening, and from there to its end.

use std::time::Duration;

use super::Engine;
use super::asking::ask_for_rules;
use super::held_back::{idle, why};
use super::mitigations::{ruled_since, without_mitigation};
use super::monitor::{ALERT_WINDOW, ListenerMonitor};
use super::together::{Pool, TOGETHER};
use crate::evidence::{
    AlarmTest, Assessment, Background, Checks, Cohort, DISTINCT_MIN, EVIDENCE_FLOWS, Failing,
    FailingClients, IncidentClass, Missing, Novelty, Outcomes, Reach, Surge, assess, overload_line,
};
use crate::incident::{EndReason, Incident, IncidentReport, Opening, RestraintReason, retained};
use crate::input::{
    Flow, FlowState, ListenerId, Matcher, Mitigation, POLL, Sample, Timestamp, ValidatedClients,
    constants,
};
use crate::listener::Signal;
use crate::output::Command;
use crate::policy::{Grounds, Residual};
use crate::rules::RemovalReason;
use crate::settings::Limits;

constants! {
    /// Time after the alarm by which an incident is raised with the evidence so far.
    pub(crate) const EVIDENCE_PATIENCE: Duration = 1000 Milliseconds in 1000..=10_000,
        "Weighed against a late report: a flood of 32 SYN/s has shown enough by then.";
}

/// Evidence is refined only this long after a disturbance: in a flood's pauses the failed flows are the normally
/// lost clients, and would speak for them.
const DISTURBED: Duration = Duration::from_secs(1);
/// Time since the beginning of an incident from which its counters yield the failed share.
pub(super) const COUNTED: Duration = Duration::from_secs(1);
/// An incident ends only after this delay, so that handshakes of the last moment of a quiet time are judged.
/// Where no queue can be read, SYNs without a reply count once clients would have retransmitted them, after
/// 1.5 s.
const GIVEN: Duration = Duration::from_secs(2);

/// Time that the first verdict may wait for other listeners to be judged with, where few handshakes fail: a
/// flood of many listeners raises its alarms one after the other.
const GATHERING: Duration = Duration::from_secs(2);
/// Time that a rule for one listener waits for a rule for every listener. Where there are more listeners than
/// incidents of their own, one rule may drop a flood at all of them. The rule for one listener still comes
/// earlier than the mitigations that keep clients waiting.
const SHARING: Duration = Duration::from_secs(1);

/// The failed handshakes of a listener, by its flows.
pub(super) struct Inspection {
    pub id: ListenerId,
    pub cohort: Cohort,
    /// True if these flows are enough for a verdict, or more of them were waited for long enough.
    ready: bool,
    /// The verdict on these flows alone, where they are enough and are no flood.
    pub own: Option<Assessment>,
}

/// The verdict on a [`Inspection`].
pub(super) struct Judged {
    all: Assessment,
    /// The same without the flows that their clients reset, where there are any: they hold no slot in a queue, and
    /// are no reason for a rule.
    holding: Option<(Cohort, Assessment)>,
    /// True if it is the verdict on the failed handshakes of several listeners.
    is_shared: bool,
}

impl Engine {
    /// Inspects one listener's flows: for failed handshakes, or to learn from them.
    pub(super) fn inspect(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        flows: impl Iterator<Item = Flow> + Clone,
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
        let settings = &self.settings.common;
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

    /// Returns whether few enough handshakes fail at a listener that its own say little.
    pub(super) fn is_thin(&self, inspection: &Inspection) -> bool {
        !inspection.ready || inspection.cohort.failing.len() < 2 * DISTINCT_MIN
    }

    /// The verdict on a listener's failed handshakes: opens an incident, or refines it. `pool` is the
    /// failed handshakes there and elsewhere, if they were judged together. It speaks for a listener where
    /// its flows are like the others.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        inspection: &Inspection,
        pool: Option<&Pool>,
        validated: &dyn ValidatedClients,
    ) -> Option<Judged> {
        let (id, cohort) = (inspection.id, &inspection.cohort);
        let speaks = pool.map(|pool| pool.speaks_for(cohort));
        // A likely part of the pool is not given another class first.
        if speaks == Some(None) && inspection.own.is_none() && self.may_wait(now, id) {
            return None;
        }
        let pool = pool.filter(|_| speaks == Some(Some(true)));
        let all = match (pool, &inspection.own) {
            (Some(pool), _) => self.at(id, pool.all.clone()),
            (None, Some(own)) => own.clone(),
            (None, None) if inspection.ready => {
                let all = self.assess(id, cohort, Some(validated));
                if speaks.is_none() && !all.class.is_flood() && self.awaits_others(now, inspection)
                {
                    return None;
                }
                all
            }
            (None, None) => return None,
        };
        self.conclude(now, inspection, all, pool, validated)
    }

    /// Opens or refines the incident of a listener by the verdict on `all` that fails there.
    pub(super) fn conclude(
        &mut self,
        now: Timestamp,
        inspection: &Inspection,
        all: Assessment,
        pool: Option<&Pool>,
        validated: &dyn ValidatedClients,
    ) -> Option<Judged> {
        let (id, cohort) = (inspection.id, &inspection.cohort);
        if self.is_harmless(now, inspection, &all) {
            return None;
        }
        self.open_or_refine(now, id, &all);
        self.hand_over(id);
        let holding = cohort.has_resets().then(|| {
            let holding = cohort.without(|flow| flow.reset);
            let assessment = match pool {
                Some(pool) => self.at(id, pool.holding().clone()),
                None => self.assess(id, &holding, Some(validated)),
            };
            (holding, assessment)
        });
        Some(Judged { all, holding, is_shared: pool.is_some() })
    }

    /// Returns whether a suspicion is of handshakes that their own sources reset, and of no flood of them: these
    /// hold no slot, and count as health checks.
    fn is_harmless(
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

    /// Asks for the rules that a listener's incident calls for, beside those that are for every listener.
    pub(super) fn act(
        &mut self,
        now: Timestamp,
        inspection: &Inspection,
        judged: Judged,
        validated: &dyn ValidatedClients,
    ) {
        let (id, cohort) = (inspection.id, &inspection.cohort);
        let Judged { all, holding, is_shared: of_several } = judged;
        let shared = self.signatures_shared_by(id);
        let is_shared =
            |flow: &Failing| shared.iter().any(|(mask, print)| flow.print.masked(*mask) == *print);
        let holding = match cohort.failing.iter().any(is_shared) {
            true => {
                let left = cohort.without(|flow| flow.reset || is_shared(flow));
                let assessment = self.assess(id, &left, Some(validated));
                Some((left, assessment))
            }
            false => holding,
        };
        let inherited = self.orphaned();
        let many = self.monitors.has_at_least(self.settings.common.incidents + 1);
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let settings = &self.settings.common;
        let mode = self.settings.mode(monitor.listener, self.mode);
        let (held_back, unsure) = (why(mode, self.mode), monitor.is_unsure());
        let (unanswering, waits) = (monitor.is_unanswering(), monitor.waits_for_routes());
        let unanswerable = monitor.is_unanswerable(now, self.enforced, mode);
        let Some(incident) = &mut monitor.incident else { return };
        let shares = of_several && many && monitor.alert_window.is_none();
        let waits = waits || shares && now.since(incident.detected()) < SHARING;
        let grounds = Grounds {
            now,
            listener: id,
            port: monitor.listener.port,
            cohort: holding.as_ref().map_or(cohort, |(holding, _)| holding),
            assessment: holding.as_ref().map_or(&all, |(_, assessment)| assessment),
            clients: &monitor.clients,
            validated,
            exempt: &self.exempt,
            held_back,
            unsure,
            recurrence: &self.recurrence,
            inherited: &inherited,
            unanswering,
            unanswerable,
            source_forbidden: monitor.ladder.forbids_rules(now, Mitigation::Source),
            signature_forbidden: monitor.ladder.forbids_rules(now, Mitigation::Signature),
            hints: &self.hints,
            remembered: monitor
                .alert_window
                .as_ref()
                .map_or(&[], |alert_window| &alert_window.signatures),
            settings,
        };
        let no_rule = ask_for_rules(incident, &grounds, &all, waits);
        monitor.residual =
            Some(Residual::of(cohort, |flow| incident.covers(flow) || is_shared(flow)));
        let class = incident.class();
        let is_covered = !shared.is_empty() && monitor.shares_rules();
        let no_rule = no_rule.filter(|_| !is_covered);
        let ruled = ruled_since(monitor, &self.rule_table);
        let idle = idle(Mitigation::Cookies, mode, self.mode);
        let no_mitigation = without_mitigation(class, monitor, now, ruled, idle);
        if let Some(incident) = &mut monitor.incident {
            let held_back = held_back.filter(|_| class.is_flood());
            let held_back = held_back.map(|by| RestraintReason::HeldBack { by }.into());
            incident.note_restraint(no_rule.or(held_back), no_mitigation);
        }
    }

    /// The verdict on a cohort, completed by the counters.
    pub(super) fn assess(
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
    pub(super) fn at(&self, id: ListenerId, mut assessment: Assessment) -> Assessment {
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
    fn dismiss(&mut self, id: ListenerId) {
        if let Some(monitor) = self.monitors.get_mut(&id) {
            monitor.dismiss();
        }
    }

    /// Returns whether an alarm has waited for more evidence long enough.
    fn is_overdue(&self, now: Timestamp, id: ListenerId) -> bool {
        let suspect = self.monitors.get(&id).and_then(|monitor| monitor.suspect);
        let patience = EVIDENCE_PATIENCE;
        suspect.is_some_and(|suspect| now.since(suspect.since) >= patience)
    }

    /// Returns whether a verdict may wait for more evidence.
    fn may_wait(&self, now: Timestamp, id: ListenerId) -> bool {
        let suspect = self.monitors.get(&id).and_then(|monitor| monitor.suspect);
        suspect.is_none_or(|suspect| now.since(suspect.since) < patience(suspect.signal))
    }

    /// Returns whether the first verdict on a listener at which little fails waits for others to be judged with.
    /// Cookies do not wait for it.
    fn awaits_others(&mut self, now: Timestamp, inspection: &Inspection) -> bool {
        if !self.monitors.has_at_least(TOGETHER) || !self.is_thin(inspection) {
            return false;
        }
        let Some(monitor) = self.monitors.get_mut(&inspection.id) else { return false };
        let is_young = monitor.suspect.is_some_and(|suspect| now.since(suspect.since) < GATHERING);
        monitor.awaits_others = is_young && !monitor.handshakes_failed();
        monitor.awaits_others
    }

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
            self.monitors.values().filter_map(overdue).collect();
        for (id, signal) in overdue {
            if signal == Signal::Slow {
                self.dismiss(id);
                continue;
            }
            let assessment = self.assess(id, &Cohort::default(), None);
            self.open_or_refine(now, id, &assessment);
        }
    }

    fn open_or_refine(&mut self, now: Timestamp, id: ListenerId, assessment: &Assessment) {
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let suspect = monitor.suspect.take();
        if let Some(incident) = &mut monitor.incident {
            if suspect.is_none() || assessment.class.is_pressure() {
                incident.refine(now, assessment);
                return;
            }
            self.end(now, id, EndReason::HandshakesFail);
        }
        let Some(suspect) = suspect else { return };
        let number = self.place(now, id);
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let settings = &self.settings.common;
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
        if let Some(monitor) = self.monitors.get_mut(&id) {
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
        let long = self.settings.common.quiet;
        let over = |monitor: &&ListenerMonitor| {
            let lasts = monitor.over_for(now);
            lasts >= long && (lasts >= long + GIVEN || !monitor.may_be_disturbed())
        };
        let open = self.monitors.values().filter(|monitor| monitor.incident.is_some());
        let quiet: Vec<ListenerId> = open.filter(over).map(|monitor| monitor.id).collect();
        for id in quiet {
            self.end(now, id, EndReason::Quiet { for_s: long.as_secs() });
        }
    }

    /// Ends an incident. Its rules go with it, and the listener stays alert for a while.
    fn end(&mut self, now: Timestamp, id: ListenerId, why: EndReason) {
        // A hint of other hosts makes no memory of an attack here.
        let harmless = |matcher: &Matcher| {
            let entry = self.rule_table.find(matcher);
            entry.is_some_and(|entry| entry.meter.completed() == 0 && !entry.rests_on_hint())
        };
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
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
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
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
        self.removal_reasons.append(&mut incident.removal_reasons);
        if incident.takes_unreported() {
            self.alert_with(report.clone(), None);
        }
        self.alert_end(&report, why);
        self.keep(report);
    }

    /// Keeps a closed incident for reports, unless the caller keeps them.
    pub(super) fn keep(&mut self, report: IncidentReport) {
        if self.keeps_past {
            self.past.push_front(report);
            let kept =
                retained(self.past.iter().map(IncidentReport::worth), Limits::PAST_INCIDENTS);
            self.past.retain(|past| kept.contains(&past.id));
        }
    }

    /// Stops monitoring listeners that have gone.
    pub(super) fn drop_missing(&mut self, now: Timestamp, sample: &Sample) {
        for &id in &sample.gone {
            self.end(now, id, EndReason::ListenerGone);
            let Some(monitor) = self.monitors.remove(&id) else { continue };
            let left = monitor
                .ladder
                .taken()
                .map(|mitigation| Command::StopMitigation { listener: id, mitigation });
            self.commands.extend(left);
        }
    }
}

/// Returns the time that an alarm waits for flows. One of the slow path is given ten times as long: it may
/// rest on few failures, and without flows it says nothing.
fn patience(signal: Signal) -> Duration {
    match signal {
        Signal::Slow => EVIDENCE_PATIENCE * 10,
        _ => EVIDENCE_PATIENCE,
    }
}
