//! The licences of the libraries that the program contains: they ask that a copy comes with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{environment, process, workspace::Workspace};

/// The package that is linked with the listed libraries.
const PROGRAM: &str = "tcpguard";

/// Every library of others with its licence and the texts that came with it. A text that several
/// share is printed once.
pub fn all(workspace: &Workspace) -> Result<String> {
    let metadata = process::output(command(workspace).args(["--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    let linked = linked(&metadata).context("cargo metadata names no dependencies")?;

    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    for package in packages.filter(|package| is_foreign(package) && linked.contains(id(package))) {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        list += &format!("{name}: {}\n", text("license"));
        let manifest = Path::new(text("manifest_path"));
        for licence in licences(manifest.parent().context("a package without a directory")?)? {
            texts.entry(licence).or_default().push(name.clone());
        }
    }
    let texts = texts.into_iter().map(|(text, of)| {
        let line = "-".repeat(79);
        format!("{line}\n{}\n\n{}\n", of.join(", "), text.trim_end())
    });
    let texts: String = texts.collect();
    Ok(format!("Libraries of others in tcpguard, and their licences\n\n{list}\n{texts}"))
}

fn command(workspace: &Workspace) -> Command {
    let mut command = environment::host_cargo(workspace);
    // Libraries that are linked only on other systems are not in this program.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    command.args(["metadata", "--locked", "--filter-platform", &target]);
    command
}

/// The packages that the program is linked with, by cargo's ids. Packages that only build or test
/// it are not among them.
fn linked(metadata: &Value) -> Option<BTreeSet<&str>> {
    let nodes: BTreeMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array()?.iter().map(|node| (id(node), node)).collect();
    let packages = metadata["packages"].as_array()?;
    let program = packages.iter().find(|package| package["name"] == PROGRAM)?;
    let (mut linked, mut next) = (BTreeSet::new(), vec![id(program)]);
    while let Some(package) = next.pop() {
        if linked.insert(package) {
            let dependencies = nodes.get(package)?["deps"].as_array()?.iter();
            let normal = dependencies.filter(|dependency| is_normal(dependency));
            next.extend(normal.filter_map(|dependency| dependency["pkg"].as_str()));
        }
    }
    Some(linked)
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap_or_default()
}

/// Kind `null`: neither for building nor for testing.
fn is_normal(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

/// Returns whether it comes from a registry and not from this repository.
fn is_foreign(package: &Value) -> bool {
    package["source"].is_string()
}

/// The texts in a package's directory that are named like licences.
fn licences(directory: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}; run `cargo fetch`", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];
        if path.is_file() && is_licence.iter().any(|start| name.starts_with(start)) {
            files.push(path);
        }
    }
    files.sort();
    let read = |path: PathBuf| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned());
    files.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_or_tests_is_not() {
        let dependency = |package: &str, kind: Value| {
            let kinds = [serde_json::json!({ "kind": kind })];
            serde_json::json!({ "pkg": package, "dep_kinds": kinds })
        };
        let metadata = serde_json::json!({
            "packages": [
                { "name": "tcpguard", "id": "own", "source": null },
                { "name": "far", "id": "far", "source": "registry" },
            ],
            "resolve": { "nodes": [
                { "id": "own", "deps": [
                    dependency("near", Value::Null),
                    dependency("builds", "build".into()),
                    dependency("tests", "dev".into()),
                ] },
                { "id": "near", "deps": [dependency("far", Value::Null)] },
                { "id": "far", "deps": [dependency("near", Value::Null)] },
            ] },
        });
        assert_eq!(linked(&metadata), Some(BTreeSet::from(["own", "near", "far"])));
        assert!(!is_foreign(&metadata["packages"][0]));
        assert!(is_foreign(&metadata["packages"][1]));
    }

    #[test]
    fn the_texts_of_a_package_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["LICENSE-MIT", "license.txt", "README.md", "licensing.rs"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        assert_eq!(licences(directory.path()).unwrap(), ["LICENSE-MIT", "license.txt"]);
    }
}
