//! `cargo xtask dist`: each package as a .deb, an .rpm and a tarball, and the agent's image, in `<target>/dist`. All are
//! made of one list ([`tcpguard_support::contents`]), each packed by its own system's tools.
//!
//! The same commit gives the same bytes: every time in a package is `SOURCE_DATE_EPOCH`, or else the
//! commit's.

mod deb;
mod image;
mod install;
mod linked;
mod notices;
mod pages;
mod rpm;
mod sbom;
mod tarball;
mod twice;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use tcpguard_support::contents::{self, Format, PACKAGES, Source};

use self::linked::Key;
use crate::build::{self, Profile};
use crate::emulation;
use crate::libc::{CLibrary, Needs};
use crate::platform::Platform;
use crate::process;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// Number of the package among those of this version.
const REVISION: &str = "1";
const HOMEPAGE: &str = "https://github.com/tcpguard/tcpguard";
/// The format of a time in documents, for date(1).
const ISO_8601: &str = "+%Y-%m-%dT%H:%M:%SZ";
/// Name of the file with the checksums of the others.
const SHA256SUMS: &str = "SHA256SUMS";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Platform of the packages, and trials of finished ones.
#[derive(clap::Args)]
pub struct Arguments {
    /// Processor of the packages: that of this machine, or another one, for target/dist-ARCH
    #[arg(long, value_name = "ARCH", value_enum, default_value_t = Platform::OWN)]
    arch: Platform,
    /// Build once more from another directory, and compare
    #[arg(long)]
    twice: bool,
    /// Install, run and remove each package in clean roots of Debian and Ubuntu
    #[arg(long)]
    install: bool,
    /// With --install: succeed although a distribution is on no mirror
    #[arg(long, requires = "install")]
    allow_missing: bool,
}

/// Builds everything, then the packages, and prints where they are.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let platform = arguments.arch;
    let is_foreign = platform != Platform::OWN;
    if arguments.install && is_foreign {
        bail!(
            "packages for {} are only installed on such a machine: leave out --install",
            platform.debian()
        );
    }
    setup::ensure(&[Purpose::Build, Purpose::Program, Purpose::Package])?;
    if is_foreign {
        setup::ensure(&[Purpose::Foreign])?;
    }
    eprintln!(
        "the program is compiled anew in its smallest form: that takes minutes where it is not there yet"
    );
    CLibrary::forget(workspace, platform)?;
    build::everything(workspace, Profile::Packaged(platform))?;
    for package in packages(workspace, platform, Profile::Packaged(platform))? {
        println!("{}", package.display());
    }
    if arguments.twice {
        twice::compare(workspace, platform)?;
    }
    if arguments.install {
        install::run(workspace, arguments.allow_missing)?;
    }
    Ok(())
}

/// Makes all packages for a platform, of the programs that were built as `profile` says, and returns their paths.
///
/// # Errors
/// When one of the tools fails; its own output says why. When a packaged program needs a newer C library than
/// [`GLIBC`](crate::zig::GLIBC).
pub fn packages(
    workspace: &Workspace,
    platform: Platform,
    profile: Profile,
) -> Result<Vec<PathBuf>> {
    let directory = workspace.packages(platform);
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    let of_package = |package: &'static contents::Package| {
        let release = Release::prepare(workspace, platform, profile, package)?;
        let mut made =
            vec![deb::build(&release)?, rpm::build(&release)?, tarball::build(&release)?];
        if package.items.iter().any(|item| item.is_in(Format::Image)) {
            made.push(image::build(&release)?);
        }
        made.push(sbom::write(&release)?);
        anyhow::Ok(made)
    };
    // Compression takes one CPU.
    let made = thread::scope(|scope| {
        let made = PACKAGES.map(|package| scope.spawn(move || of_package(package)));
        made.map(|made| made.join().expect("packing that does not panic"))
    });
    let mut made = made.into_iter().collect::<Result<Vec<_>>>()?.concat();
    made.push(checksums(&directory, &made)?);
    Ok(made)
}

/// The inputs of a package in all formats.
struct Release<'a> {
    workspace: &'a Workspace,
    package: &'static contents::Package,
    /// The packages of cargo that the program contains.
    packages: BTreeMap<Key, linked::Package>,
    /// Directory of the finished packages.
    directory: PathBuf,
    /// Directory in which they are put together.
    work: PathBuf,
    /// The time of everything in them, in seconds since 1970.
    epoch: String,
    platform: Platform,
    /// Level of xz's compression, 0 to 9.
    compression: u8,
    program: PathBuf,
    /// The command line that starts the program on this machine.
    started: Vec<OsString>,
    /// The manual pages that it writes.
    manual: PathBuf,
}

/// A file or directory that lies ready for a package.
struct Staged {
    /// Absolute path on the host.
    path: String,
    mode: u32,
    is_directory: bool,
    is_configuration: bool,
}

