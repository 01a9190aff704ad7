//! The tests outside of its crate that a change below a path is most likely to break.

use std::fs;

use anyhow::{Context, Result};

use crate::test::ROOT_TESTS;
use crate::workspace::Workspace;

/// Tests for the code below a path.
pub struct Reach {
    /// Directory or file of the repository.
    pub path: &'static str,
    /// Programs of tests in `tcpguard/tests`.
    pub surface: &'static [&'static str],
    /// Modules of the root tests.
    pub root: &'static [&'static str],
}

/// Each row that a changed file lies below applies. They are short: together with their build, the tests of a change
/// take five minutes at most.
pub const REACH: &[Reach] = &[
    Reach { path: "README.md", surface: &["docs"], root: &[] },
    Reach { path: "docs", surface: &["docs"], root: &[] },
    Reach { path: "packaging", surface: &["docs", "config"], root: &["package"] },
    Reach { path: "tcpguard", surface: &["docs"], root: &["lifecycle"] },
    Reach { path: "tcpguard/src/bpf", surface: &[], root: &["interfaces", "layouts"] },
    Reach { path: "tcpguard/src/config", surface: &[], root: &["docs_live"] },
    Reach { path: "tcpguard/src/control", surface: &[], root: &["control_live"] },
    Reach { path: "tcpguard/src/daemon", surface: &[], root: &["own_live"] },
    Reach { path: "tcpguard/src/selftest", surface: &[], root: &["selftest"] },
    Reach { path: "tcpguard/src/telemetry", surface: &[], root: &["journal"] },
    Reach { path: "tcpguard-common", surface: &["replay"], root: &["packets", "parity"] },
    Reach { path: "tcpguard-common/src/cookie", surface: &[], root: &["cookie_live"] },
    Reach { path: "tcpguard-ebpf", surface: &[], root: &["object", "packets", "parity"] },
    Reach { path: "tcpguard-engine", surface: &["explain", "status"], root: &["own_live"] },
    Reach { path: "tcpguard-engine/src/mitigation", surface: &[], root: &["cookie_live"] },
    Reach { path: "tcpguard-engine/src/rules", surface: &[], root: &["operator_live"] },
    Reach { path: "tcpguard-fleet", surface: &[], root: &["sharing_live"] },
    Reach { path: "tcpguard-host", surface: &["checkup", "doctor", "tune"], root: &["states"] },
    Reach { path: "tcpguard-host/src/firewall", surface: &[], root: &["firewall_live"] },
    Reach { path: "tcpguard-host/src/listeners", surface: &[], root: &["listeners"] },
    Reach { path: "testing/bpf", surface: &[], root: &["kit"] },
    Reach { path: "testing/fleet-kit", surface: &[], root: &["sharing_live"] },
    Reach { path: "testing/kit", surface: &[], root: &["kit"] },
];

/// A module of the root tests.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Module {
    /// Name of its program, by theme.
    pub theme: String,
    /// Its name.
    pub name: String,
}

impl Module {
    /// All of them, by the files of the repository.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn all(workspace: &Workspace) -> Result<Vec<Self>> {
        let tests = workspace.root.join(ROOT_TESTS).join("tests");
        let read = |path: &std::path::Path| {
            fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let mut all = Vec::new();
        for theme in read(&tests)? {
            let theme = theme?.path();
            for module in read(&theme)? {
                let path = module?.path();
                let stem = |path: &std::path::Path| {
                    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
                };
                if stem(&path) != "main" {
                    all.push(Self { theme: stem(&theme), name: stem(&path) });
                }
            }
        }
        all.sort();
        Ok(all)
    }

    /// The tests in it, for cargo-nextest.
    pub fn filter(&self) -> String {
        format!("binary({}) & test(/^{}::/)", self.theme, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_names_what_exists() {
        let workspace = Workspace::locate().unwrap();
        let modules = Module::all(&workspace).unwrap();
        for row in REACH {
            assert!(workspace.root.join(row.path).exists(), "{}", row.path);
            for name in row.root {
                assert!(modules.iter().any(|module| module.name == *name), "{name}");
            }
            for name in row.surface {
                let tests = workspace.root.join("tcpguard/tests");
                let file = tests.join(format!("{name}.rs")).is_file();
                assert!(file || tests.join(name).join("main.rs").is_file(), "{name}");
            }
        }
    }

    #[test]
    fn each_crate_of_the_product_has_a_row() {
        let workspace = Workspace::locate().unwrap();
        for package in workspace.packages_of_cargo().unwrap() {
            let directory = package.directory.as_str();
            let is_product = directory.starts_with("tcpguard");
            let has_row = REACH.iter().any(|row| row.path == directory);
            assert!(!is_product || has_row, "{directory}");
        }
    }
}
