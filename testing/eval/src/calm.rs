//! False positives: how often floods are reported where there is none.

use tcpguard_engine::Mode;
use tcpguard_sim::{Clients, Population};

use crate::detection::OTHERS;
use crate::judge::Spans;
use crate::mixes::{self, Cast, Mix, Scene, WARM_UP};
use crate::plan::Plan;
use crate::stage::{LISTENER, Stage};
use crate::stats::poisson_upper;
use crate::table::Block;
use crate::targets::{Finding, Target};
use crate::work::spread;

const DAY: f64 = 86_400.0;
/// Flash crowds bring so many times as many clients.
const FLASH_CROWD: f64 = 20.0;
/// Clients a second before the flash crowd.
const BEFORE: [f64; 4] = [10.0, 20.0, 50.0, 100.0];

/// Events of one run.
#[derive(Clone, Debug, Default)]
struct Alerted {
    /// Events in which our detector reported a flood.
    floods: u64,
    /// Incidents that it called something else all the time.
    other: u64,
    /// Rules that it made.
    rules: u64,
    /// Events of the other detectors.
    others: Vec<u64>,
}

impl Alerted {
    fn of(stage: &Stage) -> Self {
        let begun = |at: f64| at >= WARM_UP;
        let mut incidents: Vec<u64> = stage.alerts.iter().map(|alert| alert.incident).collect();
        incidents.sort_unstable();
        incidents.dedup();
        let was_flood = |incident: &u64| {
            let mut alerts = stage.alerts.iter().filter(|alert| alert.incident == *incident);
            alerts.any(|alert| alert.class.is_flood())
        };
        Self {
            floods: Spans::of_floods(&stage.alerts).events(WARM_UP),
            other: incidents.iter().filter(|incident| !was_flood(incident)).count() as u64,
            rules: stage.lab.installed.iter().filter(|(at, _)| begun(*at)).count() as u64,
            others: stage.others().map(|other| other.events(WARM_UP)).collect(),
        }
    }
}

/// A column of numbers, added up.
fn sum(alerted: &[Alerted], value: impl Fn(&Alerted) -> u64) -> u64 {
    alerted.iter().map(value).sum()
}

/// Ours and the others' events as cells.
fn cells(alerted: &[Alerted]) -> Vec<String> {
    let ours = [sum(alerted, |alerted| alerted.floods), sum(alerted, |alerted| alerted.other)];
    let rules = sum(alerted, |alerted| alerted.rules);
    let others = (0..OTHERS.len()).map(|other| sum(alerted, |alerted| alerted.others[other]));
    ours.into_iter().chain([rules]).chain(others).map(|count| count.to_string()).collect()
}

const COLUMNS: [&str; 3] = ["floods", "other", "rules"];

