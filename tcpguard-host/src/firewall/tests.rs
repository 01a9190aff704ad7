//! Rule sets as the kernel listed them, and their verdicts on a client's ACK.

mod iptables_legacy;
mod steered;

use std::net::IpAddr;

use super::recorded::{
    DOCKER, FIREWALLD, KUBE_PROXY, LEGACY, MARKED, NEW_NOT_SYN, UFW, legacy, recorded, unhex,
};
use super::*;
use crate::linux::netfilter::{self, Chain, Family, Hook};

const SYN_ACCEPT: &str = include_str!("recorded/syn-accept");
const IPTABLES: &str = include_str!("recorded/iptables");
const SYNPROXY: &str = include_str!("recorded/synproxy");

fn offences(rules: &RuleSet, question: &Question<'_>) -> Vec<Offence> {
    judge(rules, question).offences
}

fn found(rules: &RuleSet, port: u16, mark: u32) -> Vec<(u64, Kind)> {
    let ways = [Way { name: "eth0".to_owned(), index: 2 }];
    let question = Question { port, to: &[], ipv4: true, ipv6: true, ways: &ways, mark };
    offences(rules, &question).iter().map(|one| (one.handle, one.kind)).collect()
}

fn strict(text: &str) -> RuleSet {
    RuleSet { strict: true, ..recorded(text) }
}

#[test]
fn rules_that_depend_on_the_syn_are_found_and_others_are_not() {
    let rules = recorded(NEW_NOT_SYN);
    // A denial of SYNs, and the drop of new packets that are no SYN. Neither the drop of invalid
    // packets, nor flags that no TCP sends, nor rules for other ports or the loopback interface.
    assert_eq!(found(&rules, 8080, 0), [(2, Kind::Bypassed), (3, Kind::NotSyn)]);
    assert_eq!(found(&rules, 443, 0), [(3, Kind::NotSyn)]);
    // A port of an interval, and one by itself.
    assert_eq!(found(&rules, 115, 0), [(3, Kind::NotSyn), (8, Kind::Bypassed)]);
    assert_eq!(found(&rules, 25, 0), [(3, Kind::NotSyn), (8, Kind::Bypassed)]);
    assert_eq!(found(&rules, 120, 0), [(3, Kind::NotSyn)]);
    // SYNs that are accepted up to a rate.
    assert_eq!(found(&rules, 22, 0), [(3, Kind::NotSyn), (6, Kind::BySyn)]);
    assert_eq!(found(&recorded(SYN_ACCEPT), 8080, 0).first().map(|one| one.1), Some(Kind::BySyn));
    assert_eq!(found(&recorded(SYN_ACCEPT), 443, 0), []);
}

#[test]
fn what_common_packages_load_takes_cookies() {
    let own = [IpAddr::from([10, 9, 0, 2]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2])];
    for (text, translates) in [(UFW, false), (FIREWALLD, true), (DOCKER, true), (KUBE_PROXY, true)]
    {
        let rules = recorded(text);
        assert!(rules.chains.iter().any(|chain| chain.rules.len() > 3), "{rules:#?}");
        // Another service of the cluster is at port 443 of another address.
        for port in [22, 443, 8080] {
            let question = Question { port, to: &own, ipv4: true, ipv6: true, ways: &[], mark: 0 };
            assert_eq!(judge(&rules, &question), Judgement::default(), "{rules:#?}");
        }
        let [ipv4, ipv6] = [nat_of(&rules, Family::IPV4), nat_of(&rules, Family::IPV6)];
        assert_eq!((ipv4.is_some(), ipv6.is_some()), (translates, translates), "{rules:#?}");
    }
    // A published port, and a node port: its clients' connections are at other sockets.
    for (text, port) in [(DOCKER, 5000), (KUBE_PROXY, 30080)] {
        let question = Question { port, to: &own, ipv4: true, ipv6: false, ways: &[], mark: 0 };
        let kinds: Vec<Kind> =
            judge(&recorded(text), &question).offences.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::Translates], "{text}");
    }
}

