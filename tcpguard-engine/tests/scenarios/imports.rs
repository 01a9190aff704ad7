//! Rules replaced as a whole.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tcpguard_engine::{
    Force, ImportReport, Mode, Ports, Request, RequestError, Response, RuleReason, RuleReport,
    RuleToImport, Settings, Which, Whose,
};

use crate::sim::*;
use crate::{alike, at_its_end};

fn rule(prefix: &str, seconds: u64) -> RuleToImport {
    RuleToImport {
        net: prefix.parse().expect("prefix"),
        ports: Ports::EVERY,
        lifetime: Some(Duration::from_secs(seconds)),
        reason: Some("a list".to_owned()),
    }
}

fn to_ports(prefix: &str, ports: &[u16]) -> RuleToImport {
    RuleToImport { ports: Ports::new(ports).expect("up to four"), ..rule(prefix, 600) }
}

fn import(
    lab: &mut Lab,
    rules: Vec<RuleToImport>,
    merge: bool,
    force: bool,
) -> Result<ImportReport, RequestError> {
    let force = if force { Force::ForGood } else { Force::No };
    let request = Request::ImportRules { rules, merge, force };
    lab.request(request).map(|response| match response {
        Response::Imported(report) => report,
        other => panic!("{other:?}"),
    })
}

fn report(added: u32, kept: u32, removed: u32, total: u32) -> ImportReport {
    ImportReport { added, kept, removed, total, pending_confirmation: 0 }
}

/// Rules with their matchers, in the order of their numbers.
fn found(lab: &Lab) -> Vec<(u32, String, String)> {
    let plain = |rule: RuleReport| (rule.id.0, rule.matches, rule.origin.to_string());
    let rules: Vec<_> = lab.report().rules.into_iter().map(plain).collect();
    assert_eq!(rules.len(), lab.kernel.rules().count(), "the kernel has the same");
    rules
}

fn lab() -> Lab {
    Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .protect("203.0.113.0/24", "own address")
}

fn is(id: u32, matches: &str, origin: &str) -> (u32, String, String) {
    (id, matches.to_owned(), origin.to_owned())
}

#[test]
fn an_import_replaces_operators_rules_and_no_automatic_one() {
    let mut lab = lab().flood(Flood::random(5000.0, 10.1..60.1));
    lab.run_until(15.0);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    let own = found(&lab)[0].clone();
    let first = vec![rule("192.0.2.0/24", 600), rule("198.51.100.7/32", 600)];
    assert_eq!(import(&mut lab, first, false, false), Ok(report(2, 0, 0, 3)));
    lab.run_until(16.0);
    let second = vec![rule("198.51.100.7/32", 60), rule("2001:db8::/32", 600)];
    assert_eq!(import(&mut lab, second.clone(), false, false), Ok(report(1, 1, 1, 3)));
    let expected = [
        own.clone(),
        // Its number, and so its hits.
        is(2, "198.51.100.7/32", "operator"),
        // A number that no rule of the set before had.
        is(3, "2001:db8::/32", "operator"),
    ];
    assert_eq!(found(&lab), expected);
    let kept = lab.report().rules[1].clone();
    assert!(kept.created_at < lab.kernel.now, "it is the same rule");
    assert_eq!(kept.expires_at, lab.kernel.now + Duration::from_secs(60), "with another end");
    assert_eq!(lab.times("rules_imported").len(), 2);
    assert_eq!(import(&mut lab, second, false, false), Ok(report(0, 2, 0, 3)), "again");

    let more = vec![rule("192.0.2.0/24", 5)];
    assert_eq!(import(&mut lab, more, true, false), Ok(report(1, 0, 0, 4)), "merged");
    lab.run_until(22.0);
    assert_eq!(found(&lab).len(), 3, "each has its own end");
    lab.run_until(59.0);
    assert!(lab.connected(20.0, 58.0) > 0.99, "the automatic rule acts all the while");
}

