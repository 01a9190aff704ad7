//! zig as the linker of the packaged program and of programs for other platforms, by cargo-zigbuild.
//!
//! A linker takes the versions of symbols from the C library that it finds. zig brings the symbols of every glibc on
//! every platform, so a program can be linked for an old one on any machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::compiler::Compiler;
use crate::platform::Platform;
use crate::workspace::Workspace;
use crate::{build, environment, toolchain};

/// The oldest C library on which the packaged program runs: that of 2012, RHEL 7.
pub const GLIBC: &str = "2.17";
/// The packages of PyPI, with the versions that make the same bytes everywhere.
pub const PACKAGES: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.1"];

/// Returns the directory in which pip puts both, for every checkout of this user.
pub fn directory() -> PathBuf {
    toolchain::cargo_home().join("tcpguard-tools")
}

/// Returns whether both are there in these versions.
pub fn is_installed() -> bool {
    PACKAGES.iter().all(|package| {
        // A package is recorded in NAME-VERSION.dist-info, with underscores in its name.
        let record = package.replace('-', "_").replace("==", "-") + ".dist-info";
        directory().join(record).is_dir()
    })
}

/// `cargo VERB` for a platform: `zigbuild` or `test`.
///
/// # Errors
/// When there is no compiler for it.
pub fn cargo(workspace: &Workspace, verb: &str, platform: Platform) -> Result<Command> {
    let mut command = Command::new(directory().join("bin/cargo-zigbuild"));
    environment::in_workspace(&mut command, workspace);
    let mut flags = build::without_paths(workspace).to_vec();
    Compiler::find(platform)?.equip(&mut command, &mut flags);
    command
        .arg(verb)
        .arg(format!("--target={}.{GLIBC}", platform.triple()))
        .env("CARGO_ZIGBUILD_ZIG_PATH", directory().join("ziglang/zig"))
        .env("CARGO_ENCODED_RUSTFLAGS", build::encoded(&flags));
    Ok(command)
}
