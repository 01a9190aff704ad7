//! All parts in turn, one verdict on all of them, and the page that shows it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::machine::Machine;
use crate::part::{Goal, Part};
use crate::programs::{self, profile};
use crate::record::Record;
use crate::verdict::{self, Outlook};
use crate::{agent, e2e, replay, timeline};

/// The directory that contains `docs`.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
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
    /// Makes this run the record: docs/performance.json, the plots and the tables of
    /// docs/performance.md
    #[arg(long, conflicts_with = "quick")]
    update: bool,
    /// Measures these parts only, separated by commas
    #[arg(long, value_name = "PART", value_delimiter = ',', conflicts_with = "update")]
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
        Entry::new(programs::NAME, [7, 1], programs),
        Entry::new(profile::NAME, [1, 1], profile::measure),
        Entry::new("e2e", [72, 2], e2e),
        Entry::new("timeline", [6, 1], timeline),
        Entry::new("agent", [13, 2], agent),
        Entry::new("replay", [4, 1], replay::measure),
    ]
}

/// Results of a part, and the same as they are recorded.
type Found = (Box<dyn Part>, Value);

/// A part that can be measured, and read again from its record.
pub struct Entry {
    /// In the record, and between the marks of the page.
    pub name: &'static str,
    minutes: [u64; 2],
    measure: Box<dyn Fn(bool) -> Result<Found>>,
    read: fn(Value) -> Result<Box<dyn Part>>,
}

impl Entry {
    /// `measure` is asked for the part, with whether a quick run will do.
    fn new<P>(
        name: &'static str,
        minutes: [u64; 2],
        measure: impl Fn(bool) -> Result<P> + 'static,
    ) -> Self
    where
        P: Part + Serialize + DeserializeOwned + 'static,
    {
        let measure = move |quick| {
            let part = measure(quick)?;
            let value = serde_json::to_value(&part)?;
            Ok((Box::new(part) as Box<dyn Part>, value))
        };
        let read = |value| Ok(Box::new(serde_json::from_value::<P>(value)?) as Box<dyn Part>);
        Self { name, minutes, measure: Box::new(measure), read }
    }

