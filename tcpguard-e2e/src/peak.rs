//! How much memory the agent and calls of the command line take.

use std::io::{PipeWriter, Write};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::guard::{RUNTIME_DIR, binary};
use crate::netns::Netns;

/// For so long it must have waited, to have come to the end.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(20);

/// The most bytes of memory that were resident at once (`VmHWM`) while `tcpguard` ran with these
/// arguments, up to its output.
///
/// `getrusage` would count what this process had when the other was made from it. So the other is
/// given a pipe that is full already: it stops at its first output, when everything has been read and
/// judged, and can be looked at. From there on it writes piece by piece and needs no more.
///
/// # Errors
/// When it cannot be started, or does not come to its output within ten seconds.
pub fn memory(host: &Netns, arguments: &[&str]) -> Result<u64> {
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
fn at_its_output(child: &mut Child) -> Result<u64> {
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
    bytes(child.id(), "VmHWM")
}

/// The bytes of memory of a process that are resident now (`VmRSS`), pages of its program included.
///
/// # Errors
/// When there is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    bytes(pid, "VmRSS")
}

/// An amount of memory in `/proc/PID/status`, where they are in KiB.
fn bytes(pid: u32, name: &str) -> Result<u64> {
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
