//! Failed handshakes of several listeners, judged together: at those of the host's incident, and at those
//! where so few fail that each says little by itself.

use super::Engine;
use super::asking::ask_for_rules;
use super::lifecycle::{COUNTED, Inspection, Judged};
use super::monitor::{ListenerMonitor, Shared};
use super::rollup::signature;
use super::upkeep::CALM;
use crate::evidence::{
    Assessment, Background, Cohort, DISTINCT_MIN, EVIDENCE_FLOWS, FailingClients, IncidentClass,
    Missing, Novelty, Reach, SINGLETON_SHARE, Surge, assess,
};
use crate::incident::RestraintReason;
use crate::input::{ListenerId, Mitigation, Timestamp, ValidatedClients};
use crate::listener::{Clients, JoinedClients, Sums};
use crate::policy::{Grounds, Residual};
use crate::rules::RULE_TTL;

/// Number of listeners with few failed handshakes from which they are judged together. Eight under the
/// slowest flood that must be found at a queue of 128 (4 SYN/s, see `occupancy_min`) have as many failed
/// flows in a second as a verdict needs (`evidence_flows`). Fewer would speak for each other by chance: a
/// false positive in 26 days at each of 4,096 listeners (`slow_limit`), looked at for half a minute, is 0.05
/// alarms at a time, so that two meet every few hours, and eight once in ten million years.
pub(super) const TOGETHER: usize = 8;
/// Share of the listeners of the host's incident that must be in a situation for it to be the incident's: a
/// majority, since mitigations are then taken for all.
const MOST: f64 = 0.5;

/// The failed handshakes of several listeners, and the verdict on them.
pub(super) struct Pool {
    listeners: usize,
    cohort: Cohort,
    pub all: Assessment,
    /// The same without the flows that their clients reset, where there are any.
    held: Option<(Cohort, Assessment)>,
}

impl Pool {
    /// Returns whether its verdict is one on these flows, which are among its own; `None` while that is not known.
    pub fn speaks_for(&self, cohort: &Cohort) -> Option<bool> {
        if self.listeners < TOGETHER {
            return Some(false);
        }
        self.all.speaks_for(cohort)
    }

    /// The verdict without the handshakes that clients reset.
    pub fn holding(&self) -> &Assessment {
        self.held.as_ref().map_or(&self.all, |(_, assessment)| assessment)
    }
}

/// The clients of all listeners.
#[derive(Clone, Debug, Default)]
pub(super) struct AllClients {
    clients: JoinedClients,
    /// Time at which they were last put together.
    gathered: Option<Timestamp>,
}

impl Engine {
    /// The verdicts on the inspected flows, and the measures: at listeners with few failed handshakes, and
    /// at those of the host's incident.
    pub(super) fn judge_together(
        &mut self,
        now: Timestamp,
        inspections: &[Inspection],
        validated: &dyn ValidatedClients,
    ) {
        // A listener with enough flows of its own would drown out the others.
        let is_part =
            |inspection: &&Inspection| self.is_thin(inspection) || self.is_rolled(inspection.id);
        let parts: Vec<&Inspection> = inspections.iter().filter(is_part).collect();
        let pool = self.pool(now, &parts, validated);
        let mut judged: Vec<(&Inspection, Judged)> = Vec::new();
        for inspection in inspections {
            if !self.is_rolled(inspection.id)
                && let Some(verdict) = self.judge(now, inspection, pool.as_ref(), validated)
            {
                judged.push((inspection, verdict));
            }
        }
        self.fill_places(now, |engine, id| {
            let inspection = inspections.iter().find(|inspection| inspection.id == id)?;
            let pool = pool.as_ref().filter(|pool| {
                let speaks = || pool.speaks_for(&inspection.cohort);
                engine.is_thin(inspection) && speaks() == Some(true)
            });
            Some(match (pool, &inspection.own) {
                (Some(pool), _) => engine.at(id, pool.all.clone()),
                (None, Some(own)) => own.clone(),
                (None, None) => engine.assess(id, &inspection.cohort, Some(validated)),
            })
        });
        if let Some(pool) = &pool {
            self.judge_rolled(now, inspections, pool, validated);
        }
        // Last, so that a flood that a rule for every listener covers gets no other rule.
        for (inspection, verdict) in judged {
            self.act(now, inspection, verdict, validated);
        }
    }

