//! The compiler of user space for a platform: the active one, or else Debian's. A Rust compiler makes programs for
//! every platform, but needs a standard library for it of its own version.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum as _;

use crate::platform::Platform;
use crate::pypi::ZIG;
use crate::{debian, process};

/// Debian's compiler, and its cargo.
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
/// Debian's package with its standard library, and the suites that have it.
const STANDARD_LIBRARY: &str = "libstd-rust-web-dev";
const SUITES: [&str; 2] = ["bookworm", "bookworm-security"];

/// A compiler with a standard library for a platform.
pub struct Compiler {
    /// Directory of the standard library for Debian's compiler; `None`: the active compiler has one.
    sysroot: Option<PathBuf>,
}

impl Compiler {
    /// Finds a compiler. Debian's standard library is downloaded once for all checkouts of this user, and unpacked
    /// beside zig.
    ///
    /// # Errors
    /// When neither compiler is there, or the download fails.
    pub fn find(platform: Platform) -> Result<Self> {
        if active_has_standard_library(platform) {
            return Ok(Self { sysroot: None });
        }
        let triple = platform.triple();
        let version = debian_version().with_context(|| {
            format!("there is no standard library for {triple}: rustup target add {triple}")
        })?;
        let directory = ZIG.directory().join(format!("std-{}-{version}", platform.debian()));
        let package = format!("{STANDARD_LIBRARY}={version}");
        let root = debian::unpacked(&directory, platform, &SUITES, &package)?;
        Ok(Self { sysroot: Some(root.join("usr")) })
    }

    /// `rustc`, for a question.
    pub fn rustc(&self) -> Command {
        Command::new(if self.sysroot.is_some() { RUSTC } else { "rustc" })
    }

    /// Lets a command, which runs cargo, use the compiler. Adds the flags that this takes.
    pub fn equip(&self, command: &mut Command, flags: &mut Vec<OsString>) {
        let Some(sysroot) = &self.sysroot else { return };
        command.env("RUSTC", RUSTC).env("CARGO", CARGO).env_remove("RUSTUP_TOOLCHAIN");
        let mut flag = OsString::from("--sysroot=");
        flag.push(sysroot);
        flags.push(flag);
    }
}

/// Returns whether a compiler for every platform is installed.
pub fn is_installed() -> bool {
    Platform::value_variants().iter().copied().all(active_has_standard_library)
        || debian_version().is_some()
}

fn active_has_standard_library(platform: Platform) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", platform.triple()]);
    platform == Platform::OWN
        || process::probe(&mut rustc).is_some_and(|it| Path::new(&it).is_dir())
}

/// The version of Debian's compiler, if it is installed with its cargo.
fn debian_version() -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}"]);
    query.arg(format!("{STANDARD_LIBRARY}:{}", Platform::OWN.debian()));
    let is_there = [RUSTC, CARGO].iter().all(|path| Path::new(path).is_file());
    process::probe(&mut query).filter(|version| is_there && !version.is_empty())
}
