//! The decision's state, over maps.
//!
//! References handed out point into map values. Several CPUs may write the shared ones at once. Such a race
//! can lose a count, a mark or an entry of a set (`fastpath::sets`), but never breaks memory safety: values
//! are plain integers, and the kernel keeps an element's memory valid while a program runs.

use core::arch::asm;

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use tcpguard_common::abi::maps as size;
use tcpguard_common::abi::{
    Addr, Bucket, Client, ClientNetwork, ClosedPortSource, CookieNetwork, CookieSecret,
    DropCacheSet, ExemptEntry, FlowSet, HostCounters, Late, LetThrough, ListenerCounters,
    ListenerEntry, ListenerKey, NextHop, NextHops, Pace, PortEntry, ReturnedCookies, RuleRef,
    RuleReturns, SignatureKey, SourceHost, SourceSet, SourceV4, SourceV6, SynAckRecord, SynSamples,
};
use tcpguard_common::fastpath::{
    Allowance, CachedSynAck, HandedOver, KernelCookie, Note, OwnAddress, SigCacheEntry, Socket,
    Tables, Template,
};
use tcpguard_common::wire::Segment;

use crate::frame::opaque;
use crate::maps::{self, CpuState};
use crate::sockets;

/// Update flags: create or overwrite.
const ANY: u64 = 0;

/// A field of this CPU's state.
macro_rules! own {
    ($tables:ident.$field:ident) => {
        // SAFETY: `cpu` points to a whole `CpuState` of this CPU, and no other reference to this field
        // exists.
        unsafe { &mut (*$tables.cpu).$field }
    };
}

pub struct KernelTables {
    cpu: *mut CpuState,
    /// The program's context, where a stage asks about sockets; else null.
    pub context: *mut c_void,
}

impl KernelTables {
    #[inline(always)]
    pub fn new() -> Option<Self> {
        Some(Self::on(maps::CPU.get_ptr_mut(0)?))
    }

    /// The tables with this CPU's state.
    #[inline(always)]
    pub const fn on(cpu: *mut CpuState) -> Self {
        Self { cpu, context: core::ptr::null_mut() }
    }

    /// The segment at hand on egress.
    #[inline(always)]
    pub fn sent(&self) -> *mut Segment {
        own!(self.sent)
    }

    /// Notes the slot of the interface at which the frame came in.
    #[inline(always)]
    pub fn note_slot(&mut self, slot: u32) {
        *own!(self.slot) = slot.into();
    }

    /// The slot that was noted. Read from memory, because the verifier would walk the whole program once more for a slot
    /// with a value that it knows.
    #[inline(always)]
    pub fn slot(&self) -> u32 {
        // SAFETY: this CPU's state.
        unsafe { (&raw const (*self.cpu).slot).read_volatile() as u32 }
    }

    /// The word for `Frame::forget`.
    #[inline(always)]
    pub fn scratch(&self) -> *mut u64 {
        own!(self.scratch)
    }
}

/// Turns a looked-up pointer into a reference for the rest of the call.
macro_rules! deref {
    ($pointer:expr) => {{
        let pointer = $pointer?;
        // SAFETY: a map value that was looked up in this run of the program; see the module's
        // comment on concurrent writers.
        Some(unsafe { &mut *pointer })
    }};
}

impl Tables for KernelTables {
    #[inline(always)]
    fn now_ns(&mut self) -> u64 {
        if maps::FIXED_CLOCK.load() != 0 {
            return maps::CLOCK.get(0).copied().unwrap_or(0);
        }
        // SAFETY: this CPU's state; the helpers have no preconditions.
        unsafe {
            let jiffies = bpf_jiffies64();
            if (*self.cpu).jiffies != jiffies {
                (*self.cpu).jiffies = jiffies;
                (*self.cpu).now_ns = bpf_ktime_get_boot_ns();
            }
            (*self.cpu).now_ns
        }
    }