    /// The part of a record.
    ///
    /// # Errors
    /// When `value` is not what this part writes.
    pub fn read(&self, value: Value) -> Result<Box<dyn Part>> {
        (self.read)(value)
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
    let outcome = run(&entries, Machine::here()?, &options)?;
    println!("{}", outcome.verdict());
    let failed = outcome.failed.join(", ");
    ensure!(failed.is_empty(), "failed: {failed}; what was recorded before stays");
    if options.update {
        outcome.record.publish(Path::new(ROOT), &entries)?;
    }
    Ok(match verdict::worst(&outcome.goals) {
        Outlook::Met => ExitCode::SUCCESS,
        Outlook::Missed => ExitCode::from(MISSED),
        Outlook::Unmeasured => ExitCode::from(UNMEASURED),
    })
}

/// The results of the last full run, or of the one in `file`.
///
/// # Errors
/// When there is none, or it is of another version of this program.
pub fn recorded(file: Option<&Path>) -> Result<Record> {
    file.map_or_else(|| Record::read(Path::new(ROOT)), Record::load)
}

/// Writes plots and tables of `docs/performance.md` anew, from the record.
///
/// # Errors
/// When there is no record, or the page has no place for a part of it.
pub fn page() -> Result<()> {
    let root = Path::new(ROOT);
    Record::read(root)?.show(root, &entries())
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
    goals: Vec<Goal>,
    failed: Vec<&'static str>,
}

impl Outcome {
    fn verdict(&self) -> String {
        format!("{}\n{}", verdict::table(&self.goals), verdict::summary(&self.goals))
    }
}

/// A part that fails must not cost the hours of the others.
fn run(entries: &[Entry], machine: Machine, options: &Options) -> Result<Outcome> {
    let mut outcome =
        Outcome { record: Record::of(machine), goals: Vec::new(), failed: Vec::new() };
    for entry in entries {
        match (entry.measure)(options.quick) {
            Ok((part, value)) => {
                println!("{}", part.tables());
                outcome.goals.extend(part.goals());
                outcome.record.add(entry.name, value);
            }
            Err(error) => {
                eprintln!("{} failed: {error:#}", entry.name);
                outcome.failed.push(entry.name);
            }
        }
        if let Some(path) = &options.json {
            outcome.record.write(path)?;
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::part::tests::Made;

    fn made(name: &'static str, cost: f64) -> Entry {
        Entry::new(name, [20, 2], move |_| Ok(Made { cost }))
    }

    fn broken() -> Entry {
        Entry::new::<Made>("broken", [5, 1], |_| bail!("no root"))
    }

    fn options(json: Option<PathBuf>) -> Options {
        Options { quick: false, update: false, only: Vec::new(), json }
    }

    fn machine() -> Machine {
        Machine::here().unwrap()
    }

    #[test]
    fn the_time_is_said_in_sum_and_for_each() {
        let entries = [made("rules", 1.0), broken()];
        assert_eq!(announcement(&entries, false), "about 25 minutes: rules 20, broken 5");
        assert_eq!(announcement(&entries, true), "about 3 minutes: rules 2, broken 1");
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let chosen = |only: &[&str]| {
            let mut entries = vec![made("rules", 1.0), broken()];
            let only: Vec<_> = only.iter().map(|&name| name.to_owned()).collect();
            choose(&mut entries, &only)?;
            Ok::<_, anyhow::Error>(entries.iter().map(|entry| entry.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap(), ["rules", "broken"]);
        assert_eq!(chosen(&["broken"]).unwrap(), ["broken"]);
        let error = chosen(&["rules", "teapot"]).unwrap_err();
        assert_eq!(error.to_string(), "teapot is no part: there are rules, broken");
    }

    #[test]
    fn a_part_that_fails_is_told_and_the_others_are_judged() {
        let outcome = run(&[broken(), made("rules", 80.0)], machine(), &options(None)).unwrap();
        assert_eq!(outcome.failed, ["broken"]);
        assert!(outcome.verdict().contains("**missed** by ×1.6"), "{}", outcome.verdict());
        assert_eq!(verdict::worst(&outcome.goals), Outlook::Missed);
    }

    #[test]
    fn a_record_becomes_a_page_with_its_plots_and_a_torn_one_does_not() {
        let root = tempfile::tempdir().unwrap();
        let docs = root.path().join("docs");
        fs::create_dir_all(docs.join("performance")).unwrap();
        fs::write(docs.join("performance/old.svg"), "gone").unwrap();
        let marks = ["machine", "verdict", "rules"]
            .map(|name| format!("<!-- measured:{name} begin -->\n<!-- measured:{name} end -->\n"));
        fs::write(docs.join("performance.md"), marks.concat()).unwrap();
        let entries = [made("rules", 40.0)];
        let json = docs.join("performance.json");
        let outcome = run(&entries, machine(), &options(Some(json.clone()))).unwrap();
        outcome.record.publish(root.path(), &entries).unwrap();

        let page = fs::read_to_string(docs.join("performance.md")).unwrap();
        assert!(page.contains("| 1 | 40 |") && page.contains("1 of 1 targets met"), "{page}");
        assert!(docs.join("performance/made-rules.svg").exists());
        assert!(!docs.join("performance/old.svg").exists());
        let read = Record::read(root.path()).unwrap();
        assert_eq!(read.part::<Made>("rules").unwrap(), Made { cost: 40.0 });
        assert!(read.part::<Made>("agent").unwrap_err().to_string().contains("no agent"));
        assert_eq!(Record::load(&json).unwrap(), read);
        read.publish(root.path(), &entries).unwrap();
        assert_eq!(fs::read_to_string(docs.join("performance.md")).unwrap(), page);

        let error = read.publish(root.path(), &[made("agent", 1.0)]).unwrap_err();
        assert!(error.to_string().contains("no agent"), "{error}");
        fs::write(&json, "{}").unwrap();
        assert!(Record::read(root.path()).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn two_plots_of_one_name_are_refused() {
        let entries = [made("one", 1.0), made("two", 2.0)];
        let outcome = run(&entries, machine(), &options(None)).unwrap();
        let root = tempfile::tempdir().unwrap();
        let error = outcome.record.publish(root.path(), &entries).unwrap_err();
        assert!(error.to_string().contains("one file"), "{error}");
    }
}
