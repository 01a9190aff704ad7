//! The layouts that belong to this ABI version, and what all maps together cost.

use std::mem::{align_of, offset_of, size_of};

use tcpguard_common::ABI_VERSION;
use tcpguard_common::abi::{
    Addr, CLASS_SLOTS, Class, Client, Config, CookieSecret, ExemptEntry, FailedCookies, Flow,
    FlowKey, FlowSet, HostCounters, Late, ListenerCounters, ListenerEntry, ListenerKey,
    PacketCounters, PortEntry, PrefixV4, PrefixV6, Probe, REASON_SLOTS, Reason, RetryLine,
    RuleHits, RuleRef, SeenBucket, SignatureKey, SourceCounters, SourceKey, SourceSet, SourceV4,
    SourceV6, SynAckRecord, SynSample, SynSamples, maps,
};
use tcpguard_common::fastpath::{Allowance, Bucket, Fingerprint, HandedOver, Rate, Work};

/// A change here is a change of the ABI: raise `ABI_VERSION` with it.
#[test]
fn sizes_of_abi_version_11() {
    assert_eq!(ABI_VERSION, 11);
    let sizes = [
        ("Addr", size_of::<Addr>(), 16),
        ("Bucket", size_of::<Bucket>(), 8),
        ("Client", size_of::<Client>(), 64),
        ("Config", size_of::<Config>(), 176),
        ("CookieSecret", size_of::<CookieSecret>(), 24),
        ("ExemptEntry", size_of::<ExemptEntry>(), 4),
        ("FailedCookies", size_of::<FailedCookies>(), 64),
        ("Fingerprint", size_of::<Fingerprint>(), 24),
        ("Flow", size_of::<Flow>(), 64),
        ("FlowKey", size_of::<FlowKey>(), 36),
        ("FlowSet", size_of::<FlowSet>(), 1672),
        ("HostCounters", size_of::<HostCounters>(), 32),
        ("ListenerCounters", size_of::<ListenerCounters>(), 128),
        ("ListenerEntry", size_of::<ListenerEntry>(), 16),
        ("ListenerKey", size_of::<ListenerKey>(), 20),
        ("PacketCounters", size_of::<PacketCounters>(), 400),
        ("PortEntry", size_of::<PortEntry>(), 8),
        ("PrefixV4", size_of::<PrefixV4>(), 8),
        ("PrefixV6", size_of::<PrefixV6>(), 20),
        ("Probe", size_of::<Probe>(), 64),
        ("Rate", size_of::<Rate>(), 8),
        ("RetryLine", size_of::<RetryLine>(), 64),
        ("RuleHits", size_of::<RuleHits>(), 16),
        ("RuleRef", size_of::<RuleRef>(), 8),
        ("SeenBucket", size_of::<SeenBucket>(), 32),
        ("SignatureKey", size_of::<SignatureKey>(), 32),
        ("SourceKey of SourceV4", size_of::<SourceKey<SourceV4>>(), 12),
        ("SourceKey of SourceV6", size_of::<SourceKey<SourceV6>>(), 24),
        ("SourceCounters", size_of::<SourceCounters>(), 48),
        ("SourceSet", size_of::<SourceSet>(), 1096),
        ("SynAckRecord", size_of::<SynAckRecord>(), 24),
        ("SynSample", size_of::<SynSample>(), 128),
        ("SynSamples", size_of::<SynSamples>(), 8200),
    ];
    for (name, size, expected) in sizes {
        assert_eq!(size, expected, "size of {name}");
    }
}

#[test]
fn offsets_that_other_tools_may_read() {
    assert_eq!(offset_of!(Config, heartbeat_ns), 8);
    assert_eq!(offset_of!(Config, polled_ns), 24);
    assert_eq!(offset_of!(Config, hash_key), 40);
    assert_eq!(offset_of!(Config, netns_cookie), 120);
    assert_eq!(offset_of!(Config, client_filter), 136);
    assert_eq!(offset_of!(Config, rule_set), 144);
    assert_eq!(offset_of!(Flow, syn_seq), 24);
    assert_eq!(offset_of!(Flow, fingerprint), 40);
    assert_eq!(offset_of!(PacketCounters, reasons), 16);
    assert_eq!(offset_of!(PacketCounters, classes), 16 + 8 * REASON_SLOTS);
    assert_eq!(offset_of!(FlowKey, client_port), 32);
}

