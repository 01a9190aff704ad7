//! The packet filter's rule sets, as far as they can decide about a TCP handshake: chains and rules of
//! nf_tables, which hold the rules of iptables-nft too, and those of iptables-legacy.
//!
//! Reading is bounded: never the elements of a large set, and not more than [`MOST_RULES`] rules.

pub mod legacy;
mod parse;
mod xt;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::Netlink;
use super::{Error, Sysctls};

pub use parse::{chain, elements, generation, rule};

/// The most rules that are read.
pub const MOST_RULES: usize = 16_384;
/// The most chains that are read.
const MOST_CHAINS: usize = 4_096;
/// The most sets of which elements are read, and the most elements of each.
const MOST_SETS: usize = 64;
const MOST_ELEMENTS: usize = 512;

/// Messages of nf_tables, include/uapi/linux/netfilter/nf_tables.h: the subsystem's number, then the
/// number of the message.
const NFTABLES: u16 = 10 << 8;
const GET_CHAIN: u16 = NFTABLES | 4;
const GET_RULE: u16 = NFTABLES | 7;
const GET_ELEMENTS: u16 = NFTABLES | 13;
const GET_GENERATION: u16 = NFTABLES | 16;
/// `NFTA_SET_ELEM_LIST_TABLE` and `NFTA_SET_ELEM_LIST_SET`.
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;

/// The rules of the host's packet filter for packets that arrive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RuleSet {
    /// Chains of nf_tables and iptables-legacy.
    pub chains: Vec<Chain>,
    /// Elements of the small sets that conditions on ports, flags, states, marks and interfaces look
    /// up.
    pub sets: BTreeMap<SetName, Vec<Element>>,
    /// True if all rules were read.
    pub complete: bool,
    /// Tables of iptables-legacy that cannot be read, and why: `ip filter: …`.
    pub legacy: Vec<String>,
    /// True if `net.netfilter.nf_conntrack_tcp_loose` is 0: a connection is then invalid if conntrack has not
    /// seen its SYN.
    pub strict: bool,
}

/// A set within a table.
pub type SetName = (Family, String, String);

/// `NFPROTO_…`: the protocols of the packets that a table sees.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Family(pub u8);

impl Family {
    /// IPv4 and IPv6.
    pub const INET: Self = Self(1);
    /// Internet Protocol version 4.
    pub const IPV4: Self = Self(2);
    /// All packets that arrive by a device.
    pub const NETDEV: Self = Self(5);
    /// Internet Protocol version 6.
    pub const IPV6: Self = Self(10);

    /// Returns the name that nft has for it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "other",
        }
    }
}

/// A chain and its rules in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chain {
    /// Family of its table.
    pub family: Family,
    pub table: String,
    pub name: String,
    /// Hook at which packets enter it; `None`: by jumps only.
    pub hook: Option<Hook>,
    /// True if it is a base chain that translates addresses: the kernel's NAT is then at all its hooks.
    pub nat: bool,
    /// True if it is a chain of iptables-legacy. nf_tables can have one of the same name.
    pub legacy: bool,
    pub rules: Vec<Rule>,
}

impl Default for Family {
    fn default() -> Self {
        Self::INET
    }
}

/// Hook at which packets enter a chain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hook {
    /// Number of the hook: `NF_INET_…`, or `NF_NETDEV_…` in the family netdev.
    pub number: u32,
    /// Devices of the hook; none: all.
    pub devices: Vec<String>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rule {
    /// Its number, as `nft --handle list` shows it. In iptables-legacy, its number in the table.
    pub handle: u64,
    /// The conditions that a packet must meet.
    pub conditions: Vec<Condition>,
    /// The effects on a packet that meets them.
    pub effects: Vec<Effect>,
    /// True if the rule makes conntrack follow connections, or may do so.
    pub tracks: bool,
}

