//! An agent without a host: it speaks to `tcpguard-fleet` as the agent does, reports what a test wants, and keeps the
//! messages that it gets. So a test of the fleet needs no flood.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tcpguard_engine::{FleetMessage, FleetReport};
use tcpguard_kit::daemon::agent::RUNTIME_DIR;
use tcpguard_kit::daemon::siege::SOCKET;
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::netns::Netns;

use crate::{documents, wait_for};

/// Interval of the reports.
const REPORT: Duration = Duration::from_millis(250);
/// Interval of looks at the socket.
const LOOK: Duration = Duration::from_millis(10);

/// A running stand-in. It ends when dropped.
#[derive(Debug)]
pub struct StandIn {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    report: Mutex<FleetReport>,
    messages: Mutex<Vec<(u64, FleetMessage)>>,
}

impl StandIn {
    /// Starts a stand-in on `host` that listens on these ports and has no incident.
    pub fn start(host: &Netns, ports: &[u16]) -> Result<Self> {
        let report = FleetReport { ports: ports.to_vec(), ..documents::calm_report() };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            report: Mutex::new(report),
            messages: Mutex::default(),
        });
        let listener = host.run(|| {
            fs::create_dir_all(RUNTIME_DIR)?;
            let path = Path::new(RUNTIME_DIR).join(SOCKET);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("cannot listen at {}", path.display()))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let served = Arc::clone(&shared);
        let thread = host.spawn("stand-in", move || serve(&listener, &served))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes the report. It goes out within a quarter of a second.
    pub fn report(&self, change: impl FnOnce(&mut FleetReport)) {
        change(&mut lock(&self.shared.report));
    }

    /// The messages so far, each with its time in nanoseconds since boot.
    pub fn messages(&self) -> Vec<(u64, FleetMessage)> {
        lock(&self.shared.messages).clone()
    }

    /// Forgets the messages so far.
    pub fn forget(&self) {
        lock(&self.shared.messages).clear();
    }

    /// Waits for a message that fulfils `condition`, and returns its time in nanoseconds since boot.
    ///
    /// # Errors
    /// When there is none within `limit`. The message names it by `what`.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&FleetMessage) -> bool,
    ) -> Result<u64> {
        let found = wait_for(what, limit, || {
            let messages = lock(&self.shared.messages);
            Ok(messages.iter().find(|(_, message)| condition(message)).map(|(at, _)| *at))
        });
        found.with_context(|| format!("the agent got {:?}", self.messages()))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                failure => eprintln!("the stand-in failed: {failure:?}"),
            }
        }
    }
}

/// A connection of a fleet process.
struct Connection {
    stream: UnixStream,
    /// Received bytes that are no whole line yet.
    rest: Vec<u8>,
}

fn serve(listener: &UnixListener, shared: &Shared) -> Result<()> {
    let mut connections: Vec<Connection> = Vec::new();
    let mut reported: Option<Instant> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            connections.push(Connection { stream, rest: Vec::new() });
            reported = None;
        }
        connections.retain_mut(|connection| connection.read(shared));
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            let mut line = serde_json::to_vec(&*lock(&shared.report))?;
            line.push(b'\n');
            connections.retain_mut(|connection| connection.write(&line));
            reported = Some(Instant::now());
        }
        sleep(LOOK);
    }
    Ok(())
}

impl Connection {
    /// Takes the messages that have come. Returns whether the connection is still open.
    fn read(&mut self, shared: &Shared) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.rest.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(message) => lock(&shared.messages).push((boot_ns(), message)),
                Err(error) => eprintln!("{:?}: {error}", String::from_utf8_lossy(&line)),
            }
        }
        true
    }

    /// Writes a report, unless the process has not taken the last one. Returns whether the connection is still open.
    fn write(&mut self, line: &[u8]) -> bool {
        let mut unsent = line;
        while !unsent.is_empty() {
            match self.stream.write(unsent) {
                Ok(length) => unsent = &unsent[length..],
                // Half a report would be none, so a process that hangs is let go.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return unsent.len() == line.len();
                }
                Err(_) => return false,
            }
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
