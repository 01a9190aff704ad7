//! The packages of cargo that a program contains, those of its BPF objects included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tcpguard_support::contents;

use crate::platform::Platform;
use crate::workspace::Workspace;
use crate::{environment, process};

/// A package that is linked into the program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The expression in its manifest, such as `MIT OR Apache-2.0`.
    pub licence: String,
    pub description: String,
    /// True if it comes from a registry and not from this repository.
    pub is_foreign: bool,
    /// Directory of its source.
    pub directory: PathBuf,
    /// Keys of the packages that it is linked with.
    pub needs: BTreeSet<Key>,
}

/// Name and version of a package.
pub type Key = (String, String);

/// All of them in the program of a package, for a platform.
///
/// # Errors
/// When cargo cannot read the manifests, or a lock file does not fit them.
pub fn packages(
    workspace: &Workspace,
    platform: Platform,
    package: &contents::Package,
) -> Result<BTreeMap<Key, Package>> {
    let mut packages = of(workspace, package.name, platform.triple())?;
    if package.has_bpf {
        packages.extend(of(workspace, "tcpguard-ebpf", "bpfel-unknown-none")?);
    }
    Ok(packages)
}

/// The packages that `program` is linked with on this target.
fn of(workspace: &Workspace, program: &str, target: &str) -> Result<BTreeMap<Key, Package>> {
    let mut command = environment::plain_cargo();
    command.current_dir(&workspace.root).args(["metadata", "--locked", "--format-version", "1"]);
    let metadata = process::output(command.args(["--filter-platform", target]))?;
    let metadata = serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    linked(&metadata, program).context("cargo metadata names no dependencies")
}

/// The packages that `program` is linked with. Packages that only build or test it are not among them.
fn linked(metadata: &Value, program: &str) -> Option<BTreeMap<Key, Package>> {
    let by_id = |list: &Value| -> Option<BTreeMap<String, Value>> {
        Some(list.as_array()?.iter().map(|it| (text(it, "id"), it.clone())).collect())
    };
    let (nodes, packages) = (by_id(&metadata["resolve"]["nodes"])?, by_id(&metadata["packages"])?);
    let (first, _) = packages.iter().find(|(_, package)| package["name"] == program)?;
    let (mut linked, mut next) = (BTreeMap::new(), vec![first.clone()]);
    while let Some(id) = next.pop() {
        let package = packages.get(&id)?;
        if linked.contains_key(&key(package)) {
            continue;
        }
        let dependencies = nodes.get(&id)?["deps"].as_array()?.iter();
        let normal = dependencies.filter(|dependency| is_normal(dependency));
        let needs: Vec<String> = normal.map(|dependency| text(dependency, "pkg")).collect();
        let keys = needs.iter().map(|id| packages.get(id).map(key)).collect::<Option<_>>()?;
        let manifest = PathBuf::from(text(package, "manifest_path"));
        let package = Package {
            name: text(package, "name"),
            version: text(package, "version"),
            licence: text(package, "license"),
            description: text(package, "description"),
            is_foreign: package["source"].is_string(),
            directory: manifest.parent().unwrap_or(Path::new("")).to_owned(),
            needs: keys,
        };
        linked.insert((package.name.clone(), package.version.clone()), package);
        next.extend(needs);
    }
    Some(linked)
}

fn key(package: &Value) -> Key {
    (text(package, "name"), text(package, "version"))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// Kind `null`: neither for building nor for testing.
fn is_normal(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo hashes the path of a package outside of its workspace into the names of functions.
    #[test]
    fn no_package_comes_from_a_directory_outside_of_the_workspace() {
        let workspace = Workspace::locate().unwrap();
        for program in contents::PACKAGES {
            let packages = packages(&workspace, Platform::OWN, program).unwrap();
            let own: Vec<&Package> = packages.values().filter(|it| !it.is_foreign).collect();
            assert!(own.iter().any(|it| it.name == "tcpguard-common"), "{}", program.name);
            for package in own {
                assert!(package.directory.starts_with(&workspace.root), "{package:?}");
            }
        }
    }

    #[test]
    fn linked_packages_are_listed_and_packages_that_only_build_or_test_are_not() {
        let package = |id: &str, source: Value| serde_json::json!({ "name": id, "version": "1.0.0", "id": id, "source": source });
        let dependency = |package: &str, kind: Value| {
            let kinds = [serde_json::json!({ "kind": kind })];
            serde_json::json!({ "pkg": package, "dep_kinds": kinds })
        };
        let metadata = serde_json::json!({
            "packages": [
                package("tcpguard", Value::Null),
                package("near", "registry".into()),
                package("far", "registry".into()),
                package("builds", "registry".into()),
                package("tests", "registry".into()),
            ],
            "resolve": { "nodes": [
                { "id": "tcpguard", "deps": [
                    dependency("near", Value::Null),
                    dependency("builds", "build".into()),
                    dependency("tests", "dev".into()),
                ] },
                { "id": "near", "deps": [dependency("far", Value::Null)] },
                { "id": "far", "deps": [dependency("near", Value::Null)] },
            ] },
        });
        let packages = linked(&metadata, "tcpguard").unwrap();
        let names: Vec<&str> = packages.keys().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["far", "near", "tcpguard"]);
        let own = &packages[&("tcpguard".to_owned(), "1.0.0".to_owned())];
        assert!(!own.is_foreign);
        assert_eq!(own.needs, BTreeSet::from([("near".to_owned(), "1.0.0".to_owned())]));
    }
}
