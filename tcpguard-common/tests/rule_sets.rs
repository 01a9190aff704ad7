//! Rule sets side by side: keys as the kernel's trie compares them, and the decision on the host.

use proptest::prelude::*;
use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, EVERY_PORT, Mode, Reason, RuleRef, SCOPE_BITS, SourceKey, SourceV4,
    SourceV6,
};
use tcpguard_common::fastpath::Tables;
use tcpguard_common::model::Model;

/// A key's bits and data as they lie in memory, which is all that the kernel's trie sees of it.
fn in_memory_v4(key: &SourceKey<SourceV4>) -> (u32, Vec<u8>) {
    (key.bits, [&key.data.set.to_ne_bytes()[..], &key.data.port, &key.data.addr].concat())
}

fn in_memory_v6(key: &SourceKey<SourceV6>) -> (u32, Vec<u8>) {
    let SourceV6 { set, port, addr } = &key.data;
    (key.bits, [&set.to_ne_bytes()[..], port, &addr.octets()].concat())
}

/// `trie_lookup_elem` of kernel/bpf/lpm_trie.c: the longest key of which all bits that count are
/// those of the data looked up.
fn longest_match(keys: &[(u32, Vec<u8>)], data: &[u8]) -> Option<usize> {
    let equal = |bits: u32, one: &[u8]| {
        (0..bits as usize).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            one[bit / 8] & mask == data[bit / 8] & mask
        })
    };
    let matching = keys.iter().enumerate().filter(|(_, (bits, key))| equal(*bits, key));
    matching.max_by_key(|(_, (bits, _))| *bits).map(|(place, _)| place)
}

fn truncated(addr: u32, length: u32) -> u32 {
    if length == 0 { 0 } else { addr & (u32::MAX << (32 - length)) }
}

#[test]
fn set_and_port_lie_before_the_address_without_a_gap() {
    let (bits, port) = (SCOPE_BITS + 24, 443_u16.to_be_bytes());
    let key = SourceKey { bits, data: SourceV4::new(0x0102_0304, port, [192, 0, 2, 0]) };
    assert!(key.data.is_of(0x0304) && !key.data.is_of(0x0102));
    assert_eq!(size_of_val(&key), 4 + 4 + 4);
    assert_eq!(SourceV4::BITS as usize, 8 * size_of::<SourceV4>());
    let data = SourceV6::new(1, port, Addr::from_v6([7; 16]));
    let key = SourceKey { bits: SCOPE_BITS + 48, data };
    assert_eq!(size_of_val(&key), 4 + 4 + 16);
    assert_eq!(SourceV6::BITS as usize, 8 * size_of::<SourceV6>());
}

/// A set without a rule over an address has none, however long and close those of the other are: not
/// even a rule over everything reaches into another set.
#[test]
fn a_rule_over_everything_stays_in_its_set() {
    let data = SourceV4::new(1, EVERY_PORT, [0; 4]);
    let everything = [in_memory_v4(&SourceKey { bits: SCOPE_BITS, data })];
    let look = |set| longest_match(&everything, &in_memory_v4(&host(set, [203, 0, 113, 9])).1);
    assert_eq!((look(0), look(1), look(2), look(u64::MAX)), (None, Some(0), None, None));
    let data = SourceV6::new(1, EVERY_PORT, Addr::ANY_V6);
    let everything = [in_memory_v6(&SourceKey { bits: SCOPE_BITS, data })];
    let addr = Addr::from_v6([0x20; 16]);
    let key = |set| SourceKey { bits: SourceV6::BITS, data: SourceV6::new(set, EVERY_PORT, addr) };
    let look = |set| longest_match(&everything, &in_memory_v6(&key(set)).1);
    assert_eq!((look(0), look(1)), (None, Some(0)));
}

fn host(set: u64, addr: [u8; 4]) -> SourceKey<SourceV4> {
    SourceKey { bits: SourceV4::BITS, data: SourceV4::new(set, EVERY_PORT, addr) }
}

