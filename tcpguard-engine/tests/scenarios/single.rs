//! Floods from one source. SYNs do not prove the holder of their source address: they are answered while the host can
//! do so, and the source is dropped only when it cannot.

use std::net::IpAddr;

use tcpguard_engine::{
    ActionReport, Event, IncidentClass, Matcher, Mitigation, Mode, Order, RemovalReason, Request,
    RuleObstacle,
};

use crate::sim::*;
use crate::{alike, at_its_end, order_mitigation};

const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn flood(sources: Sources) -> Flood {
    Flood { sources, ..Flood::random(2000.0, 10.0..30.0) }
}

/// A flood with the clients' fingerprint, so that no signature distinguishes it from them.
fn mimicking(rate: f64, sources: Sources) -> Flood {
    alike(rate, 10.1, 40.1, sources)
}

fn clients() -> Clients {
    Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) }
}

fn sources(lab: &Lab) -> Vec<String> {
    let source = |matcher| match matcher {
        Matcher::Source(net, _) => Some(net.to_string()),
        Matcher::Signature { .. } => None,
    };
    lab.installed.iter().filter_map(|(_, rule)| source(rule.matcher)).collect()
}

/// The host at the named address has not connected lately, and does not reset the SYN-ACKs that it receives.
/// Returns whether an incident notes that it gets no rule for this reason.
fn has_declined(actions: &[ActionReport], obstacle: &RuleObstacle) -> bool {
    let is_it = |action: &ActionReport| match &action.action {
        Event::RuleDeclined { why, .. } => why == obstacle,
        _ => false,
    };
    actions.iter().any(is_it)
}

#[test]
fn spoofed_syns_block_no_new_client_and_no_network_and_get_replies() {
    let new_client = |behind: &str, rate| Clients {
        behind: Some(behind.parse().expect("address")),
        from: 14.0,
        shape: Some(Shape::Linux),
        ..Clients::steady(rate)
    };
    for (rate, sources_of, behind) in [
        (12.0, Sources::One(ATTACKER), "198.51.100.7"),
        (150.0, Sources::One(ATTACKER), "198.51.100.7"),
        (5_000.0, Sources::One(ATTACKER), "198.51.100.7"),
        (30.0, Sources::Networks(1), "198.18.0.9"),
        (2000.0, Sources::Networks(3), "198.18.1.9"),
        (40.0, Sources::Within48, "2001:db8:bad:17::9"),
        (2000.0, Sources::Within64, "2001:db8:bad:1::9"),
    ] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(clients())
            .clients(new_client(behind, 0.5))
            .flood(mimicking(rate, sources_of));
        lab.run_until(40.0);
        let story = format!("{rate}/s of {sources_of:?}\n{}", lab.story());
        assert!(
            matches!(lab.incident().class, IncidentClass::SingleSource | IncidentClass::FewSource),
            "{story}"
        );
        assert_eq!(sources(&lab), [""; 0], "{story}");
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
        assert!(lab.connected(14.0, 39.0) > 0.99, "{} {story}", lab.connected(14.0, 39.0));
        assert_eq!(lab.group_connected(1, 1.0, 14.0, 38.0), 1.0, "{story}");
    }
}

#[test]
fn one_source_with_a_tool_of_its_own_is_dropped_by_its_signature() {
    let cases = [
        Sources::One(ATTACKER),
        Sources::Within64,
        Sources::One("2001:db8:bad:2::5".parse().expect("address")),
    ];
    for sources_of in cases {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server { cookies: false, ..Server::default() })
            .clients(Clients::steady(50.0))
            .flood(flood(sources_of));
        lab.run_until(30.0);
        assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
        assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
        assert!(lab.installed[0].0 - 10.0 <= 1.5);
        assert_eq!(lab.installed.len(), 1, "nothing else is needed: {}", lab.story());
        assert!(lab.connected(12.5, 29.0) > 0.99, "{} {}", lab.connected(12.5, 29.0), lab.story());
        lab.run_until(66.0);
        assert_eq!(lab.times("attack_ended").len(), 1);
        assert_eq!(lab.kernel.rules().count(), 0);
    }
}

/// A handshake that its client resets holds no slot in the queue.
#[test]
fn a_source_that_resets_syn_acks_is_reported_and_not_dropped() {
    let mut lab = at_its_end().flood(Flood { resets: true, ..flood(Sources::One(ATTACKER)) });
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert!(lab.connected(10.0, 29.0) > 0.99, "{} {}", lab.connected(10.0, 29.0), lab.story());
}

