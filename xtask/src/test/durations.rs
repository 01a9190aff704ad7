//! Durations of a test run: those of its phases, and of its slowest tests.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Tests that are listed.
const SLOWEST: usize = 10;

/// Durations of the phases so far.
#[derive(Debug, Default)]
pub struct Durations {
    phases: Vec<(&'static str, Duration)>,
    tests: Vec<Test>,
}

/// A test that ran.
#[derive(Clone, Debug, PartialEq)]
struct Test {
    name: String,
    took: Duration,
}

impl Durations {
    /// Announces a phase, carries it out and notes its duration, whether it succeeds or not.
    pub fn of<T>(&mut self, phase: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        crate::process::announce(phase);
        let begun = Instant::now();
        let done = work();
        self.phases.push((phase, begun.elapsed()));
        done
    }

    /// Seconds of each phase, by its name.
    pub fn seconds(&self) -> BTreeMap<String, u64> {
        self.phases.iter().map(|(phase, took)| ((*phase).to_owned(), took.as_secs())).collect()
    }

    /// Adds the tests of a JUnit report that cargo-nextest wrote.
    pub fn read(&mut self, report: &Path) -> Result<()> {
        let unread = || format!("cannot read {}", report.display());
        let text = fs::read_to_string(report).with_context(unread)?;
        self.tests.extend(tests(&text).with_context(unread)?);
        Ok(())
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tests: Vec<_> = self.tests.iter().collect();
        tests.sort_by_key(|test| std::cmp::Reverse(test.took));
        if !tests.is_empty() {
            writeln!(f, "slowest tests:")?;
        }
        for Test { name, took } in tests.into_iter().take(SLOWEST) {
            writeln!(f, "  {:>6.1} s  {name}", took.as_secs_f64())?;
        }
        write!(f, "phases:")?;
        for (number, (phase, took)) in self.phases.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma} {phase} {} s", took.as_secs())?;
        }
        let all: Duration = self.phases.iter().map(|(_, took)| took).sum();
        write!(f, "; {} s in all", all.as_secs())
    }
}

fn tests(report: &str) -> Result<Vec<Test>> {
    let document = roxmltree::Document::parse(report)?;
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    cases
        .map(|case| {
            let attribute =
                |name| case.attribute(name).with_context(|| format!("a test case without {name}"));
            let seconds = attribute("time")?.parse().context("a time that is no number")?;
            Ok(Test {
                name: format!("{} {}", attribute("classname")?, attribute("name")?),
                took: Duration::try_from_secs_f64(seconds)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2">
    <testsuite name="a" tests="2">
        <testcase name="quick" classname="a" time="0.250"></testcase>
        <testcase name="slow" classname="a" time="12.500"><failure/></testcase>
    </testsuite>
</testsuites>"#;

    #[test]
    fn the_slowest_tests_come_first_and_every_phase_is_listed() {
        let mut durations = Durations { tests: tests(REPORT).unwrap(), ..Default::default() };
        durations.of("build", || Ok(())).unwrap();
        durations.of("unit tests", || Err::<(), _>(anyhow::anyhow!("no"))).unwrap_err();
        assert_eq!(
            durations.to_string(),
            "slowest tests:\n    12.5 s  a slow\n     0.2 s  a quick\n\
             phases: build 0 s, unit tests 0 s; 0 s in all"
        );
    }

    #[test]
    fn a_report_that_is_none_is_an_error() {
        assert!(tests("<testsuites>").is_err());
        assert!(tests(r#"<testcase name="a" classname="b"/>"#).is_err());
    }
}
