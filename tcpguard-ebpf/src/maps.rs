//! Every map. Layouts and sizes come from `tcpguard_common::abi`.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use tcpguard_common::abi::{
    Addr, Bucket, Client, ClientNetwork, ClosedPortSource, Config, CookieNetwork, CookieSecret,
    DropCacheSet, ExemptEntry, FlowSet, HostCounters, Late, LetThrough, ListenerCounters,
    ListenerEntry, ListenerKey, NextHop, NextHops, Pace, PacketCounters, PortEntry,
    ReturnedCookies, RuleRef, RuleReturns, SignatureKey, SourceHost, SourceSet, SourceV4, SourceV6,
    SynAckRecord, SynSamples, maps as size,
};
use tcpguard_common::fastpath::{
    Allowance, CachedSynAck, HandedOver, OwnAddress, PacketCtx, SigCacheEntry, Template,
};
use tcpguard_common::wire::Segment;

use crate::frame::opaque;

/// State that a CPU keeps between packets.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CpuState {
    /// Jiffies at which `now_ns` was read.
    pub jiffies: u64,
    /// Boot time in ns.
    pub now_ns: u64,
    /// Boot time in ns of the last SYN for a listener.
    pub last_syn_ns: u64,
    /// The SYNs of the last moments.
    pub syns: Pace,
    /// The segments of connections of the last moments.
    pub segments: Pace,
    /// Number of all segments of connections so far.
    pub segments_so_far: u64,
    /// See `Frame::forget`.
    pub scratch: u64,
    /// Slot of the interface at which the frame came in.
    pub slot: u64,
    /// Connections that were handed to the kernel a moment ago, or are about to be made by it.
    pub handed_over: [HandedOver; size::HANDED_OVER_SLOTS as usize],
    /// Limit for tcpguard's own replies to unvalidated sources.
    pub reply_limit: Bucket,
    /// SYNs to closed ports.
    pub closed_ports: Bucket,
    /// Tokens of listeners' budgets.
    pub allowances: [Allowance; size::ALLOWANCES as usize],
    /// Signature rules of the fingerprints that SYNs had a moment ago.
    pub sig_cache: [SigCacheEntry; size::SIG_CACHE],
    /// Headers of SYNs that signature rules dropped a moment ago.
    pub templates: [Template; size::TEMPLATES],
    /// Boot time in ns at which the last template that was made ends; 0: there are none.
    pub templates_until_ns: u64,
    /// Records of the SYN-ACKs of listeners that were looked up a moment ago.
    pub syn_ack_cache: [CachedSynAck; size::SYN_ACK_CACHE],
    /// Own addresses, and others, that were looked up a moment ago.
    pub own_cache: [OwnAddress; size::OWN_CACHE],
    /// The segment that is about to leave.
    pub sent: Segment,
    /// State that the stages of one decision hand to each other.
    pub pkt: PacketCtx,
}

/// Slots of the maps of [`size::SIZED_BY_RULES`], unless the loader sets another number.
const RULE_SLOTS: usize = size::rule_slots(size::RULES) as usize;

#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub static CPU: PerCpuArray<CpuState, 1> = PerCpuArray::new();
#[btf_map]
pub static INTERFACES: Array<[u8; size::MAX_IFINDEX], 1> = Array::new();
#[btf_map]
pub static PATHS: Array<[u32; size::MAX_INTERFACES as usize], 1> = Array::new();
#[btf_map]
pub static NEXT_PROGRAMS: ProgramArray<{ size::MAX_INTERFACES as usize }> = ProgramArray::new();
#[btf_map]
pub static PACKETS: PerCpuArray<PacketCounters, { size::MAX_INTERFACES as usize }> =
    PerCpuArray::new();
#[btf_map]
pub static PORTS: Array<[PortEntry; 65_536], 1> = Array::new();
#[btf_map]
pub static LISTENERS: HashMap<ListenerKey, u32, { 2 * size::MAX_LISTENERS as usize }> =
    HashMap::new();
#[btf_map]
pub static LISTENER_ENTRIES: Array<ListenerEntry, { size::MAX_LISTENERS as usize }> = Array::new();
#[btf_map]
pub static LISTENER_COUNTERS: PerCpuArray<ListenerCounters, { size::MAX_LISTENERS as usize }> =
    PerCpuArray::new();
