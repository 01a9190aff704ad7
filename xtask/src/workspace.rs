//! Directories of the workspace, and paths of the files that are built in them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{build::Profile, environment, process};

/// The directories of this checkout.
pub struct Workspace {
    /// The repository's root.
    pub root: PathBuf,
    /// Cargo's target directory, wherever the user's configuration puts it.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the workspace, and asks cargo for its target directory.
    ///
    /// # Errors
    /// When cargo cannot read the workspace's manifests.
    pub fn locate() -> Result<Self> {
        // Cargo passes this path to its children at run time. The compiled-in path is that of the build.
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask lies in no workspace")?.to_owned();
        let metadata = process::output(environment::plain_cargo().current_dir(&root).args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
        ]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata named no target directory")?;
        Ok(Self { target: target.into(), root })
    }

    /// Returns the directory in which user space finds the BPF objects: `<target>/bpf/<name>.o`.
    pub fn bpf_objects(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// The BPF crate, a workspace of its own.
    pub fn bpf_crate(&self) -> PathBuf {
        self.root.join("tcpguard-ebpf")
    }

    /// Returns the path of `tcpguard`, built as `profile` says.
    pub fn binary(&self, profile: Profile) -> PathBuf {
        self.target.join(profile.directory()).join("tcpguard")
    }

    /// Returns the directory of finished packages.
    pub fn packages(&self) -> PathBuf {
        self.target.join("dist")
    }

    /// Every Rust source file, of both workspaces.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn rust_files(&self) -> Result<Vec<PathBuf>> {
        self.files("rs")
    }

    /// Every file with this extension.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        self.collect(&self.root, extension, &mut files)?;
        files.sort();
        Ok(files)
    }

    fn collect(&self, directory: &Path, extension: &str, files: &mut Vec<PathBuf>) -> Result<()> {
        let entries = directory
            .read_dir()
            .with_context(|| format!("cannot read directory {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() {
                if !hidden && name != "target" && path != self.target {
                    self.collect(&path, extension, files)?;
                }
            } else if path.extension().is_some_and(|its| its == extension) {
                files.push(path);
            }
        }
        Ok(())
    }
}
