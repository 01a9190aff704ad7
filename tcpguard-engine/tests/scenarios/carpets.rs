//! Carpets, decoys and many listeners: weak evidence at each listener is judged together, and a listener at
//! which most handshakes fail has an incident of its own.

use std::ops::Range;

use tcpguard_engine::{
    ActionReport, Event, IncidentClass, IncidentReport, Listener, ListenerId, Matcher, Mitigation,
    Mode, Override, Place, Rule,
};

use crate::sim::*;

/// A host with that many listeners, each with a small queue. Clients come to the first.
fn hosts(listeners: usize, server: Server) -> Lab {
    let clients = Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) };
    let lab = Lab::new(Mode::Enforce).clients(clients);
    (0..listeners).fold(lab, |lab, _| lab.listener(server))
}

/// The same port at so many addresses.
fn addresses(listeners: u8, server: Server) -> Lab {
    (0..listeners).fold(hosts(0, server), |lab, number| {
        lab.listener_at(Listener { addr: [203, 0, 113, number].into(), port: 443 }, server)
    })
}

/// A fixed-fingerprint flood of so many SYNs a second at each of the first listeners.
fn carpet(listeners: usize, each: f64, time: Range<f64>) -> Flood {
    Flood { across: listeners, ..Flood::random(each * listeners as f64, time) }
}

/// The combined incident of several listeners, if there is one.
fn alerted_together(lab: &Lab) -> Option<IncidentReport> {
    lab.report().incidents.into_iter().find(|incident| incident.listener == Listener::HOST)
}

/// Returns whether it is a signature rule for every listener.
fn is_shared(rule: &Rule) -> bool {
    matches!(rule.matcher, Matcher::Signature { listener: ListenerId::HOST, .. })
}

fn shared(lab: &Lab) -> usize {
    lab.kernel.rules().filter(|rule| is_shared(rule)).count()
}

/// Share of all SYNs of the last second that was dropped.
fn dropped_share(lab: &Lab) -> f64 {
    let report = lab.report();
    let sum = |rate: fn(&tcpguard_engine::ListenerReport) -> f64| {
        report.listeners.iter().map(rate).sum::<f64>()
    };
    sum(|listener| listener.dropped_rate) / sum(|listener| listener.syn_rate)
}

/// Each listener's trouble was called a flood from the first word to the last.
fn assert_no_verdict_changes(lab: &Lab) {
    let story = lab.story();
    assert_eq!(lab.times("handshakes_degraded").len(), 0, "{story}");
    let report = lab.report();
    for incident in report.incidents.iter().chain(&report.past) {
        let changes = incident
            .actions
            .iter()
            .any(|action| matches!(action.action, Event::ClassChanged { .. }));
        assert!(!changes, "{:?}\n{story}", incident.actions);
    }
    assert!(!story.contains(" on :0"), "{story}");
}

#[test]
fn a_carpet_over_500_ports_is_one_flood_and_one_rule_drops_it_at_all_of_them() {
    let mut lab = hosts(500, Server::default()).flood(carpet(500, 20.0, 10.1..35.1));
    lab.run_until(30.0);
    let story = lab.story();
    let all = alerted_together(&lab).expect(&story);
    assert_eq!(all.class, IncidentClass::RandomSpoofed, "{story}");
    assert!(all.listeners > 400, "{}", all.listeners);
    assert_eq!(lab.report().incidents.len(), 1, "{story}");
    assert_no_verdict_changes(&lab);

    assert_eq!(shared(&lab), 1, "{story}");
    let (made, rule) = lab.installed.iter().find(|(_, rule)| is_shared(rule)).expect(&story);
    assert!(made - 10.1 <= 8.0, "{made} {story}");
    assert!(all.rules.contains(&rule.id), "{all:?}");
    let reported =
        lab.report().rules.into_iter().find(|reported| reported.id == rule.id).expect(&story);
    assert!(reported.matches.ends_with(" to every listener"), "{}", reported.matches);
    // The first listener knows its clients, and may have had one of its own by then.
    assert!(lab.installed.len() <= 2, "{story}");
    assert!(dropped_share(&lab) > 0.95, "{} {story}", dropped_share(&lab));
    assert!(lab.connected(12.0, 29.0) > 0.99, "{} {story}", lab.connected(12.0, 29.0));

    lab.run_until(75.0);
    let story = lab.story();
    assert_eq!(lab.report().incidents.len(), 0, "{story}");
    assert_eq!(lab.kernel.rules().count(), 0, "{story}");
    assert_no_verdict_changes(&lab);
}