#[btf_map]
pub static DISTINCT_SOURCES: Array<[u8; size::HLL_REGISTERS], { size::MAX_LISTENERS as usize }> =
    Array::new();
#[btf_map]
pub static FLOWS: Array<FlowSet, { size::FLOW_SETS as usize }> = Array::new();
#[btf_map]
pub static PENDING: Array<[u8; size::PENDING_MARKS], 1> = Array::new();
#[btf_map]
pub static SOURCES: Array<SourceSet, { size::SOURCE_SETS as usize }> = Array::new();
#[btf_map]
pub static CLIENTS: LruHashMap<Addr, Client, { size::MAX_CLIENTS as usize }> = LruHashMap::new();
#[btf_map]
pub static CLIENT_FILTERS: Array<[u64; size::CLIENT_MARK_WORDS], 2> = Array::new();
#[btf_map]
pub static SOURCE_HOSTS: HashMap<SourceHost, RuleRef, RULE_SLOTS, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
#[btf_map]
pub static SOURCE_RULES_V4: LpmTrie<SourceV4, RuleRef, RULE_SLOTS> = LpmTrie::new();
#[btf_map]
pub static SOURCE_RULES_V6: LpmTrie<SourceV6, RuleRef, RULE_SLOTS> = LpmTrie::new();
#[btf_map]
pub static SIGNATURES: HashMap<SignatureKey, RuleRef, { 2 * size::MAX_SIGNATURES as usize }> =
    HashMap::new();
#[btf_map]
pub static RULE_EXPIRY: Array<u64, RULE_SLOTS> = Array::new();
#[btf_map]
pub static RULE_HITS: PerCpuArray<u64, RULE_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static RULE_RETURNS: Array<RuleReturns, RULE_SLOTS> = Array::new();
#[btf_map]
pub static EXEMPT_V4: LpmTrie<[u8; 4], ExemptEntry, { size::MAX_EXEMPT as usize }> = LpmTrie::new();
#[btf_map]
pub static EXEMPT_V6: LpmTrie<[u8; 16], ExemptEntry, { size::MAX_EXEMPT as usize }> =
    LpmTrie::new();
#[btf_map]
pub static EXEMPT_FILTER: Array<[u8; size::EXEMPT_FILTER_BYTES], 1> = Array::new();
#[btf_map]
pub static EXEMPT_RATES: Array<Bucket, { size::EXEMPT_BUCKETS as usize }> = Array::new();
#[btf_map]
pub static DROP_CACHE: Array<DropCacheSet, { size::DROP_CACHE_SETS as usize }> = Array::new();
#[btf_map]
pub static REPLY_LIMITS: PerCpuArray<
    [u32; size::REPLY_LIMIT_PART],
    { size::REPLY_LIMIT_BUCKETS / size::REPLY_LIMIT_PART },
> = PerCpuArray::new();
#[btf_map]
pub static LET_THROUGH: Array<LetThrough, { size::LET_THROUGH_SLOTS as usize }> = Array::new();
#[btf_map]
pub static COOKIE_NETWORKS: Array<CookieNetwork, { size::COOKIE_NETWORK_SLOTS as usize }> =
    Array::new();
#[btf_map]
pub static NETWORKS: Array<ClientNetwork, { size::CLIENT_NETWORKS as usize }> = Array::new();
#[btf_map]
pub static BUDGETS: Array<Bucket, { 3 * size::MAX_LISTENERS as usize }> = Array::new();
#[btf_map]
pub static HOST: PerCpuArray<HostCounters, 1> = PerCpuArray::new();
#[btf_map]
pub static CLOSED_PORT_SOURCES: Array<ClosedPortSource, { size::CLOSED_PORT_CELLS as usize }> =
    Array::new();
#[btf_map]
pub static CLOSED: Array<u64, { size::CLOSED_WORDS as usize }> = Array::new();
#[btf_map]
pub static UNKNOWN_LISTENERS: LruHashMap<ListenerKey, u64, { size::MAX_UNKNOWN as usize }> =
    LruHashMap::new();
