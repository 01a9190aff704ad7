//! Inputs of the engine: one [`Sample`] a poll, and on request the sampled [`Flow`]s.
//!
//! Counters are cumulative, as the kernel keeps them. The engine computes differences, so that a missed poll loses
//! nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{Fingerprint, LATE_POLLS};

use super::constants::constants;
use super::rule::RuleId;
use super::time::Timestamp;

constants! {
    /// Time between two polls of the kernel's counters. Shorter ones find a flood sooner and cost
    /// more CPU.
    pub const POLL: Duration = 250 Milliseconds in 50..=1000,
        "A flood is found at its third poll, so this is a third of the time that an alarm may \
         take. Weighed against the agent's CPU, which all polls of all listeners share.";
}

/// Names a listener for as long as it is monitored; ids are not reused while an agent runs.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct ListenerId(pub u32);

impl ListenerId {
    /// Stands for the whole host in incidents that concern no single listener.
    pub const HOST: Self = Self(u32::MAX);
}

/// Local address and port to which clients connect.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Listener {
    /// Local address; unspecified for a wildcard. A dual-stack socket is one listener (`::`).
    pub addr: IpAddr,
    /// Local port.
    pub port: u16,
}

impl Listener {
    /// Stands for the whole host: no listener has port 0.
    pub const HOST: Self = Self { addr: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port: 0 };
}

impl std::fmt::Display for Listener {
    /// `203.0.113.10:443`, `[2001:db8::1]:443`, `:443` for a wildcard; without a port the address
    /// alone, or `this host`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.addr.is_unspecified(), self.port) {
            (true, 0) => f.write_str("this host"),
            (true, port) => write!(f, ":{port}"),
            (false, 0) => self.addr.fmt(f),
            (false, port) => std::net::SocketAddr::new(self.addr, port).fmt(f),
        }
    }
}

/// Location of a listener's sockets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerKind {
    /// This network namespace.
    Local,
    /// Elsewhere: another host or network namespace. The listener is known only by its SYN-ACKs.
    Forwarded,
}

/// A record of the differences of counters and of further fields; `None` when a counter went backwards.
macro_rules! since {
    ($now:ident, $before:ident, $record:ident { $($counter:ident),+; $($other:ident),* }) => {
        Some($record { $($counter: $now.$counter.checked_sub($before.$counter)?,)+ $($other,)* })
    };
}
pub(crate) use since;

/// Everything read in one poll.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Time at which the counters were read.
    pub at: Timestamp,
    /// Number that changes when the kernel counters started again from zero.
    pub epoch: u64,
    /// The listeners that are new or may have changed since the last sample, in any order; with another epoch, all.
    /// The others are as they were.
    pub listeners: Vec<ListenerSample>,
    /// Listeners that are no longer monitored.
    pub gone: Vec<ListenerId>,
    /// TcpExt counters of the network namespace.
    pub tcp_ext: TcpExt,
    /// Hit counters of the rules in the kernel; the allocation of the last sample where none can have changed.
    pub rules: Arc<[RuleCounters]>,
    /// Counters of packets that belong to no listener.
    pub host: HostCounters,
    /// Sources that send SYNs to where nothing listens.
    pub closed_port_sources: Vec<ClosedPortSource>,
    /// One flow in `2^sample_shift` is tracked in detail.
    pub sample_shift: u8,
    /// True if outgoing packets are not seen (a capture of one direction): every SYN counts as an attempt,
    /// third ACKs are recognised by their sequence number alone, and the verdict is less sure.
    pub one_sided: bool,
}

