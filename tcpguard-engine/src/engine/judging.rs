//! From the sampled flows to verdicts and the rules that these call for. There may be 65,536 flows at every poll, so the
//! work for each is small.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use super::listeners::{Inspection, Pool, TOGETHER, most_of};
use super::mandate::{idle, why};
use super::monitor::ListenerMonitor;
use super::needs::{ruled_since, without_mitigation};
use super::pace::{CALM, due};
use super::rule_book::signature;
use crate::evidence::{Assessment, Cohort, EVIDENCE_FLOWS, Failing};
use crate::incident::{Incident, Restraint, RestraintReason, without_rule};
use crate::input::{Flows, ListenerId, Mitigation, POLL, Timestamp, ValidatedClients};
use crate::mitigation::MitigationReport;
use crate::policy::{Grounds, Residual, consider};

/// Time that a rule for one listener waits for a rule for every listener. Where there are more listeners than
/// incidents of their own, one rule may drop a flood at all of them. The rule for one listener still comes
/// earlier than the mitigations that keep clients waiting.
const SHARING: Duration = Duration::from_secs(1);

/// The verdict on an [`Inspection`].
pub(super) struct Judged {
    all: Assessment,
    /// The same without the flows that their clients reset, where there are any: they hold no slot in a queue, and
    /// are no reason for a rule.
    holding: Option<(Cohort, Assessment)>,
    /// True if it is the verdict on the failed handshakes of several listeners.
    is_shared: bool,
}

impl Engine {
    /// Takes over the sampled flows of all listeners, as asked for by
    /// [`crate::Command::InspectFlows`].
    ///
    /// Those of listeners with nothing the matter are looked at every five seconds only, however often
    /// others need a look: there is nothing urgent to be learned from them, unless nothing has been
    /// learned yet.
    pub fn handle_flows(
        &mut self,
        now: Timestamp,
        flows: &Flows,
        validated: &dyn ValidatedClients,
    ) {
        let all = due(now, self.questions.surveyed, CALM, POLL);
        let urgent = |monitor: &&ListenerMonitor| monitor.is_suspicious() || monitor.needs_rtt();
        let looked_at = self.listeners.monitors.values().filter(|monitor| all || urgent(monitor));
        let looked_at: Vec<ListenerId> = looked_at.map(|monitor| monitor.id).collect();
        if all {
            self.questions.surveyed = now;
            // Of a source that goes on, also what it tried where nothing has happened since.
            let calm = self.listeners.monitors.all();
            let calm =
                calm.filter(|monitor| monitor.incident.is_none() && !monitor.is_suspicious());
            let calm = calm.flat_map(|monitor| {
                monitor.flows(flows).map(move |flow| (flow, monitor.listener.port))
            });
            self.host.inspect(now, calm);
            self.hinted.count(now, flows, &self.listeners);
            let learns = |monitor: &&ListenerMonitor| monitor.learns();
            let learned = self.listeners.monitors.values().filter(learns);
            self.listeners.networks.learn(now, learned.flat_map(|monitor| monitor.flows(flows)));
        }
        let (mut together, mut begun) = (Vec::new(), Vec::new());
        for id in looked_at {
            let flows = self.listeners.monitors[&id].flows(flows);
            let Some(mut inspection) = self.listeners.inspect(now, id, flows, &self.mandate) else {
                continue;
            };
            if !inspection.is_thin() && !self.listeners.is_rolled(id) {
                let own = self.listeners.assess(id, &inspection.cohort, Some(validated));
                let is_flood = own.class.is_flood();
                // It may be a part of one.
                inspection.own = Some(own);
                if is_flood {
                    begun.push(inspection);
                    continue;
                }
            }
            together.push(inspection);
        }
        together.extend(self.judge_floods(now, begun, &together, validated));
        self.judge_together(now, &together, validated);
        self.listeners.ask_for_routes(now, flows, &mut self.outbox);
        // SYNs that rules drop need no cookies.
        self.carry_out_plan(now);
        self.poll_mitigations(now, Duration::ZERO);
        self.alert_news(now);
        self.questions.ask_for_headers(&mut self.listeners, &mut self.outbox);
    }

