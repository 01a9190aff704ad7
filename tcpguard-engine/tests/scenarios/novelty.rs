//! The sixth indicator: whether the failed sources have been here before.

use std::sync::Arc;
use std::time::Duration;

use tcpguard_engine::{
    IncidentClass, IncidentReport, Indicator, IndicatorName, Learned, LearnedError, Mode, Quantity,
};
use tcpguard_goals::size;

use crate::sim::*;

/// Time at which tcpguard has seen 98 % of the 5,000 networks of 200 clients a second, s.
const WARM: f64 = 100.0;

fn clients(rate: f64, population: &Arc<Population>) -> Clients {
    Clients {
        arrivals: Arrivals::Poisson,
        natural: Natural::normal(),
        population: Some(population.clone()),
        ..Clients::steady(rate)
    }
}

fn lab() -> Lab {
    Lab::new(Mode::Enforce).listener(Server { backlog: 4096, ..Server::default() })
}

/// A flood of SYNs with the fingerprints of the clients.
fn mimicking(rate: f64, time: std::ops::Range<f64>) -> Flood {
    Flood { shape: Shape::Mimicking, ..Flood::random(rate, time) }
}

fn novel(incident: &IncidentReport) -> Indicator {
    let mut all = incident.evidence.indicators.iter();
    let item = all.find(|item| item.name == IndicatorName::Novel);
    item.expect("the sixth item").clone()
}

/// The value of a quantity of that indicator.
fn value(incident: &IncidentReport, what: Quantity) -> Option<f64> {
    novel(incident).measured.iter().find(|one| one.what == what)?.value
}

fn learned_in(seconds: f64, clients: Clients) -> Learned {
    let mut lab = lab().clients(clients);
    lab.run_until(seconds);
    lab.engine.learned()
}

#[test]
fn a_flood_that_copies_a_tenth_of_the_clients_is_named() {
    let population = Population::new(1);
    for rate in [20.0, 30.0, 40.0] {
        let mut lab = lab()
            .clients(clients(200.0, &population))
            .flood(mimicking(rate, WARM + 0.1..WARM + 60.0));
        lab.run_until(WARM + 30.0);
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{rate}: {}", lab.story());
        assert!(novel(&incident).holds, "{:?}", incident.evidence.indicators);
        assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
        assert_eq!(
            lab.installed.len(),
            0,
            "nothing distinguishes it from clients: {}",
            lab.story()
        );
    }
}

/// The flood begins with the agent, so that nothing but the number of its sources shows what it is.
#[test]
fn the_first_alert_about_a_flood_does_not_say_that_it_is_none() {
    let population = Population::new(1);
    for rate in [2_000.0, 5_000.0, 20_000.0] {
        let flood = mimicking(rate, 0.6..20.0);
        let mut lab = lab().clients(clients(50.0, &population)).flood(flood);
        lab.run_until(10.0);
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{rate}: {}", lab.story());
        assert_eq!(lab.times("handshakes_degraded"), [0.0; 0], "{rate}: {}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 1, "{rate}: {}", lab.story());
    }
}

#[test]
fn without_memory_it_is_only_a_broken_path() {
    let population = Population::new(1);
    let mut lab = lab().clients(clients(200.0, &population)).flood(mimicking(30.0, 3.1..60.0));
    lab.run_until(30.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::HandshakeDegraded, "{}", lab.story());
    assert!(!novel(&incident).holds, "{:?}", incident.evidence.indicators);
}

#[test]
fn a_flash_crowd_of_new_clients_is_no_attack() {
    let (population, new_clients) = (Population::new(1), Population::new(2));
    let flash_crowd = Clients { from: WARM, until: WARM + 120.0, ..clients(2000.0, &new_clients) };
    let mut lab = lab().clients(clients(100.0, &population)).clients(flash_crowd);
    lab.run_until(WARM + 160.0);
    assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
    assert_eq!(lab.times("handshakes_degraded").len(), 0, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0);
}

#[test]
fn a_region_that_comes_for_the_first_time_over_a_broken_path_is_no_attack() {
    let (population, new_clients) = (Population::new(1), Population::new(2));
    for rate in [30.0, 100.0, 400.0] {
        let region = Clients {
            from: WARM,
            outage: Some(Outage::of(WARM..WARM + 40.0, 1.0)),
            ..clients(rate, &new_clients)
        };
        let mut lab = lab().clients(clients(200.0, &population)).clients(region);
        lab.run_until(WARM + 20.0);
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::HandshakeDegraded, "{rate}: {}", lab.story());
        assert!(value(&incident, Quantity::RetransmittedShare) > Some(0.35), "{incident:?}");
        lab.run_until(WARM + 100.0);
        assert_eq!(lab.times("attack_started").len(), 0, "{rate}: {}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{rate}: {}", lab.story());
    }
}

