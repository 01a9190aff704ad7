//! Programs of the test kit and the benchmark that an operator may want to see run.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result};

use crate::{
    build::{self, Profile},
    environment,
    platform::Platform,
    process, setup,
    setup::Purpose,
    workspace::Workspace,
};

/// Builds `program` of `package`, which needs a lab, and becomes it, so that signals reach it directly.
pub fn exec(
    workspace: &Workspace,
    package: &str,
    program: &str,
    arguments: &[String],
) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Lab])?;
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

/// Names the program under test to a program of the test kit: `tcpguard` as it was built by `profile`.
pub fn for_tests(command: &mut Command, workspace: &Workspace, profile: Profile) {
    command
        .env("TCPGUARD_BIN", workspace.binary(profile))
        .env("TCPGUARD_BPF_DIR", workspace.bpf_objects())
        .env("TCPGUARD_DIST", workspace.packages(Platform::OWN));
}
