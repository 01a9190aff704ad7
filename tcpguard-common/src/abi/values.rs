//! Map values other than counters.

use super::{Addr, Bucket, Fingerprint, Rate};

/// Element of `PORTS`: the listeners of a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortEntry {
    /// 1 + the id of the listener bound to every IPv4 address, 0 without one.
    pub any_v4: u16,
    /// 1 + the id of the listener bound to every IPv6 address, 0 without one.
    pub any_v6: u16,
    /// 1: some listener is bound to one address, and is found in `LISTENERS`.
    pub exact: u8,
    /// 1: a socket listens on the port that is not monitored, at whatever address. So the port never counts as
    /// closed; see [`crate::fastpath::closed`].
    pub open: u8,
}

impl PortEntry {
    /// Adds a listener on this port, bound to `addr`.
    pub fn add(&mut self, addr: &Addr, id: u32) {
        match *addr {
            Addr::ANY_V4 => self.any_v4 = id as u16 + 1,
            Addr::ANY_V6 => self.any_v6 = id as u16 + 1,
            _ => self.exact = 1,
        }
    }
}

/// Element of `LISTENER_ENTRIES`. Only the agent creates listeners; a SYN never does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListenerEntry {
    /// Index of the listener here, in `LISTENER_COUNTERS` and in `DISTINCT_SOURCES`, below
    /// [`super::maps::MAX_LISTENERS`].
    pub id: u32,
    /// A [`super::ListenerKind`] code.
    pub kind: u8,
    /// Bit `m` set: some signature rule of this listener uses mask code `m`. For the rules of every listener
    /// see [`super::Config::masks`].
    pub masks: u8,
    /// The active mitigations, and the exclusion from rules for every listener: bits of
    /// [`ListenerEntry::OWN_COOKIES`] and those after it.
    pub mitigations: u8,
    /// 0: no headers of its SYNs are kept; else those of one in `2^(samples - 1)`.
    pub samples: u8,
    /// Rate of the first SYNs of unvalidated sources that the stack is given with [`ListenerEntry::BUDGET`], on
    /// all CPUs together. See [`super::Rate`].
    pub budget: Rate,
    /// Rate of the retransmitted SYNs that the stack is given although a signature rule matches them or their
    /// first SYN had no token, on all CPUs together.
    pub retransmit_budget: Rate,
    /// The MSS to which the host's packet filter lowers that of clients, so that a cookie keeps no larger one; 0: it
    /// lowers none.
    pub mss_limit: u32,
    /// Address families with SYNs that are not answered with cookies, whatever the active mitigations are: bits of
    /// [`ListenerEntry::NO_V4`] and the one after it.
    pub withheld: u8,
    /// 1: if it is bound to all addresses, these are the host's own, and packets to another are not for it. 0: all
    /// addresses there are.
    pub own_only: u8,
    /// Always zero.
    pub pad: [u8; 2],
}

impl ListenerEntry {
    /// SYNs of IPv4 clients get no cookies.
    pub const NO_V4: u8 = 1;
    /// SYNs of IPv6 clients get no cookies.
    pub const NO_V6: u8 = 2;

    /// SYNs are answered with cookies made by XDP.
    pub const OWN_COOKIES: u8 = 1;
    /// Cookies made by XDP are accepted, for as long as any may be out.
    pub const ACCEPT: u8 = 2;
    /// SYNs of clients that are not validated take a token of the listener's bucket each.
    pub const BUDGET: u8 = 4;
    /// Out-of-state segments, which belong to no connection, are searched for.
    pub const OUT_OF_STATE: u8 = 8;
    /// SYNs are answered with cookies of the kernel's making.
    pub const KERNEL_COOKIES: u8 = 16;
    /// The signature rules for every listener are not for this one.
    pub const EXEMPT: u8 = 32;
    /// SYNs beyond a limit of replies go to the stack without a token: cookies are sent without an incident.
    pub const PASS_EXCESS: u8 = 64;
}

/// Value of `SOURCE_HOSTS`, of the source-rule tries and of `SIGNATURES`: a reference to the rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RuleRef {
    /// Index into `RULE_EXPIRY`, `RULE_HITS` and `RULE_RETURNS`, below [`super::maps::rule_slots`].
    pub slot: u32,
    /// Bits of [`RuleRef::BY_OPERATOR`] and those after it.
    pub flags: u32,
}

