//! Mimicking floods that are far more than clients could cause.

use std::sync::Arc;

use tcpguard_engine::{IncidentClass, IndicatorName, Mitigation, Mode};

use crate::sim::*;

const BASELINE: f64 = 50.0;
/// A hundred times as many, and the least that can be a surge.
const MANY: f64 = 8000.0;
const BEGIN: f64 = 30.0;

fn clients(rate: f64, population: &Arc<Population>) -> Clients {
    Clients { population: Some(population.clone()), ..Clients::steady(rate) }
}

/// A host with its normal clients, of which `BEGIN` seconds are enough to learn the baseline.
fn lab(population: &Arc<Population>) -> Lab {
    let server = Server { backlog: 4096, ..Server::default() };
    Lab::new(Mode::Enforce).listener(server).clients(clients(BASELINE, population))
}

#[test]
fn a_much_larger_mimicking_flood_is_classified_within_a_second() {
    let population = Population::new(1);
    for rate in [MANY, 50_000.0] {
        let flood =
            Flood { shape: Shape::Mimicking, ..Flood::random(rate, BEGIN + 0.1..BEGIN + 30.0) };
        let mut lab = lab(&population).flood(flood);
        lab.run_until(BEGIN + 20.0);
        let story = format!("{rate}\n{}", lab.story());
        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{story}");
        assert!(lab.times("attack_started")[0] <= BEGIN + 1.1, "{story}");
        assert_eq!(lab.times("handshakes_degraded").len(), 0, "{story}");
        let armed =
            lab.mitigations.iter().find(|(_, mitigation)| *mitigation == Mitigation::Cookies);
        assert!(armed.expect(&story).0 <= BEGIN + 1.1, "{story}");
        assert_eq!(lab.installed.len(), 0, "nothing distinguishes it from clients: {story}");
        let mut all = incident.evidence.indicators.iter();
        let surge = all.find(|item| item.name == IndicatorName::Surge);
        assert!(surge.expect(&story).holds, "{:?}", incident.evidence.indicators);
    }
}

/// A day's players at once, with all SYN-ACKs lost. Earlier clients are distinguished from a flood at once, new clients
/// as soon as they retransmit.
#[test]
fn clients_that_reconnect_at_once_over_a_broken_path_lose_no_syn_to_a_rule() {
    let (population, new_clients) = (Population::new(1), Population::new(2));
    for (who, warm, begins) in [(&population, 200.0, 0), (&new_clients, BEGIN, 1)] {
        let back = Clients {
            from: warm,
            until: warm + 1.5,
            outage: Some(Outage::of(warm..warm + 20.0, 1.0)),
            ..clients(MANY, who)
        };
        let mut lab = lab(&population).clients(back);
        lab.run_until(warm + 10.0);
        assert_eq!(lab.incident().class, IncidentClass::HandshakeDegraded, "{}", lab.story());
        lab.run_until(warm + 60.0);
        assert!(lab.times("attack_started").len() <= begins, "{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    }
}

#[test]
fn a_distant_flash_crowd_is_no_surge() {
    let (population, new_clients) = (Population::new(1), Population::new(2));
    for rtt in [0.02..0.06, 0.3..0.5] {
        let flash_crowd =
            Clients { from: BEGIN, until: BEGIN + 10.0, rtt, ..clients(MANY, &new_clients) };
        let mut lab = lab(&population).clients(flash_crowd);
        lab.run_until(BEGIN + 30.0);
        assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    }
}
