//! Floods that no listener sees: of closed ports, and in frames that the XDP program cannot read.

use tcpguard_engine::{
    Event, IncidentClass, ListenerId, ListenerState, Mitigation, Mode, Route, Severity, Signal,
};

use crate::sim::*;

const NO_COOKIES: Server =
    Server { backlog: 128, cookies: false, traced: true, accepting: true, dead: false };

fn lab(mode: Mode, server: Server, flood: Flood) -> Lab {
    Lab::new(mode).listener(server).clients(Clients::steady(50.0)).flood(flood)
}

/// One at closed ports, from the tenth second on.
fn closed(rate: f64, until: f64) -> Flood {
    Flood { closed: Some(1), ..Flood::random(rate, 10.1..until) }
}

/// One in such frames, from the tenth second on.
fn unread(frames: Frames, rate: f64, until: f64) -> Flood {
    Flood { frames, ..Flood::random(rate, 10.1..until) }
}

#[test]
fn of_a_flood_of_closed_ports_the_stack_refuses_a_few_and_the_others_are_dropped() {
    let mut lab = lab(Mode::Enforce, Server::default(), closed(20_000.0, 20.1));
    lab.run_until(12.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::ClosedPorts, "{}", lab.story());
    assert_eq!((incident.severity, incident.signal), (Severity::Warning, Signal::Host));
    assert_eq!(incident.listener_id, ListenerId::HOST);
    assert!((10.5..11.0).contains(&seconds(incident.detected)), "{incident:?}");
    assert!(incident.stopped_rate > 0.9 * incident.syn_rate, "{incident:?}");
    let before = lab.kernel.host;
    lab.run_until(20.0);
    let after = lab.kernel.host;
    let refused = after.refused - before.refused;
    assert!((1500..=1700).contains(&refused), "200 a second: {refused}");
    assert!(after.closed_dropped - before.closed_dropped > 150_000);
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
    assert!(lab.connected(10.0, 19.0) >= 0.999, "{}", lab.story());
    lab.run_until(60.0);
    let events: Vec<_> = lab.alerts.iter().map(|alert| alert.event.name()).collect();
    assert_eq!(events, ["attack_started", "attack_ended"], "{}", lab.story());
    let Event::AttackEnded(facts) = &lab.alerts[1].event else { panic!("{}", lab.story()) };
    assert!(facts.dropped > 0 && facts.completed == 0, "{facts:?}");
}

#[test]
fn once_it_is_over_every_closed_port_is_refused_again() {
    let scan = Flood { closed: Some(20), ..Flood::random(500.0, 60.0..62.0) };
    let mut lab = lab(Mode::Enforce, Server::default(), closed(20_000.0, 15.1)).flood(scan);
    lab.run_until(59.0);
    let before = lab.kernel.host;
    lab.run_until(63.0);
    let after = lab.kernel.host;
    assert_eq!(after.closed_over, before.closed_over, "{}", lab.story());
    assert!(after.refused - before.refused > 950);
}

#[test]
fn in_observe_mode_alerts_say_what_enforce_mode_would_do() {
    let mut lab = lab(Mode::Observe, Server::default(), closed(20_000.0, 20.1));
    lab.run_until(19.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::ClosedPorts, "{}", lab.story());
    assert_eq!((incident.counts.dropped, lab.kernel.host.closed_dropped), (0, 0));
    assert!(incident.counts.matched > 100_000, "{incident:?}");
    let Event::AttackStarted(facts) = &lab.alerts[0].event else { panic!("{}", lab.story()) };
    assert_eq!(facts.mode, Mode::Observe);
    let limited = Event::ClosedPortsLimited { per_second: 200, enforced: false };
    assert_eq!(incident.actions[0].action, limited);
}

/// The resets leave unseen, to sources behind a bridge and on a link where no neighbour has the addresses.
#[test]
fn a_flood_of_a_closed_port_whose_resets_are_not_seen_is_dropped_like_any_other() {
    for route in [Route::Elsewhere(9), Route::Unresolved, Route::Nowhere] {
        let net = "172.17.0.0/16".parse().expect("a network");
        let flood = Flood { sources: Sources::Within(net), ..closed(20_000.0, 20.1) };
        let mut lab = lab(Mode::Enforce, Server::default(), flood);
        lab.kernel.routes = vec![(net, route)];
        lab.run_until(12.0);
        if route == Route::Nowhere {
            lab.run_until(25.0);
            assert_eq!(lab.alerts.len(), 0, "the kernel drops them: {}", lab.story());
            continue;
        }
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::ClosedPorts, "{route:?}: {}", lab.story());
        assert!((10.5..11.0).contains(&seconds(incident.detected)), "{incident:?}");
        let before = lab.kernel.host;
        lab.run_until(20.0);
        let after = lab.kernel.host;
        let (resets, dropped) =
            (after.resets - before.resets, after.closed_dropped - before.closed_dropped);
        assert!((1500..=1700).contains(&resets) && dropped > 150_000, "{resets}, {dropped}");
        assert_eq!(after.refused, 0, "none is seen");
        lab.run_until(60.0);
        let events: Vec<_> = lab.alerts.iter().map(|alert| alert.event.name()).collect();
        assert_eq!(events, ["attack_started", "attack_ended"], "{}", lab.story());
    }
}

#[test]
fn a_fast_scan_of_closed_ports_is_no_flood() {
    let scan = Flood { sources: Sources::Bots(1), ..closed(5000.0, 20.1) };
    let mut lab = lab(Mode::Enforce, Server::default(), Flood { closed: Some(5000), ..scan });
    lab.run_until(30.0);
    let floods = lab.alerts.iter().filter(|alert| alert.event.name() == "attack_started").count();
    assert_eq!(floods, 0, "{}", lab.story());
    assert_eq!(lab.kernel.host.closed_over, 0);
}

