//! The packages that `cargo xtask dist` made: their contents, another version of them, and their installation
//! on a machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use tcpguard_support::contents::{self, Format, Source};

use crate::daemon::machine::Machine;

/// Query format with which rpm lists entries like dpkg-deb: permissions, owner, size, two fields of time, path.
const RPM_ENTRIES: &str = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILESIZES} \
                           %{FILEMTIMES} - %{FILENAMES}\n]";

/// A package on this host.
#[derive(Clone, Debug)]
pub struct Package {
    /// Path of the package file.
    pub path: PathBuf,
    list: &'static contents::Package,
    format: Format,
}

/// A file or directory in a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Permissions as `ls -l` prints them, `-rw-r--r--`.
    pub permissions: String,
    /// User and group, `root/root`.
    pub owner: String,
    /// Absolute path on the host that it is installed on, without a slash at the end.
    pub path: String,
    /// Time of the last change, as the package's tool prints it.
    pub written: String,
}

impl Package {
    /// The one that was made of this list for this format, from `TCPGUARD_DIST`.
    pub fn made(list: &'static contents::Package, format: Format) -> Result<Self> {
        const HOW: &str = "make them with `cargo xtask dist` and set TCPGUARD_DIST=target/dist \
                           (`cargo xtask test` does both)";
        let directory = env::var_os("TCPGUARD_DIST")
            .with_context(|| format!("TCPGUARD_DIST is not set: {HOW}"))?;
        let directory = PathBuf::from(directory);
        let ending = match format {
            Format::Deb => ".deb",
            Format::Rpm => ".rpm",
            Format::Tarball => ".tar.gz",
            Format::Image => ".oci.tar",
        };
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}: {HOW}", directory.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if list.is_file(&entry.file_name().to_string_lossy(), ending) {
                found.push(entry.path());
            }
        }
        ensure!(found.len() == 1, "{} {ending} in {}: {HOW}", found.len(), directory.display());
        Ok(Self { path: found.swap_remove(0).canonicalize()?, list, format })
    }

    /// Everything in it, directories included.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let list = match self.format {
            Format::Deb => run(Command::new("dpkg-deb").arg("--contents").arg(&self.path))?,
            Format::Rpm => run(Command::new("rpm")
                .args(["--query", "--package", "--queryformat"])
                .arg(RPM_ENTRIES)
                .arg(&self.path))?,
            // Below the directory that bears the name of the version.
            Format::Tarball => run(Command::new("tar")
                .args(["--list", "--verbose", "--show-transformed-names"])
                .args(["--transform", "s,^[^/]*,.,", "--file"])
                .arg(&self.path))?,
            Format::Image => bail!("{}: layers, and no files", self.path.display()),
        };
        list.lines().map(Entry::parse).collect()
    }

    /// Deviations of its contents from its list, in words. Empty when there are none.
    pub fn deviations(&self) -> Result<Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let entries = self.entries()?;
        let files: Vec<_> = entries.iter().filter(|entry| !entry.is_directory()).collect();
        let (mut problems, mut listed) = (Vec::new(), BTreeSet::new());
        for item in self.list.items.iter().filter(|item| item.is_in(self.format)) {
            let paths: Vec<String> = match item.source {
                Source::Files(..) => item.files(&root)?.into_iter().map(|(_, path)| path).collect(),
                // Their names are the program's to choose.
                Source::Manual(_) => {
                    let pages = files.iter().filter(|file| file.path.starts_with(item.to));
                    pages.map(|file| file.path.clone()).collect()
                }
                _ => vec![item.to.trim_end_matches('/').to_owned()],
            };
            if paths.is_empty() {
                problems.push(format!("nothing in {}", item.to));
            }
            let kind = if item.source == Source::Directory { 'd' } else { '-' };
            let permissions = permissions(kind, item.mode);
            for path in paths {
                match entries.iter().find(|entry| entry.path == path) {
                    None => problems.push(format!("{path} is missing")),
                    Some(entry) if entry.permissions != permissions => {
                        problems
                            .push(format!("{path} is {}, not {permissions}", entry.permissions));
                    }
                    Some(_) => {}
                }
                listed.insert(path);
            }
        }
        for entry in &entries {
            if !entry.is_directory() && !listed.contains(&entry.path) {
                problems.push(format!("{} is not listed", entry.path));
            }
            if entry.owner != "root/root" {
                problems.push(format!("{} belongs to {}", entry.path, entry.owner));
            }
        }
        Ok(problems)
    }

    /// Unpacks the files of a .deb below `directory`, without installing them.
    pub fn unpack(&self, directory: &Path) -> Result<()> {
        run(Command::new("dpkg-deb").arg("--extract").args([&self.path, directory])).map(drop)
    }

    /// A .deb with the same files and another version, in `directory`.
    pub fn with_version(&self, version: &str, directory: &Path) -> Result<Self> {
        let tree = directory.join(format!("tree-{version}"));
        run(Command::new("dpkg-deb").arg("--raw-extract").args([&self.path, &tree]))?;
        let control = tree.join("DEBIAN/control");
        let fields = fs::read_to_string(&control)?;
        let fields = fields.lines().map(|line| match line.starts_with("Version: ") {
            true => format!("Version: {version}\n"),
            false => format!("{line}\n"),
        });
        fs::write(&control, fields.collect::<String>())?;
        let path = directory.join(format!("{}_{version}.deb", self.list.name));
        let pack = ["--root-owner-group", "-Zgzip", "-z1", "--build"];
        run(Command::new("dpkg-deb").args(pack).args([&tree, &path]))?;
        Ok(Self { path, ..self.clone() })
    }

    /// Copies the package onto a machine and returns its path there.
    pub fn put_on(&self, machine: &Machine) -> Result<String> {
        let name = self.path.file_name().context("a package with a name")?.to_string_lossy();
        let inside = format!("/root/{name}");
        fs::copy(&self.path, machine.path(&inside)).context("cannot copy the package")?;
        Ok(inside)
    }
}

