//! The output of `tcpguard explain ATTACK` for each class, played against the simulated host, and
//! the maximum size of an attack's record.
//!
//! The expected pages are `tests/expected/explain-*.txt`; after a wanted change write them anew with
//! `UPDATE_EXPECTED=1 cargo test -p tcpguard --test explain` and read the difference.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use proptest::collection::vec as list;
use proptest::prelude::*;
use tcpguard::documents::{EVIDENCE_BYTES, FullIncident};
use tcpguard::text::{self, View};
use tcpguard_engine::{
    ClosedPortSource, Evidence, HostCounters, IncidentClass, IncidentReport, Indicator,
    IndicatorName, Limit, ListenerId, Measured, Mitigation, Mode, NetworkShare, Quantity, Question,
    Report, Restraint, RestraintReason, RuleId, RuleReason, RuleRecord, SignatureShare,
    SourceShare, SynHeader, Timestamp, TtlShare, VerdictLine,
};
use tcpguard_host::time::Clock;
use tcpguard_sim::{Clients, Flood, Lab, Outage, POLL, Server, Shape, Sources, at, seconds};
use tcpguard_support::schema::assert_formed;

const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn clock(now: Timestamp) -> Clock {
    Clock { now, wall: "2026-11-20T14:05:00Z".parse().unwrap() }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn lab(backlog: u32) -> Lab {
    Lab::new(Mode::Enforce)
        .listener(Server { backlog, ..Server::default() })
        .clients(Clients::steady(50.0))
}

/// Headers of three SYNs: a tool's, a client's, and one behind 240 bytes of IPv6 options.
fn headers() -> impl Iterator<Item = (ListenerId, SynHeader)> {
    let ip = |length: u8, ttl: u8| {
        [0x45, 0, 0, length, 0, 0, 0x40, 0, ttl, 6, 0, 0, 198, 51, 100, 7, 203, 0, 113, 10]
    };
    let tcp = |words: u8, [high, low]: [u8; 2]| {
        [0x9c, 0x40, 1, 187, 1, 2, 3, 4, 0, 0, 0, 0, words << 4, 2, high, low, 0, 0, 0, 0]
    };
    let options = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
    let tool = [ip(40, 244), tcp(5, [2, 0])].concat();
    let client = [ip(60, 52), tcp(10, [0xfa, 0xf0]), options].concat();
    let deep = [&[0x60, 0, 0, 0, 1, 4, 60, 57][..], &[0x20; 32], &[60, 29], &[0; 70]].concat();
    let all = [(tool, 40), (client, 60), (deep, 300)];
    (0..).zip(all).map(|(nth, (bytes, whole))| {
        let at = at(11.5 + 0.125 * f64::from(nth));
        let length = (bytes.len() < usize::from(whole)).then_some(whole);
        (ListenerId(0), SynHeader { at, bytes, length })
    })
}

fn flooded(flood: Flood, until: f64) -> Lab {
    let mut lab = lab(4096).flood(flood);
    lab.run_until(12.0);
    lab.engine.handle_headers(headers());
    lab.run_until(until);
    lab
}

fn crowd() -> Lab {
    let mut lab = lab(4096).clients(Clients { from: 20.0, ..Clients::steady(950.0) });
    lab.run_until(30.0);
    lab
}

fn overload() -> Lab {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(200.0));
    lab.run_until(20.0);
    lab.kernel.set_accepting(0, false);
    lab.run_until(30.0);
    lab
}

fn broken_path() -> Lab {
    let outage = Some(Outage::of(20.0..30.0, 1.0));
    let mut lab = lab(4096).clients(Clients { outage, ..Clients::steady(300.0) });
    lab.run_until(70.0);
    lab
}

fn scan() -> Lab {
    let mut lab = lab(4096);
    lab.run_until(20.0);
    for poll in 1..=12_u32 {
        lab.run_until(20.0 + f64::from(poll) / 4.0);
        lab.kernel.closed_port_sources = vec![ClosedPortSource {
            source: [45, 146, 165, 209].into(),
            server: [203, 0, 113, 10].into(),
            port: 22,
            ports: 3 * poll,
            servers: 1,
            syns: 3 * poll,
            completed: 0,
            since: at(20.0),
            last: lab.kernel.now,
        }];
    }
    lab.run_until(23.5);
    lab
}

