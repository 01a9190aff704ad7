//! Packet filters that SYN cookies suit, and that they do not.

use tcpguard_engine::Family;
use tcpguard_host::firewall::recorded::{FIREWALLD, MARKED, NEW_NOT_SYN, UFW, legacy, recorded};
use tcpguard_host::linux::netfilter::{Effect, Target};
use tcpguard_host::obstacle::{self, Obstacle};

use super::*;
use crate::documents::{BackendInUse, CookiesOfFamily};

fn with(rules: &str, change: impl FnOnce(&mut FirewallFacts)) -> Vec<Checked> {
    let mut facts = healthy();
    facts.of_host.firewall.rules = Ok(recorded(rules));
    change(&mut facts.of_host.firewall);
    found(&facts, "firewall_rules")
}

#[test]
fn a_rule_that_shuts_clients_out_is_named_with_the_rules_to_insert() {
    let found = with(NEW_NOT_SYN, |_| {});
    let [found] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(outcome(found), WARNING);
    assert!(found.finding.text.contains("rule with handle 3 of inet filter input"), "{found:#?}");
    let expected =
        "on port 443. The rules of the remedy accept. Put rules that deny sources above them";
    assert!(found.finding.text.ends_with(expected), "{found:#?}");
    let fix = found.finding.hint.as_deref().unwrap_or_default();
    assert!(fix.contains("mark = 0x10000000 under [cookies]"), "{fix}");
    let found = with(NEW_NOT_SYN, |firewall| firewall.mark = 0x100);
    let fix = found[0].finding.hint.as_deref().unwrap_or_default();
    assert!(fix.starts_with("nft insert rule inet filter input position 3 meta mark"), "{fix}");
    assert!(is_command(fix));
    let found = with(NEW_NOT_SYN, |firewall| firewall.choice = FirewallChoice::Allow);
    assert_eq!(outcome(&found[0]), NOTICE);
}

#[test]
fn a_rule_of_iptables_legacy_is_named_with_commands_of_iptables_legacy() {
    let found = with(UFW, |firewall| {
        (firewall.rules, firewall.mark) = (Ok(legacy()), 0x100);
    });
    let [found] = &found[..] else { panic!("{found:#?}") };
    assert!(found.finding.text.starts_with("rule 4 of iptables-legacy filter INPUT"), "{found:#?}");
    let fix = found.finding.hint.as_deref().unwrap_or_default();
    assert!(fix.starts_with("iptables-legacy -I INPUT 4 -m mark --mark 0x100/0x100"), "{fix}");
    assert!(is_command(fix), "{fix}");
}

#[test]
fn a_service_that_cannot_read_tables_of_iptables_legacy_is_found() {
    for (families, rules, is_found) in [
        ("AF_NETLINK AF_UNIX", legacy(), true),
        ("AF_INET AF_INET6 AF_NETLINK AF_UNIX", legacy(), false),
        ("AF_NETLINK AF_UNIX", recorded(UFW), false),
    ] {
        let mut facts = healthy();
        facts.of_host.firewall.rules = Ok(rules);
        facts.of_host.service.unit = unit(&[("RestrictAddressFamilies", families)]);
        let findings = examine(&facts, false, now()).findings;
        let fix = "[Service] RestrictAddressFamilies=AF_INET AF_INET6";
        let names_it = |one: &Finding| one.hint.as_deref().is_some_and(|it| it.ends_with(fix));
        assert_eq!(findings.iter().any(names_it), is_found, "{families}: {findings:#?}");
    }
}

#[test]
fn a_strict_conntrack_is_reported_with_its_sysctl() {
    let found = with(UFW, |firewall| {
        firewall.rules = Ok(RuleSet { strict: true, ..recorded(UFW) });
    });
    let fix = "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1";
    assert!(found.iter().any(|one| one.finding.hint.as_deref() == Some(fix)), "{found:#?}");
}

