//! Floods from few real sources, and from many.

use std::net::IpAddr;

use tcpguard_engine::{Event, IncidentClass, Matcher, Mitigation, Mode};

use tcpguard_engine::SOURCES_PER_INCIDENT;

use crate::sim::*;
use crate::{alike, at_its_end};

fn lab(clients: Clients, flood: Flood) -> Lab {
    Lab::new(Mode::Enforce).listener(Server::default()).clients(clients).flood(flood)
}

fn blocked(lab: &Lab) -> Vec<String> {
    let nets = lab.installed.iter().filter_map(|(_, rule)| match rule.matcher {
        Matcher::Source(net, _) => Some(net.to_string()),
        Matcher::Signature { .. } => None,
    });
    let mut nets: Vec<String> = nets.collect();
    nets.sort();
    nets
}

/// A flood with the clients' fingerprint, so that no signature distinguishes it from them.
fn mimicking(rate: f64, sources: Sources) -> Flood {
    alike(rate, 10.1, 40.1, sources)
}

fn clients(rate: f64) -> Clients {
    Clients { shape: Some(Shape::Linux), ..Clients::steady(rate) }
}

#[test]
fn networks_and_sources_are_answered_as_long_as_they_can_be() {
    for sources in
        [Sources::Networks(1), Sources::Networks(3), Sources::Pool(20), Sources::Within48]
    {
        let mut lab = lab(clients(50.0), mimicking(2000.0, sources));
        lab.run_until(40.0);
        assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
        assert_eq!(blocked(&lab), [""; 0], "{}", lab.story());
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
        assert!(lab.connected(14.0, 39.0) > 0.99, "{}", lab.story());
    }
}

#[test]
fn networks_that_are_filled_are_blocked_as_such_where_the_host_cannot_answer() {
    let mut lab = at_its_end().flood(mimicking(2000.0, Sources::Networks(3)));
    lab.run_until(40.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    assert_eq!(blocked(&lab), ["198.18.0.0/24", "198.18.1.0/24", "198.18.2.0/24"]);
    assert!(lab.installed[2].0 <= 14.0, "{}", lab.story());
    assert!(lab.connected(15.0, 39.0) > 0.99, "{}", lab.story());
    lab.run_until(76.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 0);
}

#[test]
fn twenty_sources_are_blocked_one_by_one_where_the_host_cannot_answer() {
    let mut lab = at_its_end().flood(mimicking(2000.0, Sources::Pool(20)));
    lab.run_until(40.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    assert_eq!(blocked(&lab).len(), 20, "{:?}", blocked(&lab));
    assert!(blocked(&lab).iter().all(|net| net.ends_with("/32")));
    assert!(lab.installed[19].0 <= 15.0, "{}", lab.story());
}

#[test]
fn a_network_with_clients_in_it_is_not_blocked_as_a_whole() {
    let client = Clients { behind: Some([198, 18, 0, 77].into()), ..clients(5.0) };
    let mut lab = at_its_end().flood(mimicking(8000.0, Sources::Networks(1))).clients(client);
    lab.run_until(39.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    let blocked = blocked(&lab);
    assert!(blocked.iter().all(|net| net.ends_with("/32")), "{blocked:?}");
    assert!(blocked.len() > 16, "its other addresses are: {blocked:?}");
    assert!(!blocked.contains(&"198.18.0.77/32".to_owned()));
    assert!(blocked.len() <= SOURCES_PER_INCIDENT, "{}", blocked.len());
    // The flood comes in his name too: some of his SYNs pass with their first retransmission.
    assert!(lab.group_connected(1, 4.0, 16.0, 35.0) > 0.95, "{}", lab.story());
}

/// Most of its addresses cannot be blocked, so their common signature is.
#[test]
fn a_network_with_clients_in_it_that_uses_one_tool_is_dropped_by_its_signature() {
    let client = Clients { behind: Some([198, 18, 0, 77].into()), ..clients(5.0) };
    let flood = Flood { shape: Shape::Bare, ..mimicking(2000.0, Sources::Networks(1)) };
    let mut lab = at_its_end().clients(Clients::steady(50.0)).clients(client).flood(flood);
    lab.run_until(39.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    assert_eq!(blocked(&lab), [""; 0], "{}", lab.story());
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    assert!(lab.connected(15.0, 38.0) > 0.99, "{}", lab.story());
}

/// A single handshake that completed from there keeps the network from being blocked as a whole. It does not keep
/// its flood from being dropped, nor does it cost a rule for each of its addresses.
#[test]
fn one_handshake_from_a_network_does_not_save_the_flood_that_it_sends() {
    let visitor =
        Clients { behind: Some([198, 18, 0, 77].into()), from: 5.0, until: 5.2, ..clients(10.0) };
    for known in [false, true] {
        let flood = alike(2000.0, 20.1, 50.1, Sources::Networks(1));
        let mut lab = at_its_end().flood(Flood { shape: Shape::Bare, ..flood });
        if known {
            lab = lab.clients(visitor.clone());
        }
        lab.run_until(49.0);
        let story = format!("{known}\n{}", lab.story());
        assert_eq!(lab.incident().class, IncidentClass::FewSource, "{story}");
        assert_eq!(lab.signature_rules().len(), 1, "{story}");
        assert!(blocked(&lab).len() <= 1, "{story}");
        assert!(lab.connected(25.0, 48.0) > 0.99, "{} {story}", lab.connected(25.0, 48.0));
    }
}

#[test]
fn protected_and_allowed_networks_are_not_blocked() {
    let mut lab = at_its_end()
        .flood(mimicking(2000.0, Sources::Networks(3)))
        .protect("198.18.0.0/24", "own network");
    lab.allow("198.18.1.9/32", 600);
    lab.run_until(39.0);
    assert!(!blocked(&lab).contains(&"198.18.0.0/24".to_owned()));
    assert!(!blocked(&lab).contains(&"198.18.1.0/24".to_owned()));
    assert!(!blocked(&lab).contains(&"198.18.1.9/32".to_owned()));
    assert!(blocked(&lab).contains(&"198.18.2.0/24".to_owned()), "{:?}", blocked(&lab));
}

/// Balancers that ask whether the port is open and reset the answer are no attack, whatever their rate.
#[test]
fn half_open_health_checks_are_no_attack_and_are_never_dropped() {
    for (sources, rate) in [(3, 90.0), (10, 40.0), (10, 100.0)] {
        let checks = HealthChecks { to: 0, rate, sources, kind: HealthCheck::Reset };
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(20.0))
            .health_checks(checks);
        lab.run_until(120.0);
        let story = format!("{sources} at {rate}/s\n{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{story}");
        assert_eq!(lab.alerts.len(), 0, "{story}");

        // Nor do they keep a flood from being found, nor does it take them along.
        let mut lab = lab.flood(Flood::random(2000.0, 120.1..150.1));
        lab.run_until(150.0);
        let story = format!("{sources} at {rate}/s\n{}", lab.story());
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{story}");
        assert_eq!(blocked(&lab), [""; 0], "{story}");
    }
}

/// Applications with a connect timeout below a second open a new connection instead of retransmitting a SYN.
/// Behind a broken path such clients resemble a flood, but they completed handshakes a moment ago.
#[test]
fn validated_clients_that_do_not_retransmit_are_no_attackers() {
    let impatient = |host: u8, rate| {
        let behind = [192, 0, 2, host].into();
        Impatient { to: 0, rate, behind, outage: 30.0..45.0, factor: 3.0 }
    };
    for (name, groups) in [
        ("a carrier's address", vec![impatient(1, 40.0)]),
        ("proxies", (1..=40).map(|host| impatient(host, 2.0)).collect()),
    ] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server { backlog: 4096, ..Server::default() })
            .clients(Clients::steady(50.0));
        for group in groups {
            lab = group.join(lab);
        }
        lab.run_until(60.0);
        let story = format!("{name}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 0, "{story}");
        assert_eq!(lab.times("handshakes_degraded").len(), 1, "{story}");
        assert_eq!(lab.installed.len(), 0, "{story}");
    }
}

/// A flood that spoofs their addresses is one: their completions do not go away with it.
#[test]
fn a_flood_spoofing_validated_clients_is_classified() {
    let carrier: IpAddr = [192, 0, 2, 1].into();
    for rate in [100.0, 400.0] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server { backlog: 4096, ..Server::default() })
            .clients(clients(50.0))
            .clients(Clients { behind: Some(carrier), ..clients(40.0) })
            .flood(Flood { from: 30.1, until: 60.1, ..mimicking(rate, Sources::One(carrier)) });
        lab.run_until(60.0);
        assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
        assert_eq!(blocked(&lab), [""; 0], "{}", lab.story());
    }
}

