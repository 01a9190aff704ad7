//! The cases that are measured: the packet, the program that it goes through, and the expected
//! verdict.

use serde::Serialize;
use tcpguard_kit::net::bare::Sources;

// `enum xdp_action`
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// About a million sources, as a flood has them.
pub const MILLION: Sources = Sources::Among { bits: 20 };
/// The sources that most packets are measured from.
pub const BOTH: [Sources; 2] = [Sources::One, MILLION];
/// Addresses that are listed, as by a blocklist.
pub const LISTS: [u32; 4] = [1, 1_000, 10_000, 100_000];
/// The list that targets are about: as many as xdp-filter has room for.
pub const LIST: u32 = 10_000;
/// Networks that are listed.
pub const NETS: [u32; 3] = [1_000, 10_000, 100_000];
/// Listeners on addresses of their own.
pub const LISTENERS: [u32; 3] = [1, 256, 4096];
pub const SIGNATURES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub const fn title(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Packet {
    /// An ACK of an open connection, or with a cookie that is none.
    Ack,
    /// An ACK like [`Packet::Ack`], with an echoed timestamp, in which cookies keep a part of their fields.
    AckTimestamps,
    /// An ACK with a cookie made by XDP.
    CookieAck,
    /// A SYN without options, as fixed-fingerprint floods have them.
    Bare,
    /// A SYN like [`Packet::Bare`], with another window each time, where its source is drawn.
    AnyWindow,
    Windows,
    Linux,
}

impl Packet {
    /// A SYN, without and with options.
    pub const SYNS: [Self; 3] = [Self::Bare, Self::Windows, Self::Linux];
    /// An ACK that has to be checked for a cookie.
    pub const ACKS: [Self; 2] = [Self::Ack, Self::AckTimestamps];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Ack => "ACK",
            Self::AckTimestamps => "ACK, timestamps",
            Self::CookieAck => "ACK, good cookie",
            Self::Bare => "SYN, no options",
            Self::AnyWindow => "SYN, no options, any window",
            Self::Windows => "SYN, Windows",
            Self::Linux => "SYN, Linux",
        }
    }

    pub const fn is_ack(self) -> bool {
        matches!(self, Self::Ack | Self::AckTimestamps | Self::CookieAck)
    }
}

/// The state of the XDP program.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Situation {
    Observe,
    /// The program observes, and follows every SYN of the sample, as of a host that sees so few that it can.
    Followed,
    /// The program observes, with so many listeners on this port, the packet's among them, each on an address
    /// of its own.
    Listeners(u32),
    /// Number of addresses that are listed (/32, /64), the packet's among them, or none.
    Listed(u32),
    /// Number of addresses that are listed, and the packet's is not.
    Unlisted(u32),
    /// Number of networks that are listed, of mixed lengths (/16 to /28, /32 to /56), and the packet's is in one of
    /// them.
    Nets(u32),
    /// Signatures in force, one of them the packet's.
    Signatures {
        count: u32,
        masks: Masks,
    },
    /// SYNs are answered with cookies, and cookies taken.
    Cookies,
}

impl Situation {
    pub fn title(self) -> String {
        match self {
            Self::Observe => "observe".to_owned(),
            Self::Followed => "observe, each tracked".to_owned(),
            Self::Listeners(1) => "observe, 1 address listens".to_owned(),
            Self::Listeners(count) => format!("observe, {count} addresses listen"),
            Self::Listed(0) => "enforce, no rule".to_owned(),
            Self::Listed(1) => "1 address listed".to_owned(),
            Self::Listed(count) => format!("{count} addresses listed"),
            Self::Unlisted(count) => format!("{count} other addresses listed"),
            Self::Nets(count) => format!("{count} networks listed"),
            Self::Signatures { count: 1, masks } => format!("1 signature, {}", masks.title()),
            Self::Signatures { count, masks } => format!("{count} signatures, {}", masks.title()),
            Self::Cookies => "cookies".to_owned(),
        }
    }
}

/// The fields that signatures compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Masks {
    /// The same fields in all signatures, the window with them.
    One,
    /// The same fields in all signatures, without the window.
    NoWindow,
    /// One set of fields for each mask. The packet's is under the last mask that random sources leave
    /// alone.
    All,
}

impl Masks {
    pub const EACH: [Self; 3] = [Self::One, Self::NoWindow, Self::All];