    #[inline(always)]
    fn last_syn_ns(&mut self) -> &mut u64 {
        own!(self.last_syn_ns)
    }

    #[inline(always)]
    fn syns(&mut self) -> &mut Pace {
        own!(self.syns)
    }

    #[inline(always)]
    fn segments(&mut self) -> &mut Pace {
        own!(self.segments)
    }

    #[inline(always)]
    fn host_counters(&mut self) -> Option<&mut HostCounters> {
        deref!(maps::HOST.get_ptr_mut(0))
    }

    #[inline(always)]
    fn closed_port_source(&mut self, index: u64) -> Option<&mut ClosedPortSource> {
        deref!(maps::CLOSED_PORT_SOURCES.get_ptr_mut(index as u32 & (size::CLOSED_PORT_CELLS - 1)))
    }

    #[inline(always)]
    fn segment_sampled(&mut self, shift: u8) -> bool {
        // SAFETY: this CPU's state.
        unsafe {
            (*self.cpu).segments_so_far += 1;
            (*self.cpu).segments_so_far & ((1 << (shift & 31)) - 1) == 0
        }
    }

    #[inline(always)]
    fn syn_samples(&mut self) -> Option<&mut SynSamples> {
        deref!(maps::SYN_SAMPLES.get_ptr_mut(0))
    }

    #[inline(always)]
    fn publish(&mut self) {
        // SAFETY: changes nothing, but for the compiler it may read and write all memory. A reader of the map
        // on another CPU uses a system call that copies it from its start.
        unsafe { asm!("", options(nostack)) };
    }

    #[inline(always)]
    fn port(&self, port: [u8; 2]) -> PortEntry {
        match maps::PORTS.get(0) {
            // Kernels before 6.18 lose the bounds of a number when its bytes are swapped.
            Some(ports) => ports[opaque(u16::from_be_bytes(port).into()) & 0xffff],
            None => PortEntry::default(),
        }
    }

    #[inline(always)]
    fn closed(&mut self, index: u64) -> Option<&mut u64> {
        deref!(maps::CLOSED.get_ptr_mut(index as u32 & (size::CLOSED_WORDS - 1)))
    }

    #[inline(always)]
    fn listener_at(&self, key: &ListenerKey) -> Option<u32> {
        // SAFETY: copied at once; only the agent changes entries.
        unsafe { maps::LISTENERS.get(key).copied() }
    }

    #[inline(always)]
    fn listener(&self, id: u32) -> Option<ListenerEntry> {
        maps::LISTENER_ENTRIES.get(id).copied()
    }

    #[inline(always)]
    fn listener_counters(&mut self, id: u32) -> Option<&mut ListenerCounters> {
        deref!(maps::LISTENER_COUNTERS.get_ptr_mut(id))
    }

    #[inline(always)]
    fn distinct_sources(&mut self, id: u32) -> Option<&mut [u8; size::HLL_REGISTERS]> {
        deref!(maps::DISTINCT_SOURCES.get_ptr_mut(id))
    }

    #[inline(always)]
    fn note_syn_ack(&mut self, key: &ListenerKey, note: Note) {
        if let Some(noted) = maps::UNKNOWN_LISTENERS.get_ptr_mut(key) {
            // SAFETY: a value looked up in this run.
            unsafe { *noted = Note(*noted).joined(note).0 };
        } else {
            // A full table loses the oldest, which is noted again with its next SYN-ACK.
            let _ = maps::UNKNOWN_LISTENERS.insert(key, note.0, ANY);
        }
    }

    #[inline(always)]
    fn own_address(&mut self, place: usize) -> Option<&mut OwnAddress> {
        Some(&mut own!(self.own_cache)[opaque(place) & (size::OWN_CACHE - 1)])
    }

    #[inline(always)]
    fn flow_set(&mut self, index: u64) -> Option<&mut FlowSet> {
        deref!(maps::FLOWS.get_ptr_mut(index as u32 & (size::FLOW_SETS - 1)))
    }

