//! Rules that would have taken, translated or changed a client's SYN, and NAT beside them.

use super::*;

const PORT: u16 = 8080;
const SERVER: [u8; 4] = [10, 9, 0, 2];
const PREROUTING: u32 = 0;
const POSTROUTING: u32 = 4;

/// The rule in a chain at this hook.
fn rules(family: Family, nat: bool, hook: u32, expressions: &[Vec<u8>]) -> RuleSet {
    let mut rules = dropping(expressions);
    let chain = &mut rules.chains[0];
    chain.family = family;
    chain.nat = nat;
    chain.hook = Some(Hook { number: hook, devices: Vec::new() });
    // It ends with a drop.
    chain.rules[0].effects.pop();
    rules
}

fn judged(expressions: &[Vec<u8>]) -> Judgement {
    let to = [IpAddr::from(SERVER)];
    let question = Question { port: PORT, to: &to, ipv4: true, ipv6: false, ways: &[], mark: 1 };
    judge(&rules(Family::INET, false, PREROUTING, expressions), &question)
}

fn kind(expressions: &[Vec<u8>]) -> Option<Kind> {
    judged(expressions).offences.first().map(|one| one.kind)
}

fn load(base: u32, offset: u32, len: u32) -> Vec<u8> {
    let place = [number(2, base), number(3, offset), number(4, len)].concat();
    expression("payload", &[number(1, 8), place])
}

fn equals(value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, 8), number(2, 0), attribute(3, &attribute(1, value))])
}

fn port(port: u16) -> Vec<Vec<u8>> {
    vec![load(2, 2, 2), equals(&port.to_be_bytes())]
}

fn to(addr: [u8; 4]) -> Vec<Vec<u8>> {
    vec![load(1, 16, 4), equals(&addr)]
}

/// `ip saddr 192.0.2.1`: some clients.
fn some_clients() -> Vec<Vec<u8>> {
    vec![load(1, 12, 4), equals(&[192, 0, 2, 1])]
}

fn syn() -> Vec<Vec<u8>> {
    vec![load(2, 13, 1), equals(&[2])]
}

/// A write of so many bytes of a header.
fn write(base: u32, offset: u32, len: u32) -> Vec<u8> {
    let place = [number(2, base), number(3, offset), number(4, len), number(5, 8)].concat();
    expression("payload", &[place])
}

fn target(name: &str, info: &[u8]) -> Vec<u8> {
    expression("target", &[attribute(1, name.as_bytes()), number(2, 0), attribute(3, info)])
}

/// `tcp option maxseg size set`, of a value or of a field.
fn clamp(size: Option<u16>) -> Vec<Vec<u8>> {
    let value = match size {
        Some(size) => {
            let value = attribute(2, &attribute(1, &size.to_be_bytes()));
            expression("immediate", &[number(1, 8), value])
        }
        None => expression("rt", &[number(1, 8), number(2, 4)]),
    };
    let place = [number(3, 2), number(4, 2), number(6, 1), number(7, 8)].concat();
    vec![value, expression("exthdr", &[attribute(2, &[2]), place])]
}

fn join(parts: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    parts.concat()
}

#[test]
fn rules_that_steer_packets_of_the_port_are_found() {
    let tproxy = || vec![expression("tproxy", &[number(1, 2), number(3, 8)])];
    let socket = || vec![expression("socket", &[number(1, 0), number(2, 8)]), equals(&[1])];
    let xt_socket = || vec![expression("match", &[attribute(1, b"socket"), number(2, 3)])];
    for (what, expected) in [
        (join(&[port(PORT), tproxy()]), Some(Kind::Steers)),
        (join(&[some_clients(), port(PORT), tproxy()]), Some(Kind::Steers)),
        (join(&[to(SERVER), port(PORT), tproxy()]), Some(Kind::Steers)),
        (join(&[to([10, 9, 0, 3]), port(PORT), tproxy()]), None),
        (join(&[port(443), tproxy()]), None),
        (socket(), Some(Kind::Steers)),
        (join(&[port(443), socket()]), None),
        (join(&[port(PORT), vec![target("TPROXY", &[0; 40])]]), Some(Kind::Steers)),
        (xt_socket(), Some(Kind::Steers)),
        (vec![expression("fwd", &[number(1, 8)])], Some(Kind::Steers)),
    ] {
        assert_eq!(kind(&what), expected, "{:#?}", judged(&what));
    }
    let words = judged(&join(&[port(PORT), tproxy()])).offences.remove(0).words;
    assert_eq!(words, "tcp dport 8080 tproxy");
}

