//! The package of the agent.

use super::{FORMATS, Format, Item, Package, Source, WITH_LICENCES, item, only};

/// The agent, with the command line.
pub static AGENT: Package = Package {
    name: "tcpguard",
    summary: "SYN-flood detection and mitigation in the kernel",
    description: DESCRIPTION,
    has_bpf: true,
    items: ITEMS,
    own_directories: OWN_DIRECTORIES,
};

const DESCRIPTION: &str = "\
tcpguard runs on the host under attack, sees every TCP handshake in the kernel
(XDP, eBPF), distinguishes a SYN flood from a scan, a flash crowd or a broken
path, and drops the flood before the network stack spends anything on it, while
real clients keep connecting.

After the installation, name the interface in /etc/tcpguard/tcpguard.toml and
start the service. It starts in mode observe: it counts the packets that it
would drop, and drops nothing.";

const ITEMS: &[Item] = &[
    Item { mode: 0o755, ..only(FORMATS, Source::Program, "/usr/bin/tcpguard") },
    Item {
        is_configuration: true,
        ..only(FORMATS, Source::File("packaging/tcpguard.toml"), "/etc/tcpguard/tcpguard.toml")
    },
    Item { mode: 0o755, ..item(Source::Directory, "/etc/tcpguard/conf.d/") },
    // The service.
    item(
        Source::File("packaging/systemd/tcpguard.service"),
        "/usr/lib/systemd/system/tcpguard.service",
    ),
    item(
        Source::File("packaging/systemd/tcpguard-selftest.service"),
        "/usr/lib/systemd/system/tcpguard-selftest.service",
    ),
    item(
        Source::File("packaging/systemd/tcpguard-hook.service"),
        "/usr/lib/systemd/system/tcpguard-hook.service",
    ),
    item(Source::File("packaging/systemd/tcpguard.sysusers"), "/usr/lib/sysusers.d/tcpguard.conf"),
    item(Source::File("packaging/systemd/tcpguard.tmpfiles"), "/usr/lib/tmpfiles.d/tcpguard.conf"),
    item(Source::File("packaging/tcpguard.catalog"), "/usr/lib/systemd/catalog/tcpguard.catalog"),
    // Help at the terminal.
    item(Source::Manual("5"), "/usr/share/man/man5/"),
    item(Source::Manual("8"), "/usr/share/man/man8/"),
    item(
        Source::Printed(&["completions", "bash"]),
        "/usr/share/bash-completion/completions/tcpguard",
    ),
    item(
        Source::Printed(&["completions", "fish"]),
        "/usr/share/fish/vendor_completions.d/tcpguard.fish",
    ),
    // Where each one's zsh looks.
    only(
        &[Format::Deb],
        Source::Printed(&["completions", "zsh"]),
        "/usr/share/zsh/vendor-completions/_tcpguard",
    ),
    only(
        &[Format::Rpm, Format::Tarball],
        Source::Printed(&["completions", "zsh"]),
        "/usr/share/zsh/site-functions/_tcpguard",
    ),
    // For other programs.
    item(Source::Files("docs/schema", "json"), "/usr/share/tcpguard/schema/"),
    item(
        Source::File("packaging/prometheus/alerts.yml"),
        "/usr/share/tcpguard/prometheus/alerts.yml",
    ),
    item(
        Source::File("packaging/grafana/tcpguard.json"),
        "/usr/share/tcpguard/grafana/tcpguard.json",
    ),
    // To read.
    item(Source::Files("docs", "md"), "/usr/share/doc/tcpguard/"),
    item(Source::File("CHANGELOG.md"), "/usr/share/doc/tcpguard/changelog.gz"),
    only(FORMATS, Source::Notices, "/usr/share/doc/tcpguard/third-party-licences.gz"),
    only(&[Format::Deb], Source::DebianChangelog, "/usr/share/doc/tcpguard/changelog.Debian.gz"),
    only(&[Format::Deb], Source::DebianCopyright, "/usr/share/doc/tcpguard/copyright"),
    only(
        WITH_LICENCES,
        Source::File("LICENSE-APACHE"),
        "/usr/share/licenses/tcpguard/LICENSE-APACHE",
    ),
    only(WITH_LICENCES, Source::File("LICENSE-MIT"), "/usr/share/licenses/tcpguard/LICENSE-MIT"),
    only(&[Format::Tarball], Source::File("packaging/tarball/INSTALL"), "/INSTALL"),
];

const OWN_DIRECTORIES: &[&str] = &[
    "/etc/tcpguard",
    "/usr/share/doc/tcpguard",
    "/usr/share/licenses/tcpguard",
    "/usr/share/tcpguard",
    "/usr/share/tcpguard/grafana",
    "/usr/share/tcpguard/prometheus",
    "/usr/share/tcpguard/schema",
];
