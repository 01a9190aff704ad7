//! All parts in turn, one verdict on all of them, and the page that shows it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Parser;

use crate::machine::Machine;
use crate::part::Part;
use crate::programs::{self, cores, profile};
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
    /// docs/performance.md; all rounds are in target/bench.json
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
        Entry::new([1, 1], profile::measure),
        Entry::new([80, 3], e2e),
        Entry::new([2, 2], |quick| e2e::profile::Profile::of_record(quick).measure()),
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

/// The results on record, or those in `file`.
pub fn recorded(file: Option<&Path>) -> Result<Record> {
    file.map_or_else(|| Record::read(Path::new(ROOT)), Record::load)
}

/// Writes plots and tables of `docs/performance.md` anew, from the record.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::part::Report;
    use crate::part::tests::Made;

    fn made(cost: f64) -> Entry {
        Entry::new([20, 2], move |_| Ok(Made { cost }))
    }

    fn broken() -> Entry {
        Entry { name: "broken", ..Entry::new::<Made>([5, 1], |_| bail!("no root")) }
    }

    fn outcome(entries: &[Entry], json: Option<PathBuf>) -> Outcome {
        let options = Options { quick: false, update: false, only: Vec::new(), json };
        run(entries, &Machine::here().unwrap(), &options).unwrap()
    }

    #[test]
    fn the_time_is_said_in_sum_and_for_each() {
        let entries = [made(1.0), broken()];
        assert_eq!(announcement(&entries, false), "about 25 minutes: rules 20, broken 5");
        assert_eq!(announcement(&entries, true), "about 3 minutes: rules 2, broken 1");
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let chosen = |only: &[&str]| {
            let mut entries = vec![made(1.0), broken()];
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
    fn a_part_that_fails_is_reported_and_the_others_are_judged() {
        let outcome = outcome(&[broken(), made(80.0)], None);
        assert_eq!(outcome.failed, ["broken"]);
        assert_eq!(verdict::worst(&outcome.record.goals()), Outlook::Missed);
    }

    #[test]
    fn a_record_becomes_a_page_with_its_plots_and_a_torn_one_does_not() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("docs/performance")).unwrap();
        fs::write(at("docs/performance/old.svg"), "gone").unwrap();
        let marks = ["machine", "verdict", "rules"]
            .map(|name| format!("<!-- measured:{name} begin -->\n<!-- measured:{name} end -->\n"));
        fs::write(at("docs/performance.md"), marks.concat()).unwrap();
        let record = outcome(&[made(40.123_456)], Some(at("all.json"))).record;
        record.publish(root.path()).unwrap();

        let page = fs::read_to_string(at("docs/performance.md")).unwrap();
        assert!(
            page.contains("| 1 | 40.123456 |") && page.contains("1 of 1 targets met"),
            "{page}"
        );
        assert!(at("docs/performance/made-rules.svg").exists());
        assert!(!at("docs/performance/old.svg").exists());
        let kept = Record::read(root.path()).unwrap();
        assert_eq!(kept.goals()[0].value, Some(40.12));
        assert!(kept.part("agent").unwrap_err().to_string().contains("no agent"));
        kept.show(root.path()).unwrap();
        assert_eq!(fs::read_to_string(at("docs/performance.md")).unwrap(), page);

        for all in ["all.json", "target/bench.json"] {
            let all = Record::load(&at(all)).unwrap();
            let Report { rounds, .. } = all.part("rules").unwrap();
            assert_eq!(rounds["cost"], 40.12, "all rounds are there");
        }
        let error = outcome(&[], None).record.publish(root.path()).unwrap_err();
        assert!(error.to_string().contains("rules, which is no part"), "{error}");
        fs::write(at("testing/record/performance.json"), "{}").unwrap();
        assert!(Record::read(root.path()).unwrap_err().to_string().contains("damaged"));
    }
}