/// Days of benign traffic.
pub fn mixes(plan: &Plan) -> Block {
    let note = format!(
        "Floods reported in benign traffic, in observe mode, after 10 minutes of warm-up. For \
         every detector, alarms less than 30 s apart count as one. \"Other\" are incidents of \
         another class: a broken path, a full accept queue. \"Rules\" are those that would have \
         been made. Outages, lost SYN-ACKs and stalls come once an hour for 10 s to 2 min. Seeds \
         {}, each with as many hours.",
        plan.seeds_in_words()
    );
    let columns = [&["mix", "days"][..], &COLUMNS[..], &OTHERS[..]].concat();
    let mut block = Block::new("False positives", &note, &columns);
    let runs: Vec<(Mix, u64)> = mixes::ALL
        .iter()
        .flat_map(|mix| plan.seeds.iter().map(move |seed| (*mix, *seed)))
        .collect();
    let each = plan.days * DAY / runs.len() as f64;
    let alerted = spread("benign traffic", &runs, |&(mix, seed)| {
        let until = WARM_UP + each;
        let Scene { lab, stalls } = (mix.scene)(&Cast::new(seed), until);
        let mut stage = Stage::new(lab);
        for stall in stalls {
            stage.run_until(stall.start);
            stage.lab.kernel.set_accepting(LISTENER, false);
            stage.run_until(stall.end);
            stage.lab.kernel.set_accepting(LISTENER, true);
        }
        stage.run_until(until);
        Alerted::of(&stage)
    });
    for (mix, alerted) in mixes::ALL.iter().zip(alerted.chunks(plan.seeds.len())) {
        let days = format!("{:.2}", each * alerted.len() as f64 / DAY);
        block.row([mix.name.to_owned(), days].into_iter().chain(cells(alerted)));
        let rules = sum(alerted, |alerted| alerted.rules) as f64;
        block.findings.push(Finding::new(Target::BenignRules, mix.name, rules));
    }
    block.row(["all".to_owned(), format!("{:.2}", plan.days)].into_iter().chain(cells(&alerted)));
    let per_month = |events: f64| 30.0 * events / plan.days;
    let events: Vec<u64> = std::iter::once(sum(&alerted, |alerted| alerted.floods))
        .chain((0..OTHERS.len()).map(|other| sum(&alerted, |alerted| alerted.others[other])))
        .collect();
    let mut bounds =
        events.iter().map(|events| format!("{:.2}", per_month(poisson_upper(*events))));
    let mut row = vec!["per 30 days, at most (95 %)".to_owned(), String::new()];
    row.extend(bounds.next());
    row.extend([String::new(), String::new()]);
    row.extend(bounds);
    block.row(row);
    let finding = Finding::new(Target::FalsePositives, "all mixes", per_month(events[0] as f64))
        .with_bound(per_month(poisson_upper(events[0])));
    block.findings.push(finding);
    block
}

pub fn crowds(plan: &Plan) -> Block {
    let note = "Twenty times as many clients from one moment to the next, for half a minute to three \
                minutes. In every other flash crowd, all clients are new. Counted are flash crowds with \
                a reported flood. \"Other\" are other incidents, such as the flash crowd itself.";
    let columns = [&["clients/s", "flash crowds"][..], &COLUMNS[..], &OTHERS[..]].concat();
    let mut block = Block::new("Flash crowds", note, &columns);
    let runs: Vec<usize> = (0..plan.crowds).collect();
    let alerted = spread("flash crowds", &runs, |&run| crowd(plan, run));
    for (index, before) in BEFORE.iter().enumerate() {
        let here: Vec<Alerted> =
            alerted.iter().skip(index).step_by(BEFORE.len()).cloned().collect();
        let name = format!("{before} to {}", before * FLASH_CROWD);
        block.row([name, here.len().to_string()].into_iter().chain(cells(&here)));
    }
    block.row(["all".to_owned(), alerted.len().to_string()].into_iter().chain(cells(&alerted)));
    let place = format!("{} flash crowds", alerted.len());
    let floods = sum(&alerted, |alerted| alerted.floods) as f64;
    block.findings.push(Finding::new(Target::FlashCrowdFloods, place.clone(), floods));
    let rules = sum(&alerted, |alerted| alerted.rules) as f64;
    block.findings.push(Finding::new(Target::BenignRules, place, rules));
    block
}

fn crowd(plan: &Plan, run: usize) -> Alerted {
    let seed = plan.seeds[run % plan.seeds.len()];
    let before = BEFORE[run % BEFORE.len()];
    let cast = Cast::new(seed);
    let mut random = cast.random(100 + run as u64);
    let from = WARM_UP + 5.0 + 20.0 * random.share();
    let until = from + 30.0 + 150.0 * random.share();
    let new_clients = run / BEFORE.len() % 2 == 1;
    let population = match new_clients {
        true => Population::new(seed.wrapping_add(1 << 32)),
        false => cast.population.clone(),
    };
    let flash_crowd = Clients {
        from,
        until,
        population: Some(population),
        ..cast.clients(before * (FLASH_CROWD - 1.0))
    };
    let lab = cast.host(Mode::Observe).clients(cast.clients(before)).clients(flash_crowd);
    let mut stage = Stage::new(lab);
    stage.run_until(until + 60.0);
    // A detector is alarmed in a flash crowd or not, however often.
    let alerted = Alerted::of(&stage);
    Alerted {
        floods: alerted.floods.min(1),
        others: alerted.others.iter().map(|events| *events.min(&1)).collect(),
        ..alerted
    }
}
