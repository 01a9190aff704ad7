//! The promises of `tcpguard-goals`, tried by the tests that are named after them.
//!
//! `cargo xtask test` runs those tests in their short form among all others, `cargo xtask faults`
//! runs them alone, with `--full` in the size that the promise speaks of, which for G10 takes the
//! guests of `cargo xtask vm`. Either way each has to write a row, and the rows are printed as a
//! table. `cargo xtask soak` is the one that lasts.

pub mod other_build;
mod row_tests;
mod sheet;

use anyhow::{Context, Result, bail};
use tcpguard_goals::Goal;

pub use self::{
    row_tests::{RowTest, row_tests, test_functions},
    sheet::{Scale, Sheet},
};
use crate::{
    process, setup,
    test::{self, ROOT_TESTS},
    vm,
    workspace::Workspace,
};

/// Runs the tests of `goals`, or of all if there are none, and prints their rows.
///
/// # Errors
/// When a test fails, a goal has no row, a test wrote none, or root is missing where it is needed.
pub fn run(workspace: &Workspace, scale: Scale, goals: &[Goal]) -> Result<()> {
    let goals = if goals.is_empty() { Goal::ALL } else { goals };
    let mut promised = row_tests(workspace)?;
    promised.retain(|test| goals.contains(&test.goal));
    let needs_root = promised.iter().any(|test| test.needs_root);
    if needs_root && !setup::is_root() {
        bail!("the tests in network namespaces need root");
    }
    test::prepare(workspace, !needs_root)?;

    let sheet = Sheet::begin(workspace, scale)?;
    let ran = run_tests(workspace, &sheet, &filter(goals), &promised);
    let booted = match scale.full && goals.contains(&Goal::G10) {
        true => vm::run(workspace, &[], false).context("G10, on other kernels"),
        false => Ok(()),
    };
    let lines = sheet.read()?;
    print!("{}", sheet::table(&lines, goals));
    let mut missing = sheet::faults(&lines, &promised);
    let without = goals.iter().filter(|goal| lines.iter().all(|line| line.goal != **goal));
    missing.extend(without.map(|goal| format!("{goal}: no row: {}", goal.promise())));
    sheet::judge(&missing)?;
    ran.and(booted)
}

fn run_tests(
    workspace: &Workspace,
    sheet: &Sheet,
    filter: &str,
    promised: &[RowTest],
) -> Result<()> {
    let mut failed = None;
    for needs_root in [false, true] {
        if promised.iter().all(|test| test.needs_root != needs_root) {
            continue;
        }
        process::announce(if needs_root { "in network namespaces" } else { "on the host" });
        let mut nextest = test::nextest(workspace, sheet);
        nextest.args(["--profile", "faults", "--success-output", "never", "-E", filter]);
        if needs_root {
            nextest.args(["--package", ROOT_TESTS, "--test-threads", "1"]);
        } else {
            nextest.args(["--workspace", "--exclude", ROOT_TESTS]);
        }
        if let Err(error) = process::run(&mut nextest) {
            eprintln!("xtask: {error:#}");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The tests of `goals`, for cargo-nextest.
fn filter(goals: &[Goal]) -> String {
    let prefixes: Vec<_> = goals.iter().map(|goal| goal.id().to_lowercase()).collect();
    format!(r"test(/(^|::)({})_\w+$/)", prefixes.join("|"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_goal_has_a_test() {
        let tests = row_tests(&Workspace::locate().unwrap()).unwrap();
        let held: BTreeSet<Goal> = tests.iter().map(|test| test.goal).collect();
        let missing = Goal::ALL.iter().filter(|goal| !held.contains(goal));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&Goal>::new());
    }

    #[test]
    fn the_filter_names_tests_as_they_are_found_in_the_source() {
        assert_eq!(filter(&[Goal::G1, Goal::Audit]), r"test(/(^|::)(g1|audit)_\w+$/)");
    }

    /// A zero at the second try is no zero, and a filter that forgets a goal would retry it.
    #[test]
    fn no_test_of_a_promise_is_tried_again() {
        let root = Workspace::locate().unwrap().root;
        let config = fs::read_to_string(root.join(".config/nextest.toml")).unwrap();
        let once = format!("filter = '{}'\nretries = 0\n", filter(Goal::ALL));
        let first = config.split("[[profile.default.overrides]]").nth(1).unwrap_or_default();
        assert!(first.contains(&once), "the first override must be\n{once}and is\n{first}");
        assert!(config.contains("[[profile.faults.overrides]]\nfilter = 'all()'\nretries = 0\n"));
    }
}