    #[inline(always)]
    fn source_set(&mut self, index: u64) -> Option<&mut SourceSet> {
        deref!(maps::SOURCES.get_ptr_mut(index as u32 & (size::SOURCE_SETS - 1)))
    }

    #[inline(always)]
    fn pending(&mut self, place: usize) -> Option<&mut u8> {
        let marks = deref!(maps::PENDING.get_ptr_mut(0))?;
        Some(&mut marks[opaque(place) & (size::PENDING_MARKS - 1)])
    }

    #[inline(always)]
    fn opaque(number: u64) -> u64 {
        opaque(number as usize) as u64
    }

    #[inline(always)]
    fn client(&mut self, addr: &Addr) -> Option<&mut Client> {
        deref!(maps::CLIENTS.get_ptr_mut(addr))
    }

    #[inline(always)]
    fn insert_client(&mut self, addr: &Addr, client: &Client) {
        let _ = maps::CLIENTS.insert(addr, client, ANY);
    }

    #[inline(always)]
    fn may_be_client(&self, filter: u32, mark: usize) -> bool {
        match maps::CLIENT_FILTERS.get(filter) {
            Some(marks) => {
                let word = marks[opaque(mark >> 6) & (size::CLIENT_MARK_WORDS - 1)];
                word >> (mark & 63) & 1 != 0
            }
            // There is no such filter: look the client up.
            None => true,
        }
    }

