//! The slow path: few failures a second, for long enough.

use tcpguard_engine::{IncidentClass, ListenerState, Mode, Signal};

use crate::sim::*;

fn lab(clients: Clients) -> Lab {
    Lab::new(Mode::Enforce).listener(Server { backlog: 4096, ..Server::default() }).clients(clients)
}

#[test]
fn a_flood_of_a_twentieth_of_the_traffic_is_found_within_seconds() {
    for (legit, spoofed, seconds) in [(20.0, 10.0, 8.0), (200.0, 20.0, 8.0), (200.0, 100.0, 4.0)] {
        let mut lab = lab(Clients { lost: 0.01, ..Clients::steady(legit) })
            .flood(Flood::random(spoofed, 30.1..120.1));
        lab.run_until(120.0);
        let incident = lab.incident();
        assert_eq!(incident.signal, Signal::Slow, "{}", lab.story());
        assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{}", lab.story());
        let started = lab.times("attack_started");
        assert_eq!(started.len(), 1, "{}", lab.story());
        assert!(started[0] - 30.1 <= seconds, "{spoofed} among {legit}: {}", lab.story());
        lab.run_until(170.0);
        assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
    }
}

/// The naive way waits a second for clients of which nothing is known yet, and reports the flood after 1.04 s.
#[test]
fn an_agent_that_was_just_started_reports_as_quickly() {
    for phase in 0..10 {
        let began = 4.0 + f64::from(phase) * 0.025;
        let flood = Flood::random(1000.0, began..began + 4.0);
        let mut lab = lab(Clients { rtt: 0.0..0.001, ..Clients::steady(300.0) }).flood(flood);
        lab.run_until(began + 4.0);
        let alerted = lab.alerts.first().expect("a flood").at - began;
        assert!(alerted <= 0.8, "{alerted} {}", lab.story());
    }
}

/// With a memory of ten minutes the flood was learned as it grew, and never reported.
#[test]
fn a_flood_that_takes_two_hours_to_grow_is_no_more_natural_for_that() {
    let grows = Flood { ramp: Some(7200.0), ..Flood::random(20.0, 600.0..7800.0) };
    let mut lab = lab(Clients { lost: 0.01, ..Clients::steady(20.0) }).flood(grows);
    let of_six = 600.0 + 7200.0 * 6.0 / 20.0;
    lab.run_until(of_six);
    let alerted = lab.alerts.first().map(|alerted| alerted.event.name());
    assert!(alerted.is_some(), "nothing at 6 SYN/s: {}", lab.story());
}

#[test]
fn clients_on_a_mobile_network_that_lose_one_in_fifty_are_quiet() {
    let mobile = Clients { lost: 0.02, rtt: 0.1..0.8, ..Clients::steady(200.0) };
    let mut lab = lab(mobile);
    lab.run_until(300.0);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
}

#[test]
fn a_distant_flash_crowd_is_suspected_and_dismissed_by_its_flows() {
    let mut lab = lab(Clients::steady(100.0)).clients(Clients {
        from: 30.0,
        until: 50.0,
        rtt: 0.4..0.6,
        ..Clients::steady(1500.0)
    });
    lab.run_until(100.0);
    assert!(
        lab.alerts.iter().all(|alerted| alerted.event.name().starts_with("incident_")),
        "{}",
        lab.story()
    );
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
}

#[test]
fn clients_that_retry_at_a_dead_server_are_no_flood() {
    // A firewall behind XDP drops their SYNs: nothing is answered, everything is retransmitted.
    let dead = Outage::of(0.0..200.0, 1.0);
    let mut lab = lab(Clients::steady(20.0))
        .listener(Server { dead: true, ..Server::default() })
        .clients(Clients { to: 1, outage: Some(dead), ..Clients::steady(60.0) });
    lab.run_until(120.0);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
}

#[test]
fn a_swarm_of_peers_that_mostly_give_up_makes_no_rule() {
    // Peer-to-peer: many addresses, a third of which are gone before the reply arrives.
    let swarm = Clients { lost: 0.3, rtt: 0.05..0.4, ..Clients::steady(30.0) };
    let mut lab = lab(swarm);
    lab.run_until(200.0);
    assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
}

#[test]
fn where_only_what_arrives_is_seen_a_flood_is_found_and_the_verdict_is_less_sure() {
    let mut lab = lab(Clients::steady(50.0)).flood(Flood::random(2000.0, 10.1..30.1));
    lab.kernel.one_sided = true;
    lab.run_until(30.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{}", lab.story());
    assert!(incident.evidence.holding() == 4 && incident.evidence.replies_unseen, "{incident:?}");
}
