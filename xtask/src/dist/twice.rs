//! The same packages built twice, in two directories: a difference would be a trace of the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{SHA256SUMS, epoch};
use crate::platform::Platform;
use crate::process::{self, timed};
use crate::workspace::Workspace;
use crate::{build, environment};

/// Builds the packages for a platform from a copy of the source, and compares them with the first ones.
///
/// # Errors
/// Names the packages that differ.
pub fn compare(workspace: &Workspace, platform: Platform) -> Result<()> {
    let directory = workspace.target.join("twice");
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    let (source, target) = (directory.join("source"), directory.join("target"));
    for name in workspace.tracked()? {
        let Ok(content) = fs::read(workspace.root.join(&name)) else { continue };
        build::place(&source.join(&name), &content)?;
    }
    timed("the packages once more, from another directory", || {
        let mut command = environment::plain_cargo();
        command.args(["xtask", "dist", "--arch", platform.debian()]);
        command.current_dir(&source).env("CARGO_TARGET_DIR", &target);
        process::run(command.env("SOURCE_DATE_EPOCH", epoch(workspace)?))
    })?;
    let copy = Workspace { root: source, target };
    let [first, second] = [workspace, &copy].map(|it| sums(&it.packages(platform)));
    let (first, second) = (first?, second?);
    let different: BTreeSet<&str> =
        first.symmetric_difference(&second).filter_map(|line| line.split("  ").nth(1)).collect();
    if !different.is_empty() {
        let names: Vec<&str> = different.into_iter().collect();
        bail!("built twice, and different each time: {}", names.join(", "));
    }
    println!("built twice, in two directories, and the same each time: {} files", first.len());
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))
}

/// The lines of the checksums in a directory.
fn sums(directory: &Path) -> Result<BTreeSet<String>> {
    let path = directory.join(SHA256SUMS);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
