//! Requests of operators.

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{
    ClientsWithin, Command, Event, Force, HeldBack, Limits, ListenerState, Matcher, Mitigation,
    Mode, Order, Origin, Ports, RemovalReason, Request, RequestError, Response, Rule, RuleId,
    RuleOrigin, RuleReason, RuleReport, Which, Whose,
};

use crate::sim::*;
use crate::{alike, at_its_end};

pub fn net(text: &str) -> IpNet {
    text.parse().expect("prefix")
}

fn block(
    lab: &mut Lab,
    prefix: &str,
    seconds: u64,
    force: bool,
) -> Result<RuleReport, RequestError> {
    block_ports(lab, prefix, &[], seconds, force)
}

fn block_ports(
    lab: &mut Lab,
    prefix: &str,
    ports: &[u16],
    seconds: u64,
    force: bool,
) -> Result<RuleReport, RequestError> {
    let request = Request::Block {
        net: net(prefix),
        ports: Ports::new(ports).expect("up to four"),
        lifetime: Duration::from_secs(seconds),
        reason: "abuse report".to_owned(),
        force: if force { Force::ForGood } else { Force::No },
        clients: ClientsWithin::default(),
    };
    lab.request(request).map(|response| match response {
        Response::Blocked { rule, .. } => rule,
        other => panic!("{other:?}"),
    })
}

/// A host with a protected network, after ten seconds of calm.
pub fn lab() -> Lab {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .protect("203.0.113.0/24", "own address");
    lab.run_until(10.0);
    lab
}

#[test]
fn a_block_lives_as_long_as_asked_and_no_longer() {
    let mut lab = lab();
    let rule = block(&mut lab, "192.0.2.77/24", 20, false).expect("blocked");
    assert_eq!((rule.kind, rule.matches.as_str()), (Mitigation::Source, "192.0.2.0/24"));
    assert_eq!((rule.origin, rule.incident), (RuleOrigin::Operator, None));
    assert_eq!(rule.reason, RuleReason::Given { text: "abuse report".to_owned() });
    lab.run_until(29.9);
    assert_eq!(lab.report().rules.len(), 1);
    lab.run_until(30.3);
    assert_eq!(lab.kernel.rules().count(), 0);
    assert_eq!(lab.removed[0].2, RemovalReason::Expired);

    let rule = block(&mut lab, "192.0.2.0/24", 7 * 24 * 3600, false).expect("blocked");
    assert_eq!(rule.expires_at.since(rule.created_at), Limits::MAX_MANUAL_RULE);
}

/// A block is forced only over a prefix that is protected at that time, and only on request. It is
/// not forced over a prefix that becomes protected later.
#[test]
fn a_block_is_forced_by_the_word_that_made_it() {
    let forced = |lab: &Lab, prefix: &str| {
        let matcher = Matcher::Source(net(prefix), Ports::EVERY);
        lab.kernel.rules().find(|rule| rule.matcher == matcher).expect(prefix).forced
    };
    let mut lab = lab();
    block(&mut lab, "203.0.113.7/32", 600, true).expect("forced");
    block(&mut lab, "192.0.2.0/24", 600, false).expect("harmless");
    block(&mut lab, "198.51.100.0/24", 600, true).expect("harmless, too");
    assert!(forced(&lab, "203.0.113.7/32"));
    assert!(!forced(&lab, "192.0.2.0/24") && !forced(&lab, "198.51.100.0/24"));
    let mut lab = lab.protect("192.0.2.0/24", "SSH client");
    assert!(!forced(&lab, "192.0.2.0/24"), "nobody asked");
    block(&mut lab, "192.0.2.0/24", 600, true).expect("forced");
    assert!(forced(&lab, "192.0.2.0/24"), "the kernel learns it");
}

#[test]
fn blocking_again_changes_the_rule_without_a_gap() {
    let mut lab = lab();
    let first = block(&mut lab, "192.0.2.0/24", 20, false).expect("blocked");
    let again = block(&mut lab, "192.0.2.0/24", 100, false).expect("blocked");
    assert_eq!(first.id, again.id);
    assert_eq!((lab.installed.len(), lab.removed.len()), (1, 0));
    lab.run_until(100.0);
    assert_eq!(lab.kernel.rules().count(), 1);
}

