//! Another version of tcpguard, for tests of upgrades. It is this source with other layouts of the
//! state in the kernel, so that neither build can make anything of the other's maps.
//!
//! It is a copy below `target/other`, since a switch for it in the product would be one more way to
//! build it wrong. Its own version number keeps cargo from taking its crates for ours, so that both
//! share the target directory and nothing from a registry is compiled twice.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::build::{self, BPF_PROGRAMS, BpfCompiler, USER_SPACE};
use crate::workspace::Workspace;
use crate::{environment, process};

/// Environment variable from which a test knows its path.
pub const VARIABLE: &str = "TCPGUARD_OTHER_BIN";

/// Paths of the source with which it is built again when they have changed, and not for every other change: two
/// versions differ in more than layouts.
const MATTERS: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "tcpguard-common/",
    "tcpguard-ebpf/",
    "tcpguard-engine/src/",
    "tcpguard-host/src/durable/",
    "tcpguard/src/bpf/",
    "tcpguard/src/daemon/",
    "tcpguard/src/driver/",
];
/// The version number of ours, and of the other one.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const OTHER: &str = concat!(env!("CARGO_PKG_VERSION"), "-other");

/// Returns the path of its binary.
pub fn binary(workspace: &Workspace) -> PathBuf {
    directory(workspace).join("tcpguard")
}

/// Builds it, unless it is there and nothing that matters has changed.
///
/// # Errors
/// When the source is no git checkout, is not as it is expected here, or does not compile.
pub fn build(workspace: &Workspace) -> Result<()> {
    let directory = directory(workspace);
    let (source, built_from) = (directory.join("src"), directory.join("digest"));
    let mut digest = DefaultHasher::new();
    digest.write(include_bytes!("other_build.rs"));
    let mut files = Vec::new();
    for name in workspace.tracked()? {
        let Ok(content) = fs::read(workspace.root.join(&name)) else { continue };
        if MATTERS.iter().any(|part| name.starts_with(part)) {
            digest.write(name.as_bytes());
            digest.write(&content);
        }
        files.push((name, content));
    }
    let digest = digest.finish().to_string();
    let binary = binary(workspace);
    if binary.is_file() && fs::read_to_string(&built_from).is_ok_and(|built| built == digest) {
        return Ok(());
    }
    process::timed("another version, for tests of upgrades", || {
        let held: BTreeSet<PathBuf> = files.iter().map(|(name, _)| source.join(name)).collect();
        prune(&source, &held)?;
        for (name, content) in files {
            let content = match String::from_utf8(content) {
                Ok(text) => edited(&name, text)?.into_bytes(),
                Err(picture) => picture.into_bytes(),
            };
            build::place(&source.join(&name), &content)?;
        }
        let objects = directory.join("bpf");
        BpfCompiler::find(workspace)?.objects(&source, &BPF_PROGRAMS, &objects)?;
        fs::copy(compile(workspace, &source, &objects)?, &binary)
            .with_context(|| format!("cannot write {}", binary.display()))?;
        fs::write(&built_from, digest)
            .with_context(|| format!("cannot write {}", built_from.display()))
    })
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target.join("other")
}