#[test]
fn one_source_is_blocked_where_the_queue_is_full_and_cookies_are_not_to_be_had() {
    for (sources_of, expected) in [
        (Sources::One(ATTACKER), "198.51.100.7/32"),
        (Sources::Within64, "2001:db8:bad:1::/64"),
        (Sources::One("2001:db8:bad:2::5".parse().expect("address")), "2001:db8:bad:2::5/128"),
    ] {
        let mut lab = at_its_end().flood(mimicking(2000.0, sources_of));
        lab.run_until(40.0);
        assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
        assert_eq!(sources(&lab), [expected], "{}", lab.story());
        assert!(lab.installed[0].0 - 10.1 <= 3.0, "{}", lab.story());
        assert!(
            !lab.mitigations.iter().any(|(_, mitigation)| *mitigation == Mitigation::Budget),
            "{}",
            lab.story()
        );
        assert!(lab.connected(14.5, 39.0) > 0.99, "{} {}", lab.connected(14.5, 39.0), lab.story());
        lab.run_until(76.0);
        assert_eq!(lab.times("attack_ended").len(), 1);
        assert_eq!(lab.kernel.rules().count(), 0);
    }
}

/// His first SYN is dropped, and passes when he retransmits it.
#[test]
fn a_new_client_whose_address_is_blocked_connects_on_its_first_retransmission() {
    let new_client =
        Clients { behind: Some(ATTACKER), from: 16.0, ..Clients { rate: 0.5, ..clients() } };
    let mut lab = at_its_end().clients(new_client).flood(mimicking(2000.0, Sources::One(ATTACKER)));
    lab.run_until(19.9);
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    assert_eq!(lab.group_connected(1, 0.9, 16.0, 19.0), 0.0, "{}", lab.story());
    assert_eq!(lab.group_connected(1, 1.5, 16.0, 19.0), 1.0, "{}", lab.story());
    assert!(lab.kernel.rules().next().is_some(), "{}", lab.story());
}

/// A second copy of each SYN costs an attacker twice the packets, and does not prove that the address is its own.
#[test]
fn a_source_that_begins_to_send_its_syns_twice_stays_blocked() {
    let bare = |from: f64, until: f64, repeated: f64| Flood {
        sources: Sources::One(ATTACKER),
        repeated,
        ..Flood::random(2000.0, from..until)
    };
    let mut lab = at_its_end().flood(bare(10.1, 20.1, 0.0)).flood(bare(20.1, 50.1, 0.9));
    lab.run_until(10.0);
    // It would be dropped by its signature.
    order_mitigation(&mut lab, Mitigation::Signature, Order::Off);
    lab.run_until(20.0);
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    lab.run_until(45.0);
    assert_eq!(lab.removed.len(), 0, "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
}

/// An operator forbids rules for the first ten seconds. Otherwise one is made before it is known that the SYNs
/// are retransmitted.
#[test]
fn a_source_that_sends_its_syns_twice_from_the_start_is_blocked() {
    let sources_of = Sources::One(ATTACKER);
    let bare = Flood { sources: sources_of, repeated: 0.9, ..Flood::random(2000.0, 10.1..50.1) };
    let mut lab = at_its_end().flood(bare);
    lab.run_until(10.0);
    order_mitigation(&mut lab, Mitigation::Signature, Order::Off);
    order_mitigation(&mut lab, Mitigation::Source, Order::Off);
    lab.run_until(20.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
    assert_eq!(sources(&lab), [""; 0], "{}", lab.story());
    order_mitigation(&mut lab, Mitigation::Source, Order::Auto);
    lab.run_until(45.0);
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    assert!(lab.group_connected(0, 2.5, 28.0, 42.0) > 0.95, "{}", lab.story());
}

/// One source, then a client's address, then random ones, in one incident. No rule outlives the flood that it was made
/// for, none is made against an earlier state of the flood, and the incident's text describes the present state.
#[test]
fn a_flood_that_changes_from_one_source_to_spoofed_ones_blocks_no_spoofed_source() {
    let of = |sources, from, until| Flood {
        sources,
        ..Flood { from, until, ..mimicking(6000.0, sources) }
    };
    let client: IpAddr = [192, 0, 2, 77].into();
    let mut lab = at_its_end()
        .clients(Clients { behind: Some(client), ..clients() })
        .flood(of(Sources::One(ATTACKER), 10.1, 20.1))
        .flood(of(Sources::One(client), 20.1, 30.1))
        .flood(of(Sources::Random, 30.1, 50.1));
    lab.run_until(20.0);
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    lab.run_until(34.0);
    let dominating = lab.incident().dominating_source().map(|top| top.share);
    assert!(dominating.is_none_or(|share| share > 0.5), "{dominating:?}");
    lab.run_until(50.0);
    assert_eq!(lab.times("attack_started").len(), 1, "one incident: {}", lab.story());
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    assert_eq!(lab.kernel.rules().count(), 0, "that rule is gone: {}", lab.story());

    for mode in [Mode::Off, Mode::Enforce] {
        lab.request(Request::SetMode { mode }).expect("set");
    }
    lab.run_until(51.0);
    assert_eq!(lab.kernel.rules().count(), 0, "nor does it come again: {}", lab.story());
}

#[test]
fn a_source_that_sends_what_clients_send_is_named_once_its_syns_prove_not_to_be_repeated() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(clients())
        .flood(Flood { shape: Shape::Linux, ..flood(Sources::One(ATTACKER)) });
    lab.run_until(11.4);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::HandshakeDegraded, "{}", lab.story());
    assert_eq!(incident.evidence.holding(), 2);
    assert_eq!(lab.installed.len(), 0, "an office whose path is broken would look like this");
    let cookies = |(_, mitigation): &(f64, Mitigation)| *mitigation == Mitigation::Cookies;
    assert!(lab.mitigations.iter().all(cookies), "and the queue is full: {}", lab.story());
    lab.run_until(12.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
    lab.run_until(13.0);
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
}

/// 65,536 ports last for a fifth of a second. Where the address belongs to a host, that host resets the SYN-ACKs that
/// it receives, so that nothing is left to be judged by its age.
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
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "it may not be banned: {}", lab.story());
    }
}

