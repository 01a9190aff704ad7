//! Counters that stop, start again or vanish.

use tcpguard_engine::{
    ActionReport, EndReason, Event, IncidentClass, Listener, ListenerState, Mitigation, Mode,
};

use crate::sim::*;

#[test]
fn counters_that_start_again_are_no_alarm_and_end_no_attack() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(500.0))
        .flood(Flood::random(5000.0, 30.0..60.0));
    lab.run_until(20.0);
    lab.kernel.restart_counters();
    lab.run_until(29.9);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
    lab.run_until(40.0);
    lab.kernel.restart_counters();
    lab.run_until(59.0);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
    assert_eq!(lab.times("attack_ended").len(), 0, "{}", lab.story());
    assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed);
}

#[test]
fn missed_polls_are_no_alarm_and_lose_nothing() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients { rtt: 0.1..0.3, ..Clients::steady(500.0) });
    lab.deaf = Some((20.1, 25.9));
    lab.run_until(60.0);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());

    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood::random(5000.0, 10.0..40.0));
    lab.deaf = Some((20.1, 25.9));
    lab.run_until(30.0);
    let sent = 5000.0 * 20.0;
    let counted = lab.incident().counts.syns as f64;
    assert!((counted - sent).abs() < 0.02 * sent, "{counted}");
    assert_eq!(lab.installed.len(), 1, "{}", lab.story());
}

#[test]
fn a_listener_that_closes_ends_its_attack() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood { to: 1, ..Flood::random(5000.0, 10.0..20.0) });
    lab.run_until(20.0);
    assert_eq!(lab.incident().listener.port, 444);
    lab.kernel.close(1);
    lab.run_until(20.3);
    let ended = lab.alerts.last().expect("an alert");
    let Event::AttackEnded(facts) = &ended.event else { panic!("{ended:?}") };
    assert_eq!(facts.why, EndReason::ListenerGone);
    assert_eq!(lab.kernel.rules().count(), 0);
    assert_eq!(lab.report().listeners.len(), 1);
}

#[test]
fn listeners_are_judged_one_by_one() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .listener(Server::default())
        .clients(Clients::steady(500.0))
        .clients(Clients { to: 1, ..Clients::steady(10.0) })
        .flood(Flood { to: 1, ..Flood::random(300.0, 10.0..40.0) });
    lab.run_until(39.0);
    let report = lab.report();
    assert_eq!(report.incidents.len(), 1, "{}", lab.story());
    assert_eq!(report.incidents[0].listener.port, 444);
    assert_eq!(lab.connected_to(1, 12.0, 38.0), 1.0);
    assert_eq!(report.listeners[0].state, ListenerState::Ok);
    assert_eq!(report.listeners[1].state, ListenerState::Mitigating);
}

#[test]
fn more_incidents_than_can_be_monitored_are_one_of_the_host() {
    let mut lab = Lab::new(Mode::Enforce);
    for to in 0..14 {
        let until = if to == 13 { 120.0 } else { 50.0 };
        // Not at once, which would be one flood.
        let flood = Flood { to, ..Flood::random(400.0, 10.0 + 2.5 * to as f64..until) };
        lab = lab.listener(Server::default()).flood(flood);
    }
    lab.run_until(50.0);
    let alert = |lab: &Lab| {
        let of_host =
            lab.report().incidents.into_iter().filter(|one| one.listener == Listener::HOST);
        of_host.collect::<Vec<_>>()
    };
    assert_eq!(lab.report().incidents.len(), 9);
    let [all] = &alert(&lab)[..] else { panic!("one incident: {}", lab.story()) };
    assert_eq!(all.class, IncidentClass::RandomSpoofed);
    assert!((2350.0..2450.0).contains(&all.syn_rate), "six listeners: {}", all.syn_rate);
    assert_eq!(all.listeners, 6);
    let at_one = |action: &&ActionReport| match action.action {
        Event::ListenerJoined { class, .. } => class == IncidentClass::RandomSpoofed,
        _ => false,
    };
    let named = all.actions.iter().filter(at_one).count();
    assert_eq!(named, 6, "{:?}", all.actions);
    // Most floods end. The last one goes on and gets the slot of one of those, and the combined rest
    // is over.
    lab.run_until(110.0);
    assert_eq!(alert(&lab).len(), 0, "{}", lab.story());
    let report = lab.report();
    let past = report.past.iter().find(|past| past.listener == Listener::HOST).expect("it is kept");
    let last = past.actions.last().map(|last| &last.action);
    assert_eq!(last, Some(&Event::ListenersCounted { listeners: 6 }), "{past:?}");
    assert!((42_000..48_000).contains(&past.counts.syns), "75 s and 37.5 s: {}", past.counts.syns);
    assert!(past.peak_syn_rate < 2500.0);
    assert_eq!(report.incidents.len(), 1, "{}", lab.story());
    assert_eq!(report.incidents[0].listener.port, 443 + 13);
}

