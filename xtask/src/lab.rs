//! Programs of the test kit and the benchmark that an operator may want to see run.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result};
use tcpguard_support::contents;

use crate::{
    build::{self, Profile},
    environment,
    platform::Platform,
    process,
    pypi::NATS,
    setup,
    setup::Purpose,
    workspace::Workspace,
};

/// The requirements of a lab.
pub const LAB: [Purpose; 2] = [Purpose::Build, Purpose::Lab];
/// The requirements of a fleet.
const FLEET: [Purpose; 3] = [Purpose::Build, Purpose::Lab, Purpose::Fleet];

/// The demonstration: of one host, or of a fleet.
pub fn demo(workspace: &Workspace, fleet: bool, arguments: &[String]) -> Result<()> {
    match fleet {
        false => exec(workspace, &LAB, "tcpguard-kit", "demo", arguments),
        true => exec(workspace, &FLEET, "tcpguard-kit", "fleet_demo", arguments),
    }
}

/// The benchmark. Only its part about fleets needs a bus.
pub fn bench(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let is_of_fleet = arguments.first().is_some_and(|part| part == "fleet");
    let purposes: &[Purpose] = if is_of_fleet { &FLEET } else { &LAB };
    exec(workspace, purposes, "tcpguard-bench", "bench", arguments)
}

/// Builds `program` of `package` and becomes it, so that signals reach it directly.
pub fn exec(
    workspace: &Workspace,
    purposes: &[Purpose],
    package: &str,
    program: &str,
    arguments: &[String],
) -> Result<()> {
    setup::ensure(purposes)?;
    build::everything(workspace, Profile::Release)?;
    become_program(workspace, package, program, arguments)
}

/// Builds `program` of `package` and becomes it.
pub fn become_program(
    workspace: &Workspace,
    package: &str,
    program: &str,
    arguments: &[String],
) -> Result<()> {
    process::run(environment::host_cargo(workspace).args([
        "build",
        "--release",
        "--package",
        package,
        "--bin",
        program,
    ]))?;
    let path = workspace.target.join("release").join(program);
    let mut command = Command::new(&path);
    command.args(arguments);
    for_tests(&mut command, workspace, Profile::Release);
    Err(command.exec()).with_context(|| format!("cannot start {}", path.display()))
}

/// Names the programs under test to a program of the test kit, as they were built by `profile`.
pub fn for_tests(command: &mut Command, workspace: &Workspace, profile: Profile) {
    command
        .env("TCPGUARD_BIN", workspace.program(&contents::AGENT, profile))
        .env("TCPGUARD_FLEET_BIN", workspace.program(&contents::FLEET, profile))
        .env("TCPGUARD_NATS_SERVER", NATS.program())
        .env("TCPGUARD_BPF_DIR", workspace.bpf_objects())
        .env("TCPGUARD_DIST", workspace.packages(Platform::OWN));
}
