//! The C library that a program needs, read from the program itself, and Debian's for the image, for guests and for
//! emulation.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use object::elf;
use object::read::elf::{Dyn as _, ElfFile64, ProgramHeader as _};

use crate::platform::Platform;
use crate::workspace::Workspace;
use crate::zig::GLIBC;
use crate::{debian, process};

/// The release of Debian that the C library comes from, by name and number.
pub const SUITE: (&str, &str) = ("trixie", "13");
/// The package of the C library.
pub const PACKAGE: &str = "libc6";

/// The parts of glibc. Every distribution with glibc has them, and the image holds them.
const PARTS: [&str; 6] =
    ["libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "ld-linux"];

/// Libraries of a program and the versions of their symbols.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Absolute path of the program that loads them.
    pub loader: String,
    pub libraries: Vec<String>,
    /// Each with its library: `GLIBC_2.14 of libc.so.6`.
    versions: Vec<(String, String)>,
}

impl Needs {
    /// # Errors
    /// When it is no 64-bit program for Linux, or its tables cannot be read.
    pub fn of(program: &Path) -> Result<Self> {
        let content =
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        Self::parse(&content).with_context(|| program.display().to_string())
    }

    fn parse(content: &[u8]) -> Result<Self> {
        let file = ElfFile64::<object::Endianness>::parse(content)?;
        let endian = file.endian();
        let sections = file.elf_section_table();
        let mut needs = Self::default();
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        for segment in file.elf_program_headers() {
            if let Some(path) = segment.interpreter(endian, content)? {
                needs.loader = text(path);
            }
        }
        if let Some((dynamic, link)) = sections.dynamic(endian, content)? {
            let strings = sections.strings(endian, content, link)?;
            for entry in dynamic.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED) {
                let name = entry.string(endian, strings)?;
                needs.libraries.push(text(name));
            }
        }
        if let Some((mut libraries, link)) = sections.gnu_verneed(endian, content)? {
            let strings = sections.strings(endian, content, link)?;
            while let Some((library, mut versions)) = libraries.next()? {
                while let Some(version) = versions.next()? {
                    let of = text(library.file(endian, strings)?);
                    needs.versions.push((text(version.name(endian, strings)?), of));
                }
            }
        }
        Ok(needs)
    }

    /// Checks that glibc of version [`GLIBC`] is sufficient.
    ///
    /// # Errors
    /// Names what else the program needs.
    pub fn check(&self) -> Result<()> {
        let oldest = numbers(GLIBC).context("a version of glibc")?;
        let foreign = |library: &&String| !PARTS.iter().any(|part| library.starts_with(part));
        let newer = |(version, _): &&(String, String)| {
            let number = version.strip_prefix("GLIBC_").and_then(numbers);
            number.is_none_or(|number| number > oldest)
        };
        let versions = self.versions.iter().filter(newer);
        let beyond: Vec<String> = (self.libraries.iter().filter(foreign).cloned())
            .chain(versions.map(|(version, library)| format!("{version} of {library}")))
            .collect();
        ensure!(!self.versions.is_empty(), "the program names no version of glibc");
        if !beyond.is_empty() {
            bail!("the program needs more than glibc {GLIBC}: {}", beyond.join(", "));
        }
        Ok(())
    }
}

/// Debian's C library for a platform.
pub struct CLibrary {
    /// The package as a file.
    pub package: PathBuf,
    /// The directory with its files.
    pub root: PathBuf,
}

impl CLibrary {
    /// Downloads it unless it is there.
    pub fn get(workspace: &Workspace, platform: Platform) -> Result<Self> {
        let directory = store(workspace, platform);
        let package = debian::package(&directory, platform, SUITE.0, PACKAGE)?;
        let root = directory.join("files");
        process::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root))?;
        Ok(Self { package, root })
    }

    /// Removes it, so that the next one is the newest.
    pub fn forget(workspace: &Workspace, platform: Platform) -> Result<()> {
        match fs::remove_dir_all(store(workspace, platform)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The files that a program loads, by their paths on a host. A program that is not packaged ([`Needs::check`])
    /// also loads libraries of this machine.
    pub fn files(&self, needs: &Needs) -> Result<BTreeMap<String, PathBuf>> {
        let (_, loader) = needs.loader.rsplit_once('/').context("a loader without a directory")?;
        let mut files = BTreeMap::new();
        for name in needs.libraries.iter().map(String::as_str).chain([loader]) {
            let of_this_machine = || {
                let path = Path::new("/usr/lib").join(Platform::OWN.multiarch()).join(name);
                path.is_file().then_some(path)
            };
            let from = find(&self.root, name)?
                .or_else(of_this_machine)
                .with_context(|| format!("{name} is not in {}", self.package.display()))?;
            let path = match (name == loader, from.strip_prefix(&self.root)) {
                (true, _) => format!("/usr{}", needs.loader),
                (false, Ok(below)) => format!("/{}", below.display()),
                (false, Err(_)) => from.display().to_string(),
            };
            files.insert(path, from);
        }
        Ok(files)
    }
}

fn store(workspace: &Workspace, platform: Platform) -> PathBuf {
    workspace.target.join("libc").join(platform.debian())
}

/// The file of this name below a directory, and no link.
fn find(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if entry.file_type()?.is_file() && entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}
