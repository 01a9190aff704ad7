//! Traffic that is no attack, and must not be treated like one.

use tcpguard_engine::{Event, IncidentClass, ListenerState, Mode, Settings, Severity, Signal};

use crate::sim::*;

/// Plays a minute and says that nothing happened.
fn nothing_happens(mut lab: Lab) -> Lab {
    lab.run_until(60.0);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0);
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
    lab
}

fn lab() -> Lab {
    Lab::new(Mode::Enforce).listener(Server { backlog: 4096, ..Server::default() })
}

/// SYN/s over one second at which other tools raise an alarm (ntopng's default).
const NAIVE_LIMIT: f64 = 256.0;

#[test]
fn a_flash_crowd_is_named_and_served_where_a_syn_rate_would_call_it_an_attack() {
    for rtt in [0.15..0.15, 0.05..0.3, 0.3..0.3] {
        let steady = Clients { rtt: rtt.clone(), ..Clients::steady(100.0) };
        let crowd = Clients { from: 20.0, until: 40.0, rtt, ..Clients::steady(2000.0) };
        let mut lab = lab().clients(steady).clients(crowd);
        lab.run_until(30.0);
        let rate = lab.listener_report(0).syn_rate;
        assert!(rate > NAIVE_LIMIT, "a threshold on the rate would shout: {rate}");
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::FlashCrowd, "{}", lab.story());
        assert_eq!(incident.severity, Severity::Notice);
        assert_eq!(incident.signal, Signal::SynRate);
        assert!((80.0..140.0).contains(&incident.evidence.baseline_syn_rate), "{incident:?}");
        assert!((20.0..21.0).contains(&seconds(incident.started)), "{incident:?}");
        assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
        lab.run_until(80.0);
        let events: Vec<_> = lab.alerts.iter().map(|alert| alert.event.name()).collect();
        assert_eq!(events, ["incident_started", "incident_ended"], "{}", lab.story());
        assert_eq!(lab.installed.len(), 0);
        assert_eq!(lab.connected(1.0, 78.0), 1.0);
    }
}

#[test]
fn the_notice_of_a_flash_crowd_has_the_rate_and_the_baseline() {
    let mut lab = lab()
        .clients(Clients::steady(50.0))
        .clients(Clients { from: 20.0, ..Clients::steady(950.0) });
    lab.run_until(24.0);
    let Event::IncidentStarted(facts) = &lab.alerts[0].event else { panic!("{}", lab.story()) };
    assert_eq!(facts.class, IncidentClass::FlashCrowd);
    assert!((900.0..1100.0).contains(&facts.syn_rate), "{facts:?}");
    assert!((45.0..60.0).contains(&facts.baseline_syn_rate), "{facts:?}");
    assert!(facts.completion > 0.99, "{facts:?}");
}