/// The kernel's source rules: sources, ports and whether an operator made them.
fn in_kernel(lab: &Lab) -> Vec<(String, Vec<u16>, bool)> {
    let plain = |rule: &Rule| match rule.matcher {
        Matcher::Source(net, ports) => {
            let by_operator = matches!(rule.origin, Origin::Operator { .. });
            Some((net.to_string(), ports.certain().to_vec(), by_operator))
        }
        Matcher::Signature { .. } => None,
    };
    lab.kernel.rules().filter_map(plain).collect()
}

#[test]
fn other_ports_take_the_place_of_those_before_and_the_new_rule_is_there_first() {
    let mut lab = lab();
    let first = block_ports(&mut lab, "192.0.2.0/24", &[443], 600, false).expect("blocked");
    assert_eq!((first.matches.as_str(), first.ports.certain()), ("192.0.2.0/24", &[443][..]));
    let again = block_ports(&mut lab, "192.0.2.0/24", &[443], 700, false).expect("blocked");
    assert_eq!((again.id, lab.removed.len()), (first.id, 0), "the same rule, with another end");

    let asked = Request::Block {
        net: net("192.0.2.0/24"),
        ports: Ports::new(&[80, 8080]).expect("two"),
        lifetime: Duration::from_secs(600),
        reason: "abuse report".to_owned(),
        force: Force::No,
        clients: ClientsWithin::default(),
    };
    let Ok(Response::Blocked { rule: other, replaces, .. }) = lab.request(asked) else {
        panic!("blocked");
    };
    assert_eq!(replaces.map(|rule| rule.id), Some(first.id), "the operator hears of it");
    assert_ne!(other.id, first.id, "it is in the kernel before the other one goes");
    assert_eq!(in_kernel(&lab), [("192.0.2.0/24".to_owned(), vec![80, 8080], true)]);
    let replaced = RemovalReason::Replaced { by: RuleId(1) };
    assert_eq!(lab.removed.last().map(|(.., why)| why), Some(&replaced));

    block(&mut lab, "192.0.2.0/24", 600, false).expect("blocked");
    assert_eq!(in_kernel(&lab), [("192.0.2.0/24".to_owned(), vec![], true)]);
    block(&mut lab, "192.0.2.7/32", 600, false).expect("blocked");
    let Ok(Response::Unblocked(removed)) = lab
        .request(Request::Unblock { which: Which::Within(net("192.0.2.0/24")), whose: Whose::All })
    else {
        panic!("unblocked");
    };
    assert_eq!(removed.len(), 2);
}

/// An operator's rule for a port does not weaken the automatic rule against the source, nor the
/// reverse.
#[test]
fn an_automatic_rule_stands_beside_an_operators_for_certain_ports() {
    let attacker = Sources::One([198, 51, 100, 7].into());
    let mut lab = at_its_end().flood(alike(2000.0, 10.1, 60.1, attacker));
    let source = "198.51.100.7/32".to_owned();
    block_ports(&mut lab, &source, &[22], 600, false).expect("blocked");
    lab.run_until(15.0);
    let both = [(source.clone(), vec![22], true), (source.clone(), vec![], false)];
    assert_eq!(in_kernel(&lab), both, "{}", lab.story());

    block_ports(&mut lab, &source, &[22, 25], 600, false).expect("blocked");
    let both = [(source.clone(), vec![], false), (source.clone(), vec![22, 25], true)];
    assert_eq!(in_kernel(&lab), both, "the automatic one stays");

    block(&mut lab, &source, 600, false).expect("blocked");
    assert_eq!(in_kernel(&lab), [(source.clone(), vec![], true)], "that says it all");

    block_ports(&mut lab, &source, &[443], 600, false).expect("blocked");
    lab.run_until(25.0);
    let both = [(source.clone(), vec![443], true), (source, vec![], false)];
    assert_eq!(in_kernel(&lab), both, "the rest is automatic again: {}", lab.story());
}

