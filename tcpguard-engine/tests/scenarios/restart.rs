//! State that survives a restart, and requests that the kernel refuses.

use std::time::Duration;

use tcpguard_engine::{
    ClientsWithin, Engine, Event, Force, IncidentClass, LearnedError, ListenerState, Mitigation,
    Mode, Origin, Ports, RemovalReason, Request, RequestError, Response, Rule, RuleId, RuleReason,
    Settings, Timestamp,
};

use crate::sim::*;
use crate::{alike, at_its_end};

/// A flood that is being dropped.
fn flooded(flood: Flood) -> Lab {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(flood);
    lab.run_until(20.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    lab
}

fn of_each_kind() -> [Flood; 2] {
    let one = Sources::One([198, 51, 100, 7].into());
    [Sources::Random, one].map(|sources| Flood { sources, ..Flood::random(5000.0, 10.1..60.1) })
}

#[test]
fn an_attack_keeps_its_number_over_restarts_and_is_reported_once() {
    for flood in of_each_kind() {
        let mut lab = flooded(flood);
        let before = lab.incident();
        for second in [20.0, 30.0, 40.0] {
            lab.run_until(second);
            lab.restart();
            lab.run_until(second + 0.3);
            let incident = lab.incident();
            assert_eq!((incident.id, incident.rules.as_slice()), (1, &[RuleId(0)][..]), "at once");
            assert_eq!(lab.listener_report(0).state, ListenerState::Mitigating);
        }
        lab.run_until(60.0);
        let incident = lab.incident();
        assert_eq!((incident.started, incident.class), (before.started, before.class));
        assert!(
            incident.counts.syns > before.counts.syns + 150_000,
            "{} {}",
            incident.counts.syns,
            before.counts.syns
        );
        let uncounted = lab.kernel.now.since(incident.started).saturating_sub(incident.counted);
        assert!(uncounted < Duration::from_secs(1), "{uncounted:?}");
        assert_eq!(lab.installed.len(), 1, "not made again: {}", lab.story());
        assert_eq!(lab.removed.len(), 0, "nor taken out: {}", lab.story());
        assert!(lab.connected(20.0, 59.0) > 0.98, "{}", lab.story());
        lab.run_until(100.0);
        assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
        assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
        assert_eq!(lab.kernel.rules().count(), 0, "it goes with the attack: {}", lab.story());
    }
}

/// A ticket is opened by the number of the start, and closed by that of the end.
#[test]
fn what_concerns_the_whole_host_or_an_application_keeps_its_number_too() {
    let scan = |lab: &mut Lab, until: f64| {
        while seconds(lab.kernel.now) < until {
            lab.kernel.host.replies += 2500;
            lab.kernel.host.unsolicited += 2500;
            lab.run_until(seconds(lab.kernel.now) + 0.25);
        }
    };
    let stuck = Server { accepting: false, ..Server::default() };
    let mut lab = Lab::new(Mode::Enforce).listener(stuck).clients(Clients::steady(50.0));
    lab.run_until(10.0);
    scan(&mut lab, 20.0);
    let open = |lab: &Lab| {
        let mut open: Vec<_> =
            lab.report().incidents.iter().map(|one| (one.class.name(), one.id)).collect();
        open.sort_unstable();
        open
    };
    let before = open(&lab);
    let classes: Vec<_> = before.iter().map(|(class, _)| *class).collect();
    assert_eq!(classes, ["listener_overload", "reflection"], "{}", lab.story());
    lab.restart();
    scan(&mut lab, 40.0);
    assert_eq!(open(&lab), before, "{}", lab.story());
    assert_eq!(lab.times("incident_started").len(), 2, "{}", lab.story());
    lab.run_until(80.0);
    assert_eq!(lab.times("incident_ended").len(), 1, "{}", lab.story());
    assert_eq!(open(&lab), [before[0]], "the application is still stuck");
}

#[test]
fn an_attack_that_ended_while_there_was_no_agent_ends_once_it_is_quiet() {
    let mut lab = flooded(Flood::random(5000.0, 10.1..20.0));
    lab.restart();
    lab.run_until(45.0);
    assert_eq!(lab.report().incidents.len(), 1, "{}", lab.story());
    lab.run_until(60.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.report().incidents.len(), 0);
    assert_eq!(lab.kernel.rules().count(), 0);
}

#[test]
fn without_what_the_last_run_knew_a_rule_goes_on_and_belongs_to_the_next_incident() {
    let one = Sources::One([198, 51, 100, 7].into());
    let mut blocked = at_its_end().flood(alike(5000.0, 10.1, 60.1, one));
    blocked.run_until(20.0);
    assert_eq!(blocked.report().rules[0].kind, Mitigation::Source, "{}", blocked.story());
    for mut lab in [flooded(Flood::random(5000.0, 10.1..60.1)), blocked] {
        lab.restart_without_state();
        lab.run_until(60.0);
        assert_eq!(lab.installed.len(), 1, "not made again: {}", lab.story());
        assert_eq!(lab.removed.len(), 0, "nor taken out: {}", lab.story());
        let incident = lab.incident();
        assert_eq!(incident.id, 2, "the first was before the restart");
        assert_eq!(incident.rules, [RuleId(0)]);
        assert_eq!(lab.report().rules[0].incident, Some(2));
        assert!(lab.connected(20.0, 59.0) > 0.98, "{}", lab.story());
        lab.run_until(100.0);
        assert_eq!(lab.kernel.rules().count(), 0, "it goes with that incident: {}", lab.story());
    }
}

#[test]
fn a_rule_that_nothing_hits_ends_at_its_time() {
    let mut lab = flooded(Flood::random(5000.0, 10.1..20.0));
    lab.restart_without_state();
    lab.run_until(60.0);
    assert_eq!(lab.kernel.rules().count(), 1, "a minute after its last hits");
    lab.run_until(81.0);
    assert_eq!(lab.kernel.rules().count(), 0);
    assert_eq!(lab.removed[0].2, RemovalReason::NoHits);
    assert_eq!(lab.report().incidents.len(), 0);
}

#[test]
fn what_cannot_be_kept_is_taken_out() {
    let mut lab = Lab::new(Mode::Enforce).listener(Server::default());
    lab.run_until(10.0);
    let lab = lab.protect("192.0.2.0/24", "own network");
    let mut engine = lab.engine.clone();
    let rule = |slot, net: &str, expires, origin| Rule {
        id: RuleId(slot),
        matcher: tcpguard_engine::Matcher::Source(net.parse().expect("prefix"), Ports::EVERY),
        origin,
        forced: false,
        reason: RuleReason::Found,
        created: at(1.0),
        expires: at(expires),
        confirmation: None,
    };
    let operator = Origin::Operator { uid: 0 };
    engine.adopt(
        at(10.0),
        vec![
            rule(0, "198.51.100.1/32", 60.0, Origin::Incident(4)),
            rule(1, "198.51.100.1/32", 60.0, Origin::Incident(4)),
            rule(2, "198.51.100.2/32", 9.0, operator.clone()),
            rule(3, "192.0.2.1/32", 60.0, Origin::Incident(4)),
            rule(4, "192.0.2.2/32", 60.0, operator),
        ],
    );
    let kept: Vec<u32> = engine.report(at(10.0)).rules.iter().map(|rule| rule.id.0).collect();
    assert_eq!(kept, [0, 4], "an operator may have forced it");
    let mut removed = Vec::new();
    while let Some(command) = engine.next_command() {
        if let tcpguard_engine::Command::RemoveRule { rule, .. } = command {
            removed.push(rule.id.0);
        }
    }
    assert_eq!(removed, [1, 2, 3]);
}

#[test]
fn a_rule_that_the_kernel_does_not_take_is_not_claimed_and_retried() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood::random(5000.0, 10.1..40.1));
    lab.refuse_rules = true;
    lab.run_until(15.0);
    assert_eq!(lab.report().rules.len(), 0, "{}", lab.story());
    assert_eq!(lab.incident().rules, []);
    assert_eq!(lab.times("rule_failed").len(), 1, "not at every poll: {}", lab.story());
    let alert =
        lab.alerts.iter().find(|alert| alert.event.name() == "rule_failed").expect("the alert");
    let Event::RuleFailed { rule: Some(rule), error, retry_s } = &alert.event else {
        panic!("{alert:?}")
    };
    assert_eq!((rule.id, error.as_str(), *retry_s), (RuleId(0), "no memory", Some(10)));
    lab.refuse_rules = false;
    lab.run_until(30.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
}

