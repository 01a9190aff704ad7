//! Success of clients from before a flood's first SYN until after its last one, and the times at which
//! tcpguard detected it, acted, had every client in and stopped.
//!
//! All defences meet all floods in a round before the next one, each in a lab of its own.

mod course;
mod page;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use course::Course;
use run::Timing;
use serde::Serialize;

use crate::e2e::arm::Arm;
use crate::e2e::attack::Kind;
use crate::{e2e, record};

/// A flood that a signature distinguishes from clients, and one against which only cookies help.
const FLOODS: [Kind; 2] = [Kind::Fixed, Kind::Mimic];
const ARMS: [Arm; 3] = [Arm::Cookies1, Arm::Ours, Arm::Drop];

/// Success over time, before, during and after a flood, in network namespaces; needs root and two CPUs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench timeline", max_term_width = 100)]
pub struct Options {
    /// One round with short floods, without the ideal filter and without the release: a minute. Shows
    /// that all works; its figures prove little
    #[arg(long)]
    pub quick: bool,
    /// Writes the results and every run to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Options {
    const fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    fn timing(&self) -> Timing {
        let [before, flood, after] = if self.quick { [1, 5, 1] } else { [3, 6, 3] };
        let seconds = Duration::from_secs;
        Timing { before: seconds(before), flood: seconds(flood), after: seconds(after) }
    }

    fn arms(&self) -> &'static [Arm] {
        if self.quick { &ARMS[..2] } else { &ARMS }
    }

    /// Once, since that takes longer than all else of a run.
    const fn sees_release(&self, round: usize) -> bool {
        !self.quick && round == 1
    }
}

/// Success of new clients over time, with each defence under each flood.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    rounds: usize,
    /// Duration of a flood, in seconds.
    flood_s: f64,
    /// Quiet time after which tcpguard stops its mitigations, in seconds.
    hold_s: f64,
    records: Vec<Record>,
}

/// All runs of a defence under a flood.
#[derive(Clone, Debug, Serialize)]
struct Record {
    flood: Kind,
    arm: Arm,
    courses: Vec<Course>,
    /// Runs that showed nothing, and why.
    failures: Vec<String>,
}

impl Timeline {
    fn new(options: &Options) -> Self {
        let record = |flood, arm| Record { flood, arm, courses: Vec::new(), failures: Vec::new() };
        let of = |flood| options.arms().iter().map(move |arm| record(flood, *arm));
        Self {
            rounds: options.rounds(),
            flood_s: options.timing().flood.as_secs_f64(),
            hold_s: run::hold().as_secs_f64(),
            records: FLOODS.into_iter().flat_map(of).collect(),
        }
    }
}

impl Record {
    /// One more run; one that fails must not cost the others.
    fn round(&mut self, round: usize, options: &Options) {
        let title = format!("{} flood, {}", self.flood.title(), self.arm.title());
        let to_release = options.sees_release(round);
        match run::run(round, (self.flood, self.arm), &options.timing(), to_release) {
            Ok(course) => {
                println!("  {title}: {}", course.summary());
                self.courses.push(course);
            }
            Err(error) => {
                println!("  {title}: failed: {error:#}");
                self.failures.push(format!("round {round}: {error:#}"));
            }
        }
    }
}

/// Runs everything; the time it takes is bounded by its rounds.
///
/// # Errors
/// Without root, two CPUs or tcpguard's binary. What fails later is listed with its reason.
pub fn measure(options: &Options) -> Result<Timeline> {
    e2e::able()?;
    let minutes = if options.quick { 1 } else { 6 };
    println!("timeline: {} round(s), about {minutes} minutes", options.rounds());
    let mut timeline = Timeline::new(options);
    for round in 1..=options.rounds() {
        println!("timeline: round {round} of {}", options.rounds());
        timeline.records.iter_mut().for_each(|record| record.round(round, options));
    }
    Ok(timeline)
}

/// `bench timeline`.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench timeline").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    record::print_and_write(&measure(&options)?, options.json.as_deref())
}
