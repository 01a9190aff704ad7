//! End to end: real clients, a real service, a flood, and each defence in turn.
//!
//! Two cores stand for two machines: the protected host receives in a kernel thread of its own on CPU
//! 0, whose run time is the cost of packets; the flood, the wire, clients and service are on CPU 1.
//! Each run has a lab of its own, and stands between two short ones of the ideal filter, so that a
//! change of the machine's mood shows. All arms of a round are run before the next round.

pub mod arm;
pub mod attack;
mod conntrack;
mod goals;
mod netfilter;
mod plan;
mod record;
pub mod run;
mod table;
mod xdp_filter;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, Result, ensure};
use arm::Arm;
use attack::{Kind, PULSES, Rate};
use clap::{Args, Parser, Subcommand, ValueEnum};
use record::{Record, Run};
use run::{Setting, Timing};
use serde::Serialize;
use tcpguard_kit::daemon::agent;
use tcpguard_kit::net::lab::Family;

use crate::machine::Machine;
use crate::part::{Part, Report};
use crate::record as records;

/// Clients, a service, a flood and each defence in turn, in network namespaces; needs root and two CPUs
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench e2e",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Options {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// Of the targets, instead of a comparison
    #[arg(skip)]
    targets: bool,
    /// A few minutes: one round, short windows, near clients only. Shows that all works; proves
    /// nothing about percentages
    #[arg(long)]
    quick: bool,
    /// Fingerprints and sources of the flood
    #[arg(long, value_enum, default_value = "fixed")]
    flood: Kind,
    /// Defences to compare, separated by commas; all that the flood leaves a meaning and that are not
    /// behind a packet filter if not given
    #[arg(long, value_enum, value_delimiter = ',')]
    arms: Vec<Arm>,
    /// SYNs per second, separated by commas
    #[arg(long, value_parser = attack::parse_rate, value_delimiter = ',', default_value = "10k,100k,500k,max")]
    rates: Vec<Rate>,
    /// Distance of clients: near, far (100 ms ± 20 ms) or both [default: both, near with --quick]
    #[arg(long, value_enum)]
    clients_at: Option<Distance>,
    /// Connections per second from new clients, and as many from clients known before the flood
    /// [default: 50]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    clients: Option<u32>,
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
    Targets(Targets),
}

/// The runs that the targets need: each defence at each rate three times, and those of the targets five times, in 80 minutes
#[derive(Debug, Args)]
struct Targets {
    /// The cells that targets are judged by once, in 3 minutes
    #[arg(long)]
    quick: bool,
    /// Writes every run to FILE, and again after each round
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Distance {
    Near,
    Far,
    Both,
}

/// Attempts of new clients of which a percentage is claimed.
const ATTEMPTS: f64 = 10_000.0;

/// Success of clients under floods, with each defence.
#[derive(Debug, Serialize)]
pub struct E2e {
    /// In which attempts count, in seconds.
    window_s: f64,
    records: Vec<Record>,
}

/// `bench e2e`: runs the comparison, or one of the other scenarios.
///
/// # Errors
/// As of [`measure`], when a claim of a scenario does not hold, or the file cannot be written.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench e2e").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    match &options.scenario {
        None => show(&options),
        Some(Scenario::Targets(Targets { quick, json })) => {
            show(&Options { json: json.clone(), ..Options::of_targets(*quick) })
        }
    }
}

fn show(options: &Options) -> Result<()> {
    records::print_and_write(&measure(options)?, options.json.as_deref())
}

/// Tests that labs can be measured here.
pub fn able() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run as root");
    ensure!(std::thread::available_parallelism()?.get() >= 2, "this needs two CPUs");
    agent::binary().map(drop)
}

