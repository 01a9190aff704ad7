//! Every test: those that any user can run, documentation tests, and those that need root.

mod durations;
pub mod emulated;

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use anyhow::{Context as _, Error, Result, bail};
use tcpguard_goals::Goal;

pub use self::durations::Durations;
use crate::budget::Phases;
use crate::build::{self, Profile, USER_SPACE};
use crate::faults::{self, Scale, Sheet};
use crate::platform::Platform;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{dist, environment, lab, process};

/// The folder with the tests that need root.
pub const ROOT_TESTS: &str = "testing/root-tests";
pub const ROOT_PACKAGE: &str = "tcpguard-e2e";
/// The packages that a run without root leaves out: they have no other use than these tests and measurements.
pub const WITHOUT_ROOT: [&str; 8] = [
    "--exclude",
    "tcpguard-bench",
    "--exclude",
    "tcpguard-e2e",
    "--exclude",
    "tcpguard-fleet-kit",
    "--exclude",
    "tcpguard-kit",
];

/// The profiles of cargo-nextest for the two runs, in `.config/nextest.toml`.
pub const UNPRIVILEGED_RUN: &str = "unprivileged";
pub const PRIVILEGED_RUN: &str = "privileged";

/// The programs that tests run: `release` in their short form, and in the size of the promises those that are packaged.
/// An agent has the highest priority of a host. Beside agents that were compiled for less speed, other processes waited
/// for a CPU for seconds (decision 33).
pub const fn tried(full: bool) -> Profile {
    if full { Profile::Packaged(Platform::OWN) } else { Profile::Release }
}

/// cargo-nextest's exit status when no test matched (its `NO_TESTS_RUN`).
const NO_TESTS: i32 = 4;

/// Extent of a run.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Leaves out the tests that need root.
    pub no_root: bool,
    /// Runs the long forms too.
    pub full: bool,
    /// Arguments of each run of cargo-nextest.
    pub arguments: Vec<String>,
}

/// Builds everything and runs the tests. The rows of promises and the durations are printed at the end.
///
/// With arguments, which may select tests of one run only, another may come out empty; nothing
/// at all is a failure as it is without.
///
/// # Errors
/// When set-up, build or a test fails, no test was found, a test of a promise wrote no row, or root
/// is missing where it is needed.
pub fn run(workspace: &Workspace, extent: &Extent) -> Result<()> {
    let Extent { no_root, full, ref arguments } = *extent;
    if !no_root && !setup::is_root() {
        bail!("the tests in network namespaces need root; leave them out with --no-root");
    }
    let mut durations = Durations::default();
    prepare(workspace, no_root, full, &mut durations)?;
    let sheet = Sheet::begin(workspace, Scale { full, ..Scale::default() })?;
    let passed = run_tests(workspace, extent, &sheet, &mut durations);

    let mut promised = faults::row_tests(workspace)?;
    promised.retain(|test| arguments.is_empty() && !full && !(no_root && test.needs_root));
    let mut kept = sheet.close(&promised);
    if full && arguments.is_empty() && !no_root {
        let scale = Scale { full, ..Scale::default() };
        let tried = durations.of("promises in full size", || faults::run(workspace, scale, &[]));
        kept = kept.and(tried);
    }
    println!("{durations}");
    let mut in_time = Ok(());
    if arguments.is_empty() && !full && !no_root {
        let mut seconds = durations.seconds();
        // It depends on what the machine has, and on the network.
        seconds.remove(build::SET_UP);
        let phases = Phases::of_this_machine(seconds);
        phases.keep(workspace)?;
        in_time = phases.hold(workspace).map(|outcome| println!("{outcome}"));
    }
    for error in [kept.as_ref().err(), passed.as_ref().err()].into_iter().flatten() {
        eprintln!("xtask: {error:#}");
    }
    kept.and(passed).and(in_time)
}

/// Requirements of the tests.
pub const PURPOSES: [Purpose; 7] = [
    Purpose::Test,
    Purpose::Lab,
    Purpose::Scrape,
    Purpose::Package,
    Purpose::Browser,
    Purpose::Terminal,
    Purpose::Fleet,
];