#[test]
fn with_a_strict_conntrack_a_rule_on_states_is_enough() {
    for rules in [UFW, FIREWALLD, NEW_NOT_SYN] {
        for mark in [0, 0x100] {
            let found = found(&strict(rules), 8080, mark);
            assert!(found.iter().any(|(_, kind)| *kind == Kind::Strict), "{found:?}");
        }
    }
}

#[test]
fn rules_of_iptables_are_read_too() {
    let rules = recorded(IPTABLES);
    let kinds = |port| found(&rules, port, 0).iter().map(|one| one.1).collect::<Vec<_>>();
    assert_eq!(kinds(8080), [Kind::NotSyn, Kind::Bypassed]);
    assert_eq!(kinds(443), [Kind::NotSyn]);
    assert_eq!(kinds(80), [Kind::NotSyn, Kind::BySyn]);
    // They are rules for IPv4 only.
    let question = Question { port: 8080, to: &[], ipv4: false, ipv6: true, ways: &[], mark: 0 };
    assert_eq!(offences(&rules, &question), []);
}

#[test]
fn a_mark_that_is_accepted_before_the_rule_is_enough() {
    let rules = recorded(MARKED);
    assert_eq!(found(&rules, 443, 0x100), []);
    assert_eq!(found(&rules, 443, 0), [(5, Kind::NotSyn)], "nothing is marked");
    assert_eq!(found(&rules, 443, 0x200), [(5, Kind::NotSyn)], "another mark");
    let mut after = rules.clone();
    after.chains[0].rules.rotate_left(3);
    assert_eq!(found(&after, 443, 0x100), [(5, Kind::NotSyn)], "accepted after it");
}

#[test]
fn a_synproxy_answers_for_itself_and_flags_may_be_looked_up() {
    let rules = recorded(SYNPROXY);
    assert_eq!(found(&rules, 8080, 0), [(3, Kind::Bypassed), (4, Kind::Synproxy)]);
    let unread = RuleSet { sets: Default::default(), ..rules };
    assert_eq!(found(&unread, 8080, 0), [(3, Kind::Bypassed), (4, Kind::Synproxy)]);
}