/// Cumulative counters of packets that belong to no listener, summed over CPUs and interfaces.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HostCounters {
    /// SYNs that this host sent. `None` where outgoing packets are not seen.
    pub own_syn: Option<u64>,
    /// Segments that arrived and that only ever answer a SYN: SYN-ACKs, and resets with ACK and
    /// sequence number zero.
    pub replies: u64,
    /// Segments among these that answer no SYN of this host (sampled).
    pub unsolicited: u64,
    /// Segments of connections that arrived: ACK or FIN with ACK.
    pub segments: u64,
    /// SYNs for an address and port on which nothing listens.
    pub no_listener: u64,
    /// SYNs among these to addresses of this host itself.
    pub no_listener_own: u64,
    /// Resets with which this host's own stack has refused SYNs to closed ports, as far as they are seen.
    pub refused: u64,
    /// Resets that its stack has sent, wherever they have left (`OutRsts`).
    pub resets: u64,
    /// TCP segments with a wrong checksum that its stack has dropped (`InCsumErrors`).
    pub checksum_errors: u64,
    /// SYNs to closed ports beyond the limit of [`crate::Command::LimitClosedPorts`], in whatever mode.
    pub closed_over: u64,
    /// SYNs among these that were dropped.
    pub closed_dropped: u64,
    /// Frames that went to the stack although their headers go on beyond the parser's bounds: each may hold
    /// a SYN.
    pub beyond_passed: u64,
    /// Frames among these that may come through a router: VLAN tags do not.
    pub beyond_routed: u64,
    /// First fragments among these with part of a TCP header, which no stack sends.
    pub short_fragments: u64,
    /// Frames beyond the bounds that were dropped.
    pub beyond_dropped: u64,
}

/// A source that sends SYNs to where nothing listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClosedPortSource {
    /// Its address (IPv6: the /64).
    pub source: IpAddr,
    /// Local address of the last SYN.
    pub server: IpAddr,
    /// Port of the last SYN.
    pub port: u16,
    /// Distinct ports tried, estimated.
    pub ports: u32,
    /// Distinct local addresses tried, estimated.
    pub servers: u32,
    /// Number of these SYNs.
    pub syns: u32,
    /// Handshakes that the source completed with this host, if it did in the last ten minutes. Those
    /// of sources that tried few ports may be left out.
    pub completed: u64,
    /// Time of the first SYN counted here, at most five minutes ago when the last one came.
    pub since: Timestamp,
    /// Time of the last SYN.
    pub last: Timestamp,
}

impl ClosedPortSource {
    /// The largest estimate of distinct ports or addresses: that of 64 bits of which one is unset. There may be more.
    pub const MOST: u32 = 266;
}

/// One listener in a [`Sample`].
#[derive(Clone, Debug)]
pub struct ListenerSample {
    /// Its id.
    pub id: ListenerId,
    /// Its address and port.
    pub listener: Listener,
    /// Location of its sockets.
    pub kind: ListenerKind,
    /// Its counters.
    pub counters: ListenerCounters,
    /// Its queues, where they could be read (local listeners).
    pub queues: Option<Queues>,
    /// Estimate of the distinct sources of its SYNs in the running window of about 10 s.
    pub distinct_sources: u64,
}