/// A load test of the server, or a program gone wild: a rule would protect no client from it.
#[test]
fn a_source_without_other_clients_is_blocked_when_one_comes() {
    let server = Server { cookies: false, backlog: 256, ..Server::default() };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(server)
        .clients(Clients { from: 25.0, ..clients() })
        .flood(mimicking(2000.0, Sources::One(ATTACKER)));
    lab.run_until(24.9);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
    assert_eq!(sources(&lab), [""; 0], "{}", lab.story());
    let actions = lab.incident().actions;
    assert!(has_declined(&actions, &RuleObstacle::Alone), "{actions:?}");
    lab.run_until(40.0);
    assert_eq!(sources(&lab), ["198.51.100.7/32"], "{}", lab.story());
    let connected = lab.group_connected(0, 2.5, 28.0, 37.0);
    assert!(connected > 0.95, "{connected} {}", lab.story());
}

#[test]
fn a_source_that_attacks_again_is_blocked_for_twice_as_long() {
    let pulses = Some((10.0, 60.0));
    let mut lab = at_its_end().flood(Flood {
        pulses,
        until: 200.0,
        ..mimicking(2000.0, Sources::One(ATTACKER))
    });
    lab.run_until(200.0);
    let lives = lab.installed.iter().map(|(_, rule)| rule.expires.since(rule.created).as_secs());
    assert_eq!(lives.collect::<Vec<_>>(), [60, 120, 240], "{}", lab.story());
}

#[test]
fn an_exempt_source_is_never_blocked() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(clients())
        .flood(mimicking(2000.0, Sources::One(ATTACKER)))
        .protect("198.51.100.0/24", "default gateway");
    lab.run_until(30.0);
    assert_eq!(sources(&lab), [""; 0]);
    let actions = lab.incident().actions;
    let exempt = RuleObstacle::Exempt { what: "default gateway".to_owned() };
    assert!(has_declined(&actions, &exempt), "{actions:?}");
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
}

#[test]
fn a_bad_host_behind_a_busy_carrier_address_does_not_get_its_neighbours_blocked() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { behind: Some(ATTACKER), ..Clients { rate: 20.0, ..clients() } })
        .clients(clients())
        .flood(mimicking(2000.0, Sources::One(ATTACKER)));
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource);
    assert_eq!(sources(&lab), [""; 0], "{}", lab.story());
    let actions = lab.incident().actions;
    assert!(has_declined(&actions, &RuleObstacle::ClientsBehind), "{actions:?}");
    assert_eq!(lab.connected(10.0, 29.0), 1.0);
}

#[test]
fn a_source_that_becomes_protected_is_let_go() {
    let mut lab = at_its_end().flood(mimicking(2000.0, Sources::One(ATTACKER)));
    lab.run_until(16.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    let mut lab = lab.protect("198.51.100.7/32", "SSH peer");
    lab.run_until(30.0);
    let exempt = RemovalReason::Exempt { what: "SSH peer".to_owned() };
    assert_eq!(lab.removed[0].2, exempt);
    let blocks = |matcher| matches!(matcher, Matcher::Source(..));
    assert!(!lab.kernel.rules().any(|rule| blocks(rule.matcher)));
}
