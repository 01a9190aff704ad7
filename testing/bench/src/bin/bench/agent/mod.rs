//! Costs of the agent: CPU time, memory, and the time that others wait for it.
//!
//! Everything is measured once a round, so that a change of the machine's mood meets all of it, and
//! each in a lab of its own.

mod calls;
mod growth;
mod load;
mod maps;
mod page;
mod polls;
pub mod process;
mod rules;
mod sockets;
mod stage;
mod starts;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use growth::GrowthCost;
use load::LoadCost;
use maps::Maps;
use polls::PollCost;
use rules::RuleCost;
use serde::Serialize;
use starts::StartCost;
use tcpguard_kit::daemon::agent;

use crate::record;

const MIB: f64 = 1_048_576.0;

/// Costs of the agent, idle and under floods, in network namespaces; needs root and two CPUs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench agent", max_term_width = 100)]
pub struct Options {
    /// One round with short windows: two minutes. Shows that all works; its figures prove little
    #[arg(long)]
    pub quick: bool,
    /// Writes the results and every measurement to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Options {
    const fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    const fn load_window(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 10 })
    }

    const fn poll_window(&self) -> Duration {
        // What is done every five seconds is in it once.
        Duration::from_secs(5)
    }

    /// 10 million SYNs. As long for few sources as for many: the flows that are followed gather with
    /// time, and the agent reads all of them at once.
    const fn growth_window(&self) -> Duration {
        Duration::from_secs(if self.quick { 6 } else { 20 })
    }

    /// Calls of each command in a round and situation: over 50 in all.
    const fn calls(&self) -> usize {
        if self.quick { 10 } else { 17 }
    }

    /// Connections that busy hosts have.
    const fn established(&self) -> &[u32] {
        if self.quick { &[50_000] } else { &[50_000, 200_000, 500_000] }
    }
}

/// Results of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct AgentCosts {
    rounds: usize,
    load: Vec<LoadCost>,
    polls: Vec<PollCost>,
    rules: Vec<RuleCost>,
    starts: StartCost,
    growth: Vec<GrowthCost>,
    maps: Option<Maps>,
    /// Measurements that failed here, with their reasons.
    missing: Vec<String>,
}

impl AgentCosts {
    fn new(options: &Options) -> Self {
        Self {
            rounds: 0,
            load: LoadCost::all(),
            polls: PollCost::all(options),
            rules: RuleCost::all(),
            starts: StartCost::default(),
            growth: GrowthCost::all(),
            maps: None,
            missing: Vec::new(),
        }
    }

    fn round(&mut self, options: &Options) {
        let Self { load, polls, rules, starts, growth, maps, missing, .. } = self;
        for cost in load {
            let outcome = cost.round(options);
            *maps = note(missing, cost.situation.title(), outcome).or(maps.take());
        }
        for cost in polls {
            let outcome = cost.round(options);
            note(missing, &cost.title(), outcome);
        }
        note(missing, "rule sets", rules::round(rules));
        note(missing, "starts", starts.round());
        for cost in growth {
            let outcome = cost.round(options);
            note(missing, &cost.title(), outcome);
        }
        self.rounds += 1;
    }
}

/// Keeps a line on a row of the tables that failed: what other measurements have shown must not be lost for it.
fn note<T>(missing: &mut Vec<String>, row: &str, outcome: Result<T>) -> Option<T> {
    let error = match outcome {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let line = format!("{row}: {error:#}");
    println!("  {line}");
    if !missing.contains(&line) {
        missing.push(line);
    }
    None
}

/// Measures all of it; the time it takes is bounded by its rounds.
///
/// # Errors
/// Without root, two CPUs or tcpguard's binary. What fails later is listed as missing.
pub fn measure(options: &Options) -> Result<AgentCosts> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run as root");
    ensure!(std::thread::available_parallelism()?.get() >= 2, "this needs two CPUs");
    agent::binary()?;
    let minutes = if options.quick { 2 } else { 13 };
    println!("agent: {} round(s), about {minutes} minutes", options.rounds());
    let mut costs = AgentCosts::new(options);
    for round in 1..=options.rounds() {
        println!("agent: round {round} of {}", options.rounds());
        costs.round(options);
    }
    Ok(costs)
}

/// `bench agent`.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench agent").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    record::print_and_write(&measure(&options)?, options.json.as_deref())
}
