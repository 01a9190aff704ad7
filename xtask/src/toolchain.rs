//! The compiler for the BPF programs.
//!
//! `bpfel-unknown-none` ships no prebuilt `core`, so the compiler must come with the source of
//! *its own* version of it (another version's fails on lang items), and `bpf-linker` must be there
//! to turn LLVM bitcode into an object.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{environment, process};

/// Names a rustc to use for the BPF programs instead of looking for one.
const RUSTC_VARIABLE: &str = "TCPGUARD_BPF_RUSTC";

/// A compiler that can build the BPF crate.
pub struct BpfToolchain {
    /// Root of its installation, as `rustc --print sysroot` says.
    pub sysroot: PathBuf,
    rustc: PathBuf,
}

/// No compiler is fit, and why each was not.
#[derive(Debug)]
pub struct NoToolchain(Vec<String>);

impl BpfToolchain {
    /// The first fit one of: `$TCPGUARD_BPF_RUSTC` (if set, no other is tried), rustup's nightly,
    /// the toolchain that rustup has active, the distribution's.
    pub fn find() -> Result<Self, NoToolchain> {
        let mut tried = Vec::new();
        for (name, rustc) in candidates() {
            match rustc.ok_or_else(|| "not installed".to_owned()).and_then(Self::inspect) {
                Ok(toolchain) => return Ok(toolchain),
                Err(lack) => tried.push(format!("{name}: {lack}")),
            }
        }
        Err(NoToolchain(tried))
    }

    fn inspect(rustc: PathBuf) -> Result<Self, String> {
        let mut command = Command::new(&rustc);
        environment::isolate(&mut command);
        let sysroot = process::probe(command.args(["--print", "sysroot"]))
            .map(PathBuf::from)
            .ok_or_else(|| format!("{} does not run", rustc.display()))?;
        let core = core_source(&sysroot);
        if !core.is_dir() {
            return Err(format!("has no source of core at {}", core.display()));
        }
        let cargo = sysroot.join("bin/cargo");
        if !cargo.is_file() {
            return Err(format!("has no cargo at {}", cargo.display()));
        }
        Ok(Self { sysroot, rustc })
    }

    /// `cargo SUBCOMMAND` of this toolchain, in an environment that names no other.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(self.sysroot.join("bin/cargo"));
        self.equip(&mut command);
        command.arg(subcommand);
        command
    }

    /// `cargo clippy` of exactly this compiler, since lints of another would read other metadata.
    pub fn clippy(&self) -> Command {
        // Started by path, cargo-clippy takes the clippy-driver beside it and the cargo in $CARGO.
        let mut command = Command::new(self.sysroot.join("bin/cargo-clippy"));
        self.equip(&mut command);
        command.env("CARGO", self.sysroot.join("bin/cargo")).arg("clippy");
        command
    }

    /// Returns whether clippy is installed for this compiler, in this compiler's version.
    pub fn has_clippy(&self) -> bool {
        let mut command = Command::new(self.sysroot.join("bin/clippy-driver"));
        environment::isolate(&mut command);
        let driver = process::probe(command.args(["--rustc", "--version"]));
        driver.is_some() && driver == process::probe(Command::new(&self.rustc).arg("--version"))
    }

    fn equip(&self, command: &mut Command) {
        environment::isolate(command);
        // Without this, only a nightly accepts -Z build-std. It stands on this child alone: crates
        // of the host would otherwise detect a nightly that is not there.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", &self.rustc).env("PATH", search_path());
    }
}

impl fmt::Display for NoToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.join("; "))
    }
}

/// The version of `bpf-linker`, if it runs.
pub fn bpf_linker() -> Option<String> {
    process::probe(Command::new("bpf-linker").arg("--version").env("PATH", search_path()))
}

/// `$PATH`, and behind it where `cargo install` puts programs.
pub fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(cargo_home().join("bin"));
    path
}

/// Cargo's home directory: registry sources and installed programs.
pub fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

fn core_source(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust/library/core")
}

fn candidates() -> Vec<(&'static str, Option<PathBuf>)> {
    if let Some(named) = std::env::var_os(RUSTC_VARIABLE) {
        let name = "$TCPGUARD_BPF_RUSTC (the only one tried while it is set)";
        return vec![(name, Some(named.into()))];
    }
    let distribution = PathBuf::from("/usr/bin/rustc");
    vec![
        ("rustup's nightly", rustup_which(&["--toolchain", "nightly"])),
        ("rustup's active toolchain", rustup_which(&[])),
        ("/usr/bin/rustc", distribution.is_file().then_some(distribution)),
    ]
}

fn rustup_which(toolchain: &[&str]) -> Option<PathBuf> {
    process::probe(Command::new("rustup").args(["which", "rustc"]).args(toolchain))
        .map(PathBuf::from)
}
