//! Rule sets as the kernel listed them, for tests.

use super::RuleSet;
use crate::linux::netfilter::{self, Family};

/// Denials that depend on the SYN.
pub const NEW_NOT_SYN: &str = include_str!("recorded/new-not-syn");
/// The rule set that firewalld 1.3.3 of Debian 12 loads by default, with port 443 in its public zone.
pub const FIREWALLD: &str = include_str!("recorded/firewalld");
/// The rule sets of dockerd with a published port, and of kube-proxy with a service and a node port, for both IP
/// versions, as iptables-nft loads them.
pub const DOCKER: &str = include_str!("recorded/docker");
pub const KUBE_PROXY: &str = include_str!("recorded/kube-proxy");
/// The rule set that ufw 0.36.2 of Debian 12 loads, with ports 22 and 443 allowed.
pub const UFW: &str = include_str!("recorded/ufw");
/// A rule set that sets and tests marks.
pub const MARKED: &str = include_str!("recorded/marked");
pub(super) const LEGACY: &str = include_str!("recorded/legacy");

/// The rule set in `text`, recorded after `nft` or `iptables-nft` loaded it.
pub fn recorded(text: &str) -> RuleSet {
    let mut found = RuleSet { complete: true, ..RuleSet::default() };
    let (mut chains, mut rules) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = unhex(words[words.len() - 1]);
        match words[0] {
            "chain" => chains.extend(netfilter::chain(&bytes)),
            "rule" => rules.extend(netfilter::rule(&bytes)),
            _ => {
                let name = words[1].rsplit(':').next().unwrap_or_default().to_owned();
                let table = words[1].split(':').nth(1).unwrap_or_default().to_owned();
                let set = found.sets.entry((Family::INET, table, name)).or_default();
                set.extend(netfilter::elements(&bytes));
            }
        }
    }
    found.chains = netfilter::assembled(chains, rules);
    found
}

/// The kernel's listing of the tables with the rules in tests/iptables_legacy.rs.
pub fn legacy() -> RuleSet {
    let mut found = RuleSet { complete: true, ..RuleSet::default() };
    for line in LEGACY.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [family, table, info, entries] = words[..] else { panic!("four words a line") };
        let family = if family == "ip6" { Family::IPV6 } else { Family::IPV4 };
        let info = netfilter::legacy::info(&unhex(info)).expect("a whole answer");
        found.chains.extend(netfilter::legacy::chains(family, table, &info, &unhex(entries)));
    }
    found
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("recorded in hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}