/// A condition that a packet must meet. One that cannot be described has [`Source::Other`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// The field that is tested.
    pub source: Source,
    /// Bits of the field that count; empty: all.
    pub mask: Vec<u8>,
    /// Bits that are inverted after the mask is applied; empty: none.
    pub xor: Vec<u8>,
    /// The values that they must have.
    pub test: Test,
}

/// The field that a condition tests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Bytes of the TCP header.
    Transport {
        /// Offset of the first byte.
        offset: u32,
        len: u32,
    },
    /// Bytes of the IP header.
    Network {
        /// Offset of the first byte.
        offset: u32,
        len: u32,
    },
    /// `ct state`
    CtState,
    /// `meta mark`
    Mark,
    /// `ct mark`
    CtMark,
    /// Match by `iifname`
    InName,
    /// Match by `iif`
    InIndex,
    /// `meta l4proto`
    L4Proto,
    /// Another field, by its name.
    Other(String),
}

/// The values that the tested bits must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Test {
    /// The bits equal these.
    Equal(Vec<u8>),
    /// The bits differ from these.
    Unequal(Vec<u8>),
    /// The bits are in a range, both ends included, or outside of it.
    Range {
        /// Least value of the range.
        from: Vec<u8>,
        /// Greatest value of the range.
        to: Vec<u8>,
        /// True if the bits are outside of the range.
        inverted: bool,
    },
    /// The bits are in a set, or not; a map of verdicts holds the verdict for each element.
    Set {
        /// Name of the set.
        name: String,
        /// True if the bits are not in the set.
        inverted: bool,
        /// True if it is a map of verdicts.
        verdicts: bool,
    },
    /// The result cannot be determined; it is the same for the same bits.
    Unknown,
}

/// An effect of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// A verdict about the packet.
    Verdict(Verdict),
    /// The kernel finishes the handshake on the listener's behalf.
    Synproxy,
    /// Something that can decide about the packet or a later one, by its name: a reject, a limit.
    Decides(String),
    /// Something that takes the packet to another socket or interface than its addresses say, by its name.
    Steers(String),
    /// Something that writes other addresses or ports into the packet, by its name, and the destination that it writes,
    /// where that is known.
    Translates(String, Option<Target>),
    /// The MSS of a SYN becomes at most so large; `None`: the size is not known.
    Clamps(Option<u16>),
    /// TCP options are removed that the listener would have agreed to, by its name.
    Strips(String),
    /// Something that changes or classifies a packet or its connection in another way, by its name.
    Changes(String),
    /// Something that cannot decide about a packet, such as a counter.
    Harmless,
}

/// The destination to which a rule translates packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// The address; `None`: this host.
    pub addr: Option<IpAddr>,
    /// The port; `None`: the same one.
    pub port: Option<u16>,
}

impl Target {
    /// Returns whether packets come to a host with these addresses.
    pub fn is_of(&self, own: &[IpAddr]) -> bool {
        self.addr.is_none_or(|addr| own.contains(&addr))
    }
}

/// The decision about a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The packet passes this base chain.
    Accept,
    Drop,
    /// Another chain decides, and then the next rule.
    Jump(String),
    Goto(String),
    /// The chain that jumped here decides.
    Return,
    /// The next rule decides.
    Continue,
    Queue,
}

/// An element of a set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Element {
    pub key: Vec<u8>,
    /// True if it is the first key behind an interval.
    pub ends: bool,
    /// Verdict for it, in a map of verdicts.
    pub verdict: Option<Verdict>,
}

/// Queries to netfilter; the socket stays open between two of them.
#[derive(Debug, Default)]
pub struct Netfilter {
    socket: Option<Netlink>,
}

