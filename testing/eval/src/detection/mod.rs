//! Detection delay and classification of floods, by our detector and by the others.
//!
//! A host runs for ten minutes. Then each flood is played on a copy of it, in observe mode, so that every detector sees
//! the same traffic.

mod rows;

pub use rows::{LEGEND, OTHERS, classes, delays, minimum, ramps, seeds};

use std::ops::Range;

use tcpguard_engine::{IncidentClass, Mode};
use tcpguard_sim::{Flood, Random};

use crate::attacks::{self, Attack};
use crate::judge::{Outcome, Truth, judge};
use crate::mixes::{Cast, WARM_UP};
use crate::plan::Plan;
use crate::stage::{LISTENER, Stage};
use crate::work::spread;

/// Time from the first alert to the inspection of the verdict, s.
const VERDICT: f64 = 2.0;
/// Time within which floods begin, s: the others look at intervals of up to 20 s, and none of these
/// must begin with the flood every time.
const PHASE: f64 = 20.0;
/// Times in which a slow ramp reaches the legitimate rate, s.
const RAMPS: [f64; 2] = [1800.0, 7200.0];

/// Result of one flood.
#[derive(Clone, Debug)]
pub struct Found {
    /// Result of our detector.
    pub ours: Outcome,
    /// Class two seconds after the first alert. `None` if there was no alert.
    pub class: Option<IncidentClass>,
    /// Time from the first SYN to the first alarm of each of the others, s.
    pub others: Vec<Option<f64>>,
}

/// A flood, and its result with each seed.
#[derive(Clone, Debug)]
pub struct Case {
    /// Kind of the flood.
    pub attack: Attack,
    /// Clients' connects a second beside it.
    pub legit: f64,
    /// SYNs a second; of a ramp those that it reaches.
    pub rate: f64,
    /// Time in which its rate grows, s; `None`: the whole rate at once.
    pub ramp: Option<f64>,
    /// Results, one for each seed.
    pub found: Vec<Found>,
}

impl Case {
    fn new(attack: Attack, legit: f64, rate: f64) -> Self {
        Self { attack, legit, rate, ramp: None, found: Vec::new() }
    }

    /// Returns the time of a flood that begins at `from`, s.
    fn time(&self, from: f64) -> Range<f64> {
        let span = self.ramp.unwrap_or_else(|| Plan::span(self.rate));
        // The time includes the verdict on a flood that is found in the last moment.
        from..from + span + VERDICT
    }

    /// Plays it on a copy of a host.
    fn play(&self, warm: &Stage, random: &mut Random) -> Found {
        let time = self.time(warm.now() + 1.0 + PHASE * random.share());
        let flood = self.attack.flood(self.rate, time.clone());
        let flood = Flood { ramp: self.ramp, ..flood };
        let truth = Truth { from: time.start, until: time.end };
        let mut stage = warm.fork().with(|lab| lab.flood(flood));
        let is_judged = |stage: &Stage| {
            let alerted = judge(truth, &stage.alerts).alerted;
            alerted.is_some_and(|alerted| stage.now() >= time.start + alerted + VERDICT)
        };
        stage.run_while(time.end, is_judged);
        let class = verdict(&stage);
        // Later observations of our detector are not needed, and in observe mode they change nothing.
        stage.lab.deaf = Some((stage.now(), f64::INFINITY));
        let end = if self.ramp.is_some() { stage.now() } else { time.end };
        stage.run_while(end, |stage| {
            stage.others().all(|other| other.first_since(time.start).is_some())
        });
        let ours = judge(truth, &stage.alerts);
        let others = stage.others().map(|other| Some(other.first_since(time.start)? - time.start));
        let class = class.filter(|_| ours.alerted.is_some());
        Found { ours, class, others: others.collect() }
    }
}

