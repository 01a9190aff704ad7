//! How fast a capture is replayed on one core, and how much memory that takes, whatever its length.

use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use tcpguard::replay::replay;
use tcpguard_common::model::Model;
use tcpguard_engine::Mode;

use crate::capture::{Kind, Traffic};
use crate::samples::Samples;

/// Packets of a capture whose replay is timed: it must fit into memory, so that making it costs
/// nothing.
const TIMED: u64 = 4_000_000;
const ROUNDS: usize = 7;
/// Packets of a capture whose replay is weighed, and of one ten times as long.
const WEIGHED: [u64; 2] = [4_000_000, 40_000_000];

/// Prints both.
pub fn run() -> Result<()> {
    println!("packets/s on one core, {ROUNDS} rounds of {TIMED} packets, host backend");
    println!("{:<36} {:>12} {:>12} {:>12}", "", "median", "min", "max");
    for kind in Kind::ALL {
        let mut capture = Vec::new();
        Traffic::new(kind, TIMED).read_to_end(&mut capture)?;
        let mut rates = Samples::default();
        for _ in 0..ROUNDS {
            let source = Box::new(Cursor::new(capture.clone()));
            let started = processor_time();
            let outcome = replay("capture", source, &mut Model::default(), Mode::Observe)?;
            rates.push(outcome.replay.packets as f64 / (processor_time() - started));
            let floods = usize::from(kind == Kind::Flood);
            ensure!(outcome.replay.incidents.len() == floods, "{:?}", outcome.replay.incidents);
        }
        let [median, least, most] = rates.point().context("no rounds")?;
        println!("{:<36} {median:>12.0} {least:>12.0} {most:>12.0}", kind.in_words());
    }
    println!("\npeak resident memory of `tcpguard replay -`, MiB");
    println!("{:<36} {:>12} {:>12}", "", "4 M packets", "40 M packets");
    for kind in Kind::ALL {
        let [short, long] = WEIGHED.map(|packets| weigh(kind, packets));
        let (short, long) = (short?, long?);
        println!("{:<36} {short:>12.1} {long:>12.1}", kind.in_words());
        ensure!(long < 1.1 * short + 4.0, "memory grows with the length of a capture");
    }
    Ok(())
}

/// Writes a capture to standard output.
pub fn write(kind: Kind, packets: u64) -> Result<()> {
    io::copy(&mut Traffic::new(kind, packets), &mut io::stdout().lock())?;
    Ok(())
}

/// Peak resident memory of a replay through a pipe, in MiB.
fn weigh(kind: Kind, packets: u64) -> Result<f64> {
    let program = std::env::var_os("TCPGUARD_BIN").map_or_else(beside, PathBuf::from);
    let mut child = Command::new(&program)
        .args(["replay", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut pipe = child.stdin.take().context("no pipe")?;
    let mut traffic = Traffic::new(kind, packets);
    let mut chunk = vec![0; 1 << 16];
    let mut peak = 0.0;
    for number in 0_u64.. {
        let count = traffic.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        // The high-water mark is gone with the process, so it is read while that waits for more.
        if number % 64 == 0 {
            peak = high_water_mark(child.id())?;
        }
        pipe.write_all(&chunk[..count])?;
    }
    drop(pipe);
    child.wait()?;
    Ok(peak)
}

/// Seconds that this process has computed: other programs on the machine do not count.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn beside() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.with_file_name("tcpguard")
}

fn high_water_mark(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
