//! Requirements of building and testing, and their installation.
//!
//! Debian 12 as root is set up without a question asked. Anywhere else the exact commands are
//! printed and nothing is touched, since a developer's machine is the developer's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::{self, BpfToolchain};
use crate::{compiler, process, zig};

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
    Python { packages: &'static [&'static str], names: &'static [&'static str] },
    /// A command of the system.
    Run(&'static [&'static str]),
    /// Not ours to do; the command of `elsewhere` holds on Debian too.
    ByHand,
}

const NEEDS: &[Need] = &[
    Need {
        purpose: Purpose::Build,
        what: "a rustc with the source of its own core",
        why: "compiles the BPF programs, whose target has no prebuilt core",
        present: || BpfToolchain::find().is_ok(),
        debian: Repair::Packages(&["rustc-web", "cargo-web", "rust-web-src"]),
        elsewhere: "rustup toolchain install nightly --component rust-src --component clippy",
    },
    Need {
        purpose: Purpose::Build,
        what: "bpf-linker",
        why: "links the BPF objects",
        present: || toolchain::bpf_linker().is_some(),
        debian: Repair::Cargo {
            packages: &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "g++"],
            environment: &[("LLVM_PREFIX", "/usr/lib/llvm-22")],
            arguments: &[
                "bpf-linker",
                "--version",
                "0.13.0",
                "--locked",
                "--no-default-features",
                "--features",
                "llvm-22",
            ],
        },
        elsewhere: "cargo install bpf-linker --version 0.13.0 --locked",
    },
    Need {
        purpose: Purpose::Fuzz,
        what: "g++",
        why: "compiles libFuzzer, which comes as C++",
        present: || installed("g++"),
        debian: Repair::Packages(&["g++"]),
        elsewhere: "install g++",
    },
    Need {
        purpose: Purpose::Lint,
        what: "clippy of the BPF compiler",
        why: "lints the BPF programs on their target",
        present: || BpfToolchain::find().is_ok_and(|toolchain| toolchain.has_clippy()),
        debian: Repair::Packages(&["rust-web-clippy"]),
        elsewhere: "rustup component add clippy --toolchain nightly",
    },
    Need {
        purpose: Purpose::Lint,
        what: "rustfmt and clippy",
        why: "check the style of user space",
        present: || installed("cargo-fmt") && installed("cargo-clippy"),
        debian: Repair::ByHand,
        elsewhere: "rustup component add rustfmt clippy",
    },
    Need {
        purpose: Purpose::Test,
        what: "cargo-nextest",
        why: "runs each test in a process of its own",
        present: || installed("cargo-nextest"),
        debian: Repair::Cargo {
            packages: &[],
            environment: &[],
            arguments: &["cargo-nextest", "--locked"],
        },
        elsewhere: "cargo install cargo-nextest --locked",
    },
    Need {
        purpose: Purpose::Lab,
        what: "ip, tc and ss",
        why: "make the network namespaces of the root tests",
        present: || ["ip", "tc", "ss"].into_iter().all(installed),
        debian: Repair::Packages(&["iproute2"]),
        elsewhere: "install iproute2",
    },
    Need {
        purpose: Purpose::Lab,
        what: "nft",
        why: "sets the defences up that tcpguard is compared with",
        present: || installed("nft"),
        debian: Repair::Packages(&["nftables"]),
        elsewhere: "install nftables",
    },
    Need {
        purpose: Purpose::Lab,
        what: "iptables",
        why: "limits SYNs by source, as many hosts do: tcpguard is compared with that too",
        present: || ["iptables", "ip6tables", "iptables-legacy"].into_iter().all(installed),
        debian: Repair::Packages(&["iptables"]),
        elsewhere: "install iptables and iptables-legacy",
    },
    Need {
        purpose: Purpose::Lab,
        what: "ethtool",
        why: "turns offloads of test interfaces off",
        present: || installed("ethtool"),
        debian: Repair::Packages(&["ethtool"]),
        elsewhere: "install ethtool",
    },
    Need {
        purpose: Purpose::Lab,
        what: "bpftool",
        why: "shows that others can read the maps",
        present: || installed("bpftool"),
        debian: Repair::Packages(&["bpftool"]),
        elsewhere: "install bpftool",
    },
    Need {
        purpose: Purpose::Lab,
        what: "xdp-loader and xdp-filter",
        why: "put other XDP programs in the way, and beside tcpguard's",
        present: || installed("xdp-loader") && installed("xdp-filter"),
        debian: Repair::Packages(&["xdp-tools"]),
        elsewhere: "install xdp-tools",
    },
    Need {
        purpose: Purpose::Lab,
        what: "tcpdump",
        why: "reads captures by the filter for a provider",
        present: || installed("tcpdump"),
        debian: Repair::Packages(&["tcpdump"]),
        elsewhere: "install tcpdump",
    },
    Need {
        purpose: Purpose::Lab,
        what: "perf",
        why: "says in which functions a packet's time goes: benchmark",
        present: || installed("perf"),
        debian: Repair::Packages(&["linux-perf"]),
        elsewhere: "install perf, of the kernel's tools",
    },
    Need {
        purpose: Purpose::Lab,
        what: "systemd",
        why: "runs the service in a box, and the journal",
        present: || Path::new("/lib/systemd/systemd").is_file() && installed("journalctl"),
        debian: Repair::Packages(&["systemd"]),
        elsewhere: "install systemd",
    },
    Need {
        purpose: Purpose::Lab,
        what: "bpffs at /sys/fs/bpf",
        why: "keeps programs and maps while the daemon is away",
        // Only root can use it, and only root can mount it.
        present: || !is_root() || bpffs_is_mounted(),
        debian: Repair::Run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]),
        elsewhere: "mount -t bpf bpf /sys/fs/bpf",
    },
    Need {
        purpose: Purpose::Scrape,
        what: "prometheus and promtool",
        why: "scrape the metrics, and check them and the alert rules",
        present: || installed("prometheus") && installed("promtool"),
        debian: Repair::Packages(&["prometheus"]),
        elsewhere: "install prometheus",
    },
    Need {
        purpose: Purpose::Program,
        what: "zig and cargo-zigbuild",
        why: "link the packaged program for an old C library",
        present: zig::is_installed,
        debian: Repair::Python { packages: &["python3-pip"], names: &zig::PACKAGES },
        elsewhere: "python3 -m pip install --target \"${CARGO_HOME:-$HOME/.cargo}/tcpguard-tools\" \
                    ziglang==0.17.1 cargo-zigbuild==0.24.1",
    },
    Need {
        purpose: Purpose::Foreign,
        what: "a compiler for x86-64 and arm64",
        why: "makes programs for another processor",
        present: compiler::is_installed,
        debian: Repair::Packages(&["rustc-web", "cargo-web"]),
        elsewhere: "rustup target add x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu",
    },
    Need {
        purpose: Purpose::Package,
        what: "apt-get, dpkg-deb and the keys of Debian",
        why: "make the .deb, and get the C library of the image from Debian",
        present: has_archive_tools,
        debian: Repair::Packages(&["apt", "dpkg", "debian-archive-keyring"]),
        elsewhere: "install apt, dpkg and debian-archive-keyring",
    },
    Need {
        purpose: Purpose::Package,
        what: "rpmbuild",
        why: "makes the .rpm",
        present: || installed("rpm") && installed("rpmbuild"),
        debian: Repair::Packages(&["rpm"]),
        elsewhere: "install rpm-build",
    },
    Need {
        purpose: Purpose::Package,
        what: "capsh",
        why: "takes capabilities from the image: root tests",
        present: || installed("capsh"),
        debian: Repair::Packages(&["libcap2-bin"]),
        elsewhere: "install capsh, of libcap",
    },
    Need {
        purpose: Purpose::Package,
        what: "lintian",
        why: "knows what Debian asks of a package",
        present: || installed("lintian"),
        debian: Repair::Packages(&["lintian"]),
        elsewhere: "install lintian",
    },
    Need {
        purpose: Purpose::Package,
        what: "man",
        why: "finds what is wrong in a manual page",
        present: || installed("man"),
        debian: Repair::Packages(&["man-db"]),
        elsewhere: "install man-db",
    },
    Need {
        purpose: Purpose::Roots,
        what: "mmdebstrap",
        why: "makes clean roots of distributions",
        present: || installed("mmdebstrap"),
        debian: Repair::Packages(&["mmdebstrap"]),
        elsewhere: "install mmdebstrap",
    },
    Need {
        purpose: Purpose::Browser,
        what: "chromium",
        why: "looks at the pages of `tcpguard report`",
        present: || installed("chromium"),
        debian: Repair::Packages(&["chromium"]),
        elsewhere: "install chromium",
    },
    Need {
        purpose: Purpose::Terminal,
        what: "tmux",
        why: "is the terminal in which `tcpguard top` is looked at",
        present: || installed("tmux"),
        debian: Repair::Packages(&["tmux"]),
        elsewhere: "install tmux",
    },
    Need {
        purpose: Purpose::Guests,
        what: "apt-get, dpkg-deb and the keys of Debian",
        why: "download kernels and QEMU from Debian",
        present: has_archive_tools,
        debian: Repair::Packages(&["apt", "dpkg", "debian-archive-keyring"]),
        elsewhere: "install apt, dpkg and debian-archive-keyring",
    },
    Need {
        purpose: Purpose::Guests,
        what: "xz",
        why: "unpacks kernel modules",
        present: || installed("xz"),
        debian: Repair::Packages(&["xz-utils"]),
        elsewhere: "install xz",
    },
    Need {
        purpose: Purpose::Supply,
        what: "cargo-deny",
        why: "knows the licences and sources of what is depended on",
        present: || installed("cargo-deny"),
        debian: Repair::Cargo {
            packages: &[],
            environment: &[],
            arguments: &["cargo-deny", "--version", "0.20.2", "--locked"],
        },
        elsewhere: "cargo install cargo-deny --version 0.20.2 --locked",
    },
];

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
            Self::Python { names, .. } => {
                let mut command = Command::new("/usr/bin/python3");
                command.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]);
                command.arg(zig::directory()).args(*names).env("PIP_ROOT_USER_ACTION", "ignore");
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

fn has_archive_tools() -> bool {
    installed("apt-get") && installed("dpkg-deb") && Path::new(DEBIAN_KEYS).is_file()
}

fn is_debian_12() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
        && release.lines().any(|line| line == "VERSION_ID=\"12\"")
}

fn bpffs_is_mounted() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next(), fields.next()) == (Some("/sys/fs/bpf"), Some("bpf"))
    })
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
