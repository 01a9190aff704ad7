//! Every file of the packages: its source, its destination and its mode. The .deb, the .rpm, the tarball, the
//! image and the machine of the root tests (`tcpguard-kit`) are laid out by it.
//!
//! Everything belongs to root. Files of the service's user are no part of the package: systemd
//! makes them (`StateDirectory=`, `RuntimeDirectory=`, `packaging/systemd/tcpguard.tmpfiles`).

mod agent;
mod fleet;

use std::path::{Path, PathBuf};
use std::{fs, io};

pub use agent::AGENT;
pub use fleet::FLEET;

/// A package: a program with the files that come with it.
#[derive(Debug)]
pub struct Package {
    /// Name of the package and of its program.
    pub name: &'static str,
    /// A line of less than 60 characters about it.
    pub summary: &'static str,
    /// Paragraphs of at most 79 columns, with an empty line between them.
    pub description: &'static str,
    /// True if the BPF objects are in the program.
    pub has_bpf: bool,
    /// Its files.
    pub items: &'static [Item],
    /// Directories that belong to it alone, and go with it.
    pub own_directories: &'static [&'static str],
}

/// All packages.
pub const PACKAGES: [&Package; 2] = [&AGENT, &FLEET];

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

impl Package {
    /// Returns whether a file is this package: a version follows the name, and `ending` belongs to the format.
    pub fn is_file(&self, file: &str, ending: &str) -> bool {
        let rest = file.strip_prefix(self.name).filter(|_| file.ends_with(ending));
        let version = rest.and_then(|rest| rest.strip_prefix(['-', '_']));
        version.is_some_and(|version| version.starts_with(char::is_numeric))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_found_by_its_whole_name() {
        for (file, is_agent) in [
            ("tcpguard_0.1.0-1_amd64.deb", true),
            ("tcpguard-0.1.0-1.x86_64.rpm", false),
            ("tcpguard-fleet_0.1.0-1_amd64.deb", false),
        ] {
            assert_eq!(AGENT.is_file(file, ".deb"), is_agent, "{file}");
        }
        assert!(FLEET.is_file("tcpguard-fleet-0.1.0-x86_64-linux.tar.gz", ".tar.gz"));
    }
}