/// The counters of the host grow so for five seconds.
fn of_host(grow: fn(&mut HostCounters)) -> Lab {
    let mut lab = lab(4096);
    lab.run_until(20.0);
    for _ in 0..20 {
        grow(&mut lab.kernel.host);
        let next = seconds(lab.kernel.now) + POLL.as_secs_f64();
        lab.run_until(next);
    }
    lab
}

fn reflection() -> Lab {
    of_host(|host| {
        host.replies += 510;
        host.unsolicited += 500;
    })
}

fn closed_ports() -> Lab {
    of_host(|host| {
        host.refused += 50;
        host.closed_over += 4950;
        host.closed_dropped += 4950;
    })
}

fn evasion() -> Lab {
    of_host(|host| host.beyond_dropped += 250)
}

/// A scene for each class.
fn scenes() -> [(IncidentClass, Lab); 11] {
    let at_2000 = |sources, shape| Flood { sources, shape, ..Flood::random(2000.0, 10.1..25.1) };
    [
        // Over, so that the records of rules and of the end are shown.
        (IncidentClass::RandomSpoofed, flooded(Flood::random(5000.0, 10.1..20.1), 56.0)),
        (IncidentClass::SingleSource, flooded(at_2000(Sources::One(ATTACKER), Shape::Bare), 20.0)),
        (IncidentClass::FewSource, flooded(at_2000(Sources::Networks(3), Shape::Bare), 20.0)),
        (IncidentClass::Distributed, flooded(at_2000(Sources::Pool(3000), Shape::FarBare), 20.0)),
        (IncidentClass::FlashCrowd, crowd()),
        (IncidentClass::ListenerOverload, overload()),
        (IncidentClass::HandshakeDegraded, broken_path()),
        (IncidentClass::Scan, scan()),
        (IncidentClass::Reflection, reflection()),
        (IncidentClass::ClosedPorts, closed_ports()),
        (IncidentClass::Evasion, evasion()),
    ]
}

/// The one incident of a scene.
fn incident(report: &Report) -> &IncidentReport {
    let mut all = report.incidents.iter().chain(&report.past);
    all.next().expect("an incident")
}

