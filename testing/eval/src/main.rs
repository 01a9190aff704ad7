//! The evaluation of the detector as one command.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tcpguard_eval::detection::LEGEND;
use tcpguard_eval::plan::{GOLDEN_SEED, Plan};
use tcpguard_eval::table::Block;
use tcpguard_eval::{
    calm, captures, cost, detection, golden, mitigation, names, targets, tricks, wire_rows,
};

/// Page of the published numbers.
const PAGE: &str = "evaluation.md";
/// File of what the engine cost, which depends on the machine.
const COST: &str = "engine-cost.json";

/// Judges the detector, beside published ones, and prints one table
#[derive(Parser)]
#[command(name = "cargo xtask eval", disable_help_subcommand = true)]
struct Arguments {
    /// A few seeds and rates only, within a minute
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = GOLDEN_SEED)]
    seed: u64,
    /// Number of seeds [default: 20; 2 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Listener-days of benign traffic [default: 91; 0.5 with --quick]
    #[arg(long)]
    days: Option<f64>,
    /// Folder with captures and their README.tsv [default: what TCPGUARD_CAPTURES says]
    #[arg(long, value_name = "FOLDER")]
    captures: Option<PathBuf>,
    /// Write the published page
    #[arg(long, conflicts_with_all = ["quick", "check"])]
    update: bool,
    /// Compare with the published page; exit 1 if anything differs, or if a binding target is not met
    #[arg(long, conflicts_with = "quick")]
    check: bool,
    /// Folder of the published page
    #[arg(long, value_name = "FOLDER", default_value = "docs/evidence")]
    docs: PathBuf,
    /// Folder of the record of the engine's cost
    #[arg(long, value_name = "FOLDER", default_value = "testing/record")]
    record: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Measures what the engine costs on this machine: CPU time per poll, memory over a day
    Cost {
        /// Length of the day in hours
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=24))]
        hours: u64,
        /// Keep it, for the published page
        #[arg(long)]
        save: bool,
    },
}

impl Arguments {
    fn captures(&self) -> Option<PathBuf> {
        self.captures.clone().or_else(|| env::var_os("TCPGUARD_CAPTURES").map(PathBuf::from))
    }

    fn plan(&self) -> Plan {
        match self.quick {
            true => Plan::quick(self.seed, self.seeds.unwrap_or(2), self.days.unwrap_or(0.5)),
            false => Plan::full(self.seed, self.seeds.unwrap_or(20), self.days.unwrap_or(91.0)),
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("eval: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(Verb::Cost { hours, save }) = arguments.verb {
        let block = cost::block(arguments.seed, hours);
        println!("{}", block.render());
        if save {
            let path = arguments.record.join(COST);
            fs::write(&path, serde_json::to_string(&block)? + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let no_captures = arguments.captures().is_none();
    if arguments.update && no_captures {
        bail!(
            "the published page holds a table of captures: give their folder by --captures or \
             TCPGUARD_CAPTURES"
        );
    }
    let path = arguments.docs.join(PAGE);
    let published = match arguments.check {
        true => Some(read(&path)?),
        false => None,
    };
    let begun = Instant::now();
    let blocks = measure(&arguments.plan(), arguments)?;
    let page = golden::page(&introduction(&arguments.plan()), &blocks)?;
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    if arguments.update {
        fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let Some(published) = published else {
        print!("{page}");
        return Ok(ExitCode::SUCCESS);
    };
    let depends = |title: &str| title == blocks[0].title || title == targets::TITLE;
    let different = golden::differences(&published, &page, |title| {
        title == cost::TITLE || no_captures && depends(title)
    });
    for line in &different {
        println!("{line}");
    }
    match different.is_empty() {
        true => println!("{} is what this run says", path.display()),
        false => println!("\n- as published, + as this run says; to publish it: --update"),
    }
    let missed = targets::missed(&blocks);
    for line in &missed {
        println!("not met: {line}");
    }
    let holds = different.is_empty() && missed.is_empty();
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The engine's cost on record.
fn recorded_cost(path: &Path) -> Result<Block> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{}", path.display()))
}

/// All blocks, in the order in which they are printed.
fn measure(plan: &Plan, arguments: &Arguments) -> Result<Vec<Block>> {
    // First: a file that cannot be read ends the run at its start and not after an hour.
    let path = arguments.record.join(COST);
    let measured = path.exists().then(|| recorded_cost(&path)).transpose()?;
    let mut blocks =
        vec![captures::block(arguments.captures().as_deref())?, wire_rows::block(&plan.seeds)?];
    let cases = detection::run(plan);
    blocks.extend(detection::delays(plan, &cases));
    blocks.push(detection::classes(plan, &cases));
    blocks.push(detection::minimum(plan, &cases));
    blocks.push(detection::ramps(plan, &cases));
    if !plan.other_seeds.is_empty() {
        blocks.push(detection::seeds(plan, &cases, &detection::run_others(plan)));
    }
    blocks.push(calm::mixes(plan));
    blocks.push(calm::crowds(plan));
    blocks.push(mitigation::floods(plan));
    blocks.push(mitigation::troubles(plan));
    blocks.extend(tricks::blocks(plan));
    blocks.push(names::block());
    blocks.extend(measured);
    let summary = targets::summary(&blocks);
    blocks.push(summary);
    Ok(blocks)
}

fn introduction(plan: &Plan) -> String {
    format!(
        "Printed by `cargo xtask eval`, from seeds {} and {} listener-days of benign traffic. \
         `--check` repeats the run and compares. [Targets](#targets) sums up. Rows \
         that differ in a number, and rows that are right in every way, are left out or named only: \
         the targets are judged by all.\n\n\
         Traffic is simulated unless a heading says otherwise. Clients are from a population of \
         50,000 in 5,000 networks of 300 providers. Each has a place, a system and a round-trip \
         time (5 to 300 ms) of its own. They connect independently of each other, and lose a \
         packet, give up, or reset in 1.5 % of all attempts. One listener has a queue of 4,096, \
         `tcp_syncookies` is 1, and the counters are polled every 250 ms. tcpguard's detector \
         runs with its default settings. Thresholds were tuned on seeds below {GOLDEN_SEED} only.\n\n\
         The other detectors are re-implementations of published formulas, in their authors' \
         units and with their parameters as far as these are known. They were made for links with \
         thousands of flows, not for one listener. All see the same ticks of the same traffic. \
         {LEGEND}",
        plan.seeds_in_words(),
        plan.days
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_on_record_is_read() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let block = recorded_cost(&root.join("testing/record").join(COST)).unwrap();
        assert_eq!(block.title, cost::TITLE);
    }
}
