//! Source rules in the hash and in the tries: kernel and host find the same one.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tcpguard::bpf::KernelMatcher;
use tcpguard_common::abi::{Config, Mode, Reason, RuleRef};
use tcpguard_engine::Ports;
use tcpguard_kit::net::packet::{Segment, flags};

use super::traffic::v4;
use super::{Pair, SET, START_NS, show};

/// Rules for one client each, in every order with longer and shorter prefixes, for every port and for one.
fn pair() -> Pair {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    pair.add_source_rule("203.0.113.70/32", 7, true);
    pair.add_source_rule("203.0.113.20/32", 7, true);
    pair.add_port_rule(SET, "203.0.113.21/32", &[80, 443], 8);
    // The traffic's IPv6 addresses: four in each /64.
    pair.add_source_rule("2001:db8:0:4::/62", 9, true);
    pair.add_source_rule("2001:db8:0:5::/64", 10, true);
    pair.add_source_rule("2001:db8:0:5::16/127", 11, true);
    pair.add_port_rule(SET, "2001:db8:0:6::/64", &[443], 10);
    pair.add_port_rule(SET, "2001:db8:0:6::18/128", &[443], 11);
    pair.add_source_rule("2001:db8:0:7::1c/126", 11, true);
    pair.add_source_rule_to(SET + 1, "2001:db8:0:4::/64", 8, true);
    pair.add_source_rule_to(SET + 1, "203.0.113.22/32", 8, true);
    pair
}

/// The slot of the rule that drops a SYN, on both sides.
fn hit(pair: &mut Pair, source: &str, port: u16) -> Option<u32> {
    let source: IpAddr = source.parse().unwrap();
    let server = if source.is_ipv4() { v4(2, 1) } else { "2001:db8::c8".parse().unwrap() };
    let syn =
        Segment::new(SocketAddr::new(source, 4000), SocketAddr::new(server, port), flags::SYN);
    let before = pair.model.rule_hits.clone();
    pair.ingress(&syn.to_frame());
    pair.assert_same_state();
    let hits = pair.model.rule_hits.iter();
    hits.filter(|(slot, hits)| before.get(slot).is_none_or(|before| before != *hits))
        .map(|(slot, _)| *slot)
        .next()
}

#[test]
fn the_longest_prefix_drops_whichever_table_it_is_in() {
    let mut pair = pair();
    for (source, port, slot) in [
        ("203.0.113.70", 80, Some(7)),
        ("203.0.113.70", 443, Some(4)),
        ("203.0.113.21", 443, Some(8)),
        ("203.0.113.21", 8080, Some(5)),
        ("203.0.113.21", 22, Some(0)),
        ("203.0.113.20", 22, Some(7)),
        ("203.0.113.22", 22, Some(0)),
        ("2001:db8:0:4::10", 80, Some(9)),
        ("2001:db8:0:5::14", 80, Some(10)),
        ("2001:db8:0:5::16", 80, Some(11)),
        ("2001:db8:0:5::17", 80, Some(11)),
        ("2001:db8:0:6::18", 443, Some(11)),
        ("2001:db8:0:6::19", 443, Some(10)),
        ("2001:db8:0:6::18", 80, Some(9)),
        ("2001:db8:0:7::1c", 80, Some(11)),
        ("2001:db8:0:7::20", 80, Some(9)),
        ("2001:db8:0:3::c", 80, None),
    ] {
        assert_eq!(hit(&mut pair, source, port), slot, "{source} to {port}");
    }
    // The longest that has ended hides the others in its port's tables, and none for every port.
    for slot in [8, 11] {
        pair.set_expiry(slot, START_NS - 1);
    }
    for (source, port, slot) in [
        ("203.0.113.21", 443, Some(0)),
        ("2001:db8:0:5::16", 80, None),
        ("2001:db8:0:6::18", 443, Some(9)),
    ] {
        assert_eq!(hit(&mut pair, source, port), slot, "{source} to {port}, ended");
    }
}

#[test]
fn random_traffic_meets_both_kinds_of_tables_alike() {
    for in_use in [Config::HOSTS | Config::NETS, Config::HOSTS, Config::NETS] {
        let mut pair = pair();
        pair.model.config.source_rules = in_use;
        pair.dataplane.set_config(&pair.model.config).unwrap();
        show(&mut pair, 7, 20_000);
        assert!(pair.reasons[&Reason::DropSource] > 500, "{in_use}: {:?}", pair.reasons);
    }
}

/// Exempt sources, with different sets of exempt prefixes. The filter in front of the tries hides no
/// exemption, and it is not trusted where it holds no information.
#[test]
fn exempt_addresses_pass_alike_behind_the_filter() {
    let mut pair = pair();
    let of_one = |pair: &mut Pair| ["203.0.113.70", "2001:db8:0:5::14"].map(|s| hit(pair, s, 80));
    assert_eq!(of_one(&mut pair), [Some(7), Some(10)]);
    let all = ["203.0.113.70/32", "2001:db8:0:5::14/128", "10.0.0.0/8", "2001:db8:8000::/33"];
    for nets in [&all[..2], &all[..1], &[], &all] {
        let nets: Vec<_> = nets.iter().map(|net| (net.parse().unwrap(), u32::MAX)).collect();
        pair.exempt_all(&nets);
        let is_exempt = |net: &str| nets.iter().any(|(of, _)| *of == net.parse().unwrap());
        let expected = [(!is_exempt(all[0])).then_some(7), (!is_exempt(all[1])).then_some(10)];
        assert_eq!(of_one(&mut pair), expected, "{nets:?}");
    }
    show(&mut pair, 9, 10_000);
}

#[test]
fn a_rule_for_certain_ports_goes_port_by_port_and_leaves_what_took_its_place() {
    let pair = Pair::new(Mode::Enforce, 0, false);
    let rules = || pair.dataplane.rules(SET).unwrap();
    let net: IpNet = "2001:db8:0:8::/61".parse().unwrap();
    let ports = |slot| {
        rules().into_iter().find_map(|rule| match rule.matcher {
            KernelMatcher::Source(found, ports) if found == net && rule.slot == slot => {
                Some(ports.certain().to_vec())
            }
            _ => None,
        })
    };
    assert_eq!(ports(6), Some(vec![22, 80, 443, 65535]));
    // Another rule takes one of the ports; then the first one goes.
    let other = RuleRef { slot: 3, flags: RuleRef::BY_OPERATOR };
    pair.dataplane.set_source_rule(SET, &net, Some(443), other).unwrap();
    let all = Ports::new(&[22, 80, 443, 65535]).unwrap();
    pair.dataplane.remove_rule(SET, 6, &KernelMatcher::Source(net, all)).unwrap();
    assert_eq!((ports(6), ports(3)), (None, Some(vec![443])));
}
