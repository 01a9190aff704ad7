//! Rules on sources: for every port, and for certain ones.

use proptest::prelude::*;
use tcpguard_common::abi::{
    ABI_VERSION, Addr, Client, Config, EVERY_PORT, ExemptEntry, ListenerEntry, ListenerKey, Mode,
    Reason, RuleRef,
};
use tcpguard_common::fastpath::{Tables, exempt};
use tcpguard_common::model::Model;

const NOW_NS: u64 = 1_000_000_000;

/// A host that nothing listens on, and that drops by the rules it is given.
struct Host(Model);

impl Host {
    fn new() -> Self {
        let mut model = Model::new(Config {
            abi_version: ABI_VERSION,
            mode: Mode::Enforce as u8,
            heartbeat_limit_ns: u64::MAX,
            ..Config::default()
        });
        model.now_ns = NOW_NS;
        Self(model)
    }

    /// The agent's writes for a rule; no ports: every port.
    fn rule(&mut self, slot: u32, addr: Addr, bits: u32, ports: &[u16], flags: u32) {
        let table = if bits == addr.client_bits() { Config::HOSTS } else { Config::NETS };
        let mut keys: Vec<[u8; 2]> = ports.iter().map(|port| port.to_be_bytes()).collect();
        if keys.is_empty() {
            self.0.config.source_rules |= table;
            keys.push(EVERY_PORT);
        } else {
            self.0.config.port_rules |= table;
        }
        for port in keys {
            let rules = self.0.source_rules.entry((0, port)).or_default();
            rules.push(((addr, bits), RuleRef { slot, flags }));
        }
        self.0.rule_expiry.insert(slot, u64::MAX);
    }

    fn listens(mut self, port: u16) -> Self {
        for (id, any) in [(1, Addr::ANY_V4), (2, Addr::ANY_V6)] {
            let entry = ListenerEntry { id, ..ListenerEntry::default() };
            self.0.add_listener(ListenerKey::new(any, port.to_be_bytes()), entry);
        }
        self
    }

    fn syn(&mut self, from: Addr, port: u16) -> Reason {
        self.0.ingress(&syn(from, port))
    }

    fn drops(&mut self, from: Addr, port: u16) -> bool {
        self.syn(from, port) == Reason::DropSource
    }

    fn hits(&self, slot: u32) -> u64 {
        self.0.rule_hits.get(&slot).map_or(0, |hits| hits.hits)
    }
}

fn v4(last: u8) -> Addr {
    Addr::from_v4([203, 0, 113, last])
}

fn v6(last: u8) -> Addr {
    let mut octets = [0; 16];
    (octets[..4]).copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    octets[15] = last;
    Addr::from_v6(octets)
}

fn syn(from: Addr, port: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    match from.as_v4() {
        Some(from) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend(from);
            frame.extend([192, 0, 2, 1]);
        }
        None => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(from.octets());
            frame.extend(v6(200).octets());
        }
    }
    frame.extend([0x10, 0]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 2, 0, 0, 0, 0, 0]);
    frame
}

#[test]
fn a_rule_for_certain_ports_drops_syns_to_these_and_to_no_other() {
    let networks = [(v4(0), 120, v4(9), v4(9)), (v6(0), 64, v6(9), v6(9))];
    for (net, bits, client, other) in networks {
        for ports in [&[443][..], &[22, 25, 80, 443]] {
            let mut host = Host::new();
            host.rule(0, net, bits, ports, RuleRef::BY_OPERATOR);
            for port in [22, 25, 80, 443, 8080, 1, 65535] {
                assert_eq!(host.drops(client, port), ports.contains(&port), "{port}, {ports:?}");
            }
            assert_eq!(host.hits(0), ports.len() as u64, "one rule, whatever the port");
            host.0.rule_expiry.insert(0, NOW_NS);
            assert!(!host.drops(other, 443), "it has ended");
        }
    }
}

#[test]
fn a_rule_for_every_port_needs_no_look_at_the_port() {
    let mut host = Host::new();
    host.rule(0, v4(0), 120, &[], 0);
    assert!([1, 443, 65535].into_iter().all(|port| host.drops(v4(9), port)));
    assert_eq!(host.0.config.port_rules, 0);
}