impl<'a> Release<'a> {
    fn prepare(
        workspace: &'a Workspace,
        platform: Platform,
        profile: Profile,
        package: &'static contents::Package,
    ) -> Result<Self> {
        let directory = workspace.packages(platform);
        let work = directory.join("work").join(package.name);
        fs::create_dir_all(work.join("manual"))?;
        let mut program = workspace.program(package, profile);
        let is_packaged = matches!(profile, Profile::Packaged(_));
        if is_packaged {
            Needs::of(&program)?.check()?;
        } else {
            let stripped = work.join("program");
            let mut strip = Command::new("strip");
            process::run(strip.arg("-o").arg(&stripped).arg(&program))?;
            program = stripped;
        }
        let mut started = emulation::runner(workspace, platform)?;
        started.push(program.clone().into());
        let release = Self {
            workspace,
            package,
            packages: linked::packages(workspace, platform, package)?,
            epoch: epoch(workspace)?,
            platform,
            compression: if is_packaged { 6 } else { 0 },
            program,
            started,
            manual: work.join("manual"),
            directory,
            work,
        };
        release.ask_program(&[OsStr::new("manual"), release.manual.as_os_str()])?;
        Ok(release)
    }

    /// Output of the program when it is called with `arguments`.
    fn ask_program(&self, arguments: &[&OsStr]) -> Result<String> {
        let mut command = Command::new(&self.started[0]);
        command.args(&self.started[1..]).args(arguments);
        process::output(command.env("LC_ALL", "C.UTF-8"))
    }

    /// Name of this version for its platform, at which other names begin.
    fn name(&self) -> String {
        format!("{}-{VERSION}-{}-linux", self.package.name, self.platform.kernel())
    }

    /// The time of everything, as date(1) prints it.
    fn time(&self, form: &str) -> Result<String> {
        let mut date = Command::new("date");
        date.args(["--utc", form]).arg(format!("--date=@{}", self.epoch)).env("LC_ALL", "C");
        Ok(process::output(&mut date)?.trim().to_owned())
    }

    /// An empty directory to work in.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let directory = self.work.join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }

    /// Lays a package's files out below `root`.
    fn stage(&self, format: Format, root: &Path) -> Result<Vec<Staged>> {
        let mut staged = Vec::new();
        for item in self.package.items.iter().filter(|item| item.is_in(format)) {
            let files = match item.source {
                Source::Directory => Vec::new(),
                Source::Program => vec![(fs::read(&self.program)?, item.to.to_owned())],
                Source::File(_) | Source::Files(..) => {
                    let packaged = |(from, to): (PathBuf, String)| {
                        Ok((pages::packaged(&self.workspace.root, &from, self.package)?, to))
                    };
                    let files = item.files(&self.workspace.root)?;
                    files.into_iter().map(packaged).collect::<Result<_>>()?
                }
                Source::Manual(section) => {
                    let pages = item.with_extension(&self.manual, section)?;
                    let compressed = pages.into_iter().map(|(page, to)| (page, format!("{to}.gz")));
                    read(compressed.collect())?
                }
                Source::Printed(arguments) => {
                    let arguments: Vec<_> =
                        arguments.iter().map(|word| OsStr::new(*word)).collect();
                    vec![(self.ask_program(&arguments)?.into_bytes(), item.to.to_owned())]
                }
                Source::DebianCopyright => {
                    vec![(deb::copyright(self)?.into_bytes(), item.to.to_owned())]
                }
                Source::DebianChangelog => {
                    vec![(deb::changelog(self)?.into_bytes(), item.to.to_owned())]
                }
                Source::Notices => {
                    let text = notices::all(self.package.name, &self.packages)?;
                    vec![(text.into_bytes(), item.to.to_owned())]
                }
            };
            if item.source == Source::Directory {
                fs::create_dir_all(below(root, item.to))?;
                staged.push(Staged {
                    path: item.to.trim_end_matches('/').to_owned(),
                    mode: item.mode,
                    is_directory: true,
                    is_configuration: false,
                });
            }
            for (content, path) in files {
                place(root, &path, &content, item.mode)?;
                let (mode, is_configuration) = (item.mode, item.is_configuration);
                staged.push(Staged { path, mode, is_directory: false, is_configuration });
            }
        }
        open_directories(root)?;
        Ok(staged)
    }
}