/// Crates with tests that contain no BPF object: they are compiled while there is none.
const WITHOUT_OBJECTS: [&str; 9] = [
    "tcpguard-common",
    "tcpguard-engine",
    "tcpguard-features",
    "tcpguard-fleet",
    "tcpguard-goals",
    "tcpguard-host",
    "tcpguard-sim",
    "tcpguard-support",
    "xtask",
];

/// Installs what is missing, and builds the tests with the programs and packages that they try.
pub fn prepare(
    workspace: &Workspace,
    no_root: bool,
    full: bool,
    durations: &mut Durations,
) -> Result<()> {
    let mut early = vec!["build", "--tests"];
    early.extend(WITHOUT_OBJECTS.iter().flat_map(|name| ["--package", name]));
    let (excluded, purposes): (&[&str], &[Purpose]) = match no_root {
        true => (&WITHOUT_ROOT, &[Purpose::Test]),
        false => (&[], &PURPOSES),
    };
    build::prepare(workspace, durations, &early, purposes, || {
        let mut build = environment::host_cargo(workspace);
        process::run(build.args(["test", "--no-run"]).args(USER_SPACE).args(excluded))
    })?;
    durations.of("programs", || {
        if full {
            setup::ensure(&[Purpose::Program])?;
        }
        build::program(workspace, tried(full))
    })?;
    if !no_root {
        durations.of("packages", || dist::packages(workspace, Platform::OWN, tried(full)))?;
    }
    Ok(())
}

fn run_tests(
    workspace: &Workspace,
    extent: &Extent,
    sheet: &Sheet,
    durations: &mut Durations,
) -> Result<()> {
    let Extent { no_root, full, ref arguments } = *extent;
    let excluded: &[&str] = if no_root { &WITHOUT_ROOT } else { &[] };
    let run_of = |profile: &str| {
        let mut command = nextest(workspace, sheet, tried(full));
        command.args(arguments).args(["--profile", profile]).args(USER_SPACE).args(excluded);
        if full {
            command.args(["--run-ignored", "all"]);
        }
        if full && arguments.is_empty() {
            // Those run by themselves afterwards.
            command.args(["-E", &format!("not {}", faults::filter(Goal::ALL))]);
        }
        command
    };
    let report_of =
        |profile: &str| workspace.target.join("nextest").join(profile).join("junit.xml");
    for profile in [UNPRIVILEGED_RUN, PRIVILEGED_RUN] {
        // That of an earlier run. Mostly there is one.
        let _ = fs::remove_file(report_of(profile));
    }
    // Gigabytes of the build may be on their way to the disk, and an agent that reads or writes there would wait.
    process::run(&mut Command::new("sync"))?;
    // A test that fails keeps none of the others from running.
    let outcomes = durations.of("tests", || {
        let mut unprivileged = run_of(UNPRIVILEGED_RUN);
        if no_root {
            return Ok(vec![ran_any(&mut unprivileged, arguments)]);
        }
        // How many run side by side, and which alone, is set in .config/nextest.toml.
        let mut privileged = run_of(PRIVILEGED_RUN);
        let output = report_of(UNPRIVILEGED_RUN).with_extension("output");
        Ok(thread::scope(|scope| {
            let beside = scope.spawn(|| ran_when_idle(&mut unprivileged, arguments, &output));
            let ran = ran_any(&mut privileged, arguments);
            vec![beside.join().expect("a run of tests that does not panic"), ran]
        }))
    })?;
    for report in [UNPRIVILEGED_RUN, PRIVILEGED_RUN].map(report_of) {
        if report.exists() {
            durations.read(&report)?;
        }
    }
    if arguments.is_empty() {
        durations.of("examples in the documentation", || {
            let mut examples = environment::host_cargo(workspace);
            examples.args(["test", "--quiet", "--doc"]).args(USER_SPACE).args(excluded);
            process::run(&mut examples)
        })?;
    }
    let found = outcomes.into_iter().try_fold(false, |found, ran| Ok::<_, Error>(found | ran?))?;
    if !found {
        bail!("no test matches `{}`; see which there are: cargo nextest list", arguments.join(" "));
    }
    Ok(())
}