#[test]
fn the_end_of_combined_incidents_is_reported() {
    let mut lab = Lab::new(Mode::Observe);
    for to in 0..10 {
        let flood = Flood { to, ..Flood::random(400.0, 10.0..20.0) };
        lab = lab.listener(Server::default()).flood(flood);
    }
    lab.run_until(70.0);
    assert_eq!(lab.report().incidents.len(), 0, "{}", lab.story());
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
}

/// All alerts are about handshakes that fail, and report one attack by random sources.
fn assert_one_attack(lab: &Lab, name: &str) {
    let others =
        lab.alerts.iter().filter(|alert| alert.event.name().starts_with("incident_")).count();
    assert_eq!(others, 0, "{name}: {}", lab.story());
    assert_eq!(lab.times("attack_started").len(), 1, "{name}: {}", lab.story());
    assert_eq!(lab.times("attack_ended").len(), 1, "{name}: {}", lab.story());
    let attacks = lab.alerts.iter().filter(|alert| alert.event.name().starts_with("attack_"));
    let mut classes = attacks.filter_map(|alert| alert.incident.as_ref()).map(|alert| alert.class);
    assert!(classes.all(|class| class == IncidentClass::RandomSpoofed), "{name}: {}", lab.story());
}

#[test]
fn counters_that_the_kernels_cookies_move_are_no_trouble_of_their_own() {
    // tcpguard only observes, so that the kernel answers all of it: TCPReqQFullDoCookies and
    // SyncookiesSent grow by thousands a second, and the next listener's clients see none of it.
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server::default())
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .clients(Clients { to: 1, ..Clients::steady(100.0) })
        .flood(Flood { shape: Shape::Mix, ..Flood::random(5000.0, 20.1..50.1) });
    lab.run_until(20.0);
    let calm = lab.kernel.sample().tcp_ext;
    lab.run_until(49.0);
    let flooded = lab.kernel.sample().tcp_ext;
    assert!(flooded.syncookies_sent - calm.syncookies_sent > 100_000, "{flooded:?}");
    assert!(flooded.req_q_full_do_cookies - calm.req_q_full_do_cookies > 100_000, "{flooded:?}");
    assert_eq!(lab.listener_report(1).state, ListenerState::Ok);
    lab.run_until(90.0);
    assert_one_attack(&lab, "the kernel's cookies");
}

#[test]
fn counters_that_own_cookies_move_are_no_incident() {
    // In the larger queue there is room for all, so that the kernel makes no cookies of its own.
    for server in [Server::default(), Server { backlog: 16_384, ..Server::default() }] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(server)
            .listener(Server::default())
            .clients(Clients::steady(100.0))
            .clients(Clients { to: 1, ..Clients::steady(100.0) })
            .flood(Flood { shape: Shape::Mix, ..Flood::random(5000.0, 20.1..50.1) });
        lab.run_until(49.0);
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
        assert_eq!(lab.listener_report(1).state, ListenerState::Ok);
        lab.run_until(90.0);
        assert_one_attack(&lab, "cookies sent by XDP");
    }
}
