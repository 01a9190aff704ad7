//! Service to clients while floods are mitigated, and the mitigations applied where none must be.

use std::ops::Range;

use tcpguard_engine::{Mode, Request};
use tcpguard_sim::{Clients, Lab, Outage, Random, Shape, Sources, Tally, Whom};

use crate::attacks::{self, Attack};
use crate::judge::{Outcome, Truth, judge};
use crate::mixes::{BACKLOG, CARRIER, Cast, WARM_UP};
use crate::plan::Plan;
use crate::stage::{LISTENER, Stage};
use crate::stats::{median, percentile};
use crate::table::{Block, none, percent, rate, seconds};
use crate::targets::{Finding, Target};
use crate::work::spread;

const LEGIT: f64 = 200.0;
/// Duration of a flood, s.
const FLOOD: f64 = 60.0;
/// Duration of a flood that comes in pulses, s.
const PULSED: f64 = 300.0;
/// Duration of one of the largest floods, s.
const HUGE: f64 = 15.0;
/// Longest wait for the end of the incident, s.
const AFTER: f64 = 120.0;
/// Time for which the run waits for another alert about the same flood, s.
const RELAPSE: f64 = 10.0;
/// The middle one of the rates of the published page, SYN/s.
const MIDDLE: f64 = 1e4;
/// Rate from which a flood is one of the largest, SYN/s.
const HUGE_RATE: f64 = 1e6;

/// One flood to be fought.
#[derive(Clone, Debug)]
struct Fight {
    name: String,
    attack: Attack,
    rate: f64,
    /// Half of the clients share the attacker's address.
    shared: bool,
}

/// Outcome of a fight.
#[derive(Clone, Debug)]
struct Fought {
    outcome: Outcome,
    tally: Tally,
    rules: usize,
    /// Number of times that a mitigation beside rules was started.
    mitigations: usize,
}

impl Fight {
    fn new(attack: Attack, rate: f64) -> Self {
        Self { name: attack.name.to_owned(), attack, rate, shared: false }
    }

    fn time(&self, from: f64) -> Range<f64> {
        let span = match self.rate >= HUGE_RATE {
            true => HUGE,
            false if self.attack.is_steady() => FLOOD,
            false => PULSED,
        };
        from..from + span
    }

    /// Returns whether the table has it: of the middle rate, floods that are played at no other.
    fn is_shown(&self) -> bool {
        self.rate != MIDDLE || attacks::ALL.iter().all(|attack| attack.name != self.name)
    }

    /// Plays it on a copy of a host.
    fn play(&self, warm: &Stage, random: &mut Random) -> Fought {
        let time = self.time(warm.now() + 1.0 + random.share());
        let mut stage = enforcing(warm).with(|lab| {
            let flood = self.attack.flood(self.rate, time.clone());
            lab.flood(flood)
        });
        stage.run_until(time.start);
        stage.lab.clear_tally();
        stage.run_until(time.end);
        let tally = stage.lab.tally();
        let truth = Truth { from: time.start, until: self.attack.last_syn(time.clone()) };
        stage.run_while(time.end + AFTER, |stage| {
            judge(truth, &stage.alerts).released.is_some_and(|ended| {
                // A relapse would be reported soon.
                stage.now() > truth.until + ended + RELAPSE
            })
        });
        Fought {
            outcome: judge(truth, &stage.alerts),
            tally,
            rules: stage.lab.installed.len(),
            mitigations: stage.lab.mitigations.len(),
        }
    }
}

