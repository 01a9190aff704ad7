//! The BPF objects on other kernels: Debian's, booted under QEMU without hardware virtualisation.
//!
//! A program that one kernel's verifier accepts another's may refuse, in either direction. Each
//! kernel gets an initramfs of busybox, some modules, the C library, the `load` and `guest` of the test kit
//! and tcpguard. It has to name the features that the kernel lacks, to see one handshake, to mitigate a flood, and to
//! leave nothing when it is detached. Packages are unpacked below `<target>/vm`; nothing is installed on the machine.

mod doctor;
mod flood;
mod guest;
mod initramfs;
mod kernel;
pub mod record;
mod stacked;
mod steered;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    build, debian,
    libc::{CLibrary, Needs},
    platform::Platform,
    process::{self, timed},
    setup::{self, Purpose},
    workspace::Workspace,
    zig,
};
use guest::{Job, Programs};
use kernel::Kernel;

/// The kernels that can be asked for, oldest first: a version, and the platform if it is not x86-64.
pub const KERNELS: [&str; 7] =
    ["5.10", "6.1", "6.12", "6.12-arm64", "6.12-arm64-16k", "7.2", "7.3"];

/// The guest with each of these kernels. The oldest one stands for 5.15, which Debian does not have.
const GUESTS: [Guest; 7] = [
    Guest::amd64("bullseye"),
    Guest::amd64("bookworm"),
    Guest { suite: "bookworm-backports", platform: Platform::Amd64, flavour: STACKED },
    Guest::arm64("bookworm-backports", "cloud-arm64"),
    Guest::arm64("trixie", "arm64-16k"),
    Guest::amd64("forky"),
    Guest::amd64("trixie-backports"),
];

/// Flavour of the full kernel, whose guests have bonds, VLANs and the cases of [`steered`].
const STACKED: &str = "amd64";

/// A kernel of Debian.
struct Guest {
    suite: &'static str,
    platform: Platform,
    /// End of the kernel's name.
    flavour: &'static str,
}

impl Guest {
    /// With a small kernel: virtio, serial console, veth and BTF.
    const fn amd64(suite: &'static str) -> Self {
        Self { suite, platform: Platform::Amd64, flavour: "cloud-amd64" }
    }

    const fn arm64(suite: &'static str, flavour: &'static str) -> Self {
        Self { suite, platform: Platform::Arm64, flavour }
    }

    /// The part of a kernel's release that distinguishes it from others: `6.1.0-50` of `6.1.0-50-cloud-amd64`, with
    /// the flavour behind it on another platform.
    fn name(&self, release: &str) -> String {
        let version = release.strip_suffix(self.flavour).unwrap_or(release).trim_end_matches('-');
        match self.platform {
            Platform::Amd64 => version.to_owned(),
            Platform::Arm64 => format!("{version} {}", self.flavour.trim_start_matches("cloud-")),
        }
    }
}

/// The object that is there to be refused, which the row of G10 shows on the running kernel. Emulated
/// guests would take minutes to get there.
const REFUSED: &str = "naive";
/// The object of tests with helpers of Linux 6.0, and the version without them.
const TOO_NEW: (&str, &str) = ("reference", "5.10");

/// Loads every BPF object on the running kernel and on `kernels` (all that are known if empty), and
/// prints the verification cost of each program and the observations of the agent. With `update`
/// these become the record which later runs are held to.
///
/// # Errors
/// When something cannot be built, downloaded or booted, any kernel refuses a program or takes
/// longer to verify it than its budget allows, or the agent does not behave on it as expected.
pub fn run(workspace: &Workspace, kernels: &[String], update: bool) -> Result<()> {
    if update && !(kernels.is_empty() && setup::is_root()) {
        bail!("only a run of all kernels, as root, can be recorded: cargo xtask vm --update");
    }
    let guests: Vec<(&str, Guest)> = KERNELS
        .into_iter()
        .zip(GUESTS)
        .filter(|(name, _)| kernels.is_empty() || kernels.iter().any(|wanted| wanted == name))
        .collect();
    let mut platforms: BTreeSet<Platform> = guests.iter().map(|(_, it)| it.platform).collect();
    let mut purposes = vec![Purpose::Build, Purpose::Program, Purpose::Guests];
    if setup::is_root() {
        purposes.push(Purpose::Lab);
        platforms.insert(Platform::OWN);
    }
    if platforms.iter().any(|platform| *platform != Platform::OWN) {
        purposes.push(Purpose::Foreign);
    }
    setup::ensure(&purposes)?;
    let mut objects = build::bpf_objects(workspace)?;
    objects.retain(|object| object.file_stem().is_none_or(|name| name != REFUSED));
    let mut programs = BTreeMap::new();
    for platform in platforms {
        programs.insert(platform, self::programs(workspace, platform)?);
    }
    let store = workspace.target.join("vm");

    let mut columns = Vec::new();
    if setup::is_root() {
        columns.push(here(&store, &programs[&Platform::OWN].loader, &objects)?);
    } else {
        process::announce("not root: the running kernel is left out");
    }
    for (name, guest) in guests {
        columns.push(booted(&store, name, &guest, &programs[&guest.platform], &objects)?);
    }
    print!("{}", table::render(&columns));
    let failures: usize = columns.iter().map(Kernel::failures).sum();
    if failures > 0 {
        bail!("{failures} refused or failed; the kernels' words are in {}", store.display());
    }
    if update {
        record::update(workspace, &columns)?;
    }
    let record = record::read(workspace)?;
    let exceeded: Vec<String> =
        columns.iter().flat_map(|kernel| record.exceeded(&kernel.name, &kernel.programs)).collect();
    for program in &exceeded {
        println!("BUDGET {program}");
    }
    if !exceeded.is_empty() {
        bail!("{} programs take longer to verify than they may", exceeded.len());
    }
    Ok(())
}