/// Class of the listener's incident now, or at the time when it ended.
fn verdict(stage: &Stage) -> Option<IncidentClass> {
    let report = stage.lab.report();
    let all = report.incidents.iter().chain(&report.past);
    let mut ours = all.filter(|incident| incident.listener_id.0 as usize == LISTENER);
    ours.next().map(|incident| incident.class)
}

/// Plays all floods of the plan with all seeds.
pub fn run(plan: &Plan) -> Vec<Case> {
    // The dearest first, so that no processor is left alone with one of them.
    let mut hosts: Vec<(f64, u64)> = Vec::new();
    for &legit in plan.legit.iter().rev() {
        hosts.extend(plan.seeds.iter().map(|seed| (legit, *seed)));
    }
    let played = spread("floods", &hosts, |&(legit, seed)| play(legit, seed, cases(plan, legit)));
    let mut all = Vec::new();
    for &legit in &plan.legit {
        let mut here = cases(plan, legit);
        for (host, found) in hosts.iter().zip(&played) {
            if host.0 == legit {
                here.iter_mut().zip(found).for_each(|(case, found)| case.found.push(found.clone()));
            }
        }
        all.append(&mut here);
    }
    all
}

/// The main numbers again, with other seeds: for each group the cases with as many seeds as the plan has.
pub fn run_others(plan: &Plan) -> Vec<(u64, Vec<Case>)> {
    let cases = || {
        [20.0, 1000.0]
            .into_iter()
            .flat_map(|rate| {
                [attacks::RANDOM, attacks::MIMICKING].map(|kind| Case::new(kind, 200.0, rate))
            })
            .collect::<Vec<_>>()
    };
    let groups = plan.other_seeds.iter();
    let hosts: Vec<(u64, u64)> = groups
        .flat_map(|&first| (0..plan.seeds.len() as u64).map(move |index| (first, first + index)))
        .collect();
    let played = spread("other seeds", &hosts, |&(_, seed)| play(200.0, seed, cases()));
    let mut all: Vec<(u64, Vec<Case>)> =
        plan.other_seeds.iter().map(|first| (*first, cases())).collect();
    for (host, found) in hosts.iter().zip(played) {
        let group = all.iter_mut().find(|(first, _)| *first == host.0);
        let cases = group.into_iter().flat_map(|(_, cases)| cases);
        cases.zip(found).for_each(|(case, found)| case.found.push(found));
    }
    all
}

fn play(legit: f64, seed: u64, cases: Vec<Case>) -> Vec<Found> {
    let cast = Cast::new(seed);
    let warm = Stage::warm(cast.host(Mode::Observe).clients(cast.clients(legit)), WARM_UP);
    let mut random = cast.random(3);
    cases.iter().map(|case| case.play(&warm, &mut random)).collect()
}

/// The floods that are played among so many clients.
fn cases(plan: &Plan, legit: f64) -> Vec<Case> {
    let mut cases = Vec::new();
    for attack in attacks::ALL {
        let rates = plan.rates.iter().filter(|rate| Plan::plays(legit, **rate));
        cases.extend(rates.map(|rate| Case::new(attack, legit, *rate)));
    }
    for attack in [attacks::RANDOM, attacks::MIMICKING] {
        let faint = Plan::faint(legit);
        let new = faint.iter().filter(|rate| !plan.rates.contains(rate));
        cases.extend(new.map(|rate| Case::new(attack, legit, *rate)));
    }
    for attack in [attacks::RANDOM, attacks::MIMICKING] {
        let ramps = RAMPS.map(|ramp| Case { ramp: Some(ramp), ..Case::new(attack, legit, legit) });
        cases.extend(ramps);
    }
    cases
}

/// The cases of one attack among so many clients, the slow ramps excepted.
fn of<'a>(cases: &'a [Case], attack: &str, legit: f64) -> impl Iterator<Item = &'a Case> {
    let attack = attack.to_owned();
    cases.iter().filter(move |case| {
        case.attack.name == attack && case.legit == legit && case.ramp.is_none()
    })
}
