//! One guest: its boot image, and its run to power-off.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{flood, initramfs::Initramfs, stacked};
use crate::debian::{Emulator, Kernel};
use crate::platform::Platform;
use crate::process;

/// The interface that XDP programs are attached to; one end of a veth pair.
pub const INTERFACE: &str = "uplink";

/// The guest's last line; without it, it did not come to its end.
const END: &str = "guest: end";

/// Emulated and on one busy CPU a guest takes some minutes, as does a verifier at its limit of a million instructions.
/// After this it hangs.
const LIMIT_SECONDS: &str = "900";

const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
insmod /veth.ko
ip link add uplink type veth
mount -t bpf bpf /sys/fs/bpf
mkdir -p /run /var/lib
# Kernels before 5.11 count BPF maps as locked memory.
ulimit -l unlimited
. /job
echo 'guest: end'
poweroff -f
";

/// Paths of modules to be loaded, below the kernel's modules. Nothing in the guest loads one by itself.
pub const MODULES: [&str; 5] = [
    "drivers/net/veth.ko",
    "net/sched/sch_ingress.ko",
    "net/sched/cls_bpf.ko",
    "net/ipv4/inet_diag.ko",
    "net/ipv4/tcp_diag.ko",
];

/// Prefix of the agent's status, as JSON on one line.
pub const STATUS: &str = "guest: status ";
/// Prefix of two times of the boot's clock, in seconds: just before the administrator blocked the
/// client for [`BLOCK_S`], and when it got in again.
pub const BLOCK: &str = "guest: block ";
/// Duration for which the client is blocked, in seconds. Meanwhile the time of day is set a year ahead and then
/// two years back, and after each the agent is killed and another starts.
pub const BLOCK_S: u32 = 40;

/// The agent itself between two network namespaces, after the doctor. A client completes a handshake with a listener
/// behind the attached interface, and `status` reports it. It is the second agent, which takes over the state that the first has left. Then a block has to end at its time,
/// however the clock is set. An agent and the listener stay. The modules are for clsact, to which kernels without TCX
/// attach.
const LIVE: &str = "for module in sch_ingress cls_bpf inet_diag tcp_diag; do insmod /$module.ko; done
unshare -n sleep 900 &
peer=$!
until [ \"$(readlink /proc/$peer/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do usleep 50000; done
ip link set veth0 netns $peer
nsenter -t $peer -n ip addr add 192.0.2.2/24 dev veth0
nsenter -t $peer -n ip link set veth0 up
ip addr add 192.0.2.1/24 dev uplink
ip link set uplink up
echo \"guest: doctor $(/tcpguard doctor --interface uplink --json | tr -d '\n')\"
nc -ll -p 443 -e echo served &
for start in first second; do
    /tcpguard run --interface uplink --mode enforce &
    agent=$!
    timeout 60 /tcpguard status --wait healthy --brief
    if [ $start = first ]; then kill $agent; wait $agent; fi
done
nsenter -t $peer -n timeout 10 nc 192.0.2.1 443 < /dev/null
sleep 1
echo \"guest: status $(/tcpguard status --json | tr -d '\n')\"
boot_clock() { cut -d ' ' -f 1 /proc/uptime; }
blocked=$(boot_clock)
/tcpguard block 192.0.2.2 --for 40s --force
for seconds in 31536000 -63072000; do
    date -s @$(($(date +%s) + seconds))
    kill -9 $agent
    wait $agent
    /tcpguard run --interface uplink --mode enforce &
    agent=$!
    timeout 60 /tcpguard status --wait healthy --brief
done
until nsenter -t $peer -n timeout 1 nc 192.0.2.1 443 < /dev/null | grep -q served; do :; done
echo \"guest: block $blocked $(boot_clock)\"
";

/// The work of a guest once it has started.
pub struct Job {
    /// Follows [`INIT`].
    pub script: String,
    /// Paths of modules that it loads, below the kernel's modules.
    pub modules: Vec<&'static str>,
    /// Programs of Debian and their libraries, by the paths in the guest, which begin with no slash.
    pub files: BTreeMap<String, PathBuf>,
}

impl Job {
    /// The programs of all objects, the agent, and a flood. `stacked` adds the cases of bonds and VLANs.
    pub fn ordinary(stacked: bool) -> Self {
        let (more, more_modules) =
            if stacked { (stacked::SCRIPT, &stacked::MODULES[..]) } else { ("", &[][..]) };
        Self {
            script: format!("/load {INTERFACE} /objects/*.o\n{LIVE}{}{more}", flood::SCRIPT),
            modules: MODULES.iter().chain(more_modules).copied().collect(),
            files: BTreeMap::new(),
        }
    }
}

/// Writes the initramfs of a guest to `path`.
pub fn image(
    path: &Path,
    job: &Job,
    emulator: &Emulator,
    kernel: &Kernel,
    programs: &Programs,
    objects: &[PathBuf],
) -> Result<()> {
    let mut archive = Initramfs::default();
    for directory in ["bin", "dev", "proc", "sys", "objects"] {
        archive.directory(directory);
    }
    let files: BTreeMap<&str, &Path> = programs
        .libraries
        .iter()
        .chain(&job.files)
        .map(|(path, file)| (path.as_str(), file.as_path()))
        .collect();
    for directory in directories(files.keys().copied()) {
        archive.directory(directory);
    }
    for (path, file) in files {
        archive.file(path, &read(file)?);
    }
    archive.file("init", INIT.as_bytes());
    archive.file("bin/busybox", &read(emulator.busybox())?);
    archive.file("job", job.script.as_bytes());
    archive.file("load", &read(&programs.loader)?);
    archive.file("guest", &read(&programs.attacker)?);
    archive.file("tcpguard", &read(&programs.agent)?);
    for path in &job.modules {
        let (_, name) = path.rsplit_once('/').context("a module without a folder")?;
        archive.file(name, &module(&kernel.modules.join(path))?);
    }
    for object in objects {
        let name = object.file_name().context("an object without a name")?;
        archive.file(&format!("objects/{}", name.to_string_lossy()), &read(object)?);
    }
    fs::write(path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))
}

