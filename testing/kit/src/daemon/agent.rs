//! The daemon under test.

use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tcpguard::control::{Client, Request, Response};
use tcpguard_host::json::{self, Named};

use crate::daemon::alerts::{self, Alert};
use crate::daemon::pins::PIN_DIR;
use crate::daemon::siege::{self, Siege};
use crate::daemon::status::Status;
use crate::net::lab::INTERFACE;
use crate::net::netns::Netns;

/// Directory of the agent's sockets, inside its namespace.
pub const RUNTIME_DIR: &str = "/run/tcpguard";
/// Directory of the state that survives a restart of the agent.
pub const STATE_DIR: &str = "/run/tcpguard-state";
/// The agent's configuration file.
pub const CONFIG: &str = "/run/tcpguard.toml";

const POLL: Duration = Duration::from_millis(50);

/// Treatment of packets that match a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Off,
    Observe,
    Enforce,
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        })
    }
}

/// The program under test, from `TCPGUARD_BIN`.
pub fn binary() -> Result<PathBuf> {
    program(
        "TCPGUARD_BIN",
        "build it with `cargo xtask build` and set TCPGUARD_BIN=target/release/tcpguard (`cargo xtask \
         test` does both)",
    )
}

/// The program that an environment variable names.
///
/// # Errors
/// When it is not set, or names no file. The message ends with `how`: the way to get the program.
pub fn program(variable: &str, how: &str) -> Result<PathBuf> {
    let path = env::var_os(variable).with_context(|| format!("{variable} is not set: {how}"))?;
    let path = PathBuf::from(path);
    path.canonicalize()
        .with_context(|| format!("{variable}={} is no program: {how}", path.display()))
}

/// Runs one verb of the program in `host`, as an operator there would.
///
/// # Errors
/// When the program cannot be started. Its exit code is not looked at.
pub fn cli(host: &Netns, arguments: &[&str]) -> Result<Output> {
    let output = host
        .command(binary()?)?
        .args(arguments)
        .args(["--runtime-dir", RUNTIME_DIR])
        .stdin(Stdio::null())
        .output()
        .context("cannot start tcpguard")?;
    Ok(output)
}

/// `tcpguard run` on `host`'s interface, not started yet.
///
/// # Errors
/// Without `TCPGUARD_BIN`.
pub fn daemon(host: &Netns, mode: Mode) -> Result<Command> {
    let mut command = run(&binary()?, host)?;
    command.args(["--mode", &mode.to_string()]);
    Ok(command)
}

/// Returns the command of [`daemon`] without a mode: the configuration or an operator sets it.
///
/// # Errors
/// Without `TCPGUARD_BIN`.
pub fn daemon_by_file(host: &Netns) -> Result<Command> {
    run(&binary()?, host)
}

fn run(program: &Path, host: &Netns) -> Result<Command> {
    run_on(program, host, &[INTERFACE])
}