/// Runs every defence in every setting, round by round. A run that fails is counted and the others go on.
///
/// # Errors
/// Without root, two CPUs or tcpguard's binary, when the ideal filter cannot be measured, or the file
/// cannot be written.
pub fn measure(options: &Options) -> Result<E2e> {
    able()?;
    let timing = options.timing();
    let window_s = timing.window.as_secs_f64();
    let mut found = E2e { window_s, records: options.records() };
    let rounds = found.records.iter().map(|record| record.rounds).max().unwrap_or(0);
    let runs: usize = found.records.iter().map(|record| record.rounds).sum();
    let of_one = |record: &Record| {
        let run = timing.of(record.arm, &record.setting).total() + Duration::from_secs(3);
        record.rounds as u32 * run
    };
    let expected: Duration = found.records.iter().map(of_one).sum();
    println!(
        "{} defences and settings, {runs} runs in {rounds} round(s), {window_s:.1} s windows: about {} \
         minutes",
        found.records.len(),
        expected.as_secs().div_ceil(60)
    );
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        run_round(&mut found.records, round, &timing)?;
        if let Some(path) = &options.json {
            let mut so_far = records::Record::new();
            so_far.add(&Machine::here()?, &found)?;
            so_far.write(path)?;
        }
    }
    Ok(found)
}

impl Part for E2e {
    const NAME: &'static str = "e2e";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        report.text("### Runs");
        table::tables(&mut report, &self.records);
        report.text(format!(
            "Attempts of {:.1} s in each run. New: each from another address. Known: from 64 addresses \
             that had connected before the flood. (≥): lower end of the 95 % interval (Wilson). Open connection \
             lost: share of the bytes of a validated client's open connection that it had to retransmit. \
             Offered: SYNs of the flood. Taken: packets that the defense processed. The others found the \
             ring full. × ideal: CPU time per packet, as a multiple of that of the ideal filter around the \
             run. A marked run is between two runs of the ideal filter that differ by more than 10 %.",
            self.window_s
        ));
        report.goals = goals::goals(&self.records);
        report
    }
}

impl Options {
    /// The options of the targets.
    pub fn of_targets(quick: bool) -> Self {
        Self {
            scenario: None,
            targets: true,
            quick,
            flood: Kind::Fixed,
            arms: Vec::new(),
            rates: Vec::new(),
            clients_at: None,
            clients: None,
            rounds: None,
            window: None,
            linear: Vec::new(),
            ipv6: false,
            json: None,
        }
    }

    /// The runs, in the order in which a round goes through it.
    fn records(&self) -> Vec<Record> {
        if self.targets {
            return plan::of_targets(self.base(), &self.linear(), self.quick);
        }
        let mut records = Vec::new();
        for setting in self.settings() {
            let arms = if setting.rate.is_none() { vec![Arm::Cookies1] } else { self.arms() };
            let rounds = self.rounds();
            records.extend(arms.into_iter().map(|arm| Record::new(arm, setting, rounds)));
        }
        records
    }

    fn clients(&self) -> u32 {
        self.clients.unwrap_or(if self.targets { plan::CLIENTS } else { 50 })
    }

