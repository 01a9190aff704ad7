//! The BPF objects on other kernels: Debian's, booted under QEMU without hardware virtualisation.
//!
//! A program that one kernel's verifier accepts another's may refuse, in either direction. Each
//! kernel gets an initramfs of busybox, some modules, the statically linked `load` of the test kit
//! and tcpguard, which has to see one handshake; and is off again after a few seconds. Packages are
//! unpacked below `<target>/vm`; nothing is installed on the machine.

pub mod debian;
mod guest;
mod initramfs;
mod kernel;
pub mod record;
mod stacked;
mod table;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    build, environment,
    process::{self, timed},
    setup::{self, Purpose},
    workspace::Workspace,
};
use guest::Programs;
use kernel::Kernel;

/// The versions that can be asked for, oldest first.
pub const KERNEL_VERSIONS: [&str; 5] = ["5.10", "6.1", "6.12", "7.2", "7.3"];

/// Debian's suite with the kernel of each version. The oldest one stands for 5.15, which Debian does not have.
const SUITES: [&str; 5] =
    ["bullseye", "bookworm", "bookworm-backports", "forky", "trixie-backports"];

/// The version whose guest has the full kernel, for bonds and VLANs.
const STACKED: &str = "6.12";

/// The object that is there to be refused, which the row of G10 shows on the running kernel. Emulated
/// guests would take minutes to get there.
const REFUSED: &str = "naive";
/// The object of tests with helpers of Linux 6.0, and the version without them.
const TOO_NEW: (&str, &str) = ("reference", "5.10");

/// Debian's architecture, the kernels' and QEMU's; rustc's triple.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

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
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the guests are x86_64, and emulating them here has not been tried; on this kernel alone: \
             cargo xtask test -- object"
        );
    }
    let purposes = [Purpose::Build, Purpose::Guests, Purpose::Lab];
    setup::ensure(if setup::is_root() { &purposes } else { &purposes[..2] })?;
    let mut objects = build::bpf_objects(workspace)?;
    objects.retain(|object| object.file_stem().is_none_or(|name| name != REFUSED));
    let programs = programs(workspace)?;
    let store = workspace.target.join("vm");

    let mut columns = Vec::new();
    if setup::is_root() {
        columns.push(here(&store, &programs.loader, &objects)?);
    } else {
        process::announce("not root: the running kernel is left out");
    }
    for (version, suite) in KERNEL_VERSIONS.into_iter().zip(SUITES) {
        if kernels.is_empty() || kernels.iter().any(|wanted| wanted == version) {
            let stacked = version == STACKED;
            let (directory, package) = match stacked {
                true => (store.join(format!("{version}-full")), debian::FULL),
                false => (store.join(version), debian::CLOUD),
            };
            let kernel = debian::kernel(&directory, suite, package)?;
            if !kernel.release.starts_with(&format!("{version}.")) {
                bail!(
                    "{suite} has moved on from {version} to {}; name a suite that has it, in \
                     xtask/src/vm/mod.rs",
                    kernel.release
                );
            }
            let emulator = debian::emulator(&store.join("qemu"))?;
            let image = directory.join("initramfs");
            let (new, old) = TOO_NEW;
            let mut objects = objects.clone();
            objects
                .retain(|object| version != old || object.file_stem().is_none_or(|it| it != new));
            guest::image(&image, stacked, &emulator, &kernel, &programs, &objects)?;
            let console = timed(&format!("Linux {}", kernel.release), || {
                guest::boot(&emulator, &kernel, &image, &directory.join("console.log"))
            })?;
            let mut column = Kernel::loaded(debian::short(&kernel.release), &console)?;
            if stacked {
                column.stacked = stacked::results(&console);
            }
            columns.push(column);
        }
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

/// Linked statically, so that a guest needs no library.
fn programs(workspace: &Workspace) -> Result<Programs> {
    let mut command = environment::host_cargo(workspace);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command.args(["build", "--release", "--target", TRIPLE]);
    command.args(["--package", "tcpguard-e2e", "--bin", "load"]);
    process::run(command.args(["--package", "tcpguard", "--bin", "tcpguard"]))?;
    let release = workspace.target.join(TRIPLE).join("release");
    Ok(Programs { loader: release.join("load"), agent: release.join("tcpguard") })
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
