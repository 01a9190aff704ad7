//! `cargo xtask try`: checks, builds and tests of a change alone. It takes minutes where `check` and `test` take half an
//! hour, and prints the tests that it leaves out.

mod reach;
mod selection;

use std::process::Command;

use anyhow::{Result, bail};

use self::selection::{Change, Selection};
use crate::build::{self, BPF_OF_TESTS, BPF_PROGRAMS, BpfCompiler, Profile};
use crate::faults::{Scale, Sheet};
use crate::setup::{self, Purpose};
use crate::test::{self, Durations, PRIVILEGED_RUN, ROOT_PACKAGE, UNPRIVILEGED_RUN};
use crate::workspace::Workspace;
use crate::{architecture, environment, process, promises, wording};

/// Checks, builds and runs what a change can touch: the change of the working tree, or of `paths`.
///
/// # Errors
/// When nothing has changed, a path is outside of the repository, or a check, a build or a test fails.
pub fn run(workspace: &Workspace, paths: &[String]) -> Result<()> {
    let change = Change::find(workspace, paths)?;
    if change.is_empty() {
        bail!("nothing differs from HEAD; name the files of a change: cargo xtask try PATH");
    }
    let mut selection = Selection::of(workspace, &change)?;
    if !setup::is_root() {
        selection.leave_out_root_tests();
    }
    println!("{selection}");
    let mut durations = Durations::default();
    let tried = try_all(workspace, &selection, &mut durations);
    println!("{durations}");
    println!("left out: {}", selection.left_out());
    tried
}

fn try_all(workspace: &Workspace, selection: &Selection, durations: &mut Durations) -> Result<()> {
    durations.of("set-up", || {
        setup::ensure(&[Purpose::Build, Purpose::Lint, Purpose::Test])?;
        let root: &[Purpose] =
            if selection.root_tests().is_empty() { &[] } else { &test::PURPOSES };
        setup::ensure(root)
    })?;
    durations.of("rules and formatting", || {
        architecture::check(workspace)?;
        promises::check(workspace)?;
        wording::check(workspace)?;
        process::run(environment::host_cargo(workspace).args(["fmt", "--check"]))
    })?;
    durations.of("BPF objects", || {
        build::bpf_objects(workspace)?;
        if selection.has_bpf() {
            let compiler = BpfCompiler::find(workspace)?;
            compiler.lint(&BPF_PROGRAMS)?;
            compiler.lint(&BPF_OF_TESTS)?;
        }
        Ok(())
    })?;
    if !selection.packages().is_empty() {
        durations.of("lints", || {
            let mut clippy = environment::host_cargo(workspace);
            clippy.args(["clippy", "--quiet", "--all-targets"]);
            add_packages(&mut clippy, selection.packages());
            process::run(clippy.args(["--", "-D", "warnings"]))
        })?;
    }
    let sheet = Sheet::begin(workspace, Scale::default())?;
    let tested = durations.of("tests of its crates", || run_own(workspace, selection, &sheet));
    let live = match selection.root_tests() {
        [] => Ok(()),
        modules => durations.of("root tests", || run_root(workspace, modules, &sheet)),
    };
    sheet.close(&[]).and(tested).and(live)
}

/// The tests of the changed crates, and those of `tcpguard` over its whole surface.
fn run_own(workspace: &Workspace, selection: &Selection, sheet: &Sheet) -> Result<()> {
    let nextest = |profile: &str, packages: &[String]| {
        let mut nextest = test::nextest(workspace, sheet, Profile::Debug);
        nextest.args(["--profile", profile, "--no-tests", "pass"]);
        add_packages(&mut nextest, packages);
        nextest
    };
    let own = selection.packages().iter().filter(|name| *name != ROOT_PACKAGE).cloned();
    let (privileged, own): (Vec<_>, Vec<_>) =
        own.partition(|name| test::WITHOUT_ROOT.contains(&name.as_str()));
    for (profile, packages) in [(UNPRIVILEGED_RUN, own), (PRIVILEGED_RUN, privileged)] {
        if !packages.is_empty() {
            process::run(&mut nextest(profile, &packages))?;
        }
    }
    if !selection.surface_tests().is_empty() {
        let mut surface = nextest(UNPRIVILEGED_RUN, &["tcpguard".to_owned()]);
        surface.args(selection.surface_tests().iter().flat_map(|test| ["--test", test]));
        process::run(&mut surface)?;
    }
    Ok(())
}

/// Some modules of the root tests, with the programs that they start.
fn run_root(workspace: &Workspace, modules: &[reach::Module], sheet: &Sheet) -> Result<()> {
    // With the test kit, for the features of dependencies that the tests have.
    let mut programs = environment::host_cargo(workspace);
    programs.args(["build", "--package", "tcpguard-kit", "--bin", "tcpguard"]);
    programs.args(["--package", "tcpguard"]);
    if modules.iter().any(|module| module.theme == "fleet") {
        programs.args(["--package", "tcpguard-fleet", "--bin", "tcpguard-fleet"]);
    }
    process::run(&mut programs)?;
    let mut nextest = test::nextest(workspace, sheet, Profile::Debug);
    nextest.args(["--profile", PRIVILEGED_RUN, "--package", ROOT_PACKAGE]);
    let mut themes: Vec<&str> = modules.iter().map(|module| module.theme.as_str()).collect();
    themes.dedup();
    nextest.args(themes.iter().flat_map(|theme| ["--test", theme]));
    let filters: Vec<String> = modules.iter().map(reach::Module::filter).collect();
    process::run(nextest.args(["-E", &filters.join(" | ")]))
}

fn add_packages(command: &mut Command, packages: &[String]) {
    command.args(packages.iter().flat_map(|name| ["--package", name]));
}
