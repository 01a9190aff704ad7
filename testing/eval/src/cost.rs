//! Cost of the engine: CPU time per poll, and memory over a day.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tcpguard_engine::{Mode, Settings};
use tcpguard_sim::{Clients, Flood, Lab, Meter, Natural, POLL, Server};

use crate::allocated::bytes_of;
use crate::stats::percentile;
use crate::table::{Block, rate};
use crate::targets::{Finding, Target};

/// Heading of the block.
pub const TITLE: &str = "Engine cost";
/// Number of listeners for which the polls are measured.
const LISTENERS: usize = 256;
/// Clients a second of each.
const CLIENTS: f64 = 20.0;
/// Start of the floods, s. By then the baseline has been learned.
const BEGIN: f64 = 30.0;
/// Length of the measurement from [`BEGIN`] on, s.
const MEASURED: f64 = 60.0;
/// Listeners, and clients a second of each, in the day.
const DAY_LISTENERS: usize = 64;
const DAY_CLIENTS: f64 = 0.5;
/// Time between the starts of the day's floods, s. Each lasts ten seconds, at one listener after the other.
const FLOODS_EVERY: f64 = 600.0;
const HOUR: f64 = 3600.0;

/// Measures both; the day is cut short to `hours`.
pub fn block(seed: u64, hours: u64) -> Block {
    let note = format!(
        "CPU time of the thread that runs the engine, measured while it takes a sample and the \
         flows that it requested: {LISTENERS} listeners with {CLIENTS} clients/s each, {} polls \
         after {BEGIN} s of calm. These numbers depend on the machine, not on the seed, and are \
         not compared.\n\n\
         Memory is that of a copy of the engine, counted by the allocator, at {DAY_LISTENERS} \
         listeners with {DAY_CLIENTS} clients/s each and a flood of 2,000 SYN/s for ten seconds \
         every ten minutes.",
        polls()
    );
    let columns = ["scene", "SYN/s", "mean", "p95", "worst poll", "memory"];
    let mut block = Block::new(TITLE, &note, &columns);
    let floods = [("calm", 0, 0.0), ("1 flooded", 1, 10_000.0), ("64 flooded", 64, 1_000.0)];
    for (scene, flooded, flood) in floods {
        eprintln!("engine cost: {scene}");
        let (polls, bytes) = measured(seed, LISTENERS, flooded, flood);
        let mean = polls.iter().sum::<f64>() / polls.len() as f64;
        let syns = LISTENERS as f64 * CLIENTS + flooded as f64 * flood;
        let worst = polls.iter().copied().fold(0.0, f64::max);
        let p95 = percentile(&polls.iter().copied().map(Some).collect::<Vec<_>>(), 0.95);
        let ms = |value: f64| format!("{value:.2} ms");
        block.row([
            scene.to_owned(),
            rate(syns),
            ms(mean),
            ms(p95.unwrap_or(0.0)),
            ms(worst),
            mib(bytes),
        ]);
        block.findings.push(Finding::new(Target::PollCost, scene, mean));
    }
    let marks = [1, 6, 12, 18, 24].into_iter().filter(|hour| *hour <= hours);
    let day = day(seed, &marks.collect::<Vec<_>>());
    for (hour, bytes) in &day {
        let scene = format!("a day, hour {hour}");
        let syns = rate(DAY_LISTENERS as f64 * DAY_CLIENTS);
        let none = String::new;
        block.row([scene, syns, none(), none(), none(), mib(*bytes)]);
    }
    if let (Some((_, first)), Some((hour, last))) = (day.first(), day.last()) {
        let grown = last.saturating_sub(*first) as f64 / f64::from(1 << 20);
        let place = format!("hour 1 to hour {hour}");
        block.findings.push(Finding::new(Target::MemoryGrowth, place, grown));
    }
    block
}

const fn polls() -> u64 {
    (MEASURED * 1000.0) as u64 / POLL.as_millis() as u64
}

fn mib(bytes: usize) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Time on the processor that this thread has had.
fn thread_time() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec as u32)
}

fn lab(seed: u64, listeners: usize, clients: f64) -> Lab {
    let lab = Lab::seeded(Settings::default(), Mode::Enforce, seed);
    (0..listeners).fold(lab, |lab, to| {
        lab.listener(Server { backlog: 4096, ..Server::default() }).clients(Clients {
            to,
            natural: Natural::normal(),
            ..Clients::steady(clients)
        })
    })
}

/// Milliseconds of each poll from [`BEGIN`] on, and the engine's bytes at the end.
fn measured(seed: u64, listeners: usize, flooded: usize, rate: f64) -> (Vec<f64>, usize) {
    let end = BEGIN + MEASURED;
    let mut lab = (0..flooded).fold(lab(seed, listeners, CLIENTS), |lab, to| {
        lab.flood(Flood { to, ..Flood::random(rate, BEGIN..end) })
    });
    lab.run_until(BEGIN);
    lab.meter = Some(Meter { clock: thread_time, polls: Vec::new() });
    lab.run_until(end);
    let polls = lab.meter.take().map_or_else(Vec::new, |meter| meter.polls);
    (polls.iter().map(|poll| poll.as_secs_f64() * 1e3).collect(), bytes_of(&lab.engine))
}

/// The engine's bytes at these hours of a day.
fn day(seed: u64, hours: &[u64]) -> Vec<(u64, usize)> {
    let end = hours.last().map_or(0.0, |hour| *hour as f64 * HOUR);
    let floods = (1..).map(|number| f64::from(number) * FLOODS_EVERY - 60.0);
    let mut lab = floods.take_while(|from| *from < end).enumerate().fold(
        lab(seed, DAY_LISTENERS, DAY_CLIENTS),
        |lab, (number, from)| {
            let to = number % DAY_LISTENERS;
            lab.flood(Flood { to, ..Flood::random(2_000.0, from..from + 10.0) })
        },
    );
    let mut day = Vec::new();
    for &hour in hours {
        lab.run_until(hour as f64 * HOUR);
        lab.drain_alerts();
        eprintln!("engine cost: hour {hour}");
        day.push((hour, bytes_of(&lab.engine)));
    }
    day
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_measured_from_the_flood_on() {
        let (measured, bytes) = measured(1, 4, 1, 500.0);
        assert_eq!(measured.len() as u64, polls());
        assert!(measured.iter().all(|poll| *poll > 0.0));
        assert!(bytes > 4 * 1000, "{bytes}");
    }
}
