//! Floods from random sources: found, explained, dropped, released.

use tcpguard_common::abi::Mask;
use tcpguard_engine::{
    Event, FlowState, IncidentClass, IndicatorName, Matcher, Mode, RuleId, RuleObstacle,
    RuleReason, Severity, Signal, SignatureBasis, Target,
};

use crate::sim::*;

/// Expected outcome of a flood.
struct Case {
    name: &'static str,
    server: Server,
    clients: Clients,
    flood: Flood,
    /// The mask of the rule.
    mask: Mask,
    /// Latest alert and latest rule after the first SYN.
    found_by: f64,
    rule_by: f64,
}

fn case(name: &'static str, shape: Shape, mask: Mask) -> Case {
    Case {
        name,
        server: Server::default(),
        clients: Clients::steady(100.0),
        flood: Flood { shape, ..Flood::random(20_000.0, 10.1..25.1) },
        mask,
        found_by: 1.0,
        rule_by: 1.5,
    }
}

fn cases() -> Vec<Case> {
    let bare = |name| case(name, Shape::Bare, Mask::Full);
    let with = |case: Case, server| Case { server, ..case };
    let cold =
        |case: Case| Case { clients: Clients { from: 10.0, ..Clients::steady(100.0) }, ..case };
    let no_cookies = Server { cookies: false, ..Server::default() };
    vec![
        bare("cookies on"),
        with(bare("cookies off"), no_cookies),
        with(bare("large queue"), Server { backlog: 4096, ..Server::default() }),
        with(bare("without the tracepoint"), Server { traced: false, ..Server::default() }),
        Case {
            clients: Clients { rtt: 0.08..0.12, ..Clients::steady(100.0) },
            ..bare("clients 100 ms away")
        },
        Case {
            flood: Flood { sources: Sources::RandomV6, ..Flood::random(20_000.0, 10.1..25.1) },
            ..bare("IPv6")
        },
        Case { flood: Flood::random(100_000.0, 10.1..16.1), ..bare("100,000 a second") },
        with(
            Case { flood: Flood::random(100_000.0, 10.1..16.1), ..bare("the same, cookies off") },
            no_cookies,
        ),
        cold(bare("no clients before, cookies on")),
        with(cold(bare("no clients before, cookies off")), no_cookies),
        case("two TTLs and ECE+CWR", Shape::BareEcn, Mask::NoTtl),
        case("window and MSS drawn", Shape::RandomWindowMss, Mask::NoWindowMss),
        case("TTL drawn", Shape::RandomTtl, Mask::NoTtl),
        with(cold(case("TTL drawn, cold, cookies off", Shape::RandomTtl, Mask::NoTtl)), no_cookies),
        Case {
            flood: Flood { sources: Sources::Pool(3000), ..Flood::random(20_000.0, 10.1..25.1) },
            // It differs from a broken path because its sources do not retransmit after 1.5 s.
            found_by: 2.5,
            rule_by: 2.5,
            ..bare("a pool of 3,000 addresses")
        },
        Case {
            clients: Clients::steady(20.0),
            flood: Flood::random(300.0, 10.1..25.1),
            // So few clients are known that a thousand unused answers must be.
            rule_by: 6.0,
            ..bare("300 a second")
        },
    ]
}

