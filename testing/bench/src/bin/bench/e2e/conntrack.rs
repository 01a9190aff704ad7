//! The effect of a flood on the connection tracking of the host under test.

use std::fs;
use std::time::Duration;

use serde::Serialize;
use tcpguard_kit::net::netns::Netns;

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
// Not /proc/net, which is that of the process and not of the thread that is in the namespace.
const STAT: &str = "/proc/thread-self/net/stat/nf_conntrack";
/// Time after which the kernel forgets a SYN that was answered (`nf_conntrack_tcp_timeout_syn_recv`).
const REMEMBERED: Duration = Duration::from_secs(60);

/// Table of the connection tracking at the end of a window, and its counts in that window.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Conntrack {
    /// Connections in its table.
    pub entries: u64,
    /// Connections that the table has room for (`nf_conntrack_max`).
    pub room: u64,
    /// Packets that it dropped for want of room, and those that are not inserted.
    pub dropped: u64,
    /// Connections that it threw away for newer ones.
    pub early_dropped: u64,
    /// New connections that collided with others.
    pub not_inserted: u64,
}

impl Conntrack {
    /// Reads the counts of `host`, since there is its namespace. `None` where the kernel has none, or does not
    /// say.
    pub fn read(host: &Netns) -> Option<Self> {
        let number = |path: &str| host.read(path).ok()?.trim().parse::<u64>().ok();
        let stat = host.read(STAT).ok()?;
        Some(Self {
            entries: number(COUNT)?,
            room: number(MAX)?,
            dropped: sum(&stat, "drop")?,
            early_dropped: sum(&stat, "early_drop")?,
            not_inserted: sum(&stat, "insert_failed")?,
        })
    }

    /// Returns the counts since an `earlier` reading.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            dropped: self.dropped - earlier.dropped,
            early_dropped: self.early_dropped - earlier.early_dropped,
            not_inserted: self.not_inserted - earlier.not_inserted,
            ..self
        }
    }

    /// Returns a summary in one line.
    pub fn summary(&self) -> String {
        let Self { entries, room, dropped, early_dropped, not_inserted } = self;
        format!(
            "conntrack {entries} of {room}, {dropped} dropped, {early_dropped} dropped early, \
             {not_inserted} not inserted"
        )
    }
}

/// Returns the time in which SYNs of so many a second fill the table, or until it grows no more; zero where the
/// kernel has none yet.
pub fn time_to_fill(rate: u32) -> Duration {
    let max = fs::read_to_string(MAX).ok().and_then(|max| max.trim().parse::<u32>().ok());
    max.map_or(Duration::ZERO, |max| {
        Duration::from_secs_f64(f64::from(max) / f64::from(rate)).min(REMEMBERED)
    })
}

/// The sum of a column over all CPUs, each of which has a line of hexadecimal numbers.
fn sum(stat: &str, column: &str) -> Option<u64> {
    let mut lines = stat.lines();
    let at = lines.next()?.split_whitespace().position(|name| name == column)?;
    lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok()).sum()
}