    /// The verdicts on the flows of those listeners at which they show a flood by themselves, and the measures. As many
    /// floods as begin alike at the same time are one, and so is one that begins like that of the host's incident, of
    /// which listeners are among the `others`. Returns the listeners that are a part of it.
    fn judge_floods(
        &mut self,
        now: Timestamp,
        floods: Vec<Inspection>,
        others: &[Inspection],
        validated: &dyn ValidatedClients,
    ) -> Vec<Inspection> {
        let is_new = |id| {
            let monitor = self.listeners.monitors.get(&id);
            monitor.is_some_and(|it| it.incident.as_ref().is_none_or(|it| it.is_unreported()))
        };
        let begun: BTreeSet<ListenerId> =
            floods.iter().map(|flood| flood.id).filter(|id| is_new(*id)).collect();
        let together = begun.len() >= TOGETHER;
        let is_part = |it: &&Inspection| {
            together && begun.contains(&it.id) || self.listeners.is_rolled(it.id)
        };
        let parts: Vec<&Inspection> = floods.iter().chain(others).filter(is_part).collect();
        let pool = (!begun.is_empty() && parts.len() >= TOGETHER)
            .then(|| self.listeners.pool(now, &parts, validated));
        let pool = pool.flatten().filter(|pool| pool.all.class.is_flood());
        let mut rolled = BTreeSet::new();
        for flood in &floods {
            let is_part = |pool: &&Pool| begun.contains(&flood.id) && pool.is_that_of(flood);
            let pool = pool.as_ref().filter(is_part);
            let all = match (pool, &flood.own) {
                (Some(pool), _) => self.listeners.at(flood.id, pool.all.clone()),
                (None, Some(own)) => own.clone(),
                (None, None) => continue,
            };
            if let Some(judged) = self.conclude(now, flood, all, pool, validated) {
                self.act(now, flood, judged, validated);
            }
            rolled.extend(self.listeners.is_rolled(flood.id).then_some(flood.id));
        }
        floods.into_iter().filter(|flood| rolled.contains(&flood.id)).collect()
    }