/// Cumulative counters of a listener, summed over CPUs. Those marked "sampled" are estimates.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ListenerCounters {
    /// SYNs that arrived, including retransmitted ones.
    pub syn: u64,
    /// Retransmitted SYNs among these (sampled).
    pub syn_retransmit: u64,
    /// Those of these that came as late as a client's kernel sends them (sampled). Any sender can send a SYN twice
    /// at once.
    pub syn_retransmit_timed: u64,
    /// SYN-ACKs that left, including retransmitted ones.
    pub syn_ack: u64,
    /// Retransmitted SYN-ACKs among these (sampled).
    pub syn_ack_retransmit: u64,
    /// Handshakes that the kernel completed; `null` where its tracepoint is not available.
    pub established: Option<u64>,
    /// Handshakes that returning clients completed: those that completed their first one a minute ago or more,
    /// each counted once in ten seconds.
    pub established_returning: u64,
    /// Handshakes that new clients completed although a rule had dropped their first SYN, or in observe mode would
    /// have.
    pub let_through: u64,
    /// Third ACKs with the right number (sampled).
    pub acknowledged: u64,
    /// Third ACKs among these whose SYN came before the last poll, or before the one before it (each counts once;
    /// sampled).
    pub late: [u64; LATE_POLLS],
    /// Half-open handshakes reset by the client (sampled).
    pub reset: u64,
    /// Out-of-state segments: the listener sent a reset, or the XDP program dropped them.
    pub refused: u64,
    /// SYNs dropped by source rules; in mode `observe`, SYNs that would have been dropped.
    pub dropped_source: u64,
    /// SYNs dropped by signature rules; in mode `observe`, SYNs that would have been dropped.
    pub dropped_signature: u64,
    /// Retransmitted SYNs that a signature rule matched and that passed or were answered.
    pub accepted_retransmits: u64,
    /// SYNs that a rule matched and that passed because their source is validated or exempt.
    pub exempt: u64,
    /// Handshakes with a SYN-ACK that was retransmitted although the third ACK had arrived (sampled). The stack
    /// ignores the third ACK while the accept queue is full.
    pub ack_ignored: u64,
    /// SYNs that XDP answered with a cookie.
    pub cookies_sent: u64,
    /// Valid cookies that clients sent back. The host may still refuse them: `established` has those that it
    /// completed.
    pub cookies_redeemed: u64,
    /// Cookies that clients returned, by IPv4 and by IPv6.
    pub returned_cookies: [ReturnedCookies; 2],
    /// SYNs dropped because there were too many: by the SYN rate limit, or a limit of replies.
    pub limited: u64,
}

impl ListenerCounters {
    /// Returns the completed handshakes: those that the kernel counted, or the third ACKs where it does not.
    pub fn completed(&self) -> u64 {
        self.established.unwrap_or(self.acknowledged)
    }

    /// Returns the SYNs that were dropped, or in mode `observe` would have been.
    pub const fn matched(&self) -> u64 {
        self.dropped_source + self.dropped_signature + self.limited
    }

    /// Returns the counts since `before`; `None` when a counter went backwards.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        let established = match (before.established, self.established) {
            (Some(before), Some(now)) => Some(now.checked_sub(before)?),
            _ => None,
        };
        let mut late = self.late;
        for (late, before) in late.iter_mut().zip(before.late) {
            *late = late.checked_sub(before)?;
        }
        let [ipv4, ipv6] = self.returned_cookies;
        let returned_cookies =
            [ipv4.since(before.returned_cookies[0])?, ipv6.since(before.returned_cookies[1])?];
        since!(self, before, Self {
            syn, syn_retransmit, syn_retransmit_timed, syn_ack, syn_ack_retransmit,
            established_returning, let_through, acknowledged, reset, refused, dropped_source,
            dropped_signature, accepted_retransmits, exempt, ack_ignored, cookies_sent,
            cookies_redeemed, limited; established, late, returned_cookies
        })
    }
}

/// Valid cookies that clients of one family sent back; see `tcpguard_common`'s `fastpath/cookie_networks.rs`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ReturnedCookies {
    /// Number of these cookies; of one network up to four a second count.
    pub valid: u64,
    /// Cookies among these for which the kernel completed the handshake.
    pub completed: u64,
    /// Number of networks that sent back one, as far as they are remembered.
    pub networks: u64,
    /// Cookies that were sent to clients that are there: to validated ones, and to those that retransmitted their SYN
    /// with a client's timing.
    pub asked: u64,
}

impl ReturnedCookies {
    /// Returns the counts that `count` makes of each pair of both.
    pub(crate) fn with(self, other: Self, count: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            valid: count(self.valid, other.valid),
            completed: count(self.completed, other.completed),
            networks: count(self.networks, other.networks),
            asked: count(self.asked, other.asked),
        }
    }

    /// Returns the counts since `before`; `None` when a counter went backwards.
    pub(crate) fn since(self, before: Self) -> Option<Self> {
        since!(self, before, Self { valid, completed, networks, asked; })
    }
}

/// The queues of a listening socket (summed over an SO_REUSEPORT group).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Queues {
    /// Half-open handshakes in the kernel, if they were counted at this poll.
    pub half_open: Option<u32>,
    /// Connections waiting for `accept`.
    pub accept: u32,
    /// Limit of both queues: the smaller of the `listen` backlog and `somaxconn`.
    pub backlog: u32,
}

