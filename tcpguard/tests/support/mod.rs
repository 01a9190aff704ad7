//! Scenes that several tests look at: the reports of the engine and the agent in them.

use std::net::IpAddr;
use std::time::Duration;

use tcpguard::documents::{
    AlertEntry, AlertEvent, AttachMode, BackendInUse, ConfigState, Cookies, Counts as EventCounts,
    Facts, Hook, IncidentCount, InterfaceFacts, LossCounters, Map, Program, Reading, Source,
    Status,
};
use tcpguard::text;
use tcpguard_common::abi::{Class, PacketCounters, Reason};
use tcpguard_engine::*;
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::linux::{Conntrack, LinkStats, SoftnetCpu};
use tcpguard_host::time::Clock;

/// The moment of every scene, in ms since boot.
const NOW: u64 = 1_000_000_000;

fn ago(millis: u64) -> Timestamp {
    Timestamp::from_millis(NOW - millis)
}

/// The clocks of every scene.
pub fn clock() -> Clock {
    Clock { now: ago(0), wall: "2026-11-20T14:05:31.204Z".parse().unwrap() }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn packets(counts: &[(Reason, u64)], syns: u64) -> PacketCounters {
    let mut counters = PacketCounters::default();
    for (reason, count) in counts {
        counters.reasons[*reason as usize] = *count;
        counters.entry += count;
    }
    counters.bytes = counters.entry * 60;
    counters.classes[Class::Syn as usize] = syns;
    counters
}

fn interface(now: PacketCounters, earlier: PacketCounters) -> InterfaceFacts {
    InterfaceFacts {
        name: "eth0".to_owned(),
        ifindex: 2,
        hook: Hook::Xdp,
        mode: AttachMode::Native,
        fallback: None,
        choice: None,
        link_id: Some(17),
        pinned: true,
        attached: true,
        next: None,
        ahead: Vec::new(),
        packets: Reading { now, earlier: Some((earlier, Duration::from_secs(1))) },
    }
}

fn listener(id: u32, at: &str, port: u16, syn_rate: f64, state: ListenerState) -> ListenerReport {
    ListenerReport {
        id: ListenerId(id),
        listener: Listener { addr: addr(at), port },
        kind: ListenerKind::Local,
        counters: ListenerCounters {
            syn: 5_000,
            syn_ack: 5_000,
            established: Some(4_990),
            acknowledged: 4_990,
            ..ListenerCounters::default()
        },
        queues: Some(Queues { half_open: Some(1), accept: 0, backlog: 4096 }),
        syn_rate,
        dropped_rate: 0.0,
        cookie_rate: 0.0,
        reaching_rate: 0.0,
        completions: Completions::of(syn_rate, Some(syn_rate), 0.0, None),
        failing_rate: 0.0,
        with_others: false,
        mitigations: Vec::new(),
        egress: Egress::Seen,
        state,
    }
}

/// Of the listener's clients, so many a second connect, and the others of the baseline fail.
pub fn serve(listener: &mut ListenerReport, rate: f64) {
    let baseline = listener.completions.baseline;
    listener.completions = Completions::of(rate, baseline, listener.syn_rate - rate, None);
}

/// A host on which nothing happens.
pub fn calm() -> (Report, Facts) {
    let report = Report {
        allowed: Vec::new(),
        mode: Mode::Enforce,
        incidents: Vec::new(),
        past: Vec::new(),
        listeners: vec![
            listener(0, "0.0.0.0", 22, 0.2, ListenerState::Ok),
            listener(1, "::", 443, 52.0, ListenerState::Ok),
        ],
        rules: Vec::new(),
        sample_shift: 0,
    };
    let earlier = packets(&[(Reason::Syn, 9_948), (Reason::Segment, 899_000)], 9_948);
    let counts = [(Reason::Syn, 10_000), (Reason::Segment, 900_000), (Reason::NotTcp, 1_200)];
    let now = packets(&counts, 10_000);
    let tcp_ext = TcpExt { syncookies_sent: 12, listen_drops: 3, ..TcpExt::default() };
    let facts = Facts {
        clock: clock(),
        interval: Duration::from_millis(250),
        hostname: "edge-1".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 4711,
        started: ago(533_520_000),
        config: ConfigState {
            path: Some("/etc/tcpguard/tcpguard.toml".to_owned()),
            loaded_at: clock().time_at(ago(533_520_000)),
            valid: true,
            error: None,
            stands_in: None,
        },
        mode_reverts: None,
        heartbeat: Some(ago(140)),
        heap: Some(2_812_416),
        interfaces: vec![interface(now, earlier)],
        losses: arrivals([1_200, 1_050], 0, 0),
        conntrack: Some(Conntrack { count: 7_864, max: 262_144 }),
        tcp_ext: Reading { now: tcp_ext, earlier: Some((tcp_ext, Duration::from_secs(1))) },
        cookies: Cookies {
            backend: BackendInUse::Own,
            reason: None,
            by_family: Vec::new(),
            sent: 0,
            valid: 0,
            invalid: 0,
            unanswered: [("no_way".to_owned(), 1_204), ("fragment".to_owned(), 12)].into(),
            validated_clients: Some(9_000),
        },
        refusing: Default::default(),
        rules_in_kernel: Some(0),
        drift_since: None,
        maps: vec![
            Map::new("FLOWS", Some(120), 65_536),
            Map::new("CLIENTS", Some(9_000), 65_536),
            Map::new("DROP_CACHE", None, 1_048_576),
        ],
        sources: vec![Source {
            addr: addr("2001:db8:7::"),
            syn: 311,
            syn_ack: 311,
            ack: 84_000,
            rst: 2,
            completed: 309,
            validated: true,
        }],
        sources_at: Some(ago(1_200)),
        programs: vec![Program {
            name: "tcpguard_ingress".to_owned(),
            runs: 0,
            run_ns: 0,
            cost: None,
        }],
        counts: EventCounts::default(),
        fleet: None,
        health: Vec::new(),
        obstacles: Vec::new(),
        alerts: Vec::new(),
        past: Vec::new(),
    };
    (report, facts)
}

/// Packets that arrived in the last second on each of two CPUs, and packets that the ring of the
/// only interface and the backlog of the first CPU lost in it. More packets were lost when the host
/// was booted.
fn arrivals(packets_by_cpu: [u64; 2], ring: u64, backlog: u64) -> Reading<LossCounters> {
    let counters = |packets: [u64; 2], ring: u64, backlog: u64| LossCounters {
        links: vec![LinkStats {
            rx_packets: 911_200 + packets[0] + packets[1],
            rx_missed: 3 + ring,
            ..LinkStats::default()
        }],
        softnet: vec![
            SoftnetCpu { cpu: 0, processed: 900_000, dropped: backlog, squeezed: 12 },
            SoftnetCpu { cpu: 1, processed: 10_000, dropped: 0, squeezed: 0 },
        ],
        packets_by_cpu: vec![455_600 + packets[0], 455_600 + packets[1]],
    };
    Reading {
        now: counters(packets_by_cpu, ring, backlog),
        earlier: Some((counters([0, 0], 0, 0), Duration::from_secs(1))),
    }
}

/// No attack is seen, but most packets are lost before XDP, on a card with one queue.
#[allow(dead_code, reason = "not every test that looks at scenes looks at this one")]
pub fn losing() -> (Report, Facts) {
    let (report, mut facts) = calm();
    facts.losses = arrivals([40_000, 60], 55_000, 1_200);
    (report, facts)
}

/// The record of the flood: one rule, still there.
fn record(started: Timestamp, evidence: &Evidence, rule: RuleReport) -> Box<Record> {
    let rates =
        |span_s, syn_pps| Rates { span_s, syn_pps, attempted_pps: syn_pps, ..Rates::default() };
    let moment = |after: u64, syns: u64| Moment {
        at: started + Duration::from_millis(after),
        rates: rates(8.0, syns as f64),
        statistics: Statistics {
            given_ms: 250,
            fast_attempts: syns / 2,
            fast_failures: syns / 2 - 26,
            fast_polls: 2,
            cusum: 32.0,
            cusum_limit: 16.0,
            dispersion: 1.5,
            natural_share: 0.02,
            natural_rate: 0.3,
            expected: 160.0,
            occupancy: None,
            overload_polls: 0,
            flash_crowd_polls: 0,
            baseline_syn_rate: 52.0,
        },
        kernel: TcpExt { syncookies_sent: 12, ..TcpExt::default() },
        half_open: Some(128),
        accept_queue: Some(3),
        queue_limit: Some(4096),
    };
    let held = evidence.indicators.iter().filter(|one| one.holds);
    let line = |class, question, holds, measured| VerdictLine { class, question, holds, measured };
    Box::new(Record {
        alarm: vec![measured(Quantity::FailedHandshakes, 49_400.0, 64.0)],
        before: Some(rates(10.0, 52.0)),
        at_alarm: Some(moment(500, 98_000)),
        first: FirstVerdict {
            at: started + Duration::from_millis(500),
            class: IncidentClass::RandomSpoofed,
            indicators: held.map(|one| one.name).collect(),
        },
        at_last: Some(moment(199_000, 98_900)),
        lines: vec![
            line(
                IncidentClass::HandshakeDegraded,
                Question::FewIndicators,
                false,
                vec![Measured {
                    what: Quantity::Indicators,
                    value: Some(2.0),
                    limit: Some(Limit::Below(2.0)),
                }],
            ),
            line(
                IncidentClass::RandomSpoofed,
                Question::Fits,
                true,
                vec![measured(Quantity::SeenOnceShare, 0.99, 0.9)],
            ),
        ],
        doubt: None,
        after: None,
        rules: vec![RuleRecord {
            id: rule.id,
            kind: rule.kind,
            matches: rule.matches,
            reason: rule.reason,
            created_at: rule.created_at,
            ended_at: None,
            hits: rule.hits,
            accepted_retransmits: rule.accepted_retransmits,
            completed: rule.completed,
        }],
        more_rules: 0,
        more_hits: 0,
        mitigations: vec![Mitigation::Cookies],
        removed: None,
        no_rule: None,
        no_mitigation: None,
        syn_headers: Vec::new(),
        lists_hold: 16,
    })
}

fn signature_reason() -> RuleReason {
    RuleReason::Signature { coverage: 1.0, basis: SignatureBasis::NoClient }
}

/// A quantity with the least value that it needs.
fn measured(what: Quantity, value: f64, least: f64) -> Measured {
    Measured { what, value: Some(value), limit: Some(Limit::AtLeast(least)) }
}

/// The rule against the flood.
fn signature_rule() -> RuleReport {
    RuleReport {
        id: RuleId(7),
        kind: Mitigation::Signature,
        matches: "opts=none win=512 ttl=64 at :443".to_owned(),
        ports: Ports::EVERY,
        origin: RuleOrigin::Incident,
        incident: Some(3),
        reason: signature_reason(),
        created_at: ago(199_250),
        expires_at: ago(0) + Duration::from_secs(54),
        expires_in_s: 54,
        confirmed_until: None,
        hits: 19_740_000,
        accepted_retransmits: 2,
        completed: 1,
    }
}

fn flood(mode: Mode) -> IncidentReport {
    let started = ago(200_000);
    let action = |after: u64, action: Event| ActionReport {
        at: started + Duration::from_millis(after),
        action,
    };
    let signature = "opts=none win=512 ttl=64".to_owned();
    let installed = Event::RuleInstalled {
        rule: NamedRule { id: RuleId(7), target: Target::Signature { signature } },
        origin: Origin::Incident(3),
        reason: signature_reason(),
        mode,
        terms: None,
    };
    let recognised = Event::ClassChanged { class: IncidentClass::RandomSpoofed };
    let actions = vec![action(500, recognised), action(750, installed)];
    let evidence = Evidence {
        ports_tried: 0,
        addresses_tried: 0,
        baseline_syn_rate: 0.0,
        unsolicited_rate: 0.0,
        closed_rate: 0.0,
        beyond_rate: 0.0,
        beyond_dropped_rate: 0.0,
        failed_flows: 38_100,
        completion: 0.002,
        sources_estimate: 37_600,
        syns_per_source: 1.013,
        singleton_share: 0.987,
        top_source_share: 0.000_1,
        top_sources: vec![SourceShare { addr: addr("198.51.100.7"), share: 0.000_1 }],
        top_networks: vec![NetworkShare {
            net: "198.51.100.0/24".parse().unwrap(),
            share: 0.000_2,
        }],
        k90_sources: 33_800,
        k90_networks: 31_000,
        distinct_slash8: 221,
        signatures: vec![SignatureShare {
            text: "opts=none win=512 ttl=64".to_owned(),
            mask: "full".to_owned(),
            share: 1.0,
            completed: 0,
            completion: 0.0,
        }],
        signature_filter: Some(
            "tcp[tcpflags] & (tcp-syn|tcp-ack|tcp-rst|tcp-fin) = tcp-syn and tcp[14:2] = 512 and \
             ip[8] = 64 and ip[6] & 0x40 = 0 and tcp[12] & 0xf0 = 0x50"
                .to_owned(),
        ),
        top2_ttl_share: 1.0,
        ttls: vec![TtlShare { ttl: 64, share: 1.0 }],
        retransmitted_share: Some(0.003),
        replies_unseen: false,
        indicators: vec![
            Indicator {
                name: IndicatorName::Singletons,
                holds: true,
                measured: vec![measured(Quantity::SeenOnceShare, 0.987, 0.9)],
            },
            Indicator {
                name: IndicatorName::Fingerprint,
                holds: true,
                measured: vec![measured(Quantity::SignatureShare, 1.0, 0.5)],
            },
            Indicator {
                name: IndicatorName::Surge,
                holds: false,
                measured: vec![measured(Quantity::FailedRate, 4_100.0, 5_200.0)],
            },
        ],
    };
    IncidentReport {
        id: 3,
        listener_id: ListenerId(1),
        listener: Listener { addr: addr("::"), port: 443 },
        listeners: 1,
        class: IncidentClass::RandomSpoofed,
        severity: Severity::Critical,
        started,
        detected: started + Duration::from_millis(500),
        ended: None,
        quiet: None,
        signal: Signal::Fast,
        record: record(started, &evidence, signature_rule()),
        evidence,
        counts: IncidentCounts {
            syns: 19_800_000,
            matched: 19_740_000,
            dropped: if mode == Mode::Enforce { 19_740_000 } else { 0 },
            cookies_sent: if mode == Mode::Enforce { 60_000 } else { 0 },
            cookies_redeemed: if mode == Mode::Enforce { 9_900 } else { 0 },
            completed: 10_200,
        },
        counted: Duration::from_secs(200),
        baseline_completed_rate: Some(51.0),
        syn_rate: 98_900.0,
        stopped_rate: 0.0,
        peak_syn_rate: 101_000.0,
        actions,
        rules: vec![RuleId(7)],
    }
}

/// A flood from random sources for 200 s, with one rule against it, in `mode`.
pub fn flooded(mode: Mode) -> (Report, Facts) {
    let (mut report, mut facts) = calm();
    report.mode = mode;
    report.incidents = vec![flood(mode)];
    report.sample_shift = 3;
    report.rules = vec![signature_rule()];
    let victim = &mut report.listeners[1];
    victim.syn_rate = 98_900.0;
    victim.dropped_rate = 98_840.0;
    victim.queues = Some(Queues { half_open: Some(128), accept: 3, backlog: 4096 });
    let (drop, state) = match mode {
        Mode::Enforce => (Reason::DropSignature, ListenerState::Mitigating),
        _ => (Reason::WouldDropSignature, ListenerState::Attacked),
    };
    victim.state = state;
    if mode == Mode::Enforce {
        victim.counters.cookies_sent = 60_000;
        victim.counters.cookies_redeemed = 9_900;
        victim.cookie_rate = 60.0;
        victim.mitigations = vec![
            MitigationReport {
                mitigation: Mitigation::Cookies,
                family: None,
                address: None,
                state: MitigationState::Active,
                since: Some(ago(199_250)),
                until: None,
                why: MitigationReason::Uncovered { share: 0.073 },
            },
            MitigationReport {
                mitigation: Mitigation::Budget,
                family: None,
                address: None,
                state: MitigationState::Refused,
                since: None,
                until: Some(ago(0) + Duration::from_secs(30)),
                why: MitigationReason::Harmful { harm: Harm::Fewer { before: 51.0, after: 3.0 } },
            },
        ];
    }
    if mode != Mode::Enforce {
        serve(victim, 9.0);
    }
    let counts = |dropped, passed, syns| {
        packets(&[(drop, dropped), (Reason::Syn, passed), (Reason::Segment, 900_000)], syns)
    };
    facts.interfaces = vec![interface(
        counts(19_740_000, 60_000, 19_800_000),
        counts(19_641_160, 59_940, 19_701_100),
    )];
    facts.rules_in_kernel = Some(1);
    facts.losses = arrivals([49_460, 49_440], 0, 0);
    facts.counts = EventCounts {
        incidents: vec![IncidentCount {
            class: IncidentClass::RandomSpoofed,
            severity: Severity::Critical,
            count: 2,
        }],
        reloads_applied: 3,
        reloads_refused: 1,
    };
    facts.programs[0].runs = 20_700_000;
    facts.programs[0].run_ns = 6_500_000_000;
    facts.sources = vec![Source {
        addr: addr("198.51.100.7"),
        syn: 9,
        syn_ack: 1,
        ack: 0,
        rst: 0,
        completed: 0,
        validated: false,
    }];
    let started = Event::AttackStarted(Box::new(IncidentFacts::of(&report.incidents[0], mode)));
    facts.alerts = vec![AlertEntry {
        seq: 41,
        at: clock().time_at(ago(199_500)),
        severity: Severity::Critical,
        message: text::event_line(&started),
        event: AlertEvent::Engine(Box::new(started)),
        incident: Some(3),
    }];
    (report, facts)
}

/// The same flood, and a second service with an application that accepts no connection.
#[allow(dead_code, reason = "not every test that looks at scenes looks at this one")]
pub fn overloaded() -> (Report, Facts) {
    let (mut report, facts) = flooded(Mode::Enforce);
    let mut full = listener(2, "0.0.0.0", 8080, 173.0, ListenerState::Overloaded);
    full.queues = Some(Queues { half_open: Some(0), accept: 17, backlog: 16 });
    serve(&mut full, 0.0);
    report.listeners.push(full);
    let flood = &report.incidents[0];
    let action = Event::ClassChanged { class: IncidentClass::ListenerOverload };
    let overload = IncidentReport {
        id: 4,
        listener_id: ListenerId(2),
        listener: Listener { addr: addr("0.0.0.0"), port: 8080 },
        class: IncidentClass::ListenerOverload,
        severity: Severity::Warning,
        started: ago(60_000),
        detected: ago(58_000),
        signal: Signal::AcceptQueue,
        evidence: Evidence { indicators: Vec::new(), ..flood.evidence.clone() },
        counts: IncidentCounts { syns: 10_380, completed: 16, ..IncidentCounts::default() },
        baseline_completed_rate: Some(173.0),
        syn_rate: 173.0,
        peak_syn_rate: 180.0,
        actions: vec![ActionReport { at: ago(58_000), action }],
        rules: Vec::new(),
        ..flood.clone()
    };
    report.incidents.push(overload);
    (report, facts)
}

/// No attack, but tcpguard is impaired: a lost interface, generic mode, lost rules.
#[allow(dead_code, reason = "not every test that looks at scenes looks at this one")]
pub fn degraded() -> (Report, Facts) {
    let (mut report, mut facts) = calm();
    let mut second = facts.interfaces[0].clone();
    facts.interfaces[0].attached = false;
    second.name = "eth1".to_owned();
    second.mode = AttachMode::Generic;
    second.fallback = Some("Operation not supported (os error 95)".to_owned());
    second.packets.earlier = None;
    // Two packets were being decided while the counters were read.
    second.packets.now.entry += 2;
    facts.interfaces.push(second);
    facts.losses.now.links.push(LinkStats::default());
    let mut past = flood(Mode::Enforce);
    past.ended = Some(ago(100_000));
    past.rules.clear();
    past.record.after = past.record.before;
    report.past = vec![past];
    report.rules = vec![RuleReport {
        id: RuleId(9),
        kind: Mitigation::Source,
        matches: "192.0.2.0/24".to_owned(),
        ports: Ports::EVERY,
        origin: RuleOrigin::Operator,
        incident: None,
        reason: RuleReason::Given { text: "blocked by hand".to_owned() },
        created_at: ago(10_000),
        expires_at: ago(0) + Duration::from_secs(3590),
        expires_in_s: 3590,
        confirmed_until: None,
        hits: 0,
        accepted_retransmits: 0,
        completed: 0,
    }];
    facts.drift_since = Some(ago(5_000));
    facts.config.error = Some("line 3: unknown key".to_owned());
    let text = "the kernel does not report completed handshakes; third ACKs are counted instead";
    let hint = "see whether it has BTF: ls -l /sys/kernel/btf/vmlinux";
    facts.health = vec![Finding::notice("no_tracepoint", text).hint(hint)];
    (report, facts)
}

/// The document of a report and its facts.
pub fn built(report: &Report, facts: &Facts) -> Status {
    Status::build(report, facts, text::health(report, facts))
}

/// The document of a scene.
#[allow(dead_code, reason = "not every test that looks at scenes looks at this one")]
pub fn status((report, facts): (Report, Facts)) -> Status {
    built(&report, &facts)
}