#[test]
fn imported_ports_take_the_place_of_other_ports_of_the_prefix() {
    let mut lab = lab();
    lab.run_until(1.0);
    let ports = |lab: &Lab| -> Vec<(String, Vec<u16>)> {
        let rules = lab.report().rules.into_iter();
        rules.map(|rule| (rule.matches, rule.ports.certain().to_vec())).collect()
    };
    let (web, all) = ("192.0.2.0/24".to_owned(), "198.51.100.0/24".to_owned());
    let set = || vec![to_ports(&web, &[443]), rule(&all, 600)];
    assert_eq!(import(&mut lab, set(), false, false), Ok(report(2, 0, 0, 2)));
    assert_eq!(import(&mut lab, set(), false, false), Ok(report(0, 2, 0, 2)));
    for merge in [true, false] {
        import(&mut lab, set(), false, false).expect("imported");
        let other = vec![to_ports(&web, &[80, 22])];
        let left = if merge { 2 } else { 1 };
        assert_eq!(import(&mut lab, other, merge, false), Ok(report(1, 0, 3 - left, left)));
        assert!(ports(&lab).contains(&(web.clone(), vec![22, 80])), "{:?}", ports(&lab));
        assert_eq!(found(&lab).len(), left as usize);
    }
    let net = web.parse().expect("a prefix");
    let refused = vec![(1, RequestError::Twice { net, first: 0 })];
    let twice = vec![to_ports(&web, &[80]), to_ports(&web, &[443])];
    assert_eq!(import(&mut lab, twice, true, false), Err(RequestError::Import { refused }));
}

#[test]
fn an_import_over_an_automatic_rule_makes_it_the_operators() {
    let attacker = Sources::One([198, 51, 100, 7].into());
    let mut lab = at_its_end().flood(alike(2000.0, 10.1, 30.1, attacker));
    lab.run_until(15.0);
    assert_eq!(found(&lab), [is(0, "198.51.100.7/32", "incident")], "{}", lab.story());
    let rules = vec![rule("198.51.100.7/32", 600)];
    assert_eq!(import(&mut lab, rules, false, false), Ok(report(0, 1, 0, 1)));
    assert_eq!(found(&lab), [is(0, "198.51.100.7/32", "operator")]);
    lab.run_until(29.0);
    let hits = lab.report().rules[0].hits;
    assert_eq!(hits, lab.listener_report(0).counters.dropped_source, "the count goes on");
    lab.run_until(100.0);
    assert_eq!(found(&lab).len(), 1, "it outlives the attack");
}

#[test]
fn one_bad_rule_keeps_all_out_and_every_bad_one_is_named() {
    let mut lab = lab();
    lab.run_until(1.0);
    let net = |text: &str| text.parse::<IpNet>().expect("prefix");
    import(&mut lab, vec![rule("192.0.2.1/32", 600)], false, false).expect("imported");
    let rules = ["192.0.2.0/24", "203.0.113.9/32", "10.0.0.0/8", "198.51.100.0/24", "192.0.2.0/24"];
    let rules: Vec<_> = rules.iter().map(|prefix| rule(prefix, 60)).collect();
    let protected = RequestError::Protected {
        net: net("203.0.113.9/32"),
        covers: net("203.0.113.0/24"),
        what: "own address".to_owned(),
    };
    let twice = RequestError::Twice { net: net("192.0.2.0/24"), first: 0 };
    let wide = RequestError::TooWide { net: net("10.0.0.0/8"), shortest: 16 };
    let refused = vec![(1, protected), (2, wide), (4, twice.clone())];
    assert_eq!(
        import(&mut lab, rules.clone(), false, false),
        Err(RequestError::Import { refused })
    );
    assert_eq!(found(&lab), [is(0, "192.0.2.1/32", "operator")]);
    let refused = vec![(4, twice)];
    assert_eq!(
        import(&mut lab, rules[..].to_vec(), false, true),
        Err(RequestError::Import { refused })
    );
    assert_eq!(
        import(&mut lab, rules[..4].to_vec(), false, true),
        Ok(report(4, 0, 1, 4)),
        "forced"
    );
}