#[test]
fn certain_ports_of_what_is_protected_are_refused_like_all_of_it() {
    let mut lab = lab();
    let ssh = block_ports(&mut lab, "203.0.113.10/32", &[22], 60, false);
    assert!(matches!(ssh, Err(RequestError::Protected { .. })), "{ssh:?}");
    let wide = block_ports(&mut lab, "10.0.0.0/8", &[22], 60, false);
    assert_eq!(wide, Err(RequestError::TooWide { net: net("10.0.0.0/8"), shortest: 16 }));
    assert!(block_ports(&mut lab, "203.0.113.10/32", &[22], 60, true).is_ok());
}

#[test]
fn a_block_over_an_automatic_rule_makes_it_the_operators() {
    let attacker = Sources::One([198, 51, 100, 7].into());
    let mut lab = at_its_end().flood(alike(2000.0, 10.1, 30.1, attacker));
    lab.run_until(15.0);
    assert_eq!(lab.report().rules[0].origin, RuleOrigin::Incident, "{}", lab.story());

    let rule = block(&mut lab, "198.51.100.7/32", 600, false).expect("blocked");
    assert_eq!((rule.id, rule.origin), (RuleId(0), RuleOrigin::Operator));
    let in_kernel: Vec<_> = lab.kernel.rules().map(|rule| (rule.id, &rule.origin)).collect();
    assert_eq!(in_kernel, [(RuleId(0), &Origin::Operator { uid: 1000 })]);
    assert_eq!(lab.removed.len(), 0, "there is no gap");
    lab.run_until(29.0);
    let hits = lab.report().rules[0].hits;
    assert_eq!(hits, lab.listener_report(0).counters.dropped_source, "the count goes on");

    lab.run_until(100.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 1, "it outlives the attack");
}

#[test]
fn what_would_do_harm_is_refused_unless_forced() {
    let mut lab = lab();
    let protected = |asked: &str| RequestError::Protected {
        net: net(asked),
        covers: net("203.0.113.0/24"),
        what: "own address".to_owned(),
    };
    let wide = |asked: &str, shortest| RequestError::TooWide { net: net(asked), shortest };
    let cases = [
        ("203.0.113.10/32", protected("203.0.113.10/32")),
        ("203.0.0.0/16", protected("203.0.0.0/16")),
        ("10.0.0.0/15", wide("10.0.0.0/15", 16)),
        ("2001::/31", wide("2001::/31", 32)),
        ("0.0.0.0/0", wide("0.0.0.0/0", 16)),
    ];
    for (asked, refusal) in cases {
        assert_eq!(block(&mut lab, asked, 60, false), Err(refusal));
    }
    assert_eq!(lab.installed.len(), 0);
    assert!(block(&mut lab, "203.0.113.10/32", 60, true).is_ok());
    assert!(block(&mut lab, "2001::/31", 60, true).is_ok());
    assert!(block(&mut lab, "2001:db8::/32", 60, false).is_ok());
    assert!(block(&mut lab, "10.0.0.0/16", 60, false).is_ok());
}

#[test]
fn unblocking_removes_the_rules_within() {
    let mut lab = lab();
    for host in ["192.0.2.1/32", "192.0.2.2/32", "198.51.100.1/32"] {
        block(&mut lab, host, 600, false).expect("blocked");
    }
    let unblock = |net| Request::Unblock { which: Which::Within(net), whose: Whose::All };
    let Ok(Response::Unblocked(removed)) = lab.request(unblock(net("192.0.2.0/24"))) else {
        panic!("unblocked");
    };
    let matches: Vec<&str> = removed.iter().map(|rule| rule.matches.as_str()).collect();
    assert_eq!(matches, ["192.0.2.1/32", "192.0.2.2/32"]);
    let nothing = lab.request(unblock(net("192.0.2.0/24")));
    assert_eq!(nothing, Err(not_found(Which::Within(net("192.0.2.0/24")), Whose::All)));
    let nothing = lab.request(unblock(net("198.51.100.1/32")));
    assert!(nothing.is_ok());
    assert_eq!(block(&mut lab, "192.0.2.9/32", 600, false).expect("blocked").id, RuleId(0));
}

