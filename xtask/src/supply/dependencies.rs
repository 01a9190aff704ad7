//! Licences, sources and banned crates of the packages in a lock file, as cargo reports them.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::licence;
use crate::{environment, process, workspace::Workspace};

/// The lists of `deny.toml`; the rest of it is for cargo-deny.
#[derive(Deserialize)]
pub struct Policy {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// Licences that one crate may have too.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Crates that may depend on it all the same.
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    allow_registry: Vec<String>,
}

impl Policy {
    /// # Errors
    /// When `deny.toml` cannot be read, or lacks a list.
    pub fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join("deny.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}

/// A lock file, as far as it names the sources of its packages.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    /// Each by its name, with its version where there are several.
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Locked {
    fn depends_on(&self, name: &str) -> bool {
        let mut names = self.dependencies.iter().filter_map(|it| it.split(' ').next());
        names.any(|it| it == name)
    }
}

impl Licences {
    /// Licences that the crate with this name may have.
    fn of(&self, name: &str) -> Vec<String> {
        let exceptions = self.exceptions.iter().filter(|exception| exception.name == name);
        let own = exceptions.flat_map(|exception| &exception.allow);
        self.allow.iter().chain(own).cloned().collect()
    }
}

/// Checks the dependencies of the package or workspace in `directory` against `policy`, and counts
/// them.
///
/// # Errors
/// Names every crate that is refused, and why; and when cargo cannot read the manifests, or would
/// change the lock file.
pub fn check(directory: &Path, policy: &Policy) -> Result<usize> {
    let path = directory.join("Cargo.lock");
    let lock =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Lock = toml::from_str(&lock).with_context(|| format!("{}", path.display()))?;
    let mut refused = disallowed(&lock, policy);
    refused.extend(unlicensed(&metadata(directory)?, policy));
    if !refused.is_empty() {
        bail!("deny.toml does not allow {}", refused.join("; "));
    }
    Ok(lock.package.len())
}

/// Of all platforms: a lock file states the source of each crate without a download.
fn disallowed(lock: &Lock, policy: &Policy) -> Vec<String> {
    let mut refused = Vec::new();
    for Locked { name, version, source, .. } in &lock.package {
        for ban in policy.bans.deny.iter().filter(|ban| ban.name == *name) {
            if ban.wrappers.is_empty() {
                refused.push(format!("{name} {version}: banned"));
            }
            let users = lock.package.iter().filter(|package| package.depends_on(name));
            let others = users.filter(|user| !ban.wrappers.contains(&user.name));
            refused.extend(others.map(|user| format!("{name} {version}: banned in {}", user.name)));
        }
        if let Some(source) = source {
            let registry = source.strip_prefix("registry+");
            let allowed = |url: &str| policy.sources.allow_registry.iter().any(|it| it == url);
            if !registry.is_some_and(allowed) {
                refused.push(format!("{name} {version}: from {source}"));
            }
        }
    }
    refused
}

/// The packages compiled on this platform with a licence that is not allowed. Licences stand in the
/// crates, and crates of other platforms would have to be downloaded.
fn unlicensed(metadata: &Value, policy: &Policy) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let refused = packages.filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("no licence named");
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let said = format!("{} {}: {licence}", text("name"), text("version"));
        (!licence::is_met(licence, &policy.licenses.of(text("name")))).then_some(said)
    });
    refused.collect()
}

/// cargo's metadata of the packages that are compiled for this platform.
///
/// # Errors
/// When cargo cannot read the manifests, or the lock file does not fit them.
pub fn metadata(directory: &Path) -> Result<Value> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = environment::plain_cargo();
    command.current_dir(directory).args(["metadata", "--locked", "--all-features"]);
    let text =
        process::output(command.args(["--format-version", "1", "--filter-platform", &target]))?;
    serde_json::from_str(&text).context("cargo metadata wrote no JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn policy() -> Policy {
        Policy::read(&Workspace::locate().unwrap()).unwrap()
    }

    fn of(name: &str, source: Option<&str>) -> Vec<String> {
        let source = source.map(str::to_owned);
        let package = locked(name, source, &[]);
        disallowed(&Lock { package: vec![package] }, &policy())
    }

    fn locked(name: &str, source: Option<String>, dependencies: &[&str]) -> Locked {
        let dependencies = dependencies.iter().map(|it| (*it).to_owned()).collect();
        Locked { name: name.into(), version: "1.0.0".into(), source, dependencies }
    }

    #[test]
    fn tls_is_for_the_fleet_process_only() {
        let of = |user: &str| {
            let package = vec![
                locked("tokio-rustls", Some(CRATES_IO.to_owned()), &[]),
                locked(user, None, &["serde", "tokio-rustls 1.0.0"]),
            ];
            disallowed(&Lock { package }, &policy())
        };
        assert_eq!(of("tcpguard-fleet"), [""; 0]);
        assert_eq!(of("tcpguard"), ["tokio-rustls 1.0.0: banned in tcpguard"]);
    }

    #[test]
    fn an_exception_is_for_one_crate() {
        let of = |name: &str| {
            let package = serde_json::json!({ "name": name, "version": "1.0.0", "license": "ISC" });
            unlicensed(&serde_json::json!({ "packages": [package] }), &policy())
        };
        assert_eq!(of("ring"), [""; 0]);
        assert_eq!(of("bare"), ["bare 1.0.0: ISC"]);
    }

    #[test]
    fn only_the_registry_is_a_source_and_some_crates_are_banned() {
        assert_eq!(of("serde", Some(CRATES_IO)), [""; 0]);
        assert_eq!(of("tcpguard", None), [""; 0]);
        assert_eq!(of("openssl", Some(CRATES_IO)), ["openssl 1.0.0: banned"]);
        for source in ["git+https://example.net/serde", "registry+https://example.net/index"] {
            assert_eq!(of("serde", Some(source)), [format!("serde 1.0.0: from {source}")]);
        }
    }

    #[test]
    fn a_crate_without_a_licence_is_refused() {
        let package = serde_json::json!({ "name": "bare", "version": "1.0.0", "license": null });
        let metadata = serde_json::json!({ "packages": [package] });
        assert_eq!(unlicensed(&metadata, &policy()), ["bare 1.0.0: no licence named"]);
    }
}