#[test]
fn a_rule_that_is_there_already_keeps_its_reason_and_a_later_end_where_nothing_else_is_said() {
    let mut lab = lab();
    lab.run_until(1.0);
    let six_hours =
        RuleToImport { reason: Some("today's list".to_owned()), ..rule("192.0.2.0/24", 6 * 3600) };
    let short = rule("198.51.100.0/24", 60);
    import(&mut lab, vec![six_hours, short], true, false).expect("imported");
    let before: Vec<RuleReport> = lab.report().rules;
    lab.run_until(2.0);
    let bare = |prefix| RuleToImport { lifetime: None, reason: None, ..rule(prefix, 0) };
    let all = ["192.0.2.0/24", "198.51.100.0/24", "203.0.114.0/24"].map(bare);
    import(&mut lab, all.to_vec(), true, false).expect("imported");
    let rules = lab.report().rules;
    assert_eq!((&rules[0].reason, rules[0].expires_at), (&before[0].reason, before[0].expires_at));
    assert_eq!(rules[1].reason, before[1].reason);
    let hour = Duration::from_secs(3600);
    assert_eq!(
        rules[1].expires_at.since(lab.kernel.now),
        hour,
        "a list that is imported again goes on"
    );
    assert_eq!(
        (&rules[2].reason, rules[2].expires_at.since(lab.kernel.now)),
        (&RuleReason::Imported, hour)
    );
    import(&mut lab, vec![rule("192.0.2.0/24", 60)], true, false).expect("imported");
    let given = RuleReason::Given { text: "a list".to_owned() };
    assert_eq!(lab.report().rules[0].reason, given, "what is said holds");
}

#[test]
fn a_set_that_the_kernel_does_not_take_changes_nothing() {
    let mut lab = lab();
    lab.run_until(1.0);
    import(&mut lab, vec![rule("192.0.2.0/24", 600)], false, false).expect("imported");
    let before = found(&lab);
    lab.refuse_rules = true;
    import(&mut lab, vec![rule("198.51.100.0/24", 600)], false, false).expect("accepted");
    lab.request(Request::Unblock { which: Which::All, whose: Whose::All }).expect("accepted");
    lab.refuse_rules = false;
    assert_eq!(found(&lab), before);
    assert_eq!(lab.times("rule_failed").len(), 2);
    assert_eq!(lab.times("rules_imported").len(), 1, "no alert of a change that was not made");
    assert_eq!(lab.times("rule_removed").len(), 0);
    lab.run_until(2.0);
    assert_eq!(found(&lab), before);
}

#[test]
fn as_many_rules_as_there_can_be_are_replaced_by_as_many_others() {
    let mut lab = lab();
    lab.run_until(1.0);
    let set = |first: u32, count: u32| -> Vec<RuleToImport> {
        let net = |n| Ipv4Net::from(Ipv4Addr::from_bits(0x6440_0000 + n));
        let rule = |n| RuleToImport { net: net(n).into(), ..rule("::/128", 600) };
        (first..first + count).map(rule).collect()
    };
    let full = Settings::default().rules;
    assert_eq!(import(&mut lab, set(0, full), false, false), Ok(report(full, 0, 0, full)));
    for first in [full, 0] {
        assert_eq!(
            import(&mut lab, set(first, full), false, false),
            Ok(report(full, 0, full, full))
        );
    }
    let too_many = RequestError::Full { limit: full };
    assert_eq!(import(&mut lab, set(0, full + 1), false, false), Err(too_many.clone()));
    assert_eq!(import(&mut lab, set(full, 1), true, false), Err(too_many));
    assert_eq!(found(&lab).len(), full as usize);
    let Ok(Response::Unblocked(removed)) =
        lab.request(Request::Unblock { which: Which::All, whose: Whose::All })
    else {
        panic!("unblocked");
    };
    assert_eq!((removed.len(), found(&lab).len()), (full as usize, 0));
    assert_eq!(lab.times("rule_removed").len(), 1, "alerted once");
}
