//! Memory of the agent, of calls of the command line and of the agent's maps in the kernel, and other
//! resources of a process.

use std::collections::BTreeMap;
use std::io::{PipeWriter, Write};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fmt, fs, io};

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::daemon::agent::{RUNTIME_DIR, binary};
use crate::net::netns::Netns;

/// Bytes that stand for the pages of a program and of its libraries where it is not the packaged one. An allowance,
/// which was not measured.
const FILE_PAGES: u64 = 6 << 20;
/// For so long it must have waited, to have come to the end.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(20);

/// The most memory that was resident at once while `tcpguard` ran with these arguments, up to its output.
///
/// `getrusage` would also count the memory that this process had when it forked the child. So the child gets
/// a pipe that is already full. It stops at its first output, when everything has been read and judged, and
/// can be inspected. From there on it writes piece by piece and needs no more memory.
///
/// # Errors
/// When it cannot be started, or does not come to its output within ten seconds.
pub fn memory(host: &Netns, arguments: &[&str]) -> Result<Footprint> {
    let (reader, writer) = io::pipe()?;
    fill(&writer)?;
    let mut command = host.command(binary()?)?;
    command.args(arguments).args(["--runtime-dir", RUNTIME_DIR]);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start tcpguard")?;
    let peak = at_its_output(&mut child);
    child.kill()?;
    child.wait()?;
    drop(reader);
    peak
}

fn fill(mut writer: &PipeWriter) -> Result<()> {
    let flags = fcntl_getfl(writer)?;
    fcntl_setfl(writer, flags | OFlags::NONBLOCK)?;
    while writer.write(&[0; 4096]).is_ok() {}
    fcntl_setfl(writer, flags)?;
    Ok(())
}

/// Waits until it waits.
fn at_its_output(child: &mut Child) -> Result<Footprint> {
    let begun = Instant::now();
    let mut waited = 0;
    while waited < LOOKS {
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status} before its output");
        }
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("it has not come to its output after 10 s");
        }
        let waits = field(child.id(), "State")?.starts_with('S');
        waited = if waits { waited + 1 } else { 0 };
        sleep(LOOK);
    }
    let (resident, file) = (bytes(child.id(), "VmHWM")?, bytes(child.id(), "RssFile")?);
    Ok(Footprint { resident, file, maps: 0 })
}

/// A process's use of a host's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The most that was resident at once since [`forget_peak`] (`VmHWM`).
    pub resident: u64,
    /// The part of it that is pages of its program and libraries (`RssFile`). The host has them once, however
    /// many processes map them, and reclaims them when it is short of memory.
    pub file: u64,
    /// The maps of its descriptors, as the kernel accounts for them.
    pub maps: u64,
}

impl Footprint {
    /// Looks at a process.
    pub fn of(pid: u32) -> Result<Self> {
        let (resident, file) = (bytes(pid, "VmHWM")?, bytes(pid, "RssFile")?);
        Ok(Self { resident, file, maps: map_bytes(pid)?.values().sum() })
    }

    /// Looks at the memory of a process that is resident now, without its maps.
    pub fn now(pid: u32) -> Result<Self> {
        Ok(Self { resident: bytes(pid, "VmRSS")?, file: bytes(pid, "RssFile")?, maps: 0 })
    }

    /// Memory that is compared with a promised limit. Of the packaged program (`cargo xtask test --full`) it is all. The
    /// program of a quick build is larger, so of its pages only 6 MiB count.
    pub fn judged(&self) -> u64 {
        match env::var_os("TCPGUARD_PACKAGED") {
            Some(_) => self.sum(),
            None => self.sum() - self.file + FILE_PAGES,
        }
    }

    /// Heap and stacks: memory that no other process can use and that is free only once the process ends.
    pub const fn own(&self) -> u64 {
        self.resident.saturating_sub(self.file)
    }

    pub const fn sum(&self) -> u64 {
        self.resident + self.maps
    }
}

/// `61.5 MiB (15.2 resident, 8.2 of its program, + 46.3 of maps)`.
impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (sum, resident) = (mib(self.sum()), mib(self.resident));
        let (file, maps) = (mib(self.file), mib(self.maps));
        write!(
            f,
            "{sum:.1} MiB ({resident:.1} resident, {file:.1} of its program, + {maps:.1} of maps)"
        )
    }
}

/// Resets the peak of a process's resident memory to the present value.
pub fn forget_peak(pid: u32) -> Result<()> {
    // proc(5): 5 resets `VmHWM`.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset a peak of memory")
}

