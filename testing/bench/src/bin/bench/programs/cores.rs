//! Packets that tcpguard's program takes on several CPUs at once, by those that it takes on one: a cache line that all
//! CPUs write would hold back each of them.
//!
//! Every CPU runs the program by BPF_PROG_TEST_RUN, on the same maps. The wrapper that makes the packets is in place
//! of a driver and takes less time than one, so that less of a packet's time is without shared lines than on a host.

use std::os::fd::AsFd as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use tcpguard_kit::net::bare::{BareProgram, Frames, Sources, Wrapper};
use tcpguard_kit::net::foreign::Verdict;
use tcpguard_kit::net::netns::Netns;

use super::case::{Family, LIST, Masks, Mode, Packet, Situation, Stream, Subject, among};
use super::frames::frame;
use super::stand::Stand;
use crate::part::{Goal, Part, Report};
use crate::record;
use crate::samples::Samples;

/// Packets that warm the caches, and show how many more fill the time.
const WARM: u32 = 20_000;
/// Share of the CPUs' number that the rate on all of them must reach.
const SCALED: f64 = 0.9;
/// Verdict of the controls.
const DROPPED: u32 = Verdict::Drop as u32;

/// Packets that the program takes on several CPUs at once, by those that it takes on one; needs root
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench cores", max_term_width = 100)]
pub struct Options {
    /// One round of short runs. Shows that all works; its figures prove little
    #[arg(long)]
    quick: bool,
    /// CPUs that take packets at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..))]
    cpus: u16,
    /// Rounds through all cases [default: 9, 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

impl Options {
    /// The extent that is recorded, or one that shows that it works.
    pub const fn of_record(quick: bool) -> Self {
        Self { quick, cpus: 2, rounds: None }
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 9 })
    }

    const fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 500 })
    }
}

/// Program on each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
enum Load {
    /// Nothing is shared: the machine's own ratio.
    Drop,
    /// All CPUs count in one word: the ratio of what must not be.
    SharedCounter,
    Ours(Packet, Situation, Family),
}

/// Packets a second of a load, round by round.
#[derive(Clone, Debug, Serialize)]
struct Case {
    load: Load,
    /// On one CPU, the mean of all.
    alone: Samples,
    /// On all CPUs together.
    together: Samples,
}

/// The results of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Cores {
    cpus: u16,
    cases: Vec<Case>,
    /// Loads that could not be measured on this machine, with the reason.
    missing: Vec<String>,
}

impl Load {
    /// The loads, those without tcpguard first.
    fn all() -> Vec<Self> {
        let signature = Situation::Signatures { count: 1, masks: Masks::One };
        let floods = [
            (Packet::Linux, Situation::Observe),
            (Packet::Bare, signature),
            (Packet::Bare, Situation::Listed(LIST)),
            (Packet::Linux, Situation::Cookies),
        ];
        let of = |family| floods.map(|(packet, situation)| Self::Ours(packet, situation, family));
        let ours = Family::ALL.into_iter().flat_map(of);
        [Self::Drop, Self::SharedCounter].into_iter().chain(ours).collect()
    }

    fn title(self) -> String {
        match self {
            Self::Drop => "a program that only drops".to_owned(),
            Self::SharedCounter => "the same, with one counter for all CPUs".to_owned(),
            Self::Ours(packet, situation, family) => {
                format!("{}: {}, {}", packet.title(), situation.title(), family.title())
            }
        }
    }

    /// The sources of a flood, or those that are listed.
    const fn sources(self) -> Sources {
        match self {
            Self::Ours(_, Situation::Listed(count), _) => among(count),
            _ => Sources::EVERYWHERE,
        }
    }

    /// The program behind its wrapper, the frame to run it on, and the expected verdict.
    fn program(self, stand: &mut Stand) -> Result<(BareProgram, Vec<u8>, u32)> {
        let sources = self.sources();
        let Self::Ours(packet, situation, family) = self else {
            let syn = frame(Packet::Bare, Family::V4, &stand.ours.secret);
            let drop = match self {
                Self::SharedCounter => BareProgram::counting(Verdict::Drop, Frames::Pieces)?,
                _ => BareProgram::load(Verdict::Drop, Frames::Pieces)?,
            };
            let wrapper = Wrapper::new(&syn, sources)?;
            return Ok((wrapper.xdp(Frames::Pieces, Some(drop.as_fd()))?, syn, DROPPED));
        };
        let stream = Stream { packet, family, sources };
        let subject = Subject::Ours(situation, Mode::Flood);
        ensure!(
            situation != Situation::Cookies || stand.ours.redeem().is_some(),
            "no cookies on this kernel"
        );
        let (program, frame) = stand.ready(stream, subject)?;
        Ok((program, frame, stream.verdict(subject)))
    }
}

impl Case {
    fn new(load: Load) -> Self {
        Self { load, alone: Samples::default(), together: Samples::default() }
    }

    /// Measures one more round: half of the CPUs alone, all at once, the other half alone.
    fn round(&mut self, stand: &mut Stand, cpus: &[usize], window: Duration) -> Result<()> {
        let (program, frame, verdict) = self.load.program(stand)?;
        let run = |cpus: &[usize]| rate(&program, &frame, verdict, cpus, window);
        let (first, others) = cpus.split_at(cpus.len() / 2);
        let alone = |cpus: &[usize]| cpus.iter().map(|&cpu| run(&[cpu])).sum::<Result<f64>>();
        let before = alone(first)?;
        let together = run(cpus)?;
        self.alone.push((before + alone(others)?) / cpus.len() as f64);
        self.together.push(together);
        Ok(())
    }