impl RuleRef {
    /// Made by an operator: validated clients are not exempt.
    pub const BY_OPERATOR: u32 = 1;
    /// Made in spite of a protected prefix: its addresses are not exempt either.
    pub const FORCED: u32 = 2;
    /// In a trie: its prefix is longer than an IPv6 /64. In `SOURCE_HOSTS`: a trie may have such rules
    /// beneath it, for the same port and of the same set.
    pub const NARROW: u32 = 4;
    /// Made by an operator of this host, whose allowlist does not soften it: only protected prefixes are exempt.
    pub const OVER_ALLOWLIST: u32 = 8;

    /// No rule. (No `Option`: the compiler may copy the bytes that a `None` leaves undefined, and
    /// Linux 6.1 refuses to read them.)
    pub const NONE: Self = Self { slot: u32::MAX, flags: 0 };

    /// Returns whether it refers to a rule.
    #[inline(always)]
    pub const fn is_rule(self) -> bool {
        self.slot != Self::NONE.slot
    }
}

/// Value of the exempt tries: the exemption of a prefix. No rule drops its SYNs by source, and up to a rate no
/// signature rule does, nor a limit; see [`crate::fastpath::exempt`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ExemptEntry {
    /// Boot time in seconds at which the exemption ends, or [`ExemptEntry::STAYS`] or
    /// [`ExemptEntry::OWN`] or [`ExemptEntry::HELPER`]. (A trie value may not be aligned more strictly than its IPv4 key.)
    pub until_s: u32,
}

impl ExemptEntry {
    /// End of an exemption that stays as long as the prefix is in the list.
    pub const STAYS: u32 = u32::MAX;
    /// End of an exemption as [`ExemptEntry::STAYS`], of a prefix to which packets are delivered to this host
    /// itself. It is exempt from drops by source only: none of its SYNs arrives from outside.
    pub const OWN: u32 = u32::MAX - 1;
    /// End of an exemption as [`ExemptEntry::STAYS`], of a gateway or a resolver. It is exempt from drops by source
    /// only: it serves this host, and is no client of it. If it is one all the same, it becomes a validated client.
    pub const HELPER: u32 = u32::MAX - 2;

    /// Returns whether the source is exempt at `now_ns` of boot time.
    #[inline(always)]
    pub const fn holds(self, now_ns: u64) -> bool {
        self.until_s as u64 * 1_000_000_000 > now_ns
    }

    /// Returns whether the host needs the prefix. The other exemptions are those of the allowlist, which end.
    #[inline(always)]
    pub const fn is_protected(self) -> bool {
        self.until_s >= Self::HELPER
    }

    /// Returns whether it is exempt not only from drops by source.
    #[inline(always)]
    pub const fn is_client(self) -> bool {
        self.until_s != Self::OWN && self.until_s != Self::HELPER
    }
}

/// Value in `FLOWS`: the state of one sampled connection attempt.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// Boot time in ns of the first SYN of the attempt, whatever its sequence number was.
    pub syn_ns: u64,
    /// Boot time in ns of the first SYN-ACK, 0 before it.
    pub syn_ack_ns: u64,
    /// Boot time in ns at which the handshake was acknowledged, completed or reset, 0 before.
    pub done_ns: u64,
    /// Sequence number of the latest SYN, host byte order.
    pub syn_seq: u32,
    /// Sequence number of the SYN-ACK, host byte order, [`crate::fastpath::sets::bound`] to this flow;
    /// the third ACK acknowledges the next one.
    pub isn: u32,
    /// [`ListenerEntry::id`] of the listener.
    pub listener: u32,
    /// A [`super::FlowState`] code.
    pub state: u8,
    /// Number of retransmissions of the SYN at the times of a client's kernel, saturating; see
    /// [`crate::fastpath::retransmit_timing`].
    pub syn_retransmits: u8,
    /// Time of the first SYN with [`Flow::syn_seq`], in ticks of [`crate::fastpath::retransmit_timing`].
    pub syn_tick: u8,
    /// The shift under which the flow was recorded, [`super::Config::sample_shift`] or, where its
    /// SYN was dropped, that of [`super::Pace`]: it stands for `2^shift` flows.
    pub sample_shift: u8,
    /// The fingerprint of the SYN.
    pub fingerprint: Fingerprint,
}