fn run_on(program: &Path, host: &Netns, interfaces: &[&str]) -> Result<Command> {
    let mut command = host.command(program)?;
    command
        .args(["run", "-c", CONFIG])
        .args(interfaces.iter().flat_map(|name| ["-i", name]))
        .args(["--runtime-dir", RUNTIME_DIR, "--state-dir", STATE_DIR])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Error message of a second agent on `host`'s interface, with sockets and state of its own. It must not
/// start beside the first.
pub fn refused_second(host: &Netns) -> Result<String> {
    let mut second = host.command(binary()?)?;
    second.args(["run", "-i", INTERFACE]);
    second.args(["--runtime-dir", "/run/other", "--state-dir", "/run/other-state"]);
    let output = second.stdin(Stdio::null()).output().context("cannot start tcpguard")?;
    ensure!(!output.status.success(), "a second agent ended well: {output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A running daemon. When dropped it is stopped and detached; when dropped by a failing test it
/// first prints its log and its status.
#[derive(Debug)]
pub struct Agent<'host> {
    host: &'host Netns,
    daemon: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    siege: Option<Siege>,
}

impl<'host> Agent<'host> {
    /// Starts the daemon on `host`'s interface and returns when it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready within 10 s; the message carries its log.
    pub fn start(host: &'host Netns, mode: Mode) -> Result<Self> {
        Self::start_with(host, mode, "", &[])
    }

    /// Like [`Self::start`], with a configuration and more arguments of `tcpguard run`.
    pub fn start_with(
        host: &'host Netns,
        mode: Mode,
        config: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::launch(host, config, daemon(host, mode)?.args(arguments))
    }

    /// Like [`Self::start`], in the mode that this configuration says.
    pub fn start_by_file(host: &'host Netns, config: &str) -> Result<Self> {
        Self::launch(host, config, &mut daemon_by_file(host)?)
    }

    /// Like [`Self::start`], in a time namespace with a boot clock that is `ahead_s` seconds ahead of the
    /// host's.
    pub fn start_ahead(host: &'host Netns, mode: Mode, ahead_s: u32) -> Result<Self> {
        let daemon = daemon(host, mode)?;
        let mut shifted = host.command("unshare")?;
        shifted.args(["--time", "--boottime", &ahead_s.to_string(), "--"]);
        shifted.arg(daemon.get_program()).args(daemon.get_args());
        shifted.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::launch(host, "", &mut shifted)
    }

    fn launch(host: &'host Netns, config: &str, command: &mut Command) -> Result<Self> {
        host.write(CONFIG, &siege::configured(config))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (daemon, reader) = launch(command, &log)?;
        let mut agent = Self { host, daemon, log, reader, siege: None };
        agent.ready()?;
        agent.siege = Siege::by_environment(host)?;
        Ok(agent)
    }

    /// Starts the agent again after [`Self::stop`] or [`Self::kill`], over the state that it left in the
    /// kernel.
    pub fn start_again(&mut self, mode: Mode) -> Result<()> {
        self.launch_again(daemon(self.host, mode)?)
    }

    /// Like [`Self::start_again`], with another configuration.
    pub fn start_again_with(&mut self, mode: Mode, config: &str) -> Result<()> {
        self.host.write(CONFIG, &siege::configured(config))?;
        self.start_again(mode)
    }

    /// Like [`Self::start_again`], in the mode that the configuration or an operator set.
    pub fn start_again_by_file(&mut self) -> Result<()> {
        self.launch_again(daemon_by_file(self.host)?)
    }

    /// Like [`Self::start_again`], on other interfaces.
    pub fn start_again_on(&mut self, mode: Mode, interfaces: &[&str]) -> Result<()> {
        let mut command = run_on(&binary()?, self.host, interfaces)?;
        command.args(["--mode", &mode.to_string()]);
        self.launch_again(command)
    }

    fn launch_again(&mut self, mut command: Command) -> Result<()> {
        let (daemon, reader) = launch(&mut command, &self.log)?;
        (self.daemon, self.reader) = (daemon, reader);
        self.ready()
    }

    /// Kills the agent, without giving it a chance to do anything.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.wait()?;
        Ok(())
    }

    /// Stops the agent with SIGSTOP, so that it stands still as a process that hangs does.
    pub fn pause(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.daemon), Signal::STOP)?)
    }

    /// Lets the agent go on after [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.daemon), Signal::CONT)?)
    }

    fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if self.asked().is_ok() {
                return Ok(());
            }
            if let Some(status) = self.daemon.try_wait()? {
                bail!("tcpguard ended with {status}: {}", self.log());
            }
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("tcpguard is not ready after 10 s: {}", self.log());
            }
            sleep(POLL);
        }
    }

    pub fn status(&self) -> Result<Status> {
        let output = cli(self.host, &["status", "--json"])?;
        if !output.status.success() {
            bail!("status: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Status::parse(&output.stdout)
    }

    /// Like [`Self::status`], without the command line, to be asked for again and again: a process for each question
    /// would keep a tenth of a CPU from the other tests.
    fn asked(&self) -> Result<Status> {
        let client =
            Client { runtime_dir: RUNTIME_DIR.into(), socket: None, pin_dir: PIN_DIR.into() };
        match self.host.run(|| Ok(client.call(Request::Status)?))? {
            Response::Status(status) => Status::parse(&json::bytes(&Named {
                schema: "tcpguard.status/1",
                document: &*status,
            })?),
            other => bail!("status: it answers {}", other.word()),
        }
    }

    /// Returns the status in human-readable form.
    pub fn status_text(&self) -> Result<String> {
        let output = cli(self.host, &["status", "--color", "never"])?;
        if !output.status.success() {
            bail!("status: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Alerts of the last day, oldest first.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        let output = cli(self.host, &["events", "--json"])?;
        if !output.status.success() {
            bail!("alerts: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        alerts::parse(&output.stdout)
    }

    /// Waits until the status fulfils `condition` and returns it.
    ///
    /// # Errors
    /// When it does not within `limit`. The message names the condition by `what`.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let begun = Instant::now();
        loop {
            let status = self.asked()?;
            if condition(&status) {
                return Ok(status);
            }
            if begun.elapsed() > limit {
                bail!("not within {limit:?}: {what}");
            }
            sleep(POLL);
        }
    }

    /// Waits until a rule is in the kernel and returns the status that says so.
    ///
    /// # Errors
    /// When there is none within `limit`.
    pub fn wait_for_rule(&self, limit: Duration) -> Result<Status> {
        self.wait_until("a rule in the kernel", limit, |status| {
            !status.rules().is_empty() && status.rules_in_kernel() >= Some(1)
        })
    }

    /// Returns the agent's process ID.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// The CPU time that it has taken, of its own and in system calls, to a hundredth of a second.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields = stat.rsplit_once(')').context("a process has a name")?.1;
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Ok(Duration::from_millis(times.sum::<Result<u64, _>>()? * 10))
    }

    /// The agent's log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the agent to stop and returns its exit status. Its state in the kernel stays.
    ///
    /// # Errors
    /// When it does not end within 10 s.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.daemon.try_wait()? {
            return Ok(status);
        }
        let pid = Pid::from_child(&self.daemon);
        kill_process(pid, Signal::TERM)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.daemon.try_wait()? {
                return Ok(status);
            }
            sleep(POLL);
        }
        kill_process(pid, Signal::KILL)?;
        self.daemon.wait()?;
        bail!("tcpguard did not end within 10 s of SIGTERM: {}", self.log())
    }
}

/// Starts `daemon` and collects its output in `log`.
fn launch(
    daemon: &mut Command,
    log: &Arc<Mutex<String>>,
) -> Result<(Child, Option<JoinHandle<()>>)> {
    let mut daemon = daemon.spawn().context("cannot start tcpguard")?;
    let reader = daemon.stderr.take().map(|stderr| {
        let log = Arc::clone(log);
        thread::spawn(move || collect(stderr, &log))
    });
    Ok((daemon, reader))
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let status = self.status_text().unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("--- tcpguard status\n{status}\n--- tcpguard log\n{}---", self.log());
        }
        drop(self.siege.take());
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
        if let Err(error) = cli(self.host, &["detach", "--all"]) {
            eprintln!("detach: {error:#}");
        }
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            eprintln!("the daemon's log could not be read to its end");
        }
    }
}

fn collect(stderr: impl Read, log: &Mutex<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}