proptest! {
    /// One trie with both sets answers as two tries with one each would, and as the model does.
    #[test]
    fn the_longest_prefix_wins_within_one_set(
        rules in prop::collection::vec((0..3_u64, any::<u8>(), 0..=31_u32), 0..40),
        asked in prop::collection::vec(any::<u8>(), 1..20),
        first in prop_oneof![Just(0_u64), Just(u64::from(u16::MAX) - 1), any::<u64>()],
    ) {
        // Few addresses, so that prefixes meet.
        let addr = |byte: u8| u32::from_be_bytes([10, byte & 3, byte >> 4, byte]);
        let mut model = Model::default();
        let mut keys: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut slots = Vec::new();
        for (slot, (set, byte, length)) in (0..).zip(rules) {
            let set = first.wrapping_add(set);
            let network = truncated(addr(byte), length).to_be_bytes();
            let bits = SCOPE_BITS + length;
            let data = SourceV4::new(set, EVERY_PORT, network);
            let key = in_memory_v4(&SourceKey { bits, data });
            if keys.contains(&key) {
                continue;
            }
            keys.push(key);
            slots.push(slot);
            let rule = (((Addr::from_v4(network)), 96 + length), RuleRef { slot, flags: 0 });
            model.source_rules.entry((set, EVERY_PORT)).or_default().push(rule);
        }
        for byte in asked {
            let addr = addr(byte).to_be_bytes();
            for set in (0..4).map(|set| first.wrapping_add(set)) {
                let found = longest_match(&keys, &in_memory_v4(&host(set, addr)).1);
                let found_by_model = model.source_net(set, EVERY_PORT, &Addr::from_v4(addr));
                let expected = found_by_model.is_rule().then_some(found_by_model.slot);
                prop_assert_eq!(found.map(|place| slots[place]), expected);
            }
        }
    }
}

/// A SYN to nothing that listens, from `source`.
fn syn(source: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend([192, 0, 2, 1]);
    frame.extend([0x10, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 2, 0, 0, 0, 0, 0]);
    frame
}

#[test]
fn numbers_of_sets_that_follow_each_other_differ_in_one_byte() {
    let mut set = 0;
    for _ in 0..600 {
        let next = Config::rule_set_after(set);
        let (before, after) = (set.to_ne_bytes(), next.to_ne_bytes());
        assert_eq!((0..8).filter(|at| before[*at] != after[*at]).count(), 1, "{set} and {next}");
        set = next;
    }
}

#[test]
fn changing_one_number_replaces_every_rule() {
    let config = Config {
        abi_version: ABI_VERSION,
        mode: Mode::Enforce as u8,
        heartbeat_limit_ns: u64::MAX,
        source_rules: Config::NETS,
        rule_set: 7,
        ..Config::default()
    };
    let mut model = Model::new(config);
    let net = |third| ((Addr::from_v4([203, 0, third, 0])), 96 + 24);
    for (set, slot, third) in [(7, 0, 1), (7, 1, 2), (8, 1, 2), (8, 2, 3)] {
        let rules = model.source_rules.entry((set, EVERY_PORT)).or_default();
        rules.push((net(third), RuleRef { slot, flags: 0 }));
        model.rule_expiry.insert(slot, u64::MAX);
    }
    let judged =
        |model: &mut Model| [1, 2, 3, 4].map(|third| model.ingress(&syn([203, 0, third, 9])));
    let (dropped, passed) = (Reason::DropSource, Reason::NoListener);
    assert_eq!(judged(&mut model), [dropped, dropped, passed, passed]);
    model.config.rule_set = 8;
    assert_eq!(judged(&mut model), [passed, dropped, dropped, passed]);
    assert_eq!(model.rule_hits[&1].hits, 2, "a rule of both sets goes on counting");
}
