//! Each package, installed, run and removed in a clean root of each distribution.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use tcpguard_support::contents::{AGENT, FLEET, Package};

use crate::debian;
use crate::platform::Platform;
use crate::process::{self, timed};
use crate::setup::{self, DEBIAN_KEYS, Purpose};
use crate::workspace::Workspace;

/// Steps inside the namespaces.
const SCRIPT: &str = include_str!("install.sh");

/// A distribution with the packages that are installed there, by the ends of their names.
struct Root {
    title: &'static str,
    suite: &'static str,
    is_ubuntu: bool,
    packages: &'static [&'static str],
}

const fn debian(title: &'static str, suite: &'static str, packages: &'static [&str]) -> Root {
    Root { title, suite, is_ubuntu: false, packages }
}

const fn ubuntu(title: &'static str, suite: &'static str) -> Root {
    Root { title, suite, is_ubuntu: true, packages: &[".deb"] }
}

/// No archive of the RHEL family is among them, so Debian's rpm installs the .rpm.
const ROOTS: [Root; 5] = [
    debian("Debian 11", "bullseye", &[".deb", ".rpm", ".tar.gz"]),
    debian("Debian 12", "bookworm", &[".deb"]),
    debian("Debian 13", "trixie", &[".deb", ".rpm", ".tar.gz"]),
    ubuntu("Ubuntu 22.04", "jammy"),
    ubuntu("Ubuntu 24.04", "noble"),
];

/// Result for a distribution in which no package failed.
enum Outcome {
    /// The packages were installed, run on an interface and removed.
    Installed,
    /// The distribution is on none of these mirrors.
    Skipped(Vec<String>),
}

/// Tries the packages in `<target>/dist`. The last line lists the result for each distribution.
///
/// # Errors
/// When this is not root, or a package does not work somewhere; the output says where. Unless `allow_missing`, also
/// when a distribution is on no mirror.
pub fn run(workspace: &Workspace, allow_missing: bool) -> Result<()> {
    if !setup::is_root() {
        bail!("a clean root of another distribution needs root");
    }
    setup::ensure(&[Purpose::Roots])?;
    let mut outcomes = Vec::new();
    for root in &ROOTS {
        let mirrors = root.mirrors(&debian::mirror(), Platform::OWN);
        // Debian's own is the one of this machine, and mmdebstrap reports its errors.
        let mirror = mirrors.iter().find(|mirror| !root.is_ubuntu || has(mirror, root.suite));
        let Some(mirror) = mirror.cloned() else {
            outcomes.push((root, Outcome::Skipped(mirrors)));
            continue;
        };
        let directory = workspace.target.join("root");
        let tried = timed(&format!("packages in {}", root.title), || {
            root.make(workspace, &mirror, &directory)?;
            root.packages.iter().try_for_each(|ending| try_in(workspace, &directory, ending))
        });
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
        tried.with_context(|| root.title)?;
        outcomes.push((root, Outcome::Installed));
    }
    println!("{}", closing_line(&outcomes));
    match missing(&outcomes) {
        names if names.is_empty() || allow_missing => Ok(()),
        names => bail!(
            "the packages were not tried in {}: use a mirror that has them, or accept that by --allow-missing",
            names.join(", ")
        ),
    }
}

/// The result for each distribution, in one line.
fn closing_line(outcomes: &[(&Root, Outcome)]) -> String {
    let results = outcomes.iter().map(|(root, outcome)| match outcome {
        Outcome::Installed => format!("{} installed ({})", root.title, root.packages.join(", ")),
        Outcome::Skipped(mirrors) => {
            format!("{} SKIPPED ({} not found on {})", root.title, root.suite, mirrors.join(", "))
        }
    });
    format!("packages tried: {}", results.collect::<Vec<_>>().join("; "))
}

/// The distributions in which no package was tried.
fn missing(outcomes: &[(&Root, Outcome)]) -> Vec<&'static str> {
    let skipped = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_)));
    skipped.map(|(root, _)| root.title).collect()
}

impl Root {
    /// Mirrors that may have this distribution, given the mirror of Debian. Many mirrors of Debian have Ubuntu beside it.
    fn mirrors(&self, debian: &str, platform: Platform) -> Vec<String> {
        if !self.is_ubuntu {
            return vec![debian.to_owned()];
        }
        let beside = debian.trim_end_matches('/').strip_suffix("debian");
        let own = match platform {
            Platform::Amd64 => "http://archive.ubuntu.com/ubuntu/",
            Platform::Arm64 => "http://ports.ubuntu.com/ubuntu-ports/",
        };
        let beside = beside.map(|above| format!("{above}ubuntu/"));
        beside.into_iter().chain([own.to_owned()]).collect()
    }

