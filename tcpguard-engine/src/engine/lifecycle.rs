//! From alarm to incident, and from incident to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use super::held_back::{self, idle};
use super::steps::without_step;
use crate::evidence::{
    Answer, Assessment, Background, Checks, Cohort, Novelty, Outcomes, Regulars, Surge, assess,
    overload_line, without_rule,
};
use crate::incident::Incident;
use crate::policy::{Grounds, consider};
use crate::signal::Signal;
use crate::watch::{Rest, Watch};
use crate::words::{percent, short, span, story};
use crate::{
    Command, Flow, FlowState, IncidentClass, IncidentReport, KnownClients, Limits, ListenerId,
    Matcher, Sample, Settings, Severity, Step, Timestamp,
};

/// Evidence is refined only this long after a disturbance: in a flood's pauses the failing flows
/// are the usual lost clients, and would speak for them.
const DISTURBED: Duration = Duration::from_secs(1);
/// Counters since an incident began say what share fails from this time on.
const COUNTED: Duration = Duration::from_secs(1);

impl Engine {
    /// Looks at one listener's flows: opens an incident, refines it, or learns.
    pub(super) fn inspect(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        flows: impl Iterator<Item = Flow> + Clone,
        known: &dyn KnownClients,
    ) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if !watch.is_suspicious() {
            watch.clients.learn(now, flows);
            return;
        }
        let failed = watch.handshakes_failed();
        if watch.suspect.is_none() && !failed {
            return;
        }
        let settings = self.settings.of(watch.listener);
        let rtt = watch.rtt(settings);
        let mature = watch.clients.patience(now, flows.clone(), rtt);
        if let Some(suspect) = watch.suspect.filter(|suspect| suspect.signal == Signal::Slow) {
            let outcomes = Outcomes::gather(now, flows.clone(), suspect.from, mature, settings);
            let patience = match outcomes.answer(watch.natural_share(), settings) {
                Answer::Confirmed => None,
                Answer::TooFew => Some(patience(suspect.signal, settings)),
                Answer::Refuted => Some(settings.evidence_patience * 2),
            };
            if let Some(patience) = patience {
                if now.since(suspect.since) >= patience {
                    watch.dismiss();
                }
                return;
            }
        }
        let waiting = |flow: &Flow| flow.state == FlowState::Acknowledged;
        let waiting = flows.clone().filter(waiting).count() >= settings.evidence_flows;
        let mut cohort = Cohort::gather(now, flows, rtt, mature, watch.onset, settings);
        let checks = Checks::among(&cohort);
        if !checks.is_empty() {
            cohort = cohort.without(|flow| checks.has(flow.source));
            watch.note_checks(checks.rate);
            if !failed && cohort.failing.len() < settings.evidence_flows {
                watch.dismiss();
                return;
            }
        }
        if let Some(incident) = &mut watch.incident {
            incident.admitted.note(now, &cohort.completed);
            cohort.admitted.clone_from(&incident.admitted);
        }
        let enough = cohort.failing.len() >= settings.evidence_flows;
        // A listener that wants data before it takes a connection (`TCP_DEFER_ACCEPT`) has idle clients.
        if !failed && !enough && waiting {
            watch.dismiss();
            return;
        }
        if failed {
            if !enough || watch.quiet(now) > DISTURBED {
                return;
            }
        } else if !enough && !self.is_overdue(now, id) {
            return;
        }
        let assessment = self.assess(id, &cohort, Some(known));
        self.open_or_refine(now, id, &assessment);
        self.hand_over(id);
        // What a client resets holds no place in a queue, and is no reason for a rule.
        let holding = cohort.has_resets().then(|| {
            let holding = cohort.without(|flow| flow.reset);
            let assessment = self.assess(id, &holding, Some(known));
            (holding, assessment)
        });
        let overloading = self.overloading();
        let inherited: Vec<Matcher> = self.book.orphans().map(|entry| entry.rule.matcher).collect();
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let settings = self.settings.of(watch.listener);
        let mode = self.settings.mode(watch.listener, self.mode);
        let saturates = overloading.is_some_and(|least| watch.syn_rate() >= least);
        let (held_back, unsure) = (held_back::why(mode, self.mode), watch.is_unsure());
        let unanswering = watch.window.last(DISTURBED).is_unanswered();
        let without_cookies = watch.is_without_cookies(now, self.enforced, mode);
        let Some(incident) = &mut watch.incident else { return };
        // What the overload step drops keeps the queue from being full.
        let overwhelmed = unanswering || watch.ladder.has(Step::Overload);
        let grounds = Grounds {
            now,
            listener: id,
            cohort: holding.as_ref().map_or(&cohort, |(holding, _)| holding),
            assessment: holding.as_ref().map_or(&assessment, |(_, assessment)| assessment),
            clients: &watch.clients,
            known,
            exempt: &self.exempt,
            held_back,
            unsure,
            recurrence: &self.recurrence,
            inherited: &inherited,
            unanswering,
            unanswerable: saturates || overwhelmed && without_cookies,
            source_forbidden: watch.ladder.forbidden(now, Step::Source),
            signature_forbidden: watch.ladder.forbidden(now, Step::Signature),
            remembered: watch.armed.as_ref().map_or(&[], |armed| &armed.signatures),
            settings,
        };
        consider(incident, &grounds);
        let rest = cohort.without(|flow| incident.covers(flow)).weight();
        let share = rest as f64 / cohort.weight().max(1) as f64;
        watch.rest = Some(Rest { flows: rest, share });
        let class = incident.class();
        let no_rule = incident.wanted().is_empty().then(|| {
            let (candidate, known) = (assessment.signature.as_ref(), watch.clients.completions());
            without_rule(class, assessment.gate, candidate, known, settings)
        });
        let no_step =
            without_step(class, watch, now, idle(Step::Cookies, mode, self.mode), settings);
        if let Some(incident) = &mut watch.incident {
            let held_back = held_back.filter(|_| class.is_flood()).map(str::to_owned);
            incident.note_restraint(no_rule.flatten().or(held_back), no_step);
        }
    }

    /// The verdict on a cohort, completed by what the counters say.
    fn assess(
        &self,
        id: ListenerId,
        cohort: &Cohort,
        clients: Option<&dyn KnownClients>,
    ) -> Assessment {
        let watch = &self.watches[&id];
        let settings = self.settings.of(watch.listener);
        let sums = watch.recent(self.now, settings);
        let counted = watch.incident.is_some() && sums.span >= COUNTED;
        let failing_share = counted.then(|| sums.failures() as f64 / sums.attempts.max(1) as f64);
        let natural_share = watch.natural_share();
        let novelty = Novelty::of(cohort, &self.networks, natural_share, settings);
        let surge = Surge::of(&watch.window.last(COUNTED), watch.usual(), settings);
        let regulars =
            clients.map(|known| Regulars::of(cohort, &watch.clients, known, &sums, watch.usual()));
        let regulars = regulars.unwrap_or_default();
        let background = Background { natural_share, failing_share, novelty, surge, regulars };
        let mut assessment = assess(cohort, &watch.clients, background, settings);
        let evidence = &mut assessment.evidence;
        if sums.attempts > 0 {
            evidence.completion = (sums.completed as f64 / sums.attempts as f64).min(1.0);
        }
        if let Some((sources, syns_per_source)) = watch.sources() {
            evidence.sources_estimate = sources;
            evidence.syns_per_source = syns_per_source;
        }
        evidence.half_open = watch.half_open();
        // Handshakes that the application does not take up fail as if the path were broken.
        if assessment.class == IncidentClass::HandshakeDegraded && watch.overloaded(settings) {
            assessment.overrule(overload_line());
        }
        assessment.moment = Some(watch.moment(self.now, settings));
        if self.one_sided || watch.is_unsure() {
            assessment.doubt();
        }
        assessment
    }

    /// Forgets an alarm that the flows do not confirm.
    fn dismiss(&mut self, id: ListenerId) {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.dismiss();
        }
    }

    /// Whether an alarm has waited for more evidence long enough.
    fn is_overdue(&self, now: Timestamp, id: ListenerId) -> bool {
        let suspect = self.watches.get(&id).and_then(|watch| watch.suspect);
        let patience = self.settings.common.evidence_patience;
        suspect.is_some_and(|suspect| now.since(suspect.since) >= patience)
    }

    /// Opens incidents for alarms for which no flows have come: with what is known, which is that
    /// handshakes fail. That of the slow path is not even known without flows.
    pub(super) fn open_overdue(&mut self, now: Timestamp) {
        let settings = &self.settings.common;
        let overdue: Vec<(ListenerId, Signal)> = self
            .watches
            .values()
            .filter_map(|watch| watch.suspect.map(|suspect| (watch.id, suspect)))
            .filter(|(_, suspect)| {
                now.since(suspect.since) > patience(suspect.signal, settings) + settings.poll
            })
            .map(|(id, suspect)| (id, suspect.signal))
            .collect();
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
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let suspect = watch.suspect.take();
        if let Some(incident) = &mut watch.incident {
            if suspect.is_none() || assessment.class.is_pressure() {
                incident.refine(now, assessment);
                return;
            }
            self.end(now, id, "handshakes fail now");
        }
        let Some(suspect) = suspect else { return };
        let Some(number) = self.next_incident() else {
            let opening = |watch: &Watch, number, settings: &Settings| {
                watch.opening(number, &suspect, &assessment.evidence, settings)
            };
            self.roll_up(now, id, opening, assessment);
            return;
        };
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let settings = self.settings.of(watch.listener);
        let opening = watch.opening(number, &suspect, &assessment.evidence, settings);
        watch.calm = watch.window.calm_before(opening.started).into();
        watch.incident = Some(Box::new(Incident::open(now, opening, assessment)));
        self.tell_of_incident(id, None);
    }

    /// The number of a new incident at a listener; `None` when too many are open. What concerns the
    /// host is one of each class at most, and always told.
    pub(super) fn next_incident(&mut self) -> Option<u64> {
        let open = self.watches.values().filter(|watch| watch.incident.is_some()).count();
        if open >= self.settings.common.incidents {
            return None;
        }
        self.incidents += 1;
        Some(self.incidents)
    }

    /// Tells of incidents that have changed.
    pub(super) fn tell_news(&mut self, now: Timestamp) {
        let changed: Vec<(ListenerId, IncidentClass)> = self
            .watches
            .values_mut()
            .filter_map(|watch| Some((watch.id, watch.incident.as_deref_mut()?.news(now)?)))
            .collect();
        for (id, before) in changed {
            self.tell_of_incident(id, Some(before));
        }
    }

    /// Tells of a listener's incident, which was last said to be `before`.
    pub(super) fn tell_of_incident(&mut self, id: ListenerId, before: Option<IncidentClass>) {
        if let Some(report) = self.incident_report(id, None) {
            self.tell_of(report, before);
        }
    }

    /// Tells of an open incident, which was last said to be `before`.
    pub(super) fn tell_of(&mut self, report: IncidentReport, before: Option<IncidentClass>) {
        self.commands.push_back(Command::Alert {
            severity: report.severity,
            event: news_event(before, report.class),
            message: story(&report, self.mode),
            prefix: None,
            incident: Some(Box::new(report)),
        });
    }

    /// Ends the incidents that have been quiet for long enough.
    pub(super) fn end_quiet_incidents(&mut self, now: Timestamp) {
        let long = self.settings.common.quiet;
        let quiet: Vec<ListenerId> = self
            .watches
            .values()
            .filter(|watch| watch.incident.is_some() && watch.over_for(now) >= long)
            .map(|watch| watch.id)
            .collect();
        for id in quiet {
            let why = format!("quiet for {}", span(long));
            self.end(now, id, &why);
        }
    }

    /// Ends an incident. Its rules go with it, and the listener stays alert for a while.
    fn end(&mut self, now: Timestamp, id: ListenerId, why: &str) {
        let harmless = |matcher: &Matcher| {
            self.book.find(matcher).is_some_and(|entry| entry.meter.completed() == 0)
        };
        if let Some(watch) = self.watches.get_mut(&id) {
            let after = watch.counts_now();
            watch.incident.iter_mut().for_each(|incident| incident.keep_end(after));
        }
        let Some(report) = self.incident_report(id, Some(now)) else { return };
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let Some(mut incident) = watch.incident.take() else { return };
        watch.settle();
        if incident.class().is_flood() {
            let signatures = incident.signatures().filter(|&(mask, fingerprint)| {
                harmless(&Matcher::Signature { listener: id, mask, fingerprint })
            });
            watch.arm(now + self.settings.common.armed, signatures.collect());
            watch.flood_over = Some(now);
            watch.ladder.forgive();
        }
        watch.rest = None;
        incident.release_rules(why);
        self.farewells.append(&mut incident.farewells);
        self.tell_of_end(&report, why);
        self.keep(report);
    }

    /// Keeps a closed incident for reports, unless somebody else does.
    pub(super) fn keep(&mut self, report: IncidentReport) {
        if self.keeps_past {
            self.past.push_front(report);
            self.past.truncate(Limits::PAST_INCIDENTS);
        }
    }

    pub(super) fn tell_of_end(&mut self, report: &IncidentReport, why: &str) {
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
                report.listener,
            ),
            prefix: None,
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
            let Some(watch) = self.watches.remove(&id) else { continue };
            let left = watch.ladder.taken().map(|step| Command::LeaveStep { listener: id, step });
            self.commands.extend(left);
        }
    }
}

/// How long an alarm waits for flows. One of the slow path is given ten times as long: it may rest on
/// few failures, and without flows it says nothing.
fn patience(signal: Signal, settings: &Settings) -> Duration {
    match signal {
        Signal::Slow => settings.evidence_patience * 10,
        _ => settings.evidence_patience,
    }
}

/// The event that tells of an incident which was last said to be `before`.
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

/// The event that tells of its end.
fn end_event(class: IncidentClass) -> &'static str {
    match class {
        IncidentClass::HandshakeDegraded => "handshakes_recovered",
        class if class.is_flood() => "attack_ended",
        _ => "incident_ended",
    }
}