#[test]
fn rules_that_translate_packets_of_the_port_are_found() {
    let dnat = || vec![expression("nat", &[number(1, 1), number(2, 2)])];
    for (what, expected) in [
        (join(&[port(PORT), dnat()]), Some(Kind::Translates)),
        (join(&[some_clients(), port(PORT), dnat()]), Some(Kind::Translates)),
        (join(&[port(PORT), vec![expression("redir", &[])]]), Some(Kind::Translates)),
        (join(&[port(443), dnat()]), None),
        // A service of a cluster, at an address that is not the host's.
        (join(&[to([10, 96, 0, 1]), port(PORT), dnat()]), None),
        (join(&[port(PORT), vec![target("REDIRECT", &[0; 16])]]), Some(Kind::Translates)),
        (join(&[port(PORT), vec![target("DNAT", &[0; 40])]]), Some(Kind::Translates)),
        // ip daddr set, ip6 daddr set, tcp dport set.
        (join(&[port(PORT), vec![write(1, 16, 4)]]), Some(Kind::Translates)),
        (join(&[port(PORT), vec![write(1, 24, 16)]]), Some(Kind::Translates)),
        (join(&[port(PORT), vec![write(2, 2, 2)]]), Some(Kind::Translates)),
    ] {
        assert_eq!(kind(&what), expected, "{:#?}", judged(&what));
    }
}

#[test]
fn a_rule_that_translates_to_a_port_of_this_host_is_distinguished_from_one_to_another_host() {
    let immediate = |register, value: &[u8]| {
        expression("immediate", &[number(1, register), attribute(2, &attribute(1, value))])
    };
    let port_of = |register| immediate(register, &[0x1f, 0x90]);
    let dnat = |addr: [u8; 4]| {
        let nat = expression("nat", &[number(1, 1), number(2, 2), number(3, 8), number(5, 9)]);
        vec![immediate(8, &addr), port_of(9), nat]
    };
    let ports = [0x1f, 0x90, 0x1f, 0x90];
    // `struct nf_nat_ipv4_multi_range_compat`, and `struct nf_nat_range2` with an IPv4 address.
    let compat = |name, flags: u32, addr: [u8; 4]| {
        let info = [1u32.to_ne_bytes(), flags.to_ne_bytes(), addr, addr, ports, [0; 4]].concat();
        vec![target(name, &info)]
    };
    let range = |addr: [u8; 4]| {
        let both = [addr, [0; 4], [0; 4], [0; 4]].concat().repeat(2);
        vec![target(
            "DNAT",
            &[3u32.to_ne_bytes().to_vec(), both, ports.to_vec(), vec![0; 4]].concat(),
        )]
    };
    for (what, expected) in [
        (vec![port_of(8), expression("redir", &[number(1, 8)])], true),
        (compat("REDIRECT", 2, [0; 4]), true),
        (dnat(SERVER), true),
        (dnat([172, 17, 0, 2]), false),
        (compat("DNAT", 3, SERVER), true),
        (compat("DNAT", 3, [172, 17, 0, 2]), false),
        (range(SERVER), true),
        (range([172, 17, 0, 2]), false),
        (compat("SNAT", 3, SERVER), false),
        (vec![expression("nat", &[number(1, 1), number(2, 2)])], false),
    ] {
        let (rule, own) = (join(&[port(80), what]), [IpAddr::from(SERVER)]);
        let rules = rules(Family::IPV4, true, PREROUTING, &rule);
        let question = Question { port: 80, to: &own, ipv4: true, ipv6: true, ways: &[], mark: 0 };
        let offences = judge(&rules, &question).offences;
        assert_eq!(offences.iter().any(|one| one.is_redirect(&own)), expected, "{offences:#?}");
        for (port, is_its) in [(8080, expected), (80, false)] {
            assert_eq!(redirection(&rules, &own, port).is_some(), is_its, "{port}: {offences:#?}");
        }
    }
}

