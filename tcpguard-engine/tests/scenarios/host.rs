//! Incidents of no listener: scans and unsolicited replies.

use std::time::Duration;

use tcpguard_engine::{
    ClientsWithin, ClosedPortSource, Event, Force, IncidentClass, Listener, ListenerId, Mode,
    Ports, Request, RequestError, Severity, Signal,
};

use crate::sim::*;

const SCANNER: [u8; 4] = [45, 146, 165, 209];

fn lab() -> Lab {
    Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(50.0))
}

/// Plays to `until` with so many of a source's SYNs a second, each to another port or address.
fn probe(lab: &mut Lab, until: f64, rate: f64, ports: bool) {
    probe_by(lab, until, rate, ports, 0);
}

/// The same, of a source that has completed so many handshakes.
fn probe_by(lab: &mut Lab, until: f64, rate: f64, ports: bool, completed: u64) {
    let start = seconds(lab.kernel.now);
    let mut t = start;
    while t < until {
        t += 0.25;
        lab.run_until(t);
        let syns = ((t - start) * rate) as u32;
        if syns == 0 {
            continue;
        }
        let (many, one) = (syns, 1);
        lab.kernel.host.no_listener = syns.into();
        lab.kernel.closed_port_sources = vec![ClosedPortSource {
            source: SCANNER.into(),
            server: [203, 0, 113, 10].into(),
            port: 22,
            ports: if ports { many } else { one },
            servers: if ports { one } else { many },
            syns,
            completed,
            since: at(start),
            last: lab.kernel.now,
        }];
    }
}

#[test]
fn a_source_that_tries_many_ports_is_a_scan_and_no_rule_is_made() {
    let mut lab = lab();
    lab.run_until(20.0);
    probe(&mut lab, 23.0, 10.0, true);
    lab.run_until(24.0);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::Scan, "{}", lab.story());
    assert_eq!((incident.severity, incident.signal), (Severity::Notice, Signal::Host));
    assert_eq!(incident.listener_id, ListenerId::HOST);
    assert_eq!(incident.listener, Listener { addr: [203, 0, 113, 10].into(), port: 0 });
    assert_eq!(incident.started, at(20.0));
    assert!((20.8..21.5).contains(&seconds(incident.detected)), "{incident:?}");
    assert_eq!((incident.evidence.ports_tried, incident.evidence.addresses_tried), (30, 1));
    let Event::IncidentStarted(facts) = &lab.alerts[0].event else { panic!("{}", lab.story()) };
    assert_eq!((facts.ports_tried, facts.addresses_tried), (10, 1));
    assert_eq!(facts.top_source, Some([45, 146, 165, 209].into()));
    // It completed a handshake at the open port, which keeps no operator from blocking it.
    let mut block = |net: &str| {
        lab.request(Request::Block {
            net: net.parse().expect("prefix"),
            ports: Ports::EVERY,
            lifetime: Duration::from_secs(1),
            reason: String::new(),
            force: Force::No,
            clients: ClientsWithin { validated: 1, last_minute: 1 },
        })
    };
    assert!(block("45.146.165.209/32").is_ok());
    assert!(matches!(block("45.146.165.210/32"), Err(RequestError::Clients { .. })));
    lab.run_until(60.0);
    assert_eq!(lab.times("incident_started").len(), 1, "{}", lab.story());
    assert_eq!(lab.times("incident_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.installed.len(), 1, "the operator's");
}

#[test]
fn one_port_at_many_addresses_is_a_scan_of_that_port() {
    let mut lab = lab();
    lab.run_until(20.0);
    probe(&mut lab, 40.0, 2.0, false);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::Scan, "{}", lab.story());
    assert_eq!(incident.listener.to_string(), ":22");
}

#[test]
fn a_few_closed_ports_are_background_noise() {
    let mut lab = lab();
    lab.run_until(20.0);
    probe(&mut lab, 140.0, 0.06, true);
    lab.run_until(150.0);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
}

/// Twelve ports in two minutes: too many for an unvalidated source, not for a client that completes
/// handshakes.
#[test]
fn a_validated_client_may_fail_at_more_ports_than_a_new_client() {
    for (completed, scans) in [(0, 1), (20, 0)] {
        let mut lab = lab();
        lab.run_until(20.0);
        probe_by(&mut lab, 140.0, 0.1, true, completed);
        lab.run_until(150.0);
        assert_eq!(lab.times("incident_started").len(), scans, "{}", lab.story());
    }
}