/// Boots the guest of the kernel that is asked for by `name`: once, and again for [`steered`] where there are its modules.
fn booted(
    store: &Path,
    name: &str,
    guest: &Guest,
    programs: &Programs,
    objects: &[PathBuf],
) -> Result<Kernel> {
    let directory = store.join(name);
    let kernel = debian::kernel(&directory, guest.platform, guest.suite, guest.flavour)?;
    let (version, _) = name.split_once('-').unwrap_or((name, ""));
    if !kernel.release.starts_with(&format!("{version}.")) {
        bail!(
            "{} has moved on from {version} to {}; name a suite that has it, in \
             xtask/src/vm/mod.rs",
            guest.suite,
            kernel.release
        );
    }
    let emulator = debian::emulator(store, guest.platform)?;
    let run = |job: &Job, part: &str, objects: &[PathBuf]| {
        let image = directory.join("initramfs");
        guest::image(&image, job, &emulator, &kernel, programs, objects)?;
        timed(&format!("Linux {}{part}", kernel.release), || {
            guest::boot(&emulator, &kernel, &image, &directory.join(format!("console{part}.log")))
        })
    };
    let (new, old) = TOO_NEW;
    let mut objects = objects.to_vec();
    objects.retain(|object| version != old || object.file_stem().is_none_or(|it| it != new));
    let stacked = guest.flavour == STACKED;
    let console = run(&Job::ordinary(stacked), "", &objects)?;
    let mut column = Kernel::booted(&guest.name(&kernel.release), &console)?;
    if stacked {
        column.cases.extend(stacked::results(&console));
        let console = run(&steered::job(store, guest.platform)?, "-steered", &[])?;
        column.cases.extend(steered::results(&console));
    }
    Ok(column)
}

/// Builds the programs for a platform. A guest has no libraries, so they bring their own.
fn programs(workspace: &Workspace, platform: Platform) -> Result<Programs> {
    let mut command = zig::cargo(workspace, "zigbuild", platform)?;
    command.args(["--release", "--package", "tcpguard-e2e", "--bin", "load", "--bin", "guest"]);
    process::run(command.args(["--package", "tcpguard", "--bin", "tcpguard"]))?;
    let release = workspace.target.join(platform.triple()).join("release");
    let [loader, attacker, agent] = ["load", "guest", "tcpguard"].map(|it| release.join(it));
    let libc = CLibrary::get(workspace, platform)?;
    let mut libraries = BTreeMap::new();
    for program in [&loader, &attacker, &agent] {
        for (path, file) in libc.files(&Needs::of(program)?)? {
            // A guest has /lib, and nothing in /usr.
            let path = path.trim_start_matches("/usr").trim_start_matches('/');
            libraries.insert(path.to_owned(), file);
        }
    }
    Ok(Programs { loader, attacker, agent, libraries })
}

/// Loads on the running kernel, in a network namespace that ends with the loader.
fn here(store: &Path, loader: &Path, objects: &[PathBuf]) -> Result<Kernel> {
    fs::create_dir_all(store).with_context(|| format!("cannot create {}", store.display()))?;
    let words = store.join("running.log");
    let log = File::create(&words).with_context(|| format!("cannot write {}", words.display()))?;
    let script = format!("ip link add {0} type veth && exec \"$@\"", guest::INTERFACE);
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script, "sh"]).arg(loader).arg(guest::INTERFACE);
    command.args(objects).stderr(log);
    let output = command.output().map_err(|error| process::not_started("unshare", error))?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Kernel::loaded(&format!("{} here", release.trim()), &String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_by_its_version_and_its_flavour_on_another_platform() {
        let [amd64, _, _, arm64, large_pages, ..] = GUESTS;
        assert_eq!(amd64.name("6.1.0-50-cloud-amd64"), "6.1.0-50");
        assert_eq!(arm64.name("6.12.95+deb12-cloud-arm64"), "6.12.95+deb12 arm64");
        assert_eq!(large_pages.name("6.12.95+deb13-arm64-16k"), "6.12.95+deb13 arm64-16k");
    }

    #[test]
    fn the_name_of_each_guest_ends_like_its_kernel() {
        for (name, guest) in KERNELS.into_iter().zip(GUESTS) {
            let flavour = name.split_once('-').map_or("amd64", |(_, flavour)| flavour);
            assert_eq!(guest.flavour.trim_start_matches("cloud-"), flavour, "{name}");
        }
    }
}