    /// The verdict on the failed handshakes of several listeners; `None` where they are too few, and none is
    /// reported together with others.
    fn pool(
        &mut self,
        now: Timestamp,
        inspections: &[&Inspection],
        validated: &dyn ValidatedClients,
    ) -> Option<Pool> {
        let is_stale = self.all_clients.gathered.is_none_or(|gathered| now.since(gathered) >= CALM);
        if inspections.len() < TOGETHER
            && !inspections.iter().any(|inspection| self.is_rolled(inspection.id))
        {
            if is_stale {
                self.all_clients = AllClients::default();
            }
            return None;
        }
        if is_stale {
            let all: Vec<&Clients> = self.monitors.all().map(|monitor| &monitor.clients).collect();
            let clients = JoinedClients::of(all.iter().copied());
            self.all_clients = AllClients { clients, gathered: Some(now) };
        }
        let mut cohort = Cohort::pooled(inspections.iter().map(|inspection| &inspection.cohort));
        if let Some(rolled) = &mut self.rolled {
            rolled.incident.admitted.note(now, &cohort.completed);
            cohort.admitted.clone_from(&rolled.incident.admitted);
        }
        let all = self.assess_together(inspections, &cohort, validated);
        let held = cohort.has_resets().then(|| {
            let held = cohort.without(|flow| flow.reset);
            let assessment = self.assess_together(inspections, &held, validated);
            (held, assessment)
        });
        Some(Pool { listeners: inspections.len(), cohort, all, held })
    }

    fn assess_together(
        &self,
        inspections: &[&Inspection],
        cohort: &Cohort,
        validated: &dyn ValidatedClients,
    ) -> Assessment {
        let monitors =
            || inspections.iter().filter_map(|inspection| self.monitors.get(&inspection.id));
        let recent = Sums::beside(monitors().map(|monitor| monitor.recent(self.now)));
        let seconds: Vec<[Sums; Surge::LASTING]> =
            monitors().map(|monitor| monitor.window.seconds(self.now)).collect();
        let seconds =
            std::array::from_fn(|at| Sums::beside(seconds.iter().map(|seconds| seconds[at])));
        let baseline =
            monitors().filter_map(ListenerMonitor::baseline).reduce(|all, baseline| all + baseline);
        let completed = monitors().filter_map(|monitor| monitor.baseline_completed());
        let completed = completed.reduce(|all, baseline| all + baseline);
        let natural_share = self.natural_share(inspections);
        let counted = self.rolled.is_some() && recent.span >= COUNTED;
        let clients = &self.all_clients.clients;
        let background = Background {
            natural_share,
            failed_share: counted.then(|| recent.failures() as f64 / recent.attempts.max(1) as f64),
            novelty: Novelty::of(cohort, &self.networks, natural_share),
            surge: Surge::of(&seconds, baseline),
            clients_missing: Missing::of(&recent, completed),
            failing_clients: FailingClients::of(cohort, clients, validated, &recent, baseline),
            reach: Reach::of(cohort, None, DISTINCT_MIN),
        };
        let mut assessment = assess(cohort, clients, background);
        let evidence = &mut assessment.evidence;
        if recent.attempts > 0 {
            evidence.completion = (recent.completed as f64 / recent.attempts as f64).min(1.0);
        }
        let (mut all, mut most, mut syns) = (0, 0, 0.0);
        for (sources, each) in monitors().filter_map(ListenerMonitor::sources) {
            all += sources;
            most = most.max(sources);
            syns += sources as f64 * each;
        }
        // Spoofed sources differ from listener to listener; those of a few hosts are the same at every listener.
        let differ = evidence.singleton_share >= SINGLETON_SHARE;
        evidence.sources_estimate = if differ { all } else { most };
        evidence.syns_per_source = (syns / evidence.sources_estimate.max(1) as f64).max(1.0);
        if self.one_sided || most_of(monitors(), ListenerMonitor::is_unsure) {
            assessment.evidence.replies_unseen = true;
        }
        assessment
    }

