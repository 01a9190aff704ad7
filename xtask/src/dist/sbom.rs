//! The software bill of materials (SBOM) of a program, in CycloneDX 1.6: each package in it, with its version,
//! licence and checksum, and what it is linked with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tcpguard_support::contents;

use super::linked::{Key, Package};
use super::{HOMEPAGE, ISO_8601, Release, VERSION};
use crate::compiler::Compiler;
use crate::process;

/// A lock file, as far as it has the checksums of packages.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes it and returns its path.
pub fn write(release: &Release<'_>) -> Result<PathBuf> {
    let workspace = release.workspace;
    let checksums = checksums(&workspace.root)?;
    let time = release.time(ISO_8601)?;
    let mut compiler = Compiler::find(release.platform)?.rustc();
    let compiler = process::output(compiler.arg("--version").current_dir(&workspace.root))?;
    let standard = compiler.split(' ').nth(1).context("rustc names no version")?;

    let list = document(release.package, &release.packages, &checksums, &time, standard);
    let path = release.directory.join(format!("{}.cdx.json", release.name()));
    fs::write(&path, format!("{list:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn checksums(directory: &Path) -> Result<BTreeMap<Key, String>> {
    let path = directory.join("Cargo.lock");
    let lock =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Lock = toml::from_str(&lock).with_context(|| path.display().to_string())?;
    let with_sum = |it: Locked| Some(((it.name, it.version), it.checksum?));
    Ok(lock.package.into_iter().filter_map(with_sum).collect())
}

fn document(
    package: &contents::Package,
    packages: &BTreeMap<Key, Package>,
    checksums: &BTreeMap<Key, String>,
    time: &str,
    standard: &str,
) -> Value {
    let own = (package.name.to_owned(), VERSION.to_owned());
    let libraries = packages.iter().filter(|(key, _)| **key != own);
    let mut components: Vec<Value> =
        libraries.map(|(key, package)| component(package, checksums.get(key))).collect();
    let standard_reference = format!("rust-std@{standard}");
    components.push(json!({
        "type": "library",
        "bom-ref": standard_reference,
        "name": "std",
        "version": standard,
        "description": "The Rust standard library",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    let dependencies = packages.iter().map(|(key, linked)| {
        let mut needs: Vec<String> = linked.needs.iter().map(reference).collect();
        if *key == own {
            needs.push(standard_reference.clone());
            if package.has_bpf {
                // The program embeds the objects.
                needs.push(reference(&("tcpguard-ebpf".to_owned(), VERSION.to_owned())));
            }
        }
        json!({ "ref": reference(key), "dependsOn": needs })
    });
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application",
                "bom-ref": reference(&own),
                "name": package.name,
                "version": VERSION,
                "description": package.summary,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "externalReferences": [{ "type": "vcs", "url": HOMEPAGE }],
            },
        },
        "components": components,
        "dependencies": dependencies.collect::<Vec<_>>(),
    })
}

fn component(package: &Package, checksum: Option<&String>) -> Value {
    let key = (package.name.clone(), package.version.clone());
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(&key),
        "name": package.name,
        "version": package.version,
        "description": package.description,
        // Older manifests separate licences by a slash.
        "licenses": [{ "expression": package.licence.replace('/', " OR ") }],
    });
    if package.is_foreign {
        component["purl"] = format!("pkg:cargo/{}@{}", package.name, package.version).into();
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

fn reference((name, version): &Key) -> String {
    format!("{name}@{version}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dist::linked;
    use crate::platform::Platform;
    use crate::workspace::Workspace;

    #[test]
    fn every_library_is_listed_with_its_licence_and_checksum_and_every_reference_exists() {
        let workspace = Workspace::locate().unwrap();
        let package = &contents::AGENT;
        let packages = linked::packages(&workspace, Platform::OWN, package).unwrap();
        let sums = checksums(&workspace.root).unwrap();
        let list = document(package, &packages, &sums, "2026-01-01T00:00:00Z", "1.95.0");

        let components = list["components"].as_array().unwrap();
        let of_registry: Vec<&Value> =
            components.iter().filter(|it| it["purl"].is_string()).collect();
        assert!(of_registry.len() > 60, "{}", of_registry.len());
        for name in ["aya", "aya-ebpf", "tokio"] {
            assert!(of_registry.iter().any(|it| it["name"] == name), "{name}");
        }
        for component in of_registry {
            assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 64);
            let licence = component["licenses"][0]["expression"].as_str().unwrap();
            assert!(!licence.is_empty() && !licence.contains('/'), "{component}");
        }
        let own = &list["metadata"]["component"]["bom-ref"];
        let known: BTreeSet<&str> = (components.iter().map(|it| &it["bom-ref"]))
            .chain([own])
            .map(|reference| reference.as_str().unwrap())
            .collect();
        assert_eq!(known.len(), components.len() + 1, "each is there once");
        for dependency in list["dependencies"].as_array().unwrap() {
            assert!(known.contains(dependency["ref"].as_str().unwrap()), "{dependency}");
            for need in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(need.as_str().unwrap()), "{dependency}");
            }
        }
    }
}
