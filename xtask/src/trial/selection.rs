//! The crates and tests that a change can touch.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::reach::{Module, REACH};
use crate::build::{BPF_OF_TESTS, BPF_PROGRAMS};
use crate::process;
use crate::test::ROOT_TESTS;
use crate::workspace::{Package, Workspace};

/// The test of pages and of their words.
const PAGES: &str = "xtask";

/// Paths of changed files, relative to the root of the repository.
pub struct Change(BTreeSet<String>);

/// Checks and tests for a change.
#[derive(Debug, Default)]
pub struct Selection {
    changed: usize,
    packages: Vec<String>,
    users: Vec<String>,
    surface: Vec<&'static str>,
    root: Vec<Module>,
    bpf: bool,
    without_root: bool,
}

impl Change {
    /// The files below `paths`; without any, the files that differ from HEAD.
    ///
    /// # Errors
    /// When git fails, or a path is not in the repository.
    pub fn find(workspace: &Workspace, paths: &[String]) -> Result<Self> {
        let mut found = BTreeSet::new();
        for path in paths {
            let full = std::env::current_dir()?.join(path);
            let full = full.canonicalize().with_context(|| format!("there is no {path}"))?;
            let root = workspace.root.canonicalize()?;
            let Ok(relative) = full.strip_prefix(&root) else {
                bail!("{path} is not in {}", root.display());
            };
            found.insert(relative.display().to_string());
        }
        if paths.is_empty() {
            let trusted = format!("safe.directory={}", workspace.root.display());
            for arguments in [
                &["diff", "--name-only", "-z", "HEAD"][..],
                &["ls-files", "--others", "--exclude-standard", "-z"],
            ] {
                let mut git = Command::new("git");
                git.args(["-c", &trusted]).args(arguments).current_dir(&workspace.root);
                let names = process::output(&mut git)?;
                found.extend(names.split_terminator('\0').map(str::to_owned));
            }
        }
        Ok(Self(found))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Selection {
    /// # Errors
    /// When cargo does not list the crates, or a directory of tests cannot be read.
    pub fn of(workspace: &Workspace, change: &Change) -> Result<Self> {
        Ok(Self::select(change, &workspace.packages_of_cargo()?, &Module::all(workspace)?))
    }

    fn select(change: &Change, packages: &[Package], modules: &[Module]) -> Self {
        let mut selection = Self { changed: change.0.len(), ..Self::default() };
        let mut own: BTreeSet<&str> = BTreeSet::new();
        let mut root = BTreeSet::new();
        for file in &change.0 {
            let path = Path::new(file);
            let of_crate = packages.iter().filter(|it| path.starts_with(&it.directory));
            // A crate may lie in another's directory.
            let of_crate = of_crate.max_by_key(|it| it.directory.len());
            own.insert(of_crate.map_or(PAGES, |it| &it.name));
            for row in REACH.iter().filter(|row| path.starts_with(row.path)) {
                selection.surface.extend(row.surface);
                root.extend(modules.iter().filter(|it| row.root.contains(&it.name.as_str())));
            }
            let of_tests = path.strip_prefix(Path::new(ROOT_TESTS).join("tests"));
            if let Ok(test) = of_tests {
                root.extend(modules.iter().filter(|it| {
                    let module = Path::new(&it.theme).join(&it.name);
                    test.starts_with(&module) || test == module.with_extension("rs")
                }));
            }
        }
        selection.bpf = own.contains("tcpguard-common")
            || [BPF_PROGRAMS, BPF_OF_TESTS].iter().any(|bpf| own.contains(bpf.name()));
        let is_linted = |name: &&&str| ![BPF_PROGRAMS.name(), BPF_OF_TESTS.name()].contains(*name);
        let uses = |package: &&Package| package.uses.iter().any(|it| own.contains(it.as_str()));
        let users = packages.iter().filter(uses).map(|it| it.name.clone());
        selection.users = users.filter(|it| !own.contains(it.as_str())).collect();
        if own.contains("tcpguard") {
            // All of its tests run.
            selection.surface.clear();
        }
        selection.surface.sort_unstable();
        selection.surface.dedup();
        selection.packages = own.iter().filter(is_linted).map(|it| (*it).to_owned()).collect();
        selection.root = root.into_iter().cloned().collect();
        selection
    }

    /// Leaves out the tests in network namespaces.
    pub fn leave_out_root_tests(&mut self) {
        self.root.clear();
        self.without_root = true;
    }

    /// Names of the changed crates of user space.
    pub fn packages(&self) -> &[String] {
        &self.packages
    }

    /// Programs of tests over the whole surface of `tcpguard`.
    pub fn surface_tests(&self) -> &[&'static str] {
        &self.surface
    }

    /// Modules of the root tests.
    pub fn root_tests(&self) -> &[Module] {
        &self.root
    }

    /// Returns whether BPF programs may have changed.
    pub fn has_bpf(&self) -> bool {
        self.bpf
    }

    /// Returns the tests that do not run, and the commands that run them.
    pub fn left_out(&self) -> String {
        let mut parts = Vec::new();
        if !self.users.is_empty() {
            parts.push(format!(
                "other tests of the crates that use them ({})",
                self.users.join(", ")
            ));
        }
        parts.push(match self.without_root {
            true => "all root tests, which need root".to_owned(),
            false => "all other root tests".to_owned(),
        });
        if self.bpf {
            parts.push("other kernels (`cargo xtask vm`)".to_owned());
        }
        format!("{}. All tests: cargo xtask check && cargo xtask test", parts.join("; "))
    }
}

/// The lines that announce it.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "changed paths: {}; crates: {}", self.changed, self.packages.join(", "))?;
        if self.bpf {
            write!(f, ", and the BPF programs")?;
        }
        if !self.surface.is_empty() {
            write!(f, "; tests of tcpguard: {}", self.surface.join(", "))?;
        }
        let root: Vec<String> =
            self.root.iter().map(|it| format!("{}::{}", it.theme, it.name)).collect();
        if !root.is_empty() {
            write!(f, "; root tests: {}", root.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::ROOT_PACKAGE;

    fn select(files: &[&str]) -> Selection {
        let workspace = Workspace::locate().unwrap();
        let change = Change(files.iter().map(|file| (*file).to_owned()).collect());
        Selection::of(&workspace, &change).unwrap()
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection.root.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn a_change_of_a_room_selects_its_crate_and_the_tests_of_the_room() {
        let selection = select(&["tcpguard-engine/src/rules/plan.rs"]);
        assert_eq!(selection.packages, ["tcpguard-engine"]);
        assert_eq!(names(&selection), ["own_live", "operator_live"]);
        assert!(selection.users.iter().any(|user| user == "tcpguard"));
        assert!(!selection.bpf);
        assert!(selection.left_out().contains("tcpguard-host"), "{}", selection.left_out());
    }

    #[test]
    fn a_change_of_what_the_kernel_runs_selects_the_programs_of_bpf() {
        for file in ["tcpguard-common/src/wire/tcp.rs", "tcpguard-ebpf/src/main.rs"] {
            let selection = select(&[file]);
            assert!(selection.bpf, "{file}");
            assert!(names(&selection).contains(&"parity"), "{file}");
            assert!(!selection.packages.iter().any(|it| it == "tcpguard-ebpf"));
        }
    }

    #[test]
    fn a_root_test_selects_its_module_alone() {
        for file in ["packets/mutants.rs", "bare.rs"] {
            let selection = select(&[&format!("{ROOT_TESTS}/tests/kernel/{file}")]);
            assert_eq!(names(&selection), [file.split(['/', '.']).next().unwrap()]);
            assert_eq!(selection.packages, [ROOT_PACKAGE]);
        }
    }

    #[test]
    fn a_page_selects_the_tests_of_pages() {
        let selection = select(&["docs/runbook.md", "CHANGELOG.md"]);
        assert_eq!(
            (&selection.packages[..], &selection.surface[..]),
            (&[PAGES.to_owned()][..], &["docs"][..])
        );
    }
}