#[btf_map]
pub static COOKIE_SECRET: Array<CookieSecret, 1> = Array::new();
#[btf_map]
pub static SYN_ACKS: LruHashMap<ListenerKey, SynAckRecord, { size::MAX_SYN_ACKS as usize }> =
    LruHashMap::new();
#[btf_map]
pub static ROUTES_V4: LpmTrie<[u8; 4], u32, { size::MAX_ROUTES as usize }> = LpmTrie::new();
#[btf_map]
pub static ROUTES_V6: LpmTrie<[u8; 16], u32, { size::MAX_ROUTES as usize }> = LpmTrie::new();
#[btf_map]
pub static NEXT_HOPS: Array<NextHops, { size::MAX_NEXT_HOPS as usize }> = Array::new();
#[btf_map]
pub static NEIGHBOURS: LruHashMap<Addr, NextHop, { size::MAX_NEIGHBOURS as usize }> =
    LruHashMap::new();
#[btf_map]
pub static OWN_MACS: HashMap<u64, u32, { size::MAX_OWN_MACS as usize }> = HashMap::new();
#[btf_map]
pub static LATE: Array<Late, { size::MAX_LISTENERS as usize }> = Array::new();
#[btf_map]
pub static RETURNED_COOKIES: Array<ReturnedCookies, { size::MAX_LISTENERS as usize }> =
    Array::new();
#[btf_map]
pub static SYN_SAMPLES: PerCpuArray<SynSamples, 1> = PerCpuArray::new();
/// Boot time in ns for tests that compare with the host; read only when [`FIXED_CLOCK`] is set.
#[btf_map]
pub static CLOCK: Array<u64, 1> = Array::new();

/// 1: take the time from [`CLOCK`], and every SYN-ACK for the host's own, because behind a frame of a
/// test run there is no connection. Frozen before load, so that otherwise no trace of it is left.
#[unsafe(no_mangle)]
pub static FIXED_CLOCK: Global<u8> = Global::new(0);

/// 0: the kernel gives a program no frame in several pieces, and has no helper for the length of one (before Linux 5.18).
/// Frozen before load, so that no call of the helper is left.
#[unsafe(no_mangle)]
pub static MULTI_BUFFER: Global<u8> = Global::new(1);

/// The entry of an interface in `INTERFACES`; 0 if there is none.
#[inline(always)]
fn entry(ifindex: u32) -> Option<u8> {
    let entries = INTERFACES.get(0)?;
    // Opaque, so that the compiler keeps the mask, although a comparison has made it needless: the verifiers
    // before Linux 6.3 forget the bounds of an index that is kept on the stack meanwhile.
    let place = opaque(ifindex as usize) & (size::MAX_IFINDEX - 1);
    Some(if (ifindex as usize) < size::MAX_IFINDEX { entries[place] } else { 0 })
}

/// Returns whether nothing that comes in by an interface has come by an attached one.
#[inline(always)]
pub fn is_unattached(ifindex: u32) -> bool {
    entry(ifindex) == Some(size::UNATTACHED)
}

/// The index of the interface that stands for the path of this one: a packet that arrives by one member of a bond may be
/// answered by another.
#[inline(always)]
pub fn path(ifindex: u32) -> u32 {
    let (Some(slot), Some(paths)) = (entry(ifindex), PATHS.get(0)) else { return ifindex };
    if slot == size::UNATTACHED {
        return ifindex;
    }
    match paths[opaque(slot as usize) & (size::MAX_INTERFACES as usize - 1)] {
        0 => ifindex,
        path => path,
    }
}

/// The slot of an interface; 0 for one without a slot of its own.
#[inline(always)]
pub fn interface_slot(ifindex: u32) -> u32 {
    match entry(ifindex) {
        None | Some(size::UNATTACHED) => 0,
        Some(slot) => slot.into(),
    }
}

/// The counters of an interface slot.
#[inline(always)]
pub fn packet_counters(slot: u32) -> Option<&'static mut PacketCounters> {
    let counters = PACKETS.get_ptr_mut(slot)?;
    // SAFETY: this CPU's value of a per-CPU array; XDP programs do not preempt each other.
    Some(unsafe { &mut *counters })
}
