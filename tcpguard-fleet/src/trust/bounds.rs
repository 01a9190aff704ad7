//! Bounds of the documents that a host accepts.

use std::time::Duration;

use tcpguard_common::abi::Rate;

/// Largest difference between the clock of a sender and of this host. NTP keeps clocks within milliseconds, and a
/// machine without it loses about a second a day (50 ppm), so that it is noticed within a year.
pub const MAX_SKEW: Duration = Duration::from_secs(300);
/// Time for which the last document of a sender is remembered: more than twice [`MAX_SKEW`]. The time of a document is
/// at most [`MAX_SKEW`] ahead of its first reception, and a copy is refused for it from [`MAX_SKEW`] after that on.
pub const REPLAY_MEMORY: Duration = Duration::from_secs(660);
/// Refused documents of one sender within [`FAULT_WINDOW`] from which on it is muted.
pub const MAX_FAULTS: u32 = 100;
/// Time in which refused documents of one sender are counted.
pub const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// Time for which a sender is muted: its documents are dropped by their subject alone.
pub const MUTED: Duration = Duration::from_secs(600);
/// Operators' rules of one host.
pub const MAX_RULES: usize = 4096;
/// Longest time for which an operator's rule may be made, whatever a role permits.
pub const MAX_RULE_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bounds that depend on the part of a process in the fleet. With them its memory and its work are bounded, however
/// many documents the bus carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Senders that are known at a time.
    pub peers: usize,
    /// Documents of one sender.
    pub peer: Rate,
    /// Documents of one controller about its routes: one for each host that it serves every 10 s.
    pub controller: Rate,
    /// Documents of all senders.
    pub total: Rate,
    /// Operators' rules on the bus, and as many of the durable store. Their signatures are the most expensive check. All
    /// of them at once are those of a host that was away.
    pub rules: Rate,
}

impl Bounds {
    /// Bounds of an edge. It hears signatures at its own ports: three hosts report each every 20 s, whatever the size
    /// of the fleet, which makes 8 documents/s for 50 signatures.
    pub const EDGE: Self = Self {
        peers: 4096,
        peer: Rate::per_second(2, 20),
        controller: Rate::per_second(16, 160),
        total: Rate::per_second(500, 1000),
        rules: Rate::per_second(200, MAX_RULES as u32),
    };

    /// Bounds of a collector. It hears all hosts: 3,300 documents/s of 100,000 hosts that report every 30 s.
    pub const COLLECTOR: Self =
        Self { peers: 131_072, total: Rate::per_second(10_000, 40_000), ..Self::EDGE };
}
