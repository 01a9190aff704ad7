//! Rules that would cut the host off from addresses that it needs. They stay until an operator has to confirm them.

use std::net::IpAddr;
use std::time::Duration;

use tcpguard_engine::{
    ClientsWithin, Engine, Force, ImportReport, Matcher, Mode, Ports, Request, RequestError,
    Response, Rule, RuleReport, RuleToImport, Settings, Severity, Which, Whose,
};

use crate::operator::{lab, net};
use crate::sim::*;

const HOUR: u64 = 3600;

fn pending_confirmation() -> Force {
    Force::PendingConfirmation { within: Duration::from_secs(60), caller: None }
}

fn rule(prefix: &str, ports: &[u16], seconds: u64) -> RuleToImport {
    RuleToImport {
        net: net(prefix),
        ports: Ports::new(ports).expect("up to four"),
        lifetime: Some(Duration::from_secs(seconds)),
        reason: Some("abuse report".to_owned()),
    }
}

fn block(lab: &mut Lab, rule: RuleToImport, force: Force) -> RuleReport {
    let RuleToImport { net, ports, lifetime, reason } = rule;
    let (lifetime, reason) = (lifetime.expect("a time"), reason.expect("a reason"));
    let clients = ClientsWithin::default();
    match lab.request(Request::Block { net, ports, lifetime, reason, force, clients }) {
        Ok(Response::Blocked { rule, .. }) => rule,
        other => panic!("{other:?}"),
    }
}

fn confirm(lab: &mut Lab, prefix: Option<&str>) -> Result<Vec<RuleReport>, RequestError> {
    let request = Request::ConfirmRules { net: prefix.map(net) };
    lab.request(request).map(|response| match response {
        Response::Confirmed(rules) => rules,
        other => panic!("{other:?}"),
    })
}

