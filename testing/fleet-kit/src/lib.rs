//! The test kit of a fleet: its message bus, its routers, and the processes of `tcpguard-fleet`.
//!
//! Servers and routers are the real programs. Each is a machine of its own, with its files in that machine's `/run`, so
//! nothing of them outlives the process that started them.
//!
//! - [`network`]: the management network, and certificates for its machines; [`stage`]: a fleet without hosts.
//! - [`keys`]: identities on the bus; [`bus`]: the server (nats-server); [`client`]: a client that may break the rules.
//! - [`router`]: a router that takes routes from one speaker (BIRD).
//! - [`process`]: the processes under test; [`stand_in`]: an agent without a host; [`documents`]: documents of other
//!   hosts, and rules of operators.

pub mod bus;
pub mod client;
pub mod documents;
pub mod keys;
pub mod network;
pub mod process;
pub mod router;
pub mod stage;
pub mod stand_in;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tcpguard_kit::net::netns::Netns;

/// Interval between looks at something that is waited for.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` finds something, and returns it.
///
/// # Errors
/// When it finds nothing within `limit`. The message names `what`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(POLL);
    }
}

/// Writes a file as it appears on `host`, for its owner alone.
pub fn write_secret(host: &Netns, path: &str, text: &str) -> Result<()> {
    host.run(|| {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = file.with_context(|| format!("cannot write {path}"))?;
        Ok(file.write_all(text.as_bytes())?)
    })
}

/// Stops a process with SIGSTOP, as one that hangs.
pub(crate) fn pause(child: &Child) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), Signal::STOP)?)
}

/// Lets a process go on after [`pause`].
pub(crate) fn resume(child: &Child) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), Signal::CONT)?)
}

/// Asks a process to end, and waits for its end.
///
/// # Errors
/// When it does not end within 10 s. It is killed then.
pub(crate) fn terminate(child: &mut Child) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    kill_process(Pid::from_child(child), Signal::TERM)?;
    let ended =
        wait_for("its end after SIGTERM", Duration::from_secs(10), || Ok(child.try_wait()?));
    if ended.is_err() {
        end(child);
    }
    ended
}

/// Kills a process and waits for it.
pub(crate) fn end(child: &mut Child) {
    // One that has ended already needs no signal.
    let _ = child.kill();
    if let Err(error) = child.wait() {
        eprintln!("cannot wait for process {}: {error}", child.id());
    }
}
