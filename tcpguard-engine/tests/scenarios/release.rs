//! Hysteresis: one attack is one incident, however it pulses, and it ends when it ends.

use tcpguard_engine::{
    IncidentClass, Mode, RemovalReason, Rule, RuleReason, Settings, Severity, SignatureBasis,
};

use crate::sim::*;

#[test]
fn a_pulsed_flood_of_five_minutes_is_one_incident_with_one_rule() {
    for pulses in [(0.5, 2.75), (0.5, 10.0)] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients { lost: 0.01, ..Clients::steady(100.0) })
            .flood(Flood { pulses: Some(pulses), ..Flood::random(20_000.0, 10.1..310.1) });
        lab.run_until(345.0);
        assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
        assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
        assert_eq!(lab.installed.len(), 1, "{}", lab.story());
        let last_pulse = 310.1 - pulses.1;
        assert!(lab.times("attack_ended")[0] >= last_pulse + 20.0, "{}", lab.story());
        assert!(lab.connected(12.0, 344.0) > 0.98);
    }
}

#[test]
fn in_a_floods_pauses_the_normally_lost_clients_do_not_change_the_verdict() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients { lost: 0.03, ..Clients::steady(1000.0) })
        .flood(Flood { pulses: Some((0.5, 10.0)), ..Flood::random(20_000.0, 30.1..130.1) });
    lab.run_until(130.0);
    assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
    assert_eq!(lab.installed.len(), 1, "{}", lab.story());
}

#[test]
fn a_steady_flood_of_five_minutes_is_reported_once() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood::random(5000.0, 10.1..310.1));
    lab.run_until(345.0);
    let events: Vec<_> = lab.alerts.iter().map(|alert| alert.event.name()).collect();
    assert_eq!(events, ["attack_started", "rule_installed", "attack_ended"], "{}", lab.story());
    assert_eq!(lab.removed[0].2, RemovalReason::IncidentOver);
    let ended = lab.alerts.last().expect("the end");
    assert_eq!(ended.event.severity(), Severity::Notice);
    let incident = ended.incident.as_ref().expect("its incident");
    // Its end is its last SYN, though that is known only after half a minute, whose clients are not counted.
    let end = seconds(incident.ended.expect("an end"));
    assert!((309.8..310.6).contains(&end) && ended.at >= end + 30.0, "{end} {}", ended.at);
    assert!((14_500..15_600).contains(&incident.counts.completed), "{}", incident.counts.completed);
    assert_eq!(lab.report().past.len(), 1);
    assert_eq!(lab.report().incidents.len(), 0);
    let rule = &lab.installed[0].1;
    assert_eq!(rule.expires.since(rule.created).as_secs(), 60, "renewed by its hits, not longer");
}

#[test]
fn it_ends_in_time_among_irregular_clients() {
    for (rate, flood) in [(20.0, 1e4), (200.0, 1e4), (2000.0, 2e4)] {
        for mode in [Mode::Observe, Mode::Enforce] {
            let clients = Clients {
                arrivals: Arrivals::Poisson,
                population: Some(Population::new(7)),
                natural: Natural::normal(),
                ..Clients::steady(rate)
            };
            let mut lab = Lab::seeded(Settings::default(), mode, 7)
                .listener(Server { backlog: 4096, ..Server::default() })
                .clients(clients)
                .flood(Flood::random(flood, 30.1..40.1));
            lab.run_until(80.0);
            let (started, ended) = (lab.times("attack_started"), lab.times("attack_ended"));
            assert_eq!((started.len(), ended.len()), (1, 1), "{rate}: {}", lab.story());
            assert!((70.1..=75.1).contains(&ended[0]), "{rate}: {}", lab.story());
        }
    }
}

#[test]
fn a_rate_that_grows_fourfold_is_reported_at_once() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .flood(Flood::random(2000.0, 10.0..40.0))
        .flood(Flood::random(30_000.0, 15.0..40.0));
    lab.run_until(40.0);
    let updates = lab.times("attack_updated");
    assert!((15.0..16.5).contains(&updates[0]), "{}", lab.story());
    assert!(updates.len() <= 2, "{}", lab.story());
}

#[test]
fn actions_are_reported_once_a_minute() {
    // Another tool every 30 s, each with a rule of its own, which ends when nothing has hit it for a
    // minute.
    const TOOLS: [Shape; 4] =
        [Shape::Bare, Shape::RandomWindowMss, Shape::BareEcn, Shape::RandomTtl];
    let mut lab =
        Lab::new(Mode::Enforce).listener(Server::default()).clients(Clients::steady(50.0));
    for (turn, shape) in (0..10).zip(TOOLS.into_iter().cycle()) {
        let from = 10.0 + 30.0 * f64::from(turn);
        lab = lab.flood(Flood { shape, ..Flood::random(5000.0, from..from + 30.0) });
    }
    lab.run_until(310.0);
    assert!(lab.removed.len() >= 5, "{}", lab.story());
    let updates = lab.times("attack_updated");
    assert!((2..=5).contains(&updates.len()), "{}", lab.story());
    assert!(updates.windows(2).all(|pair| pair[1] - pair[0] >= 60.0), "{}", lab.story());
}

#[test]
fn after_an_attack_the_next_one_meets_the_old_rule_sooner() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients { from: 10.0, ..Clients::steady(20.0) })
        .flood(Flood::random(20_000.0, 10.1..20.1))
        .flood(Flood::random(20_000.0, 300.1..310.1))
        .flood(Flood::random(20_000.0, 1300.1..1310.1));
    lab.run_until(1311.0);
    let started = lab.times("attack_started");
    let delays: Vec<f64> =
        started.iter().zip([10.1, 300.1, 1300.1]).map(|(at, from)| at - from).collect();
    assert!(delays[1] <= 0.5, "armed: one poll is enough: {delays:?}");
    assert!(delays[0] > 0.5 && delays[2] > 0.5, "not armed: {delays:?}");
    assert_eq!(lab.installed[1].0, started[1], "the rule comes with the alarm");
    let remembered = |rule: &Rule| match rule.reason {
        RuleReason::Signature { basis, .. } => basis == SignatureBasis::LastAttack,
        _ => false,
    };
    assert!(remembered(&lab.installed[1].1) && !remembered(&lab.installed[2].1));
}

#[test]
fn a_rule_that_nothing_hits_ends_while_its_attack_goes_on() {
    // The tool is changed after ten seconds.
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood::random(5000.0, 10.0..20.0))
        .flood(Flood { shape: Shape::RandomWindowMss, ..Flood::random(5000.0, 20.0..120.0) });
    lab.run_until(110.0);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
    assert_eq!(lab.installed.len(), 2, "{}", lab.story());
    assert!(lab.installed[1].0 < 32.0, "{}", lab.story());
    let (ended, rule, why) = &lab.removed[0];
    assert_eq!((rule.id, why), (lab.installed[0].1.id, &RemovalReason::NoHits));
    assert!((78.0..86.0).contains(ended), "a minute after its last hits: {ended}");
}