impl Netfilter {
    /// Returns a number that differs after each change of nf_tables' rules or sets; `None`: the kernel has no
    /// nf_tables.
    pub fn generation(&mut self) -> Result<Option<u32>, Error> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(Netlink::open(NETLINK_NETFILTER)?),
        };
        let asked =
            socket.query("ask for the rule set's generation", GET_GENERATION, &[0; 4], |m| {
                Ok(generation(m.payload))
            });
        absent(asked.map(Some)).map(Option::flatten)
    }

    /// Reads the whole rule set, within the bounds.
    pub fn read(&mut self, sysctls: &Sysctls) -> Result<RuleSet, Error> {
        let mut found = RuleSet { complete: true, ..RuleSet::default() };
        found.strict = is_strict(sysctls)?;
        (found.chains, found.legacy) = legacy::read(&legacy::tables());
        let open = || Netlink::open(NETLINK_NETFILTER);
        let chains = open()?
            .dump_first("list chains", GET_CHAIN, &[0; 4], MOST_CHAINS, |m| Ok(chain(m.payload)));
        let Some(chains) = absent(chains.map(Some))? else { return Ok(found) };
        let rules = open()?
            .dump_first("list rules", GET_RULE, &[0; 4], MOST_RULES, |m| Ok(rule(m.payload)))?;
        found.complete = chains.len() < MOST_CHAINS && rules.len() < MOST_RULES;
        found.chains.extend(assembled(chains, rules));
        for name in looked_up(&found.chains).into_iter().take(MOST_SETS) {
            let mut request = vec![name.0.0, 0, 0, 0];
            for (kind, value) in [(ELEMENTS_TABLE, &name.1), (ELEMENTS_SET, &name.2)] {
                string(&mut request, kind, value);
            }
            let list = open()?.dump_first("list a set", GET_ELEMENTS, &request, 64, |m| {
                Ok(Some(elements(m.payload)))
            });
            // A set that has gone meanwhile, or is too large, is one of which nothing is known.
            let Ok(list) = list else { continue };
            let list: Vec<Element> = list.into_iter().flatten().collect();
            if list.len() < MOST_ELEMENTS {
                found.sets.insert(name, list);
            }
        }
        Ok(found)
    }
}

/// The chains with the rules that are in them.
pub fn assembled(
    mut chains: Vec<Chain>,
    rules: Vec<((Family, String, String), Rule)>,
) -> Vec<Chain> {
    let mut places = BTreeMap::new();
    for (place, chain) in chains.iter().enumerate() {
        places.insert((chain.family, chain.table.clone(), chain.name.clone()), place);
    }
    for (chain, rule) in rules {
        if let Some(chain) = places.get(&chain).and_then(|place| chains.get_mut(*place)) {
            chain.rules.push(rule);
        }
    }
    chains
}

/// Returns whether `net.netfilter.nf_conntrack_tcp_loose` is 0; where netfilter tracks no connections it does not
/// exist.
pub fn is_strict(sysctls: &Sysctls) -> Result<bool, Error> {
    Ok(sysctls.read_number("net.netfilter.nf_conntrack_tcp_loose")? == Some(0))
}

/// Turns the error of a kernel without nf_tables into `None`.
fn absent<T>(answer: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(error) if matches!(error.os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(None),
        other => other,
    }
}

/// The sets with elements that decide whether a rule is about a packet.
fn looked_up(chains: &[Chain]) -> BTreeSet<SetName> {
    let mut names = BTreeSet::new();
    for chain in chains {
        for condition in chain.rules.iter().flat_map(|rule| &rule.conditions) {
            if let Test::Set { name, .. } = &condition.test
                && !matches!(condition.source, Source::Other(_) | Source::Network { .. })
            {
                names.insert((chain.family, chain.table.clone(), name.clone()));
            }
        }
    }
    names
}

fn string(request: &mut Vec<u8>, kind: u16, value: &str) {
    let len = u16::try_from(4 + value.len() + 1).unwrap_or(u16::MAX);
    request.extend_from_slice(&len.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(value.as_bytes());
    request.push(0);
    request.resize(request.len().next_multiple_of(4), 0);
}