/// Properties of a BPF map and its memory, as the kernel describes them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MapMemory {
    /// Its type's number (`enum bpf_map_type`).
    pub kind: u64,
    /// Bytes of a key.
    pub key_size: u64,
    /// Bytes of a value, of one CPU's in a per-CPU map.
    pub value_size: u64,
    pub max_entries: u64,
    /// Flags that it was made with (`BPF_F_NO_PREALLOC`, …).
    pub flags: u64,
    /// Bytes that the kernel accounts for it.
    pub memlock: u64,
}

impl MapMemory {
    /// The map's id and the rest of it, if the description is of a map.
    fn parse(fdinfo: &str) -> Option<(u64, Self)> {
        let map = Self {
            kind: number(fdinfo, "map_type")?,
            key_size: number(fdinfo, "key_size")?,
            value_size: number(fdinfo, "value_size")?,
            max_entries: number(fdinfo, "max_entries")?,
            flags: number(fdinfo, "map_flags")?,
            memlock: number(fdinfo, "memlock")?,
        };
        Some((number(fdinfo, "map_id")?, map))
    }
}

/// The BPF maps of which a process holds a descriptor, by id.
pub fn maps(pid: u32) -> Result<BTreeMap<u64, MapMemory>> {
    of_descriptors(pid, MapMemory::parse)
}

/// Bytes that the kernel accounts for each of them, by id.
pub fn map_bytes(pid: u32) -> Result<BTreeMap<u64, u64>> {
    Ok(maps(pid)?.into_iter().map(|(id, map)| (id, map.memlock)).collect())
}

/// The interface's index for each BPF link to an interface of which a process holds a descriptor, by
/// the link's id. It is 0 where the interface has gone.
pub fn links(pid: u32) -> Result<BTreeMap<u64, u64>> {
    of_descriptors(pid, |text| Some((number(text, "link_id")?, number(text, "ifindex")?)))
}

/// Values from the kernel's descriptions of a process's descriptors.
fn of_descriptors<T>(
    pid: u32,
    said: impl Fn(&str) -> Option<(u64, T)>,
) -> Result<BTreeMap<u64, T>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("cannot list open files")? {
        // A descriptor may be gone by the time it is read, that of the own listing always is.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        all.extend(said(&text));
    }
    Ok(all)
}

/// Decimal, or hexadecimal as flags are.
fn number(fdinfo: &str, name: &str) -> Option<u64> {
    let mut fields = fdinfo.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find(|(key, _)| *key == name)?.1.trim();
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// The bytes of memory of a process that are resident now (`VmRSS`), pages of its program included.
pub fn resident(pid: u32) -> Result<u64> {
    bytes(pid, "VmRSS")
}

/// Files that a process has open.
pub fn descriptors(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).with_context(|| path.clone())?.count() as u64)
}

/// Threads of a process.
pub fn threads(pid: u32) -> Result<u64> {
    Ok(field(pid, "Threads")?.parse()?)
}

/// An amount of memory in `/proc/PID/status`, where they are in KiB.
pub(crate) fn bytes(pid: u32, name: &str) -> Result<u64> {
    let amount = field(pid, name)?;
    let kibibytes: u64 = amount.trim_end_matches(" kB").parse().context(amount)?;
    Ok(kibibytes * 1024)
}

/// A line of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name} in the status of {pid}"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_links_are_read_from_the_kernels_descriptions_of_descriptors() {
        let fdinfo = "pos:\t0\nmap_type:\t6\nkey_size:\t4\nvalue_size:\t16\nmax_entries:\t64\n\
                      map_flags:\t0x81\nmap_extra:\t0x0\nmemlock:\t8640\nmap_id:\t17\nfrozen:\t0\n";
        let (key_size, value_size, max_entries) = (4, 16, 64);
        let (flags, memlock) = (0x81, 8640);
        let map = MapMemory { kind: 6, key_size, value_size, max_entries, flags, memlock };
        assert_eq!(MapMemory::parse(fdinfo), Some((17, map)));
        assert_eq!(MapMemory::parse("pos:\t0\nflags:\t02\n"), None);
        let fdinfo = "link_type:\txdp\nlink_id:\t5\nprog_id:\t91\nifindex:\t3\n";
        assert_eq!((number(fdinfo, "link_id"), number(fdinfo, "ifindex")), (Some(5), Some(3)));
    }
}