/// Clients that give up after a third of a second and open another connection.
struct Impatient {
    to: usize,
    rate: f64,
    behind: IpAddr,
    outage: std::ops::Range<f64>,
    factor: f64,
}

impl Impatient {
    /// Served but for their outage, in which they come more often and leave first SYNs only.
    fn join(self, lab: Lab) -> Lab {
        let Self { to, rate, behind, outage, factor } = self;
        let served = Clients { to, behind: Some(behind), ..clients(rate) };
        let again = Flood {
            to,
            shape: Shape::Linux,
            sources: Sources::One(behind),
            ..Flood::random(rate * factor, outage.clone())
        };
        lab.clients(Clients { until: outage.start, ..served.clone() })
            .flood(again)
            .clients(Clients { from: outage.end, ..served })
    }
}

#[test]
fn two_offices_that_lose_their_path_are_not_attackers() {
    let office = |host: u8| Clients {
        behind: Some([192, 0, 2, host].into()),
        shape: Some(Shape::Linux),
        outage: Some(Outage::of(20.0..30.0, 1.0)),
        ..Clients::steady(100.0)
    };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(20.0))
        .clients(office(1))
        .clients(office(200));
    lab.run_until(70.0);
    assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
    assert_eq!(lab.times("handshakes_degraded").len(), 1, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert_eq!(lab.mitigations.len(), 0, "{}", lab.story());
}

/// Three thousand addresses that use one tool and do not try again.
fn botnet() -> Flood {
    Flood {
        sources: Sources::Pool(3000),
        shape: Shape::FarBare,
        ..Flood::random(2000.0, 10.1..60.1)
    }
}

#[test]
fn a_botnet_with_one_tool_is_dropped_by_its_signature() {
    let mut lab = lab(Clients::steady(50.0), botnet());
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::Distributed, "{}", lab.story());
    assert_eq!(blocked(&lab), [""; 0], "no source is blocked");
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    assert!(lab.connected(15.0, 29.0) > 0.99, "{}", lab.story());
}

#[test]
fn a_botnet_that_mimics_some_clients_is_reported_with_what_helps() {
    let alike = Clients { shape: Some(Shape::FarBare), ..Clients::steady(2.0) };
    let mut lab = lab(Clients::steady(60.0), botnet()).clients(alike);
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::Distributed, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    let actions = lab.incident().actions;
    assert!(
        actions.iter().any(|action| matches!(action.action, Event::RuleDeclined { .. })),
        "{actions:?}"
    );
}
