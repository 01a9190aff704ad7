//! Kernels, QEMU and other packages out of Debian's archive, unpacked and not installed.
//!
//! A private apt configuration (own sources, state, cache, architecture, and an empty list of installed
//! packages) makes apt resolve and verify as always, without touching the machine's own. The
//! mirror is the one that the machine uses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    platform::Platform,
    process::{self, timed},
    setup::DEBIAN_KEYS,
};

/// An archive by the label that it gives itself.
struct Archive {
    label: &'static str,
    /// Used where the machine's own sources name no mirror.
    address: &'static str,
}

const MAIN: Archive = Archive { label: "Debian", address: "http://deb.debian.org/debian/" };
const SECURITY: Archive =
    Archive { label: "Debian-Security", address: "http://deb.debian.org/debian-security/" };

pub struct Kernel {
    /// The release that `uname -r` prints.
    pub release: String,
    pub image: PathBuf,
    /// The directory `kernel/` of its modules.
    pub modules: PathBuf,
}

/// QEMU for a platform with every library that it needs down to the dynamic linker, and a busybox for its guests.
pub struct Emulator {
    guest: Platform,
    qemu: PathBuf,
    busybox: PathBuf,
}

/// The newest kernel of `suite` in a flavour such as `cloud-amd64`, unpacked in `directory`.
pub fn kernel(directory: &Path, platform: Platform, suite: &str, flavour: &str) -> Result<Kernel> {
    let metapackage = format!("linux-image-{flavour}");
    once(directory, platform, &format!("{metapackage} of {suite}"), |root, apt| {
        let apt = apt.prepare(&[suite])?;
        let mut depends = apt.command("apt-cache");
        depends.args(["depends", "--recurse", "--no-recommends", "--no-suggests"]);
        depends.args(["--no-conflicts", "--no-breaks", &metapackage]);
        let depends = process::output(&mut depends)?;
        let mut download = apt.command("apt-get");
        download.args(["-qq", "download"]).args(kernel_packages(&depends));
        process::run(download.current_dir(apt.archives()))?;
        apt.unpack(root)
    })?;
    find_kernel(&directory.join("root"))
}

/// The file of a package as `suite` has it, in `directory`.
pub fn package(directory: &Path, platform: Platform, suite: &str, name: &str) -> Result<PathBuf> {
    once(directory, platform, &format!("{name} of {suite}"), |root, apt| {
        let apt = apt.prepare(&[suite])?;
        let mut download = apt.command("apt-get");
        process::run(download.args(["-qq", "download", name]).current_dir(root))
    })?;
    let mut files = directory.join("root").read_dir()?;
    Ok(files.next().with_context(|| format!("apt-get downloaded no {name}"))??.path())
}

/// The directory with the files of a package, without those that it depends on. The name may end in `=VERSION`.
pub fn unpacked(
    directory: &Path,
    platform: Platform,
    suites: &[&str],
    name: &str,
) -> Result<PathBuf> {
    once(directory, platform, name, |root, apt| {
        let apt = apt.prepare(suites)?;
        let mut download = apt.command("apt-get");
        process::run(download.args(["-qq", "download", name]).current_dir(apt.archives()))?;
        apt.unpack(root)
    })?;
    Ok(directory.join("root"))
}

/// The directory with the files of packages and of all that they depend on, out of the last of the suites where it
/// has them.
pub fn complete(
    directory: &Path,
    platform: Platform,
    suites: &[&str],
    names: &[&str],
) -> Result<PathBuf> {
    once(directory, platform, &names.join(", "), |root, apt| {
        let apt = apt.prepare(suites)?;
        let mut install = apt.command("apt-get");
        install.args(["-qq", "--yes", "--no-install-recommends", "--download-only"]);
        install.arg(format!("--target-release={}", suites.last().context("no suite")?));
        process::run(install.arg("install").args(names))?;
        apt.unpack(root)
    })?;
    Ok(directory.join("root"))
}

/// QEMU for guests of a platform, below `store`. From `bookworm-backports`, since the one of bookworm crashes newer
/// guests now and then.
pub fn emulator(store: &Path, guest: Platform) -> Result<Emulator> {
    let name = match guest {
        Platform::Amd64 => "qemu-system-x86",
        Platform::Arm64 => "qemu-system-arm",
    };
    let qemu = store.join(format!("qemu-{}", guest.debian()));
    let qemu = complete(&qemu, Platform::OWN, &["bookworm", "bookworm-backports"], &[name])?;
    let busybox = store.join(format!("busybox-{}", guest.debian()));
    let busybox = unpacked(&busybox, guest, &["bookworm"], "busybox-static")?;
    Ok(Emulator { guest, qemu, busybox: busybox.join("bin/busybox") })
}

