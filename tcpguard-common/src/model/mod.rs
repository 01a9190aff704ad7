//! The tables on the host: the reference that the kernel's maps are compared with, and the state
//! behind replay. Like the kernel's they do not grow with the traffic. Where the kernel has an LRU hash
//! they lose nothing up to half of its size, and comparisons stay there.

extern crate std;

mod keys;
mod packet;
mod recent;
mod sets;
mod sockets;
mod stages;

pub use keys::{cookie_secret, hash_key};
pub use packet::Packet;
pub use recent::Recent;
pub use sets::Sets;
pub use sockets::Sockets;

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use crate::abi::maps::{
    ALLOWANCES, CLIENT_NETWORKS, CLOSED_PORT_CELLS, CLOSED_WORDS, COOKIE_NETWORK_SLOTS,
    DROP_CACHE_SETS, EXEMPT_BUCKETS, FLOW_SETS, HANDED_OVER_SLOTS, HLL_REGISTERS,
    LET_THROUGH_SLOTS, MAX_CLIENTS, MAX_LISTENERS, MAX_NEIGHBOURS, MAX_UNKNOWN, OWN_CACHE,
    PENDING_MARKS, REPLY_LIMIT_BUCKETS, SIG_CACHE, SOURCE_SETS, SYN_ACK_CACHE, TEMPLATES,
};
use crate::abi::{
    ABI_VERSION, Addr, Bucket, Client, ClientNetwork, ClosedPortSource, Config, CookieNetwork,
    CookieSecret, DropCacheSet, ExemptEntry, Flow, FlowKey, FlowSet, HostCounters, Late,
    LetThrough, ListenerCounters, ListenerEntry, ListenerKey, Mode, NextHop, NextHops, Pace,
    PacketCounters, PortEntry, Reason, ReturnedCookies, RuleHits, RuleRef, RuleReturns,
    SignatureKey, SourceCounters, SourceSet, SynAckRecord, SynSamples,
};
use crate::fastpath::{
    self, Accepted, Allowance, CachedSynAck, Claim, Departure, HandedOver, KernelCookie, Note,
    Origin, OwnAddress, PacketCtx, SigCacheEntry, Socket, Tables, Template, exempt,
};
use crate::wire::Segment;

use stages::HostStages;

/// A prefix of a trie: address, prefix length in bits counted as for IPv6 (an IPv4 /24 is 120).
pub type Net = (Addr, u32);

/// The source rules of one rule set for one port, whichever of the kernel's tables they are in.
pub type SourceRules = Vec<(Net, RuleRef)>;

