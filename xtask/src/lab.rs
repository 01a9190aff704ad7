//! Programs of the test kit and the benchmark that an operator may want to see run.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result};
use tcpguard_support::contents;

use crate::{
    build::{self, Profile},
    environment,
    platform::Platform,
    process,
    pypi::{EXABGP, NATS},
    setup,
    setup::Purpose,
    test::Durations,
    workspace::Workspace,
};

/// The requirements of a lab.
pub const LAB: [Purpose; 2] = [Purpose::Build, Purpose::Lab];
/// The requirements of a fleet.
const FLEET: [Purpose; 3] = [Purpose::Build, Purpose::Lab, Purpose::Fleet];

/// The demonstration: of one host, or of a fleet. It runs the programs of the build that the tests are linked in, so
/// that the one build is the other's.
pub fn demo(workspace: &Workspace, fleet: bool, arguments: &[String]) -> Result<()> {
    let (purposes, programs): (&[Purpose], &[_]) = match fleet {
        false => (&LAB, &[("tcpguard", "tcpguard"), ("tcpguard-kit", "demo")]),
        true => (
            &FLEET,
            &[
                ("tcpguard", "tcpguard"),
                ("tcpguard-fleet", "tcpguard-fleet"),
                ("tcpguard-fleet-kit", "fleet_demo"),
            ],
        ),
    };
    let mut durations = Durations::default();
    let early = ["build", "--package", "tcpguard-features", "--package", "tcpguard-host"];
    build::prepare(workspace, &mut durations, &early, purposes, || {
        let mut build = environment::host_cargo(workspace);
        build.arg("build");
        for (package, program) in programs {
            build.args(["--package", package, "--bin", program]);
        }
        process::run(&mut build)
    })?;
    eprintln!("xtask: {durations}");
    let (_, program) = programs.last().expect("the demonstration itself");
    become_program(workspace, Profile::Debug, program, arguments)
}

/// The benchmark.
pub fn bench(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    setup::ensure(&LAB)?;
    build::everything(workspace, Profile::Release)?;
    build_and_become(workspace, "tcpguard-bench", "bench", arguments)
}

/// The evaluation of the detector.
pub fn eval(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    setup::ensure(&[Purpose::Build])?;
    // Captures are played by the binary's own replay, and the binary carries the objects.
    build::bpf_objects(workspace)?;
    let docs = format!("--docs={}", workspace.root.join("docs/evidence").display());
    let arguments: Vec<String> = [docs].into_iter().chain(arguments.iter().cloned()).collect();
    build_and_become(workspace, "tcpguard-eval", "tcpguard-eval", &arguments)
}

/// Builds `program` of `package` for measurements and becomes it.
fn build_and_become(
    workspace: &Workspace,
    package: &str,
    program: &str,
    arguments: &[String],
) -> Result<()> {
    let mut build = environment::host_cargo(workspace);
    process::run(build.args(["build", "--release", "--package", package, "--bin", program]))?;
    become_program(workspace, Profile::Release, program, arguments)
}

/// Becomes a program that was built as `profile` says, so that signals reach it directly.
fn become_program(
    workspace: &Workspace,
    profile: Profile,
    program: &str,
    arguments: &[String],
) -> Result<()> {
    let path = workspace.target.join(profile.directory()).join(program);
    let mut command = Command::new(&path);
    command.args(arguments);
    for_tests(&mut command, workspace, profile);
    Err(command.exec()).with_context(|| format!("cannot start {}", path.display()))
}

/// Names the programs under test to a program of the test kit, as they were built by `profile`.
pub fn for_tests(command: &mut Command, workspace: &Workspace, profile: Profile) {
    command
        .env("TCPGUARD_BIN", workspace.program(&contents::AGENT, profile))
        .env("TCPGUARD_FLEET_BIN", workspace.program(&contents::FLEET, profile))
        .env("TCPGUARD_NATS_SERVER", NATS.program())
        .env("TCPGUARD_EXABGP", EXABGP.directory())
        .env("TCPGUARD_BPF_DIR", workspace.bpf_objects())
        .env("TCPGUARD_DIST", workspace.packages(Platform::OWN));
    if let Profile::Packaged(_) = profile {
        command.env("TCPGUARD_PACKAGED", "1");
    }
}