/// A run of cargo-nextest that gives its tests their scale and the file for their rows, and the programs that were built
/// as `profile` says.
pub fn nextest(workspace: &Workspace, sheet: &Sheet, profile: Profile) -> Command {
    let mut command = environment::host_cargo(workspace);
    command.args(["nextest", "run", "--no-fail-fast"]);
    lab::for_tests(&mut command, workspace, profile);
    sheet.hand_to(&mut command);
    command
}

/// Runs tests of pure logic beside tests that mostly wait for a clock: in the scheduling class SCHED_IDLE they take
/// only the CPU time that nothing else wants. Their output goes to the file, and is printed in one piece at their end.
fn ran_when_idle(command: &mut Command, arguments: &[String], path: &Path) -> Result<bool> {
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "0"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => idle.env(name, value),
            None => idle.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        idle.current_dir(directory);
    }
    let unwritten = || format!("cannot write the output of the tests to {}", path.display());
    // On a fresh machine cargo-nextest has not made its folder yet.
    path.parent().map_or(Ok(()), fs::create_dir_all).with_context(unwritten)?;
    let output = fs::File::create(path).with_context(unwritten)?;
    idle.stdout(output.try_clone().with_context(unwritten)?).stderr(output);
    let ran = ran_any(&mut idle, arguments);
    eprint!("{}", fs::read_to_string(path).with_context(unwritten)?);
    ran
}

/// Returns whether any test ran. Only a run that was given arguments may find none.
fn ran_any(command: &mut Command, arguments: &[String]) -> Result<bool> {
    let line = process::line(command);
    let status = command.status().map_err(|error| process::not_started(&line, error))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(NO_TESTS) if !arguments.is_empty() => Ok(false),
        Some(NO_TESTS) => bail!("`{line}` found no test"),
        _ => bail!("`{line}` failed: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The tests and modules that the filters of a configuration of cargo-nextest name, without those that a pattern
    /// stands for.
    fn named(config: &str) -> impl Iterator<Item = &str> {
        let rest = config.split("test(/").skip(1);
        let patterns = rest.filter_map(|rest| Some(rest.split_once("/)")?.0));
        let exact = patterns.filter(|pattern| !pattern.contains(r"\w"));
        let words = exact.flat_map(|pattern| {
            let pattern = pattern.trim_start_matches("(?x)");
            pattern.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        });
        words.filter(|word| !word.is_empty())
    }

    /// A filter for a test that does not exist has no effect, and cargo-nextest does not say so.
    #[test]
    fn each_name_in_the_configuration_of_nextest_is_a_test_or_a_module() {
        let workspace = Workspace::locate().unwrap();
        let config = fs::read_to_string(workspace.root.join(".config/nextest.toml")).unwrap();
        let tests = faults::test_functions(&workspace).unwrap();
        let mut known: BTreeSet<String> = tests.into_keys().collect();
        for file in workspace.rust_files().unwrap() {
            let path = file.strip_prefix(&workspace.root).unwrap();
            if let Ok(module) = path.strip_prefix(Path::new(ROOT_TESTS).join("tests")) {
                let names = module.with_extension("");
                known.extend(names.iter().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        let unknown: Vec<&str> = named(&config).filter(|name| !known.contains(*name)).collect();
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn a_name_in_a_filter_is_found_and_a_pattern_is_none() {
        let config = r"
            filter = 'package(a) & test(/^(one|two)::/) | test(/^\w+_live::/)'
            filter = 'test(/(?x)(^|::)(
                three_4|
                five
            )$/)'";
        assert_eq!(named(config).collect::<Vec<_>>(), ["one", "two", "three_4", "five"]);
    }

    fn ended(code: i32) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exit {code}")]);
        command
    }

    #[test]
    fn finding_no_test_fails_unless_a_filter_was_given() {
        let filter = ["wire".to_owned()];
        assert!(ran_any(&mut ended(0), &[]).unwrap());
        assert!(ran_any(&mut ended(NO_TESTS), &[]).is_err());
        assert!(!ran_any(&mut ended(NO_TESTS), &filter).unwrap());
    }

    #[test]
    fn a_failed_test_fails_the_run_with_a_filter_too() {
        assert!(ran_any(&mut ended(100), &["wire".to_owned()]).is_err());
    }
}