/// Of two tries the longest prefix of either counts by itself.
#[test]
fn a_narrow_rule_for_a_port_hides_no_wide_one_for_others() {
    let mut host = Host::new();
    host.rule(0, v4(0), 120, &[], 0);
    host.rule(1, v4(9), 128, &[443], RuleRef::BY_OPERATOR);
    host.rule(2, v4(8), 125, &[22], RuleRef::BY_OPERATOR);
    for port in [443, 22, 80] {
        assert!(host.drops(v4(9), port), "{port}");
    }
    assert_eq!([0, 1, 2].map(|slot| host.hits(slot)), [1, 1, 1], "each by the rule for its port");
    host.0.rule_expiry.insert(1, 0);
    assert!(host.drops(v4(9), 443), "the wide one goes on where the narrow one has ended");
    host.0.rule_expiry.insert(0, 0);
    assert_eq!([443, 22, 80].map(|port| host.drops(v4(9), port)), [false, true, false]);
}

/// An automatic rule about a source rests on SYNs that any sender may have spoofed: the client with that
/// address gets through with its retransmission, after 0.8 to 3.5 s. An operator's rule is absolute.
#[test]
fn a_retransmitted_syn_passes_an_automatic_rule_and_none_of_an_operator() {
    const MS: u64 = 1_000_000;
    for (net, bits, client) in [(v4(9), 128, v4(9)), (v4(0), 120, v4(9)), (v6(0), 48, v6(9))] {
        let mut host = Host::new().listens(443);
        host.rule(0, net, bits, &[], 0);
        let mut at = |ms: u64| {
            host.0.now_ns = NOW_NS + ms * MS;
            host.syn(client, 443)
        };
        let reasons = [0, 10, 1_000, 3_000, 10_000].map(&mut at);
        let (dropped, passed) = (Reason::DropSource, Reason::SynRetransmitted);
        assert_eq!(reasons, [dropped, dropped, passed, passed, dropped], "{bits}");
        let counted = host.0.rule_hits[&0];
        assert_eq!((counted.hits, counted.returns.accepted_retransmits), (3, 2));

        // Where nothing listens no client waits for an answer.
        for ms in [20_000, 21_000] {
            host.0.now_ns = NOW_NS + ms * MS;
            assert!(host.drops(client, 80), "{bits}, {ms} ms");
        }

        let mut host = Host::new();
        host.rule(0, net, bits, &[], RuleRef::BY_OPERATOR);
        for ms in [0, 1_000, 3_000] {
            host.0.now_ns = NOW_NS + ms * MS;
            assert!(host.drops(client, 443), "{bits}, {ms} ms");
        }
    }
}

/// The rule of an operator who allowlists the prefix before or after. A rule of the fleet spares what this host's
/// operator allows.
#[test]
fn an_operators_block_stays_over_the_allowlist_and_not_over_what_the_host_needs() {
    let of_fleet = RuleRef::BY_OPERATOR;
    let of_operator = of_fleet | RuleRef::OVER_ALLOWLIST;
    for (net, bits, addr) in [(v4(7), 128, v4(7)), (v6(0), 64, v6(7)), (v4(0), 120, v4(7))] {
        for (flags, until_s, drops) in [
            (0, 0, true),
            (0, 3600, false),
            (of_fleet, 3600, false),
            (of_operator, 3600, true),
            (of_operator, ExemptEntry::STAYS, false),
            (of_operator, ExemptEntry::OWN, false),
            (of_operator, ExemptEntry::HELPER, false),
            (of_operator | RuleRef::FORCED, ExemptEntry::HELPER, true),
        ] {
            let mut host = Host::new();
            host.rule(1, net, bits, &[], flags);
            host.0.exempt.push(((addr, 128), until_s));
            assert_eq!(host.drops(addr, 80), drops, "{addr:?} {flags} {until_s}");
        }
    }
}

