//! The promises of `tcpguard-goals`, tried by the tests that are named after them.
//!
//! `cargo xtask test` runs those tests in their short form among all others, `cargo xtask faults`
//! runs only them, with `--full` in the size that the promise speaks of, which for G10 takes the
//! guests of `cargo xtask vm`, for G9 a minute of `cargo xtask fuzz` for each target and for G18 the
//! licences and sources of `cargo xtask supply`. Either way each has to write a row, and the rows are
//! printed as a table. `cargo xtask soak` is the one that lasts.

mod row_tests;
mod sheet;

use anyhow::{Context, Result, bail};
use tcpguard_goals::Goal;

pub use self::{
    row_tests::{RowTest, row_tests, test_functions},
    sheet::{Scale, Sheet},
};
use crate::{
    build::USER_SPACE,
    fuzz, process, setup, supply,
    test::{self, Durations, ROOT_PACKAGE},
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
    test::prepare(workspace, !needs_root, scale.full, &mut Durations::default())?;

    let sheet = Sheet::begin(workspace, scale)?;
    let ran = run_tests(workspace, &sheet, &filter(goals), &promised);
    let booted = match scale.full && goals.contains(&Goal::G10) {
        true => vm::run(workspace, &[], false).context("G10, on other kernels"),
        false => Ok(()),
    };
    let fuzzed = match scale.full && goals.contains(&Goal::G9) {
        true => fuzz::run(workspace, &fuzz::Arguments::everything()).context("G9, further inputs"),
        false => Ok(()),
    };
    let supplied = match scale.full && goals.contains(&Goal::G18) {
        true => supply::run(workspace).context("G18, by cargo-deny"),
        false => Ok(()),
    };
    let lines = sheet.read()?;
    print!("{}", sheet::table(&lines, goals));
    let mut missing = sheet::faults(&lines, &promised);
    let without = goals.iter().filter(|goal| lines.iter().all(|line| line.goal != **goal));
    missing.extend(without.map(|goal| format!("{goal}: no row: {}", goal.promise())));
    sheet::judge(&missing)?;
    ran.and(booted).and(fuzzed).and(supplied)
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
        let mut nextest = test::nextest(workspace, sheet, test::tried(sheet.is_full()));
        nextest.args(["--profile", "faults", "--success-output", "never"]).args(USER_SPACE);
        let package = format!("package({ROOT_PACKAGE})");
        let packages = if needs_root { package } else { format!("not {package}") };
        nextest.args(["-E", &format!("{packages} & {filter}")]);
        if let Err(error) = process::run(&mut nextest) {
            eprintln!("xtask: {error:#}");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The tests of `goals`, for cargo-nextest.
pub fn filter(goals: &[Goal]) -> String {
    let prefixes: Vec<_> = goals.iter().map(|goal| goal.id().to_lowercase()).collect();
    format!(r"test(/(^|::)({})_\w+$/)", prefixes.join("|"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use tcpguard_goals::least;

    use super::*;
    use crate::{promises, test::ROOT_TESTS};

    #[test]
    fn every_goal_has_a_test() {
        let tests = row_tests(&Workspace::locate().unwrap()).unwrap();
        let held: BTreeSet<Goal> = tests.iter().map(|test| test.goal).collect();
        let missing = Goal::ALL.iter().filter(|goal| !held.contains(goal));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&Goal>::new());
    }

    #[test]
    fn every_row_has_a_least_n() {
        let tests = row_tests(&Workspace::locate().unwrap()).unwrap();
        let written: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(least::tests().collect::<BTreeSet<_>>(), written);
    }

    #[test]
    fn the_filter_names_tests_as_they_are_found_in_the_source() {
        assert_eq!(filter(&[Goal::G1, Goal::Audit]), r"test(/(^|::)(g1|audit)_\w+$/)");
    }

    /// Tests of the specification's promises about rates under floods, and about times, on a
    /// machine that may be doing something else.
    const AGAINST_REAL_TIME: [&str; 6] = [
        "a_client_with_the_floods_fingerprint_connects_on_retransmission",
        "a_mimicking_flood_gets_cookies_and_clients_connect",
        "a_host_without_cookies_is_saved_ipv4",
        "a_host_without_cookies_is_saved_ipv6",
        "a_hundred_thousand_handshakes_through_cookies_and_none_fails",
        "a_status_takes_four_starts_however_full_the_tables_are",
    ];

    /// A zero at the second try is no zero, and a filter that forgets a goal would retry it. The
    /// same applies to the specification's other promises about a kernel, except for those measured
    /// against real time.
    #[test]
    fn no_test_of_a_promise_is_retried() {
        let workspace = Workspace::locate().unwrap();
        let read = |path: &str| fs::read_to_string(workspace.root.join(path)).unwrap();
        let config = read(".config/nextest.toml");
        let tests = test_functions(&workspace).unwrap();
        let of_a_kernel = |name: &&str| {
            Goal::of_test(name).is_none()
                && tests[*name].iter().any(|file| Path::new(file).starts_with(ROOT_TESTS))
        };
        let specification = read("SPECIFICATION.md");
        let mut cited: BTreeSet<&str> =
            promises::cited(&specification).filter(of_a_kernel).collect();
        for name in AGAINST_REAL_TIME {
            assert!(cited.remove(name), "{name} is promised nowhere");
        }
        let names = cited.into_iter().collect::<Vec<_>>().join("|\n");
        let mut overrides = config.split("[[profile.default.overrides]]").skip(1);
        for wanted in [
            format!("'{}'", filter(Goal::ALL)),
            format!("'''\ntest(/(?x)(^|::)(\n{names}\n)$/)\n'''"),
        ] {
            let once = format!("filter = {wanted}\nretries = 0\n");
            let found = overrides.next().unwrap_or_default();
            assert!(found.contains(&once), "the next override must be\n{once}and is\n{found}");
        }
        assert!(config.contains("[[profile.faults.overrides]]\nfilter = 'all()'\nretries = 0\n"));
    }
}
