//! Thresholds of the signals that concern the whole host.

use crate::input::constants;

constants! {
    /// Ports at which nothing listens that one source tries within five minutes.
    pub(crate) const SCAN_PORTS: u32 = 15 Count in 2..=200,
        "Zeek's port_scan_threshold (misc/scan) and CrowdSec's iptables-scan-multi_ports, \
         both 15.";

    /// Fewer ports that are a scan too, if their likelihood is high enough.
    pub(crate) const SCAN_PORTS_LIKELY: u32 = 8 Count in 2..=200,
        "Weighed against validated clients that try some closed ports, and against scans that stay \
         below 15 in five minutes.";

    /// Addresses of this host or behind it that one source tries at such ports.
    pub(crate) const SCAN_ADDRESSES: u32 = 25 Count in 2..=200,
        "Zeek's addr_scan_threshold (misc/scan), 25.";

    /// Replies per second to SYNs that this host did not send, from which an attacker spoofs this
    /// host's address elsewhere.
    pub(crate) const REFLECTION_RATE: f64 = 256.0 PerSecond in 1.0..=10_000_000.0,
        "64 in a poll, as fast_min. Weighed against a proxy with 2,000 connections a second.";

    /// Their share of all replies.
    pub(crate) const REFLECTION_SHARE: f64 = 0.5 Share in 0.01..=1.0,
        "Weighed against a busy proxy, also while the sample of its own SYNs changes. Half of all \
         replies is far above both.";

    /// Polls running for which both must hold.
    pub(crate) const REFLECTION_POLLS: u32 = 2 Count in 1..=60,
        "Two, as FAST_POLLS.";

    /// SYNs per second in frames with headers beyond the parser's bounds, from which they are a flood
    /// that evades detection.
    pub(crate) const BEYOND_RATE: f64 = 100.0 PerSecond in 1.0..=10_000_000.0,
        "Weighed against networks where none of them comes, and against the smallest SYN \
         queue of 128, which 100 a second fill in little more than a second.";
}

const _: () = assert!(SCAN_PORTS_LIKELY <= SCAN_PORTS, "the likelihood is never asked");