#[test]
fn an_address_is_compared_where_the_hosts_own_are_known() {
    let expressions = join(&[to([10, 96, 0, 1]), vec![expression("redir", &[])]]);
    let rules = rules(Family::IPV4, true, PREROUTING, &expressions);
    let v6 = IpAddr::from([0; 16]);
    let own = |last: [u8; 4]| [IpAddr::from(SERVER), v6, IpAddr::from(last)];
    for (to, expected) in [(&own([10, 9, 0, 3])[..], 0), (&own([10, 96, 0, 1]), 1), (&[], 1)] {
        let question = Question { port: PORT, to, ipv4: true, ipv6: true, ways: &[], mark: 0 };
        assert_eq!(judge(&rules, &question).offences.len(), expected, "{to:?}");
    }
}

#[test]
fn what_is_set_on_syns_alone_would_be_missing_and_what_is_set_on_all_is_not() {
    let mark = || vec![expression("meta", &[number(2, 3), number(3, 8)])];
    let ct_mark = || vec![expression("ct", &[number(2, 3), number(4, 8)])];
    let ttl = || vec![write(1, 8, 2)];
    let helper = || vec![target("CT", &[0; 80])];
    for changes in [mark(), ct_mark(), ttl(), helper(), vec![target("MARK", &[0; 12])]] {
        for (conditions, expected) in [(syn(), Some(Kind::Changes)), (port(PORT), None)] {
            let rule = join(&[conditions, changes.clone()]);
            assert_eq!(kind(&rule), expected, "{:#?}", judged(&rule));
        }
    }
    // Tracing of packets through the rules (`meta nftrace set 1`), and counters.
    let trace = vec![expression("meta", &[number(2, 12), number(3, 8)])];
    for harmless in [trace, vec![expression("counter", &[])], vec![target("LOG", &[0; 32])]] {
        assert_eq!(kind(&join(&[syn(), harmless])), None);
    }
}

#[test]
fn the_mss_of_clients_is_at_most_what_the_rules_leave() {
    let tcpmss = |size: u16| vec![target("TCPMSS", &size.to_ne_bytes())];
    for (what, limit, expected) in [
        (join(&[syn(), clamp(Some(1200))]), Some(1200), None),
        (join(&[port(PORT), clamp(Some(536))]), Some(536), None),
        (join(&[some_clients(), clamp(Some(1300))]), Some(1300), None),
        (join(&[port(443), clamp(Some(1200))]), None, None),
        (join(&[syn(), tcpmss(1200)]), Some(1200), None),
        // By the path's MTU, which the rule finds out; and less than any cookie keeps.
        (join(&[syn(), clamp(None)]), None, Some(Kind::Rewrites)),
        (join(&[syn(), tcpmss(u16::MAX)]), None, Some(Kind::Rewrites)),
        (join(&[syn(), clamp(Some(500))]), None, Some(Kind::Rewrites)),
    ] {
        let judged = judged(&what);
        assert_eq!(judged.mss_limit, limit, "{judged:#?}");
        assert_eq!(judged.offences.first().map(|one| one.kind), expected, "{judged:#?}");
    }
    let words = judged(&join(&[port(PORT), clamp(Some(100))])).offences.remove(0).words;
    assert_eq!(words, "tcp dport 8080 maxseg size set 100");
    let mut two = rules(Family::INET, false, PREROUTING, &clamp(Some(1300)));
    let other = rules(Family::INET, false, PREROUTING, &clamp(Some(1240))).chains.remove(0).rules;
    two.chains[0].rules.extend(other);
    let of = |ipv6| {
        let question = Question { port: PORT, to: &[], ipv4: true, ipv6, ways: &[], mark: 0 };
        judge(&two, &question)
    };
    assert_eq!(of(true).mss_limit, Some(1240), "the smallest of all");
    two.chains[0].family = Family::IPV6;
    assert_eq!(judged_for_ipv4(&two).mss_limit, None, "of the other IP version");
}

fn judged_for_ipv4(rules: &RuleSet) -> Judgement {
    let question = Question { port: PORT, to: &[], ipv4: true, ipv6: false, ways: &[], mark: 0 };
    judge(rules, &question)
}