/// All tables of one host.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Boot time in ns that the next decision sees.
    pub now_ns: u64,
    /// See [`Config`].
    pub config: Config,
    /// Counters of the one interface.
    pub packets: PacketCounters,
    /// Counters that belong to no listener.
    pub host: HostCounters,
    /// Sources that send SYNs to where nothing listens, by cell.
    pub closed_port_sources: BTreeMap<u32, ClosedPortSource>,
    /// Words of the filter of closed ports, by index.
    pub closed: BTreeMap<u32, u64>,
    /// The listeners of each port.
    pub ports: BTreeMap<[u8; 2], PortEntry>,
    /// Ids of listeners, those bound to every address included.
    pub listeners: BTreeMap<ListenerKey, u32>,
    /// Listeners by id.
    pub listener_entries: BTreeMap<u32, ListenerEntry>,
    /// Counters by listener id.
    pub listener_counters: BTreeMap<u32, ListenerCounters>,
    /// Late handshakes by listener id.
    pub late: BTreeMap<u32, Late>,
    /// Distinct-source registers by listener id.
    pub distinct_sources: BTreeMap<u32, Box<[u8; HLL_REGISTERS]>>,
    /// Sampled flows.
    pub flows: Sets<FlowKey, Flow, { FLOW_SETS as usize }>,
    /// Marks of flows that may have a handshake under way, by position.
    pub pending: BTreeMap<usize, u8>,
    /// Counters of sources.
    pub sources: Sets<Addr, SourceCounters, { SOURCE_SETS as usize }>,
    /// Validated clients.
    pub clients: Recent<Addr, Client, { MAX_CLIENTS as usize }>,
    /// Marks of the client filters: both are the same here, because nothing is ever forgotten.
    pub client_filter: BTreeSet<usize>,
    /// Source rules by rule set and port in network byte order.
    pub source_rules: BTreeMap<(u64, [u8; 2]), SourceRules>,
    /// Signature rules.
    pub signatures: Vec<(SignatureKey, RuleRef)>,
    /// Ends of rules by slot, boot time in ns.
    pub rule_expiry: BTreeMap<u32, u64>,
    /// Hits of rules by slot.
    pub rule_hits: BTreeMap<u32, RuleHits>,
    /// Exempt prefixes and the boot time in seconds at which the exemption ends.
    pub exempt: Vec<(Net, u32)>,
    /// Dropped SYNs; empty until there is one.
    pub drop_cache: Vec<DropCacheSet>,
    /// Buckets of exempt addresses.
    pub exempt_rates: BTreeMap<u32, Bucket>,
    /// Replies to networks, by bucket.
    pub reply_limits: BTreeMap<usize, u32>,
    /// SYNs that a signature rule matched and that passed, by slot.
    pub let_through: BTreeMap<u32, LetThrough>,
    /// Clients that returned a valid cookie, by slot.
    pub cookie_networks: BTreeMap<u32, CookieNetwork>,
    /// IPv6 networks of clients, by slot.
    pub networks: BTreeMap<u32, ClientNetwork>,
    /// SYN budgets by listener id, and behind them those of retransmitted SYNs and of exempt senders.
    pub budgets: BTreeMap<u32, Bucket>,
    /// Origins of SYN-ACKs that do not fit what is known of their address and port.
    pub unknown_listeners: BTreeMap<ListenerKey, Note>,
    /// Keys of cookies.
    pub cookie_secret: CookieSecret,
    /// The properties of SYN-ACKs.
    pub syn_acks: BTreeMap<ListenerKey, SynAckRecord>,
    /// Prefixes of clients and the numbers of the routes to them.
    pub routes: Vec<(Net, u32)>,
    /// Next hops by number of the route.
    pub next_hops: BTreeMap<u32, NextHops>,
    /// Ethernet addresses of neighbours.
    pub neighbours: Recent<Addr, NextHop, { MAX_NEIGHBOURS as usize }>,
    /// Ethernet addresses of the host, as [`NextHop::mac`].
    pub own_macs: BTreeSet<u64>,
    /// Returned cookies, by listener id.
    pub returned_cookies: BTreeMap<u32, ReturnedCookies>,
    /// True if the last frame that arrived was marked as one without a cookie.
    pub marked: bool,
    /// The host's own socket table.
    pub sockets: Sockets,
    /// Headers of SYNs.
    pub syn_samples: Box<SynSamples>,
    /// See [`Tables::last_syn_ns`].
    pub last_syn_ns: u64,
    sig_cache: BTreeMap<usize, SigCacheEntry>,
    templates: [Template; TEMPLATES],
    templates_until_ns: u64,
    syn_ack_cache: [CachedSynAck; SYN_ACK_CACHE],
    own_cache: [OwnAddress; OWN_CACHE],
    handed_over: BTreeMap<u32, HandedOver>,
    allowances: BTreeMap<u32, Allowance>,
    reply_limit_of_cpu: Bucket,
    closed_ports_of_cpu: Bucket,
    syns: Pace,
    segments: Pace,
    segments_so_far: u64,
    pkt: PacketCtx,
}

