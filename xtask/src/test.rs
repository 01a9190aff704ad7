//! Every test: those that anybody can run, documentation tests, and those that need root.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    build::{self, Profile},
    dist, environment, lab, process, setup,
    setup::Purpose,
    workspace::Workspace,
};

const ROOT_TESTS: &str = "tcpguard-e2e";

/// cargo-nextest's exit status when no test matched (its `NO_TESTS_RUN`).
const NO_TESTS: i32 = 4;

/// Builds everything and runs the tests, `arguments` going to each run of cargo-nextest.
///
/// With arguments, which may select tests of one run only, another may come out empty; nothing
/// at all is a failure as it is without.
///
/// # Errors
/// When set-up, build or a test fails, no test was found, or root is missing where it is needed.
pub fn run(workspace: &Workspace, no_root: bool, arguments: &[String]) -> Result<()> {
    if !no_root && !setup::is_root() {
        bail!("the tests in network namespaces need root; leave them out with --no-root");
    }
    let purposes = [
        Purpose::Build,
        Purpose::Test,
        Purpose::Lab,
        Purpose::Scrape,
        Purpose::Package,
        Purpose::Browser,
        Purpose::Terminal,
    ];
    setup::ensure(if no_root { &purposes[..2] } else { &purposes })?;
    build::everything(workspace, Profile::Packaged)?;

    process::announce("tests that need no privilege");
    let mut unprivileged = nextest(workspace, arguments);
    unprivileged.args(["--workspace", "--exclude", ROOT_TESTS]);
    let mut found = ran_any(&mut unprivileged, arguments)?;

    if arguments.is_empty() {
        process::announce("examples in the documentation");
        let mut examples = environment::host_cargo(workspace);
        examples.args(["test", "--quiet", "--doc", "--workspace", "--exclude", ROOT_TESTS]);
        process::run(&mut examples)?;
    }

    if !no_root {
        dist::packages(workspace)?;
        process::announce("tests in network namespaces");
        let mut privileged = nextest(workspace, arguments);
        // Floods measure rates: two at once would measure each other.
        privileged.args(["--package", ROOT_TESTS, "--test-threads", "1"]);
        found |= ran_any(&mut privileged, arguments)?;
    }
    if !found {
        bail!("no test matches `{}`; see which there are: cargo nextest list", arguments.join(" "));
    }
    Ok(())
}

fn nextest(workspace: &Workspace, arguments: &[String]) -> Command {
    let mut command = environment::host_cargo(workspace);
    command.args(["nextest", "run", "--no-fail-fast"]);
    command.args(arguments);
    lab::for_tests(&mut command, workspace, Profile::Packaged);
    command
}

/// Whether any test ran. Only a run that was given arguments may find none.
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
    use super::*;

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
