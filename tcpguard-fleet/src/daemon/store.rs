//! Files of a process that survive it: the number of its run, and the operators' rules.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tcpguard_host::durable::seal;
use tcpguard_host::hint::Failure;
use tcpguard_host::time::Clock;

use crate::document::Sender;
use crate::trust::SavedRules;

/// Longest file with the number of the run, in bytes.
const LONGEST_RUN: u64 = 1024;
/// Longest file with rules, in bytes: 4,096 rules of 2 kB, and 8,192 serials of 100 bytes.
const LONGEST_RULES: u64 = 16 << 20;

/// Directory of the files of one process.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    process: &'static str,
}

/// The number of the last run.
#[derive(Debug, Deserialize, Serialize)]
struct Run {
    boot: u64,
}

impl Run {
    const SCHEMA: &str = "tcpguard.fleet.run/1";
}

impl Store {
    /// The files of this process in `directory`.
    pub fn new(directory: &Path, process: &'static str) -> Self {
        Self { directory: directory.to_owned(), process }
    }

    /// Number of this run, which is written before it is used: others refuse documents of an earlier one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_run(&self, clock: Clock) -> Result<u64, Failure> {
        let path = self.path("run");
        let last = seal::document(&path, LONGEST_RUN, Run::SCHEMA).unwrap_or_else(|damage| {
            damage.report(&path, "Other hosts may refuse documents of this one for 11 minutes.");
            Run { boot: 0 }
        });
        let boot = Sender::boot(clock, last.boot);
        seal::store(&path, 0o600, Run::SCHEMA, &Run { boot })
            .map_err(|error| self.failure(&path, &error))?;
        Ok(boot)
    }

    /// The rules of the last run; none where there is no file, or it is damaged.
    pub fn rules(&self) -> SavedRules {
        let path = self.path("rules");
        seal::document(&path, LONGEST_RULES, SavedRules::SCHEMA).unwrap_or_else(|damage| {
            damage.report(&path, "The rules are read from the bus again.");
            SavedRules::default()
        })
    }

    /// Replaces the file with the rules.
    ///
    /// # Errors
    /// When it cannot be written; then the old one is there.
    pub fn save_rules(&self, rules: &SavedRules) -> Result<(), Failure> {
        let path = self.path("rules");
        seal::store(&path, 0o600, SavedRules::SCHEMA, rules)
            .map_err(|error| self.failure(&path, &error))
    }

    fn failure(&self, path: &Path, error: &io::Error) -> Failure {
        let hint = format!("df -h {0}, and: ls -ld {0}", self.directory.display());
        Failure::new(format!("cannot write {}: {error}", path.display()), hint)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{}-{name}.json", self.process))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tcpguard_engine::Timestamp;

    use super::*;
    use crate::document::tests::{AT, time};

    fn clock() -> Clock {
        Clock { now: Timestamp::from_millis(1000), wall: time(AT).0 }
    }

    #[test]
    fn each_run_has_a_higher_number_even_if_the_clock_was_set_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path(), "edge");
        let first = store.begin_run(clock()).expect("written");
        assert_eq!(store.begin_run(clock()).expect("written"), first + 1);
        let earlier = Clock { wall: time("2020-01-01T00:00:00Z").0, ..clock() };
        assert_eq!(store.begin_run(earlier).expect("written"), first + 2);
        let other = Store::new(directory.path(), "controller");
        assert_eq!(other.begin_run(clock()).expect("written"), first, "a process of its own");
    }

    #[test]
    fn rules_are_read_as_they_were_written_and_not_from_a_damaged_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path(), "edge");
        assert_eq!(store.rules(), SavedRules::default());
        let rules = SavedRules { position: 7, ..SavedRules::default() };
        store.save_rules(&rules).expect("written");
        assert_eq!(store.rules(), rules);
        let path = directory.path().join("edge-rules.json");
        let text = fs::read_to_string(&path).expect("a file").replace(":7,", ":8,");
        fs::write(&path, text).expect("written");
        assert_eq!(store.rules(), SavedRules::default());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_with_its_name() {
        let store = Store::new(Path::new("/proc/none"), "edge");
        let failure = store.begin_run(clock()).expect_err("no directory");
        assert!(failure.message.starts_with("cannot write /proc/none/edge-run.json"), "{failure}");
    }
}