/// The kernel aligns values to 8 bytes, trie values to 4 behind an IPv4 key.
#[test]
fn no_type_wants_more_alignment_than_a_map_gives() {
    assert!(align_of::<FlowSet>() <= 8 && align_of::<Client>() <= 8);
    assert!(align_of::<RuleRef>() <= 4 && align_of::<ExemptEntry>() <= 4);
}

#[test]
fn every_code_has_a_place_in_the_counters_and_a_name_of_its_own() {
    for (place, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, place);
        assert!(place < REASON_SLOTS);
        assert_eq!(Reason::from_code(place as u8), Some(*reason));
    }
    for (place, class) in Class::ALL.iter().enumerate() {
        assert_eq!(*class as usize, place);
        assert!(place < CLASS_SLOTS);
    }
    let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}

/// Bytes of all maps on a host with `cpus` CPUs, with the kernel's own overhead per element of a
/// hash: `struct htab_elem` is 48 bytes before the key (include/linux and kernel/bpf/hashtab.c),
/// a bucket 16, and a trie node, made when needed, 40 and its key and value.
fn map_bytes(cpus: usize) -> usize {
    let hash = |key: usize, value: usize, entries: u32| {
        let element = 48 + key.next_multiple_of(8) + value.next_multiple_of(8);
        entries as usize * element + (entries as usize).next_power_of_two() * 16
    };
    let array = |value: usize, entries: u32| entries as usize * value.next_multiple_of(8);
    let per_cpu = |value: usize, entries: u32| cpus * array(value, entries);
    let cpu_state = 56
        + size_of::<FlowKey>().next_multiple_of(8)
        + maps::HANDED_OVER_PLACES as usize * size_of::<HandedOver>()
        + maps::ALLOWANCES as usize * size_of::<Allowance>()
        + size_of::<Work>();
    array(size_of::<Config>(), 1)
        // The program that takes cookies back has a state of its own.
        + 2 * per_cpu(cpu_state, 1)
        + array(maps::MAX_IFINDEX, 1)
        + per_cpu(size_of::<PacketCounters>(), maps::MAX_INTERFACES)
        + array(65_536 * size_of::<PortEntry>(), 1)
        + hash(size_of::<ListenerKey>(), 4, 2 * maps::MAX_LISTENERS)
        + array(size_of::<ListenerEntry>(), maps::MAX_LISTENERS)
        + per_cpu(size_of::<ListenerCounters>(), maps::MAX_LISTENERS)
        + array(size_of::<Late>(), maps::MAX_LISTENERS)
        + array(maps::HLL_REGISTERS, maps::MAX_LISTENERS)
        + array(size_of::<FlowSet>(), maps::FLOW_SETS)
        + array(size_of::<SourceSet>(), maps::SOURCE_SETS)
        + hash(size_of::<Addr>(), size_of::<Client>(), maps::MAX_CLIENTS)
        + array(maps::CLIENT_MARKS, 2)
        + hash(size_of::<SignatureKey>(), size_of::<RuleRef>(), 2 * maps::MAX_SIGNATURES)
        + array(8, maps::MAX_RULE_SLOTS)
        + per_cpu(size_of::<RuleHits>(), maps::MAX_RULE_SLOTS)
        + array(size_of::<SeenBucket>(), maps::SEEN_BUCKETS)
        + array(size_of::<RetryLine>(), maps::RETRY_LINES)
        + array(size_of::<Bucket>(), maps::ANSWER_BUCKETS)
        + array(size_of::<Bucket>(), maps::MAX_LISTENERS)
        + hash(size_of::<ListenerKey>(), 8, maps::MAX_UNKNOWN)
        + per_cpu(size_of::<HostCounters>(), 1)
        + array(size_of::<Probe>(), maps::PROBE_CELLS)
        + array(size_of::<CookieSecret>(), 1)
        + hash(size_of::<ListenerKey>(), size_of::<SynAckRecord>(), maps::MAX_SYN_ACKS)
        + array(size_of::<FailedCookies>(), maps::MAX_LISTENERS)
        + per_cpu(size_of::<SynSamples>(), 1)
        + array(8, 1)
}

/// Memory is a function of the number of CPUs and of nothing else.
#[test]
fn all_maps_together_stay_within_their_budget() {
    const MIB: usize = 1 << 20;
    for (cpus, budget) in [(2, 47 * MIB), (16, 61 * MIB), (128, 178 * MIB)] {
        let bytes = map_bytes(cpus);
        println!("{cpus} CPUs: {:.1} MiB", bytes as f64 / MIB as f64);
        assert!(bytes <= budget, "{cpus} CPUs: {bytes} bytes of maps, budget {budget}");
    }
}
