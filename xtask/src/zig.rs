//! zig as the linker of the packaged program, by cargo-zigbuild.
//!
//! A linker takes the versions of symbols from the C library that it finds. zig brings the symbols of every glibc, so
//! the program can be linked for an old one on any machine.

use std::path::PathBuf;
use std::process::Command;

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

/// `cargo zigbuild` for the architecture of this machine.
pub fn build(workspace: &Workspace) -> Command {
    let mut command = Command::new(directory().join("bin/cargo-zigbuild"));
    environment::in_workspace(&mut command, workspace);
    command
        .arg("zigbuild")
        .arg(format!("--target={}.{GLIBC}", target()))
        .env("CARGO_ZIGBUILD_ZIG_PATH", directory().join("ziglang/zig"))
        .env("CARGO_ENCODED_RUSTFLAGS", build::encoded(&build::without_paths(workspace)));
    command
}

/// Rust's name of the platform that packages are made for.
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