/// A copy of a host on which rules and mitigations take effect.
fn enforcing(warm: &Stage) -> Stage {
    let mut stage = warm.fork();
    let mode = Request::SetMode { mode: Mode::Enforce };
    stage.lab.request(mode).expect("the mode can be set");
    stage
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn fights(plan: &Plan) -> Vec<Fight> {
    let one_address = Attack { sources: Sources::One(CARRIER), ..attacks::ALL[3] };
    let mut fights: Vec<Fight> = Vec::new();
    for attack in attacks::ALL {
        fights.extend(plan.mitigated.iter().map(|rate| Fight::new(attack, *rate)));
    }
    let bad_host = Attack { shape: Shape::Bare, ..one_address };
    fights.extend([
        Fight { name: "random, 10 s pauses".to_owned(), ..Fight::new(attacks::LONG_PAUSES, 1e4) },
        Fight {
            name: "one behind carrier NAT".to_owned(),
            shared: true,
            ..Fight::new(bad_host, 1e3)
        },
    ]);
    if plan.mitigated.len() > 1 {
        fights.push(Fight::new(attacks::MIMICKING, HUGE_RATE));
    }
    fights
}

/// Floods that are fought.
pub fn floods(plan: &Plan) -> Block {
    let note = format!(
        "In enforce mode, {LEGIT:.0} clients/s. \"Dropped\" is the share \
         of the clients' own SYNs that were dropped during the flood. \"Validated\" counts those \
         of clients with an earlier handshake. \"Served\" is the share of the clients connected \
         within a second, 1.5 % of which are lost in any case. All three are over all runs, seeds \
         {}. \"Release\" is the time (s) from the last SYN to the end of the incident, median and \
         longest, – if it was two minutes longer. \"Floods\" is the largest number of incidents \
         of one flood. More than one is a flap. \"Rules\" and \"mitigations\" are the largest \
         numbers as well. Floods last 60 s, pulses (0.5 s) 300 s, 1 M/s 15 s. Those of 10 k/s are \
         in the table only where they are no repetition, and count for the targets.",
        plan.seeds_in_words()
    );
    let columns = [
        "attack",
        "SYN/s",
        "dropped",
        "validated",
        "served",
        "release",
        "longest",
        "floods",
        "rules",
        "mitigations",
    ];
    let mut block = Block::new("Mitigated floods", &note, &columns);
    let fights = fights(plan);
    let played = spread("mitigated floods", &plan.seeds, |&seed| {
        let cast = Cast::new(seed);
        let clients = cast.clients(LEGIT);
        let warm = Stage::warm(cast.host(Mode::Observe).clients(clients), WARM_UP);
        let half = cast.clients(LEGIT / 2.0);
        let neighbours = Clients { behind: Some(CARRIER), ..half.clone() };
        let shared = cast.host(Mode::Observe).clients(half).clients(neighbours);
        let shared = Stage::warm(shared, WARM_UP);
        let mut random = cast.random(4);
        let host = |fight: &Fight| if fight.shared { &shared } else { &warm };
        fights.iter().map(|fight| fight.play(host(fight), &mut random)).collect::<Vec<_>>()
    });
    for (index, fight) in fights.iter().enumerate() {
        let fought: Vec<&Fought> = played.iter().map(|played| &played[index]).collect();
        add_fight(&mut block, fight, &fought);
    }
    block
}

fn add_fight(block: &mut Block, fight: &Fight, fought: &[&Fought]) {
    let sum = |value: fn(&Tally) -> u64| fought.iter().map(|fought| value(&fought.tally)).sum();
    let dropped = share(sum(|tally| tally.dropped), sum(|tally| tally.syns));
    let validated: u64 = sum(|tally| tally.validated_dropped);
    let served = share(sum(|tally| tally.connected_1s), sum(|tally| tally.attempts));
    let released: Vec<Option<f64>> = fought.iter().map(|fought| fought.outcome.released).collect();
    let incidents = fought.iter().map(|fought| fought.outcome.floods).max().unwrap_or(0);
    let longest = percentile(&released, 1.0);
    let most = |value: fn(&Fought) -> usize| {
        fought.iter().map(|fought| value(fought)).max().unwrap_or(0).to_string()
    };
    let row = [
        fight.name.clone(),
        rate(fight.rate),
        dropped.map_or_else(none, |share| format!("{:.2} %", share * 100.0)),
        validated.to_string(),
        percent(served),
        seconds(median(&released)),
        seconds(longest),
        incidents.to_string(),
        most(|fought| fought.rules),
        most(|fought| fought.mitigations),
    ];
    if fight.is_shown() {
        block.row(row);
    }
    let place = format!("{}, {}/s", fight.name, rate(fight.rate));
    let finding = |target, value| Finding::new(target, place.clone(), value);
    block.findings.extend([
        finding(Target::LegitDropped, dropped.unwrap_or(0.0)),
        finding(Target::ValidatedDropped, validated as f64),
        finding(Target::Release, longest.unwrap_or(f64::INFINITY)),
    ]);
    if !fight.attack.is_steady() {
        block.findings.push(finding(Target::Flaps, incidents.saturating_sub(1) as f64));
    }
}

/// Trouble that is no attack, of which it is tried whether it is taken for one.
struct Trouble {
    name: &'static str,
    lab: fn(&Cast, Range<f64>) -> Lab,
    /// The application does not accept meanwhile.
    stalls: bool,
}

const TROUBLES: [Trouble; 7] = [
    Trouble { name: "flash crowd × 20", lab: flash_crowd, stalls: false },
    Trouble {
        name: "application stalls",
        lab: |cast, _| cast.small_host(Mode::Enforce, BACKLOG).clients(cast.clients(LEGIT)),
        stalls: true,
    },
    Trouble {
        name: "outage of 5 % of clients",
        lab: |cast, time| outage(cast, Outage::of(time, 0.05)),
        stalls: false,
    },
    Trouble {
        name: "outage of 20 % of clients",
        lab: |cast, time| outage(cast, Outage::of(time, 0.2)),
        stalls: false,
    },
    Trouble {
        name: "outage of 60 % of clients",
        lab: |cast, time| outage(cast, Outage::of(time, 0.6)),
        stalls: false,
    },
    Trouble {
        name: "one ISP loses SYN-ACKs",
        lab: |cast, time| outage(cast, Outage { whom: Whom::Isp(0), ..Outage::of(time, 1.0) }),
        stalls: false,
    },
    Trouble { name: "one office's path breaks", lab: office, stalls: false },
];

fn flash_crowd(cast: &Cast, time: Range<f64>) -> Lab {
    let flash_crowd =
        Clients { from: time.start, until: time.end, ..cast.clients(LEGIT / 2.0 * 19.0) };
    cast.host(Mode::Enforce).clients(cast.clients(LEGIT / 2.0)).clients(flash_crowd)
}

fn outage(cast: &Cast, outage: Outage) -> Lab {
    let clients = Clients { outage: Some(outage), ..cast.clients(LEGIT) };
    cast.host(Mode::Enforce).clients(clients)
}

/// An office behind one address, with as many clients as all others together.
fn office(cast: &Cast, time: Range<f64>) -> Lab {
    let half = cast.clients(LEGIT / 2.0);
    let office =
        Clients { behind: Some(CARRIER), outage: Some(Outage::of(time, 1.0)), ..half.clone() };
    cast.host(Mode::Enforce).clients(half).clients(office)
}

/// Trouble that is none of an attacker's making.
pub fn troubles(plan: &Plan) -> Block {
    let note = format!(
        "In enforce mode, {LEGIT:.0} clients/s (the flash crowd: from {:.0}), trouble of 60 s, \
         seeds {}. \"Flood\" counts the runs with a reported flood, if only for a moment. \
         \"Rules\" and \"mitigations\" are all that were made or started, which should be none. \
         \"Dropped\" is the share of the clients' SYNs.",
        LEGIT / 2.0,
        plan.seeds_in_words()
    );
    let columns = ["trouble", "runs", "reported", "flood", "rules", "mitigations", "dropped"];
    let mut block = Block::new("Benign trouble", &note, &columns);
    let runs: Vec<(usize, u64)> = (0..TROUBLES.len())
        .flat_map(|trouble| plan.seeds.iter().map(move |seed| (trouble, *seed)))
        .collect();
    let fought = spread("benign trouble", &runs, |&(trouble, seed)| {
        let trouble = &TROUBLES[trouble];
        let cast = Cast::new(seed);
        let time = WARM_UP..WARM_UP + FLOOD;
        let mut stage = Stage::new((trouble.lab)(&cast, time.clone()));
        stage.run_until(time.start);
        stage.lab.clear_tally();
        stage.lab.kernel.set_accepting(LISTENER, !trouble.stalls);
        stage.run_until(time.end);
        stage.lab.kernel.set_accepting(LISTENER, true);
        stage.run_until(time.end + AFTER);
        let alerted = stage.alerts.iter().any(|alert| alert.at >= time.start);
        let fought = Fought {
            outcome: judge(Truth { from: time.start, until: time.end }, &stage.alerts),
            tally: stage.lab.tally(),
            rules: stage.lab.installed.len(),
            mitigations: stage.lab.mitigations.len(),
        };
        (alerted, fought)
    });
    for (trouble, fought) in TROUBLES.iter().zip(fought.chunks(plan.seeds.len())) {
        let count = |is_it: fn(&(bool, Fought)) -> bool| {
            fought.iter().filter(|fought| is_it(fought)).count()
        };
        let sum = |value: fn(&Fought) -> u64| fought.iter().map(|(_, fought)| value(fought)).sum();
        let rules: u64 = sum(|fought| fought.rules as u64);
        let dropped = share(sum(|fought| fought.tally.dropped), sum(|fought| fought.tally.syns));
        block.row([
            trouble.name.to_owned(),
            fought.len().to_string(),
            count(|(alerted, _)| *alerted).to_string(),
            count(|(_, fought)| fought.outcome.floods > 0).to_string(),
            rules.to_string(),
            sum(|fought| fought.mitigations as u64).to_string(),
            percent(dropped),
        ]);
        block.findings.push(Finding::new(Target::BenignRules, trouble.name, rules as f64));
    }
    block
}
