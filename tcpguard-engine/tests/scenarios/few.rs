//! Floods from few real sources, and from many.

use tcpguard_engine::{IncidentClass, Matcher, Mode};

use crate::sim::*;

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

#[test]
fn networks_that_are_filled_are_blocked_as_such() {
    let mut lab = lab(
        Clients::steady(50.0),
        Flood { sources: Sources::Networks(3), ..Flood::random(2000.0, 10.1..40.1) },
    );
    lab.run_until(40.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    assert_eq!(blocked(&lab), ["198.18.0.0/24", "198.18.1.0/24", "198.18.2.0/24"]);
    assert!(lab.installed[2].0 <= 12.0, "{}", lab.story());
    assert!(lab.connected(13.0, 39.0) > 0.99, "{}", lab.story());
    lab.run_until(76.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 0);
}

#[test]
fn twenty_sources_are_blocked_one_by_one() {
    let mut lab = lab(
        Clients::steady(50.0),
        Flood { sources: Sources::Pool(20), ..Flood::random(2000.0, 10.1..40.1) },
    );
    lab.run_until(40.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    assert_eq!(blocked(&lab).len(), 20, "{:?}", blocked(&lab));
    assert!(blocked(&lab).iter().all(|net| net.ends_with("/32")));
    assert!(lab.installed[19].0 <= 13.0, "{}", lab.story());
}

#[test]
fn a_network_with_clients_in_it_is_not_blocked_as_a_whole() {
    let client = Clients { behind: Some([198, 18, 0, 77].into()), ..Clients::steady(5.0) };
    let mut lab = lab(
        Clients::steady(50.0),
        Flood { sources: Sources::Networks(1), ..Flood::random(8000.0, 10.1..40.1) },
    )
    .clients(client);
    lab.run_until(39.0);
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{}", lab.story());
    let blocked = blocked(&lab);
    assert!(blocked.iter().all(|net| net.ends_with("/32")), "{blocked:?}");
    assert!(blocked.len() > 16, "its other addresses are: {blocked:?}");
    assert!(!blocked.contains(&"198.18.0.77/32".to_owned()));
    assert_eq!(lab.group_connected(1, 1.0, 10.0, 38.0), 1.0);
}

#[test]
fn protected_and_allowed_networks_are_not_blocked() {
    let mut lab = lab(
        Clients::steady(50.0),
        Flood { sources: Sources::Networks(3), ..Flood::random(2000.0, 10.1..40.1) },
    )
    .protect("198.18.0.0/24", "own network");
    lab.allow("198.18.1.9/32", 600);
    lab.run_until(39.0);
    assert!(!blocked(&lab).contains(&"198.18.0.0/24".to_owned()));
    assert!(!blocked(&lab).contains(&"198.18.1.0/24".to_owned()));
    assert!(!blocked(&lab).contains(&"198.18.1.9/32".to_owned()));
    assert!(blocked(&lab).contains(&"198.18.2.0/24".to_owned()), "{:?}", blocked(&lab));
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
    assert_eq!(lab.steps.len(), 0, "{}", lab.story());
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
fn a_botnet_that_looks_like_some_clients_is_told_with_what_helps() {
    let alike = Clients { shape: Some(Shape::FarBare), ..Clients::steady(2.0) };
    let mut lab = lab(Clients::steady(60.0), botnet()).clients(alike);
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::Distributed, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    let actions = lab.incident().actions;
    assert!(
        actions.iter().any(|action| action.text.contains("that is for SYN cookies")),
        "{actions:?}"
    );
}
