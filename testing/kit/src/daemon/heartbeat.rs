//! Age of the agent's last poll, read from the map from which the programs read it. The agent is not asked,
//! since a test may keep it from responding.

use std::mem::offset_of;
use std::time::Duration;

use anyhow::{Context, Result};
use tcpguard_common::abi::Config;

use crate::daemon::tamper::PinnedMap;
use crate::measure::clock::boot_ns;
use crate::net::netns::Netns;

/// The configuration in the kernel, in which an agent leaves the time of each poll that succeeded.
#[derive(Debug)]
pub struct Heartbeat(PinnedMap);

impl Heartbeat {
    /// Opens the configuration of the agent on `host`.
    pub fn open(host: &Netns) -> Result<Self> {
        PinnedMap::open(host, "CONFIG", 4, size_of::<Config>()).map(Self)
    }

    /// Returns the age of the agent's last poll.
    pub fn age(&self) -> Result<Duration> {
        let place = offset_of!(Config, heartbeat_ns);
        let config = self.0.get(&[0; 4])?;
        let at = config.get(place..place + 8).context("a configuration of another layout")?;
        Ok(Duration::from_nanos(boot_ns().saturating_sub(u64::from_ne_bytes(at.try_into()?))))
    }
}
