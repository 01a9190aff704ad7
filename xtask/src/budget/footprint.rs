//! The memory of all maps on a host: a function of the number of its CPUs and of the capacity for
//! rules, and of nothing else.

use std::mem::size_of;

use tcpguard_common::abi::{
    Addr, Bucket, Client, ClientNetwork, ClosedPortSource, Config, CookieNetwork, CookieSecret,
    DropCacheSet, FlowSet, HostCounters, Late, LetThrough, ListenerCounters, ListenerEntry,
    ListenerKey, NextHop, NextHops, Pace, PacketCounters, PortEntry, ReturnedCookies, RuleRef,
    RuleReturns, SignatureKey, SourceSet, SynAckRecord, SynSamples, maps,
};
use tcpguard_common::fastpath::{
    Allowance, CachedSynAck, HandedOver, OwnAddress, PacketCtx, SigCacheEntry, Template,
};
use tcpguard_common::wire::Segment;

/// Bytes of all maps on a host with `cpus` CPUs on which `rules` rules can be in force, with the kernel's own overhead
/// per element of a hash: `struct htab_elem` is 48 bytes before the key (include/linux and kernel/bpf/hashtab.c), a
/// bucket 16, and a trie node 40 and its key and value. Elements that are allocated when needed are not counted: nodes
/// of tries, and the elements of the hash of source rules.
pub fn map_bytes(cpus: usize, rules: u32) -> usize {
    let buckets = |entries: u32| entries.next_power_of_two() as usize * 16;
    let hash = |key: usize, value: usize, entries: u32| {
        let element = 48 + key.next_multiple_of(8) + value.next_multiple_of(8);
        entries as usize * element + buckets(entries)
    };
    let array = |value: usize, entries: u32| entries as usize * value.next_multiple_of(8);
    let per_cpu = |value: usize, entries: u32| cpus * array(value, entries);
    let cpu_state = 9 * 8
        + 2 * size_of::<Pace>()
        + size_of::<Segment>().next_multiple_of(8)
        + maps::HANDED_OVER_SLOTS as usize * size_of::<HandedOver>()
        + maps::ALLOWANCES as usize * size_of::<Allowance>()
        + maps::SIG_CACHE * size_of::<SigCacheEntry>()
        + maps::TEMPLATES * size_of::<Template>()
        + maps::SYN_ACK_CACHE * size_of::<CachedSynAck>()
        + maps::OWN_CACHE * size_of::<OwnAddress>()
        + size_of::<PacketCtx>();
    array(size_of::<Config>(), 1)
        // The object that takes cookies back has tables of its own in place of those that it does not share.
        + 2 * per_cpu(cpu_state, 1)
        + 2 * per_cpu(size_of::<SynSamples>(), 1)
        + per_cpu(4 * maps::REPLY_LIMIT_PART, 1)
        + array(maps::MAX_IFINDEX, 1)
        + array(4 * maps::MAX_INTERFACES as usize, 1)
        + array(4, maps::MAX_INTERFACES)
        + per_cpu(size_of::<PacketCounters>(), maps::MAX_INTERFACES)
        + array(65_536 * size_of::<PortEntry>(), 1)
        + hash(size_of::<ListenerKey>(), 4, 2 * maps::MAX_LISTENERS)
        + array(size_of::<ListenerEntry>(), maps::MAX_LISTENERS)
        + per_cpu(size_of::<ListenerCounters>(), maps::MAX_LISTENERS)
        + array(size_of::<Late>(), maps::MAX_LISTENERS)
        + array(maps::HLL_REGISTERS, maps::MAX_LISTENERS)
        + array(size_of::<FlowSet>(), maps::FLOW_SETS)
        + array(size_of::<SourceSet>(), maps::SOURCE_SETS)
        + array(maps::PENDING_MARKS, 1)
        + hash(size_of::<Addr>(), size_of::<Client>(), maps::MAX_CLIENTS)
        + array(8 * maps::CLIENT_MARK_WORDS, 2)
        + hash(size_of::<SignatureKey>(), size_of::<RuleRef>(), 2 * maps::MAX_SIGNATURES)
        + buckets(maps::rule_slots(rules))
        + array(8, maps::rule_slots(rules))
        + per_cpu(size_of::<u64>(), maps::rule_slots(rules))
        + array(size_of::<RuleReturns>(), maps::rule_slots(rules))
        + array(maps::EXEMPT_FILTER_BYTES, 1)
        + array(size_of::<DropCacheSet>(), maps::DROP_CACHE_SETS)
        + array(size_of::<LetThrough>(), maps::LET_THROUGH_SLOTS)
        + array(size_of::<CookieNetwork>(), maps::COOKIE_NETWORK_SLOTS)
        + array(size_of::<ClientNetwork>(), maps::CLIENT_NETWORKS)
        + per_cpu(4 * maps::REPLY_LIMIT_BUCKETS, 1)
        + array(size_of::<Bucket>(), 3 * maps::MAX_LISTENERS)
        + array(size_of::<Bucket>(), maps::EXEMPT_BUCKETS)
        + hash(size_of::<ListenerKey>(), 8, maps::MAX_UNKNOWN)
        + per_cpu(size_of::<HostCounters>(), 1)
        + array(size_of::<ClosedPortSource>(), maps::CLOSED_PORT_CELLS)
        + array(8, maps::CLOSED_WORDS)
        + array(size_of::<CookieSecret>(), 1)
        + hash(size_of::<ListenerKey>(), size_of::<SynAckRecord>(), maps::MAX_SYN_ACKS)
        + array(size_of::<NextHops>(), maps::MAX_NEXT_HOPS)
        + hash(size_of::<Addr>(), size_of::<NextHop>(), maps::MAX_NEIGHBOURS)
        + hash(8, 4, maps::MAX_OWN_MACS)
        + array(size_of::<ReturnedCookies>(), maps::MAX_LISTENERS)
        + array(8, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Memory is a function of the number of CPUs and of the room for rules, and of nothing else.
    #[test]
    fn all_maps_together_stay_within_their_budget() {
        for (rules, budgets) in [
            (maps::MIN_RULES, [(2, 30), (16, 44), (64, 89), (128, 150)]),
            (maps::RULES, [(2, 32), (16, 48), (64, 104), (128, 179)]),
            (maps::MAX_RULES, [(2, 43), (16, 84), (64, 224), (128, 411)]),
        ] {
            for (cpus, budget) in budgets {
                let bytes = map_bytes(cpus, rules);
                println!("{cpus} CPUs, {rules} rules: {:.1} MiB", bytes as f64 / MIB as f64);
                assert!(bytes <= budget * MIB, "{cpus} CPUs, {rules} rules: {bytes} bytes of maps");
            }
        }
    }

    #[test]
    fn the_page_about_installation_has_the_memory_of_all_maps() {
        let page = include_str!("../../../docs/install.md");
        let (_, table) = page.split_once("| CPUs | BPF maps |\n|---|---|\n").expect("the table");
        let rows: Vec<&str> = table.lines().take_while(|line| !line.is_empty()).collect();
        for row in &rows {
            let cpus = row.split(' ').nth(1).and_then(|cell| cell.parse().ok()).expect("CPUs");
            let size = map_bytes(cpus, maps::RULES).div_ceil(MIB);
            assert_eq!(*row, format!("| {cpus} | {size} MiB |"));
        }
        assert!(rows.len() >= 5, "{rows:?}");
    }
}