#[test]
fn a_carpet_over_many_addresses_is_found_at_eight_a_second_each() {
    let mut lab = addresses(250, Server::default()).flood(carpet(250, 8.0, 10.1..40.1));
    lab.run_until(35.0);
    let story = lab.story();
    let all = alerted_together(&lab).expect(&story);
    assert_eq!(all.class, IncidentClass::RandomSpoofed, "{story}");
    assert!(all.listeners > 150, "{}", all.listeners);
    assert_no_verdict_changes(&lab);
    assert_eq!(shared(&lab), 1, "{story}");
    assert!(dropped_share(&lab) > 0.9, "{} {story}", dropped_share(&lab));
    assert!(lab.connected(12.0, 34.0) > 0.99, "{} {story}", lab.connected(12.0, 34.0));
}

#[test]
fn a_client_mimicking_carpet_gets_cookies_at_each_of_its_listeners() {
    let flood = Flood { shape: Shape::Linux, ..carpet(250, 8.0, 10.1..45.1) };
    let mut lab = addresses(250, Server::default()).flood(flood);
    lab.run_until(40.0);
    let story = lab.story();
    let all = alerted_together(&lab).expect(&story);
    assert!(all.class.is_flood(), "{story}");
    for incident in lab.report().incidents {
        assert!(incident.class.is_flood(), "{incident:?}\n{story}");
        let changed = |action: &&ActionReport| matches!(action.action, Event::ClassChanged { .. });
        let changes = incident.actions.iter().filter(changed).count();
        assert!(changes <= 1, "{:?}\n{story}", incident.actions);
    }
    let degraded = lab.times("handshakes_degraded");
    assert!(degraded.iter().all(|at| *at < 20.0), "{story}");
    assert_eq!(lab.installed.len(), 0, "nothing distinguishes it from clients: {story}");
    let answered =
        (0..250).filter(|to| lab.kernel.mitigations(*to).contains(&Mitigation::Cookies)).count();
    assert!(answered > 200, "{answered} {story}");
    // One alert about a mitigation covers all listeners that are reported together.
    assert!(lab.times("mitigation_started").len() <= 2, "{story}");
    assert!(lab.connected(12.0, 39.0) > 0.99, "{} {story}", lab.connected(12.0, 39.0));
}

