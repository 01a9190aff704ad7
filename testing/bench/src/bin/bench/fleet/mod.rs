//! A fleet of a thousand hosts: participants in one process that speak the real protocol to the real server. How soon
//! they learn, how much they say, how much it costs, and what happens in faults of the bus.

mod course;
mod faults;
mod observer;
mod page;
mod participant;
mod scale;
mod swarm;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use course::Course;
use faults::Fault;
use serde::Serialize;

use crate::machine::Machine;
use crate::part::Part as _;
use crate::record::{self, Record};

/// Paths below the root of the repository.
const RECORD: &str = "testing/record/fleet.json";
const PAGE: &str = "docs/fleet.md";

/// Latencies, messages and costs of a fleet with a real message bus, and the outcome of faults; needs root, nats-server
/// and openssl
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench fleet", max_term_width = 100)]
pub struct Options {
    /// Shows that all works; proves nothing about numbers
    #[arg(long)]
    pub quick: bool,
    /// Participants, each with a connection of its own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(10..=5000))]
    pub participants: u16,
    /// Makes this run the record: testing/record/fleet.json and the tables of docs/fleet.md
    #[arg(long, conflicts_with = "quick")]
    pub update: bool,
    /// Writes what was found to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Options {
    /// Time over which messages and load are counted.
    fn window(&self) -> Duration {
        Duration::from_secs(if self.quick { 10 } else { 120 })
    }

    /// Number of single attacks.
    fn rounds(&self) -> u16 {
        if self.quick { 3 } else { 20 }
    }
}

/// Results of the part.
#[derive(Debug, Serialize)]
pub struct FleetCosts {
    course: Course,
    faults: Vec<Fault>,
    /// Size of a document about a signature, and of a signed rule, in bytes.
    documents: scale::Documents,
}

/// Measures all of it.
///
/// # Errors
/// Without root or nats-server, or when participants do not connect.
pub fn measure(options: &Options) -> Result<FleetCosts> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run as root");
    let minutes = if options.quick { 3 } else { 15 };
    println!("fleet: {} participants, about {minutes} minutes", options.participants);
    let documents = scale::Documents::measured()?;
    let (course, mut stage, swarm) = course::play(options)?;
    let faults = faults::play(&mut stage, &swarm, options)?;
    Ok(FleetCosts { course, faults, documents })
}

/// `bench fleet`.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench fleet").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let record = record::print_and_write(&measure(&options)?, options.json.as_deref())?;
    if options.update {
        publish(&record, Path::new(crate::whole::ROOT))?;
    }
    Ok(())
}

/// Writes the record and the tables of the page below `root`.
fn publish(record: &Record, root: &Path) -> Result<()> {
    let record = record.without_rounds();
    let (machine, report): (&Machine, _) =
        (record.machine(FleetCosts::NAME)?, record.part(FleetCosts::NAME)?);
    let path = root.join(PAGE);
    let name = path.display();
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
    let measured = crate::page::measured(&machine.list(), std::slice::from_ref(report));
    // Filled before anything is written: half a page is worse than an old one.
    let page = crate::page::filled(&page, &measured)?;
    record.write(&root.join(RECORD))?;
    fs::write(&path, page).with_context(|| format!("cannot write {name}"))
}
