//! Floods from one source: the only ones that a ban can stop, and only if nobody else is behind it.

use std::net::IpAddr;

use tcpguard_engine::{IncidentClass, Matcher, Mode, Step};

use crate::sim::*;

const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn flood(sources: Sources) -> Flood {
    Flood { sources, ..Flood::random(2000.0, 10.0..30.0) }
}

fn sources(lab: &Lab) -> Vec<String> {
    let source = |matcher| match matcher {
        Matcher::Source(net, _) => Some(net.to_string()),
        Matcher::Signature { .. } => None,
    };
    lab.installed.iter().filter_map(|(_, rule)| source(rule.matcher)).collect()
}

#[test]
fn one_source_is_blocked() {
    let cases = [
        (flood(Sources::One(ATTACKER)), "198.51.100.7/32"),
        (flood(Sources::Within64), "2001:db8:bad:1::/64"),
        (
            flood(Sources::One("2001:db8:bad:2::5".parse().expect("address"))),
            "2001:db8:bad:2::5/128",
        ),
        // A tool on a raw socket, whose kernel resets the answers that it did not ask for.
        (Flood { resets: true, ..flood(Sources::One(ATTACKER)) }, "198.51.100.7/32"),
    ];
    for (flood, expected) in cases {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server { cookies: false, ..Server::default() })
            .clients(Clients::steady(50.0))
            .flood(flood);
        lab.run_until(30.0);
        assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
        assert_eq!(sources(&lab), [expected], "{}", lab.story());
        assert!(lab.installed[0].0 - 10.0 <= 1.5);
        assert_eq!(lab.installed.len(), 1, "nothing else is needed: {}", lab.story());
        assert!(lab.connected(12.5, 29.0) > 0.99, "{} {}", lab.connected(12.5, 29.0), lab.story());
        lab.run_until(66.0);
        assert_eq!(lab.times("attack_ended").len(), 1);
        assert_eq!(lab.kernel.rules().count(), 0);
    }
}

#[test]
fn a_source_that_sends_what_clients_send_is_blocked_once_its_syns_prove_not_to_be_repeated() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) })
        .flood(Flood { shape: Shape::Linux, ..flood(Sources::One(ATTACKER)) });
    lab.run_until(11.4);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::HandshakeDegraded, "{}", lab.story());
    assert_eq!(incident.confidence, 0.75, "two items of the gate");
    assert_eq!(lab.installed.len(), 0, "an office whose path is broken would look like this");
    lab.run_until(12.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
    lab.run_until(30.0);
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    assert!((11.5..13.0).contains(&lab.installed[0].0), "{}", lab.story());
}

/// 65,536 ports last for a fifth of a second. Where the address is somebody's, that host resets what
/// it is answered, so that nothing is left to be judged by its age.
#[test]
fn a_source_that_has_run_out_of_ports_does_not_pass_for_one_that_is_too_young_to_judge() {
    for resets in [false, true] {
        let flood = Flood::random(300_000.0, 10.0..14.0);
        let sources = Sources::One(ATTACKER);
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(50.0))
            .flood(Flood { shape: Shape::FarLinux, sources, resets, ..flood })
            .protect("198.51.100.0/24", "default gateway");
        lab.run_until(13.0);
        assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
        assert!(lab.times("attack_started")[0] - 10.0 <= 2.25, "{}", lab.story());
        assert!(lab.kernel.steps(0).contains(&Step::Cookies), "{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "it may not be banned: {}", lab.story());
    }
}

#[test]
fn a_source_that_comes_back_is_blocked_for_twice_as_long() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood { pulses: Some((10.0, 60.0)), until: 200.0, ..flood(Sources::One(ATTACKER)) });
    lab.run_until(200.0);
    let lives = lab.installed.iter().map(|(_, rule)| rule.expires.since(rule.created).as_secs());
    assert_eq!(lives.collect::<Vec<_>>(), [60, 120, 240], "{}", lab.story());
}

#[test]
fn a_protected_source_is_never_blocked() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(flood(Sources::One(ATTACKER)))
        .protect("198.51.100.0/24", "default gateway");
    lab.run_until(30.0);
    assert_eq!(sources(&lab), [""; 0]);
    let actions = lab.incident().actions;
    assert!(
        actions.iter().any(|action| action.text
            == "no rule against 198.51.100.7/32: it is protected (default gateway)"),
        "{actions:?}"
    );
    assert_eq!(lab.signature_rules().len(), 1, "its tool's signature can be dropped");
}

#[test]
fn a_bad_host_behind_a_busy_carrier_address_does_not_get_its_neighbours_blocked() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { behind: Some(ATTACKER), ..Clients::steady(20.0) })
        .clients(Clients::steady(50.0))
        .flood(flood(Sources::One(ATTACKER)));
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource);
    assert_eq!(sources(&lab), [""; 0], "{}", lab.story());
    let actions = lab.incident().actions;
    assert!(
        actions.iter().any(|action| action.text
            == "no rule against 198.51.100.7/32: clients behind the same address complete handshakes"),
        "{actions:?}"
    );
    assert_eq!(lab.connected(10.0, 29.0), 1.0);
}

#[test]
fn a_source_that_becomes_protected_is_let_go() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .flood(flood(Sources::One(ATTACKER)));
    lab.run_until(15.0);
    assert_eq!(lab.kernel.rules().count(), 1);
    let mut lab = lab.protect("198.51.100.7/32", "SSH peer");
    lab.run_until(30.0);
    assert_eq!(lab.removed[0].2, "the source is protected now (SSH peer)");
    let blocks = |matcher| matches!(matcher, Matcher::Source(..));
    assert!(!lab.kernel.rules().any(|rule| blocks(rule.matcher)));
}