#[test]
fn rules_of_one_origin_are_removed_and_others_stay() {
    let mut lab = lab().flood(Flood::random(5000.0, 10.1..40.1));
    lab.run_until(15.0);
    for prefix in ["192.0.2.0/24", "192.0.2.7/32", "198.51.100.0/24"] {
        block(&mut lab, prefix, 600, false).expect("blocked");
    }
    let here = Which::Within(net("192.0.2.0/24"));
    let unblock = |which, whose| Request::Unblock { which, whose };
    let within = lab.request(unblock(here, Whose::Incidents));
    assert_eq!(within, Err(not_found(here, Whose::Incidents)));

    let Ok(Response::Unblocked(removed)) = lab.request(unblock(here, Whose::Operators)) else {
        panic!("unblocked");
    };
    let matches: Vec<&str> = removed.iter().map(|rule| rule.matches.as_str()).collect();
    assert_eq!(matches, ["192.0.2.0/24", "192.0.2.7/32"]);
    assert_eq!((lab.signature_rules().len(), lab.kernel.rules().count()), (1, 2));

    assert!(lab.request(unblock(Which::All, Whose::Operators)).is_ok());
    assert_eq!((lab.signature_rules().len(), lab.kernel.rules().count()), (1, 1), "it goes on");
    let none = lab.request(unblock(Which::All, Whose::Operators));
    let not_found = not_found(Which::All, Whose::Operators);
    let RequestError::NotFound { which, whose, wider, .. } = not_found else { panic!() };
    assert_eq!(none, Err(RequestError::NotFound { which, whose, wider, automatic: 1 }));

    let Ok(Response::Unblocked(removed)) = lab.request(unblock(Which::All, Whose::Incidents))
    else {
        panic!("unblocked");
    };
    assert_eq!(removed.iter().map(|rule| rule.kind).collect::<Vec<_>>(), [Mitigation::Signature]);
    lab.run_until(39.0);
    assert_eq!(lab.kernel.rules().count(), 0, "it is not made again yet: {}", lab.story());
}

fn not_found(which: Which, whose: Whose) -> RequestError {
    RequestError::NotFound { which, whose, wider: None, automatic: 0 }
}

#[test]
fn a_rule_is_removed_by_its_number_and_an_address_within_one_names_it() {
    let mut lab = lab();
    for prefix in ["192.0.2.0/24", "198.51.100.0/24"] {
        block(&mut lab, prefix, 600, false).expect("blocked");
    }
    let unblock = |which| Request::Unblock { which, whose: Whose::All };
    let Err(RequestError::NotFound { wider, .. }) =
        lab.request(unblock(Which::Within(net("198.51.100.7/32"))))
    else {
        panic!("refused");
    };
    assert_eq!(wider, Some((RuleId(1), net("198.51.100.0/24"))));
    assert!(lab.request(unblock(Which::Numbered(RuleId(1)))).is_ok());
    assert_eq!(in_kernel(&lab), [("192.0.2.0/24".to_owned(), vec![], true)]);
    let gone = Which::Numbered(RuleId(1));
    assert_eq!(lab.request(unblock(gone)), Err(not_found(gone, Whose::All)));
}

#[test]
fn a_prefix_of_validated_clients_is_blocked_for_confirmation_only() {
    let mut lab = lab();
    let clients = ClientsWithin { validated: 51, last_minute: 43 };
    let asked = |force, clients| Request::Block {
        net: net("192.0.2.0/24"),
        ports: Ports::EVERY,
        lifetime: Duration::from_secs(600),
        reason: "panic".to_owned(),
        force,
        clients,
    };
    let refused = lab.request(asked(Force::No, clients));
    assert_eq!(refused, Err(RequestError::Clients { net: net("192.0.2.0/24"), clients }));
    assert_eq!(lab.kernel.rules().count(), 0);

    let within = Duration::from_secs(60);
    let confirmation = Force::PendingConfirmation { within, caller: None };
    let Ok(Response::Blocked { rule, clients: reported, .. }) =
        lab.request(asked(confirmation, clients))
    else {
        panic!("blocked");
    };
    assert_eq!(
        (reported, rule.expires_at.since(rule.created_at)),
        (clients, within),
        "and then it is rolled back"
    );
    assert!(rule.confirmed_until.is_some());
    lab.run_until(70.0);
    assert_eq!(lab.kernel.rules().count(), 0, "{}", lab.story());

    lab.request(asked(Force::No, ClientsWithin::default())).expect("blocked");
    lab.request(asked(Force::No, clients)).expect("for longer: they are cut off already");
}

