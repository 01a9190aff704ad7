//! Names and sizes of the BPF maps, for both sides.
//!
//! Constant memory: nothing here grows with the traffic. `tests/layout.rs` asserts the cost of all
//! maps together on 2, 16, 64 and 128 CPUs.

use super::WAYS;

/// Listeners monitored at most; more are not protected and `status` says so.
pub const MAX_LISTENERS: u32 = 4096;
/// Rules (of all kinds) in force at most, where the configuration gives them no other room. One for
/// certain ports counts once for each.
pub const RULES: u32 = 16_384;
/// The least room for rules that there may be.
pub const MIN_RULES: u32 = 2048;
/// The most.
pub const MAX_RULES: u32 = 131_072;

/// Slots for the expiry times and hits of rules, of which `rules` may be in force. While one rule set replaces
/// another both are in the kernel, and a rule shares its slot with no rule but itself.
pub const fn rule_slots(rules: u32) -> u32 {
    2 * rules
}

/// Signature rules at most.
pub const MAX_SIGNATURES: u32 = 1024;
/// Prefixes in each exempt trie at most.
pub const MAX_EXEMPT: u32 = 4096;
/// Buckets of exempt addresses, 8 KiB; a power of two.
pub const EXEMPT_BUCKETS: u32 = 1024;
/// Bytes of the filter in front of the exempt tries, a bit for every 16 bits of a prefix of each family.
pub const EXEMPT_FILTER_BYTES: usize = 16_384;
/// Sampled connection attempts remembered.
pub const MAX_FLOWS: u32 = FLOW_SETS * WAYS as u32;
/// Sets of the table of sampled connection attempts; a power of two.
pub const FLOW_SETS: u32 = 4096;
/// Sources remembered. A flood turns this table over, so nothing that protects depends on it.
pub const MAX_SOURCES: u32 = SOURCE_SETS * WAYS as u32;
/// Sets of the table of sources; a power of two.
pub const SOURCE_SETS: u32 = 1024;
/// Validated clients remembered (LRU). Only a completed handshake adds one.
pub const MAX_CLIENTS: u32 = 65_536;
/// Marks of each of the two client filters, a bit for every 16 bits of a prefix.
pub const CLIENT_MARKS: usize = 65_536;
/// Words of 64 marks each in a client filter, 8 KiB.
pub const CLIENT_MARK_WORDS: usize = CLIENT_MARKS / 64;
/// Sets of the table of dropped SYNs, 8 slots each; a power of two.
pub const DROP_CACHE_SETS: u32 = 131_072;
/// Slots for SYNs that a signature rule matched and that passed, 64 KiB; a power of two.
pub const LET_THROUGH_SLOTS: u32 = 4_096;
/// Slots for networks of clients that returned a valid cookie, 32 KiB; a power of two.
pub const COOKIE_NETWORK_SLOTS: u32 = 2_048;
/// Slots for IPv6 networks of clients, 32 KiB; a power of two.
pub const CLIENT_NETWORKS: u32 = 2_048;
/// Buckets of the networks that are answered, of each CPU, 256 KiB; a power of two. A flood of 15 M SYN/s from
/// everywhere takes 229 a second from each, on all CPUs together.
pub const REPLY_LIMIT_BUCKETS: usize = 65_536;
/// Buckets in an element of their map: the kernel allows 32 KiB for a value of each CPU.
pub const REPLY_LIMIT_PART: usize = 8_192;
/// Slots of each CPU for tokens of listeners' budgets; a power of two.
pub const ALLOWANCES: u32 = 64;
/// Interfaces with counters of their own; slot 0 is shared by all others.
pub const MAX_INTERFACES: u32 = 64;
/// In `INTERFACES`, instead of a slot: the interface is not attached, nor is it above an attached one (a VLAN,
/// a bond, a bridge), so that handshakes which end there began there.
pub const UNATTACHED: u8 = u8::MAX;
/// Interface indices that can have a slot.
pub const MAX_IFINDEX: usize = 65_536;
/// Registers of a listener's distinct-source estimator (HyperLogLog): standard error 1.04/sqrt(m) = 3.3 %.
pub const HLL_REGISTERS: usize = 1024;
/// Cells for sources that send SYNs to where nothing listens; a power of two.
pub const CLOSED_PORT_CELLS: u32 = 1024;
/// Words of the filter of closed ports, 128 KiB; a power of two. The arithmetic stands in
/// [`crate::fastpath::closed`].
pub const CLOSED_WORDS: u32 = 16_384;
/// Local addresses and ports with SYN-ACKs that do not fit what the agent knows of them, waiting for it (LRU).
pub const MAX_UNKNOWN: u32 = 256;