#[test]
fn each_class_is_explained_in_words_and_in_json() {
    for (class, lab) in scenes() {
        let report = lab.report();
        let incident = incident(&report);
        assert_eq!(incident.class, class, "{}", lab.story());
        let full = FullIncident::build(incident, &report, clock(lab.kernel.now));
        let name = class.name();

        let mut page = String::new();
        let zone = jiff::tz::TimeZone::UTC;
        let view = View { utf8: true, colour: false, zone, width: View::WIDTH };
        let mut brief = String::new();
        text::attack_in_full(&mut brief, &full, &view, false).unwrap();
        let conclusion = brief.split("\n\n").next().unwrap_or_default();
        assert!((4..=8).contains(&conclusion.lines().count()), "{brief}");
        text::attack_in_full(&mut page, &full, &view, true).unwrap();
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
        let path = repository(&format!("tcpguard/tests/expected/explain-{name}.txt"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == expected, "{name} differs; found:\n{page}\nexpected:\n{expected}");

        let json = serde_json::to_value(&full).unwrap();
        assert_formed("incident", &json);
        assert_eq!(serde_json::from_value::<FullIncident>(json).unwrap(), full, "{name}");

        assert!(full.evidence_bytes() <= EVIDENCE_BYTES, "{name}: {}", full.evidence_bytes());
        assert!(full.record.lists_hold >= 8, "{name}: nothing had to be left out");
        let holds: Vec<bool> = full.record.lines.iter().map(|line| line.holds).collect();
        assert_eq!(holds.last(), Some(&true), "{name}: the last line decided");
    }
}

/// The SYN headers of a flood over IPv4 are never cut, and the lists stay long enough to be read.
#[test]
fn sixteen_headers_of_common_length_fit() {
    let mut lab = lab(4096).flood(Flood::random(5000.0, 10.1..30.1));
    lab.run_until(12.0);
    let (listener, header) = headers().nth(1).unwrap();
    lab.engine.handle_headers((0..16).map(|_| (listener, header.clone())));
    lab.run_until(25.0);
    let report = lab.report();
    let full = FullIncident::build(incident(&report), &report, clock(lab.kernel.now));
    let headers = &full.record.syn_headers;
    assert_eq!((headers.len(), headers[0].bytes.len()), (16, 60));
    assert!(full.record.lists_hold >= 2, "{}", full.record.lists_hold);
}

/// A wildcard listener has no address to be named, so the recorded SYNs name it.
#[test]
fn the_provider_is_given_the_address_that_the_flood_goes_to() {
    let lab = flooded(Flood::random(5000.0, 10.1..50.1), 20.0);
    let report = lab.report();
    let mut full = FullIncident::build(incident(&report), &report, clock(lab.kernel.now));
    full.incident.dst = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let request = text::provider(&full);
    assert_eq!(request[1], "Destination: 203.0.113.10, TCP port 443");
    assert!(request.iter().any(|line| line.contains("dst host 203.0.113.10 and")), "{request:#?}");
    full.record.syn_headers.clear();
    let request = text::provider(&full);
    assert_eq!(request[1], "Destination: every address of this host, TCP port 443");
}

/// The SYNs of clients are never to be dropped.
#[test]
fn a_provider_is_not_asked_to_drop_what_clients_send() {
    let lab = flooded(Flood::random(5000.0, 10.1..50.1), 20.0);
    let report = lab.report();
    let mut full = FullIncident::build(incident(&report), &report, clock(lab.kernel.now));
    assert!(text::provider(&full)[0].contains("drop the SYNs that the filter matches"));
    full.incident.evidence.signatures[0].completed = 1;
    let request = text::provider(&full);
    assert!(request[0].contains("mitigate this SYN flood upstream"), "{request:#?}");
    let filter = "Filter (tcpdump): dst host 203.0.113.10 and tcp dst port 443 and \
                  tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn";
    let signature = "Signature: that of our clients, so do not filter by signature";
    assert_eq!(request[request.len() - 2..], [filter, signature]);
}

fn text(most: usize) -> impl Strategy<Value = String> {
    // Quotes and backslashes take two bytes each, characters beyond ASCII up to four.
    proptest::collection::vec(
        prop_oneof!["[a-z ]", Just("\"".to_owned()), Just("…".to_owned())],
        0..most,
    )
    .prop_map(|parts| parts.concat())
}

fn share() -> impl Strategy<Value = f64> {
    0.0..=1.0
}

/// A quantity with a long name.
fn fact() -> impl Strategy<Value = Measured> {
    (0.0..1e12, any::<bool>()).prop_map(|(value, has_limit)| Measured {
        what: Quantity::UnreadableDroppedRate,
        value: Some(value),
        limit: has_limit.then_some(Limit::AtLeast(value)),
    })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let source = (any::<u128>(), share())
        .prop_map(|(bits, share)| SourceShare { addr: Ipv6Addr::from_bits(bits).into(), share });
    let network = (any::<u128>(), share()).prop_map(|(bits, share)| NetworkShare {
        net: ipnet::Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 48).trunc().into(),
        share,
    });
    let signature = (text(260), share(), any::<u64>()).prop_map(|(text, share, completed)| {
        let mask = "no_window_mss_ttl".to_owned();
        SignatureShare { text, mask, share, completed, completion: share }
    });
    let item = (list(fact(), 0..=4), any::<bool>()).prop_map(|(measured, holds)| Indicator {
        name: IndicatorName::NoRetransmission,
        holds,
        measured,
    });
    (
        list(source, 0..=8),
        list(network, 0..=8),
        list(signature, 0..=4),
        list((any::<u8>(), share()).prop_map(|(ttl, share)| TtlShare { ttl, share }), 0..=8),
        list(item, 0..=9),
        any::<u64>(),
        share(),
    )
        .prop_map(
            |(top_sources, top_networks, signatures, ttls, indicators, number, share)| Evidence {
                failed_flows: number,
                completion: share,
                sources_estimate: number,
                syns_per_source: share * 1e9,
                singleton_share: share,
                top_source_share: share,
                top_sources,
                top_networks,
                k90_sources: number,
                k90_networks: number,
                distinct_slash8: number,
                signatures,
                signature_filter: Some("tcp[20] = 1 and ".repeat(32)),
                top2_ttl_share: share,
                ttls,
                retransmitted_share: Some(share),
                indicators,
                ..Evidence::default()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: tcpguard_goals::size(32, 128), ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_known_of_an_attack_its_evidence_has_at_most_9_kib(
        last in evidence(),
        first in evidence(),
        facts in list(list(fact(), 0..=6), 12),
        rules in proptest::collection::vec((any::<u32>(), text(300), text(200), any::<u64>()), 0..=16),
        headers in list(list(any::<u8>(), 40..=112), 0..=16),
        number in any::<u64>(),
        rate in 0.0..1e12,
    ) {
        let (report, mut incident) = grown(&flood_report());
        let record = &mut incident.record;
        incident.evidence = last;
        let held = first.indicators.iter().filter(|one| one.holds);
        record.first.indicators = held.map(|one| one.name).collect();
        let mut facts = facts.into_iter();
        let mut facts = || facts.next().unwrap_or_default();
        record.alarm = facts();
        let restraint =
            |measured| Some(Restraint { reason: RestraintReason::ClientsUnknown, measured });
        (record.no_rule, record.no_mitigation) = (restraint(facts()), restraint(facts()));
        let line = |measured| VerdictLine {
            class: IncidentClass::HandshakeDegraded,
            question: Question::MissingHandshakes,
            holds: false,
            measured,
        };
        record.lines = (0..12).map(|_| line(facts())).collect();
        for moment in [&mut record.at_alarm, &mut record.at_last].into_iter().flatten() {
            moment.rates.syn_pps = number as f64;
            moment.rates.span_s = rate;
            moment.kernel.listen_drops = number;
            moment.kernel.syncookies_sent = number;
            moment.statistics.fast_attempts = number;
            moment.statistics.baseline_syn_rate = rate;
            moment.statistics.expected = rate;
        }
        let header = |bytes| SynHeader { at: Timestamp::default(), bytes, length: Some(u16::MAX) };
        record.syn_headers = headers.into_iter().map(header).collect();
        let hits: u64 = rules.iter().map(|(.., hits)| hits >> 8).sum();
        record.rules = rules.into_iter().map(|(id, matches, reason, hits)| RuleRecord {
            id: RuleId(id),
            kind: Mitigation::Signature,
            matches,
            reason: RuleReason::Given { text: reason },
            created_at: Timestamp::default(),
            ended_at: Some(Timestamp::default()),
            hits: hits >> 8,
            accepted_retransmits: hits >> 8,
            completed: hits >> 8,
        }).collect();
        let full = FullIncident::build(&incident, &report, clock(Timestamp::from_millis(60_000)));
        prop_assert!(full.evidence_bytes() <= EVIDENCE_BYTES, "{}", full.evidence_bytes());
        // No number is lost, and no hit.
        prop_assert_eq!(full.incident.evidence.failed_flows, incident.evidence.failed_flows);
        prop_assert_eq!(
            full.record.at_alarm.as_ref().map(|moment| moment.kernel.listen_drops),
            Some(number)
        );
        let kept: u64 = full.record.rules.iter().map(|rule| rule.hits).sum();
        prop_assert_eq!(kept + full.record.more_hits, hits);
    }
}

/// A flood that was over, played once.
fn flood_report() -> Report {
    static PLAYED: std::sync::OnceLock<Report> = std::sync::OnceLock::new();
    let play = || flooded(Flood::random(2000.0, 10.1..12.1), 46.0).report();
    PLAYED.get_or_init(play).clone()
}

/// A report and its incident, to be made larger.
fn grown(report: &Report) -> (Report, IncidentReport) {
    (report.clone(), incident(report).clone())
}
