//! Requirements of building and testing, and their installation.
//!
//! Debian 12 as root is set up without a question asked. Anywhere else the exact commands are
//! printed and nothing is touched, since a developer's machine is the developer's.

mod needs;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use needs::NEEDS;

use crate::process;
use crate::pypi::Tools;
use crate::toolchain::{self, BpfToolchain};

/// The purpose of a requirement. A verb asks only for the requirements that it uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Compiling the BPF objects.
    Build,
    /// `check`: lints and formatting.
    Lint,
    /// Running tests at all.
    Test,
    /// Network namespaces with programs in them: root tests, demonstration, benchmark.
    Lab,
    /// A monitoring system that scrapes tcpguard: root tests.
    Scrape,
    /// Building the program as it is packaged.
    Program,
    /// Building for another processor than this machine's.
    Foreign,
    /// `dist`, and the tests of its packages.
    Package,
    /// Clean roots of other distributions.
    Roots,
    /// Looking at pages as their readers do.
    Browser,
    /// A terminal to look into: root tests.
    Terminal,
    /// A message bus and BGP: root tests, benchmark and demonstration of a fleet.
    Fleet,
    /// Other kernels under QEMU.
    Guests,
    /// Licences and sources of the dependencies.
    Supply,
    /// Looking for input that breaks something.
    Fuzz,
}

/// The purposes of a day's work. The rest is installed on request.
pub const EVERYDAY: [Purpose; 4] = [Purpose::Build, Purpose::Lint, Purpose::Test, Purpose::Lab];

/// The keys by which apt knows Debian's archive.
pub const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

struct Need {
    purpose: Purpose,
    what: &'static str,
    why: &'static str,
    present: fn() -> bool,
    debian: Repair,
    /// The command for a machine that is not Debian 12.
    elsewhere: &'static str,
}

enum Repair {
    /// Packages of Debian 12, its security archive included.
    Packages(&'static [&'static str]),
    /// `cargo install` with these arguments and environment, which needs these packages.
    Cargo {
        packages: &'static [&'static str],
        environment: &'static [(&'static str, &'static str)],
        arguments: &'static [&'static str],
    },
    /// Packages of PyPI, which need these packages of Debian.
    Python { packages: &'static [&'static str], tools: &'static Tools },
    /// A command of the system.
    Run(&'static [&'static str]),
    /// Not ours to do; the command of `elsewhere` holds on Debian too.
    ByHand,
}

/// Makes everything present that `purposes` need; silent when it is already.
///
/// # Errors
/// When something is missing and may not be installed here, or its installation fails.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    let missing = missing(purposes);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        process::announce(&format!("missing {}: {}", need.what, need.why));
    }
    if !(is_root() && is_debian_12()) {
        bail!("run these commands, then try again:\n{}", advice(&missing));
    }
    for mut command in commands(&missing) {
        process::announce(&typed(&command));
        process::run(&mut command)
            .with_context(|| format!("cannot provide {}", names(&missing)))?;
    }
    let still = self::missing(purposes);
    if !still.is_empty() {
        bail!(
            "{} still missing; run these commands, then try again:\n{}{}",
            names(&still),
            advice_elsewhere(&still),
            BpfToolchain::find().err().map_or_else(String::new, |none| format!("\ntried {none}")),
        );
    }
    Ok(())
}

/// Reports the missing requirements and their remedies, and installs nothing.
pub fn report() -> Result<()> {
    let missing = missing(&EVERYDAY);
    for need in &missing {
        println!("missing {}: {}", need.what, need.why);
    }
    if !missing.is_empty() {
        bail!("`cargo xtask setup` as root on Debian 12, or these commands:\n{}", advice(&missing));
    }
    println!("nothing is missing");
    Ok(())
}

/// Returns whether this process has root's privileges.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    let wanted = NEEDS.iter().filter(|need| purposes.contains(&need.purpose));
    wanted.filter(|need| !(need.present)()).collect()
}

/// The commands that supply `missing` on Debian 12: packages first, since the rest builds on them.
fn commands(missing: &[&Need]) -> Vec<Command> {
    let packages: Vec<&str> =
        missing.iter().flat_map(|need| need.debian.packages()).copied().collect();
    let mut commands = Vec::new();
    if !packages.is_empty() {
        // An old package list names files that the mirror no longer has.
        commands.push(apt_get(&["update"]));
        commands.push(apt_get(&["install", "--yes", "--no-install-recommends"]));
        commands.last_mut().expect("just pushed").args(packages);
    }
    commands.extend(missing.iter().filter_map(|need| need.debian.command()));
    commands
}

