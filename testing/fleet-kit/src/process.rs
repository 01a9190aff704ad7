//! The processes of `tcpguard-fleet` under test.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tcpguard_kit::daemon::agent::program;
use tcpguard_kit::net::netns::Netns;

use crate::{end, pause, resume, terminate, wait_for};

/// Directory of the processes' sockets, and of the state that survives them.
const RUNTIME_DIR: &str = "/run/tcpguard-fleet-sockets";
const STATE_DIR: &str = "/run/tcpguard-fleet-state";
/// The configuration of all processes of a machine.
pub const CONFIG: &str = "/run/tcpguard-fleet.toml";
/// Time for a response of a process.
const PATIENCE: Duration = Duration::from_secs(5);

/// Part of a process in the fleet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// A protected host.
    Edge,
    /// A collector.
    Collector,
    /// A controller of routers.
    Controller,
}

impl Part {
    /// The verb that runs it.
    const fn verb(self) -> &'static str {
        match self {
            Self::Edge => "run",
            Self::Collector => "collect",
            Self::Controller => "relief",
        }
    }

    /// Its socket.
    const fn socket(self) -> &'static str {
        match self {
            Self::Edge => "edge.sock",
            Self::Collector => "collector.sock",
            Self::Controller => "controller.sock",
        }
    }
}

/// A running process. It is stopped when dropped; when dropped by a failing test it first prints its log and its state.
#[derive(Debug)]
pub struct Process<'host> {
    host: &'host Netns,
    part: Part,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// The program under test, from `TCPGUARD_FLEET_BIN`.
pub fn binary() -> Result<PathBuf> {
    program(
        "TCPGUARD_FLEET_BIN",
        "build it with `cargo xtask build` and set TCPGUARD_FLEET_BIN=target/release/tcpguard-fleet \
         (`cargo xtask test` does both)",
    )
}

/// Runs one verb of the program on `host`, as an operator there would.
///
/// # Errors
/// When the program cannot be started. Its exit code is not looked at.
pub fn cli(host: &Netns, arguments: &[&str]) -> Result<Output> {
    let mut command = host.command(binary()?)?;
    command.args(arguments).args(["--config", CONFIG, "--runtime-dir", RUNTIME_DIR]);
    command.stdin(Stdio::null()).output().context("cannot start tcpguard-fleet")
}

impl<'host> Process<'host> {
    /// Starts a process on `host` with this configuration, and returns when it replies.
    ///
    /// # Errors
    /// When it ends, or does not reply within 10 s; the message carries its log.
    pub fn start(host: &'host Netns, part: Part, config: &str) -> Result<Self> {
        host.write(CONFIG, config)?;
        let log = Arc::new(Mutex::new(String::new()));
        let (child, reader) = launch(host, part, &log)?;
        let mut process = Self { host, part, child, log, reader };
        process.ready()?;
        Ok(process)
    }

    /// Starts it again after [`Self::kill`] or [`Self::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        let (child, reader) = launch(self.host, self.part, &self.log)?;
        (self.child, self.reader) = (child, reader);
        self.ready()
    }

    fn ready(&mut self) -> Result<()> {
        wait_for("a reply of the process", Duration::from_secs(10), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("tcpguard-fleet ended with {status}: {}", self.log());
            }
            Ok(self.status().ok().map(drop))
        })
    }

    /// State of the process: `tcpguard.fleet.process/1`, or `tcpguard.fleet.status/1` of a collector.
    pub fn status(&self) -> Result<Value> {
        let path = Path::new(RUNTIME_DIR).join(self.part.socket());
        let line = self.host.run(|| {
            let mut stream = UnixStream::connect(&path)
                .with_context(|| format!("cannot connect to {}", path.display()))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"\"status\"\n")?;
            let mut line = Vec::new();
            stream.read_to_end(&mut line)?;
            Ok(line)
        })?;
        let response: Value = serde_json::from_slice(&line).context("a state that is not JSON")?;
        let document = response.get("process").or_else(|| response.get("fleet"));
        document.cloned().with_context(|| format!("no state: {response}"))
    }

    /// Waits until the state fulfils `condition`, and returns it.
    ///
    /// # Errors
    /// When it does not within `limit`. The message names the condition by `what`, and has the last state.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait_for(what, limit, || {
            last = self.status()?;
            Ok(condition(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("the state: {last:#}"))
    }

    /// Kills it, without a chance to do anything.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it does not end within 10 s.
    pub fn stop(&mut self) -> Result<()> {
        terminate(&mut self.child).map(drop).with_context(|| self.log())
    }

    /// Stops it with SIGSTOP, as a process that hangs.
    pub fn pause(&self) -> Result<()> {
        pause(&self.child)
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        resume(&self.child)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn launch(
    host: &Netns,
    part: Part,
    log: &Arc<Mutex<String>>,
) -> Result<(Child, Option<JoinHandle<()>>)> {
    let mut command = host.command(binary()?)?;
    command
        .args([part.verb(), "--config", CONFIG])
        .args(["--runtime-dir", RUNTIME_DIR, "--state-dir", STATE_DIR])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    host.run(|| {
        for directory in [RUNTIME_DIR, STATE_DIR] {
            std::fs::create_dir_all(directory)?;
        }
        Ok(())
    })?;
    let mut child = command.spawn().context("cannot start tcpguard-fleet")?;
    let reader = child.stderr.take().map(|stderr| {
        let log = Arc::clone(log);
        thread::spawn(move || collect(stderr, &log))
    });
    Ok((child, reader))
}

fn collect(stderr: impl Read, log: &Mutex<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let state =
                self.status().map_or_else(|error| format!("{error:#}"), |it| format!("{it:#}"));
            let part = self.part;
            eprintln!("--- state of the {part:?}\n{state}\n--- its log\n{}---", self.log());
        }
        // One that is paused takes no SIGTERM.
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.resume()
        {
            eprintln!("{error:#}");
        }
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            eprintln!("the log of a process could not be read to its end");
        }
    }
}
