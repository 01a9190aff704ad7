//! The plain way to revert a change in time: a process waits and then reverts it. Killing the process ends
//! the wait too.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::agent::{RUNTIME_DIR, binary};
use crate::net::netns::Netns;

/// A process that waits. It ends when dropped.
#[derive(Debug)]
pub struct Timer(Child);

impl Timer {
    /// Has `undo`, a verb of the program under test, run in `host` after `limit`.
    ///
    /// # Errors
    /// Without `TCPGUARD_BIN`, or when no process can be started.
    pub fn start(host: &Netns, limit: Duration, undo: &[&str]) -> Result<Self> {
        let mut shell = host.command("sh")?;
        shell.args(["-c", "sleep $0 && exec \"$@\"", &limit.as_secs().to_string()]);
        shell.arg(binary()?).args(undo).args(["--runtime-dir", RUNTIME_DIR]);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(shell.spawn().context("cannot start a shell")?))
    }

    /// Ends it without giving it a chance to do anything.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("the timer cannot be ended: {error:#}");
        }
    }
}
