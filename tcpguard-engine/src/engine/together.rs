//! Failing handshakes of several listeners, judged together: at those of the host's incident, and at those
//! where so few fail that each says little by itself.

use super::Engine;
use super::asking::ask_for_rules;
use super::lifecycle::{COUNTED, Judged, Look};
use super::rollup::signature;
use super::upkeep::CALM;
use crate::evidence::{
    Assessment, Background, Cohort, Missing, Novelty, Reach, Regulars, Surge, assess,
};
use crate::learned::{Clients, JoinedClients};
use crate::policy::Grounds;
use crate::watch::{Rest, Shared, Watch};
use crate::window::Sums;
use crate::{IncidentClass, KnownClients, ListenerId, Settings, Step, Timestamp};

/// Number of listeners with few failing handshakes from which they are judged together. Eight under the
/// slowest flood that must be found at a queue of 128 (4 SYN/s, see `occupancy_min`) have as many failing
/// flows in a second as a verdict needs (`evidence_flows`). Fewer would speak for each other by chance: a
/// false alarm in 26 days at each of 4,096 listeners (`slow_limit`), looked at for half a minute, is 0.05
/// alarms at a time, so that two meet every few hours, and eight once in ten million years.
pub(super) const TOGETHER: usize = 8;
/// Share of the listeners of the host's incident that must be in a situation for it to be the incident's: a
/// majority, since mitigations are then taken for all.
const MOST: f64 = 0.5;

/// The failing handshakes of several listeners, and the verdict on them.
pub(super) struct Pool {
    listeners: usize,
    cohort: Cohort,
    pub all: Assessment,
    /// The same without the flows that their clients reset, where there are any.
    held: Option<(Cohort, Assessment)>,
}

impl Pool {
    /// Whether its verdict is one on these flows, which are among its own; `None` while that is not known.
    pub fn speaks_for(&self, cohort: &Cohort, settings: &Settings) -> Option<bool> {
        if self.listeners < TOGETHER {
            return Some(false);
        }
        self.all.speaks_for(cohort, settings)
    }

    /// The verdict without the handshakes that clients reset.
    pub fn holding(&self) -> &Assessment {
        self.held.as_ref().map_or(&self.all, |(_, assessment)| assessment)
    }
}

/// The clients of all listeners.
#[derive(Clone, Debug, Default)]
pub(super) struct Everybody {
    clients: JoinedClients,
    /// Time at which they were last put together.
    gathered: Option<Timestamp>,
}

impl Engine {
    /// The verdicts on the inspected flows, and the measures: at listeners with few failing handshakes, and
    /// at those of the host's incident.
    pub(super) fn judge_together(
        &mut self,
        now: Timestamp,
        looks: &[Look],
        known: &dyn KnownClients,
    ) {
        // A listener with enough flows of its own would drown out the others.
        let is_part = |look: &&Look| self.is_thin(look) || self.is_rolled(look.id);
        let parts: Vec<&Look> = looks.iter().filter(is_part).collect();
        let pool = self.pool(now, &parts, known);
        let mut judged: Vec<(&Look, Judged)> = Vec::new();
        for look in looks {
            if !self.is_rolled(look.id)
                && let Some(verdict) = self.judge(now, look, pool.as_ref(), known)
            {
                judged.push((look, verdict));
            }
        }
        self.fill_places(now, |engine, id| {
            let look = looks.iter().find(|look| look.id == id)?;
            let pool = pool.as_ref().filter(|pool| {
                let speaks = || pool.speaks_for(&look.cohort, &engine.settings.common);
                engine.is_thin(look) && speaks() == Some(true)
            });
            Some(match (pool, &look.own) {
                (Some(pool), _) => engine.at(id, pool.all.clone()),
                (None, Some(own)) => own.clone(),
                (None, None) => engine.assess(id, &look.cohort, Some(known)),
            })
        });
        if let Some(pool) = &pool {
            self.judge_rolled(now, looks, pool, known);
        }
        // Last, so that a flood that a rule for every listener covers gets no other rule.
        for (look, verdict) in judged {
            self.act(now, look, verdict, known);
        }
    }