/// Automatic rules exempt a client that completed a handshake. An operator's rule does not, also
/// where both are about the same source.
#[test]
fn an_operators_rule_for_a_port_is_not_softened_by_an_automatic_rule() {
    let mut host = Host::new();
    host.rule(0, v4(9), 128, &[], 0);
    host.rule(1, v4(0), 120, &[443], RuleRef::BY_OPERATOR);
    let client = Client { completed_ns: NOW_NS, ..Client::default() };
    host.0.clients.insert(v4(9).client(), client);
    host.0.client_filter.extend(0..tcpguard_common::abi::maps::CLIENT_MARKS);
    assert_eq!(host.syn(v4(9), 443), Reason::DropSource);
    assert_eq!(host.syn(v4(9), 80), Reason::SynValidated);
}

/// A /64 of the hash is not the last word where there are longer prefixes beneath it.
#[test]
fn a_longer_prefix_than_a_64_goes_before_it_and_a_shorter_one_does_not() {
    let (client, neighbour) = (v6(9), v6(2));
    for ports in [&[][..], &[443]] {
        let mut host = Host::new();
        host.rule(0, v6(0), 48, ports, RuleRef::BY_OPERATOR);
        host.rule(1, v6(0), 64, ports, RuleRef::BY_OPERATOR);
        assert!(host.drops(client, 443));
        assert_eq!([0, 1].map(|slot| host.hits(slot)), [0, 1]);
        host.rule(2, v6(8), 125, ports, RuleRef::BY_OPERATOR);
        assert!(host.drops(client, 443) && host.drops(neighbour, 443));
        assert_eq!([0, 1, 2].map(|slot| host.hits(slot)), [0, 2, 1]);
        host.0.rule_expiry.insert(2, NOW_NS);
        assert!(!host.drops(client, 443), "one that has ended hides the others until it goes");
    }
}

/// A table that has no rules is not read, so its contents have no effect.
#[test]
fn only_the_tables_in_use_are_asked() {
    let mut host = Host::new();
    host.rule(0, v4(9), 128, &[], RuleRef::BY_OPERATOR);
    host.rule(1, v4(0), 120, &[], RuleRef::BY_OPERATOR);
    let dropped = [(Config::HOSTS, [true, false]), (Config::NETS, [true, true]), (0, [false; 2])];
    for (in_use, expected) in dropped {
        host.0.config.source_rules = in_use;
        assert_eq!([9, 8].map(|last| host.drops(v4(last), 80)), expected, "{in_use}");
    }
    assert_eq!([0, 1].map(|slot| host.hits(slot)), [1, 2]);
}

