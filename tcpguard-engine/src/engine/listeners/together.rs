//! The failed handshakes of several listeners, judged together where those at each say little by itself.

use super::inspection::COUNTED;
use super::{Inspection, Listeners};
use crate::engine::monitor::ListenerMonitor;
use crate::engine::pace::CALM;
use crate::evidence::{
    Assessment, Background, Cohort, DISTINCT_MIN, FailingClients, IncidentClass, Missing, Novelty,
    Reach, SINGLETON_SHARE, Surge, assess,
};
use crate::input::{Timestamp, ValidatedClients};
use crate::listener::{Clients, JoinedClients, Sums};

/// Number of listeners with few failed handshakes from which they are judged together. Eight under the
/// slowest flood that must be found at a queue of 128 (4 SYN/s, see `occupancy_min`) have as many failed
/// flows in a second as a verdict needs (`evidence_flows`). Fewer would speak for each other by chance: a
/// false positive in 26 days at each of 4,096 listeners (`slow_limit`), looked at for half a minute, is 0.05
/// alarms at a time, so that two meet every few hours, and eight once in ten million years.
pub const TOGETHER: usize = 8;
/// Share of the listeners of the host's incident that must be in a situation for it to be the incident's: a
/// majority, since mitigations are then taken for all.
const MOST: f64 = 0.5;

/// The failed handshakes of several listeners, and the verdict on them.
pub struct Pool {
    listeners: usize,
    pub cohort: Cohort,
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

    /// Returns whether the flood of one listener is theirs.
    pub fn is_that_of(&self, inspection: &Inspection) -> bool {
        let own = inspection.own.as_ref();
        self.listeners >= TOGETHER
            && own.is_some_and(|own| self.all.is_that_of(own, &inspection.cohort))
    }

    /// The handshakes without those that clients reset, and the verdict on them.
    pub fn holding(&self) -> (&Cohort, &Assessment) {
        self.held.as_ref().map_or((&self.cohort, &self.all), |(held, verdict)| (held, verdict))
    }
}

/// The clients of all listeners.
#[derive(Clone, Debug, Default)]
pub struct AllClients {
    pub clients: JoinedClients,
    /// Time at which they were last put together.
    gathered: Option<Timestamp>,
}

impl Listeners {
    /// The verdict on the failed handshakes of several listeners; `None` where they are too few, and none is
    /// reported together with others.
    pub fn pool(
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

    pub fn assess_together(
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
    pub fn natural_share(&self, inspections: &[&Inspection]) -> f64 {
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

    /// The class at those members of the host's incident at which another cause fails handshakes than the
    /// reported flood: clients with a path that breaks meanwhile need no mitigations.
    pub fn apart(
        &self,
        members: &[&Inspection],
        pool: &Pool,
        validated: &dyn ValidatedClients,
    ) -> Vec<Option<IncidentClass>> {
        let apart = |inspection: &&Inspection| {
            let is_part = pool.all.speaks_for(&inspection.cohort) == Some(true);
            (pool.all.class.is_flood() && !is_part).then(|| match inspection.is_thin() {
                true => IncidentClass::HandshakeDegraded,
                false => self.assess(inspection.id, &inspection.cohort, Some(validated)).class,
            })
        };
        members.iter().map(apart).collect()
    }
}

/// Returns whether most of some listeners are in a situation.
pub fn most_of<'a>(
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