#[test]
fn a_flood_is_found_within_a_second_dropped_by_signature_and_released() {
    for Case { name, server, clients, flood, mask, found_by, rule_by } in cases() {
        let (began, ended) = (flood.from, flood.until);
        let mut lab = Lab::new(Mode::Enforce).listener(server).clients(clients).flood(flood);
        lab.run_until(ended);
        let story = format!("{name}:\n{}", lab.story());

        let incident = lab.incident();
        assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{story}");
        assert_eq!(incident.severity, Severity::Critical, "{story}");
        let started = lab.times("attack_started");
        assert!(started[0] - began <= found_by, "{story}");
        let (installed, rule) = lab.installed.first().expect(&story);
        assert!(installed - began <= rule_by, "{installed} {story}");
        let Matcher::Signature { mask: chosen, .. } = rule.matcher else { panic!("{story}") };
        assert_eq!(chosen, mask, "{story}");
        assert_eq!(lab.installed.len(), 1, "{story}");

        let connected = lab.connected(installed + 1.0, ended);
        assert!(connected >= 0.99, "{connected} {story}");

        lab.run_until(ended + 40.0);
        let story = format!("{name}:\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 1, "{story}");
        let over = lab.times("attack_ended");
        assert_eq!(over.len(), 1, "{story}");
        assert!(over[0] - ended <= 35.0, "{story}");
        assert_eq!(lab.kernel.rules().count(), 0, "rules go with the attack: {story}");
    }
}

#[test]
fn the_evidence_is_complete_and_its_numbers_add_up() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .flood(Flood::random(20_000.0, 10.1..40.1));
    lab.run_until(20.0);
    let incident = lab.incident();
    let evidence = &incident.evidence;
    assert_eq!(incident.signal, Signal::Fast);
    let holding = evidence.indicators.iter().filter(|item| item.holds).map(|item| item.name);
    assert_eq!(
        holding.collect::<Vec<_>>(),
        [
            IndicatorName::Fingerprint,
            IndicatorName::Ttl,
            IndicatorName::Singletons,
            IndicatorName::NoRetransmission,
            IndicatorName::Surge
        ]
    );
    assert_eq!(evidence.signatures[0].text, "opts=none win=512 ttl=244");
    assert_eq!(evidence.signatures[0].completed, 0);
    assert!(evidence.signatures[0].share > 0.98);
    assert!(evidence.signatures.len() <= 4);
    assert_eq!(evidence.top_sources.len(), 8);
    assert!(evidence.top_source_share < 0.01);
    assert_eq!(evidence.ttls[0].ttl, 244);
    assert!(evidence.completion < 0.01);
    assert_eq!(evidence.retransmitted_share, Some(0.0));
    assert!(evidence.distinct_slash8 > 200);
    assert!((1.0..1.05).contains(&evidence.syns_per_source), "{}", evidence.syns_per_source);
    assert!((150_000..250_000).contains(&evidence.sources_estimate), "{evidence:?}");

    let sent = 20_000.0 * (20.0 - 10.1) + 100.0 * (20.0 - sim_start(incident.started));
    assert!(
        (incident.counts.syns as f64 - sent).abs() < 0.01 * sent,
        "{} of {sent}",
        incident.counts.syns
    );
    let listener = lab.listener_report(0);
    assert_eq!(incident.counts.dropped, listener.counters.dropped_signature);
    let rule = &lab.report().rules[0];
    assert_eq!(rule.hits, listener.counters.dropped_signature);
    assert_eq!(rule.matches, "opts=none win=512 ttl=244 to 203.0.113.10:443");
    assert_eq!(incident.rules, [rule.id]);
}

fn sim_start(started: tcpguard_engine::Timestamp) -> f64 {
    let started = seconds(started);
    assert!((10.0..=10.25).contains(&started), "the first failing tick: {started}");
    started
}

#[test]
fn the_alert_has_the_numbers() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .flood(Flood::random(20_000.0, 10.0..40.0));
    lab.run_until(12.0);
    let Event::AttackStarted(facts) = &lab.alerts[0].event else { panic!("{}", lab.story()) };
    assert_eq!((facts.number, facts.mode), (1, Mode::Observe));
    assert!((9_000.0..11_000.0).contains(&facts.syn_rate), "{facts:?}");
    assert!((9_000..11_000).contains(&facts.sources), "{facts:?}");
    assert!(facts.completion < 0.01, "{facts:?}");
    let Event::RuleInstalled { rule, reason, mode, .. } = &lab.alerts[1].event else {
        panic!("{}", lab.story())
    };
    assert_eq!((rule.id, *mode), (RuleId(0), Mode::Observe));
    let signature = "opts=none win=512 ttl=244".to_owned();
    assert_eq!(rule.target, Target::Signature { signature });
    let basis = SignatureBasis::NoClient;
    assert_eq!(*reason, RuleReason::Signature { coverage: 1.0, basis });
}

#[test]
fn with_a_full_queue_and_no_cookies_an_unmitigated_flood_stays_detected_to_its_end() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(100.0))
        .flood(Flood::random(20_000.0, 10.1..100.1));
    lab.run_until(100.0);
    assert_eq!(lab.times("attack_started").len(), 1);
    assert_eq!(lab.times("attack_ended"), [0.0; 0], "{}", lab.story());
    assert!(lab.connected(12.0, 99.0) < 0.05, "nobody gets in while nothing is dropped");
    let answered = lab.listener_report(0).counters.syn_ack;
    assert!(answered < 5000, "the kernel answers hardly anything: {answered}");
    let incident = lab.incident();
    assert!(
        incident.counts.matched > 1_700_000,
        "what enforce would have dropped: {}",
        incident.counts.matched
    );
}