    pub const fn title(self) -> &'static str {
        match self {
            Self::One => "one mask",
            Self::NoWindow => "one mask without window",
            Self::All => "all masks",
        }
    }

    /// The numbers of signatures with which `packet` is measured.
    pub fn counts(self, packet: Packet) -> impl Iterator<Item = u32> + Clone {
        let least = match (self, packet) {
            (Self::One, Packet::AnyWindow) | (Self::NoWindow, Packet::Bare) => u32::MAX,
            // Fewer are all under masks that compare the window.
            (Self::All, Packet::AnyWindow) => 4,
            // One signature has one mask.
            (Self::All, _) => 2,
            _ => 1,
        };
        SIGNATURES.into_iter().filter(move |&count| count >= least)
    }
}

/// Returns all signatures with which a packet is measured, from `least` on.
pub fn signatures(packet: Packet, least: u32) -> impl Iterator<Item = Situation> {
    let counts = move |masks: Masks| {
        let counts = masks.counts(packet).filter(move |&count| count >= least);
        counts.map(move |count| Situation::Signatures { count, masks })
    };
    Masks::EACH.into_iter().flat_map(counts)
}

/// The share of flows that the XDP program tracks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Mode {
    /// All flows, as long as a CPU sees no more than it can follow ([`Situation::Followed`]).
    Exact,
    /// The share that the agent chooses under a flood.
    Flood,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Exact, Self::Flood];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Flood => "flood",
        }
    }
}

/// The configuration of xdp-filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Filter {
    /// Policy deny: an unlisted packet is dropped, and a listed one passes. Else the other way round.
    pub deny: bool,
    /// True if it has all features, not those of IPv4 and IPv6 only.
    pub all: bool,
    /// Addresses that are listed.
    pub listed: u32,
    /// The packet's source is among them.
    pub hit: bool,
}

impl Filter {
    /// The filter for packets of open connections.
    pub const ALLOW_MISS: Self = Self { deny: false, all: false, listed: 0, hit: false };

    /// A source is denied that is one of so many listed ones.
    pub const fn denied(listed: u32) -> Self {
        Self { listed, hit: true, ..Self::ALLOW_MISS }
    }

    /// Returns every way to use it with a list, or none, of those in which the source is listed or is not.
    pub fn each(hit: bool) -> impl Iterator<Item = Self> {
        let flags = [false, true];
        let policies = flags.into_iter().flat_map(move |deny| flags.map(|all| (deny, all)));
        policies.flat_map(move |(deny, all)| {
            let lists = [0, LIST].into_iter().filter(move |&listed| listed > 0 || !hit);
            lists.map(move |listed| Self { deny, all, listed, hit })
        })
    }

    /// Returns every way as [`Self::each`] does, and ways with lists of other lengths.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = LISTS.into_iter().filter(|&count| count != LIST).map(Self::denied);
        Self::each(false).chain(Self::each(true)).chain(others)
    }

    pub fn title(self) -> String {
        let policy = if self.deny { "deny" } else { "allow" };
        let features = if self.all { "all features" } else { "ipv4,ipv6" };
        let found = if self.hit { "hit" } else { "miss" };
        format!("xdp-filter {policy}, {features}, {} listed, {found}", self.listed)
    }
}

/// Program that takes the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Subject {
    /// Nothing behind the wrapper, not even the program that drops: the cost of the jump, negated.
    Wrapper,
    Ours(Situation, Mode),
    Filter(Filter),
    /// The SYN proxy with the kernel's helpers, or the same after a look-up in connection tracking.
    Reference {
        conntrack: bool,
    },
}

impl Subject {
    /// Returns the length of the list that the packet's source is on, or in, if it is.
    pub const fn list(self) -> Option<u32> {
        match self {
            Self::Ours(Situation::Listed(count @ 1..) | Situation::Nets(count), _)
            | Self::Filter(Filter { hit: true, listed: count, .. }) => Some(count),
            _ => None,
        }
    }

    pub fn title(self) -> String {
        match self {
            Self::Wrapper => "wrapper alone".to_owned(),
            Self::Ours(situation, mode) => {
                format!("tcpguard, {}, {}", situation.title(), mode.title())
            }
            Self::Filter(filter) => filter.title(),
            Self::Reference { conntrack: false } => "SYN proxy, helpers".to_owned(),
            Self::Reference { conntrack: true } => "SYN proxy, conntrack".to_owned(),
        }
    }
}

/// Packets of one kind from the same sources.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Stream {
    pub packet: Packet,
    pub family: Family,
    pub sources: Sources,
}

impl Stream {
    pub fn title(self) -> String {
        let (packet, family) = (self.packet.title(), self.family.title());
        format!("{packet}, {family}, {}", sources(self.sources))
    }