    /// The verdict on the failing handshakes of several listeners; `None` where they are too few, and none is
    /// reported together with others.
    fn pool(&mut self, now: Timestamp, looks: &[&Look], known: &dyn KnownClients) -> Option<Pool> {
        let is_stale = self.everybody.gathered.is_none_or(|gathered| now.since(gathered) >= CALM);
        if looks.len() < TOGETHER && !looks.iter().any(|look| self.is_rolled(look.id)) {
            if is_stale {
                self.everybody = Everybody::default();
            }
            return None;
        }
        if is_stale {
            let all: Vec<&Clients> = self.watches.values().map(|watch| &watch.clients).collect();
            let clients = JoinedClients::of(all.iter().copied());
            self.everybody = Everybody { clients, gathered: Some(now) };
        }
        let mut cohort = Cohort::pooled(looks.iter().map(|look| &look.cohort));
        if let Some(rolled) = &mut self.rolled {
            rolled.incident.admitted.note(now, &cohort.completed);
            cohort.admitted.clone_from(&rolled.incident.admitted);
        }
        let all = self.assess_together(looks, &cohort, known);
        let held = cohort.has_resets().then(|| {
            let held = cohort.without(|flow| flow.reset);
            let assessment = self.assess_together(looks, &held, known);
            (held, assessment)
        });
        Some(Pool { listeners: looks.len(), cohort, all, held })
    }

    fn assess_together(
        &self,
        looks: &[&Look],
        cohort: &Cohort,
        known: &dyn KnownClients,
    ) -> Assessment {
        let settings = &self.settings.common;
        let watches = || looks.iter().filter_map(|look| self.watches.get(&look.id));
        let recent = Sums::beside(watches().map(|watch| watch.recent(self.now, settings)));
        let seconds: Vec<[Sums; Surge::LASTING]> =
            watches().map(|watch| watch.window.seconds(self.now)).collect();
        let seconds =
            std::array::from_fn(|at| Sums::beside(seconds.iter().map(|seconds| seconds[at])));
        let usual = watches().filter_map(Watch::usual).reduce(|all, usual| all + usual);
        let completed = watches().filter_map(|watch| watch.completions().baseline);
        let completed = completed.reduce(|all, usual| all + usual);
        let natural_share = self.natural_share(looks);
        let counted = self.rolled.is_some() && recent.span >= COUNTED;
        let clients = &self.everybody.clients;
        let background = Background {
            natural_share,
            failing_share: counted
                .then(|| recent.failures() as f64 / recent.attempts.max(1) as f64),
            novelty: Novelty::of(cohort, &self.networks, natural_share, settings),
            surge: Surge::of(&seconds, usual, settings),
            clients_missing: Missing::of(&recent, completed),
            regulars: Regulars::of(cohort, clients, known, &recent, usual),
            reach: Reach::of(cohort, None, settings.distinct_min),
        };
        let mut assessment = assess(cohort, clients, background, settings);
        let evidence = &mut assessment.evidence;
        if recent.attempts > 0 {
            evidence.completion = (recent.completed as f64 / recent.attempts as f64).min(1.0);
        }
        let (mut all, mut most, mut syns) = (0, 0, 0.0);
        for (sources, each) in watches().filter_map(Watch::sources) {
            all += sources;
            most = most.max(sources);
            syns += sources as f64 * each;
        }
        // Spoofed sources differ from listener to listener; those of a few hosts are the same at every listener.
        let differ = evidence.singleton_share >= settings.singleton_share;
        evidence.sources_estimate = if differ { all } else { most };
        evidence.syns_per_source = (syns / evidence.sources_estimate.max(1) as f64).max(1.0);
        if self.one_sided || most_of(watches(), Watch::is_unsure) {
            assessment.doubt();
        }
        assessment
    }

    /// Baseline share of failing attempts, weighted by the attempts that were inspected at each listener.
    fn natural_share(&self, looks: &[&Look]) -> f64 {
        let (mut expected, mut all) = (0.0, 0.0);
        for look in looks {
            let completed: u64 = look.cohort.completed.iter().map(|(.., weight)| weight).sum();
            let weight = (look.cohort.weight() + completed) as f64;
            let share = self.watches.get(&look.id).map_or(0.0, Watch::natural_share);
            expected += share * weight;
            all += weight;
        }
        if all > 0.0 { expected / all } else { 0.0 }
    }

