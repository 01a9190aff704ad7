//! Sources for which the SYN-ACKs leave unseen although those to clients are seen: behind another interface of the
//! host, or on a link where no neighbour has their address.

use tcpguard_engine::{
    ActionReport, Egress, Event, IncidentClass, IndicatorName, Mitigation, Mode, Route,
};

use crate::alike;
use crate::sim::*;

/// A container bridge, and a link with a prefix wider than its neighbours.
const ODD: [(&str, Route); 2] =
    [("172.17.0.0/16", Route::Elsewhere(9)), ("10.9.64.0/18", Route::Unresolved)];

/// A host where SYN-ACKs to `net` take `route`, under a flood from `net`.
fn flooded(server: Server, clients: Clients, net: &str, route: Route, flood: Flood) -> Lab {
    let net = net.parse().expect("a network");
    let flood = Flood { sources: Sources::Within(net), ..flood };
    let mut lab = Lab::new(Mode::Enforce).listener(server).clients(clients).flood(flood);
    lab.kernel.routes = vec![(net, route)];
    lab
}

fn fixed_fingerprint() -> Flood {
    Flood::random(2000.0, 30.1..60.1)
}

#[test]
fn a_flood_from_sources_that_are_answered_elsewhere_is_dropped() {
    let server = Server { cookies: false, ..Server::default() };
    for (net, route) in ODD {
        for rate in [4.0, 50.0] {
            let mut lab = flooded(server, Clients::steady(rate), net, route, fixed_fingerprint());
            lab.run_until(60.0);
            assert_eq!(lab.listener_report(0).egress, Egress::Seen, "{net}");
            assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
            assert_eq!(lab.installed.len(), 1, "{}", lab.story());
            let ruled = lab.installed[0].0;
            assert!(ruled - 30.1 <= 2.0, "{}", lab.story());
            let served = lab.connected(ruled + 1.0, 58.0);
            assert!(served >= 0.99, "{net}, {rate} clients/s: {served}");
            let actions = lab.incident().actions;
            let advised =
                |action: &ActionReport| matches!(action.action, Event::RuleAdvised { .. });
            assert!(!actions.iter().any(advised), "{actions:#?}");
        }
        // The naive way: the counts are believed, because no route shows where SYN-ACKs go.
        let mut naive =
            flooded(server, Clients::steady(4.0), net, Route::Unknown, fixed_fingerprint());
        naive.run_until(58.0);
        assert_eq!(naive.listener_report(0).egress, Egress::Unseen, "{net}");
        assert_eq!(naive.installed.len(), 0, "{}", naive.story());
        assert!(naive.connected(32.0, 57.0) < 0.9, "{}", naive.connected(32.0, 57.0));
    }
}

#[test]
fn the_kernels_cookies_hide_no_flood_that_is_answered_elsewhere() {
    for (net, route) in ODD {
        for (backlog, rate) in [(128, 100.0), (4096, 100.0), (4096, 4.0)] {
            let server = Server { backlog, ..Server::default() };
            let mut lab = flooded(server, Clients::steady(rate), net, route, fixed_fingerprint());
            lab.run_until(58.0);
            let started = lab.times("attack_started");
            assert_eq!(started.len(), 1, "{net} {backlog} {rate}: {}", lab.story());
            assert!(started[0] - 30.1 <= 2.5, "{}", lab.story());
            assert_eq!(lab.installed.len(), 1, "{}", lab.story());
            assert!(lab.connected(32.0, 57.0) >= 0.99, "{}", lab.story());
            assert_eq!(lab.listener_report(0).egress, Egress::Seen);
            lab.run_until(95.1);
            assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
        }
    }
}

#[test]
fn a_flood_of_copies_that_is_answered_elsewhere_gets_cookies() {
    for (net, route) in ODD {
        let clients = Clients { shape: Some(Shape::Linux), ..Clients::steady(100.0) };
        let flood = alike(2000.0, 30.1, 60.1, Sources::Random);
        let mut lab = flooded(Server::default(), clients, net, route, flood);
        lab.run_until(40.0);
        let cookies = lab
            .mitigations
            .iter()
            .find(|(_, mitigation)| *mitigation == Mitigation::Cookies)
            .copied();
        let (at, _) = cookies.unwrap_or_else(|| panic!("no cookies: {}", lab.story()));
        assert!(at - 30.1 <= 4.0, "{at}: {}", lab.story());
        let incident = lab.incident();
        let first = &incident.record.first.indicators;
        assert!(first.contains(&IndicatorName::Unreachable), "{first:#?}");
        assert_eq!(lab.installed.len(), 0, "clients look like it: {}", lab.story());
        lab.run_until(58.0);
        assert_eq!(lab.listener_report(0).egress, Egress::Seen);
        assert!(lab.connected(at + 1.0, 57.0) >= 0.99, "{}", lab.connected(at + 1.0, 57.0));
    }
}

#[test]
fn sources_that_the_host_does_not_answer_take_no_slot_and_are_no_flood() {
    let clients = Clients::steady(50.0);
    let mut lab =
        flooded(Server::default(), clients, "172.17.0.0/16", Route::Nowhere, fixed_fingerprint());
    lab.run_until(70.0);
    assert_eq!(lab.alerts.len(), 0, "the kernel drops them: {}", lab.story());
    assert_eq!(lab.listener_report(0).egress, Egress::Seen);
}

#[test]
fn clients_behind_a_second_uplink_are_clients_and_an_outage_there_is_no_attack() {
    let office = "198.51.100.9".parse().expect("an address");
    for outage in [None, Some(Outage::of(40.0..60.0, 1.0))] {
        let is_calm = outage.is_none();
        let behind = Clients { behind: Some(office), outage, ..Clients::steady(20.0) };
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(50.0))
            .clients(behind);
        lab.kernel.routes = vec![("198.51.100.9/32".parse().expect("a host"), Route::Elsewhere(3))];
        lab.run_until(90.0);
        assert_eq!(lab.listener_report(0).egress, Egress::Seen);
        assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{}", lab.story());
        assert!(!is_calm || lab.alerts.is_empty(), "{}", lab.story());
    }
}

#[test]
fn sources_that_no_host_has_are_a_sign_of_a_flood_and_no_reason_for_a_rule() {
    for (sources, holds) in [(Sources::Anywhere, true), (Sources::Random, false)] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) })
            .flood(alike(2000.0, 30.1, 60.1, sources));
        lab.run_until(40.0);
        let gate = lab.incident().evidence.indicators;
        let sign = gate.iter().find(|item| item.name == IndicatorName::Unreachable);
        assert_eq!(sign.map(|item| item.holds), Some(holds), "{gate:#?}");
        assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    }
}