#[test]
fn an_outage_of_known_networks_is_evidence_against_an_attack() {
    let population = Population::new(1);
    for (share, whom) in [(0.2, Whom::Isps), (0.6, Whom::Clients), (0.0, Whom::Isp(0))] {
        let outage = Outage { whom, ..Outage::of(WARM..WARM + 20.0, share) };
        let mut lab =
            lab().clients(Clients { outage: Some(outage), ..clients(200.0, &population) });
        lab.run_until(WARM + 10.0);
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::HandshakeDegraded, "{whom:?}: {}", lab.story());
        assert!(!novel(&incident).holds, "{whom:?}: {incident:?}");
        assert!(value(&incident, Quantity::KnownNetworksShare) >= Some(0.7), "{whom:?}");
        lab.run_until(WARM + 60.0);
        assert_eq!(lab.times("attack_started").len(), 0, "{whom:?}: {}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{whom:?}: {}", lab.story());
    }
}

#[test]
fn a_flood_spoofing_clients_is_classified_once_no_syn_is_retransmitted() {
    let population = Population::new(1);
    let flood = Flood { sources: Sources::Clients, ..mimicking(2000.0, WARM + 0.1..WARM + 60.0) };
    let mut lab = lab().clients(clients(200.0, &population)).flood(flood);
    lab.run_until(WARM + 10.0);
    let incident = lab.incident();
    assert!(incident.class.is_flood(), "{}", lab.story());
    assert!(value(&incident, Quantity::KnownNetworksShare) >= Some(0.7), "{incident:?}");
    assert!(lab.times("attack_started")[0] <= WARM + 3.1, "{}", lab.story());
}

/// A flood that would grow for two hours to the clients' rate and is over after `played` seconds.
/// Meanwhile an attacker completes a handshake from another network every minute. Then comes an ordinary
/// flood.
fn ramp(legit: f64, played: f64) {
    let (population, new_clients) = (Population::new(1), Population::new(2));
    let begin = 5000.0 * 3.0 / legit;
    let until = begin + played;
    let ramp = Flood { ramp: Some(7200.0), ..mimicking(legit, begin..until) };
    let mut lab = Lab::seeded(tcpguard_engine::Settings::default(), Mode::Observe, 1)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(clients(legit, &population))
        .clients(clients(1.0 / 60.0, &new_clients))
        .flood(ramp)
        .flood(mimicking(legit.max(100.0), until + 200.0..until + 260.0));
    lab.run_until(until + 230.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{}", lab.story());
    assert!(novel(&incident).holds, "{:?}", incident.evidence.indicators);
    // Of 5,000 and 120 networks, none was learned from the flood.
    let known = value(&incident, Quantity::KnownNetworks).expect("the number of networks");
    assert!((4995.0..6000.0).contains(&known), "{known}");
}

#[test]
fn a_ramp_of_two_hours_among_20_clients_a_second_teaches_no_network() {
    ramp(20.0, size(600.0, 7200.0));
}

#[test]
fn a_ramp_of_two_hours_among_200_clients_a_second_teaches_no_network() {
    ramp(200.0, size(150.0, 1000.0));
}

#[test]
fn a_ramp_of_two_hours_among_2000_clients_a_second_teaches_no_network() {
    ramp(2000.0, size(60.0, 400.0));
}

#[test]
fn what_is_known_of_networks_survives_a_restart() {
    let population = Population::new(1);
    let learned = learned_in(WARM, clients(200.0, &population));
    let networks = learned.networks.as_ref().expect("networks");
    assert!(networks.days[0].networks.len() < 40_000, "{}", networks.days[0].networks.len());
    let class = |learned: Option<&Learned>| {
        let mut lab = lab().clients(clients(200.0, &population)).flood(mimicking(30.0, 3.1..60.0));
        if let Some(learned) = learned {
            lab.engine.restore(learned.clone(), Duration::from_secs(3600)).expect("valid");
        }
        lab.run_until(30.0);
        lab.incident().class
    };
    assert_eq!(class(None), IncidentClass::HandshakeDegraded);
    assert_eq!(class(Some(&learned)), IncidentClass::RandomSpoofed);
}

#[test]
fn networks_that_were_not_learned_are_refused_and_nothing_else() {
    let population = Population::new(1);
    let mut learned = learned_in(30.0, clients(200.0, &population));
    let networks = learned.networks.as_mut().expect("networks");
    networks.days[0].networks.push('*');
    let mut lab = lab().clients(clients(200.0, &population));
    let refused = lab.engine.restore(learned.clone(), Duration::ZERO);
    let what = "a set of networks that nobody wrote";
    assert_eq!(refused, Err(LearnedError::Networks { what }));
    assert_eq!(lab.engine.learned().networks, None);
    lab.run_until(0.5);
    let back = lab.engine.learned();
    assert_eq!(back.listeners[0].natural_share, learned.listeners[0].natural_share);
    assert!(back.listeners[0].completions >= learned.listeners[0].completions);
}