/// The configuration of a host in mode enforce, with an agent that was alive at `now_ns`.
pub fn enforcing(now_ns: u64) -> Config {
    Config {
        abi_version: ABI_VERSION,
        mode: Mode::Enforce as u8,
        heartbeat_ns: now_ns,
        heartbeat_limit_ns: 30_000_000_000,
        hash_key: hash_key(1),
        ..Config::default()
    }
}

impl Model {
    /// Departure of everything that leaves. The interface is the one that test runs in the kernel have: `lo`.
    pub const DEPARTURE: Departure = Departure { ifindex: 1, vlan: 0, marks: 0, port: 0 };

    /// Empty tables under this configuration.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Decides about a frame that arrives, with all its effects.
    pub fn ingress(&mut self, frame: &[u8]) -> Reason {
        self.ingress_packet(&mut Packet(frame.to_vec()))
    }

    /// Decides about a frame that arrives, and turns it into its reply where that is the decision.
    pub fn ingress_packet(&mut self, frame: &mut Packet) -> Reason {
        self.packets.entry += 1;
        self.packets.bytes += frame.0.len() as u64;
        self.marked = false;
        let config = self.config;
        let reason = fastpath::ingress(&config, &mut HostStages { frame, model: self });
        self.packets.reasons[reason as usize] += 1;
        reason
    }

    /// Forgets which headers a signature rule dropped a moment ago: the next SYNs take all stages.
    pub const fn forget_templates(&mut self) {
        self.templates_until_ns = 0;
    }

    /// Looks at a frame that leaves and that this host has made.
    pub fn egress(&mut self, frame: &[u8]) {
        self.leaves(frame, self.sockets.origin, true);
    }

    /// Looks at a frame that leaves and that is only forwarded.
    pub fn forward(&mut self, frame: &[u8]) {
        self.leaves(frame, Origin::Foreign, false);
    }

    fn leaves(&mut self, frame: &[u8], origin: Origin, made_here: bool) {
        let config = self.config;
        let mut sent = Segment::default();
        if fastpath::egress(frame, &config, self, &mut sent, made_here) {
            let marks = origin.marks();
            fastpath::learn(frame, &sent, &Departure { marks, ..Self::DEPARTURE }, self);
        }
    }

    /// Gives the host an Ethernet address, and has all its SYN-ACKs leave by the one interface, to this router and
    /// with this VLAN tag ([`crate::wire::vlan`]). That is not forgotten.
    pub fn replies_by(&mut self, own: [u8; 6], router: [u8; 6], vlan: u32) {
        let ifindex = Self::DEPARTURE.ifindex;
        let mut hops = NextHops::of(NextHops::GATEWAY);
        let mac = NextHop::mac(router);
        hops.hops[0] = NextHop { mac, ifindex, vlan, seen: u32::MAX, reserved: 0 };
        self.next_hops.insert(1, hops);
        self.routes = Vec::from([((Addr::ANY_V4, 96), 1), ((Addr::ANY_V6, 0), 1)]);
        self.own_macs.insert(NextHop::mac(own));
        for record in self.syn_acks.values_mut() {
            record.interfaces |= SynAckRecord::interface(ifindex, vlan);
        }
    }

    /// The connection as it is described to the kernel, if `frame` brings back a cookie for the
    /// first time.
    pub fn redeem(&mut self, frame: &[u8]) -> Option<Accepted> {
        let config = self.config;
        let frame = &mut Packet(frame.to_vec());
        match fastpath::redeem(&config, &mut HostStages { frame, model: self }) {
            Claim::New => Some(self.pkt.accepted),
            Claim::None | Claim::Retransmitted => None,
        }
    }

    /// Makes a listener known, or changes its entry.
    pub fn add_listener(&mut self, key: ListenerKey, entry: ListenerEntry) {
        self.ports.entry(key.port).or_default().add(&key.addr, entry.id);
        self.listeners.insert(key, entry.id);
        self.listener_entries.insert(entry.id, entry);
    }
}