/// Value of `CLIENTS`: an address that completed a handshake, so it is not spoofed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Client {
    /// Boot time in ns of the last completed handshake.
    pub completed_ns: u64,
    /// Boot time in units of 2^27 ns (0.13 s) from which its next completed handshake counts as that of a returning
    /// client; see [`crate::fastpath::clients`].
    pub returning_from: u32,
    /// Handshakes that it completed lately.
    pub lately: Lately,
    /// Bucket of its SYNs that pass in spite of a rule or a limit; see [`crate::fastpath::clients`].
    pub bucket: Bucket,
    /// Counters, kept here so that a flood of other sources cannot evict them.
    pub counters: super::SourceCounters,
}

/// Number of events in the present second, and half of what it was in the second before. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lately {
    /// The second: boot time in units of 2^30 ns, modulo 2^16.
    second: u16,
    /// The number, saturating.
    events: u16,
}

impl Lately {
    /// The number at this time.
    #[inline(always)]
    pub const fn at(self, now_ns: u64) -> u16 {
        match Self::second(now_ns).wrapping_sub(self.second) {
            0 => self.events,
            1 => self.events / 2,
            // The clock of another CPU is a little ahead.
            u16::MAX => self.events,
            _ => 0,
        }
    }

    /// Counts so many events.
    #[inline(always)]
    pub const fn add(&mut self, now_ns: u64, events: u64) {
        let sum = self.at(now_ns) as u64 + events;
        let events = if sum > u16::MAX as u64 { u16::MAX } else { sum as u16 };
        *self = Self { second: Self::second(now_ns), events };
    }

    #[inline(always)]
    const fn second(now_ns: u64) -> u16 {
        (now_ns >> 30) as u16
    }
}

/// Element of `NETWORKS`: an IPv6 /48, of which one person may hold all 65,536 /64s. All-zero is an empty slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientNetwork {
    /// Bucket of its /64s that become clients; see [`crate::fastpath::clients`].
    pub bucket: Bucket,
    /// Bucket of its completed handshakes that count as those of returning clients.
    pub returning: Bucket,
}

/// Element of `LET_THROUGH`: a SYN that a signature rule matched and that passed all the same. All-zero is an
/// empty slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LetThrough {
    /// Keyed hash of its connection.
    pub flow: u64,
    /// The rule's index into `RULE_HITS`.
    pub slot: u32,
    /// Time at which it passed, in seconds of boot time modulo 2^16.
    pub at_s: u16,
    /// Weight as a power of two: the SYN stands for `2^shift` of its like.
    pub shift: u8,
    /// Always zero.
    pub pad: u8,
}

/// One set of the table of dropped SYNs: half a cache line, searched as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DropCacheSet {
    /// The dropped SYNs, the newest first. High 20 bits: keyed hash of 4-tuple and sequence number, 0 in an
    /// empty slot; low 12 bits: boot time of the drop in units of 2^23 ns (8.4 ms), wrapping after 34 s.
    pub places: [u32; 8],
}

/// Cell of `CLOSED_PORT_SOURCES`: a source that sends SYNs to where nothing listens; see
/// [`crate::fastpath::closed_port_sources`]. All-zero is an empty cell.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClosedPortSource {
    /// The source, as [`Addr::client`].
    pub source: Addr,
    /// The local address that it tried last.
    pub server: Addr,
    /// Bits of the ports tried: one of 64 for each, chosen by keyed hash (linear counting).
    pub ports: u64,
    /// Bits of the local addresses tried.
    pub servers: u64,
    /// SYNs since then.
    pub syns: u32,
    /// Boot time in seconds of the first SYN counted here.
    pub since_s: u32,
    /// Boot time in seconds of the last one.
    pub last_s: u32,
    /// The port that it tried last, network byte order.
    pub port: [u8; 2],
    /// Always zero.
    pub pad: [u8; 2],
}