    /// The packets of all CPUs at once, by those of one.
    fn ratio(&self) -> Samples {
        self.together.over(&self.alone)
    }
}

/// Packets a second that a program takes on all of `cpus` at once, by the kernel's own clock. Each CPU takes them in
/// one run: before each, the kernel waits for all that runs.
fn rate(
    program: &BareProgram,
    frame: &[u8],
    verdict: u32,
    cpus: &[usize],
    window: Duration,
) -> Result<f64> {
    let (ready, done) = (Barrier::new(cpus.len()), AtomicUsize::new(0));
    let run = |cpu: usize| {
        // All wait for each other, whatever comes of it.
        let warm = keep_on(cpu).and_then(|()| program.test_run(frame, WARM));
        ready.wait();
        let packets = window.as_nanos() / u128::from(warm.as_ref().map_or(1, |(ns, _)| *ns).max(1));
        let measured = warm.and_then(|_| program.test_run(frame, packets as u32));
        done.fetch_add(1, Ordering::Relaxed);
        // Those that are slower still have company.
        while measured.is_ok() && done.load(Ordering::Relaxed) < cpus.len() {
            program.test_run(frame, WARM)?;
        }
        let (ns, result) = measured?;
        ensure!(result == verdict, "the program returned {result}");
        Ok(1e9 / f64::from(ns.max(1)))
    };
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || run(cpu))).collect();
        threads.into_iter().map(|it| it.join().map_err(|_| anyhow!("a run panicked"))?).sum()
    })
}

/// Keeps this thread on one CPU.
fn keep_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// Measures everything, in a namespace of its own that is gone afterwards.
///
/// # Errors
/// Without root or enough CPUs.
pub fn measure(options: &Options) -> Result<Cores> {
    ensure!(rustix::process::geteuid().is_root(), "loading BPF programs needs root: run as root");
    let allowed = sched_getaffinity(None)?;
    let free = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let cpus: Vec<_> = free.take(options.cpus.into()).collect();
    ensure!(cpus.len() == usize::from(options.cpus), "there are only {} CPUs", cpus.len());
    Netns::new(Cores::NAME)?.run(|| {
        let mut stand = Stand::load(options.window())?;
        let cases = Load::all().into_iter().map(Case::new).collect();
        let mut cores = Cores { cpus: options.cpus, cases, missing: Vec::new() };
        for round in 1..=options.rounds() {
            eprintln!("cores: round {round} of {}", options.rounds());
            cores.round(|case| case.round(&mut stand, &cpus, options.window()));
        }
        Ok(cores)
    })
}

/// `bench cores`.
///
/// # Errors
/// As of [`measure`].
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench cores").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    record::print_and_write(&measure(&options)?, None)
}

impl Cores {
    /// A case that fails once is listed as missing: ratios need all of its rounds.
    fn round(&mut self, mut measure: impl FnMut(&mut Case) -> Result<()>) {
        let missing = &mut self.missing;
        self.cases.retain_mut(|case| match measure(case) {
            Ok(()) => true,
            Err(error) => {
                missing.push(format!("{}: {error:#}", case.load.title()));
                false
            }
        });
    }

    fn case(&self, load: Load) -> Option<&Case> {
        self.cases.iter().find(|case| case.load == load)
    }

    /// The ratios between which tcpguard's can be. Where the CPUs share a core, one counter costs no more than none.
    fn scale(&self) -> String {
        let median = |load| self.case(load).and_then(|case| case.ratio().median());
        let controls =
            [(Load::Drop, "nothing shared"), (Load::SharedCounter, "one shared counter")];
        let controls = controls.map(|(load, title)| {
            format!("{title}: {}", median(load).map_or("–".to_owned(), |it| format!("{it:.2}")))
        });
        controls.join(", ")
    }

    /// The result of a load of tcpguard.
    fn goal(&self, load: Load) -> Goal {
        let ratio = self.case(load).map(Case::ratio).unwrap_or_default();
        let note = match ratio.count() {
            0 => self.missing.join("; "),
            _ => self.scale(),
        };
        Goal {
            name: format!("{} CPUs at once, {}", self.cpus, load.title()),
            unit: "× one".to_owned(),
            limit: SCALED * f64::from(self.cpus),
            at_least: true,
            note,
            ..ratio.goal()
        }
    }
}

impl Part for Cores {
    const NAME: &'static str = "cores";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        let cpus = self.cpus;
        report.text(format!(
            "### Cores\n\nMillion packets a second, median (min–max) of {} round(s), with the wrapper that makes them. \
             Flood mode. The first two rows have the ratios of what shares nothing, and of one counter for all CPUs.",
            self.cases.first().map_or(0, |case| case.together.count())
        ));
        let together = format!("{cpus} CPUs at once");
        let row = |case: &Case| {
            let millions = |rates: &Samples| rates.scaled(1e-6).cell(2);
            vec![
                case.load.title(),
                millions(&case.alone),
                millions(&case.together),
                case.ratio().cell(2),
            ]
        };
        report.table(&["", "one CPU", &together, "× one"], self.cases.iter().map(row));
        report.missing(&self.missing);
        let ours = Load::all().into_iter().filter(|load| matches!(load, Load::Ours(..)));
        report.goals = ours.map(|load| self.goal(load)).collect();
        report
    }
}
