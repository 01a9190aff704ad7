//! End to end: real clients, a real service, a flood, and each defence in turn.
//!
//! Two cores stand for two machines: the guarded host receives in a kernel thread of its own on CPU
//! 0, whose run time tells what packets cost; the flood, the wire, clients and service are on CPU 1.
//! Each run has a lab of its own, and stands between two short ones of the perfect drop, so that a
//! change of the machine's mood shows. All arms of a round are run before the next round.

mod arm;
mod attack;
mod claims;
mod names;
mod record;
mod run;
mod table;
mod transfers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use tcpguard_e2e::guard;
use tcpguard_e2e::lab::Family;

use arm::Arm;
use attack::{Kind, PULSES, Rate};
use record::{Record, Run};
use run::{Setting, Timing};

/// Clients, a service, a flood and each defence in turn, in network namespaces; needs root and two CPUs
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench e2e",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Options {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// A few minutes: one round, short windows, near clients only. Shows that all works; proves
    /// nothing about percentages
    #[arg(long)]
    quick: bool,
    /// What the flood looks like
    #[arg(long, value_enum, default_value = "crude")]
    flood: Kind,
    /// Defences to compare, separated by commas; all that the flood leaves a meaning if not given
    #[arg(long, value_enum, value_delimiter = ',')]
    arms: Vec<Arm>,
    /// SYNs per second, separated by commas
    #[arg(long, value_parser = attack::parse_rate, value_delimiter = ',', default_value = "100k,500k,max")]
    rates: Vec<Rate>,
    /// Where clients are: near, far (100 ms ± 20 ms) or both [default: both, near with --quick]
    #[arg(long, value_enum)]
    clients_at: Option<Distance>,
    /// Connections per second from strangers, and as many from a client known before the flood
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    clients: u32,
    /// Rounds through all arms [default: 5, 1 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds in which attempts count, each run [default: 10,000 attempts in all rounds, 2 with --quick]
    #[arg(long)]
    window: Option<f64>,
    /// tcp_syn_linear_timeouts of the clients at maximum [default: 0,4 where the kernel has it, its
    /// own with --quick]
    #[arg(long, value_delimiter = ',')]
    linear: Vec<u8>,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
    /// Writes every run to FILE, and again after each round
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    Names(names::Names),
    Transfers(transfers::Transfers),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Distance {
    Near,
    Far,
    Both,
}

/// Attempts from strangers of which a percentage is claimed.
const ATTEMPTS: f64 = 10_000.0;

/// Runs the comparison.
///
/// # Errors
/// Without root or the guard's binary, or when the lab fails.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench e2e").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run as root");
    ensure!(std::thread::available_parallelism()?.get() >= 2, "this needs two CPUs");
    guard::binary()?;
    match &options.scenario {
        None => options.compare(),
        Some(Scenario::Names(names)) => names.bench(),
        Some(Scenario::Transfers(transfers)) => transfers.bench(),
    }
}

impl Options {
    fn compare(&self) -> Result<()> {
        let (timing, rounds, settings) = (self.timing(), self.rounds(), self.settings());
        let mut records = Vec::new();
        for setting in &settings {
            let arms = if setting.rate.is_none() { vec![Arm::Cookies1] } else { self.arms() };
            records.extend(arms.into_iter().map(|arm| Record::new(arm, *setting)));
        }
        let runs = (rounds * records.len()) as u32;
        let expected = runs * (timing.total() + Duration::from_secs(3));
        println!(
            "{} defences and settings, {rounds} round(s), {:.1} s windows: about {} minutes",
            records.len(),
            timing.window.as_secs_f64(),
            expected.as_secs().div_ceil(60)
        );
        for round in 1..=rounds {
            println!("round {round} of {rounds}");
            run_round(&mut records, &timing)?;
            self.write(&records)?;
        }
        println!("{}", table::render(&records));
        println!(
            "new: each from another address; known: from 64 that had connected before the flood. \
             (≥): lower end of the 95 % interval (Wilson). p50, p99: until the connection is open, \
             failures counted as 4.5 s. × drop: CPU time per packet by that of the perfect drop \
             around the run; a marked run stands between two that differ by more than 10 %."
        );
        Ok(())
    }

