//! Speed of a capture's replay on one core, and the memory that it takes, whatever the length.

use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tcpguard::replay::{OnHost, replay};
use tcpguard_engine::Mode;

use crate::capture::{Kind, Traffic};
use crate::part::{Goal, Part, Report};
use crate::samples::Samples;

/// Amount to measure: all of it, or only enough to show that the benchmark works.
struct Amount {
    rounds: usize,
    /// Packets of the capture of which the replay is timed. The capture must fit into memory, so that making
    /// it costs nothing.
    timed: u64,
    /// Packets of the capture of which the replay's memory is measured. Another capture is ten times as long.
    weighed: u64,
}

const FULL: Amount = Amount { rounds: 7, timed: 4_000_000, weighed: 4_000_000 };
const QUICK: Amount = Amount { rounds: 3, timed: 400_000, weighed: 1_000_000 };

/// Servers of a capture with few packets of each.
const SERVERS: u64 = 3000;
/// Limit of the CPU time for its 9,000 packets, in seconds: the cost grows with packets, not with servers and time.
const FEW_PACKETS: f64 = 0.4;

/// Costs of replaying captures.
#[derive(Debug, Serialize)]
pub struct Replay {
    rounds: usize,
    /// Packets of each round.
    timed: u64,
    /// Packets of the shorter capture that was weighed.
    weighed: u64,
    costs: Vec<Costs>,
    /// CPU time of the replay of a few handshakes with one server, and with many, in seconds.
    one_server: Samples,
    many_servers: Samples,
}

/// Costs of one kind of capture.
#[derive(Debug, Serialize)]
struct Costs {
    kind: String,
    /// Packets per second of computing on one core: median, least and greatest of the rounds.
    rate: [f64; 3],
    /// Peak resident memory of `tcpguard replay -` in MiB: of a capture, and of one ten times as long.
    memory: [f64; 2],
}

/// Measures both kinds of capture.
///
/// # Errors
/// When a capture is not judged as it was made, or a longer one takes more memory.
pub fn measure(quick: bool) -> Result<Replay> {
    let Amount { rounds, timed, weighed } = if quick { QUICK } else { FULL };
    let mut costs = Vec::new();
    for kind in Kind::ALL {
        let rate = rate(kind, timed, rounds)?;
        let (short, long) = (weigh(kind, weighed)?, weigh(kind, 10 * weighed)?);
        ensure!(long < 1.1 * short + 4.0, "memory grows with the length of a capture");
        costs.push(Costs { kind: kind.in_words().to_owned(), rate, memory: [short, long] });
    }
    let [mut one_server, mut many_servers] = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        one_server.push(time(Kind::Servers(1), 3 * SERVERS)?.0);
        many_servers.push(time(Kind::Servers(SERVERS as u32), 3 * SERVERS)?.0);
    }
    Ok(Replay { rounds, timed, weighed, costs, one_server, many_servers })
}

/// Packets per second, by the host backend.
fn rate(kind: Kind, packets: u64, rounds: usize) -> Result<[f64; 3]> {
    let mut rates = Samples::default();
    for _ in 0..rounds {
        let (seconds, replayed) = time(kind, packets)?;
        rates.push(replayed as f64 / seconds);
    }
    rates.point().context("no rounds")
}

/// CPU time of a replay by the host backend, and the number of its packets.
fn time(kind: Kind, packets: u64) -> Result<(f64, u64)> {
    let mut capture = Vec::new();
    Traffic::new(kind, packets).read_to_end(&mut capture)?;
    let source = Box::new(Cursor::new(capture));
    let started = processor_time();
    let outcome = replay("capture", source, OnHost, Mode::Observe)?;
    let seconds = processor_time() - started;
    let floods = usize::from(kind == Kind::Flood);
    ensure!(outcome.replay.incidents.len() == floods, "{:?}", outcome.replay.incidents);
    Ok((seconds, outcome.replay.packets))
}

impl Part for Replay {
    const NAME: &'static str = "replay";

    /// Memory that does not grow is no target: without it there is nothing to show.
    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        let millions = |packets: u64| packets as f64 / 1e6;
        report.text(format!(
            "Replayed captures: 1000 packets per second on one core, {} rounds of {} M packets, and the \
             peak of resident memory by the number of packets.",
            self.rounds,
            millions(self.timed)
        ));
        let [short, long] =
            [1, 10].map(|times| format!("MiB, {} M", millions(times * self.weighed)));
        let row = |Costs { kind, rate, memory: [short, long] }: &Costs| {
            let [median, least, greatest] = rate.map(|rate| (rate / 1e3).round());
            let rate = format!("{median} ({least}–{greatest})");
            vec![kind.clone(), rate, format!("{short:.1}"), format!("{long:.1}")]
        };
        let columns = ["capture", "1000 packets/s (min–max)", &short, &long];
        report.table(&columns, self.costs.iter().map(row));
        let ratio = self.many_servers.over(&self.one_server);
        report.text(format!(
            "{SERVERS} handshakes, ten a second: {} s of CPU time with as many servers, {} times that with one.",
            self.many_servers.cell(2),
            ratio.cell(1)
        ));
        report.goals = vec![Goal {
            name: format!("replay, one handshake with each of {SERVERS} servers in 300 s"),
            unit: "s of CPU time".to_owned(),
            limit: FEW_PACKETS,
            note: format!("{} times one server", ratio.cell(1)),
            ..self.many_servers.goal()
        }];
        report
    }
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
