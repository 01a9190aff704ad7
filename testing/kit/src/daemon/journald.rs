//! A journal of its own for a host of the lab.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon::machine::entries;
use crate::net::netns::Netns;

const JOURNALD: &str = "/lib/systemd/systemd-journald";
const CONFIG: &str = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n\
                      ForwardToSyslog=no\n";
const MACHINE_ID: &str = "7c9f0a5e3d1b4862a4d0c6b8e2f19375\n";

/// A running journald. It ends when dropped.
#[derive(Debug)]
pub struct Journald<'host> {
    host: &'host Netns,
    daemon: Child,
}

impl<'host> Journald<'host> {
    /// Starts the system's journald in `host`. The host has a `/run` of its own.
    ///
    /// # Errors
    /// Without systemd, or when it does not listen within 5 s.
    pub fn start(host: &'host Netns) -> Result<Self> {
        ensure!(
            Path::new(JOURNALD).is_file(),
            "{JOURNALD} is missing: install systemd (`cargo xtask setup` does)"
        );
        host.run(|| {
            fs::create_dir_all("/run/systemd/journal")?;
            fs::create_dir_all("/run/log/journal")?;
            // journald looks up the unit of the sender there.
            let (flags, none) = (MountFlags::empty(), None::<&std::ffi::CStr>);
            mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, none).context("cgroup2")?;
            for (own, over, content) in [
                ("/run/machine-id", "/etc/machine-id", MACHINE_ID),
                ("/run/journald.conf", "/etc/systemd/journald.conf", CONFIG),
            ] {
                fs::write(own, content)?;
                mount_bind(own, over).with_context(|| format!("cannot put {own} over {over}"))?;
            }
            Ok(())
        })?;
        let daemon = host
            .command(JOURNALD)?
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start journald")?;
        let mut journald = Self { host, daemon };
        let begun = Instant::now();
        while let Err(error) = journald.sync() {
            if let Some(status) = journald.daemon.try_wait()? {
                bail!("journald ended with {status}");
            }
            ensure!(begun.elapsed() < Duration::from_secs(5), "journald does not answer: {error}");
            sleep(Duration::from_millis(20));
        }
        Ok(journald)
    }

    /// Entries of tcpguard that fulfil `matches`, the oldest first, each with all its fields.
    pub fn entries(&self, matches: &str) -> Result<Vec<Value>> {
        self.sync()?;
        let line = "journalctl --quiet --all --output=json SYSLOG_IDENTIFIER=tcpguard";
        entries(&self.host.exec(&format!("{line} {matches}"))?)
    }

    /// Waits until everything sent before is in the journal.
    fn sync(&self) -> Result<()> {
        self.host.exec("journalctl --sync").map(drop)
    }

    /// Stops it in its tracks, or lets it go on.
    pub fn hang(&self, hangs: bool) -> Result<()> {
        let signal = if hangs { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(Pid::from_child(&self.daemon), signal)?)
    }
}

impl Drop for Journald<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.kill().and_then(|()| self.daemon.wait()) {
            eprintln!("journald cannot be ended: {error}");
        }
    }
}
