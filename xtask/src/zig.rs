//! zig as the linker of the packaged program and of programs for other platforms, by cargo-zigbuild.
//!
//! A linker takes the versions of symbols from the C library that it finds. zig brings the symbols of every glibc on
//! every platform, so a program can be linked for an old one on any machine.

use std::process::Command;

use anyhow::Result;

use crate::compiler::Compiler;
use crate::platform::Platform;
use crate::pypi::ZIG;
use crate::workspace::Workspace;
use crate::{build, environment};

/// The oldest C library on which the packaged program runs: that of 2012, RHEL 7.
pub const GLIBC: &str = "2.17";
/// `cargo VERB` for a platform: `zigbuild` or `test`.
///
/// # Errors
/// When there is no compiler for it.
pub fn cargo(workspace: &Workspace, verb: &str, platform: Platform) -> Result<Command> {
    let mut command = Command::new(ZIG.program());
    environment::in_workspace(&mut command, workspace);
    let mut flags = build::without_paths(workspace).to_vec();
    Compiler::find(platform)?.equip(&mut command, &mut flags);
    command
        .arg(verb)
        .arg(format!("--target={}.{GLIBC}", platform.triple()))
        .env("CARGO_ZIGBUILD_ZIG_PATH", ZIG.directory().join("ziglang/zig"))
        .env("CARGO_ENCODED_RUSTFLAGS", build::encoded(&flags));
    Ok(command)
}