/// The programs that a guest runs.
pub struct Programs {
    /// The test kit's `load`.
    pub loader: PathBuf,
    /// The test kit's `guest`.
    pub attacker: PathBuf,
    /// `tcpguard` itself.
    pub agent: PathBuf,
    /// Their libraries, by the paths in the guest, which begin with no slash.
    pub libraries: BTreeMap<String, PathBuf>,
}

/// The directories of files, each after its parent.
fn directories<'a>(files: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    files.flat_map(|path| path.match_indices('/').map(|(end, _)| &path[..end])).collect()
}

/// Boots, keeps the console in `log`, and returns its text.
///
/// # Errors
/// When QEMU cannot be started or the guest does not come to its end.
pub fn boot(emulator: &Emulator, kernel: &Kernel, image: &Path, log: &Path) -> Result<String> {
    let qemu = emulator.command();
    let mut command = Command::new("timeout");
    // In the foreground, so that an interrupt from the terminal reaches QEMU too.
    command.args(["--foreground", "--kill-after", "5", LIMIT_SECONDS]);
    command.arg(qemu.get_program()).args(qemu.get_args());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-nic", "none", "-serial", "stdio"]);
    let (machine, console) = match emulator.guest() {
        Platform::Amd64 => ("q35", "ttyS0"),
        Platform::Arm64 => ("virt", "ttyAMA0"),
    };
    // With more than one CPU some kernels do not come up under emulation.
    command.args(["-M", machine, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024"]);
    command.arg("-append").arg(format!("console={console} quiet panic=-1"));
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| process::not_started(&process::line(&command), error))?;
    let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    fs::write(log, &console).with_context(|| format!("cannot write {}", log.display()))?;
    if !console.lines().any(|line| line == END) {
        bail!("Linux {} did not come to its end; its console: {}", kernel.release, log.display());
    }
    Ok(console)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A kernel module, unpacked if it is compressed, as Debian's are from 6.12 on.
fn module(path: &Path) -> Result<Vec<u8>> {
    if path.is_file() {
        return read(path);
    }
    let compressed = path.with_extension("ko.xz");
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(&compressed)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| process::not_started("xz", error))?;
    if !output.status.success() {
        bail!("cannot unpack {}", compressed.display());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::doctor;

    #[test]
    fn a_directory_comes_after_its_parent() {
        let libraries = ["lib/aarch64-linux-gnu/libc.so.6", "lib/ld-linux-aarch64.so.1"];
        let directories = directories(libraries.into_iter());
        assert_eq!(Vec::from_iter(directories), ["lib", "lib/aarch64-linux-gnu"]);
    }

    #[test]
    fn the_guests_script_and_the_host_speak_of_the_same_things() {
        assert!(INIT.contains(&format!("echo '{END}'")));
        assert!(INIT.contains(&format!("ip link add {INTERFACE} type veth")));
        assert!(LIVE.contains(&format!("echo \"{STATUS}$(")));
        assert!(LIVE.contains(&format!("echo \"{BLOCK}$blocked")));
        assert!(LIVE.contains(&format!("echo \"{}$(", doctor::REPORT)));
        assert!(LIVE.contains(&format!("--for {BLOCK_S}s ")));
    }
}