#[test]
fn a_source_that_scans_through_a_pause_is_one_scan() {
    let mut lab = lab();
    lab.run_until(20.0);
    probe(&mut lab, 25.0, 10.0, true);
    lab.run_until(45.0);
    probe(&mut lab, 50.0, 10.0, true);
    lab.run_until(90.0);
    assert_eq!(lab.times("incident_started").len(), 1, "{}", lab.story());
    assert_eq!(lab.times("incident_ended").len(), 1, "{}", lab.story());
}

/// Plays to `until`: own SYNs, replies to them and unsolicited replies, a second each.
fn answers(lab: &mut Lab, until: f64, own: u64, asked: u64, unsolicited: u64) {
    while seconds(lab.kernel.now) + 0.2 < until {
        let host = &mut lab.kernel.host;
        if let Some(own_syn) = &mut host.own_syn {
            *own_syn += own / 4;
        }
        host.replies += (asked + unsolicited) / 4;
        host.unsolicited += unsolicited / 4;
        host.segments += asked / 2;
        let next = seconds(lab.kernel.now) + POLL.as_secs_f64();
        lab.run_until(next);
    }
}

#[test]
fn unsolicited_replies_are_a_reflection() {
    let mut lab = lab();
    lab.run_until(20.0);
    answers(&mut lab, 30.0, 40, 40, 2000);
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::Reflection, "{}", lab.story());
    assert_eq!((incident.severity, incident.signal), (Severity::Warning, Signal::Host));
    assert!(seconds(incident.detected) - 20.0 <= 1.0, "{incident:?}");
    assert!((1900.0..2100.0).contains(&incident.evidence.unsolicited_rate), "{incident:?}");
    assert!((19_000..21_000).contains(&incident.counts.syns), "{incident:?}");
    assert_eq!(lab.installed.len(), 0);
    let Event::IncidentStarted(facts) = &lab.alerts[0].event else { panic!("{}", lab.story()) };
    assert_eq!(facts.listener, Listener::HOST);
    assert!((1900.0..2100.0).contains(&facts.syn_rate), "{facts:?}");
    lab.run_until(61.0);
    assert_eq!(lab.times("incident_ended").len(), 1, "{}", lab.story());
    assert_eq!(lab.alerts.len(), 2, "{}", lab.story());
}

#[test]
fn a_busy_server_that_opens_nothing_just_now_still_sees_a_reflection() {
    let mut lab = lab();
    lab.kernel.host.own_syn = Some(1);
    lab.run_until(20.0);
    for _ in 0..40 {
        lab.kernel.host.replies += 500;
        lab.kernel.host.unsolicited += 500;
        lab.kernel.host.segments += 50_000;
        let next = seconds(lab.kernel.now) + POLL.as_secs_f64();
        lab.run_until(next);
    }
    assert_eq!(lab.incident().class, IncidentClass::Reflection, "{}", lab.story());
}

#[test]
fn a_busy_proxy_is_no_reflection() {
    let mut lab = lab();
    lab.run_until(20.0);
    // Two thousand connections a second, one in ten of which opened before it was watched.
    answers(&mut lab, 60.0, 2000, 1800, 200);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
}

#[test]
fn a_proxy_whose_own_syns_are_not_seen_is_unknown_and_idle_answers_are_a_reflection() {
    for own_syn in [None, Some(0)] {
        let mut lab = lab();
        lab.kernel.host.own_syn = own_syn;
        lab.run_until(20.0);
        answers(&mut lab, 40.0, 0, 2000, 0);
        lab.kernel.host.unsolicited += 10_000;
        lab.run_until(50.0);
        assert_eq!(lab.alerts.len(), 0, "in use: {}", lab.story());
    }
    let mut lab = lab();
    lab.kernel.host.own_syn = None;
    lab.run_until(20.0);
    answers(&mut lab, 30.0, 0, 0, 2000);
    assert_eq!(lab.incident().class, IncidentClass::Reflection, "{}", lab.story());
}

#[test]
fn counters_that_start_again_are_no_reflection() {
    let mut lab = lab();
    lab.run_until(20.0);
    answers(&mut lab, 30.0, 2000, 2000, 0);
    lab.kernel.restart_counters();
    lab.kernel.host = tcpguard_engine::HostCounters { own_syn: Some(0), ..Default::default() };
    lab.run_until(30.0 + Duration::from_secs(10).as_secs_f64());
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
}