impl Entry {
    /// Parses a line such as `-rw-r--r-- root/root 4096 2026-01-01 00:00 ./usr/bin/x`.
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut next = || words.next().with_context(|| format!("a line without a path: {line:?}"));
        let (permissions, owner, _size) = (next()?, next()?, next()?);
        let written = format!("{} {}", next()?, next()?);
        let path = next()?.trim_start_matches('.').trim_end_matches('/');
        Ok(Self {
            permissions: permissions.to_owned(),
            owner: owner.to_owned(),
            path: path.to_owned(),
            written,
        })
    }

    /// Returns whether the entry is a directory.
    pub fn is_directory(&self) -> bool {
        self.permissions.starts_with('d')
    }
}

/// Returns permissions as `ls -l` prints them.
fn permissions(kind: char, mode: u32) -> String {
    let letter = |bit: u32| {
        let letter = ['x', 'w', 'r'][bit as usize % 3];
        if mode >> bit & 1 == 1 { letter } else { '-' }
    };
    std::iter::once(kind).chain((0..9).rev().map(letter)).collect()
}

fn run(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).env("TZ", "UTC").output().with_context(|| {
            format!("cannot start {:?}: is it installed?", command.get_program())
        })?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", error.trim());
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_written_as_ls_does() {
        assert_eq!(permissions('-', 0o644), "-rw-r--r--");
        assert_eq!(permissions('d', 0o755), "drwxr-xr-x");
        assert_eq!(permissions('-', 0o501), "-r-x-----x");
    }

    #[test]
    fn a_line_of_either_tool_is_an_entry() {
        let line = "drwxr-xr-x root/root         0 2026-11-21 14:00 ./etc/tcpguard/";
        let entry = Entry::parse(line).unwrap();
        assert!(entry.is_directory());
        assert_eq!((entry.path.as_str(), entry.owner.as_str()), ("/etc/tcpguard", "root/root"));
        let entry = Entry::parse("-rw-r--r-- root/root 0 1795273200 - /etc/x").unwrap();
        assert_eq!((entry.path.as_str(), entry.is_directory()), ("/etc/x", false));
        assert!(Entry::parse("-rw-r--r-- root/root").is_err());
    }
}
