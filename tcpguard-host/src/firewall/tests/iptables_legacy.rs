//! Tables of iptables-legacy: as the kernel returned them, and as they are built here.

use super::super::words;
use super::*;
use crate::linux::netfilter::legacy::Info;
use crate::linux::netfilter::{Effect, Verdict};

const NEW: u16 = 8;
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;
/// Bytes of `struct ipt_entry`.
const ENTRY_LEN: usize = 112;

fn asked(rules: &RuleSet, port: u16, way: &str) -> Vec<Offence> {
    let ways = [Way { name: way.to_owned(), index: 2 }];
    offences(rules, &Question { port, to: &[], ipv4: true, ipv6: true, ways: &ways, mark: 0 })
}

/// Returns the position and the kind of each offence.
fn places(rules: &RuleSet, port: u16, way: &str) -> Vec<(String, Kind)> {
    let place = |one: &Offence| one.to_string().split(" (").next().unwrap_or_default().to_owned();
    asked(rules, port, way).iter().map(|one| (place(one), one.kind)).collect()
}

/// The rules that were recorded, as `iptables-legacy -S` lists them:
///
/// ```text
/// -A INPUT -i lo -j ACCEPT
/// -A INPUT -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
/// -A INPUT -s 10.9.0.0/16 -p tcp --dport 8080 --syn -j DROP
/// -A INPUT -p tcp --dport 443 ! --syn -m conntrack --ctstate NEW -j DROP
/// -A INPUT -p tcp -j web
/// -A INPUT -i eth+ -g later
/// -A INPUT -p tcp --dport 81 --syn -j DROP
/// -A later -p tcp --dport 80 -m limit --limit 5/s --tcp-flags SYN,ACK SYN -j ACCEPT
/// -A web -p tcp --dport 22 --syn -j ACCEPT
/// -A web -p tcp -m comment --comment none
/// -t raw -A PREROUTING ! -s 192.0.2.1 -p tcp --dport 25 --syn -j DROP
/// ip6tables-legacy -A INPUT -s 2001:db8::/32 -p tcp --dport 8080 --syn -j DROP
/// ip6tables-legacy -A INPUT -i eth+ -p tcp --dport 443 ! --syn -m state --state NEW -j REJECT
/// ```
#[test]
fn tables_are_read_as_iptables_lists_them() {
    let rules = legacy();
    let mut lines = Vec::new();
    for chain in &rules.chains {
        assert!(chain.legacy, "{chain:#?}");
        let Chain { family, table, name, .. } = chain;
        let hook = chain.hook.as_ref().map(|hook| hook.number);
        let place = format!("{} {table} {name}", family.name());
        lines.push((place, hook, chain.rules.iter().map(words::rule).collect::<Vec<_>>()));
    }
    let expected: [(&str, Option<u32>, &[&str]); 10] = [
        (
            "ip filter INPUT",
            Some(1),
            &[
                "iifname \"lo\" accept",
                "ct state established,related accept",
                "ip saddr 10.9.0.0/16 tcp dport 8080-8080 tcp flags & (fin|syn|rst|ack) == syn drop",
                "tcp dport 443-443 tcp flags & (fin|syn|rst|ack) != syn ct state new drop",
                "jump web",
                "iifname \"eth\" goto later",
                "tcp dport 81-81 tcp flags & (fin|syn|rst|ack) == syn drop",
            ],
        ),
        ("ip filter FORWARD", Some(2), &[]),
        ("ip filter OUTPUT", Some(3), &[]),
        ("ip filter later", None, &["tcp dport 80-80 tcp flags & (syn|ack) == syn limit accept"]),
        (
            "ip filter web",
            None,
            &["tcp dport 22-22 tcp flags & (fin|syn|rst|ack) == syn accept", ""],
        ),
        (
            "ip raw PREROUTING",
            Some(0),
            &["ip saddr != 192.0.2.1 tcp dport 25-25 tcp flags & (fin|syn|rst|ack) == syn drop"],
        ),
        ("ip raw OUTPUT", Some(3), &[]),
        (
            "ip6 filter INPUT",
            Some(1),
            &[
                "ip … tcp dport 8080-8080 tcp flags & (fin|syn|rst|ack) == syn drop",
                "iifname \"eth\" tcp dport 443-443 tcp flags & (fin|syn|rst|ack) != syn ct state new \
                 conntrack REJECT",
            ],
        ),
        ("ip6 filter FORWARD", Some(2), &[]),
        ("ip6 filter OUTPUT", Some(3), &[]),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for ((place, hook, rules), (known, number, words)) in lines.iter().zip(expected) {
        assert_eq!((place.as_str(), *hook), (known, number));
        assert_eq!(rules, words, "{place}");
    }
}

#[test]
fn rules_of_iptables_legacy_that_depend_on_the_syn_are_found() {
    let rules = legacy();
    let (filter, filter6) = ("of iptables-legacy filter", "of ip6tables-legacy filter");
    for (port, way, expected) in [
        (
            443,
            "eth0",
            vec![
                (format!("rule 4 {filter} INPUT"), Kind::NotSyn),
                (format!("rule 2 {filter6} INPUT"), Kind::NotSyn),
            ],
        ),
        (443, "wan0", vec![(format!("rule 4 {filter} INPUT"), Kind::NotSyn)]),
        (
            8080,
            "eth0",
            vec![
                (format!("rule 3 {filter} INPUT"), Kind::Bypassed),
                (format!("rule 1 {filter6} INPUT"), Kind::Bypassed),
            ],
        ),
        (22, "eth0", vec![(format!("rule 1 {filter} web"), Kind::BySyn)]),
        (80, "eth0", vec![(format!("rule 1 {filter} later"), Kind::BySyn)]),
        (80, "wan0", vec![]),
        // After a goto, the rules behind it are not evaluated.
        (81, "eth0", vec![]),
        (81, "wan0", vec![(format!("rule 7 {filter} INPUT"), Kind::Bypassed)]),
        (25, "eth0", vec![("rule 1 of iptables-legacy raw PREROUTING".to_owned(), Kind::Bypassed)]),
        (8443, "eth0", vec![]),
        // All is accepted there.
        (443, "lo", vec![]),
    ] {
        assert_eq!(places(&rules, port, way), expected, "port {port}, {way}");
    }
}

#[test]
fn an_operator_finds_the_rule_by_commands_of_iptables_legacy() {
    let rules = legacy();
    let found = asked(&rules, 443, "eth0");
    let [offence, of_ipv6] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(offence.listing(), "iptables-legacy -nL INPUT --line-numbers");
    assert_eq!(of_ipv6.listing(), "ip6tables-legacy -nL INPUT --line-numbers");
    assert_eq!(
        mark_rules(offence, 0x100),
        [
            "iptables-legacy -I INPUT 4 -m mark --mark 0x100/0x100 -j CONNMARK --set-xmark 0x100/0x100",
            "iptables-legacy -I INPUT 5 -m connmark --mark 0x100/0x100 -j ACCEPT",
        ]
    );
    let found = asked(&rules, 25, "eth0");
    let [offence] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(offence.listing(), "iptables-legacy -t raw -nL PREROUTING --line-numbers");
}

/// iptables-nft and iptables-legacy can both have rules, in tables and chains of the same names.
#[test]
fn a_chain_of_nf_tables_is_not_taken_for_one_of_iptables_legacy() {
    let mut rules = legacy();
    rules.chains.extend(recorded(IPTABLES).chains);
    let found = asked(&rules, 443, "eth0");
    let of_nft: Vec<Kind> = found.iter().filter(|one| !one.legacy).map(|one| one.kind).collect();
    assert_eq!(of_nft, [Kind::NotSyn]);
    assert_eq!(found.iter().filter(|one| one.legacy).count(), 2);
    let web = ("rule 1 of iptables-legacy filter web".to_owned(), Kind::BySyn);
    assert!(places(&rules, 22, "eth0").contains(&web));
}

/// `struct xt_entry_match` or `struct xt_entry_target`, with its data.
fn extension(name: &str, revision: u8, data: &[u8]) -> Vec<u8> {
    let len = (32 + data.len()).next_multiple_of(8);
    let mut bytes = u16::try_from(len).expect("short").to_ne_bytes().to_vec();
    bytes.extend(name.bytes());
    bytes.resize(31, 0);
    bytes.push(revision);
    bytes.extend(data);
    bytes.resize(len, 0);
    bytes
}

/// Match of `-p tcp --syn`, or of its inversion.
fn syn(inverted: bool) -> Vec<u8> {
    let mut data: Vec<u8> =
        [EVERY, EVERY].concat().iter().flat_map(|one| one.to_ne_bytes()).collect();
    data.extend([0, 0x17, 0x02, if inverted { 4 } else { 0 }]);
    extension("tcp", 0, &data)
}

/// Match of `-m conntrack --ctstate`.
fn state(states: u16) -> Vec<u8> {
    let mut data = vec![0; 168];
    for (at, value) in [(146, 1), (150, states)] {
        data[at..][..2].copy_from_slice(&u16::to_ne_bytes(value));
    }
    extension("conntrack", 3, &data)
}

fn verdict(code: i32) -> Vec<u8> {
    extension("", 0, &code.to_ne_bytes())
}

/// `struct ipt_entry`: a source and its mask, the protocol, matches and the target.
fn entry(source: [[u8; 4]; 2], protocol: u8, matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ENTRY_LEN];
    bytes[..4].copy_from_slice(&source[0]);
    bytes[8..12].copy_from_slice(&source[1]);
    bytes[80..82].copy_from_slice(&u16::from(protocol).to_ne_bytes());
    bytes.extend(matches.concat());
    let target_at = bytes.len();
    bytes.extend(target);
    for (at, value) in [(88, target_at), (90, bytes.len())] {
        let value = u16::try_from(value).expect("short");
        bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

const ANY: [[u8; 4]; 2] = [[0; 4]; 2];

/// A rule for TCP.
fn tcp(matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
    entry(ANY, 6, matches, target)
}

/// The table filter with these entries from its chain INPUT on.
struct Table {
    info: Info,
    bytes: Vec<u8>,
}

impl Table {
    /// The rules of INPUT, its policy, and chains of users with their rules.
    fn new(input: &[Vec<u8>], policy: i32, chains: &[(&str, &[Vec<u8>])]) -> Self {
        let mut bytes = [input.concat(), entry(ANY, 0, &[], &verdict(policy))].concat();
        for (name, rules) in chains {
            bytes.extend(head(name));
            bytes.extend(rules.concat());
            bytes.extend(entry(ANY, 0, &[], &verdict(RETURN)));
        }
        bytes.extend(head("ERROR"));
        let info = Info { hooks: [None, Some(0), None, None, None], rules: 0, size: bytes.len() };
        Self { info, bytes }
    }

    fn rules(&self) -> RuleSet {
        let chains = netfilter::legacy::chains(Family::IPV4, "filter", &self.info, &self.bytes);
        RuleSet { complete: true, chains, ..RuleSet::default() }
    }
}

fn head(name: &str) -> Vec<u8> {
    let mut data = name.as_bytes().to_vec();
    data.resize(30, 0);
    entry(ANY, 0, &[], &extension("ERROR", 0, &data))
}

#[test]
fn policies_are_no_rules_and_each_rule_is_judged() {
    let denied = [[10, 9, 0, 0], [255, 255, 0, 0]];
    for (input, expected) in [
        (vec![], None),
        (vec![tcp(&[syn(true), state(NEW)], &verdict(DROP))], Some(Kind::NotSyn)),
        (vec![entry(denied, 6, &[syn(false)], &verdict(DROP))], Some(Kind::Bypassed)),
        (vec![tcp(&[syn(false)], &verdict(ACCEPT))], Some(Kind::BySyn)),
        (vec![tcp(&[syn(false)], &extension("SYNPROXY", 0, &[0; 8]))], Some(Kind::Synproxy)),
        (vec![tcp(&[syn(false)], &extension("LOG", 0, &[0; 40]))], None),
        (vec![tcp(&[state(NEW)], &verdict(DROP))], None),
        (vec![entry(ANY, 17, &[syn(false)], &verdict(DROP))], None),
        // The rule before it accepts both packets.
        (vec![tcp(&[], &verdict(ACCEPT)), tcp(&[syn(false)], &verdict(DROP))], None),
    ] {
        for policy in [ACCEPT, DROP] {
            let rules = Table::new(&input, policy, &[]).rules();
            assert_eq!(rules.chains[0].rules.len(), input.len(), "{rules:#?}");
            let kinds: Vec<Kind> = asked(&rules, 443, "eth0").iter().map(|one| one.kind).collect();
            assert_eq!(kinds, Vec::from_iter(expected), "{rules:#?}");
        }
    }
}

#[test]
fn jumps_to_chains_of_users_are_followed() {
    let drops = [tcp(&[syn(false)], &verdict(DROP))];
    let chains: [(&str, &[Vec<u8>]); 2] = [("other", &[]), ("denied", &drops)];
    // The rule, the policy, the head of the first chain and its return, and the head of the second one.
    let lens = [tcp(&[], &verdict(0)), entry(ANY, 0, &[], &verdict(0)), head("other")];
    let [rule, plain, head] = lens.map(|bytes| i32::try_from(bytes.len()).expect("short"));
    let (other, denied) = (rule + plain + head, rule + 2 * plain + 2 * head);
    for (to, chain, expected) in [
        (denied, "denied", vec!["rule 1 of iptables-legacy filter denied"]),
        (other, "other", vec![]),
    ] {
        let rules = Table::new(&[tcp(&[], &verdict(to))], ACCEPT, &chains).rules();
        let jump = Effect::Verdict(Verdict::Jump(chain.to_owned()));
        assert_eq!(rules.chains[0].rules[0].effects, [jump]);
        let found: Vec<String> =
            places(&rules, 443, "eth0").into_iter().map(|(place, _)| place).collect();
        assert_eq!(found, expected, "{rules:#?}");
    }
    // To the next entry: a rule without a target.
    let rules = Table::new(&[tcp(&[], &verdict(rule))], ACCEPT, &chains).rules();
    assert_eq!(rules.chains[0].rules[0].effects, [Effect::Harmless]);
    // Into the middle of an entry.
    let rules = Table::new(&[tcp(&[], &verdict(1))], ACCEPT, &chains).rules();
    assert_eq!(places(&rules, 443, "eth0"), []);
}

/// Every truncation, and every byte at other values: nothing panics, and nothing goes on for ever.
#[test]
fn tables_that_make_no_sense_are_survived() {
    let input = [
        tcp(&[syn(true), state(NEW)], &verdict(DROP)),
        tcp(&[], &verdict(1_000)),
        tcp(&[syn(false)], &extension("REJECT", 0, &[0; 8])),
    ];
    let built = Table::new(&input, DROP, &[("denied", &input[..1])]);
    let mut tables = vec![(Family::IPV4, built.info, built.bytes)];
    for line in LEGACY.lines().skip(1) {
        let words: Vec<&str> = line.split(' ').collect();
        let family = if words[0] == "ip6" { Family::IPV6 } else { Family::IPV4 };
        let info = netfilter::legacy::info(&unhex(words[2])).expect("a whole answer");
        tables.push((family, info, unhex(words[3])));
    }
    for (family, info, whole) in tables {
        for place in 0..whole.len() {
            let mut odd = vec![whole[..place].to_vec()];
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[place] = value;
                odd.push(changed);
            }
            for bytes in odd {
                let chains = netfilter::legacy::chains(family, "filter", &info, &bytes);
                asked(&RuleSet { chains, ..RuleSet::default() }, 443, "eth0");
            }
        }
        // Hooks anywhere, and entries for another IP version.
        for first in [1, 0x7fff_ffff, u32::MAX] {
            let hooks = [Some(first), Some(0), Some(0), None, Some(first)];
            for family in [Family::IPV4, Family::IPV6] {
                netfilter::legacy::chains(family, "filter", &Info { hooks, ..info }, &whole);
            }
        }
    }
    for len in 0..84 {
        assert_eq!(netfilter::legacy::info(&vec![0xff; len]), None, "{len} bytes");
    }
}