/// An operator who removes the rule that stops a flood, by accident or to see its effect.
fn without_its_rule(flood: Flood) -> Lab {
    let mut lab = lab().flood(flood);
    lab.run_until(15.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    let Ok(Response::Unblocked(removed)) =
        lab.request(Request::Unblock { which: Which::All, whose: Whose::All })
    else {
        panic!("unblocked");
    };
    assert_eq!(removed.len(), 1);
    lab.run_until(30.0);
    assert_eq!(lab.kernel.rules().count(), 0, "not at once: {}", lab.story());
    let removed = lab.incident().record.removed.expect("it is known why there is none");
    assert_eq!(removed.id, RuleId(0));
    assert_eq!(removed.until.since(removed.at), Duration::from_secs(600));
    lab
}

#[test]
fn a_rule_that_an_operator_removes_is_made_again_after_ten_minutes_if_the_attack_goes_on() {
    let mut lab = without_its_rule(Flood::random(2000.0, 10.1..700.1));
    lab.run_until(610.0);
    assert_eq!(lab.kernel.rules().count(), 0, "{}", lab.story());
    lab.run_until(620.0);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    assert_eq!(lab.incident().record.removed, None);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
}

fn auto(lab: &mut Lab, mitigation: Mitigation) {
    let listener = lab.listener_report(0).listener;
    let (order, lifetime) = (Order::Auto, Duration::from_secs(600));
    lab.request(Request::OrderMitigation { listener, mitigation, order, lifetime })
        .expect("ordered");
}

#[test]
fn a_rule_that_an_operator_removes_is_installed_at_once_when_its_mitigation_is_set_to_auto() {
    let mut lab = without_its_rule(Flood::random(5000.0, 10.1..90.1));
    auto(&mut lab, Mitigation::Source);
    lab.run_until(35.0);
    assert_eq!(lab.kernel.rules().count(), 0, "that is another step: {}", lab.story());
    auto(&mut lab, Mitigation::Signature);
    lab.run_until(40.0);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    assert_eq!(lab.incident().record.removed, None);
}

#[test]
fn a_source_rule_that_an_operator_removes_is_installed_when_its_mitigation_is_set_to_auto() {
    let attacker = Sources::One([198, 51, 100, 7].into());
    let mut lab = at_its_end().flood(alike(2000.0, 10.1, 90.1, attacker));
    lab.run_until(20.0);
    let source = ("198.51.100.7/32".to_owned(), vec![], false);
    assert_eq!(in_kernel(&lab), std::slice::from_ref(&source), "{}", lab.story());
    let which = Which::Within(net("198.51.100.7/32"));
    lab.request(Request::Unblock { which, whose: Whose::All }).expect("unblocked");
    lab.run_until(30.0);
    assert_eq!(in_kernel(&lab), [], "{}", lab.story());
    auto(&mut lab, Mitigation::Source);
    lab.run_until(35.0);
    assert_eq!(in_kernel(&lab), [source], "{}", lab.story());
}

#[test]
fn a_rule_that_an_operator_removes_is_made_again_at_once_when_a_mode_is_set() {
    for modes in [&[Mode::Observe, Mode::Enforce][..], &[Mode::Enforce][..]] {
        let mut lab = without_its_rule(Flood::random(5000.0, 10.1..90.1));
        for mode in modes {
            lab.request(Request::SetMode { mode: *mode }).expect("set");
        }
        lab.run_until(35.0);
        assert_eq!(lab.signature_rules().len(), 1, "{modes:?}: {}", lab.story());
    }
}

#[test]
fn modes_change_what_rules_do_not_what_is_seen() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(50.0))
        .flood(Flood::random(5000.0, 10.1..100.1));
    lab.run_until(30.0);
    assert_eq!(lab.kernel.rules().count(), 1, "planned in observe mode too");
    let observed = lab.incident();
    assert_eq!(observed.counts.dropped, 0, "observe mode drops nothing");
    assert!(
        observed.counts.matched > 80_000,
        "what it would have dropped: {}",
        observed.counts.matched
    );
    assert_eq!(lab.listener_report(0).state, ListenerState::Attacked);
    assert!(lab.connected(12.0, 28.0) < 0.05);

    let was = lab.request(Request::SetMode { mode: Mode::Enforce });
    assert_eq!(was, Ok(Response::ModeSet { was: Mode::Observe }));
    lab.run_until(50.0);
    assert_eq!(lab.listener_report(0).state, ListenerState::Mitigating);
    assert!(lab.connected(32.0, 48.0) > 0.99, "the queue is cleaned up: {}", lab.story());
    assert_eq!(lab.times("mode_changed").len(), 1);

    lab.request(Request::SetMode { mode: Mode::Off }).expect("set");
    assert_eq!(lab.kernel.rules().count(), 0);
    let by = HeldBack::AgentOff;
    assert_eq!(lab.removed[0].2, RemovalReason::HeldBack { by });
    lab.run_until(70.0);
    assert_eq!(lab.kernel.rules().count(), 0);
    assert_eq!(lab.report().incidents.len(), 1, "still seen");

    lab.request(Request::SetMode { mode: Mode::Enforce }).expect("set");
    lab.run_until(70.5);
    assert_eq!(lab.kernel.rules().count(), 1, "the next look at the flows calls for it again");
    lab.run_until(99.0);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
    assert!(lab.connected(74.0, 98.0) > 0.99);
}