#[test]
fn decoys_do_not_hide_the_flood_that_matters() {
    let server = Server { cookies: false, backlog: 256, ..Server::default() };
    let victim =
        Flood { to: 80, shape: Shape::RandomWindowMss, ..Flood::random(3000.0, 25.1..50.1) };
    let mut lab = hosts(81, server)
        .clients(Clients { to: 80, shape: Some(Shape::Linux), ..Clients::steady(50.0) })
        .flood(carpet(80, 10.0, 15.0..50.1))
        .flood(victim);
    lab.run_until(45.0);
    let story = lab.story();
    let report = lab.report();
    let mine = report.incidents.iter().find(|incident| incident.listener.port == 443 + 80);
    let mine = mine.expect(&story);
    assert_eq!(mine.class, IncidentClass::RandomSpoofed, "{story}");
    assert!(!mine.rules.is_empty(), "{story}");
    assert_eq!(report.incidents.len(), 2, "the decoys are one: {story}");
    let listener = lab.listener_report(80);
    assert!(listener.dropped_rate > 0.95 * 3000.0, "{} {story}", listener.dropped_rate);
    let connected = lab.connected_to(80, 28.5, 44.0);
    assert!(connected > 0.99, "{connected} {story}");
    lab.run_until(90.0);
    assert_eq!(lab.report().incidents.len(), 0, "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 0, "{}", lab.story());
}

/// A flood with another tool than that of the listeners beside it.
#[test]
fn a_flood_beside_that_of_many_listeners_is_defended_like_any_other() {
    for shape in [Shape::RandomWindowMss, Shape::Linux] {
        let victim = Flood { to: 64, shape, ..Flood::random(300.0, 20.1..50.1) };
        let clients = Clients { to: 64, shape: Some(Shape::Linux), ..Clients::steady(50.0) };
        let mut lab = hosts(65, Server::default())
            .clients(clients)
            .flood(carpet(64, 100.0, 10.1..50.1))
            .flood(victim);
        lab.run_until(45.0);
        let story = lab.story();
        let report = lab.report();
        let own = report.incidents.iter().any(|one| one.listener.port == 443 + 64);
        let all = alerted_together(&lab).expect(&story);
        assert!(all.class.is_flood(), "{story}");
        let listener = lab.listener_report(64);
        match shape {
            Shape::RandomWindowMss => {
                assert!(own, "another tool: {story}");
                assert_eq!(shared(&lab), 1, "{story}");
                assert!(listener.dropped_rate > 270.0, "{} {story}", listener.dropped_rate);
            }
            _ => assert!(lab.kernel.mitigations(64).contains(&Mitigation::Cookies), "{story}"),
        }
        let connected = lab.connected_to(64, 24.0, 44.0);
        assert!(connected > 0.99, "{connected} {story}");
    }
}

/// Clients with a path that breaks while a carpet is laid elsewhere have nothing in common with it.
#[test]
fn a_broken_path_beside_a_carpet_is_no_part_of_it() {
    for rate in [15.0, 60.0] {
        let clients = Clients {
            to: 100,
            shape: Some(Shape::Linux),
            outage: Some(Outage::of(20.0..30.0, 1.0)),
            ..Clients::steady(rate)
        };
        let mut lab = hosts(101, Server { backlog: 4096, ..Server::default() })
            .clients(clients)
            .flood(carpet(100, 20.0, 10.1..45.1));
        lab.run_until(29.0);
        let story = format!("{rate}\n{}", lab.story());
        assert!(alerted_together(&lab).is_some_and(|all| all.class.is_flood()), "{story}");
        let report = lab.report();
        let mut own = report.incidents.iter().filter(|one| one.listener.port == 443 + 100);
        assert!(own.all(|one| one.class == IncidentClass::HandshakeDegraded), "{story}");
        assert!(!lab.kernel.mitigations(100).contains(&Mitigation::Cookies), "{story}");
        assert!(dropped_share(&lab) > 0.7, "{story}");
        lab.run_until(45.0);
        let connected = lab.connected_to(100, 31.0, 44.0);
        assert_eq!(connected, 1.0, "{rate}\n{}", lab.story());
        assert_eq!(lab.listener_report(100).counters.dropped_signature, 0, "{}", lab.story());
    }
}

#[test]
fn a_rule_for_every_listener_exempts_one_that_is_only_observed() {
    let at = Place { addr: None, port: 443 };
    let observed = Override { at, mode: Some(Mode::Observe), barred: Vec::new() };
    let mut lab = hosts(100, Server::default()).own(observed).flood(carpet(100, 20.0, 10.1..40.1));
    lab.run_until(30.0);
    let story = lab.story();
    let all = alerted_together(&lab).expect(&story);
    assert!(all.class.is_flood(), "{story}");
    assert_eq!(shared(&lab), 1, "{story}");
    assert_eq!(lab.kernel.exempt_listeners(), [0], "{story}");
    assert_eq!(lab.listener_report(0).counters.dropped_signature, 0, "{story}");
    assert!(dropped_share(&lab) > 0.9, "{} {story}", dropped_share(&lab));
}

#[test]
fn a_rule_for_every_listener_outlasts_a_restart() {
    let mut lab = hosts(100, Server::default()).flood(carpet(100, 20.0, 10.1..50.1));
    lab.run_until(25.0);
    assert_eq!(shared(&lab), 1, "{}", lab.story());
    lab.restart();
    lab.run_until(45.0);
    let story = lab.story();
    assert_eq!(shared(&lab), 1, "{story}");
    let made = lab.installed.iter().filter(|(_, rule)| is_shared(rule)).count();
    assert_eq!(made, 1, "it was never gone: {story}");
    assert!(!lab.removed.iter().any(|(_, rule, _)| is_shared(rule)), "{story}");
    assert!(alerted_together(&lab).is_some_and(|all| !all.rules.is_empty()), "{story}");
    lab.run_until(95.0);
    assert_eq!(lab.kernel.rules().count(), 0, "{}", lab.story());
}

/// Clients of listener 100 with the fingerprint of the carpet, which is laid over so many other listeners.
fn alike(listeners: usize) -> Lab {
    let alike = Clients { to: 100, from: 30.0, shape: Some(Shape::Bare), ..Clients::steady(4.0) };
    let carpet = carpet(listeners, 20.0, 10.1..60.1);
    hosts(101, Server::default()).clients(alike).flood(carpet)
}

#[test]
fn a_rule_for_every_listener_excludes_one_whose_clients_share_its_signature() {
    let mut lab = alike(100);
    // The rule cannot be withdrawn: nothing else stops the flood.
    lab.refuse_mitigations = vec![Mitigation::Cookies];
    lab.run_until(29.0);
    assert_eq!((shared(&lab), lab.kernel.exempt_listeners()), (1, Vec::new()), "{}", lab.story());
    lab.run_until(50.0);
    let story = lab.story();
    assert_eq!((shared(&lab), lab.kernel.exempt_listeners()), (1, vec![100]), "{story}");
    let connected = lab.connected_to(100, 35.0, 49.0);
    assert!(connected > 0.99, "{connected} {story}");
    assert!(dropped_share(&lab) > 0.9, "{} {story}", dropped_share(&lab));
    let all = alerted_together(&lab).expect(&story);
    let exempted = all.actions.iter().filter(|action| match action.action {
        Event::ListenerExempted { listener } => listener.port == 543,
        _ => false,
    });
    assert_eq!(exempted.count(), 1, "{:?}", all.actions);
    lab.run_until(110.0);
    assert_eq!((shared(&lab), lab.kernel.exempt_listeners()), (0, Vec::new()), "{}", lab.story());
}

/// The SYNs that the shared rule drops there are not left to the stack.
#[test]
fn a_listener_under_the_carpet_is_exempt_once_cookies_answer_there() {
    for refused in [Vec::new(), vec![Mitigation::Cookies]] {
        let mut lab = alike(101);
        let answers = refused.is_empty();
        lab.refuse_mitigations = refused;
        lab.run_until(55.0);
        let story = format!("{answers}\n{}", lab.story());
        assert_eq!(shared(&lab), 1, "{story}");
        assert_eq!(
            lab.kernel.exempt_listeners(),
            if answers { vec![100] } else { Vec::new() },
            "{story}"
        );
        let connected = lab.connected_to(100, 42.0, 54.0);
        assert_eq!(connected > 0.99, answers, "{connected} {story}");
        assert_eq!(lab.kernel.mitigations(100).contains(&Mitigation::Cookies), answers, "{story}");
    }
}

#[test]
fn tools_in_equal_shares_are_dropped_by_no_more_rules_than_tools() {
    let shapes = [Shape::Bare, Shape::BareEcn, Shape::RandomWindowMss];
    for tools in [2, 3] {
        let mut lab = hosts(1, Server::default());
        for shape in &shapes[..tools] {
            lab = lab.flood(Flood { shape: *shape, ..Flood::random(1000.0, 20.1..50.1) });
        }
        lab.run_until(40.0);
        let story = format!("{tools}\n{}", lab.story());
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{story}");
        assert!((2..=tools).contains(&lab.signature_rules().len()), "{story}");
        assert!(lab.installed.len() <= tools, "{story}");
        let listener = lab.listener_report(0);
        assert!(listener.dropped_rate > 0.97 * 1000.0 * tools as f64, "{listener:?} {story}");
        assert!(lab.installed.iter().all(|(at, _)| *at <= 28.0), "{story}");
        assert!(lab.connected(24.0, 39.0) > 0.99, "{} {story}", lab.connected(24.0, 39.0));
    }
}

#[test]
fn a_burst_that_begins_as_an_incident_ends_is_the_same_incident() {
    let lab = hosts(1, Server::default()).flood(Flood::random(500.0, 10.1..20.1));
    let mut alone = lab.clone();
    alone.run_until(60.0);
    let end = alone.times("attack_ended")[0];
    for before in [0.95, 0.7, 0.45, 0.2] {
        let burst = Flood::random(1000.0, end - before..end - before + 0.24);
        let mut lab = lab.clone().flood(burst);
        lab.run_until(end + 50.0);
        let story = format!("{before} before {end}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 1, "{story}");
        assert_eq!(lab.times("attack_ended").len(), 1, "{story}");
        assert_eq!(lab.times("handshakes_degraded").len(), 0, "{story}");
    }
}
