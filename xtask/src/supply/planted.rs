//! A package that depends on a crate which must be refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{environment, process, workspace::Workspace};

/// The licence of the crate, which nothing here may have.
pub const LICENCE: &str = "GPL-3.0-only";

/// Directory of the package, below the target directory; it is removed when this is dropped.
pub struct Planted(PathBuf);

impl Planted {
    /// Writes it, with its lock file.
    pub fn new(workspace: &Workspace) -> Result<Self> {
        let name = format!("planted-{}", std::process::id());
        let planted = Self(workspace.target.join(name));
        let dependency = "[dependencies]\nplanted = { path = \"planted\" }\n[workspace]\n";
        planted.package("", "host", "MIT", dependency)?;
        planted.package("planted", "planted", LICENCE, "")?;
        process::run(environment::plain_cargo().current_dir(planted.directory()).args([
            "generate-lockfile",
            "--offline",
            "--quiet",
        ]))?;
        Ok(planted)
    }

    fn package(&self, directory: &str, name: &str, licence: &str, more: &str) -> Result<()> {
        let directory = self.0.join(directory);
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             license = \"{licence}\"\n{more}"
        );
        fs::create_dir_all(directory.join("src"))
            .and_then(|()| fs::write(directory.join("Cargo.toml"), manifest))
            .and_then(|()| fs::write(directory.join("src/lib.rs"), ""))
            .with_context(|| format!("cannot write {}", directory.display()))
    }

    /// Returns the directory of its manifest.
    pub fn directory(&self) -> &Path {
        &self.0
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        // Remains of it do no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