#[test]
fn an_operators_block_that_the_kernel_does_not_take_is_gone() {
    let mut lab = Lab::new(Mode::Enforce).listener(Server::default());
    lab.run_until(1.0);
    lab.refuse_rules = true;
    let request = Request::Block {
        net: "192.0.2.0/24".parse().expect("prefix"),
        ports: Ports::EVERY,
        lifetime: Duration::from_secs(60),
        reason: "abuse".to_owned(),
        force: Force::No,
        clients: ClientsWithin::default(),
    };
    lab.request(request).expect("accepted");
    assert_eq!(lab.report().rules.len(), 0);
    let alert = lab.alerts.last().expect("an alert");
    assert!(matches!(alert.event, Event::RuleFailed { retry_s: None, .. }), "{alert:?}");
}

#[test]
fn what_was_learned_survives() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { lost: 0.01, ..Clients::steady(200.0) });
    lab.run_until(60.0);
    let learned = lab.engine.learned();
    let listener = &learned.listeners[0];
    assert!(listener.completions > 200 && !listener.prints.is_empty(), "{listener:?}");
    assert!(listener.rtt.is_some_and(|rtt| rtt < Duration::from_millis(60)), "{listener:?}");
    assert!(listener.baseline_syn_rate.is_some_and(|rate| (150.0..250.0).contains(&rate)));

    let mut again = Engine::new(Settings::default(), Mode::Enforce).expect("the default settings");
    again.restore(learned.clone(), Duration::from_secs(5)).expect("valid");
    again.handle_sample(&lab.kernel.sample());
    let mut back = again.learned();
    for print in &mut back.listeners[0].prints {
        print.age = Duration::ZERO;
    }
    let mut given = learned.clone();
    for print in &mut given.listeners[0].prints {
        print.age = Duration::ZERO;
    }
    for networks in [&mut back, &mut given].into_iter().filter_map(|all| all.networks.as_mut()) {
        networks.gone = Duration::ZERO;
    }
    assert_eq!(back, given);

    let mut poisoned = learned;
    poisoned.listeners[0].natural_share = 0.99;
    let refused = again.restore(poisoned, Duration::ZERO);
    assert!(matches!(refused, Err(LearnedError::Absurd { name: "natural_share", .. })));
    assert_eq!(again.learned().listeners[0].natural_share, given.listeners[0].natural_share);
}

