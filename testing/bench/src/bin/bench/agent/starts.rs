//! Time of a start, as a service manager sees it: from `execve` to `READY=1`.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tcpguard_kit::daemon::agent::{CONFIG, Mode, cli, daemon};
use tcpguard_kit::net::lab::{Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::server::{Behaviour, Server};

use crate::samples::Samples;

const SOCKET: &str = "/run/notify";
/// Starts of each type in one round.
const TIMES: usize = 3;
const LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Times to `READY=1`, in ms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StartCost {
    /// Starts with nothing in the kernel.
    pub fresh: Samples,
    /// Starts over the pins of an agent before it, that has stopped.
    pub adoption: Samples,
}

impl StartCost {
    /// Measures one more round.
    ///
    /// # Errors
    /// When the lab fails, or an agent does not become ready within 10 s.
    pub fn round(&mut self) -> Result<()> {
        let lab = Lab::new(LabOptions::default())?;
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        lab.edge.write(CONFIG, "")?;
        let manager = lab.edge.run(|| Ok(UnixDatagram::bind(SOCKET)?))?;
        manager.set_read_timeout(Some(LOOK))?;
        for _ in 0..TIMES {
            for took in [&mut self.fresh, &mut self.adoption] {
                let begun = Instant::now();
                let mut agent = Agent::start(&lab.edge)?;
                agent.wait_until_ready(&manager, begun)?;
                took.push(begun.elapsed().as_secs_f64() * 1e3);
                agent.stop()?;
                // Its last words are not the next one's.
                while manager.recv(&mut [0; 4096]).is_ok() {}
            }
            let detached = cli(&lab.edge, &["detach", "--all"])?;
            let said = String::from_utf8_lossy(&detached.stderr);
            ensure!(detached.status.success(), "detach: {}", said.trim());
        }
        Ok(())
    }
}

/// An agent that reports its state to a service manager. It is killed when dropped.
struct Agent(Child);

impl Agent {
    fn start(host: &Netns) -> Result<Self> {
        let mut command = daemon(host, Mode::Enforce)?;
        command.env("NOTIFY_SOCKET", SOCKET);
        command.stderr(Stdio::piped()).spawn().context("cannot start tcpguard").map(Self)
    }

    fn wait_until_ready(&mut self, manager: &UnixDatagram, begun: Instant) -> Result<()> {
        let mut buffer = [0; 4096];
        while begun.elapsed() < LIMIT {
            if let Ok(length) = manager.recv(&mut buffer)
                && is_ready(&buffer[..length])
            {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("tcpguard ended with {status}: {}", self.log());
            }
        }
        self.0.kill()?;
        bail!("tcpguard has not said READY=1 after {LIMIT:?}: {}", self.log())
    }

    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let begun = Instant::now();
        while self.0.try_wait()?.is_none() {
            ensure!(begun.elapsed() < LIMIT, "tcpguard did not end within {LIMIT:?} of SIGTERM");
            sleep(LOOK);
        }
        Ok(())
    }

    /// The log of an agent that has ended.
    fn log(&mut self) -> String {
        let mut log = String::new();
        if let Some(mut stderr) = self.0.stderr.take()
            && let Err(error) = stderr.read_to_string(&mut log)
        {
            return error.to_string();
        }
        log
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended is beyond both.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns whether a message says that the service is ready. In sd_notify(3) it has assignments, one a line.
fn is_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert!(is_ready(b"READY=1\nSTATUS=running on eth0"));
        assert!(is_ready(b"STATUS=x\nREADY=1"));
        assert!(!is_ready(b"STATUS=READY=1"));
        assert!(!is_ready(b"STOPPING=1"));
    }
}