#[test]
fn a_flash_crowd_that_turns_into_failed_handshakes_is_reported_again() {
    let mut lab = lab()
        .clients(Clients::steady(50.0))
        .clients(Clients { from: 20.0, until: 60.0, ..Clients::steady(500.0) })
        .flood(Flood::random(20_000.0, 30.1..50.1));
    lab.run_until(29.0);
    assert_eq!(lab.incident().class, IncidentClass::FlashCrowd, "{}", lab.story());
    lab.run_until(45.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{}", lab.story());
    assert!((30.0..31.5).contains(&seconds(incident.detected)), "{incident:?}");
    assert_eq!(lab.report().past[0].class, IncidentClass::FlashCrowd);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
}

#[test]
fn the_same_rate_unanswered_by_the_clients_is_loud() {
    let mut lab = lab().clients(Clients::steady(100.0)).flood(Flood::random(2000.0, 20.0..40.0));
    lab.run_until(21.0);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
}

#[test]
fn a_burst_of_connects_in_flight_is_no_failure() {
    let burst = |rtt| Clients { from: 20.1, until: 20.2, rtt, ..Clients::steady(20_000.0) };
    for rtt in [0.15..0.15, 0.3..0.3, 0.45..0.5] {
        nothing_happens(lab().clients(burst(rtt)));
    }
}

#[test]
fn small_bursts_are_quiet() {
    // Both are in public captures: 38 SYNs without a completed handshake, and 41 handshakes in 69
    // ms.
    let syns = Flood::random(380.0, 20.0..20.1);
    let handshakes = Clients { from: 30.0, until: 30.069, ..Clients::steady(41.0 / 0.069) };
    nothing_happens(lab().flood(syns).clients(handshakes));
}

#[test]
fn half_open_health_checks_are_quiet() {
    let probes = Flood {
        resets: true,
        sources: Sources::One([192, 0, 2, 9].into()),
        ..Flood::random(20.0, 0.0..60.0)
    };
    nothing_happens(lab().clients(Clients::steady(50.0)).flood(probes.clone()));
    nothing_happens(lab().flood(probes));
}

#[test]
fn lost_clients_are_quiet() {
    nothing_happens(lab().clients(Clients { lost: 0.02, ..Clients::steady(500.0) }));
}

#[test]
fn an_application_that_stops_accepting_is_no_attack() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(200.0));
    lab.run_until(20.0);
    lab.kernel.set_accepting(0, false);
    lab.run_until(60.0);
    assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::ListenerOverload, "{}", lab.story());
    assert_eq!(incident.severity, Severity::Warning);
    assert!((20.0..26.0).contains(&seconds(incident.started)), "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Overloaded);
    let completions = lab.listener_report(0).completions;
    let baseline = completions.baseline.expect("a baseline");
    assert!((180.0..220.0).contains(&baseline), "frozen while it is on: {completions:?}");
    lab.kernel.set_accepting(0, true);
    lab.run_until(95.0);
    assert_eq!(lab.times("incident_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.alerts.len(), 2, "one incident: {}", lab.story());
}

#[test]
fn clients_that_stop_do_not_fail() {
    let mut lab = lab().clients(Clients { until: 120.0, ..Clients::steady(20.0) });
    lab.run_until(119.0);
    let ratio = |lab: &Lab| lab.listener_report(0).completions.ratio();
    assert!(ratio(&lab).is_some_and(|ratio| ratio > 0.9), "{}", lab.story());
    for second in 120..140 {
        lab.run_until(f64::from(second));
        assert!(ratio(&lab).is_none_or(|ratio| ratio > 0.9), "{second}: {:?}", ratio(&lab));
    }
}

#[test]
fn clients_cut_off_from_the_answers_are_degraded_handshakes_and_no_rule_is_made() {
    for share in [0.05, 0.2, 0.6, 1.0] {
        let outage = Some(Outage::of(20.0..30.0, share));
        let mut lab = lab().clients(Clients { outage, ..Clients::steady(300.0) });
        lab.run_until(70.0);
        assert_eq!(lab.times("attack_started").len(), 0, "{share}: {}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{share}: {}", lab.story());
        for alert in &lab.alerts {
            let incident = alert.incident.as_ref().expect("an incident");
            assert_eq!(incident.class, IncidentClass::HandshakeDegraded);
        }
        if share == 1.0 {
            assert_eq!(lab.times("handshakes_degraded").len(), 1, "{}", lab.story());
            assert_eq!(lab.times("handshakes_recovered").len(), 1, "{}", lab.story());
        }
    }
}

#[test]
fn an_office_behind_one_address_that_loses_its_path_is_not_an_attacker() {
    let mut lab = lab().clients(Clients::steady(20.0)).clients(Clients {
        behind: Some([192, 0, 2, 1].into()),
        outage: Some(Outage::of(20.0..30.0, 1.0)),
        ..Clients::steady(200.0)
    });
    lab.run_until(70.0);
    assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
    assert_eq!(lab.times("handshakes_degraded").len(), 1, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
}

#[test]
fn clients_at_one_distance_that_come_once_each_and_lose_their_path_are_no_attackers() {
    // Seen only now: nothing is known of them but that they fail.
    for shape in [Shape::Linux, Shape::FarLinux] {
        let new_clients = Clients {
            from: 20.0,
            until: 30.0,
            shape: Some(shape),
            outage: Some(Outage::of(20.0..30.0, 1.0)),
            ..Clients::steady(300.0)
        };
        let mut lab = lab()
            .clients(Clients { shape: Some(shape), ..Clients::steady(30.0) })
            .clients(new_clients);
        lab.run_until(80.0);
        assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
        assert_eq!(lab.times("handshakes_degraded").len(), 1, "{}", lab.story());
        assert_eq!((lab.installed.len(), lab.mitigations.len()), (0, 0), "{}", lab.story());
    }
}

#[test]
fn a_provider_or_an_office_that_loses_its_path_is_no_attacker_among_irregular_clients() {
    let office: std::net::IpAddr = [192, 0, 2, 1].into();
    let population = Population::new(11);
    let normal = |rate| Clients {
        arrivals: Arrivals::Poisson,
        population: Some(population.clone()),
        natural: Natural::normal(),
        ..Clients::steady(rate)
    };
    for (behind, whom) in
        [(None, Whom::Isp(0)), (None, Whom::Isp(3)), (Some(office), Whom::Clients)]
    {
        let outage = Some(Outage { whom, ..Outage::of(60.0..90.0, 1.0) });
        let hit = Clients { behind, outage, ..normal(100.0) };
        let mut lab = Lab::seeded(Settings::default(), Mode::Enforce, 11)
            .listener(Server { backlog: 4096, ..Server::default() })
            .clients(normal(100.0))
            .clients(hit);
        lab.run_until(130.0);
        assert_eq!(lab.times("attack_started").len(), 0, "{whom:?}: {}", lab.story());
        assert_eq!(
            (lab.installed.len(), lab.mitigations.len()),
            (0, 0),
            "{whom:?}: {}",
            lab.story()
        );
    }
}

#[test]
fn an_outage_of_every_client_that_has_never_been_seen_before_makes_no_rule_either() {
    let outage = Some(Outage::of(0.0..30.0, 1.0));
    let mut lab = lab().clients(Clients { outage, from: 10.0, ..Clients::steady(300.0) });
    lab.run_until(30.0);
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
}

#[test]
fn clients_that_all_look_the_same_and_fail_from_the_start_are_not_locked_out() {
    let nat: std::net::IpAddr = [192, 0, 2, 1].into();
    for behind in [None, Some(nat)] {
        let mut lab = lab().clients(Clients {
            outage: Some(Outage::of(0.0..30.0, 1.0)),
            from: 10.0,
            shape: Some(Shape::Linux),
            behind,
            ..Clients::steady(300.0)
        });
        lab.run_until(70.0);
        assert_eq!(lab.connected(31.0, 68.0), 1.0, "{}", lab.story());
        assert_eq!(lab.kernel.rules().count(), 0, "{}", lab.story());
    }
}