/// Before the change it was noted that a rule would drop. That note is no action of the rule after
/// the change.
#[test]
fn an_incident_records_when_the_mode_was_changed_in_it() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(50.0))
        .flood(Flood::random(5000.0, 10.1..60.1));
    let mut changed = Vec::new();
    for (at, mode) in [(20.0, Mode::Enforce), (25.0, Mode::Observe), (30.0, Mode::Enforce)] {
        lab.run_until(at);
        lab.request(Request::SetMode { mode }).expect("set");
        changed.push(lab.kernel.now);
    }
    let actions = lab.incident().actions;
    let marks = actions.iter().filter_map(|action| match action.action {
        Event::ModeChanged { to, .. } => Some((action.at, to)),
        _ => None,
    });
    let (enforce, observe) = (Mode::Enforce, Mode::Observe);
    let expected = [(changed[0], enforce), (changed[1], observe), (changed[2], enforce)];
    assert_eq!(marks.collect::<Vec<_>>(), expected);
    let place = |name: &str| actions.iter().position(|action| action.action.name() == name);
    let planned = place("rule_installed");
    assert!(planned.is_some() && planned < place("mode_changed"), "{actions:?}");
}

/// For a caller that reports the change in its own words.
#[test]
fn a_mode_that_is_changed_without_a_word_does_the_same() {
    let mut lab = lab().flood(Flood::random(5000.0, 10.1..40.1));
    lab.run_until(15.0);
    assert_eq!(lab.kernel.rules().count(), 1);
    let mut engine = lab.engine.clone();
    while engine.next_command().is_some() {}
    assert_eq!(engine.change_mode(lab.kernel.now, Mode::Off), Mode::Enforce);
    assert_eq!(engine.mode(), Mode::Off);
    let mut commands = Vec::new();
    while let Some(command) = engine.next_command() {
        commands.push(command);
    }
    assert_eq!(commands[0], Command::SetMode(Mode::Off));
    assert!(commands.iter().any(|command| matches!(command, Command::RemoveRule { .. })));
    let reported = |command: &Command| {
        matches!(command, Command::Alert { event: Event::ModeChanged { .. }, .. })
    };
    assert!(!commands.iter().any(reported), "{commands:?}");
    assert_eq!(engine.change_mode(lab.kernel.now, Mode::Off), Mode::Off);
    assert!(engine.next_command().is_none(), "nothing to change");
}