    #[inline(always)]
    fn mark_client(&mut self, mark: usize) {
        for filter in 0..2 {
            if let Some(marks) = maps::CLIENT_FILTERS.get_ptr_mut(filter) {
                // SAFETY: a value looked up in this run.
                let word =
                    unsafe { &raw mut (*marks)[opaque(mark >> 6) & (size::CLIENT_MARK_WORDS - 1)] };
                let bit = 1_u64 << (mark & 63);
                // SAFETY: the word is aligned and within the value. Another CPU may set a bit of it at once, and
                // neither may be lost. (Kernels before 5.12 get an addition instead: it sets a bit that is not set.)
                unsafe {
                    if *word & bit == 0 {
                        asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bit, options(nostack));
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn source_host(&self, set: u64, port: [u8; 2], client: &Addr) -> RuleRef {
        // SAFETY: copied at once; only the agent changes entries.
        let rule = unsafe { maps::SOURCE_HOSTS.get(SourceHost::new(set, port, client)) };
        rule.copied().unwrap_or(RuleRef::NONE)
    }

    #[inline(always)]
    fn source_net(&self, set: u64, port: [u8; 2], addr: &Addr) -> RuleRef {
        let rule = match addr.as_v4() {
            Some(v4) => {
                let key = Key::new(SourceV4::BITS, SourceV4::new(set, port, v4));
                maps::SOURCE_RULES_V4.get(&key)
            }
            None => {
                let key = Key::new(SourceV6::BITS, SourceV6::new(set, port, *addr));
                maps::SOURCE_RULES_V6.get(&key)
            }
        };
        rule.copied().unwrap_or(RuleRef::NONE)
    }

    #[inline(always)]
    fn signature_rule(&self, key: &SignatureKey) -> RuleRef {
        // SAFETY: copied at once; only the agent changes entries.
        unsafe { maps::SIGNATURES.get(key) }.copied().unwrap_or(RuleRef::NONE)
    }

    #[inline(always)]
    fn sig_cache_entry(&mut self, place: usize) -> Option<&mut SigCacheEntry> {
        Some(&mut own!(self.sig_cache)[opaque(place) & (size::SIG_CACHE - 1)])
    }

    #[inline(always)]
    fn template(&mut self, place: usize) -> Option<&mut Template> {
        Some(&mut own!(self.templates)[opaque(place) & (size::TEMPLATES - 1)])
    }

    #[inline(always)]
    fn templates_until_ns(&mut self) -> &mut u64 {
        own!(self.templates_until_ns)
    }

    #[inline(always)]
    fn rule_expiry_ns(&self, slot: u32) -> u64 {
        maps::RULE_EXPIRY.get(slot).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn rule_hits(&mut self, slot: u32) -> Option<&mut u64> {
        deref!(maps::RULE_HITS.get_ptr_mut(slot))
    }

    #[inline(always)]
    fn rule_returns(&mut self, slot: u32) -> Option<&mut RuleReturns> {
        deref!(maps::RULE_RETURNS.get_ptr_mut(slot))
    }

    #[inline(always)]
    fn is_exempt_filter_clear(&self, place: usize) -> bool {
        match maps::EXEMPT_FILTER.get(0) {
            Some(bits) => {
                let byte = bits[opaque(place >> 3) & (size::EXEMPT_FILTER_BYTES - 1)];
                byte >> (place & 7) & 1 != 0
            }
            // Without a filter: look the address up.
            None => false,
        }
    }

    #[inline(always)]
    fn exemption(&self, addr: &Addr) -> ExemptEntry {
        let entry = match addr.as_v4() {
            Some(v4) => maps::EXEMPT_V4.get(&Key::new(32, v4)),
            None => maps::EXEMPT_V6.get(&Key::new(128, addr.octets())),
        };
        entry.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn exempt_rate(&mut self, index: u64) -> Option<&mut Bucket> {
        deref!(maps::EXEMPT_RATES.get_ptr_mut(index as u32 & (size::EXEMPT_BUCKETS - 1)))
    }

    #[inline(always)]
    fn drop_cache_set(&mut self, index: u64) -> Option<&mut DropCacheSet> {
        deref!(maps::DROP_CACHE.get_ptr_mut(index as u32 & (size::DROP_CACHE_SETS - 1)))
    }

    #[inline(always)]
    fn let_through(&mut self, index: u64) -> Option<&mut LetThrough> {
        deref!(maps::LET_THROUGH.get_ptr_mut(index as u32 & (size::LET_THROUGH_SLOTS - 1)))
    }

    #[inline(always)]
    fn cookie_network(&mut self, index: u64) -> Option<&mut CookieNetwork> {
        deref!(maps::COOKIE_NETWORKS.get_ptr_mut(index as u32 & (size::COOKIE_NETWORK_SLOTS - 1)))
    }

    #[inline(always)]
    fn client_network(&mut self, index: u64) -> Option<&mut ClientNetwork> {
        deref!(maps::NETWORKS.get_ptr_mut(index as u32 & (size::CLIENT_NETWORKS - 1)))
    }

    #[inline(always)]
    fn reply_limit(&mut self, index: u64) -> Option<&mut u32> {
        let place = index as usize & (size::REPLY_LIMIT_BUCKETS - 1);
        let part = deref!(maps::REPLY_LIMITS.get_ptr_mut((place / size::REPLY_LIMIT_PART) as u32))?;
        Some(&mut part[opaque(place) & (size::REPLY_LIMIT_PART - 1)])
    }

    #[inline(always)]
    fn reply_limit_of_cpu(&mut self) -> &mut Bucket {
        own!(self.reply_limit)
    }

    #[inline(always)]
    fn closed_ports_of_cpu(&mut self) -> &mut Bucket {
        own!(self.closed_ports)
    }

    #[inline(always)]
    fn budget(&mut self, listener: u32) -> Option<&mut Bucket> {
        deref!(maps::BUDGETS.get_ptr_mut(listener))
    }

    #[inline(always)]
    fn retransmit_budget(&mut self, listener: u32) -> Option<&mut Bucket> {
        self.budget(size::MAX_LISTENERS + listener)
    }

    #[inline(always)]
    fn exempt_budget(&mut self, listener: u32) -> Option<&mut Bucket> {
        self.budget(2 * size::MAX_LISTENERS + listener)
    }

    #[inline(always)]
    fn allowance(&mut self, index: u32) -> Option<&mut Allowance> {
        let place = opaque(index as usize) & (size::ALLOWANCES as usize - 1);
        Some(&mut own!(self.allowances)[place])
    }

    #[inline(always)]
    fn exchange(bucket: &mut Bucket, before: Bucket, after: Bucket) -> bool {
        let mut found = before.word();
        // SAFETY: the word is aligned and lives as long as the reference. (`core` has no atomics for BPF. The
        // instruction compares with r0 and leaves the earlier value there.)
        unsafe {
            asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) bucket.word_mut(),
                in(reg) after.word(), inout("r0") found, options(nostack));
        }
        found == before.word()
    }

    #[inline(always)]
    fn cookie_secret(&self) -> Option<&CookieSecret> {
        maps::COOKIE_SECRET.get(0)
    }

    #[inline(always)]
    fn syn_ack_record(&mut self, key: &ListenerKey) -> Option<&mut SynAckRecord> {
        deref!(maps::SYN_ACKS.get_ptr_mut(key))
    }

    #[inline(always)]
    fn insert_syn_ack_record(&mut self, key: &ListenerKey, record: &SynAckRecord) {
        // A lost one is recorded with the next SYN-ACK.
        let _ = maps::SYN_ACKS.insert(key, record, ANY);
    }

    #[inline(always)]
    fn cached_syn_ack(&mut self, place: usize) -> Option<&mut CachedSynAck> {
        let place = opaque(place) & (size::SYN_ACK_CACHE - 1);
        Some(&mut own!(self.syn_ack_cache)[place])
    }

    #[inline(always)]
    fn route(&self, client: &Addr) -> Option<u32> {
        match client.as_v4() {
            Some(v4) => maps::ROUTES_V4.get(&Key::new(32, v4)).copied(),
            None => maps::ROUTES_V6.get(&Key::new(128, client.octets())).copied(),
        }
    }

    #[inline(always)]
    fn next_hops(&mut self, route: u32) -> Option<&mut NextHops> {
        deref!(maps::NEXT_HOPS.get_ptr_mut(route))
    }

    #[inline(always)]
    fn neighbour(&mut self, addr: &Addr) -> Option<&NextHop> {
        deref!(maps::NEIGHBOURS.get_ptr_mut(addr)).map(|hop| &*hop)
    }

    #[inline(always)]
    fn insert_neighbour(&mut self, addr: &Addr, hop: &NextHop) {
        // A lost one is recorded with the next SYN-ACK.
        let _ = maps::NEIGHBOURS.insert(addr, hop, ANY);
    }

    #[inline(always)]
    fn is_own_mac(&self, mac: u64) -> bool {
        // SAFETY: only asked whether it is there.
        unsafe { maps::OWN_MACS.get(mac) }.is_some()
    }

    #[inline(always)]
    fn handed_over(&mut self, index: u32) -> Option<&mut HandedOver> {
        let place = opaque(index as usize) & (size::HANDED_OVER_SLOTS as usize - 1);
        Some(&mut own!(self.handed_over)[place])
    }

    #[inline(always)]
    fn late(&mut self, id: u32) -> Option<&mut Late> {
        deref!(maps::LATE.get_ptr_mut(id))
    }

    #[inline(always)]
    fn returned_cookies(&mut self, id: u32) -> Option<&mut ReturnedCookies> {
        deref!(maps::RETURNED_COOKIES.get_ptr_mut(id))
    }

    #[inline(always)]
    fn socket(&mut self, segment: &Segment, check: bool) -> Socket {
        // SAFETY: the stage that calls this has set the context.
        unsafe { sockets::ask(self.context, segment, check) }
    }

    #[inline(always)]
    fn kernel_cookie(&mut self, syn: &Segment, mss: u16) -> Option<KernelCookie> {
        // SAFETY: likewise.
        unsafe { sockets::make(self.context, syn, mss) }
    }
}
