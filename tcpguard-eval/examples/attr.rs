//! Scratch: delays and lowest rates for a few seeds.
use tcpguard_engine::Mode;
use tcpguard_eval::{
    attacks, calm,
    judge::{Spans, Truth, judge},
    mixes::{self, Cast, WARM_UP},
    plan::Plan,
    stage::Stage,
    stats::{median, percentile},
    work::spread,
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let seeds: u64 = args[2].parse().unwrap();
    let first: u64 = args.get(3).map_or(1, |s| s.parse().unwrap());
    match args[1].as_str() {
        "delay" => delay(first, seeds),
        "faint" => faint(first, seeds),
        "calm" => {
            let days: f64 = args[4].parse().unwrap();
            let plan = Plan { crowds: args[5].parse().unwrap(), ..Plan::full(first, seeds, days) };
            for b in [calm::mixes(&plan), calm::crowds(&plan)] {
                println!("{}", b.title);
                println!("{:?}", b.columns);
                for r in &b.rows {
                    println!("{}", r.join(" | "));
                }
            }
        }
        _ => {}
    }
    let _ = (mixes::ALL.len(), Spans::default());
}

fn table(
    what: &str,
    first: u64,
    seeds: u64,
    jobs: Vec<(f64, Vec<(attacks::Attack, f64)>)>,
    span: f64,
) {
    let mut items = Vec::new();
    for (legit, cases) in &jobs {
        for seed in first..first + seeds {
            items.push((*legit, seed, cases.clone()));
        }
    }
    let out = spread(what, &items, |(legit, seed, cases)| {
        let cast = Cast::new(*seed);
        let warm = Stage::warm(cast.host(Mode::Observe).clients(cast.clients(*legit)), WARM_UP);
        let mut random = cast.random(3);
        cases
            .iter()
            .map(|(attack, rate)| {
                let from = warm.now() + 1.0 + 20.0 * random.share();
                let time = from..from + span + 2.0;
                let truth = Truth { from: time.start, until: time.end };
                let mut stage =
                    warm.fork().with(|lab| lab.flood(attack.flood(*rate, time.clone())));
                stage.run_while(time.end, |stage| {
                    judge(truth, &stage.alerts)
                        .told
                        .is_some_and(|told| stage.now() >= time.start + told + 2.0)
                });
                let report = stage.lab.report();
                let class = report
                    .incidents
                    .iter()
                    .chain(&report.past)
                    .find(|i| i.listener_id.0 == 0)
                    .map(|i| i.class);
                (judge(truth, &stage.alerts), class)
            })
            .collect::<Vec<_>>()
    });
    let mut k = 0;
    for (legit, cases) in &jobs {
        let mine = &out[k..k + seeds as usize];
        k += seeds as usize;
        for (i, (attack, rate)) in cases.iter().enumerate() {
            let told: Vec<Option<f64>> =
                mine.iter().map(|o| o[i].0.told.filter(|t| *t <= 60.0)).collect();
            let alarm: Vec<Option<f64>> = mine.iter().map(|o| o[i].0.alarm).collect();
            let named: Vec<Option<f64>> = mine.iter().map(|o| o[i].0.named).collect();
            let right = mine.iter().filter(|o| o[i].1 == Some(attack.class)).count();
            println!(
                "{:>15} {rate:>7} in {legit:>5}: alarm {:.2?} told {:.2?} p95 {:.2?} named {:.2?} p95 {:.2?} found {}/{} right {}",
                attack.name,
                median(&alarm),
                median(&told),
                percentile(&told, 0.95),
                median(&named),
                percentile(&named, 0.95),
                told.iter().flatten().count(),
                told.len(),
                right
            );
        }
    }
}

fn delay(first: u64, seeds: u64) {
    let mut jobs = Vec::new();
    for (legit, rates) in [
        (2000.0, vec![200.0, 1000.0, 1e4]),
        (200.0, vec![20.0, 100.0, 1000.0, 1e4]),
        (20.0, vec![100.0, 1000.0]),
    ] {
        let mut cases = Vec::new();
        for a in attacks::ALL {
            for r in &rates {
                if *r >= 1000.0 || a.name.starts_with("random") || *r == 20.0 {
                    cases.push((a, *r));
                }
            }
        }
        jobs.push((legit, cases));
    }
    table("delays", first, seeds, jobs, 40.0);
}

fn faint(first: u64, seeds: u64) {
    let mut jobs = Vec::new();
    for (legit, rates) in [
        (2000.0, vec![40.0, 50.0, 60.0, 70.0, 80.0]),
        (200.0, vec![4.0, 5.0, 6.0, 7.0, 8.0, 10.0]),
        (20.0, vec![2.0, 3.0, 4.0, 5.0, 6.0]),
    ] {
        let mut cases = Vec::new();
        for a in [attacks::RANDOM, attacks::MIMIC] {
            for r in &rates {
                cases.push((a, *r));
            }
        }
        jobs.push((legit, cases));
    }
    table("faint", first, seeds, jobs, 60.0);
}
