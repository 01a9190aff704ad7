//! All parts in turn, one verdict on all of them, and the page that shows it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Parser;

use crate::machine::Machine;
use crate::part::Part;
use crate::programs::{self, cores};
use crate::record::Record;
use crate::verdict::{self, Outlook};
use crate::{agent, e2e, page, replay, timeline};

/// The directory that contains `docs`.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Of a run that has measured everything and missed a target.
const MISSED: u8 = 3;
/// Of one that has missed none, and could not measure what some are about.
const UNMEASURED: u8 = 4;

/// Everything that is measured, in turn; `bench help` names what can be measured alone. Ends with 0 if
/// all targets are met, with 3 if one is missed, with 4 if the machine lacks what one is about, with 1 if
/// a part failed
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", max_term_width = 100)]
struct Options {
    /// Shows that all works; proves nothing about numbers
    #[arg(long)]
    quick: bool,
    /// Makes this run the record: testing/record/performance.json, the plots and the tables of
    /// docs/evidence/performance.md; all rounds are in target/bench.json
    #[arg(long, conflicts_with = "quick")]
    update: bool,
    /// Measures these parts only, separated by commas. On record, the others stay
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Writes what was found to FILE, and again after each part
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The parts, in the order in which they are measured and shown. Minutes of a full and of a quick run
/// stand beside each.
fn entries() -> Vec<Entry> {
    let agent = |quick| agent::measure(&agent::Options { quick, json: None });
    let programs = |quick| programs::measure(&programs::Options::of_record(quick));
    let e2e = |quick| e2e::measure(&e2e::Options::of_targets(quick));
    let timeline = |quick| timeline::measure(&timeline::Options { quick, json: None });
    vec![
        Entry::new([7, 1], programs),
        Entry::new([2, 1], |quick| cores::measure(&cores::Options::of_record(quick))),
        Entry::new([80, 3], e2e),
        Entry::new([6, 1], timeline),
        Entry::new([13, 2], agent),
        Entry::new([4, 1], replay::measure),
    ]
}

/// Measures a part into a record, with whether a quick run will do.
type Measure = dyn Fn(bool, &Machine, &mut Record) -> Result<()>;

/// A part that can be measured.
struct Entry {
    name: &'static str,
    minutes: [u64; 2],
    measure: Box<Measure>,
}

impl Entry {
    /// `measure` is asked for the part, with whether a quick run will do.
    fn new<P: Part>(minutes: [u64; 2], measure: impl Fn(bool) -> Result<P> + 'static) -> Self {
        let measure = move |quick, machine: &Machine, record: &mut Record| {
            println!("{}", page::text(record.add(machine, &measure(quick)?)?));
            Ok(())
        };
        Self { name: P::NAME, minutes, measure: Box::new(measure) }
    }

    fn minutes(&self, quick: bool) -> u64 {
        self.minutes[usize::from(quick)]
    }
}

/// Measures everything.
///
/// # Errors
/// When parts failed, after all others were measured, or a file cannot be written.
pub fn bench(words: &[&str]) -> Result<ExitCode> {
    let words = std::iter::once("cargo xtask bench").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let mut entries = entries();
    choose(&mut entries, &options.only)?;
    println!("{}", announcement(&entries, options.quick));
    let outcome = run(&entries, &Machine::here()?, &options)?;
    let goals = outcome.record.goals();
    println!("{}\n{}", page::markdown(&verdict::table(&goals)), verdict::summary(&goals));
    let failed = outcome.failed.join(", ");
    ensure!(failed.is_empty(), "failed: {failed}; what was recorded before stays");
    if options.update {
        let root = Path::new(ROOT);
        let record = match options.only.as_slice() {
            [] => outcome.record,
            _ => outcome.record.over(Record::read(root)?),
        };
        record.publish(root)?;
    }
    Ok(match verdict::worst(&goals) {
        Outlook::Met => ExitCode::SUCCESS,
        Outlook::Missed => ExitCode::from(MISSED),
        Outlook::Unmeasured => ExitCode::from(UNMEASURED),
    })
}

/// Writes plots and tables of `docs/evidence/performance.md` anew, from the record.
pub fn page() -> Result<()> {
    let root = Path::new(ROOT);
    Record::read(root)?.show(root)
}

/// Leaves those of these names; all if there is none.
fn choose(entries: &mut Vec<Entry>, only: &[String]) -> Result<()> {
    let known = |name: &String| entries.iter().any(|entry| entry.name == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        bail!("{unknown} is no part: there are {}", names.join(", "));
    }
    entries.retain(|entry| only.is_empty() || only.iter().any(|name| name == entry.name));
    Ok(())
}

/// Returns the expected duration.
fn announcement(entries: &[Entry], quick: bool) -> String {
    let minutes: u64 = entries.iter().map(|entry| entry.minutes(quick)).sum();
    let each: Vec<String> =
        entries.iter().map(|entry| format!("{} {}", entry.name, entry.minutes(quick))).collect();
    format!("about {minutes} minutes: {}", each.join(", "))
}

/// Result of a run.
struct Outcome {
    record: Record,
    failed: Vec<&'static str>,
}

/// A part that fails must not cost the hours of the others.
fn run(entries: &[Entry], machine: &Machine, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome { record: Record::new(), failed: Vec::new() };
    for entry in entries {
        if let Err(error) = (entry.measure)(options.quick, machine, &mut outcome.record) {
            eprintln!("{} failed: {error:#}", entry.name);
            outcome.failed.push(entry.name);
        }
        if let Some(path) = &options.json {
            outcome.record.write(path)?;
        }
    }
    Ok(outcome)
}