#[test]
fn fragments_that_no_stack_sends_are_a_flood_of_the_host_and_none_at_the_listener() {
    let mut lab = lab(Mode::Observe, Server::default(), unread(Frames::Fragments, 1000.0, 20.1));
    lab.run_until(12.5);
    let incidents = lab.report().incidents;
    let [incident] = &incidents[..] else { panic!("one incident: {}", lab.story()) };
    assert_eq!(incident.class, IncidentClass::Evasion, "{}", lab.story());
    assert_eq!(incident.severity, Severity::Critical);
    assert_eq!(incident.signal, Signal::Host);
    assert!((10.5..11.3).contains(&seconds(incident.detected)), "{incident:?}");
    assert!((900.0..1100.0).contains(&incident.syn_rate), "{incident:?}");
    assert_eq!(incident.counts.dropped, 0);
    let listener = lab.listener_report(0);
    assert_eq!(listener.state, ListenerState::Suspect, "{}", lab.story());
    assert!(listener.reaching_rate > 800.0, "its stack answers them: {listener:?}");
    let dropped = Event::UnreadableDropped { enforced: false };
    assert_eq!(incident.actions[0].action, dropped, "{}", lab.story());
    // Its half-open handshakes take the slots for another minute.
    lab.run_until(85.0);
    let events: Vec<_> = lab.alerts.iter().map(|alert| alert.event.name()).collect();
    assert_eq!(events, ["attack_started", "attack_ended"], "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
}

#[test]
fn in_enforce_mode_none_of_them_reaches_the_stack() {
    let mut lab = lab(Mode::Enforce, NO_COOKIES, unread(Frames::Fragments, 1000.0, 20.1));
    lab.run_until(20.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::Evasion, "{}", lab.story());
    assert!(
        incident.counts.dropped > 9000 && incident.stopped_rate >= incident.syn_rate,
        "{incident:?}"
    );
    assert!(lab.kernel.half_open(0) < 32, "only clients' handshakes");
    assert!(lab.connected(10.0, 19.0) >= 0.999, "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
}

/// Frames that some networks have, so that they are dropped only once they are seen to be a flood.
#[test]
fn what_cannot_be_read_is_dropped_when_it_fills_the_queue_and_the_queue_is_cleared_of_it() {
    // Without cookies of the stack or of XDP, clients wait for the queue.
    for server in [NO_COOKIES, Server::default()] {
        let few = Flood { frames: Frames::Deep, ..Flood::random(20.0, 60.0..62.0) };
        let flood = unread(Frames::Deep, 1000.0, 25.1);
        let mut lab = lab(Mode::Enforce, server, flood).flood(few);
        lab.run_until(25.0);
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::Evasion, "{}", lab.story());
        assert!(incident.counts.dropped > 13_000, "{incident:?}");
        assert!(lab.connected(13.0, 24.0) >= 0.999, "{}", lab.story());
        assert!(lab.kernel.half_open(0) < 32, "{}", lab.kernel.half_open(0));
        lab.run_until(59.0);
        assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
        let before = lab.kernel.host;
        lab.run_until(63.0);
        let after = lab.kernel.host;
        assert_eq!(after.beyond_dropped, before.beyond_dropped, "they pass again");
        assert!(after.beyond_passed > before.beyond_passed + 20);
    }
}

/// Slowly, so that the kernel's own cookies serve the clients.
#[test]
fn a_queue_that_unread_frames_fill_is_reported() {
    let mut lab = lab(Mode::Observe, Server::default(), unread(Frames::Deep, 20.0, 60.0));
    lab.run_until(10.0);
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
    lab.run_until(30.0);
    assert!(lab.report().incidents.is_empty(), "{}", lab.story());
    let listener = lab.listener_report(0);
    assert!(listener.queues.is_some_and(|queues| queues.half_open >= Some(122)), "{listener:?}");
    assert_eq!(listener.state, ListenerState::Suspect);
    assert!(lab.connected(20.0, 29.0) >= 0.999, "{}", lab.story());
}

/// A rule against the smaller part of a flood protects no listener.
#[test]
fn a_listener_is_protected_while_most_of_what_comes_is_kept_from_its_stack() {
    let alike = Flood { shape: Shape::Mix, ..Flood::random(20_000.0, 15.1..40.1) };
    let fixed_fingerprint = Flood::random(5000.0, 10.1..40.1);
    let mut lab = lab(Mode::Enforce, Server::default(), fixed_fingerprint).flood(alike);
    lab.refuse_mitigations = vec![Mitigation::Cookies, Mitigation::Budget];
    lab.run_until(15.0);
    assert_eq!(lab.listener_report(0).state, ListenerState::Mitigating, "{}", lab.story());
    lab.run_until(22.0);
    let listener = lab.listener_report(0);
    assert!(!lab.incident().rules.is_empty(), "{}", lab.story());
    assert!(listener.reaching_rate > 2.0 * listener.dropped_rate, "{listener:?}");
    assert_eq!(listener.state, ListenerState::Attacked, "{}", lab.story());
}

/// Frames of a tunnel protocol that the XDP program does not read.
#[test]
fn unread_frames_without_handshakes_are_no_flood() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(50.0));
    for poll in 0..80 {
        lab.kernel.host.beyond_passed += 5000;
        lab.kernel.host.beyond_routed += 5000;
        lab.run_until(10.0 + 0.25 * f64::from(poll));
    }
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
}
