//! `cargo xtask eval --live`: the detector, and others beside it, on a real kernel under real floods.
//!
//! Everything happens between network namespaces that vanish with this process, also after Ctrl-C.
//! Floods are bounded in number and time, whatever becomes of this process.
#![forbid(unsafe_code)]

mod entry;
mod meter;
mod others;
mod record;
mod runs;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use record::{Record, name};
use runs::{Purpose, Trouble};
use tcpguard_eval::golden::LIVE;
use tcpguard_eval::table::Block;
use tcpguard_kit::daemon::agent;

/// File of the record that the evaluation prints.
const RECORD: &str = "evaluation-live.json";

/// Judges the detector live, beside published ones, in network namespaces; needs root
#[derive(Parser)]
#[command(name = "cargo xtask eval --live", disable_help_subcommand = true)]
struct Arguments {
    /// Runs of each flood; the first four take a minute each, others seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Runs of each trouble that is no attack; a minute each [default: 3 at most]
    #[arg(long)]
    troubles: Option<u32>,
    /// Only rows whose name contains TEXT
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Keep the record, which the evaluation prints, again after each round
    #[arg(long, conflicts_with = "only")]
    update: bool,
    /// Folder of the record
    #[arg(long, value_name = "FOLDER", default_value = "testing/record")]
    record: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("eval: {failed} run(s) failed and are missing");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("eval: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays everything and returns how many runs failed.
fn run(arguments: &Arguments) -> Result<u32> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run as root");
    agent::binary()?;
    let mut record = Record::new(&arguments.only)?;
    ensure!(
        !record.fights.is_empty() || !record.troubles.is_empty(),
        "no row's name contains {:?}",
        arguments.only
    );
    let troubled = arguments.troubles.unwrap_or(3.min(arguments.runs));
    let rounds = arguments.runs.max(troubled);
    let expected: Duration = (0..rounds)
        .map(|round| {
            let fights = if round < arguments.runs { record.fights.len() } else { 0 };
            let troubles = if round < troubled { record.troubles.len() } else { 0 };
            Purpose::of(round).length() * fights as u32 + Trouble::length() * troubles as u32
        })
        .sum();
    eprintln!("{rounds} round(s), about {} minutes", expected.as_secs().div_ceil(60));
    let mut failed = 0;
    for round in 0..rounds {
        failed += play(&mut record, round, arguments.runs, troubled);
        if arguments.update {
            record.write(&arguments.record.join(RECORD))?;
        }
    }
    for block in record.blocks() {
        println!("{}", Block { title: format!("{LIVE}{}", block.title), ..block }.render());
    }
    Ok(failed)
}

/// Plays each row once, and returns how many times that failed. What an hour has shown must not be lost
/// for one run.
fn play(record: &mut Record, round: u32, runs: u32, troubled: u32) -> u32 {
    let mut failed = 0;
    // Another population each time.
    let seed = |row: usize| u64::from(round) << 32 | row as u64;
    if round < runs {
        for (row, (fight, runs)) in record.fights.iter_mut().enumerate() {
            let begun = Instant::now();
            let fought = fight.play(Purpose::of(round), seed(row));
            failed += keep(runs, fought, &format!("{}: {}", round + 1, name(fight)), begun);
        }
    }
    if round < troubled {
        for (row, (trouble, runs)) in record.troubles.iter_mut().enumerate() {
            let begun = Instant::now();
            let troubled = trouble.play(seed(row));
            failed += keep(runs, troubled, &format!("{}: {}", round + 1, trouble.name()), begun);
        }
    }
    failed
}

/// Keeps a run, says a line on it to those who wait, and returns 1 if it failed.
fn keep<R: Display>(runs: &mut Vec<R>, run: Result<R>, row: &str, begun: Instant) -> u32 {
    let took = begun.elapsed().as_secs_f64();
    match run {
        Ok(run) => {
            eprintln!("{row}, {took:.0} s: {run}");
            runs.push(run);
            0
        }
        Err(error) => {
            eprintln!("{row}, {took:.0} s: FAILED: {error:#}");
            1
        }
    }
}