#[test]
fn an_operator_finds_the_rule_and_what_to_insert() {
    let ways = [];
    let question = Question { port: 443, to: &[], ipv4: true, ipv6: true, ways: &ways, mark: 0 };
    let offence = offences(&recorded(NEW_NOT_SYN), &question).remove(0);
    assert_eq!(
        offence.to_string(),
        "rule with handle 3 of inet filter input (tcp flags & (fin|syn|rst|ack) != syn ct state new drop)"
    );
    assert_eq!(
        mark_rules(&offence, 0x100),
        [
            "nft insert rule inet filter input position 3 meta mark and 0x100 == 0x100 ct mark set ct \
             mark or 0x100",
            "nft insert rule inet filter input position 3 ct mark and 0x100 == 0x100 accept",
        ]
    );
    let offence = offences(&recorded(IPTABLES), &question).remove(0);
    assert_eq!(
        mark_rules(&offence, 0x100),
        [
            "iptables -I INPUT 1 -m mark --mark 0x100/0x100 -j CONNMARK --set-xmark 0x100/0x100",
            "iptables -I INPUT 2 -m connmark --mark 0x100/0x100 -j ACCEPT",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    assert_eq!(unread(&recorded(UFW)), None);
    let refused = RuleSet { legacy: vec!["ip filter: no".to_owned()], ..recorded(UFW) };
    assert!(unread(&refused).is_some_and(|words| words.contains("ip filter")));
    let cut = RuleSet { complete: false, ..recorded(UFW) };
    assert!(unread(&cut).is_some_and(|words| words.contains("too large")));
}

/// An attribute of a message.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// An expression of a rule.
fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let data = attribute(2, &attributes.concat());
    attribute(1, &[attribute(1, name.as_bytes()), data].concat())
}

const EVERY: [u16; 2] = [0, u16::MAX];

/// The attribute with `struct xt_tcp`: every destination port, no flags, and an option.
fn xt_tcp(sources: [u16; 2], option: u8, inverted: bool) -> Vec<u8> {
    let ports = [sources, EVERY].concat();
    let mut info: Vec<u8> = ports.into_iter().flat_map(u16::to_ne_bytes).collect();
    info.extend([option, 0, 0, if inverted { 8 } else { 0 }]);
    attribute(3, &info)
}

/// A chain with one rule, which drops the packets that these expressions let through.
fn dropping(expressions: &[Vec<u8>]) -> RuleSet {
    let verdict = attribute(2, &attribute(2, &number(1, 0)));
    let drop = expression("immediate", &[number(1, 0), verdict]);
    let list = attribute(4, &[expressions.concat(), drop].concat());
    let names = [attribute(1, b"filter"), attribute(2, b"input")].concat();
    let message = [vec![Family::INET.0, 0, 0, 0], names, list].concat();
    let chain = Chain {
        table: "filter".to_owned(),
        name: "input".to_owned(),
        hook: Some(Hook { number: 1, devices: Vec::new() }),
        ..Chain::default()
    };
    let chains = netfilter::assembled(vec![chain], netfilter::rule(&message).into_iter().collect());
    RuleSet { chains, complete: true, ..RuleSet::default() }
}

#[test]
fn options_that_only_a_syn_has_distinguish_it_from_an_ack() {
    // -m tcpmss --mss 536:65535, and inverted.
    let tcpmss = |inverted: u8| {
        let mut info = [536_u16.to_ne_bytes(), u16::MAX.to_ne_bytes()].concat();
        info.extend([inverted, 0, 0, 0]);
        expression("match", &[attribute(1, b"tcpmss"), number(2, 0), attribute(3, &info)])
    };
    // -p tcp --tcp-option, and inverted.
    let tcp_option = |kind: u8, inverted: bool| {
        expression("match", &[attribute(1, b"tcp"), number(2, 0), xt_tcp(EVERY, kind, inverted)])
    };
    // tcp option …, and whether only that it is there is asked.
    let option = |kind: u8, asks: u32| {
        let place = [number(3, 2), number(4, 2), number(5, asks), number(6, 1)].concat();
        expression("exthdr", &[number(1, 8), attribute(2, &[kind]), place])
    };
    let load = |base, offset, len| {
        let place = [number(2, base), number(3, offset), number(4, len)].concat();
        expression("payload", &[number(1, 8), place])
    };
    let compare = |how, value: &[u8]| {
        expression("cmp", &[number(1, 8), number(2, how), attribute(3, &attribute(1, value))])
    };
    let (equal, less) = (0, 2);
    let syn = || vec![load(2, 13, 1), compare(equal, &[2])];
    let from = || vec![load(1, 12, 4), compare(equal, &[192, 0, 2, 1])];
    for (expressions, expected) in [
        (vec![tcpmss(1)], Some(Kind::NotSyn)),
        (vec![tcpmss(0)], Some(Kind::Bypassed)),
        ([from(), vec![tcpmss(1)]].concat(), Some(Kind::NotSyn)),
        ([syn(), vec![tcpmss(1)]].concat(), Some(Kind::Bypassed)),
        // MSS, window scale, SACK permitted.
        (vec![tcp_option(2, true)], Some(Kind::NotSyn)),
        (vec![tcp_option(2, false)], Some(Kind::Bypassed)),
        (vec![tcp_option(3, true)], Some(Kind::NotSyn)),
        (vec![tcp_option(4, false)], Some(Kind::Bypassed)),
        ([syn(), vec![tcp_option(2, true)]].concat(), Some(Kind::Bypassed)),
        (vec![option(2, 0), compare(less, &[2, 24])], Some(Kind::Bypassed)),
        (vec![option(2, 1), compare(equal, &[0])], Some(Kind::NotSyn)),
        // Timestamps are in all.
        (vec![option(8, 1), compare(equal, &[0])], None),
        (vec![tcp_option(8, false)], None),
        (vec![tcp_option(8, true)], None),
    ] {
        let rules = dropping(&expressions);
        let kinds: Vec<Kind> = found(&rules, 8080, 0).iter().map(|one| one.1).collect();
        assert_eq!(kinds, Vec::from_iter(expected), "{rules:#?}");
    }
    let question = Question { port: 8080, to: &[], ipv4: true, ipv6: true, ways: &[], mark: 0 };
    let words = |one: Vec<u8>| offences(&dropping(&[one]), &question).remove(0).words;
    assert_eq!(words(tcpmss(1)), "tcp flags & (syn) … tcpmss drop");
    assert_eq!(words(tcp_option(2, true)), "tcp flags & (syn) … tcp option drop");
    assert_eq!(words(tcp_option(2, false)), "tcp flags & (syn) == syn tcp option drop");
}

/// A rule that may not match does not end the chain: a later rule still depends on the SYN.
#[test]
fn a_match_on_an_option_or_a_source_port_does_not_hide_later_rules() {
    let tcp = |sources, kind| {
        expression("match", &[attribute(1, b"tcp"), number(2, 0), xt_tcp(sources, kind, false)])
    };
    let later = expression("match", &[attribute(1, b"tcp"), number(2, 0), xt_tcp(EVERY, 2, true)]);
    for (first, expected) in [
        (tcp([1024, u16::MAX], 0), Some(Kind::NotSyn)),
        (tcp(EVERY, 8), Some(Kind::NotSyn)),
        // It drops both packets.
        (tcp(EVERY, 0), None),
    ] {
        let mut rules = dropping(&[first]);
        let mut more = dropping(std::slice::from_ref(&later)).chains.remove(0).rules;
        more[0].handle = 9;
        rules.chains[0].rules.append(&mut more);
        let expected: Vec<(u64, Kind)> = expected.map(|kind| (9, kind)).into_iter().collect();
        assert_eq!(found(&rules, 8080, 0), expected, "{rules:#?}");
    }
}

/// Every truncation, and every byte at other values: nothing panics, and nothing goes on for ever.
#[test]
fn messages_that_make_no_sense_are_survived() {
    let question = Question { port: 8080, to: &[], ipv4: true, ipv6: true, ways: &[], mark: 1 };
    for text in [NEW_NOT_SYN, IPTABLES, SYNPROXY] {
        let rules = recorded(text);
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let whole = unhex(words[words.len() - 1]);
            for place in 0..whole.len() {
                let mut odd = vec![whole[..place].to_vec()];
                for value in [0, 1, 0x7f, 0xff] {
                    let mut changed = whole.clone();
                    changed[place] = value;
                    odd.push(changed);
                }
                for bytes in odd {
                    let (_, _) = (netfilter::chain(&bytes), netfilter::elements(&bytes));
                    let Some((_, rule)) = netfilter::rule(&bytes) else { continue };
                    let mut rules = rules.clone();
                    rules.chains[0].rules.insert(0, rule);
                    offences(&rules, &question);
                }
            }
        }
    }
}

#[test]
fn chains_that_jump_in_circles_come_to_an_end() {
    use crate::linux::netfilter::{Effect, Rule, Verdict};
    let jump = |to: &str| Rule {
        effects: vec![Effect::Verdict(Verdict::Jump(to.to_owned()))],
        ..Rule::default()
    };
    let chain = |name: &str, to: &[&str]| Chain {
        table: "filter".to_owned(),
        name: name.to_owned(),
        hook: (name == "input").then(|| Hook { number: 1, devices: Vec::new() }),
        rules: to.iter().map(|to| jump(to)).collect(),
        ..Chain::default()
    };
    let chains =
        vec![chain("input", &["a"; 64]), chain("a", &["b"; 64]), chain("b", &["a", "input"])];
    let rules = RuleSet { chains, ..RuleSet::default() };
    assert_eq!(found(&rules, 8080, 1), []);
}
