//! The tarball for distributions without a package: the files as they lie on a host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tcpguard_support::contents::Format;

use super::Release;
use crate::process;

/// Makes the tarball and returns its path.
pub fn build(release: &Release<'_>) -> Result<PathBuf> {
    let name = release.name();
    let parent = release.fresh("tarball")?;
    let root = parent.join(&name);
    release.stage(Format::Tarball, &root)?;
    let archive = release.directory.join(format!("{name}.tar"));
    pack(&parent, &[&name], &archive, &release.epoch)?;
    compress(&archive)
}

/// Packs entries of `directory` into a tar archive that depends on their content and modes alone.
pub fn pack(directory: &Path, entries: &[&str], archive: &Path, epoch: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name"]);
    tar.args(["--owner=root:0", "--group=root:0"]).arg(format!("--mtime=@{epoch}"));
    tar.arg("--file").arg(archive).arg("--directory").arg(directory).args(entries);
    process::run(&mut tar).with_context(|| format!("cannot pack {}", archive.display()))
}

/// Replaces a file by its compressed form and returns its path.
pub fn compress(file: &Path) -> Result<PathBuf> {
    // -n: neither name nor time of the original, which would differ from build to build.
    process::run(Command::new("gzip").args(["-9", "-n"]).arg(file))?;
    let mut compressed = file.as_os_str().to_owned();
    compressed.push(".gz");
    Ok(compressed.into())
}
