//! Each package, installed, run and removed in a clean root of each distribution that a mirror of Debian offers.

use std::fmt::Write as _;
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

/// Tries the packages in `<target>/dist`.
///
/// # Errors
/// When this is not root, or a package does not work somewhere; the output says where.
pub fn run(workspace: &Workspace) -> Result<()> {
    if !setup::is_root() {
        bail!("a clean root of another distribution needs root");
    }
    setup::ensure(&[Purpose::Roots])?;
    let mut table = String::new();
    for root in &ROOTS {
        let Some(mirror) = mirror(root) else {
            writeln!(table, "{:14} not on this mirror", root.title)?;
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
        let packages = root.packages.join(", ");
        writeln!(table, "{:14} {packages}: installed, run on an interface, removed", root.title)?;
    }
    print!("{table}");
    Ok(())
}

impl Root {
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

/// The mirror of this distribution, if there is one: many mirrors of Debian have Ubuntu beside it.
fn mirror(root: &Root) -> Option<String> {
    let debian = debian::mirror();
    if !root.is_ubuntu {
        return Some(debian);
    }
    let ubuntu = format!("{}ubuntu/", debian.trim_end_matches('/').strip_suffix("debian")?);
    let release = format!("{ubuntu}dists/{}/InRelease", root.suite);
    let mut helper = Command::new("/usr/lib/apt/apt-helper");
    let file = std::env::temp_dir().join(format!("tcpguard-{}", std::process::id()));
    let found = process::probe(helper.args(["download-file", &release]).arg(&file)).is_some();
    // It is only there if it was found.
    let _ = fs::remove_file(file);
    found.then_some(ubuntu)
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