#[test]
fn nat_is_said_with_the_back_end_that_makes_the_cookies() {
    let mut facts = healthy();
    facts.of_host.firewall.rules = Ok(recorded(FIREWALLD));
    let of_nat = found(&facts, "nat");
    let [one] = &of_nat[..] else { panic!("{of_nat:#?}") };
    assert_eq!(outcome(one), NOTICE);
    let text = &one.finding.text;
    assert!(text.contains("the kernel's NAT of IPv4 (chain nat_"), "{text}");
    assert!(text.contains("the kernel's helper makes them"), "{text}");
    let cookies = found(&facts, "cookies");
    let text = &cookies[0].finding.text;
    assert!(text.contains("own cookies work (native); not beside NAT: the kernel's"), "{text}");
}

#[test]
fn each_family_is_named_with_its_back_end_where_nat_makes_them_differ() {
    let mut facts = healthy();
    let Agent::Running(status) = &mut facts.agent else { panic!("an agent") };
    let of = |family, backend, reason: Option<&str>| CookiesOfFamily {
        family,
        backend,
        reason: reason.map(str::to_owned),
    };
    status.cookies.backend = BackendInUse::KernelHelper;
    status.cookies.by_family = vec![
        of(Family::Ipv4, BackendInUse::Own, None),
        of(Family::Ipv6, BackendInUse::KernelHelper, Some("NAT")),
    ];
    let texts = |facts| found(facts, "cookies").into_iter().map(|one| one.finding.text);
    let expected = "SYN cookies by the kernel, on request of XDP; at IPv4 listeners by XDP";
    assert!(texts(&facts).any(|text| text == expected), "{:?}", texts(&facts).collect::<Vec<_>>());
}

#[test]
fn a_listener_with_mptcp_is_found_and_said_once_beside_the_agent() {
    let mut facts = healthy();
    facts.of_host.listeners =
        Ok(obstacle::findings([("0.0.0.0:443", Obstacle::Mptcp { no_helper: None })]));
    let alone = found(&facts, "mptcp");
    let [one] = &alone[..] else { panic!("{alone:#?}") };
    assert_eq!(outcome(one), NOTICE);
    assert_eq!(one.finding.subject.as_deref(), Some("0.0.0.0:443"));
    let remedy = one.finding.hint.as_deref().unwrap_or_default();
    assert!(remedy.contains("GODEBUG=multipathtcp=0"), "{remedy}");
    let Agent::Running(status) = &mut facts.agent else { panic!("an agent") };
    status.health = vec![one.finding.clone().about(":443")];
    assert_eq!(found(&facts, "mptcp").len(), 1);
}

/// The socket may have clients of its own port, which get cookies.
#[test]
fn a_rule_that_translates_a_port_takes_cookies_from_that_port_alone() {
    let mut facts = healthy();
    let mut rules = recorded(UFW);
    let target = Target { addr: None, port: Some(443) };
    let effect = Effect::Translates("redirect".to_owned(), Some(target));
    rules.chains[0].rules[0].effects.push(effect);
    facts.of_host.firewall.rules = Ok(rules);
    let found = found(&facts, "redirected");
    let [one] = &found[..] else { panic!("{found:#?}") };
    let text = &one.finding.text;
    assert!(text.starts_with("no SYN cookies at the port that rule with handle"), "{text}");
    assert!(text.ends_with(" translates to 0.0.0.0:443"), "{text}");
}

#[test]
fn filters_that_suit_cookies_pass_and_unknown_ones_are_said() {
    for (rules, mark) in [(UFW, 0), (MARKED, 0x100)] {
        let found = with(rules, |firewall| firewall.mark = mark);
        assert_eq!(outcome(&found[0]), PASSED, "{found:#?}");
    }
    let found = with(UFW, |firewall| {
        firewall.rules = Ok(RuleSet { legacy: vec!["ip filter".to_owned()], ..recorded(UFW) });
    });
    assert_eq!(outcome(&found[0]), NOTICE);
    let found = with(UFW, |firewall| firewall.rules = Err("permission denied".to_owned()));
    assert_eq!(outcome(&found[0]), UNKNOWN);
}