    /// Refines the incident of the host, and asks for the rules that it calls for.
    fn judge_rolled(
        &mut self,
        now: Timestamp,
        looks: &[Look],
        pool: &Pool,
        known: &dyn KnownClients,
    ) {
        if pool.cohort.failing.len() < self.settings.common.evidence_flows {
            return;
        }
        let members: Vec<&Look> = looks.iter().filter(|look| self.is_rolled(look.id)).collect();
        let apart = self.apart(&members, pool, known);
        let held_back = self.no_shared_rules();
        let source_forbidden = self.is_forbidden_somewhere(now, Step::Source);
        let signature_forbidden = self.is_forbidden_somewhere(now, Step::Signature);
        let inherited = self.orphaned();
        let watches = || members.iter().filter_map(|look| self.watches.get(&look.id));
        let unanswering = most_of(watches(), Watch::is_unanswering);
        let unanswerable = most_of(watches(), |watch| {
            let mode = self.settings.mode(watch.listener, self.mode);
            watch.is_unanswerable(now, self.enforced, mode)
        });
        let unsure = most_of(watches(), Watch::is_unsure);
        let waits = most_of(watches(), Watch::waits_for_routes);
        let armed = watches().filter_map(|watch| watch.armed.as_deref());
        let mut remembered: Vec<_> =
            armed.flat_map(|armed| armed.signatures.iter().copied()).collect();
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
            cohort,
            assessment,
            clients: &self.everybody.clients,
            known,
            exempt: &self.exempt,
            held_back,
            unsure,
            recurrence: &self.recurrence,
            inherited: &inherited,
            unanswering,
            unanswerable: self.saturated || unanswerable,
            source_forbidden,
            signature_forbidden,
            remembered: &remembered,
            settings: &self.settings.common,
        };
        let no_rule = ask_for_rules(incident, &grounds, &pool.all, waits);
        let class = incident.class();
        let held_back = held_back.filter(|_| class.is_flood()).map(str::to_owned);
        incident.note_restraint(no_rule.or(held_back), None);
        for (look, apart) in members.into_iter().zip(apart) {
            let Some(watch) = self.watches.get_mut(&look.id) else { continue };
            if let Some(rolled) = &mut watch.rolled {
                rolled.class = apart.unwrap_or(class);
            }
            // Rules of a time in which the listener had an incident of its own.
            let own: Vec<_> = self.book.signatures_of(look.id).filter_map(signature).collect();
            let shares = watch.shared != Shared::Sparing;
            watch.rest = Some(Rest::of(&look.cohort, |flow| {
                let is_own = own.iter().any(|(mask, print)| flow.print.masked(*mask) == *print);
                is_own || shares && incident.covers(flow)
            }));
        }
    }

    /// The class at those members of the host's incident at which another cause fails handshakes than the
    /// reported flood: clients with a path that breaks meanwhile need no mitigations.
    fn apart(
        &self,
        members: &[&Look],
        pool: &Pool,
        known: &dyn KnownClients,
    ) -> Vec<Option<IncidentClass>> {
        let settings = &self.settings.common;
        let apart = |look: &&Look| {
            let is_part = pool.all.speaks_for(&look.cohort, settings) == Some(true);
            (pool.all.class.is_flood() && !is_part).then(|| match self.is_thin(look) {
                true => IncidentClass::HandshakeDegraded,
                false => self.assess(look.id, &look.cohort, Some(known)).class,
            })
        };
        members.iter().map(apart).collect()
    }

    /// The incident of the host takes over the rules for every listener of an earlier run.
    fn take_over_shared(&mut self) {
        let ttl = self.settings.common.rule_ttl;
        let Some(rolled) = &mut self.rolled else { return };
        if !rolled.incident.class().is_flood() {
            return;
        }
        for entry in self.book.signatures_of(ListenerId::HOST).filter(|entry| entry.orphan) {
            let matcher = entry.rule.matcher;
            let incident = &mut rolled.incident;
            if !incident.wants(&matcher) && !incident.has_refused(self.now, &matcher) {
                incident.want(matcher, entry.rule.reason.clone(), ttl);
            }
        }
    }
}

/// Whether most of some listeners are in a situation.
fn most_of<'a>(watches: impl Iterator<Item = &'a Watch>, is_so: impl Fn(&Watch) -> bool) -> bool {
    let (mut all, mut so) = (0_u32, 0_u32);
    for watch in watches {
        all += 1;
        so += u32::from(is_so(watch));
    }
    all > 0 && f64::from(so) >= MOST * f64::from(all)
}
