//! `testing/record/phases.json`: the durations of the phases of a run of all tests, and the machine that it took them.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::record;
use crate::workspace::Workspace;

const RECORD: &str = "testing/record/phases.json";
const UPDATE: &str = "cargo xtask budget --update";
/// Growth over the record that is allowed, in percent.
const GROWTH_PERCENT: u64 = 20;
/// Growth that is allowed however short a phase is, in seconds: a mirror may take as long.
const GROWTH_S: u64 = 15;

/// Durations of the phases of one run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Phases {
    /// Number and name of the CPUs.
    machine: String,
    /// Seconds of each phase, by its name.
    seconds: BTreeMap<String, u64>,
}

impl Phases {
    /// The durations of a run on this machine.
    pub fn of_this_machine(seconds: BTreeMap<String, u64>) -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = info.lines().find(|line| line.starts_with("model name"));
        let name = field.and_then(|line| Some(line.split_once(':')?.1.trim()));
        Self { machine: format!("{cpus} CPUs, {}", name.unwrap_or("of unknown name")), seconds }
    }

    /// The last run of all tests in this checkout, if there was one.
    pub fn last(workspace: &Workspace) -> Option<Self> {
        let text = fs::read_to_string(workspace.target.join("phases.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Keeps it as the last run.
    pub fn keep(&self, workspace: &Workspace) -> Result<()> {
        record::write(&workspace.target.join("phases.json"), self)
    }

    /// Makes it the record of the repository.
    pub fn record(&self, workspace: &Workspace) -> Result<()> {
        record::write(&workspace.root.join(RECORD), self)
    }

    /// Compares it with the record of the repository, and returns the outcome in words.
    ///
    /// # Errors
    /// Names the phases that took too long, or the damage of the record.
    pub fn hold(&self, workspace: &Workspace) -> Result<String> {
        self.compare(&record::read(&workspace.root.join(RECORD), UPDATE)?)
    }

    fn compare(&self, record: &Self) -> Result<String> {
        if self.machine != record.machine {
            return Ok(format!(
                "phases not compared: {RECORD} is of {}, this machine has {}",
                record.machine, self.machine
            ));
        }
        let mut broken = Vec::new();
        for (phase, &took) in &self.seconds {
            let Some(&before) = record.seconds.get(phase) else {
                broken.push(format!("{phase}: {took} s, and no record"));
                continue;
            };
            if took > before + GROWTH_S.max(before * GROWTH_PERCENT / 100) {
                broken.push(format!("{phase}: {took} s, {before} s in the record"));
            }
        }
        if !broken.is_empty() {
            bail!(
                "phases took more than {GROWTH_PERCENT} % longer than in {RECORD}:\n  {}\nmake them shorter, or \
                 accept them: `{UPDATE}`",
                broken.join("\n  ")
            );
        }
        Ok(format!("phases within {GROWTH_PERCENT} % of {RECORD}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: &[(&str, u64)]) -> Phases {
        let seconds = seconds.iter().map(|(name, took)| ((*name).to_owned(), *took)).collect();
        Phases::of_this_machine(seconds)
    }

    #[test]
    fn a_phase_that_takes_a_quarter_longer_is_named_with_both_durations() {
        let record = run(&[("build", 200), ("tests", 700)]);
        let within = run(&[("build", 240), ("tests", 100)]);
        within.compare(&record).unwrap();
        let slow = run(&[("build", 250), ("tests", 700)]);
        let said = slow.compare(&record).unwrap_err().to_string();
        assert!(said.contains("build: 250 s, 200 s in the record"), "{said}");
        assert!(!said.contains("tests:"), "{said}");
    }

    #[test]
    fn the_last_run_becomes_the_record() {
        let root = tempfile::tempdir().unwrap();
        let directory = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(&path).unwrap();
            path
        };
        directory("testing/record");
        let workspace = Workspace { root: root.path().into(), target: directory("target") };
        assert_eq!(Phases::last(&workspace), None);
        let last = run(&[("tests", 700)]);
        last.keep(&workspace).unwrap();
        Phases::last(&workspace).unwrap().record(&workspace).unwrap();
        run(&[("tests", 800)]).hold(&workspace).unwrap();
        run(&[("tests", 900)]).hold(&workspace).unwrap_err();
    }

    #[test]
    fn short_phases_may_wait_for_a_mirror_and_new_ones_need_a_record() {
        let record = run(&[("set-up", 2)]);
        run(&[("set-up", 17)]).compare(&record).unwrap();
        assert!(run(&[("set-up", 18)]).compare(&record).is_err());
        assert!(run(&[("set-up", 2), ("new", 1)]).compare(&record).is_err());
    }

    #[test]
    fn a_record_of_another_machine_is_not_compared() {
        let record = Phases { machine: "64 CPUs, of another name".to_owned(), ..run(&[]) };
        let said = run(&[("build", 9000)]).compare(&record).unwrap();
        assert!(said.contains("64 CPUs"), "{said}");
    }
}