impl Repair {
    fn packages(&self) -> &'static [&'static str] {
        match self {
            Self::Packages(packages)
            | Self::Cargo { packages, .. }
            | Self::Python { packages, .. } => packages,
            Self::Run(_) | Self::ByHand => &[],
        }
    }

    fn command(&self) -> Option<Command> {
        match self {
            Self::Packages(_) | Self::ByHand => None,
            Self::Cargo { environment, arguments, .. } => {
                let mut command = Command::new("cargo");
                command.args(["install", "--quiet"]).args(*arguments);
                command.envs(environment.iter().copied());
                Some(command)
            }
            Self::Python { tools, .. } => {
                let mut command = Command::new("/usr/bin/python3");
                command.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]);
                command
                    .arg(tools.directory())
                    .args(tools.packages)
                    .env("PIP_ROOT_USER_ACTION", "ignore");
                Some(command)
            }
            Self::Run(words) => {
                let mut command = Command::new(words[0]);
                command.args(&words[1..]);
                Some(command)
            }
        }
    }
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
    // The messages of dpkg about each package would bury our own lines. Errors go to standard
    // error.
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command
}

fn advice(missing: &[&Need]) -> String {
    if !is_debian_12() {
        return advice_elsewhere(missing);
    }
    let by_hand = missing.iter().filter(|need| matches!(need.debian, Repair::ByHand));
    let commands = commands(missing);
    commands
        .iter()
        .map(typed)
        .chain(by_hand.map(|need| need.elsewhere.to_owned()))
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn advice_elsewhere(missing: &[&Need]) -> String {
    missing.iter().map(|need| format!("  {}", need.elsewhere)).collect::<Vec<_>>().join("\n")
}

fn names(needs: &[&Need]) -> String {
    needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ")
}

/// The command as a person would type it, with the variables that it sets.
fn typed(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    variables
        .map(|(name, value)| format!("{}={} ", name.to_string_lossy(), value.to_string_lossy()))
        .chain([process::line(command)])
        .collect()
}

/// Returns whether `program` is on the path, or where the system or cargo puts programs for root.
fn installed(program: &str) -> bool {
    std::env::split_paths(&toolchain::search_path())
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

fn is_debian_12() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
        && release.lines().any(|line| line == "VERSION_ID=\"12\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(what: &[&str]) -> Vec<&'static Need> {
        NEEDS.iter().filter(|need| what.contains(&need.what)).collect()
    }

    #[test]
    fn packages_come_in_one_transaction_and_before_what_is_compiled_with_them() {
        let missing = needs(&["bpf-linker", "ethtool"]);
        let lines: Vec<_> = commands(&missing).iter().map(typed).collect();
        assert_eq!(
            lines,
            [
                "DEBIAN_FRONTEND=noninteractive apt-get -qq update",
                "DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
                 --no-install-recommends llvm-22-dev libpolly-22-dev zlib1g-dev libzstd-dev g++ \
                 ethtool",
                "LLVM_PREFIX=/usr/lib/llvm-22 cargo install --quiet bpf-linker --version 0.13.0 \
                 --locked --no-default-features --features llvm-22",
            ]
        );
    }

    #[test]
    fn without_packages_apt_is_left_alone() {
        let missing = needs(&["bpffs at /sys/fs/bpf"]);
        let lines: Vec<_> = commands(&missing).iter().map(typed).collect();
        assert_eq!(lines, ["mount -t bpf bpf /sys/fs/bpf"]);
    }

    #[test]
    fn every_part_has_a_remedy_for_machines_that_are_not_debian() {
        let all: Vec<_> = NEEDS.iter().collect();
        assert_eq!(advice_elsewhere(&all).lines().count(), NEEDS.len());
        assert!(NEEDS.iter().all(|need| !need.elsewhere.is_empty()));
    }

    #[test]
    fn a_program_is_found_by_name() {
        assert!(installed("sh"));
        assert!(!installed("tcpguard-no-such-program"));
    }
}
