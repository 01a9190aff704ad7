//! Successive samples of a process's resources.

use anyhow::Result;

use super::schedule::Phase;
use crate::measure::peak;

/// One sample of a process.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds since the soak began.
    pub at: f64,
    /// Number of the process among those that ran one after the other: only samples of the same process
    /// are compared.
    pub life: usize,
    /// The phase of the soak.
    pub phase: Phase,
    /// True if the hook that redeems cookies was there: it is from the first to a minute after the
    /// last, and has a descriptor.
    pub cookies: bool,
    /// Resources of the process.
    pub held: Held,
}

/// Resources of a process at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Bytes of memory that it has in use, by its own count, or else all of the next.
    pub in_use: u64,
    /// Bytes of memory of its own that are resident (`RssAnon`).
    pub anonymous: u64,
    /// Bytes of files that are mapped and resident (`RssFile`).
    pub file: u64,
    /// Number of open files.
    pub descriptors: u64,
    pub threads: u64,
    /// Bytes that the kernel accounts for its BPF maps.
    pub maps: u64,
}

impl Held {
    /// Returns the resources of the process `pid`.
    pub fn by(pid: u32) -> Result<Self> {
        let anonymous = peak::bytes(pid, "RssAnon")?;
        Ok(Self {
            in_use: anonymous,
            anonymous,
            file: peak::bytes(pid, "RssFile")?,
            descriptors: peak::descriptors(pid)?,
            threads: peak::threads(pid)?,
            maps: peak::map_bytes(pid)?.values().sum(),
        })
    }
}
