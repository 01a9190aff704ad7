//! Cost of a packet in each program: tcpguard's, xdp-filter's, and a SYN proxy's.
//!
//! Each case runs by BPF_PROG_TEST_RUN, in rounds that go through all cases in turn, so that a change of
//! the machine's mood meets all of them. A wrapper in front makes the packet again for each run and draws
//! its source; "net" is what a case costs above a program that only drops, behind the same wrapper, run
//! right before and after.

mod case;
pub mod cores;
mod filter;
mod frames;
mod goals;
mod own;
mod page;
mod reference;
mod rules;
mod stand;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use case::{Stream, Subject};
use clap::Parser;
use serde::Serialize;
use stand::Stand;
use tcpguard_kit::net::netns::Netns;

use crate::record;
use crate::samples::Samples;

/// Time that the kernel takes for a measurement beside running it, about: it lets every program end that runs.
const OVERHEAD: Duration = Duration::from_millis(25);

/// Cost of a packet in each program, by BPF_PROG_TEST_RUN; needs root
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench programs", max_term_width = 100)]
pub struct Options {
    /// One round of short runs, two minutes. Shows that all works; its figures prove little
    #[arg(long)]
    quick: bool,
    /// Rounds through all cases [default: 9, 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Writes the results and every measurement to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    /// The extent that is recorded, or one that shows that it works.
    pub const fn of_record(quick: bool) -> Self {
        Self { quick, rounds: None, json: None }
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 9 })
    }

    /// Some ticks of [`tcpguard_common::abi::Pace`], so that the first one, in which a CPU does not know
    /// yet that this is a flood, counts for little.
    const fn run(&self) -> Duration {
        Duration::from_millis(if self.quick { 20 } else { 50 })
    }
}

/// Results of all rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Programs {
    rounds: usize,
    /// Names of tcpguard's programs, and the number of instructions that the verifier walked.
    verified: Vec<(String, Option<u32>)>,
    cases: Vec<Case>,
    /// Costs of the wrapper and of the program that drops, in ns.
    floors: Samples,
    /// Pairs of floors, and those that differ by more than a tenth.
    brackets: [usize; 2],
    /// Measurements that failed here, with their reasons.
    missing: Vec<String>,
}

/// A packet in a program.
#[derive(Clone, Debug, Serialize)]
struct Case {
    stream: Stream,
    subject: Subject,
    /// ns above the floor, one of each round.
    net: Samples,
}

impl Programs {
    fn round(&mut self, stand: &mut Stand, streams: &[(Stream, Vec<Subject>)]) -> Result<()> {
        for (stream, subjects) in streams {
            let round = stand.round(*stream, subjects).with_context(|| stream.title())?;
            for (subject, net) in round.net {
                self.note(*stream, subject, net);
            }
            self.floors.extend(round.floors);
            for (all, more) in self.brackets.iter_mut().zip(round.brackets) {
                *all += more;
            }
        }
        self.rounds += 1;
        Ok(())
    }

    /// A case that fails once is listed as missing: ratios need all of its rounds.
    fn note(&mut self, stream: Stream, subject: Subject, net: Result<f64>) {
        let at =
            self.cases.iter().position(|case| case.stream == stream && case.subject == subject);
        match (net, at) {
            (Ok(net), Some(at)) => self.cases[at].net.push(net),
            (Ok(net), None) if self.rounds == 0 => {
                self.cases.push(Case { stream, subject, net: [net].into_iter().collect() });
            }
            (Ok(_), None) => {}
            (Err(error), at) => {
                at.map(|at| self.cases.remove(at));
                let line = format!("{}, {}: {error:#}", subject.title(), stream.title());
                if !self.missing.contains(&line) {
                    self.missing.push(line);
                }
            }
        }
    }

    /// The net cost of a case.
    fn net(&self, stream: Stream, subject: Subject) -> Option<&Samples> {
        let same = |case: &&Case| case.stream == stream && case.subject == subject;
        self.cases.iter().find(same).map(|case| &case.net)
    }
}

/// Measures everything, in a namespace of its own that is gone afterwards.
pub fn measure(options: &Options) -> Result<Programs> {
    ensure!(rustix::process::geteuid().is_root(), "loading BPF programs needs root: run as root");
    // A BPF file system of its own, on which programs can share maps.
    Netns::new("programs")?.run(|| all_rounds(options))
}

fn all_rounds(options: &Options) -> Result<Programs> {
    let mut stand = Stand::load(options.run())?;
    let streams: Vec<_> =
        Stream::all().into_iter().map(|stream| (stream, stand.subjects(stream))).collect();
    let cases = streams.iter().map(|(_, subjects)| subjects.len()).sum::<usize>();
    // A floor for every four cases, and a short run before each.
    let runs = (cases * 5 / 4) as u32 * options.rounds();
    let time = (options.run() + 2 * OVERHEAD) * runs;
    eprintln!(
        "programs: {cases} cases, {} round(s), about {:.1} minutes",
        options.rounds(),
        time.as_secs_f64() / 60.0
    );
    let verified = stand.ours.programs.iter().map(|cost| (cost.name.clone(), cost.verified));
    let (verified, missing) = (verified.collect(), stand.missing());
    let mut programs = Programs { verified, missing, ..Programs::default() };
    let started = Instant::now();
    for round in 1..=options.rounds() {
        programs.round(&mut stand, &streams)?;
        let (rounds, seconds) = (options.rounds(), started.elapsed().as_secs());
        eprintln!("programs: round {round} of {rounds}, {seconds} s");
    }
    Ok(programs)
}

/// `bench programs`.
///
/// # Errors
/// As of [`measure`], and when the file cannot be written.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench programs").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    record::print_and_write(&measure(&options)?, options.json.as_deref())
}
