//! Incidents of hosts, and the incidents of the fleet that they make.

use super::*;
use crate::document::tests::{AT, envelope, evidence, facts, host, time};

fn clock(seconds: u64) -> Clock {
    let passed = Duration::from_secs(seconds);
    let wall = time(AT).0.checked_add(passed).expect("a time");
    Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// An incident of a host with this victim, and a signature of its own.
fn incident(number: u32, victim: &str) -> Incident {
    let signatures = vec![evidence(443, number as u16).id];
    let facts = IncidentFacts { signatures, ..facts(1, victim) };
    Incident { envelope: envelope(number, 1), facts }
}

fn changed(incident: &Incident, change: impl FnOnce(&mut IncidentFacts)) -> Incident {
    let mut changed = incident.clone();
    change(&mut changed.facts);
    changed
}

fn only(incidents: &Incidents, seconds: u64) -> FleetIncident {
    match &incidents.list(clock(seconds))[..] {
        [incident] => incident.clone(),
        others => panic!("{others:?}"),
    }
}

#[test]
fn one_victim_at_many_edges_is_one_incident() {
    let mut incidents = Incidents::default();
    let started = incidents.take(clock(0).now, incident(1, "192.0.2.10/32"));
    assert!(matches!(started[..], [FleetEvent::IncidentStarted { .. }]), "{started:?}");
    for number in 2..=5 {
        let events = incidents.take(clock(1).now, incident(number, "192.0.2.10/32"));
        assert!(events.is_empty(), "{events:?}");
    }
    let one = only(&incidents, 1);
    assert_eq!((one.parts, one.open, one.syn_pps), (5, 5, 500_000.0));
    assert_eq!((one.dropped_share, one.members.len()), (0.97, 5));
    assert_eq!(one.victims, vec![net("192.0.2.10/32")]);
    assert_eq!(one.signatures.len(), 5);
    incidents.take(clock(1).now, incident(6, "192.0.2.11/32"));
    assert_eq!(incidents.list(clock(1)).len(), 2, "another victim");
}

#[test]
fn one_signature_at_many_edges_is_one_incident_of_each_class() {
    let mut incidents = Incidents::default();
    let id = evidence(443, 512).id;
    for number in 1..=5 {
        let victim = format!("192.0.2.{number}/32");
        let report = changed(&incident(number, &victim), |facts| facts.signatures = vec![id]);
        incidents.take(clock(0).now, report);
    }
    assert_eq!((only(&incidents, 0).parts, only(&incidents, 0).victims.len()), (5, 5));
    let other = changed(&incident(6, "192.0.2.6/32"), |facts| {
        (facts.signatures, facts.class) = (vec![id], IncidentClass::SingleSource);
    });
    incidents.take(clock(0).now, other);
    assert_eq!(incidents.list(clock(0)).len(), 2);
}

#[test]
fn private_addresses_of_two_sites_are_two_victims() {
    let mut incidents = Incidents::default();
    incidents.take(clock(0).now, incident(1, "10.0.0.5/32"));
    incidents.take(clock(0).now, incident(2, "10.0.0.5/32"));
    assert_eq!(incidents.list(clock(0)).len(), 2);
    for text in ["10.0.0.1", "100.64.0.1", "127.0.0.1", "0.0.0.0", "fd00::1", "fe80::1", "::"] {
        assert!(!is_global(text.parse().expect("an address")), "{text}");
    }
    for text in ["203.0.113.10", "100.63.0.1", "2001:db8::10"] {
        assert!(is_global(text.parse().expect("an address")), "{text}");
    }
}

#[test]
fn two_incidents_that_turn_out_to_be_one_keep_the_older_name() {
    let mut incidents = Incidents::default();
    incidents.take(clock(0).now, incident(1, "192.0.2.1/32"));
    incidents.take(clock(1).now, incident(2, "192.0.2.2/32"));
    let listed = incidents.list(clock(1));
    let [older, younger] = &listed[..] else { panic!("{listed:?}") };
    let (id, merged) = (older.id, younger.id);
    let both = changed(&incident(2, "192.0.2.2/32"), |facts| {
        facts.victims.push(net("192.0.2.1/32"));
    });
    let events = incidents.take(clock(2).now, both);
    assert_eq!(events, vec![FleetEvent::IncidentsMerged { id, merged }]);
    let one = only(&incidents, 2);
    assert_eq!((one.id, one.parts), (id, 2));
    // Both of its victims lead to it now.
    incidents.take(clock(3).now, incident(3, "192.0.2.2/32"));
    assert_eq!(only(&incidents, 3).parts, 3);
    assert_eq!((incidents.merged.len(), incidents.parts.len()), (1, 3));
}

#[test]
fn an_incident_is_over_when_it_is_over_at_all_hosts_for_a_minute() {
    let mut incidents = Incidents::default();
    incidents.take(clock(0).now, incident(1, "192.0.2.1/32"));
    incidents.take(clock(0).now, incident(2, "192.0.2.1/32"));
    let end = changed(&incident(1, "192.0.2.1/32"), |facts| facts.ended = Some(time(AT)));
    incidents.take(clock(10).now, end);
    assert!(incidents.expire(clock(59)).is_empty());
    let states: Vec<_> = only(&incidents, 59).members.iter().map(|it| it.state).collect();
    assert_eq!(states, [MemberState::Open, MemberState::Ended]);
    assert!(incidents.expire(clock(60)).is_empty());
    let over = only(&incidents, 60);
    assert_eq!((over.open, over.ended), (0, Some(clock(0).time_at(clock(60).now))));
    // A second wave within a minute is the same incident.
    incidents.take(clock(100).now, incident(3, "192.0.2.1/32"));
    assert_eq!((only(&incidents, 100).parts, only(&incidents, 100).ended), (3, None));
    assert!(incidents.expire(clock(160)).is_empty());
    let ended = incidents.expire(clock(220));
    assert!(matches!(ended[..], [FleetEvent::IncidentEnded { parts: 3, .. }]), "{ended:?}");
    assert_eq!((incidents.list(clock(220)).len(), incidents.past().len()), (0, 1));
    assert!(incidents.links.is_empty() && incidents.parts.is_empty());

    // A third one is another.
    incidents.take(clock(230).now, incident(3, "192.0.2.1/32"));
    assert_eq!(only(&incidents, 230).parts, 1);
}

#[test]
fn another_class_of_one_host_leaves_the_others_alone() {
    let mut incidents = Incidents::default();
    incidents.take(clock(0).now, incident(1, "192.0.2.1/32"));
    let id = only(&incidents, 0).id;
    let distributed = |number| {
        changed(&incident(number, "192.0.2.1/32"), |facts| {
            facts.class = IncidentClass::Distributed;
        })
    };
    incidents.take(clock(1).now, distributed(1));
    let alone = only(&incidents, 1);
    assert_eq!((alone.id, alone.class), (id, IncidentClass::Distributed));
    incidents.take(clock(2).now, distributed(2));
    assert_eq!(only(&incidents, 2).parts, 2);
    incidents.take(clock(3).now, incident(2, "192.0.2.1/32"));
    let parts: Vec<_> = incidents.list(clock(3)).iter().map(|it| (it.class, it.parts)).collect();
    let expected = [(IncidentClass::Distributed, 1), (IncidentClass::RandomSpoofed, 1)];
    assert_eq!(parts, expected);
}

#[test]
fn the_end_of_an_unknown_incident_is_no_incident() {
    let mut incidents = Incidents::default();
    let end = changed(&incident(1, "192.0.2.1/32"), |facts| facts.ended = Some(time(AT)));
    assert!(incidents.take(clock(0).now, end).is_empty());
    assert!(incidents.list(clock(0)).is_empty());
}

#[test]
fn one_host_has_no_more_than_its_part() {
    let mut incidents = Incidents::default();
    for number in 0..100 {
        let victim = format!("192.0.2.{number}/32");
        let report = changed(&incident(1, &victim), |facts| {
            (facts.number, facts.signatures) = (number, vec![]);
        });
        incidents.take(clock(0).now, report);
    }
    assert_eq!(incidents.list(clock(0)).len(), MAX_OF_HOST);
    incidents.take(clock(0).now, incident(2, "198.51.100.1/32"));
    assert_eq!(incidents.list(clock(0)).len(), MAX_OF_HOST + 1);
    assert_eq!(incidents.parts.keys().filter(|key| key.host == host(1)).count(), MAX_OF_HOST);
}

#[test]
fn a_host_that_is_attacked_again_and_again_keeps_its_part() {
    let mut incidents = Incidents::default();
    for second in 0..3600 {
        incidents.take(clock(second).now, incident(1, "192.0.2.1/32"));
        if second % 60 == 0 {
            let number = second / 60;
            let again = |ended| {
                changed(&incident(2, "192.0.2.1/32"), |facts| {
                    (facts.number, facts.ended) = (number, ended);
                })
            };
            incidents.take(clock(second).now, again(None));
            incidents.take(clock(second).now, again(Some(time(AT))));
        }
        incidents.expire(clock(second));
    }
    let one = only(&incidents, 3600);
    assert_eq!((one.parts, one.open), (61, 1));
    assert!((10..=12).contains(&one.members.len()), "{}", one.members.len());
    assert_eq!(incidents.parts.len(), one.members.len());
}

#[test]
fn an_incident_of_a_thousand_hosts_lists_the_busiest() {
    let mut incidents = Incidents::default();
    for number in 1..=1000_u32 {
        let report = changed(&incident(number, "192.0.2.1/32"), |facts| {
            facts.syn_pps = number.into();
        });
        incidents.take(clock(0).now, report);
    }
    let one = only(&incidents, 0);
    assert_eq!((one.parts, one.members.len()), (1000, MAX_LISTED));
    assert_eq!((one.members[0].syn_pps, one.syn_pps), (1000.0, 500_500.0));
    assert!(one.signatures.len() <= MAX_TARGETS);
    assert!(incidents.links.len() <= MAX_LINKS);
}
