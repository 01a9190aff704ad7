//! The package of `tcpguard-fleet`.

use super::{Format, Item, Package, Source, item, only};

/// The process that connects hosts.
pub static FLEET: Package = Package {
    name: "tcpguard-fleet",
    summary: "Shared evidence and rules for hosts with tcpguard",
    description: DESCRIPTION,
    has_bpf: false,
    items: ITEMS,
    own_directories: OWN_DIRECTORIES,
};

const DESCRIPTION: &str = "\
tcpguard-fleet connects hosts that tcpguard protects. They share the signatures
of SYN floods and the rules of their operators over NATS. A controller asks
routers to keep a flood from a link, by BGP FlowSpec or blackhole routes.

It has no privileges. Each host protects itself without it. After the
installation, read /usr/share/doc/tcpguard-fleet/fleet.md.";

const ITEMS: &[Item] = &[
    Item { mode: 0o755, ..item(Source::Program, "/usr/bin/tcpguard-fleet") },
    Item {
        is_configuration: true,
        ..item(Source::File("packaging/fleet.toml"), "/etc/tcpguard/fleet.toml")
    },
    // The services.
    item(
        Source::File("packaging/systemd/tcpguard-fleet.service"),
        "/usr/lib/systemd/system/tcpguard-fleet.service",
    ),
    item(
        Source::File("packaging/systemd/tcpguard-fleet-collect.service"),
        "/usr/lib/systemd/system/tcpguard-fleet-collect.service",
    ),
    item(
        Source::File("packaging/systemd/tcpguard-fleet-relief.service"),
        "/usr/lib/systemd/system/tcpguard-fleet-relief.service",
    ),
    item(
        Source::File("packaging/systemd/tcpguard-fleet.conf"),
        "/usr/lib/systemd/system/tcpguard.service.d/tcpguard-fleet.conf",
    ),
    item(
        Source::File("packaging/systemd/tcpguard-fleet.sysusers"),
        "/usr/lib/sysusers.d/tcpguard-fleet.conf",
    ),
    // Help at the terminal.
    item(Source::Manual("8"), "/usr/share/man/man8/"),
    // For other programs.
    item(Source::Files("docs/fleet/schema", "json"), "/usr/share/tcpguard-fleet/schema/"),
    // To read.
    item(Source::File("docs/fleet.md"), "/usr/share/doc/tcpguard-fleet/fleet.md"),
    item(Source::File("CHANGELOG.md"), "/usr/share/doc/tcpguard-fleet/changelog.gz"),
    item(Source::Notices, "/usr/share/doc/tcpguard-fleet/third-party-licences.gz"),
    only(
        &[Format::Deb],
        Source::DebianChangelog,
        "/usr/share/doc/tcpguard-fleet/changelog.Debian.gz",
    ),
    only(&[Format::Deb], Source::DebianCopyright, "/usr/share/doc/tcpguard-fleet/copyright"),
    only(
        &[Format::Rpm, Format::Tarball],
        Source::File("LICENSE-APACHE"),
        "/usr/share/licenses/tcpguard-fleet/LICENSE-APACHE",
    ),
    only(
        &[Format::Rpm, Format::Tarball],
        Source::File("LICENSE-MIT"),
        "/usr/share/licenses/tcpguard-fleet/LICENSE-MIT",
    ),
    only(&[Format::Tarball], Source::File("packaging/tarball/INSTALL.fleet"), "/INSTALL"),
];

const OWN_DIRECTORIES: &[&str] = &[
    "/usr/share/doc/tcpguard-fleet",
    "/usr/share/licenses/tcpguard-fleet",
    "/usr/share/tcpguard-fleet",
    "/usr/share/tcpguard-fleet/schema",
];
