//! Directories of the workspace, and paths of the files that are built in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tcpguard_support::contents;

use crate::build::Profile;
use crate::platform::Platform;
use crate::{environment, process};

/// A crate of the workspace.
pub struct Package {
    pub name: String,
    /// Its directory, relative to the root.
    pub directory: String,
    /// Names of the crates of the workspace that it uses, also by way of others.
    pub uses: BTreeSet<String>,
}

/// The directories of this checkout.
pub struct Workspace {
    pub root: PathBuf,
    /// Cargo's target directory, wherever the user's configuration puts it.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the workspace, and asks cargo for its target directory.
    pub fn locate() -> Result<Self> {
        // Cargo passes this path to its children at run time. The compiled-in path is that of the build.
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask lies in no workspace")?.to_owned();
        let metadata = metadata(&root)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata named no target directory")?;
        Ok(Self { target: target.into(), root })
    }

    /// Returns the directory in which user space finds the BPF objects: `<target>/bpf/<name>.o`.
    pub fn bpf_objects(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// Returns the path of the program of a package, built as `profile` says.
    pub fn program(&self, package: &contents::Package, profile: Profile) -> PathBuf {
        self.target.join(profile.directory()).join(package.name)
    }

    /// Returns the directory of finished packages for a platform: `<target>/dist` for this machine's.
    pub fn packages(&self, platform: Platform) -> PathBuf {
        self.target.join(match platform {
            Platform::OWN => "dist".to_owned(),
            other => format!("dist-{}", other.debian()),
        })
    }

    /// The crates of the workspace, as cargo lists them.
    ///
    /// # Errors
    /// When cargo fails or writes no such list.
    pub fn packages_of_cargo(&self) -> Result<Vec<Package>> {
        let metadata = metadata(&self.root)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        let mut packages = Vec::new();
        for package in listed {
            let manifest = text(&package["manifest_path"]);
            let directory =
                Path::new(&manifest).parent().context("a manifest without directory")?;
            let dependencies = package["dependencies"].as_array();
            let local = dependencies.into_iter().flatten().filter(|it| it["path"].is_string());
            // It uses crates for their features alone.
            let local = local.filter(|it| it["name"] != "tcpguard-features");
            packages.push(Package {
                name: text(&package["name"]),
                directory: directory.strip_prefix(&self.root)?.display().to_string(),
                uses: local.map(|it| text(&it["name"])).collect(),
            });
        }
        // As often as a way between two crates may be long.
        for _ in 0..packages.len() {
            let uses: Vec<_> =
                packages.iter().map(|it| (it.name.clone(), it.uses.clone())).collect();
            for package in &mut packages {
                let further = uses.iter().filter(|(name, _)| package.uses.contains(name));
                let further: Vec<String> = further.flat_map(|(_, uses)| uses.clone()).collect();
                package.uses.extend(further);
            }
        }
        Ok(packages)
    }

    /// The files of the checkout, including those that are not committed yet.
    pub fn tracked(&self) -> Result<Vec<String>> {
        let trusted = format!("safe.directory={}", self.root.display());
        let mut git = Command::new("git");
        git.args(["-c", &trusted, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let names = process::output(git.current_dir(&self.root))?;
        Ok(names.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Every Rust source file, of all workspaces.
    pub fn rust_files(&self) -> Result<Vec<PathBuf>> {
        self.files(|path| path.extension().is_some_and(|extension| extension == "rs"))
    }

    /// The lock file of every workspace.
    pub fn lock_files(&self) -> Result<Vec<PathBuf>> {
        self.files(|path| path.file_name().is_some_and(|name| name == "Cargo.lock"))
    }

    /// The files that are `wanted`, outside of cargo's target directories and hidden ones, in order.
    pub fn files(&self, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        self.collect(&self.root, wanted, &mut files)?;
        files.sort();
        Ok(files)
    }

    fn collect(
        &self,
        directory: &Path,
        wanted: fn(&Path) -> bool,
        files: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let entries = directory
            .read_dir()
            .with_context(|| format!("cannot read directory {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() {
                if !hidden && name != "target" && path != self.target {
                    self.collect(&path, wanted, files)?;
                }
            } else if wanted(&path) {
                files.push(path);
            }
        }
        Ok(())
    }
}

/// `cargo metadata`, without the dependencies from registries.
fn metadata(root: &Path) -> Result<Value> {
    let mut cargo = environment::plain_cargo();
    cargo.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_str(&process::output(&mut cargo)?).context("cargo metadata wrote no JSON")
}