/// Removes the files of an earlier build that the checkout no longer holds, which cargo would compile too.
fn prune(directory: &Path, held: &BTreeSet<PathBuf>) -> Result<()> {
    let unread = || format!("cannot read {}", directory.display());
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if path.is_dir() {
            prune(&path, held)?;
        } else if !held.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Unoptimised where it takes long: the programs, and the crates that meet every packet's sums, are not.
fn compile(workspace: &Workspace, source: &Path, objects: &Path) -> Result<PathBuf> {
    let mut command = environment::plain_cargo();
    command
        .current_dir(source)
        .env("TCPGUARD_BPF_DIR", objects)
        .args(["build", "--locked", "--message-format", "json-render-diagnostics"])
        .args(["--config", "profile.dev.package.tcpguard.opt-level=0"])
        // Of the whole workspace, so that the features are those of the tests' build.
        .args(USER_SPACE)
        .args(["--bin", "tcpguard"])
        .arg("--target-dir")
        .arg(&workspace.target);
    let binaries = build::executables(&process::output(&mut command)?)?;
    binaries.into_iter().next().context("cargo named no binary")
}

/// The file as the other version has it: fields of equal size swap positions, which no size reveals, and one is
/// added in front of all others.
fn edited(name: &str, text: String) -> Result<String> {
    let edited = match name {
        "Cargo.toml" => replaced(
            &text,
            &format!("\nversion = \"{VERSION}\"\n"),
            &format!("\nversion = \"{OTHER}\"\n"),
        ),
        "Cargo.lock" => Some(renumbered(&text)),
        "tcpguard-common/src/abi/mod.rs" => next_abi(&text),
        "tcpguard-common/src/abi/config.rs" => {
            let head = "pub struct Config {\n";
            replaced(&text, head, &format!("{head}    /// Nothing.\n    pub other: u64,\n"))
        }
        "tcpguard-common/src/abi/cookie.rs" => {
            swapped(&text, "pub timestamp_offset: u32", "pub drawn: u32")
        }
        "tcpguard-common/src/abi/values.rs" => {
            swapped(&text, "pub masks: u8", "pub mitigations: u8")
        }
        _ => Some(text),
    };
    edited.with_context(|| format!("{name} is not as {} expects it", file!()))
}

/// `text` with the one `from` replaced.
fn replaced(text: &str, from: &str, to: &str) -> Option<String> {
    (text.matches(from).count() == 1).then(|| text.replace(from, to))
}

/// `text` with the one `a` where the one `b` was, and the other way round.
fn swapped(text: &str, a: &str, b: &str) -> Option<String> {
    let (first, second) = (text.find(a)?, text.find(b)?);
    let marked = replaced(text, a, "\0").filter(|_| first != second)?;
    Some(replaced(&marked, b, a)?.replace('\0', b))
}

/// The next version of the layouts.
fn next_abi(text: &str) -> Option<String> {
    let (before, rest) = text.split_once("pub const ABI_VERSION: u32 = ")?;
    let (number, after) = rest.split_once(';')?;
    let next = number.parse::<u32>().ok()? + 1;
    Some(format!("{before}pub const ABI_VERSION: u32 = {next};{after}"))
}

/// A lock file with the other number for the crates of this repository.
fn renumbered(lock: &str) -> String {
    let own = ["name = \"tcpguard", "name = \"xtask\""];
    let mut is_own = false;
    let mut text = String::new();
    for line in lock.lines() {
        let is_version = line.starts_with("version = ");
        if is_own && is_version {
            text.push_str(&line.replace(VERSION, OTHER));
        } else {
            text.push_str(line);
        }
        text.push('\n');
        is_own = own.iter().any(|name| line.starts_with(name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_moved_is_not_compiled_where_it_was() {
        let source = tempfile::tempdir().unwrap();
        let [moved, held] =
            ["tests/it.rs", "tests/it/main.rs"].map(|name| source.path().join(name));
        for path in [&moved, &held] {
            build::place(path, b"").unwrap();
        }
        prune(source.path(), &BTreeSet::from([held.clone()])).unwrap();
        assert_eq!((moved.exists(), held.exists()), (false, true));
    }

    /// The source as it is now can be edited: every anchor is there, once.
    #[test]
    fn every_edit_finds_its_place() {
        let workspace = Workspace::locate().unwrap();
        let mut changed = Vec::new();
        for name in workspace.tracked().unwrap() {
            let Ok(text) = fs::read_to_string(workspace.root.join(&name)) else { continue };
            if edited(&name, text.clone()).unwrap() != text {
                changed.push(name);
            }
        }
        changed.sort();
        let expected = [
            "Cargo.lock",
            "Cargo.toml",
            "tcpguard-common/src/abi/config.rs",
            "tcpguard-common/src/abi/cookie.rs",
            "tcpguard-common/src/abi/mod.rs",
            "tcpguard-common/src/abi/values.rs",
        ];
        assert_eq!(changed, expected);
    }

    #[test]
    fn a_place_that_is_not_there_once_is_an_error() {
        assert_eq!(swapped("a: u8, b: u8", "a", "b").as_deref(), Some("b: u8, a: u8"));
        assert_eq!(swapped("a: u8, b: u8", "a", "c"), None);
        assert_eq!(swapped("a, a, b", "a", "b"), None);
        assert_eq!(replaced("x x", "x", "y"), None);
        assert_eq!(next_abi("pub const ABI_VERSION: u32 = nine;"), None);
        let error =
            edited("tcpguard-common/src/abi/mod.rs", String::new()).unwrap_err().to_string();
        assert!(error.starts_with("tcpguard-common/src/abi/mod.rs is not as "), "{error}");
    }

    #[test]
    fn crates_of_others_keep_their_number() {
        let lock = |own: &str| {
            format!(
                "name = \"xtask\"\nversion = \"{own}\"\n\nname = \"x\"\nversion = \"{VERSION}\"\n"
            )
        };
        assert_eq!(renumbered(&lock(VERSION)), lock(OTHER));
    }
}