    /// The verdicts on the inspected flows, and the measures: at listeners with few failed handshakes, and
    /// at those of the host's incident.
    pub(super) fn judge_together(
        &mut self,
        now: Timestamp,
        inspections: &[Inspection],
        validated: &dyn ValidatedClients,
    ) {
        // A listener with enough flows of its own would drown out the others.
        let is_part = |inspection: &&Inspection| {
            inspection.is_thin() || self.listeners.is_rolled(inspection.id)
        };
        let parts: Vec<&Inspection> = inspections.iter().filter(is_part).collect();
        let pool = self.listeners.pool(now, &parts, validated);
        let mut judged: Vec<(&Inspection, Judged)> = Vec::new();
        for inspection in inspections {
            if !self.listeners.is_rolled(inspection.id)
                && let Some(verdict) = self.judge(now, inspection, pool.as_ref(), validated)
            {
                judged.push((inspection, verdict));
            }
        }
        self.fill_places(now, |engine, id| {
            let inspection = inspections.iter().find(|inspection| inspection.id == id)?;
            // A part of the flood stays with it.
            if pool.as_ref().is_some_and(|pool| pool.speaks_for(&inspection.cohort) == Some(true)) {
                return None;
            }
            let assess = || engine.listeners.assess(id, &inspection.cohort, Some(validated));
            Some(inspection.own.clone().unwrap_or_else(assess))
        });
        if let Some(pool) = &pool {
            self.judge_rolled(now, inspections, pool, validated);
        }
        self.follow_rolled(now);
        // Last, so that a flood that a rule for every listener covers gets no other rule.
        for (inspection, verdict) in judged {
            self.act(now, inspection, verdict, validated);
        }
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
        if speaks == Some(None) && inspection.own.is_none() && self.listeners.may_wait(now, id) {
            return None;
        }
        let pool = pool.filter(|_| speaks == Some(Some(true)));
        let all = match (pool, &inspection.own) {
            (Some(pool), _) => self.listeners.at(id, pool.all.clone()),
            (None, Some(own)) => own.clone(),
            (None, None) if inspection.ready => {
                let all = self.listeners.assess(id, cohort, Some(validated));
                if speaks.is_none()
                    && !all.class.is_flood()
                    && self.listeners.awaits_others(now, inspection)
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
        if self.listeners.is_harmless(now, inspection, &all) {
            return None;
        }
        self.open_or_refine(now, id, &all, pool);
        self.listeners.hand_over(id, &self.rules);
        let holding = cohort.has_resets().then(|| {
            let holding = cohort.without(|flow| flow.reset);
            let assessment = match pool {
                Some(pool) => self.listeners.at(id, pool.holding().1.clone()),
                None => self.listeners.assess(id, &holding, Some(validated)),
            };
            (holding, assessment)
        });
        Some(Judged { all, holding, is_shared: pool.is_some() })
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
        let shared = self.listeners.signatures_shared_by(id, &self.rules);
        let is_shared =
            |flow: &Failing| shared.iter().any(|(mask, print)| flow.print.masked(*mask) == *print);
        let holding = match cohort.failing.iter().any(is_shared) {
            true => {
                let left = cohort.without(|flow| flow.reset || is_shared(flow));
                let assessment = self.listeners.assess(id, &left, Some(validated));
                Some((left, assessment))
            }
            false => holding,
        };
        let inherited = self.rules.orphaned();
        let many = self.listeners.monitors.has_at_least(self.mandate.settings.common.incidents + 1);
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let settings = &self.mandate.settings.common;
        let mode = self.mandate.mode_at(monitor.listener);
        let (held_back, unsure) = (why(mode, self.mandate.mode), monitor.is_unsure());
        let (unanswering, waits) = (monitor.is_unanswering(), monitor.waits_for_routes());
        let unanswerable = monitor.is_unanswerable(now, self.mandate.enforced, mode);
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
            exempt: &self.rules.exempt,
            held_back,
            unsure,
            recurrence: &self.rules.recurrence,
            inherited: &inherited,
            unanswering,
            unanswerable,
            source_forbidden: monitor.ladder.forbids_rules(now, Mitigation::Source),
            signature_forbidden: monitor.ladder.forbids_rules(now, Mitigation::Signature),
            hints: &self.hinted.hints,
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
        let ruled = ruled_since(monitor, &self.rules.table);
        let idle = idle(Mitigation::Cookies, mode, self.mandate.mode);
        let no_mitigation = without_mitigation(class, monitor, now, ruled, idle);
        if let Some(incident) = &mut monitor.incident {
            let held_back = held_back.filter(|_| class.is_flood());
            let held_back = held_back.map(|by| RestraintReason::HeldBack { by });
            let held_back = held_back.or_else(|| {
                let mut all = monitor.ladder.report(now).filter(|_| class.is_flood());
                let forbidden = all.find(|it| it.mitigation == Mitigation::Signature)?;
                let MitigationReport { mitigation, why, .. } = forbidden;
                Some(RestraintReason::Refused { mitigation, why })
            });
            incident.note_restraint(no_rule.or(held_back.map(Into::into)), no_mitigation);
        }
    }

    /// Refines the incident of the host, and asks for the rules that it calls for.
    fn judge_rolled(
        &mut self,
        now: Timestamp,
        inspections: &[Inspection],
        pool: &Pool,
        validated: &dyn ValidatedClients,
    ) {
        if pool.cohort.failing.len() < EVIDENCE_FLOWS {
            return;
        }
        let members: Vec<&Inspection> = inspections
            .iter()
            .filter(|inspection| self.listeners.is_rolled(inspection.id))
            .collect();
        let apart = self.listeners.apart(&members, pool, validated);
        let source_forbidden = self.listeners.is_forbidden_somewhere(now, Mitigation::Source);
        let signature_forbidden = self.listeners.is_forbidden_somewhere(now, Mitigation::Signature);
        let inherited = self.rules.orphaned();
        let monitors =
            || members.iter().filter_map(|inspection| self.listeners.monitors.get(&inspection.id));
        let unanswering = most_of(monitors(), ListenerMonitor::is_unanswering);
        let unanswerable = most_of(monitors(), |monitor| {
            let mode = self.mandate.mode_at(monitor.listener);
            monitor.is_unanswerable(now, self.mandate.enforced, mode)
        });
        let unsure = most_of(monitors(), ListenerMonitor::is_unsure);
        let waits = most_of(monitors(), ListenerMonitor::waits_for_routes);
        let alert_window = monitors().filter_map(|monitor| monitor.alert_window.as_deref());
        let mut remembered: Vec<_> =
            alert_window.flat_map(|alert_window| alert_window.signatures.iter().copied()).collect();
        remembered.sort_unstable();
        remembered.dedup();
        self.listeners.hand_over(ListenerId::HOST, &self.rules);
        let Some(rolled) = &mut self.listeners.rolled else { return };
        let incident = &mut rolled.incident;
        incident.refine(now, &pool.all);
        let (cohort, assessment) = pool.holding();
        let grounds = Grounds {
            now,
            listener: ListenerId::HOST,
            port: 0,
            cohort,
            assessment,
            clients: &self.listeners.all_clients.clients,
            validated,
            exempt: &self.rules.exempt,
            held_back: None,
            unsure,
            recurrence: &self.rules.recurrence,
            inherited: &inherited,
            unanswering,
            unanswerable,
            source_forbidden,
            signature_forbidden,
            hints: &self.hinted.hints,
            remembered: &remembered,
            settings: &self.mandate.settings.common,
        };
        let no_rule = ask_for_rules(incident, &grounds, &pool.all, waits);
        let class = incident.class();
        incident.note_restraint(no_rule, None);
        for (inspection, apart) in members.into_iter().zip(apart) {
            let Some(monitor) = self.listeners.monitors.get_mut(&inspection.id) else { continue };
            if let Some(rolled) = &mut monitor.rolled {
                rolled.class = apart.unwrap_or(class);
            }
            // Rules of a time in which the listener had an incident of its own.
            let own: Vec<_> =
                self.rules.table.signatures_of(inspection.id).filter_map(signature).collect();
            let shares = !monitor.shared.is_exempt();
            monitor.residual = Some(Residual::of(&inspection.cohort, |flow| {
                let is_own = own.iter().any(|(mask, print)| flow.print.masked(*mask) == *print);
                is_own || shares && incident.covers(flow)
            }));
        }
    }
}

/// Asks for the rules that an incident calls for, unless it is known in a moment whether its answers are seen
/// (`waits`). Why it asks for none, by `all` that fails, where that can be said.
pub(super) fn ask_for_rules(
    incident: &mut Incident,
    grounds: &Grounds<'_>,
    all: &Assessment,
    waits: bool,
) -> Option<Restraint> {
    if !waits {
        consider(incident, grounds);
    }
    if !incident.wanted().is_empty() {
        return None;
    }
    let (candidate, known) = (all.signature.as_ref(), grounds.clients.completions());
    without_rule(incident.class(), all.gate, candidate, known)
}
