//! Alerts and counters of the agent, as an outside observer sees them.
//!
//! Alerts are taken where journald takes them, at the moment of their arrival: a delay lasts until an
//! operator can know. Counters are read over the control socket, four times a second.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tcpguard::config::DEFAULT_PIN_DIR;
use tcpguard::control::{Client, Request, Response};
use tcpguard::documents::Status;
use tcpguard::telemetry::journal::SOCKET;
use tcpguard_engine::MitigationState;
use tcpguard_eval::judge::Alert;
use tcpguard_kit::daemon::agent::RUNTIME_DIR;
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::lab::PORT;
use tcpguard_kit::net::netns::Netns;
use tcpguard_sim::{POLL, Tick};

use crate::entry;

/// Longest entry taken; those of a real alert have a few hundred bytes.
const LONGEST: usize = 64 * 1024;
/// Time that a thread waits before it checks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Observations of a meter.
#[derive(Debug, Default)]
pub struct Seen {
    /// All alerts about incidents, with their times in s since boot.
    pub alerts: Vec<Alert>,
    /// The listener's ticks, with their times.
    pub ticks: Vec<Tick>,
    /// Numbers of the rules that were made.
    pub rules: BTreeSet<u32>,
    /// Mitigations that were active beside them.
    pub mitigations: BTreeSet<String>,
}

/// Monitors the agent of one host.
pub struct Meter {
    stop: Arc<AtomicBool>,
    alerts: Arc<Mutex<Vec<Alert>>>,
    reader: JoinHandle<Result<()>>,
    poller: JoinHandle<Result<Seen>>,
}

impl Meter {
    /// Replaces `host`'s journal, so the agent must not run yet.
    pub fn start(host: &Netns) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let socket = host.run(|| {
            let directory = PathBuf::from(SOCKET);
            std::fs::create_dir_all(directory.parent().context("the socket has a directory")?)?;
            Ok(UnixDatagram::bind(SOCKET)?)
        })?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&alerts));
        let reader = host.spawn("alerts", move || read(&socket, &shared, &stopped))?;
        let stopped = Arc::clone(&stop);
        let poller = host.spawn("meter", move || poll(&stopped))?;
        Ok(Self { stop, alerts, reader, poller })
    }

    /// Waits until the alerts so far fulfil `condition`, at most for `limit`.
    pub fn wait_until(&self, limit: Duration, condition: impl Fn(&[Alert]) -> bool) {
        let begun = Instant::now();
        while !condition(&lock(&self.alerts)) && begun.elapsed() < limit {
            sleep(LOOK_UP);
        }
    }

    /// Ends it. The agent must still run.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow::anyhow!("a thread that watched the agent panicked");
        self.reader.join().map_err(panicked)?.context("alerts")?;
        let seen = self.poller.join().map_err(panicked)?.context("counters")?;
        Ok(Seen { alerts: std::mem::take(&mut lock(&self.alerts)), ..seen })
    }
}

fn lock(alerts: &Mutex<Vec<Alert>>) -> MutexGuard<'_, Vec<Alert>> {
    alerts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Now, in s since boot.
fn now() -> f64 {
    boot_ns() as f64 / 1e9
}

fn read(socket: &UnixDatagram, alerts: &Mutex<Vec<Alert>>, stop: &AtomicBool) -> Result<()> {
    let mut buffer = vec![0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(length) => lock(alerts).extend(entry::alert(&buffer[..length], now())?),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Packets counted so far.
#[derive(Clone, Copy, Default)]
struct Counts {
    syn: u64,
    syn_ack: u64,
    fin: u64,
    rst: u64,
    established: u64,
}

fn poll(stop: &AtomicBool) -> Result<Seen> {
    let client =
        Client { runtime_dir: RUNTIME_DIR.into(), socket: None, pin_dir: DEFAULT_PIN_DIR.into() };
    let mut seen = Seen::default();
    let mut last: Option<Counts> = None;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match client.call(Request::Status) {
            Ok(Response::Status(status)) => {
                let counts = counts(&status);
                if let Some(last) = last.replace(counts) {
                    seen.ticks.push(tick(&status, last, counts));
                }
                note(&status, &mut seen);
            }
            Ok(other) => bail!("no status: {other:?}"),
            // It may not be there yet.
            Err(_) if last.is_none() => {}
            Err(error) => return Err(error.into()),
        }
        // One that was late is made up for: others count by the number of ticks.
        next += POLL;
        sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(seen)
}

fn counts(status: &Status) -> Counts {
    let listeners = status.listeners.iter().filter(|listener| listener.port == PORT);
    let mut counts = Counts::default();
    for totals in listeners.map(|listener| &listener.totals) {
        counts.syn += totals.syn;
        counts.syn_ack += totals.syn_ack + totals.cookies_sent;
        counts.established += totals.established.unwrap_or(totals.acknowledged);
    }
    // The service is all that is there: these are its clients'.
    for classes in status.interfaces.iter().map(|interface| &interface.totals.classes) {
        let of = |class| classes.get(class).copied().unwrap_or(0);
        counts.fin += of("fin");
        counts.rst += of("rst");
    }
    counts
}

fn tick(status: &Status, last: Counts, counts: Counts) -> Tick {
    let listeners = || status.listeners.iter().filter(|listener| listener.port == PORT);
    Tick {
        at: now(),
        syn: counts.syn.saturating_sub(last.syn),
        syn_ack: counts.syn_ack.saturating_sub(last.syn_ack),
        fin: counts.fin.saturating_sub(last.fin),
        rst: counts.rst.saturating_sub(last.rst),
        established: counts.established.saturating_sub(last.established),
        half_open: listeners().filter_map(|listener| listener.half_open).sum(),
        backlog: listeners().filter_map(|listener| listener.half_open_limit).max().unwrap_or(0),
    }
}

fn note(status: &Status, seen: &mut Seen) {
    seen.rules.extend(status.rules.list.iter().map(|rule| rule.id));
    let mitigations = status.listeners.iter().flat_map(|listener| &listener.mitigations);
    // Rules are counted by themselves.
    let taken = mitigations.filter(|mitigation| {
        mitigation.state == MitigationState::Active && !mitigation.mitigation.is_done_by_rules()
    });
    seen.mitigations.extend(taken.map(|mitigation| mitigation.mitigation.name().to_owned()));
}