    /// Without a flood, with near clients.
    fn base(&self) -> Setting {
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        Setting { clients: self.clients(), flood: self.flood, ..Setting::near(family) }
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    fn timing(&self) -> Timing {
        let enough = ATTEMPTS / (f64::from(self.clients()) * self.rounds() as f64);
        let window = self.window.unwrap_or(match (self.quick, self.targets) {
            (true, _) => 2.0,
            (false, true) => 3.0,
            (false, false) => enough,
        });
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
        // Against copies of the clients tcpguard has cookies only anyway, and against others it has
        // rules.
        all.filter(|arm| match arm {
            Arm::OursCookies => self.flood != Kind::Mimic,
            arm => !arm.is_behind_filter(),
        })
        .collect()
    }

    /// The chosen settings, or those that the comparison needs.
    fn settings(&self) -> Vec<Setting> {
        let default = if self.quick { Distance::Near } else { Distance::Both };
        let far: &[bool] = match self.clients_at.unwrap_or(default) {
            Distance::Near => &[false],
            Distance::Far => &[true],
            Distance::Both => &[false, true],
        };
        let mut settings = Vec::new();
        for &far in far {
            let setting = |rate, linear| Setting { far, linear, rate, ..self.base() };
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
            ([], false) => vec![Some(4), Some(0)],
            ([], true) => vec![None],
            (given, _) => given.iter().copied().map(Some).collect(),
        }
    }
}

/// Each defence in each setting once. Where one run follows another in the same setting, the perfect
/// drop between them belongs to both.
fn run_round(records: &mut [Record], round: usize, timing: &Timing) -> Result<()> {
    let mut last: Option<(Setting, f64)> = None;
    let due = |record: &&mut Record| record.unavailable.is_none() && record.rounds >= round;
    for record in records.iter_mut().filter(due) {
        let setting = record.setting;
        let before = match last {
            Some((of, floor)) if of == setting => Some(floor),
            _ if setting.rate.is_some() => Some(run::floor(&setting)?),
            _ => None,
        };
        let mut floor = before;
        match make(record, round, timing, &mut floor)? {
            Made::Run(mut run) => {
                println!("  {}", one_line(record, &run));
                // A flood that stayed away is worse than an unquiet machine.
                let doubt = |run: &Run| (setting.is_missed_by(run.offered), run.disagreement());
                if record.is_judged && (run.is_marked() || doubt(&run).0) {
                    record.repeated += 1;
                    if let Made::Run(again) = make(record, round, timing, &mut floor)? {
                        println!("  again: {}", one_line(record, &again));
                        if doubt(&again) < doubt(&run) {
                            run = again;
                        }
                    }
                }
                record.runs.push(*run);
            }
            Made::Unavailable(reason) => {
                println!("  {}: not available: {reason}", record.arm.title());
                record.unavailable = Some(reason);
            }
            // What hours have shown must not be lost for one run.
            Made::Failed(error) => {
                println!("  {}: failed: {error:#}", record.arm.title());
                record.failed += 1;
                floor = None;
            }
        }
        last = floor.map(|floor| (setting, floor));
    }
    Ok(())
}

/// Result of a run.
enum Made {
    Run(Box<Run>),
    Unavailable(String),
    Failed(Error),
}

/// One run, and the ideal filter behind it. `floor` is that before it, and then that behind it.
fn make(record: &Record, round: usize, timing: &Timing, floor: &mut Option<f64>) -> Result<Made> {
    let outcome = match run::run(record.arm, &record.setting, timing) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(run::Unavailable(reason))) => return Ok(Made::Unavailable(reason)),
        Err(error) => return Ok(Made::Failed(error)),
    };
    let before = *floor;
    *floor = record.setting.rate.map(|_| run::floor(&record.setting)).transpose()?;
    let brackets = before.zip(*floor).map(|(before, after)| [before, after]);
    Ok(Made::Run(Box::new(Run::new(round, &outcome, brackets))))
}

/// Describes a run in one line.
fn one_line(record: &Record, run: &Run) -> String {
    let rate = record.setting.rate.map_or("idle".to_owned(), Rate::title);
    let state = run.state.as_ref().map_or(String::new(), |state| format!(", {state}"));
    let mitigations: String =
        run.mitigations.iter().map(|mitigation| format!(", {mitigation}")).collect();
    let brackets = run.brackets.map_or(String::new(), |[before, after]| {
        let mark = if run.is_marked() { ", MARKED" } else { "" };
        format!(", ideal filter {before:.0} and {after:.0} ns{mark}")
    });
    let lost = run
        .syns_lost
        .map_or(String::new(), |lost| format!(", {lost:.2} % of clients' SYNs lost in the ring"));
    let tracked = run.conntrack.map_or(String::new(), |it| format!(", {}", it.summary()));
    format!(
        "{rate}, {}: new {}; known {}; {:.1} % of an open connection lost; {:.0} offered/s, {:.0} \
         lost in the ring/s, {:.0} taken/s{lost}{tracked}{brackets}{state}{mitigations}",
        record.arm.title(),
        run.new_clients.summary(),
        run.validated_clients.summary(),
        run.open_lost,
        run.offered,
        run.lost,
        run.taken,
    )
}