/// Local addresses and ports with a record of their replies to SYNs (LRU).
pub const MAX_SYN_ACKS: u32 = 2_600;
/// Prefixes of each family to which routes lead, those of own addresses included.
pub const MAX_ROUTES: u32 = 4096;
/// Routes with next hops of their own, 60 KiB; a power of two. The first is that to nowhere, and the last the
/// self-test's.
pub const MAX_NEXT_HOPS: u32 = 512;
/// Neighbours with a recorded Ethernet address (LRU).
pub const MAX_NEIGHBOURS: u32 = 512;
/// Ethernet addresses of this host.
pub const MAX_OWN_MACS: u32 = 128;
/// Slots of each CPU for connections that were handed to the kernel a moment ago; a power of two.
/// Several times a NAPI budget (64), so that packets of one poll hardly share a slot.
pub const HANDED_OVER_SLOTS: u32 = 512;
/// Marks of flows that may have a handshake under way, a byte each; a power of two. See
/// [`crate::fastpath::pending`].
pub const PENDING_MARKS: usize = 65_536;
/// Fingerprints of SYNs for which each CPU caches the signature rule, 64 bytes each; a power of two.
pub const SIG_CACHE: usize = 256;
/// Headers of dropped SYNs that each CPU remembers as templates, 168 bytes each; a power of two.
pub const TEMPLATES: usize = 8;
/// Local addresses and ports for which each CPU caches the record of their replies to SYNs, 56 bytes each; a
/// power of two.
pub const SYN_ACK_CACHE: usize = 16;
/// Addresses of which each CPU remembers whether they are the host's own, 20 bytes each; a power of two.
pub const OWN_CACHE: usize = 8;
/// Headers of SYNs that each CPU keeps; a power of two. While an incident is young, one poll finds
/// about 8 of each listener that has one.
pub const SYN_SAMPLES_KEPT: u32 = 64;