fn contains(net: &Net, addr: &Addr) -> bool {
    let same_family = net.0.as_v4().is_some() == addr.as_v4().is_some();
    let bits = net.1 as usize;
    let (a, b) = (net.0.octets(), addr.octets());
    let (whole, rest) = (bits / 8, bits % 8);
    same_family
        && a[..whole] == b[..whole]
        && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0)
}

fn longest<'a, T>(nets: impl Iterator<Item = &'a (Net, T)>, addr: &Addr) -> Option<&'a (Net, T)> {
    nets.filter(|(net, _)| contains(net, addr)).max_by_key(|((_, bits), _)| *bits)
}

/// Returns whether a prefix is that of one client.
fn is_host((addr, bits): &Net) -> bool {
    *bits == addr.client_bits()
}

/// Returns whether it is longer.
fn is_narrow((addr, bits): &Net) -> bool {
    *bits > addr.client_bits()
}

fn with_narrow(rule: RuleRef, narrow: bool) -> RuleRef {
    RuleRef { flags: rule.flags | if narrow { RuleRef::NARROW } else { 0 }, ..rule }
}

impl Tables for Model {
    fn now_ns(&mut self) -> u64 {
        self.now_ns
    }

    fn last_syn_ns(&mut self) -> &mut u64 {
        &mut self.last_syn_ns
    }

    fn syns(&mut self) -> &mut Pace {
        &mut self.syns
    }

    fn segments(&mut self) -> &mut Pace {
        &mut self.segments
    }

    fn host_counters(&mut self) -> Option<&mut HostCounters> {
        Some(&mut self.host)
    }

    fn closed_port_source(&mut self, index: u64) -> Option<&mut ClosedPortSource> {
        Some(self.closed_port_sources.entry(index as u32 & (CLOSED_PORT_CELLS - 1)).or_default())
    }

    fn segment_sampled(&mut self, shift: u8) -> bool {
        self.segments_so_far += 1;
        self.segments_so_far & ((1 << shift) - 1) == 0
    }

    fn syn_samples(&mut self) -> Option<&mut SynSamples> {
        Some(&mut self.syn_samples)
    }

    fn publish(&mut self) {}

    fn port(&self, port: [u8; 2]) -> PortEntry {
        self.ports.get(&port).copied().unwrap_or_default()
    }

    fn closed(&mut self, index: u64) -> Option<&mut u64> {
        Some(self.closed.entry(index as u32 & (CLOSED_WORDS - 1)).or_default())
    }

    fn listener_at(&self, key: &ListenerKey) -> Option<u32> {
        self.listeners.get(key).copied()
    }

    fn listener(&self, id: u32) -> Option<ListenerEntry> {
        self.listener_entries.get(&id).copied()
    }

    fn listener_counters(&mut self, id: u32) -> Option<&mut ListenerCounters> {
        Some(self.listener_counters.entry(id).or_default())
    }

    fn late(&mut self, id: u32) -> Option<&mut Late> {
        Some(self.late.entry(id).or_default())
    }

    fn distinct_sources(&mut self, id: u32) -> Option<&mut [u8; HLL_REGISTERS]> {
        Some(self.distinct_sources.entry(id).or_insert_with(|| Box::new([0; HLL_REGISTERS])))
    }

    fn note_syn_ack(&mut self, key: &ListenerKey, note: Note) {
        if self.unknown_listeners.len() < MAX_UNKNOWN as usize
            || self.unknown_listeners.contains_key(key)
        {
            let noted = self.unknown_listeners.entry(*key).or_default();
            *noted = noted.joined(note);
        }
    }

    fn own_address(&mut self, place: usize) -> Option<&mut OwnAddress> {
        Some(&mut self.own_cache[place & (OWN_CACHE - 1)])
    }

    fn flow_set(&mut self, index: u64) -> Option<&mut FlowSet> {
        Some(self.flows.set(index))
    }

    fn source_set(&mut self, index: u64) -> Option<&mut SourceSet> {
        Some(self.sources.set(index))
    }

