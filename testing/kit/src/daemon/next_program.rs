//! A program of another owner, pinned for tcpguard as a next program.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};

use crate::daemon::pins::PIN_DIR;
pub use crate::net::bpf::Hook;
use crate::net::bpf::{EXIT, count, counted, counter, load_program, mov};
use crate::net::foreign::{Verdict, pin};
use crate::net::netns::Netns;

/// A program that counts its packets and gives all of them one verdict.
#[derive(Debug)]
pub struct NextProgram {
    program: OwnedFd,
    counter: OwnedFd,
}

impl NextProgram {
    /// Loads the program. [`Hook::XdpFrags`] is the one that fits.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(hook: Hook, verdict: Verdict) -> Result<Self> {
        let counter = counter().context("cannot make an array")?;
        let code = [count(&counter), vec![mov(0, verdict as i32), EXIT]].concat();
        let program = load_program(hook, &code).context("cannot load a program that counts")?;
        Ok(Self { program, counter })
    }

    /// Pins it in `host` under `name`, in the place of another in one step.
    pub fn pin(&self, host: &Netns, name: &str) -> Result<()> {
        host.run(|| {
            let directory = Path::new(PIN_DIR).join("next");
            fs::create_dir_all(&directory)?;
            let fresh = directory.join("fresh");
            pin(&self.program, fresh.to_str().context("a path in UTF-8")?)?;
            Ok(fs::rename(fresh, directory.join(name))?)
        })
    }

    /// Packets that it has counted.
    pub fn packets(&self) -> Result<u64> {
        Ok(counted(&self.counter)?)
    }
}