/// Array of 1: [`super::Config`].
pub const CONFIG: &str = "CONFIG";
/// Array of 1: interface slot (u8), or [`UNATTACHED`], by interface index.
pub const INTERFACES: &str = "INTERFACES";
/// Array of 1: `[u32; MAX_INTERFACES]`, by slot the index of the interface that stands for all of one path, such as the
/// members of a bond; 0: it is a path of its own.
pub const PATHS: &str = "PATHS";
/// Program array by interface slot: the next program of the interface.
pub const NEXT_PROGRAMS: &str = "NEXT_PROGRAMS";
/// Per-CPU array by interface slot: [`super::PacketCounters`].
pub const PACKETS: &str = "PACKETS";
/// Array of 1: [`super::PortEntry`] by port in host byte order.
pub const PORTS: &str = "PORTS";
/// Hash: [`super::ListenerKey`] with one address to [`super::ListenerEntry::id`] (u32).
pub const LISTENERS: &str = "LISTENERS";
/// Array by listener id: [`super::ListenerEntry`].
pub const LISTENER_ENTRIES: &str = "LISTENER_ENTRIES";
/// Per-CPU array by listener id: [`super::ListenerCounters`].
pub const LISTENER_COUNTERS: &str = "LISTENER_COUNTERS";
/// Array by listener id: [`super::Late`].
pub const LATE: &str = "LATE";
/// Array by listener id: `[u8; HLL_REGISTERS]`.
pub const DISTINCT_SOURCES: &str = "DISTINCT_SOURCES";
/// Array by keyed hash of the connection: [`super::FlowSet`]; see [`crate::fastpath::sets`].
pub const FLOWS: &str = "FLOWS";
/// Array by keyed hash of the source: [`super::SourceSet`], likewise.
pub const SOURCES: &str = "SOURCES";
/// Array of 1: marks (u8) by keyed hash of the connection; see [`crate::fastpath::pending`].
pub const PENDING: &str = "PENDING";
/// LRU hash: [`super::Addr`] to [`super::Client`].
pub const CLIENTS: &str = "CLIENTS";
/// Array of 2: marks (bits of u64) by prefix; see [`crate::fastpath::clients`].
pub const CLIENT_FILTERS: &str = "CLIENT_FILTERS";
/// Hash: [`super::SourceHost`] to [`super::RuleRef`], with room for two rule sets. Its elements are made
/// when they are needed.
pub const SOURCE_HOSTS: &str = "SOURCE_HOSTS";
/// LPM trie: [`super::SourceKey`] of [`super::SourceV4`] to [`super::RuleRef`], with room for two
/// rule sets.
pub const SOURCE_RULES_V4: &str = "SOURCE_RULES_V4";
/// LPM trie: [`super::SourceKey`] of [`super::SourceV6`] to [`super::RuleRef`], likewise.
pub const SOURCE_RULES_V6: &str = "SOURCE_RULES_V6";
/// Hash: [`super::SignatureKey`] to [`super::RuleRef`], with room for two rule sets.
pub const SIGNATURES: &str = "SIGNATURES";
/// Array by rule slot: boot time in ns (u64) at which the rule ends; 0 means that it has ended.
pub const RULE_EXPIRY: &str = "RULE_EXPIRY";
/// Per-CPU array by rule slot: hits (u64), [`super::RuleHits::hits`].
pub const RULE_HITS: &str = "RULE_HITS";
/// Array by rule slot: [`super::RuleReturns`].
pub const RULE_RETURNS: &str = "RULE_RETURNS";
/// LPM trie: [`super::PrefixV4`] to [`super::ExemptEntry`].
pub const EXEMPT_V4: &str = "EXEMPT_V4";
/// LPM trie: [`super::PrefixV6`] to [`super::ExemptEntry`].
pub const EXEMPT_V6: &str = "EXEMPT_V6";
/// Array of 1: bits by prefix; see [`crate::fastpath::exempt`].
pub const EXEMPT_FILTER: &str = "EXEMPT_FILTER";
/// Array by keyed hash of an exempt address: [`super::Bucket`] of its SYNs that pass in spite of a signature rule or a
/// limit.
pub const EXEMPT_RATES: &str = "EXEMPT_RATES";
/// Array by bucket: [`super::DropCacheSet`].
pub const DROP_CACHE: &str = "DROP_CACHE";
/// Array by keyed hash of the connection: [`super::LetThrough`].
pub const LET_THROUGH: &str = "LET_THROUGH";
/// Array by keyed hash of the client's network: [`super::CookieNetwork`].
pub const COOKIE_NETWORKS: &str = "COOKIE_NETWORKS";
/// Array by keyed hash of an IPv6 /48: [`super::ClientNetwork`].
pub const NETWORKS: &str = "NETWORKS";
/// Per-CPU array of parts of the buckets (u32) of replies, by keyed hash of a network: [`super::ReplyRate`].
pub const REPLY_LIMITS: &str = "REPLY_LIMITS";
/// Array by listener id: [`super::Bucket`] of the SYN budget; behind these, by listener id + [`MAX_LISTENERS`], that of
/// retransmitted SYNs under signature rules; and behind these that of exempt senders, on all networks together.
pub const BUDGETS: &str = "BUDGETS";
/// Per-CPU array of 1: [`super::HostCounters`].
pub const HOST: &str = "HOST";
/// Array by keyed hash of the source: [`super::ClosedPortSource`].
pub const CLOSED_PORT_SOURCES: &str = "CLOSED_PORT_SOURCES";
/// Array by keyed hash of a local address and port: a word (u64) of the filter of closed ports; see
/// [`crate::fastpath::closed`].
pub const CLOSED: &str = "CLOSED";
/// LRU hash: [`super::ListenerKey`] to the origins of its SYN-ACKs (u64), a [`crate::fastpath::Note`].
pub const UNKNOWN_LISTENERS: &str = "UNKNOWN_LISTENERS";
/// Array of 1: [`super::CookieSecret`].
pub const COOKIE_SECRET: &str = "COOKIE_SECRET";
/// LRU hash: [`super::ListenerKey`] with one address to [`super::SynAckRecord`]. With every address: to the
/// common properties of the SYN-ACKs of a listener that is bound to all addresses.
pub const SYN_ACKS: &str = "SYN_ACKS";
/// LPM trie: [`super::PrefixV4`] of clients to the number of the route to them (u32).
pub const ROUTES_V4: &str = "ROUTES_V4";
/// LPM trie: [`super::PrefixV6`], likewise.
pub const ROUTES_V6: &str = "ROUTES_V6";
/// Array by number of a route: [`super::NextHops`].
pub const NEXT_HOPS: &str = "NEXT_HOPS";
/// LRU hash: [`super::Addr`] of a neighbour to its [`super::NextHop`].
pub const NEIGHBOURS: &str = "NEIGHBOURS";
/// Hash: an Ethernet address of this host, as [`super::NextHop::mac`] (u64), to 1 (u32).
pub const OWN_MACS: &str = "OWN_MACS";
/// Array by listener id: [`super::ReturnedCookies`].
pub const RETURNED_COOKIES: &str = "RETURNED_COOKIES";
/// Per-CPU array of 1: [`super::SynSamples`].
pub const SYN_SAMPLES: &str = "SYN_SAMPLES";
/// Array of 1: boot time in ns (u64) for tests that run kernel and host on the same clock.
pub const CLOCK: &str = "CLOCK";