    fn pending(&mut self, place: usize) -> Option<&mut u8> {
        Some(self.pending.entry(place & (PENDING_MARKS - 1)).or_default())
    }

    fn opaque(number: u64) -> u64 {
        number
    }

    fn client(&mut self, addr: &Addr) -> Option<&mut Client> {
        self.clients.get_mut(addr)
    }

    fn insert_client(&mut self, addr: &Addr, client: &Client) {
        self.clients.insert(*addr, *client);
    }

    fn may_be_client(&self, _filter: u32, mark: usize) -> bool {
        self.client_filter.contains(&mark)
    }

    fn mark_client(&mut self, mark: usize) {
        self.client_filter.insert(mark);
    }

    fn source_host(&self, set: u64, port: [u8; 2], client: &Addr) -> RuleRef {
        let Some(rules) = self.source_rules.get(&(set, port)) else { return RuleRef::NONE };
        let found = rules.iter().find(|(net, _)| is_host(net) && net.0 == *client);
        found.map_or(RuleRef::NONE, |(host, rule)| {
            let beneath = |net: &Net| is_narrow(net) && contains(host, &net.0);
            with_narrow(*rule, rules.iter().any(|(net, _)| beneath(net)))
        })
    }

    fn source_net(&self, set: u64, port: [u8; 2], addr: &Addr) -> RuleRef {
        let rules = self.source_rules.get(&(set, port)).into_iter().flatten();
        let found = longest(rules.filter(|(net, _)| !is_host(net)), addr);
        found.map_or(RuleRef::NONE, |(net, rule)| with_narrow(*rule, is_narrow(net)))
    }

    fn signature_rule(&self, key: &SignatureKey) -> RuleRef {
        let found = self.signatures.iter().find(|(rule, _)| rule == key);
        found.map_or(RuleRef::NONE, |(_, rule)| *rule)
    }

    fn sig_cache_entry(&mut self, place: usize) -> Option<&mut SigCacheEntry> {
        Some(self.sig_cache.entry(place & (SIG_CACHE - 1)).or_default())
    }

    fn template(&mut self, place: usize) -> Option<&mut Template> {
        Some(&mut self.templates[place & (TEMPLATES - 1)])
    }

    fn templates_until_ns(&mut self) -> &mut u64 {
        &mut self.templates_until_ns
    }

    fn rule_expiry_ns(&self, slot: u32) -> u64 {
        self.rule_expiry.get(&slot).copied().unwrap_or(0)
    }

    fn rule_hits(&mut self, slot: u32) -> Option<&mut u64> {
        Some(&mut self.rule_hits.entry(slot).or_default().hits)
    }

    fn rule_returns(&mut self, slot: u32) -> Option<&mut RuleReturns> {
        Some(&mut self.rule_hits.entry(slot).or_default().returns)
    }

    fn is_exempt_filter_clear(&self, place: usize) -> bool {
        let mut exempt = self.exempt.iter().flat_map(|((net, bits), _)| exempt::places(net, *bits));
        !exempt.any(|of_exempt| of_exempt == place)
    }

    fn exemption(&self, addr: &Addr) -> ExemptEntry {
        let found = longest(self.exempt.iter(), addr);
        ExemptEntry { until_s: found.map_or(0, |(_, until_s)| *until_s) }
    }

    fn exempt_rate(&mut self, index: u64) -> Option<&mut Bucket> {
        Some(self.exempt_rates.entry(index as u32 & (EXEMPT_BUCKETS - 1)).or_default())
    }

    fn drop_cache_set(&mut self, index: u64) -> Option<&mut DropCacheSet> {
        if self.drop_cache.is_empty() {
            self.drop_cache.resize(DROP_CACHE_SETS as usize, DropCacheSet::default());
        }
        self.drop_cache.get_mut((index & u64::from(DROP_CACHE_SETS - 1)) as usize)
    }