proptest! {
    /// No rule keeps another one for other ports from dropping, in any set of rules.
    #[test]
    fn a_syn_is_dropped_exactly_if_some_rule_covers_its_source_and_port(
        rules in prop::collection::vec(
            (any::<u8>(), 24..=32_u32, prop::collection::vec(20..24_u16, 0..4), any::<bool>()),
            0..20,
        ),
        asked in prop::collection::vec((any::<u8>(), 20..26_u16), 1..40),
    ) {
        let mut host = Host::new();
        let mut known: Vec<(u8, u32, Vec<u16>)> = Vec::new();
        for (slot, (byte, bits, ports, by_operator)) in (0..).zip(rules) {
            let network = (u32::from(byte) & (u32::MAX << (32 - bits))) as u8;
            // Over one prefix there is one rule for a port.
            let taken = known.iter().any(|(other, length, named)| {
                (*other, *length) == (network, bits) && named.is_empty() == ports.is_empty()
            });
            if taken {
                continue;
            }
            let flags = if by_operator { RuleRef::BY_OPERATOR } else { 0 };
            host.rule(slot, v4(network), 96 + bits, &ports, flags);
            known.push((network, bits, ports));
        }
        for (byte, port) in asked {
            let expected = known.iter().any(|(network, bits, ports)| {
                u32::from(byte) & (u32::MAX << (32 - bits)) & 0xff == u32::from(*network)
                    && (ports.is_empty() || ports.contains(&port))
            });
            prop_assert_eq!(host.drops(v4(byte), port), expected, "{} to {}", byte, port);
        }
    }

    /// Of either family, with lengths around that of a client: the rule that drops is the one with the
    /// longest prefix for the port, or else for every port, as a search through all of them finds it.
    #[test]
    fn the_rule_that_drops_is_the_one_with_the_longest_prefix(
        rules in prop::collection::vec(
            (
                prop_oneof![(0..8_u8, 96..=128_u32), (8..24_u8, Just(64_u32)), (8..24_u8, 48..=128_u32)],
                prop::option::of(Just(443_u16)),
                prop::bool::weighted(0.9),
            ),
            0..24,
        ),
        asked in prop::collection::vec((0..24_u8, prop_oneof![Just(443_u16), Just(80)]), 1..40),
    ) {
        let addr = |number: u8| match number {
            0..8 => v4(number * 32),
            _ => Addr::from_v6_words([0x2001_0db8, u32::from(number) & 3, 0, u32::from(number >> 2)]),
        };
        let mut host = Host::new();
        let mut known: Vec<(Addr, u32, Option<u16>)> = Vec::new();
        for ((number, bits), port, lasts) in rules {
            let net = truncated(addr(number), bits);
            if known.contains(&(net, bits, port)) {
                continue;
            }
            let slot = known.len() as u32;
            known.push((net, bits, port));
            host.rule(slot, net, bits, port.as_slice(), RuleRef::BY_OPERATOR);
            host.0.rule_expiry.insert(slot, if lasts { u64::MAX } else { NOW_NS });
        }
        for (number, port) in asked {
            let client = addr(number);
            let of_port = |named: Option<u16>| {
                let over = |(net, bits, of): &&(Addr, u32, Option<u16>)| {
                    *of == named
                        && net.as_v4().is_some() == client.as_v4().is_some()
                        && truncated(client, *bits) == *net
                };
                let longest = known.iter().filter(over).max_by_key(|(_, bits, _)| *bits)?;
                let slot = known.iter().position(|rule| rule == longest)? as u32;
                (host.0.rule_expiry[&slot] > NOW_NS).then_some(slot)
            };
            let expected = of_port(Some(port)).or_else(|| of_port(None));
            let before: Vec<u64> = (0..known.len() as u32).map(|slot| host.hits(slot)).collect();
            let dropped = host.drops(client, port);
            let hit = (0..).zip(before).find(|(slot, before)| host.hits(*slot) > *before);
            prop_assert_eq!(hit.map(|(slot, _)| slot), expected, "{:?} to {}", client, port);
            prop_assert_eq!(dropped, expected.is_some());
        }
    }

    /// The filter calls no address unexempt that the trie has.
    #[test]
    fn no_address_is_exempt_where_the_filter_is_clear(
        exempt in prop::collection::vec((any::<u64>(), any::<bool>(), 0..=128_u32), 0..8),
        asked in prop::collection::vec((any::<u64>(), any::<bool>()), 0..40),
    ) {
        let addr = |number: u64, is_v4| {
            // Few networks, so that addresses and prefixes meet.
            let words = [0x2001_0db8, number as u32 & 0x3_0003, 0, (number >> 32) as u32];
            let [.., a, b] = (number >> 16).to_be_bytes();
            if is_v4 { Addr::from_v4([10, a & 3, b, 1]) } else { Addr::from_v6_words(words) }
        };
        let mut model = Model::default();
        for (number, is_v4, bits) in exempt {
            let bits = if is_v4 { 96 + bits / 4 } else { bits };
            let net = truncated(addr(number, is_v4), bits);
            model.exempt.push(((net, bits), u32::MAX));
        }
        let members = model.exempt.iter().map(|((net, _), _)| *net).collect::<Vec<_>>();
        for addr in asked.into_iter().map(|(number, is_v4)| addr(number, is_v4)).chain(members) {
            if model.is_exempt_filter_clear(exempt::place(&addr)) {
                prop_assert_eq!(model.exemption(&addr).until_s, 0, "{:?}", addr);
            }
        }
    }
}

/// The network of an address, `bits` long as counted for IPv6.
fn truncated(addr: Addr, bits: u32) -> Addr {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Addr::from_v6((u128::from_be_bytes(addr.octets()) & mask).to_be_bytes())
}