/// The maps with a capacity of [`rule_slots`], which the loader of the programs sets.
pub const SIZED_BY_RULES: [&str; 6] =
    [SOURCE_HOSTS, SOURCE_RULES_V4, SOURCE_RULES_V6, RULE_EXPIRY, RULE_HITS, RULE_RETURNS];

/// The maps that outlive the agent, so that the next one continues with them, or that are shared with the
/// program for returned cookies. The others hold state that is of use for a moment only.
pub const PINNED: [&str; 39] = [
    CONFIG,
    INTERFACES,
    PATHS,
    NEXT_PROGRAMS,
    PACKETS,
    PORTS,
    LISTENERS,
    LISTENER_ENTRIES,
    LISTENER_COUNTERS,
    LATE,
    DISTINCT_SOURCES,
    FLOWS,
    PENDING,
    SOURCES,
    CLIENTS,
    CLIENT_FILTERS,
    SOURCE_HOSTS,
    SOURCE_RULES_V4,
    SOURCE_RULES_V6,
    SIGNATURES,
    RULE_EXPIRY,
    RULE_HITS,
    RULE_RETURNS,
    EXEMPT_V4,
    EXEMPT_V6,
    EXEMPT_FILTER,
    DROP_CACHE,
    BUDGETS,
    HOST,
    CLOSED_PORT_SOURCES,
    COOKIE_SECRET,
    SYN_ACKS,
    ROUTES_V4,
    ROUTES_V6,
    NEXT_HOPS,
    NEIGHBOURS,
    OWN_MACS,
    RETURNED_COOKIES,
    COOKIE_NETWORKS,
];