#[test]
fn options_that_a_cookie_would_promise_may_not_be_removed() {
    let reset = |kind: u8| vec![expression("exthdr", &[attribute(2, &[kind]), number(6, 1)])];
    let strip = |kind: u8| {
        let mut bits = [0_u32; 8];
        bits[usize::from(kind / 32)] = 1 << (kind % 32);
        vec![target("TCPOPTSTRIP", &bits.map(u32::to_ne_bytes).concat())]
    };
    for (kind_of_option, expected) in [
        (2, Some(Kind::Rewrites)),
        (3, Some(Kind::Rewrites)),
        (4, Some(Kind::Rewrites)),
        (8, Some(Kind::Rewrites)),
        // Multipath TCP, Fast Open.
        (30, None),
        (34, None),
    ] {
        for rule in [reset(kind_of_option), strip(kind_of_option)] {
            assert_eq!(kind(&rule), expected, "{kind_of_option}: {:#?}", judged(&rule));
        }
    }
}

#[test]
fn nat_is_there_with_a_chain_of_it_and_anything_that_tracks_connections() {
    let of = |rules: &RuleSet| {
        [nat_of(rules, Family::IPV4), nat_of(rules, Family::IPV6)].map(|it| it.is_some())
    };
    let track = || vec![expression("ct", &[number(1, 8), number(2, 0)])];
    let masquerade = || vec![expression("masq", &[])];
    for (family, is_nat, hook, expressions, expected) in [
        (Family::IPV4, true, POSTROUTING, masquerade(), [true, false]),
        (Family::IPV6, true, POSTROUTING, masquerade(), [false, true]),
        (Family::INET, true, POSTROUTING, masquerade(), [true, true]),
        (Family::IPV4, true, PREROUTING, vec![target("DNAT", &[0; 40])], [true, false]),
        // Nothing is tracked, or nothing is translated.
        (Family::IPV4, true, PREROUTING, vec![expression("counter", &[])], [false, false]),
        (Family::INET, false, PREROUTING, track(), [false, false]),
    ] {
        let rules = rules(family, is_nat, hook, &expressions);
        assert_eq!(of(&rules), expected, "{rules:#?}");
    }
    // In different tables, of one IP version, and of both.
    let empty = |family| rules(family, true, POSTROUTING, &[]);
    for (family, tracked, expected) in [
        (Family::IPV4, Family::INET, [true, false]),
        (Family::IPV4, Family::IPV6, [false, false]),
        (Family::INET, Family::IPV6, [false, true]),
    ] {
        let mut both = empty(family);
        both.chains.extend(rules(tracked, false, PREROUTING, &track()).chains);
        assert_eq!(of(&both), expected, "{both:#?}");
    }
}

#[test]
fn what_cannot_be_read_may_be_nat() {
    let unread = |legacy: &[&str]| RuleSet {
        complete: true,
        legacy: legacy.iter().map(|one| (*one).to_owned()).collect(),
        ..RuleSet::default()
    };
    for (legacy, expected) in [
        (&["ip nat: no"][..], [true, false]),
        (&["ip6: /proc/net/ip6_tables_names: no"], [false, true]),
        (&["ip filter: no", "ip6 mangle: no"], [false, false]),
        (&[], [false, false]),
    ] {
        let rules = unread(legacy);
        let found = [nat_of(&rules, Family::IPV4), nat_of(&rules, Family::IPV6)];
        assert_eq!(found.map(|it| it.is_some()), expected, "{legacy:?}");
    }
    let cut = RuleSet { complete: false, ..unread(&[]) };
    let found = nat(&cut).expect("it may be");
    assert!(found.why().contains("whether there is any is unknown"), "{found:?}");
}

#[test]
fn nat_is_named_by_its_chain() {
    let rules = rules(Family::IPV4, true, POSTROUTING, &[expression("masq", &[])]);
    let found = nat(&rules).expect("NAT");
    assert_eq!(found.to_string(), "chain input of ip filter");
    assert_eq!(found.listing(), "nft list chain ip filter input");
    let mut legacy = rules;
    legacy.chains[0].legacy = true;
    let found = nat(&legacy).expect("NAT");
    assert_eq!(found.to_string(), "chain input of iptables-legacy nat");
}