impl Emulator {
    /// QEMU with its own libraries, so that it does not depend on those of the machine.
    pub fn command(&self) -> Command {
        let own = Platform::OWN;
        let libraries = ["usr/lib", "lib"]
            .map(|directory| self.qemu.join(directory).join(own.multiarch()).display().to_string());
        let mut command =
            Command::new(self.qemu.join("lib").join(own.multiarch()).join(own.loader()));
        command.arg("--library-path").arg(libraries.join(":"));
        let program = format!("usr/bin/qemu-system-{}", self.guest.kernel());
        command.arg(self.qemu.join(program));
        command.arg("-L").arg(self.qemu.join("usr/share/qemu"));
        command.arg("-L").arg(self.qemu.join("usr/share/seabios"));
        command
    }

    /// Returns the platform of the guests.
    pub fn guest(&self) -> Platform {
        self.guest
    }

    /// The guest's shell and tools in one static program.
    pub fn busybox(&self) -> &Path {
        &self.busybox
    }
}

/// Runs `fill` unless `directory/root` is there: it appears only when it is complete.
fn once(
    directory: &Path,
    platform: Platform,
    what: &str,
    fill: impl FnOnce(&Path, Apt) -> Result<()>,
) -> Result<()> {
    let root = directory.join("root");
    if root.is_dir() {
        return Ok(());
    }
    timed(&format!("download of {what}"), || {
        let (partial, apt) = (directory.join("partial"), directory.join("apt"));
        for leftover in [&partial, &apt] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
            fs::create_dir_all(leftover)?;
        }
        fill(&partial, Apt { directory: apt.clone(), platform })?;
        fs::remove_dir_all(apt)?;
        Ok(fs::rename(partial, root)?)
    })
    .with_context(|| format!("cannot get {what} from Debian into {}", directory.display()))
}

/// An apt that knows only the files in its directory, and packages of one platform.
struct Apt {
    directory: PathBuf,
    platform: Platform,
}

impl Apt {
    fn prepare(self, suites: &[&str]) -> Result<Self> {
        fs::create_dir_all(self.directory.join("state/lists/partial"))?;
        fs::create_dir_all(self.archives().join("partial"))?;
        fs::write(self.directory.join("state/status"), "")?;
        let sources = suites.iter().map(|suite| {
            let archive = if suite.ends_with("-security") { SECURITY } else { MAIN };
            format!("deb [signed-by={DEBIAN_KEYS}] {} {suite} main\n", archive.mirror())
        });
        fs::write(self.directory.join("sources.list"), sources.collect::<String>())?;
        process::run(self.command("apt-get").args(["-qq", "update"]))?;
        Ok(self)
    }

    fn archives(&self) -> PathBuf {
        self.directory.join("cache/archives")
    }

    /// `program` of apt in this configuration; the machine's other settings (proxies) hold.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, value) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "state/status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            let value = self.directory.join(value);
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command.args(["-o", "Dir::Etc::sourceparts=-"]);
        for option in ["APT::Architecture", "APT::Architectures"] {
            command.arg("-o").arg(format!("{option}={}", self.platform.debian()));
        }
        // apt's own user cannot write below the target directory.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    fn unpack(&self, root: &Path) -> Result<()> {
        for entry in self.archives().read_dir()? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                process::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root))?;
            }
        }
        Ok(())
    }
}

/// The mirror of Debian in the machine's own sources.
pub fn mirror() -> String {
    MAIN.mirror()
}

impl Archive {
    fn mirror(&self) -> String {
        let mut command = Command::new("apt-get");
        let listed = process::probe(command.args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(LABEL) $(REPO_URI)",
            "Created-By: Packages",
        ]));
        self.among(&listed.unwrap_or_default()).unwrap_or(self.address).to_owned()
    }

    /// The archive of Debian with this label, and not one of another vendor.
    fn among<'a>(&self, listed: &'a str) -> Option<&'a str> {
        let own = format!("Debian {} ", self.label);
        listed.lines().find_map(|line| line.strip_prefix(own.as_str()))
    }
}

/// The packages that hold a kernel, out of everything that the metapackage pulls in: an image, or
/// since 7.x a binary and its modules.
fn kernel_packages(depends: &str) -> Vec<&str> {
    let wanted = |name: &&str| {
        ["linux-image-", "linux-binary-", "linux-modules-"]
            .iter()
            .filter_map(|prefix| name.strip_prefix(prefix))
            .any(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    };
    // Unindented lines are the packages, indented ones why they are there.
    depends.lines().filter(wanted).collect()
}

fn find_kernel(root: &Path) -> Result<Kernel> {
    let candidates = [root.join("usr/lib/modules"), root.join("lib/modules")];
    let modules = candidates
        .iter()
        .find(|directory| directory.is_dir())
        .with_context(|| format!("no modules below {}", root.display()))?;
    let release = modules
        .read_dir()?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .next()
        .with_context(|| format!("no kernel below {}", modules.display()))?;
    let modules = modules.join(&release);
    let images = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images
        .into_iter()
        .find(|image| image.is_file())
        .with_context(|| format!("no image of {release} below {}", root.display()))?;
    Ok(Kernel { image, modules: modules.join("kernel"), release })
}