/// Writes the checksums of finished files in `directory`, for `sha256sum --check`, and returns the path.
fn checksums(directory: &Path, files: &[PathBuf]) -> Result<PathBuf> {
    let mut command = Command::new("sha256sum");
    command.arg("--").args(files.iter().filter_map(|file| file.file_name()));
    let sums = process::output(command.current_dir(directory))?;
    let path = directory.join(SHA256SUMS);
    fs::write(&path, sums).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn read(files: Vec<(PathBuf, String)>) -> Result<Vec<(Vec<u8>, String)>> {
    let read = |(from, to): (PathBuf, String)| {
        let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok((content, to))
    };
    files.into_iter().map(read).collect()
}

/// Returns the position of the host's `path` in a tree at `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Writes one file of a tree, compressed if its name says so.
fn place(root: &Path, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let file = below(root, path);
    fs::create_dir_all(file.parent().context("a path without a directory")?)?;
    match path.strip_suffix(".gz") {
        None => fs::write(&file, content)?,
        Some(plain) => {
            let plain = below(root, plain);
            fs::write(&plain, content)?;
            tarball::compress(&plain)?;
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", file.display()))
}

/// Directories may be entered by everybody, whatever umask the builder has.
fn open_directories(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

/// The time that everything in a package has, in seconds since 1970.
fn epoch(workspace: &Workspace) -> Result<String> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let of_commit = || {
        // In a container the checkout may belong to another user.
        let trusted = format!("safe.directory={}", workspace.root.display());
        let mut git = Command::new("git");
        git.args(["-c", &trusted, "log", "-1", "--format=%ct"]).current_dir(&workspace.root);
        process::probe(&mut git)
    };
    match given.or_else(of_commit) {
        Some(epoch) if epoch.parse::<u64>().is_ok() => Ok(epoch),
        Some(other) => bail!(
            "SOURCE_DATE_EPOCH={other} is no number of seconds since 1970; set it to one, such as \
             $(date +%s)"
        ),
        None => bail!(
            "{} is no git checkout, so its date is not known: set SOURCE_DATE_EPOCH to a number of \
             seconds since 1970, such as $(date +%s)",
            workspace.root.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tcpguard_support::contents::FORMATS;

    use super::*;

    #[test]
    fn every_file_of_the_list_is_there_and_goes_to_a_place_of_its_own() {
        let workspace = Workspace::locate().unwrap();
        for format in FORMATS.iter().copied() {
            // Both packages may be on one host.
            let mut places = BTreeSet::new();
            let items = PACKAGES.iter().flat_map(|package| package.items);
            for item in items.filter(|item| item.is_in(format)) {
                assert!(item.to.starts_with('/'), "{item:?}");
                let several = matches!(item.source, Source::Files(..) | Source::Manual(_));
                let directory = several || item.source == Source::Directory;
                assert_eq!(item.to.ends_with('/'), directory, "{item:?}");
                let is_shared = several || item.to == "/INSTALL";
                assert!(places.insert(item.to) || is_shared, "{} is there twice", item.to);
                let files = item.files(&workspace.root).unwrap();
                assert!(files.iter().all(|(from, _)| from.is_file()), "{files:?}");
                let named = matches!(item.source, Source::File(_) | Source::Files(..));
                assert_eq!(files.is_empty(), !named, "{item:?}");
            }
        }
    }

    #[test]
    fn a_file_gets_its_mode_and_what_ends_in_gz_is_compressed_without_a_time() {
        let root = tempfile::tempdir().unwrap();
        place(root.path(), "/usr/sbin/program", b"#!", 0o755).unwrap();
        let program = fs::metadata(root.path().join("usr/sbin/program")).unwrap();
        assert_eq!(program.permissions().mode() & 0o7777, 0o755);

        place(root.path(), "/usr/share/page.8.gz", b"page", 0o644).unwrap();
        let page = fs::read(root.path().join("usr/share/page.8.gz")).unwrap();
        // RFC 1952: magic, method, flags (no name), four bytes of time.
        assert_eq!(page[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert!(!root.path().join("usr/share/page.8").exists());
    }

    #[test]
    fn directories_are_open_whatever_the_umask_was() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("usr/share");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        open_directories(root.path()).unwrap();
        assert_eq!(fs::metadata(inner).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    /// Nothing is published that a push would have failed.
    #[test]
    fn a_release_needs_each_check_of_a_push() {
        let root = Workspace::locate().unwrap().root;
        let workflow = |name: &str| fs::read_to_string(root.join(".github/workflows").join(name));
        let matrix = |text: &str| -> Vec<String> {
            let lines = text.lines().skip_while(|line| line.trim() != "runner: [ubuntu-24.04]");
            lines.take_while(|line| line.starts_with("        ")).map(str::to_owned).collect()
        };
        let [push, release] = ["ci.yml", "release.yml"].map(|name| workflow(name).unwrap());
        assert!(matrix(&push).iter().any(|line| line.contains("verb: [check, ")), "{push}");
        assert_eq!(matrix(&release), matrix(&push));
        assert!(release.contains("\n  publish:\n    needs: [check, dist]\n"), "{release}");
        assert!(release.contains("cargo xtask dist --twice --install\n"), "{release}");
    }

    #[test]
    fn the_description_fits_into_the_columns_of_both_formats() {
        for package in PACKAGES {
            assert!(package.description.lines().all(|line| line.len() <= 79), "{}", package.name);
            assert!(package.summary.len() < 60, "{}", package.summary);
        }
    }
}