    fn let_through(&mut self, index: u64) -> Option<&mut LetThrough> {
        Some(self.let_through.entry(index as u32 & (LET_THROUGH_SLOTS - 1)).or_default())
    }

    fn cookie_network(&mut self, index: u64) -> Option<&mut CookieNetwork> {
        Some(self.cookie_networks.entry(index as u32 & (COOKIE_NETWORK_SLOTS - 1)).or_default())
    }

    fn client_network(&mut self, index: u64) -> Option<&mut ClientNetwork> {
        Some(self.networks.entry(index as u32 & (CLIENT_NETWORKS - 1)).or_default())
    }

    fn reply_limit(&mut self, index: u64) -> Option<&mut u32> {
        Some(self.reply_limits.entry(index as usize & (REPLY_LIMIT_BUCKETS - 1)).or_default())
    }

    fn reply_limit_of_cpu(&mut self) -> &mut Bucket {
        &mut self.reply_limit_of_cpu
    }

    fn closed_ports_of_cpu(&mut self) -> &mut Bucket {
        &mut self.closed_ports_of_cpu
    }

    fn budget(&mut self, listener: u32) -> Option<&mut Bucket> {
        Some(self.budgets.entry(listener).or_default())
    }

    fn retransmit_budget(&mut self, listener: u32) -> Option<&mut Bucket> {
        self.budget(MAX_LISTENERS + listener)
    }

    fn exempt_budget(&mut self, listener: u32) -> Option<&mut Bucket> {
        self.budget(2 * MAX_LISTENERS + listener)
    }

    fn allowance(&mut self, index: u32) -> Option<&mut Allowance> {
        Some(self.allowances.entry(index & (ALLOWANCES - 1)).or_default())
    }

    fn exchange(bucket: &mut Bucket, before: Bucket, after: Bucket) -> bool {
        let unchanged = *bucket == before;
        if unchanged {
            *bucket = after;
        }
        unchanged
    }

    fn cookie_secret(&self) -> Option<&CookieSecret> {
        Some(&self.cookie_secret)
    }

    fn syn_ack_record(&mut self, key: &ListenerKey) -> Option<&mut SynAckRecord> {
        self.syn_acks.get_mut(key)
    }

    fn insert_syn_ack_record(&mut self, key: &ListenerKey, record: &SynAckRecord) {
        self.syn_acks.insert(*key, *record);
    }

    fn cached_syn_ack(&mut self, place: usize) -> Option<&mut CachedSynAck> {
        Some(&mut self.syn_ack_cache[place & (SYN_ACK_CACHE - 1)])
    }

    fn route(&self, client: &Addr) -> Option<u32> {
        longest(self.routes.iter(), client).map(|(_, route)| *route)
    }

    fn next_hops(&mut self, route: u32) -> Option<&mut NextHops> {
        self.next_hops.get_mut(&route)
    }

    fn neighbour(&mut self, addr: &Addr) -> Option<&NextHop> {
        self.neighbours.get_mut(addr).map(|hop| &*hop)
    }

    fn insert_neighbour(&mut self, addr: &Addr, hop: &NextHop) {
        self.neighbours.insert(*addr, *hop);
    }

    fn is_own_mac(&self, mac: u64) -> bool {
        self.own_macs.contains(&mac)
    }

    fn handed_over(&mut self, index: u32) -> Option<&mut HandedOver> {
        Some(self.handed_over.entry(index & (HANDED_OVER_SLOTS - 1)).or_default())
    }

    fn returned_cookies(&mut self, id: u32) -> Option<&mut ReturnedCookies> {
        Some(self.returned_cookies.entry(id).or_default())
    }

    fn socket(&mut self, segment: &Segment, check: bool) -> Socket {
        self.sockets.find(segment, check)
    }

    fn kernel_cookie(&mut self, syn: &Segment, _mss: u16) -> Option<KernelCookie> {
        self.sockets.cookie(syn)
    }
}