    fn write(&self, records: &[Record]) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let records: Vec<_> = records.iter().map(Record::to_json).collect();
        let document = json!({
            "schema": "tcpguard.bench.e2e/1",
            "kernel": kernel.trim(),
            "clients_per_s": self.clients,
            "window_s": self.timing().window.as_secs_f64(),
            "records": records,
        });
        fs::write(path, serde_json::to_string_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    fn timing(&self) -> Timing {
        let enough = ATTEMPTS / (f64::from(self.clients) * self.rounds() as f64);
        let window = self.window.unwrap_or(if self.quick { 2.0 } else { enough });
        // Whole pulses.
        let pulse = (PULSES.on + PULSES.off).as_secs_f64();
        let window = if self.flood.is_pulsed() { (window / pulse).ceil() * pulse } else { window };
        let seconds = |full, quick| Duration::from_millis(if self.quick { quick } else { full });
        let window = Duration::from_secs_f64(window);
        Timing { warm_up: seconds(2000, 1500), settle: seconds(4000, 2500), window }
    }

    fn arms(&self) -> Vec<Arm> {
        if !self.arms.is_empty() {
            return self.arms.clone();
        }
        let all = Arm::value_variants().iter().copied();
        // Against copies of the clients the guard has cookies only anyway.
        all.filter(|arm| *arm != Arm::OursCookies || self.flood != Kind::Mimic).collect()
    }

    /// In the order in which a round goes through them.
    fn settings(&self) -> Vec<Setting> {
        let default = if self.quick { Distance::Near } else { Distance::Both };
        let far: &[bool] = match self.clients_at.unwrap_or(default) {
            Distance::Near => &[false],
            Distance::Far => &[true],
            Distance::Both => &[false, true],
        };
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        let mut settings = Vec::new();
        for &far in far {
            let setting = |rate, linear| Setting {
                family,
                far,
                linear,
                flood: self.flood,
                rate,
                clients: self.clients,
            };
            settings.push(setting(None, None));
            for &rate in &self.rates {
                let linear = if rate == Rate::Maximum { self.linear() } else { vec![None] };
                settings.extend(linear.into_iter().map(|linear| setting(Some(rate), linear)));
            }
        }
        settings
    }

    fn linear(&self) -> Vec<Option<u8>> {
        const SYSCTL: &str = "/proc/sys/net/ipv4/tcp_syn_linear_timeouts";
        match (self.linear.as_slice(), self.quick || !Path::new(SYSCTL).exists()) {
            ([], false) => vec![Some(0), Some(4)],
            ([], true) => vec![None],
            (given, _) => given.iter().copied().map(Some).collect(),
        }
    }
}

/// Each defence in each setting once. Where one run follows another in the same setting, the perfect
/// drop between them belongs to both.
fn run_round(records: &mut [Record], timing: &Timing) -> Result<()> {
    let mut last: Option<(Setting, f64)> = None;
    for record in records.iter_mut().filter(|record| record.unavailable.is_none()) {
        let setting = record.setting;
        let flooded = setting.rate.is_some();
        let before = match last {
            Some((of, floor)) if of == setting => Some(floor),
            _ if flooded => Some(run::floor(&setting)?),
            _ => None,
        };
        let outcome = match run::run(record.arm, &setting, timing) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(run::Unavailable(reason))) => {
                println!("  {}: not available: {reason}", record.arm.title());
                record.unavailable = Some(reason);
                last = before.map(|floor| (setting, floor));
                continue;
            }
            // What hours have shown must not be lost for one run.
            Err(error) => {
                println!("  {}: failed: {error:#}", record.arm.title());
                record.failed += 1;
                last = None;
                continue;
            }
        };
        let after = if flooded { Some(run::floor(&setting)?) } else { None };
        last = after.map(|floor| (setting, floor));
        let brackets = before.zip(after).map(|(before, after)| [before, after]);
        let run = Run { outcome, brackets };
        println!("  {}", one_line(record, &run));
        record.runs.push(run);
    }
    Ok(())
}

/// How a run went.
fn one_line(record: &Record, run: &Run) -> String {
    let outcome = &run.outcome;
    let rate = record.setting.rate.map_or("idle".to_owned(), Rate::title);
    let state = outcome.status.as_ref().and_then(|status| status["daemon"]["state"].as_str());
    let state = state.map_or(String::new(), |state| format!(", {state}"));
    let brackets = run.brackets.map_or(String::new(), |[before, after]| {
        let mark = if run.is_marked() { ", MARKED" } else { "" };
        format!(", perfect drop {before:.0} and {after:.0} ns{mark}")
    });
    format!(
        "{rate}, {}: new {}; known {}; {:.0} offered/s, {:.0} taken/s{brackets}{state}",
        record.arm.title(),
        outcome.strangers.summary(),
        outcome.regulars.summary(),
        outcome.offered,
        outcome.load.rate(),
    )
}