fn import(lab: &mut Lab, rules: Vec<RuleToImport>, force: Force) -> ImportReport {
    match lab.request(Request::ImportRules { rules, merge: false, force }) {
        Ok(Response::Imported(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// The rules of the kernel: prefix, ports, whether forced, and the end in seconds.
fn kernel(lab: &Lab) -> Vec<(String, bool, f64)> {
    let rules = lab.kernel.rules().map(|rule: &Rule| {
        let subject = match &rule.matcher {
            Matcher::Source(net, ports) => format!("{net}{ports}"),
            Matcher::Signature { .. } => panic!("{rule:?}"),
        };
        (subject, rule.forced, seconds(rule.expires))
    });
    rules.collect()
}

fn is(subject: &str, forced: bool, end: f64) -> Vec<(String, bool, f64)> {
    vec![(subject.to_owned(), forced, end)]
}

#[test]
fn without_a_word_it_ends_in_the_kernel_and_with_one_it_lasts() {
    let mut lab = lab();
    let made = block(&mut lab, rule("10.0.0.0/8", &[], HOUR), pending_confirmation());
    assert_eq!((seconds(made.expires_at), made.confirmed_until.map(seconds)), (70.0, Some(3610.0)));
    assert_eq!(kernel(&lab), is("10.0.0.0/8", false, 70.0), "whatever becomes of the agent");
    lab.run_until(69.9);
    assert_eq!(lab.report().rules.len(), 1);
    lab.run_until(70.3);
    assert_eq!(kernel(&lab), []);
    let alert = lab
        .alerts
        .iter()
        .find(|alert| alert.event.name() == "rule_reverted")
        .expect("it is alerted");
    assert_eq!(alert.event.severity(), Severity::Warning);
    assert_eq!(alert.event.prefix(), Some(net("10.0.0.0/8")), "{alert:?}");
    assert_eq!(confirm(&mut lab, None), Err(RequestError::NotPending { net: None }), "too late");

    block(&mut lab, rule("10.0.0.0/8", &[], HOUR), pending_confirmation());
    lab.run_until(100.0);
    let elsewhere = Some(net("192.0.2.0/24"));
    assert_eq!(
        confirm(&mut lab, Some("192.0.2.0/24")),
        Err(RequestError::NotPending { net: elsewhere })
    );
    let stays = confirm(&mut lab, Some("10.0.0.0/8")).expect("in time");
    assert_eq!((stays[0].expires_at, stays[0].confirmed_until), (at(70.3 + 3600.0), None));
    lab.run_until(200.0);
    assert_eq!(kernel(&lab), is("10.0.0.0/8", false, 3670.3));
    assert_eq!(lab.times("rule_confirmed").len(), 1);
}

/// Only a rule that is possible with force alone is pending confirmation, and only if it lasts longer than the time to
/// confirm it.
#[test]
fn a_rule_that_cuts_off_no_client_stays_as_requested() {
    let mut lab = lab();
    let caller = Some(IpAddr::from([192, 0, 2, 7]));
    let force = Force::PendingConfirmation { within: Duration::from_secs(60), caller };
    for (prefix, lasts, force, waits) in [
        ("198.51.100.0/24", HOUR, force, false),
        ("192.0.2.0/24", HOUR, force, true),
        ("192.0.2.0/24", HOUR, pending_confirmation(), false),
        ("203.0.113.7/32", HOUR, force, true),
        ("203.0.113.7/32", HOUR, Force::ForGood, false),
        ("203.0.113.7/32", 60, force, false),
        ("2001:db8::/31", HOUR, force, true),
    ] {
        let made = block(&mut lab, rule(prefix, &[], lasts), force);
        assert_eq!(made.confirmed_until.is_some(), waits, "{prefix} {lasts} {force:?}");
    }
}

#[test]
fn the_replaced_rule_is_restored_under_the_same_terms() {
    for (before, tried) in [(&[80, 25][..], &[][..]), (&[], &[80]), (&[443], &[443])] {
        let mut lab = lab();
        let wide = "10.0.0.0/8";
        block(&mut lab, rule(wide, before, 300), Force::ForGood);
        let subject = kernel(&lab)[0].0.clone();
        block(&mut lab, rule(wide, tried, HOUR), pending_confirmation());
        assert_eq!(kernel(&lab).len(), 1, "one word of operators a prefix");
        lab.run_until(40.0);
        // A second trial does not make the first one last.
        block(&mut lab, rule(wide, &[8080], HOUR), pending_confirmation());
        lab.run_until(100.3);
        assert_eq!(kernel(&lab), is(&subject, false, 310.0), "{before:?} {tried:?}");
        lab.run_until(310.3);
        assert_eq!(kernel(&lab), []);
    }
}

/// A rule has ended by itself, or an operator has decided otherwise.
#[test]
fn an_expired_or_removed_rule_is_not_restored() {
    let mut lab = lab();
    block(&mut lab, rule("10.0.0.0/8", &[80], 30), Force::ForGood);
    block(&mut lab, rule("10.0.0.0/8", &[], HOUR), pending_confirmation());
    lab.run_until(71.0);
    assert_eq!(kernel(&lab), []);

    block(&mut lab, rule("10.0.0.0/8", &[80], HOUR), Force::ForGood);
    block(&mut lab, rule("10.0.0.0/8", &[], HOUR), pending_confirmation());
    lab.request(Request::Unblock { which: Which::Within(net("10.0.0.0/8")), whose: Whose::All })
        .expect("taken back");
    lab.run_until(140.0);
    assert_eq!(kernel(&lab), []);
    assert_eq!(lab.times("rule_reverted").len(), 1);
}

#[test]
fn one_word_confirms_what_is_risky_of_an_import() {
    for confirmed in [false, true] {
        let mut lab = lab();
        block(&mut lab, rule("10.0.0.0/8", &[25], 7200), Force::ForGood);
        let rules = || {
            let prefixes = ["192.0.2.0/24", "10.0.0.0/8", "203.0.113.7/32"];
            prefixes.map(|prefix| rule(prefix, &[], HOUR)).to_vec()
        };
        let imported = import(&mut lab, rules(), pending_confirmation());
        assert_eq!((imported.added, imported.removed, imported.pending_confirmation), (3, 1, 2));
        if confirmed {
            assert_eq!(confirm(&mut lab, None).expect("in time").len(), 2);
        }
        lab.run_until(100.0);
        let left: Vec<(String, bool, f64)> = kernel(&lab);
        let of = |prefix: &str| left.iter().find(|rule| rule.0.starts_with(prefix)).cloned();
        assert_eq!(of("192.0.2.0/24").map(|rule| rule.2), Some(3610.0), "no risk");
        let (wide, own) = match confirmed {
            true => ("10.0.0.0/8", Some(("203.0.113.7/32".to_owned(), true, 3610.0))),
            false => ("10.0.0.0/8 to port 25", None),
        };
        assert_eq!(of("10.0.0.0/8").map(|rule| rule.0).as_deref(), Some(wide));
        assert_eq!(of("203.0.113.7/32"), own);
    }
}

/// The time ran out while no agent was running. The kernel has ended the rule, and the next agent restores the rule
/// that it had replaced.
#[test]
fn the_next_agent_brings_back_what_was_replaced() {
    let mut lab = lab();
    block(&mut lab, rule("10.0.0.0/8", &[80], HOUR), Force::ForGood);
    block(&mut lab, rule("10.0.0.0/8", &[], HOUR), pending_confirmation());
    let on_disk: Vec<Rule> = lab.engine.rules(at(10.0)).cloned().collect();
    let mut next = Engine::new(Settings::default(), Mode::Enforce).expect("settings");
    next.adopt(at(80.0), Vec::new());
    next.revert(at(80.0), on_disk);
    let rules: Vec<String> =
        next.report(at(80.0)).rules.iter().map(|rule| rule.matches.clone()).collect();
    assert_eq!(rules, ["10.0.0.0/8"]);
    assert_eq!(next.report(at(80.0)).rules[0].expires_at, at(3610.0));
}