    /// Baseline share of failed attempts, weighted by the attempts that were inspected at each listener.
    fn natural_share(&self, inspections: &[&Inspection]) -> f64 {
        let (mut expected, mut all) = (0.0, 0.0);
        for inspection in inspections {
            let completed: u64 =
                inspection.cohort.completed.iter().map(|(.., weight)| weight).sum();
            let weight = (inspection.cohort.weight() + completed) as f64;
            let share =
                self.monitors.get(&inspection.id).map_or(0.0, ListenerMonitor::natural_share);
            expected += share * weight;
            all += weight;
        }
        if all > 0.0 { expected / all } else { 0.0 }
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
        let members: Vec<&Inspection> =
            inspections.iter().filter(|inspection| self.is_rolled(inspection.id)).collect();
        let apart = self.apart(&members, pool, validated);
        let held_back = self.no_shared_rules();
        let source_forbidden = self.is_forbidden_somewhere(now, Mitigation::Source);
        let signature_forbidden = self.is_forbidden_somewhere(now, Mitigation::Signature);
        let inherited = self.orphaned();
        let monitors = || members.iter().filter_map(|inspection| self.monitors.get(&inspection.id));
        let unanswering = most_of(monitors(), ListenerMonitor::is_unanswering);
        let unanswerable = most_of(monitors(), |monitor| {
            let mode = self.settings.mode(monitor.listener, self.mode);
            monitor.is_unanswerable(now, self.enforced, mode)
        });
        let unsure = most_of(monitors(), ListenerMonitor::is_unsure);
        let waits = most_of(monitors(), ListenerMonitor::waits_for_routes);
        let alert_window = monitors().filter_map(|monitor| monitor.alert_window.as_deref());
        let mut remembered: Vec<_> =
            alert_window.flat_map(|alert_window| alert_window.signatures.iter().copied()).collect();
        remembered.sort_unstable();
        remembered.dedup();
        self.take_over_shared();
        let Some(rolled) = &mut self.rolled else { return };
        let incident = &mut rolled.incident;
        incident.refine(now, &pool.all);
        let (cohort, assessment) = match &pool.held {
            Some((held, assessment)) => (held, assessment),
            None => (&pool.cohort, &pool.all),
        };
        let grounds = Grounds {
            now,
            listener: ListenerId::HOST,
            port: 0,
            cohort,
            assessment,
            clients: &self.all_clients.clients,
            validated,
            exempt: &self.exempt,
            held_back,
            unsure,
            recurrence: &self.recurrence,
            inherited: &inherited,
            unanswering,
            unanswerable,
            source_forbidden,
            signature_forbidden,
            hints: &self.hints,
            remembered: &remembered,
            settings: &self.settings.common,
        };
        let no_rule = ask_for_rules(incident, &grounds, &pool.all, waits);
        let class = incident.class();
        let held_back = held_back.filter(|_| class.is_flood());
        let held_back = held_back.map(|by| RestraintReason::HeldBack { by }.into());
        incident.note_restraint(no_rule.or(held_back), None);
        for (inspection, apart) in members.into_iter().zip(apart) {
            let Some(monitor) = self.monitors.get_mut(&inspection.id) else { continue };
            if let Some(rolled) = &mut monitor.rolled {
                rolled.class = apart.unwrap_or(class);
            }
            // Rules of a time in which the listener had an incident of its own.
            let own: Vec<_> =
                self.rule_table.signatures_of(inspection.id).filter_map(signature).collect();
            let shares = monitor.shared != Shared::Exempting;
            monitor.residual = Some(Residual::of(&inspection.cohort, |flow| {
                let is_own = own.iter().any(|(mask, print)| flow.print.masked(*mask) == *print);
                is_own || shares && incident.covers(flow)
            }));
        }
    }

    /// The class at those members of the host's incident at which another cause fails handshakes than the
    /// reported flood: clients with a path that breaks meanwhile need no mitigations.
    fn apart(
        &self,
        members: &[&Inspection],
        pool: &Pool,
        validated: &dyn ValidatedClients,
    ) -> Vec<Option<IncidentClass>> {
        let apart = |inspection: &&Inspection| {
            let is_part = pool.all.speaks_for(&inspection.cohort) == Some(true);
            (pool.all.class.is_flood() && !is_part).then(|| match self.is_thin(inspection) {
                true => IncidentClass::HandshakeDegraded,
                false => self.assess(inspection.id, &inspection.cohort, Some(validated)).class,
            })
        };
        members.iter().map(apart).collect()
    }

    /// The incident of the host takes over the rules for every listener of an earlier run.
    fn take_over_shared(&mut self) {
        let ttl = RULE_TTL;
        let Some(rolled) = &mut self.rolled else { return };
        if !rolled.incident.class().is_flood() {
            return;
        }
        for entry in self.rule_table.signatures_of(ListenerId::HOST).filter(|entry| entry.orphan) {
            let matcher = entry.rule.matcher;
            let incident = &mut rolled.incident;
            if !incident.wants(&matcher) && !incident.has_refused(self.now, &matcher) {
                incident.want(matcher, entry.rule.reason.clone(), ttl);
            }
        }
    }
}

/// Returns whether most of some listeners are in a situation.
fn most_of<'a>(
    monitors: impl Iterator<Item = &'a ListenerMonitor>,
    is_so: impl Fn(&ListenerMonitor) -> bool,
) -> bool {
    let (mut all, mut so) = (0_u32, 0_u32);
    for monitor in monitors {
        all += 1;
        so += u32::from(is_so(monitor));
    }
    all > 0 && f64::from(so) >= MOST * f64::from(all)
}