impl Queues {
    /// Returns whether the accept queue is full: by its length; or by overflows of the host while it is at least half
    /// full, because it may drain between two polls.
    pub(crate) fn is_accept_full(&self, overflowed: bool) -> bool {
        let (limit, waiting) = (u64::from(self.backlog), u64::from(self.accept));
        limit > 0 && (waiting >= limit || overflowed && 2 * waiting >= limit)
    }
}

/// Cumulative `TcpExt` counters of the network namespace.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TcpExt {
    /// SYNs and ACKs dropped because an accept queue was full (`ListenOverflows`).
    pub listen_overflows: u64,
    /// SYNs and ACKs that a listener dropped for any reason (`ListenDrops`).
    pub listen_drops: u64,
    /// SYNs to which the stack replied with a cookie because the SYN queue was full, or because
    /// `tcp_syncookies` is 2 (`TCPReqQFullDoCookies`).
    pub req_q_full_do_cookies: u64,
    /// SYNs that the stack dropped because the SYN queue was full (`TCPReqQFullDrop`).
    pub req_q_full_drop: u64,
    /// SYN cookies that the stack sent (`SyncookiesSent`).
    pub syncookies_sent: u64,
    /// Valid SYN cookies that clients returned (`SyncookiesRecv`).
    pub syncookies_recv: u64,
    /// ACKs with an invalid SYN cookie (`SyncookiesFailed`).
    pub syncookies_failed: u64,
}

/// Cumulative hit counters of one rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RuleCounters {
    /// The rule.
    pub id: RuleId,
    /// SYNs it dropped, or would have in observe mode.
    pub hits: u64,
    /// SYNs that it matched and that passed because they were retransmitted 0.8 to 3.5 s later.
    pub accepted_retransmits: u64,
    /// Handshakes that new clients completed after such a SYN had passed.
    pub completed: u64,
}

/// Progress of a connection attempt.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FlowState {
    /// A SYN was seen and passed on; no reply yet.
    Syn,
    /// The SYN was answered; the client has not spoken again.
    SynAck,
    /// The client acknowledged the SYN-ACK, and the host has not completed the handshake: it waits for the
    /// client's first data (`TCP_DEFER_ACCEPT`), or will retransmit its SYN-ACK.
    Acknowledged,
    /// The client acknowledged the SYN-ACK, and the host has retransmitted it: its accept queue is full, or
    /// it refused the acknowledgement.
    Ignored,
    /// The handshake completed.
    Completed,
    /// The client reset it.
    Reset,
    /// A rule dropped the SYN.
    Dropped,
}

/// One sampled connection attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// Listener of the attempt.
    pub listener: ListenerId,
    /// Source address of the SYN.
    pub client: IpAddr,
    /// Local address to which the SYN was sent (the listener's may be a wildcard).
    pub server: IpAddr,
    /// Time of the first SYN.
    pub syn_at: Timestamp,
    /// Time of the first SYN-ACK.
    pub syn_ack_at: Option<Timestamp>,
    /// Time at which it was acknowledged, completed or reset.
    pub done_at: Option<Timestamp>,
    /// Its progress.
    pub state: FlowState,
    /// Number of retransmissions of the SYN.
    pub syn_retransmits: u8,
    /// Exponent of the number of flows for which it stands: `2^sample_shift`.
    pub sample_shift: u8,
    /// Fingerprint of the SYN.
    pub fingerprint: Fingerprint,
}

impl Flow {
    /// Returns the number of flows for which it stands.
    pub const fn weight(&self) -> u64 {
        1 << self.sample_shift
    }
}

/// Access to the clients that completed handshakes, for checks before a rule is made.
pub trait ValidatedClients {
    /// Returns whether any address within `net` completed a handshake in the last ten minutes.
    fn completed_within(&self, net: &ipnet::IpNet) -> bool;
}