#[test]
fn clients_known_from_before_let_a_flood_be_dropped_at_once() {
    // Without the record a slow flood must first cause a thousand SYN-ACKs that no client
    // acknowledges.
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(200.0));
    lab.run_until(30.0);
    let learned = lab.engine.learned();
    let rule_after = |known: bool| {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server { backlog: 4096, ..Server::default() })
            .flood(Flood::random(300.0, 10.1..40.1));
        if known {
            lab.engine.restore(learned.clone(), Duration::from_secs(60)).expect("valid");
        }
        lab.run_until(40.0);
        lab.installed[0].0 - 10.1
    };
    let (cold, warm) = (rule_after(false), rule_after(true));
    assert!(warm <= 1.5 && cold > 2.0, "{warm} {cold}");
}

#[test]
fn an_allowed_source_is_not_blocked_until_its_time_is_over() {
    let attacker = "198.51.100.7/32";
    let attackers = Sources::One([198, 51, 100, 7].into());
    let mut lab = at_its_end().flood(alike(1000.0, 10.1, 60.1, attackers));
    lab.run_until(15.0);
    assert_eq!(lab.report().rules[0].kind, Mitigation::Source, "{}", lab.story());
    lab.allow(attacker, 20);
    assert_eq!(lab.kernel.rules().count(), 0, "taken back at once");
    assert_eq!(lab.report().allowed[0].net.to_string(), attacker);
    assert_eq!(lab.kernel.allowed, [(attacker.parse().expect("prefix"), at(35.0))]);
    let net = attacker.parse().expect("prefix");
    let block = Request::Block {
        net,
        ports: Ports::EVERY,
        lifetime: Duration::from_secs(60),
        reason: String::new(),
        force: Force::No,
        clients: ClientsWithin::default(),
    };
    assert!(matches!(lab.request(block), Err(RequestError::Protected { .. })));
    lab.run_until(34.0);
    assert_eq!(lab.installed.len(), 1, "{}", lab.story());
    lab.run_until(36.0);
    assert_eq!(lab.kernel.allowed, []);
    assert_eq!(lab.times("allow_removed").len(), 1, "{}", lab.story());

    lab.allow("192.0.2.0/24", 600);
    let disallow = |net: &str| Request::Disallow { net: net.parse().expect("prefix") };
    let Ok(Response::Disallowed(removed)) = lab.request(disallow("192.0.0.0/16")) else {
        panic!("disallowed");
    };
    assert_eq!(removed[0].net.to_string(), "192.0.2.0/24");
    let none = lab.request(disallow("192.0.2.0/24"));
    assert_eq!(
        none,
        Err(RequestError::NotAllowed { net: "192.0.2.0/24".parse().expect("prefix") })
    );
}

#[test]
fn timestamps_of_what_was_adopted_are_kept() {
    let mut lab = flooded(Flood::random(5000.0, 10.1..60.1));
    let created: Vec<Timestamp> = lab.report().rules.iter().map(|rule| rule.created_at).collect();
    lab.restart();
    lab.run_until(30.0);
    let now: Vec<Timestamp> = lab.report().rules.iter().map(|rule| rule.created_at).collect();
    assert_eq!(created, now);
}

#[test]
fn a_mimicking_flood_stays_one_over_restarts_and_cookies_go_on() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) })
        .flood(alike(5000.0, 10.1, 60.1, Sources::Random));
    lab.run_until(20.0);
    assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
    for start in [20.0, 23.0, 26.0, 40.0] {
        lab.run_until(start);
        lab.restart();
        lab.run_until(start + 2.5);
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
    }
    assert!(!lab.story().contains("no longer answers"), "{}", lab.story());
    assert!(lab.connected(20.0, 59.0) > 0.98, "{}", lab.story());
}