    fn make(&self, workspace: &Workspace, mirror: &str, directory: &Path) -> Result<()> {
        let keys = if self.is_ubuntu { ubuntu_keys(workspace)? } else { DEBIAN_KEYS.into() };
        let source = format!("deb [signed-by={}] {mirror} {} main", keys.display(), self.suite);
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--quiet", "--variant=minbase", "--format=directory", "--mode=root"]);
        bootstrap.arg(if self.is_ubuntu { "--include=systemd" } else { "--include=systemd,rpm" });
        process::run(bootstrap.arg(self.suite).arg(directory).arg(source))
    }
}

/// Installs, runs and removes the packages with this ending.
fn try_in(workspace: &Workspace, root: &Path, ending: &str) -> Result<()> {
    let (agent, fleet) = (made(workspace, &AGENT, ending)?, made(workspace, &FLEET, ending)?);
    let script = workspace.target.join("install.sh");
    fs::write(&script, SCRIPT)?;
    let mut apart = Command::new("unshare");
    apart.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-e"]);
    process::run(apart.arg(&script).arg(root).arg(agent).arg(fleet).stdin(Stdio::null()))
}

/// Returns whether a mirror has a suite.
fn has(mirror: &str, suite: &str) -> bool {
    let release = format!("{mirror}dists/{suite}/InRelease");
    let mut helper = Command::new("/usr/lib/apt/apt-helper");
    let file = std::env::temp_dir().join(format!("tcpguard-{}", std::process::id()));
    let found = process::probe(helper.args(["download-file", &release]).arg(&file)).is_some();
    // It is only there if it was found.
    let _ = fs::remove_file(file);
    found
}

/// The keys of Ubuntu's archive, a package of Debian.
fn ubuntu_keys(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.target.join("ubuntu-keyring");
    let package = debian::package(&directory, Platform::OWN, "trixie", "ubuntu-keyring")?;
    process::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&directory))?;
    Ok(directory.join("usr/share/keyrings/ubuntu-archive-keyring.gpg"))
}

/// The file of a package with this ending.
fn made(workspace: &Workspace, package: &Package, ending: &str) -> Result<PathBuf> {
    let directory = workspace.packages(Platform::OWN);
    let entries =
        directory.read_dir().with_context(|| format!("cannot read {}", directory.display()))?;
    let mut entries = entries.filter_map(Result::ok);
    entries
        .find(|entry| package.is_file(&entry.file_name().to_string_lossy(), ending))
        .map(|entry| entry.path())
        .with_context(|| format!("no {ending} of {} in {}", package.name, directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "http://mirror.example/debian/";

    #[test]
    fn ubuntu_is_looked_for_beside_debian_and_then_where_it_comes_from() {
        let [first, .., last] = &ROOTS;
        assert_eq!(first.mirrors(DEBIAN, Platform::Amd64), [DEBIAN]);
        let beside = "http://mirror.example/ubuntu/";
        let own = "http://archive.ubuntu.com/ubuntu/";
        assert_eq!(last.mirrors(DEBIAN, Platform::Amd64), [beside, own]);
        assert_eq!(last.mirrors("http://mirror.example/deb/", Platform::Amd64), [own]);
        let ports = "http://ports.ubuntu.com/ubuntu-ports/";
        assert_eq!(last.mirrors(DEBIAN, Platform::Arm64), [beside, ports]);
    }

    #[test]
    fn the_last_line_names_each_distribution_and_why_it_was_skipped() {
        let outcomes: Vec<(&Root, Outcome)> = ROOTS
            .iter()
            .map(|root| match root.is_ubuntu {
                true => (root, Outcome::Skipped(root.mirrors(DEBIAN, Platform::Amd64))),
                false => (root, Outcome::Installed),
            })
            .collect();
        let line = closing_line(&outcomes);
        assert_eq!(line.lines().count(), 1);
        for root in &ROOTS {
            assert!(line.contains(root.title), "{line}");
        }
        assert!(line.contains("Debian 12 installed (.deb)"), "{line}");
        assert!(
            line.contains("Ubuntu 24.04 SKIPPED (noble not found on http://mirror.example/ubuntu/")
        );
        assert_eq!(missing(&outcomes), ["Ubuntu 22.04", "Ubuntu 24.04"]);
        assert!(missing(&outcomes[..3]).is_empty());
    }
}