#[test]
fn an_agent_that_starts_in_the_middle_of_a_flood_detects_it_though_nothing_is_answered() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(100.0))
        .flood(Flood::random(20_000.0, 1.0..40.0));
    lab.deaf = Some((0.0, 9.9));
    lab.run_until(40.0);
    assert!(lab.times("attack_started")[0] <= 11.0, "{}", lab.story());
    assert!(lab.installed[0].0 <= 11.5, "{}", lab.story());
    assert!(lab.connected(12.5, 39.0) > 0.99, "{}", lab.story());
}

#[test]
fn a_second_tool_gets_a_second_rule() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .flood(Flood::random(12_000.0, 10.0..40.0))
        .flood(Flood { shape: Shape::RandomWindowMss, ..Flood::random(8_000.0, 10.0..40.0) });
    lab.run_until(40.0);
    let rules = lab.signature_rules();
    assert_eq!(rules.len(), 2, "{}", lab.story());
    assert!(lab.installed[1].0 > lab.installed[0].0, "one at a time");
    assert!(lab.installed[1].0 < 13.0, "{}", lab.story());
    assert_eq!(lab.connected(14.0, 39.0), 1.0);
}

#[test]
fn a_mimicking_flood_is_classified_but_no_signature_is_dropped() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(100.0) })
        .flood(Flood { shape: Shape::Linux, ..Flood::random(20_000.0, 10.0..40.0) });
    lab.run_until(30.0);
    assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    let actions = lab.incident().actions;
    assert!(
        actions.iter().any(|action| {
            matches!(action.action, Event::RuleDeclined { why: RuleObstacle::ClientsMatch, .. })
        }),
        "{actions:?}"
    );
}

#[test]
fn a_slow_flood_that_fills_a_small_queue_is_found_by_occupancy() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(20.0))
        .flood(Flood::random(4.0, 30.0..300.0));
    lab.run_until(60.0);
    let incident = lab.incident();
    assert_eq!(incident.signal, Signal::Occupancy, "{}", lab.story());
    assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{}", lab.story());
    lab.run_until(300.0);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
    assert_eq!(lab.times("attack_ended").len(), 0, "{}", lab.story());
    assert!(lab.connected(60.0, 290.0) > 0.99, "{}", lab.story());
}

#[test]
fn a_slow_ramp_neither_stays_unseen_nor_teaches_the_detector_that_handshakes_fail() {
    // From nothing to 100 SYN/s within half an hour; the fast path begins at 128.
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(5.0));
    for step in 0..72 {
        let from = 25.0 * f64::from(step);
        lab = lab.flood(Flood::random(1.4 * f64::from(step), from..from + 25.0));
    }
    let mut lab = lab.flood(Flood::random(2000.0, 1800.0..1830.0));
    lab.run_until(1830.0);
    let started = lab.times("attack_started");
    assert_eq!(started.len(), 1, "{}", lab.story());
    let incident = lab.alerts[0].incident.as_ref().expect("an incident");
    assert_eq!(incident.signal, Signal::Slow);
    assert!(incident.syn_rate < 30.0, "{}", lab.story());
    assert!(lab.connected(1801.0, 1829.0) > 0.99, "{}", lab.story());
    lab.run_until(1866.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
}

#[test]
fn half_open_entries_of_the_flood_are_removed_and_clients_are_let_in_at_once() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(50.0))
        .flood(Flood::random(20_000.0, 10.1..40.1));
    lab.run_until(10.8);
    assert_eq!(lab.kernel.half_open(0), 129, "full when the rule comes");
    lab.run_until(12.0);
    assert!(lab.kernel.half_open(0) < 10, "{}", lab.kernel.half_open(0));
}

#[test]
fn flows_are_tracked_within_the_limit_and_fewer_of_those_that_are_dropped() {
    let tracked = |mode| {
        let mut lab =
            Lab::new(mode).listener(Server::default()).flood(Flood::random(100_000.0, 10.0..15.0));
        lab.run_until(14.0);
        assert_eq!(lab.report().sample_shift, 3);
        let flows = lab.kernel.flows();
        let recent = flows.iter().filter(|flow| flow.syn_at >= at(13.0));
        recent.map(|flow| (flow.state, flow.weight())).collect::<Vec<_>>()
    };
    let answered = tracked(Mode::Observe);
    assert!((10_000..=20_000).contains(&answered.len()), "{}", answered.len());
    let dropped = tracked(Mode::Enforce);
    assert!((1000..=2500).contains(&dropped.len()), "{}", dropped.len());
    assert!(dropped.iter().all(|flow| *flow == (FlowState::Dropped, 64)));
}
