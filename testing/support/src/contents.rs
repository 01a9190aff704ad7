//! Every file of the package: its source, its destination and its mode. The .deb, the .rpm, the tarball, the
//! image and the machine of the root tests (`tcpguard-kit`) are laid out by it.
//!
//! Everything belongs to root. Files of the service's user are no part of the package: systemd
//! makes them (`StateDirectory=`, `RuntimeDirectory=`, `packaging/systemd/tcpguard.tmpfiles`).

use std::path::{Path, PathBuf};
use std::{fs, io};

/// An entry of the list.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Source of the file.
    pub source: Source,
    /// Absolute path on the host. Where there may be several files, it is that of a directory,
    /// ending in `/`. A file with a path that ends in `.gz` is compressed.
    pub to: &'static str,
    /// Permissions of the file, or of the directory if it is one.
    pub mode: u32,
    /// True if it is the administrator's: an upgrade leaves changes of it alone.
    pub is_configuration: bool,
    /// The formats that have it.
    pub formats: &'static [Format],
}

/// Source of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    Program,
    /// A file of the repository.
    File(&'static str),
    /// Every file in a directory of the repository that has this extension.
    Files(&'static str, &'static str),
    /// Output of the program when it is called so.
    Printed(&'static [&'static str]),
    /// The manual pages of this section that the program writes, compressed.
    Manual(&'static str),
    /// Debian's record of the terms for copying it.
    DebianCopyright,
    /// Debian's record of the package's versions.
    DebianChangelog,
    /// The licences of the libraries that the program contains.
    Notices,
    Directory,
}

/// A kind of package.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Deb,
    Rpm,
    /// The files as they lie on a host, for distributions without a package.
    Tarball,
    /// The files of a container.
    Image,
}

/// Formats for a host with systemd.
pub const OF_HOSTS: &[Format] = &[Format::Deb, Format::Rpm, Format::Tarball];
/// All formats.
pub const FORMATS: &[Format] = &[Format::Deb, Format::Rpm, Format::Tarball, Format::Image];
/// Formats with the terms for copying in files of their own.
const WITH_LICENCES: &[Format] = &[Format::Rpm, Format::Tarball, Format::Image];

const fn item(source: Source, to: &'static str) -> Item {
    Item { source, to, mode: 0o644, is_configuration: false, formats: OF_HOSTS }
}

const fn only(formats: &'static [Format], source: Source, to: &'static str) -> Item {
    Item { formats, ..item(source, to) }
}

/// All of the package.
pub const ITEMS: &[Item] = &[
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
    item(Source::File("docs/coexistence.md"), "/usr/share/doc/tcpguard/coexistence.md"),
    item(Source::File("docs/commands.md"), "/usr/share/doc/tcpguard/commands.md"),
    item(Source::File("docs/configuration.md"), "/usr/share/doc/tcpguard/configuration.md"),
    item(Source::File("docs/detection.md"), "/usr/share/doc/tcpguard/detection.md"),
    item(Source::File("docs/faq.md"), "/usr/share/doc/tcpguard/faq.md"),
    item(Source::File("docs/how-it-works.md"), "/usr/share/doc/tcpguard/how-it-works.md"),
    item(Source::File("docs/install.md"), "/usr/share/doc/tcpguard/install.md"),
    item(Source::File("docs/journal.md"), "/usr/share/doc/tcpguard/journal.md"),
    item(Source::File("docs/kernel-support.md"), "/usr/share/doc/tcpguard/kernel-support.md"),
    item(Source::File("docs/limitations.md"), "/usr/share/doc/tcpguard/limitations.md"),
    item(Source::File("docs/losses.md"), "/usr/share/doc/tcpguard/losses.md"),
    item(Source::File("docs/metrics.md"), "/usr/share/doc/tcpguard/metrics.md"),
    item(Source::File("docs/mitigations.md"), "/usr/share/doc/tcpguard/mitigations.md"),
    item(Source::File("docs/nics-and-clouds.md"), "/usr/share/doc/tcpguard/nics-and-clouds.md"),
    item(Source::File("docs/operations.md"), "/usr/share/doc/tcpguard/operations.md"),
    item(Source::File("docs/quickstart.md"), "/usr/share/doc/tcpguard/quickstart.md"),
    item(Source::File("docs/runbook.md"), "/usr/share/doc/tcpguard/runbook.md"),
    item(Source::File("docs/thresholds.md"), "/usr/share/doc/tcpguard/thresholds.md"),
    item(Source::File("docs/troubleshooting.md"), "/usr/share/doc/tcpguard/troubleshooting.md"),
    item(Source::File("docs/unattended.md"), "/usr/share/doc/tcpguard/unattended.md"),
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

/// Directories that belong to the package alone, and go with it.
pub const OWN_DIRECTORIES: &[&str] = &[
    "/etc/tcpguard",
    "/usr/share/doc/tcpguard",
    "/usr/share/licenses/tcpguard",
    "/usr/share/tcpguard",
    "/usr/share/tcpguard/grafana",
    "/usr/share/tcpguard/prometheus",
    "/usr/share/tcpguard/schema",
];

impl Item {
    /// Returns whether packages of this format have it.
    pub fn is_in(&self, format: Format) -> bool {
        self.formats.contains(&format)
    }

    /// The files of the repository at `root` that it consists of, each with its path on the host, in
    /// alphabetical order; none where it has another source.
    pub fn files(&self, root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
        match self.source {
            Source::File(path) => Ok(vec![(root.join(path), self.to.to_owned())]),
            Source::Files(directory, extension) => {
                self.with_extension(&root.join(directory), extension)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The files of `directory` with `extension`, each with its path on the host.
    pub fn with_extension(
        &self,
        directory: &Path,
        extension: &str,
    ) -> io::Result<Vec<(PathBuf, String)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.extension().is_some_and(|found| found == extension)
            {
                files.push((path.clone(), format!("{}{name}", self.to)));
            }
        }
        files.sort();
        Ok(files)
    }
}