    /// Everything that is measured.
    pub fn all() -> Vec<Self> {
        let mut streams = Vec::new();
        for family in Family::ALL {
            let mut add = |packet, sources| streams.push(Self { packet, family, sources });
            // A cookie is its source's.
            add(Packet::CookieAck, Sources::One);
            add(Packet::AnyWindow, MILLION);
            for packet in Packet::ACKS.into_iter().chain(Packet::SYNS) {
                BOTH.into_iter().for_each(|sources| add(packet, sources));
            }
            NETS.into_iter().for_each(|count| add(Packet::Bare, among(count)));
        }
        streams
    }

    /// The programs that these packets go through.
    pub fn subjects(self) -> Vec<Subject> {
        let ours = |situation| Mode::ALL.map(|mode| Subject::Ours(situation, mode));
        let proxies = [false, true].map(|conntrack| Subject::Reference { conntrack });
        let filters = |hit| Filter::each(hit).map(Subject::Filter);
        let allow = Subject::Filter(Filter::ALLOW_MISS);
        let followed = Subject::Ours(Situation::Followed, Mode::Exact);
        let counted = |subjects: &mut Vec<_>| {
            subjects.extend(ours(Situation::Observe));
            subjects.push(allow);
        };
        let mut subjects = vec![Subject::Wrapper];
        match (self.packet, self.sources) {
            (Packet::CookieAck, _) => subjects.extend(ours(Situation::Cookies)),
            (Packet::AnyWindow, _) => {
                subjects.extend(signatures(self.packet, 1).flat_map(ours));
            }
            (Packet::Ack, _) => {
                counted(&mut subjects);
                subjects.extend(ours(Situation::Cookies));
                subjects.extend(proxies);
            }
            (Packet::AckTimestamps | Packet::Windows, _) => {
                subjects.extend(ours(Situation::Cookies));
                subjects.extend(proxies);
            }
            (Packet::Bare, sources) => {
                let listed = LISTS.into_iter().filter(|&count| is_within(sources, count));
                let nets = NETS.into_iter().filter(|&count| is_within(sources, count));
                subjects.extend(listed.clone().map(Situation::Listed).flat_map(ours));
                subjects.extend(nets.map(Situation::Nets).flat_map(ours));
                let denied = |count| Subject::Filter(Filter::denied(count));
                subjects.extend(listed.map(denied));
                if [Sources::One, among(LIST)].contains(&sources) {
                    subjects.extend(filters(true).filter(|&filter| filter != denied(LIST)));
                }
                if BOTH.contains(&sources) {
                    subjects.extend(signatures(self.packet, 1).flat_map(ours));
                    subjects.extend(ours(Situation::Cookies));
                    subjects.extend(proxies);
                }
            }
            (Packet::Linux, _) => {
                counted(&mut subjects);
                subjects.push(followed);
                subjects.extend(LISTENERS.map(Situation::Listeners).into_iter().flat_map(ours));
                subjects.extend(ours(Situation::Listed(0)));
                subjects.extend(ours(Situation::Unlisted(LIST)));
                subjects.extend(ours(Situation::Cookies));
                subjects.extend(proxies);
                subjects.extend(filters(false).filter(|&filter| filter != allow));
            }
        }
        subjects
    }

    /// The expected verdict on a packet at XDP.
    pub const fn verdict(self, subject: Subject) -> u32 {
        match subject {
            // `XDP_ABORTED`: there is nothing to go on as.
            Subject::Wrapper => 0,
            Subject::Ours(
                Situation::Listed(1..) | Situation::Nets(_) | Situation::Signatures { .. },
                _,
            ) => XDP_DROP,
            Subject::Ours(Situation::Cookies, _) if !self.packet.is_ack() => XDP_TX,
            Subject::Ours(..) => XDP_PASS,
            Subject::Filter(filter) if filter.hit == filter.deny => XDP_PASS,
            Subject::Filter(_) => XDP_DROP,
            Subject::Reference { .. } if self.packet.is_ack() => XDP_DROP,
            Subject::Reference { .. } => XDP_TX,
        }
    }
}

/// The sources of a flood that a list of `count` is to stop: one of them, or as many as can be drawn of
/// fewer.
pub const fn among(count: u32) -> Sources {
    match count {
        0 | 1 => Sources::One,
        _ => Sources::Among { bits: (count - 1).ilog2() as u8 },
    }
}

/// Returns whether a list of `count` holds all of `sources`.
fn is_within(sources: Sources, count: u32) -> bool {
    sources == Sources::One || sources == among(count)
}

/// Returns the number of sources, in words.
pub fn sources(sources: Sources) -> String {
    match sources {
        Sources::One => "1 source".to_owned(),
        MILLION => "1 M sources".to_owned(),
        Sources::Among { bits } => format!("{} sources", 1_u32 << bits),
    }
}
