//! The status as people and programs see it, scene by scene.
//!
//! The expected pages are `tests/expected/*.txt`; after a wanted change write them anew with
//! `UPDATE_EXPECTED=1 cargo test -p tcpguard --test status` and read the difference.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{built, calm, clock, degraded, flooded, losing, overloaded, status};
use tcpguard::cli::overflow::name_processes;
use tcpguard::documents::{Advised, NextProgramFacts, State, Status};
use tcpguard::text::{self, View};
use tcpguard_common::abi::Reason;
use tcpguard_common::abi::maps::MAX_LISTENERS;
use tcpguard_engine::{Egress, ListenerKind, ListenerState, Mode};
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::hint::Failure;
use tcpguard_host::linux::Conntrack;
use tcpguard_host::time::Time;
use tcpguard_host::units::percent;
use tcpguard_support::hint_check;
use tcpguard_support::schema::{assert_formed, faults};

fn view(utf8: bool) -> View {
    View { utf8, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

fn page(status: &Status) -> String {
    page_of(View::WIDTH, status)
}

fn page_of(width: usize, status: &Status) -> String {
    let mut page = String::new();
    text::status(&mut page, status, &View { width, ..view(true) }, false).unwrap();
    page
}

fn full_page(status: &Status) -> String {
    let mut page = String::new();
    text::full_status(&mut page, status, &view(true)).unwrap();
    page
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn assert_expected(name: &str, found: &str) {
    let path = repository(&format!("tcpguard/tests/expected/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} differs; found:\n{found}\nexpected:\n{expected}",
        path.display()
    );
}

/// No attack, but one service whose application accepts no connection.
fn queue_full() -> (tcpguard_engine::Report, tcpguard::documents::Facts) {
    let (mut report, facts) = calm();
    let overloaded = overloaded().0;
    report.listeners.push(overloaded.listeners.last().unwrap().clone());
    report.incidents.push(overloaded.incidents.last().unwrap().clone());
    (report, facts)
}

fn scenes() -> [(&'static str, State, Status); 8] {
    [
        ("overloaded", State::AttackMitigated, status(overloaded())),
        ("queue-full", State::Elevated, status(queue_full())),
        ("calm", State::Protecting, status(calm())),
        ("observing-attack", State::AttackUnmitigated, status(flooded(Mode::Observe))),
        ("mitigating", State::AttackMitigated, status(flooded(Mode::Enforce))),
        ("losing", State::DroppedBeforeXdp, status(losing())),
        ("degraded", State::Degraded, status(degraded())),
        ("off", State::AttackUnmitigated, status(flooded(Mode::Off))),
    ]
}

#[test]
fn each_scene_has_its_state_and_its_page() {
    for (name, state, status) in scenes() {
        assert_eq!(status.daemon.state, state, "{name}");
        assert_expected(name, &page(&status));
        if ["mitigating", "degraded"].contains(&name) {
            assert_expected(&format!("{name}-full"), &full_page(&status));
        }
    }
}

/// A service that is down is reported during an attack on another one, and with its process where that can be
/// seen.
#[test]
fn a_full_accept_queue_is_no_attack_and_has_a_process() {
    let mut status = status(overloaded());
    let before = full_page(&status);
    assert!(before.contains("#4 full accept queue on :8080"), "{before}");
    assert!(before.contains("OVERLOADED"), "{before}");
    let finding = |subject: &str| {
        Finding::critical("accept_queue_full", "nginx (900) accepts too slowly")
            .about(subject)
            .hint("raise `listen … backlog=` and apply it: nginx -s reload")
    };
    name_processes(&mut status, &[finding("0.0.0.0:81")]);
    assert_eq!(full_page(&status), before, "another listener");
    name_processes(&mut status, &[finding("0.0.0.0:8080")]);
    let full = status.health.iter().find(|it| it.code == "accept_queue_full").unwrap();
    assert_eq!(full.text, "nginx (900) accepts too slowly");
    let advice = status.incidents[1].advice.as_ref().unwrap();
    assert_eq!(advice.command.as_deref(), Some("tcpguard listeners"));
}

/// In a mode that mitigates nothing, the first line says so even if clients connect.
#[test]
fn the_first_line_says_what_one_would_not_think() {
    let brief = |status: &Status| {
        let mut brief = String::new();
        text::brief(&mut brief, status, &view(true)).unwrap();
        brief
    };
    let mut observed = status(flooded(Mode::Observe));
    observed.clients.ratio = Some(0.97);
    let said = "✗ tcpguard 0.1.0 on edge-1 — UNDER ATTACK, NOT mitigating, clients connect";
    assert!(brief(&observed).starts_with(said), "{}", brief(&observed));
    let mut stopped = status(flooded(Mode::Enforce));
    stopped.clients.ratio = Some(0.1);
    let said = "✗ tcpguard 0.1.0 on edge-1 — UNDER ATTACK, CLIENTS DO NOT CONNECT";
    assert!(brief(&stopped).starts_with(said), "{}", brief(&stopped));
    let said = "✗ tcpguard 0.1.0 on edge-1 — DEGRADED: no XDP program on eth0";
    let mut broken = status(degraded());
    assert!(brief(&broken).starts_with(said), "{}", brief(&broken));

    // Whatever else makes it degraded, the first note is named by its code and its subject.
    broken.health.retain(|finding| finding.code != "detached");
    let said = "✗ tcpguard 0.1.0 on edge-1 — DEGRADED: rule drift  ";
    assert!(brief(&broken).starts_with(said), "{}", brief(&broken));
    broken.health[0].code = "listeners_full".to_owned();
    broken.health[0].subject = Some("LISTENERS".to_owned());
    let said = "✗ tcpguard 0.1.0 on edge-1 — DEGRADED: listeners full LISTENERS  ";
    assert!(brief(&broken).starts_with(said), "{}", brief(&broken));
    broken.health.clear();
    let said = "✗ tcpguard 0.1.0 on edge-1 — DEGRADED  ";
    assert!(brief(&broken).starts_with(said), "{}", brief(&broken));
}

#[test]
fn rules_are_listed_with_origin_reason_end_and_hits() {
    let mut rules = status(flooded(Mode::Enforce)).rules.list;
    rules.extend(status(degraded()).rules.list);
    let mut table = String::new();
    text::rules(&mut table, &rules, &view(true)).unwrap();
    assert_expected("rules", &table);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [80, 100, 140] {
        for (name, _, status) in scenes() {
            for line in page_of(width, &status).lines() {
                assert!(line.chars().count() <= width, "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn a_page_uses_the_width_that_there_is() {
    for (name, _, status) in scenes() {
        if ["mitigating", "degraded"].contains(&name) {
            assert_expected(&format!("{name}-80"), &page_of(80, &status));
            assert_expected(&format!("{name}-140"), &page_of(140, &status));
        }
    }
}

#[test]
fn without_utf8_and_colour_nothing_is_lost_but_looks() {
    for (name, _, status) in scenes() {
        let page = page(&status);
        let ascii = view(false).encode(&page).into_owned();
        assert!(ascii.is_ascii(), "{name}");
        assert!(!ascii.contains('?'), "{name} has a character without a substitute:\n{ascii}");

        let mut coloured = String::new();
        let colour = View { colour: true, ..view(true) };
        text::status(&mut coloured, &status, &colour, false).unwrap();
        assert_ne!(coloured, page, "{name} has colours");
        assert_eq!(without_colours(&coloured), page, "{name}: colours only add to the words");
    }
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').expect("a colour code").1);
    }
    plain
}

#[test]
fn the_first_line_alone_is_the_brief_form() {
    for (name, _, status) in scenes() {
        let mut brief = String::new();
        text::brief(&mut brief, &status, &view(true)).unwrap();
        assert_eq!(page(&status).lines().next(), brief.strip_suffix('\n'), "{name}");
    }
}

#[test]
fn the_numbers_add_up() {
    for (name, _, status) in scenes() {
        for interface in &status.interfaces {
            let totals = &interface.totals;
            assert_eq!(
                totals.rx_packets,
                totals.pass + totals.drop_total + totals.cookies_sent + totals.unaccounted,
                "{name} {}",
                interface.name
            );
            assert_eq!(totals.pass, totals.pass_reasons.values().sum::<u64>(), "{name}");
            assert_eq!(totals.drop_total, totals.drop.values().sum::<u64>(), "{name}");
        }
        assert_eq!(status.rules.wanted as usize, status.rules.list.len(), "{name}");
        assert_eq!(
            status.rules.wanted,
            status.rules.block_auto + status.rules.block_manual + status.rules.block_fleet,
            "{name}"
        );
    }
}

#[test]
fn what_is_not_known_is_null_and_not_zero() {
    let (report, mut facts) = calm();
    facts.interfaces[0].packets.earlier = None;
    facts.tcp_ext.earlier = None;
    facts.rules_in_kernel = None;
    facts.heartbeat = None;
    facts.heap = None;
    facts.losses.earlier = None;
    facts.conntrack = None;
    facts.sources_at = None;
    let json = serde_json::to_value(built(&report, &facts)).unwrap();
    for pointer in [
        "/interfaces/0/rates",
        "/kernel/rates",
        "/rules/in_kernel",
        "/rules/next_expiry_s",
        "/daemon/watchdog_age_ms",
        "/daemon/heap_bytes",
        "/daemon/config/error",
        "/maps/2/entries",
        "/maps/2/fill_ratio",
        "/losses/lost_pps",
        "/losses/lost_ratio",
        "/losses/skew",
        "/losses/interfaces/0/lost_pps",
        "/losses/cpus/0/packets_pps",
        "/kernel/conntrack_ratio",
        "/sources_age_ms",
        "/programs/0/cost",
    ] {
        assert_eq!(json.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
}

/// The page fits a terminal of 80 columns and 24 lines, with the prompt, and answers four questions in this order.
#[test]
fn a_page_fits_a_terminal_and_answers_four_questions() {
    for (name, _, status) in scenes() {
        let page = page_of(80, &status);
        let widest = page.lines().map(|line| line.chars().count()).max();
        assert!(page.lines().count() <= 22 && widest <= Some(80), "{name}:\n{page}");
        let row = |heading: &str| {
            let mut rows = page.lines().map(|line| line.trim_start());
            rows.position(|line| line.starts_with(heading)).expect(heading)
        };
        let incident = if name == "queue-full" { "Incident " } else { "Attack " };
        let rows = [incident, "Mitigation ", "Clients ", "Action ", "LISTENER ", "IFACE "].map(row);
        assert!(rows.is_sorted(), "{name}:\n{page}");
    }
}

/// However much there is to show, the most important fits: the worst findings and listeners.
#[test]
fn a_crowded_page_fits_a_terminal() {
    let (mut report, mut facts) = degraded();
    let one = report.listeners[0].clone();
    report.listeners.resize(40, one);
    report.listeners[30].state = ListenerState::Attacked;
    let interface = facts.interfaces[0].clone();
    facts.interfaces.resize(12, interface);
    facts.losses = losing().1.losses;
    let page = page_of(80, &status((report, facts)));
    assert!(page.lines().count() <= 22, "{page}");
    for part in ["of 40 shown", "of 12 shown", "more findings", "✗ critical", "ATTACKED"] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
}

/// Rules or mitigations that let most of it through do not stop it.
#[test]
fn an_attack_is_mitigated_by_what_is_kept_from_the_stack() {
    for (state, reaching, expected, ratio) in [
        (ListenerState::Mitigating, 1_000.0, State::AttackMitigated, 0.99),
        (ListenerState::Mitigating, 890_100.0, State::AttackUnmitigated, 0.1),
        (ListenerState::Attacked, 890_100.0, State::AttackUnmitigated, 0.1),
    ] {
        let (mut report, facts) = flooded(Mode::Enforce);
        let victim = &mut report.listeners[1];
        (victim.state, victim.reaching_rate) = (state, reaching);
        let status = status((report, facts));
        assert_eq!(status.daemon.state, expected);
        let attack = &status.incidents[0];
        assert!(attack.mitigated_ratio.is_some_and(|share| (share - ratio).abs() < 0.001));
        let reported = text::mitigation(attack);
        let stopped = format!("{} of the flood at :443 stopped", percent(ratio));
        assert!(reported.starts_with(&stopped), "{reported}");
    }
}

/// An attack that no listener sees counts as stopped if most of it is dropped.
#[test]
fn an_attack_on_the_host_is_mitigated_by_what_is_dropped_of_it() {
    use tcpguard_engine::{IncidentClass, Listener, ListenerId};
    let built = |mode, class, stopped_rate| {
        let (mut report, facts) = flooded(mode);
        report.rules.clear();
        report.listeners[1] = calm().0.listeners[1].clone();
        let incident = &mut report.incidents[0];
        (incident.listener_id, incident.listener) = (ListenerId::HOST, Listener::HOST);
        (incident.class, incident.stopped_rate) = (class, stopped_rate);
        incident.rules.clear();
        status((report, facts))
    };
    for class in [IncidentClass::ClosedPorts, IncidentClass::Evasion] {
        let stopped = built(Mode::Enforce, class, 98_000.0);
        assert_eq!(stopped.daemon.state, State::AttackMitigated);
        assert_eq!(stopped.incidents[0].advice, None);
        assert!(stopped.incidents[0].mitigated_ratio.is_some_and(|share| share > 0.99));
        for (mode, stopped_rate) in [(Mode::Enforce, 4_000.0), (Mode::Observe, 0.0)] {
            let left = built(mode, class, stopped_rate);
            assert_eq!(left.daemon.state, State::AttackUnmitigated);
            let advice = left.incidents[0].advice.as_ref().expect("advice");
            assert_ne!(advice.action, Advised::RaiseBacklog);
        }
    }
}

#[test]
fn losses_rank_between_an_ongoing_attack_and_a_degraded_agent() {
    let with = |(report, facts): (tcpguard_engine::Report, tcpguard::documents::Facts)| {
        status((report, tcpguard::documents::Facts { losses: losing().1.losses, ..facts }))
    };
    for (scene, expected) in [
        (flooded(Mode::Observe), State::AttackUnmitigated),
        (degraded(), State::DroppedBeforeXdp),
        (flooded(Mode::Enforce), State::DroppedBeforeXdp),
        (flooded(Mode::Off), State::AttackUnmitigated),
    ] {
        let status = with(scene);
        assert_eq!(status.daemon.state, expected);
        let reported = status.health.iter().any(|finding| finding.code == "dropped_before_xdp");
        assert!(reported, "{:?}", status.health);
    }
}

#[test]
fn a_connection_table_is_reported_before_it_is_full() {
    let reported = |conntrack| {
        let (report, facts) = calm();
        let status = status((report, tcpguard::documents::Facts { conntrack, ..facts }));
        status.health.iter().any(|finding| finding.code == "conntrack_full")
    };
    assert!(!reported(None));
    let taken = |count| Some(Conntrack { count, max: 1_000 });
    assert!(!reported(taken(899)));
    assert!(reported(taken(900)));
    assert!(!reported(Some(Conntrack { count: 900, max: 0 })), "without a limit");
}

/// Frames beyond the bounds are harmless in any number, unless a listener answers them.
#[test]
fn listeners_that_reply_to_unread_syns_are_named() {
    let reported = |frames: u64, answers: u64| {
        let (mut report, mut facts) = calm();
        let earlier = facts.interfaces[0].packets.now;
        let now = &mut facts.interfaces[0].packets.now;
        now.reasons[Reason::Ipv6Depth as usize] += frames;
        now.reasons[Reason::VlanDepth as usize] += 1;
        facts.interfaces[0].packets.earlier = Some((earlier, std::time::Duration::from_secs(1)));
        let counters = &mut report.listeners[0].counters;
        counters.syn_ack = counters.syn + answers;
        counters.syn_ack_retransmit = 10;
        let finding = status((report, facts)).health;
        finding.into_iter().find(|finding| finding.code == "unread_syns")
    };
    assert_eq!(reported(5_000, 10), None, "each answers a SYN, or is a repetition");
    assert_eq!(reported(99, 11), None, "too few");
    let finding = reported(5_000, 11).expect("a note");
    assert!(
        finding.text.contains("/s frames exceed the bounds of the XDP program"),
        "{}",
        finding.text
    );
    let hint = finding.hint.as_deref().expect("a hint");
    assert!(hint.contains("beyond_bounds = \"drop\"") && hint_check::is_named(hint), "{hint}");
}

/// The note and `tcpguard check` have the same severity, and the headline is DEGRADED only where the last
/// valid configuration is used.
#[test]
fn a_refused_configuration_is_a_warning_at_a_reload_and_at_a_start() {
    for (stands_in, state) in
        [(None, State::Protecting), (Some(Time(clock().wall)), State::Degraded)]
    {
        let (report, mut facts) = calm();
        facts.config.error = Some("line 3: unknown key".to_owned());
        facts.config.stands_in = stands_in;
        let status = status((report, facts));
        let [finding] = &status.health[..] else { panic!("{:?}", status.health) };
        assert_eq!((&*finding.code, finding.severity), ("config_refused", Severity::Warning));
        assert!(finding.hint.as_deref().is_some_and(hint_check::is_named), "{finding:?}");
        assert_eq!(status.daemon.state, state);
        assert_eq!(page(&status).contains("DEGRADED: config refused"), stands_in.is_some());
    }
}

/// Everything is the matter at once.
#[test]
fn every_finding_says_how_to_go_on() {
    let (mut report, mut facts) = degraded();
    facts.losses = losing().1.losses;
    facts.heartbeat = Some(clock().now - std::time::Duration::from_secs(60));
    facts.conntrack = Some(Conntrack { count: 999, max: 1_000 });
    report.listeners[0].egress = Egress::Unseen;
    let one = report.listeners[0].clone();
    report.listeners.resize(MAX_LISTENERS as usize, one);
    let health = built(&report, &facts).health;
    for code in [
        "agent_late",
        "config_refused",
        "conntrack_full",
        "detached",
        "egress_unseen",
        "dropped_before_xdp",
        "no_tracepoint",
        "rule_drift",
        "xdp_generic",
    ] {
        let finding = health.iter().find(|finding| finding.code == code).expect(code);
        assert!(finding.hint.as_deref().is_some_and(hint_check::is_named), "{finding:?}");
    }
}

/// No interface is said to be the reason where another program may keep replies from the egress program.
#[test]
fn a_program_that_runs_before_the_agents_at_tc_is_named() {
    let (mut report, mut facts) = degraded();
    facts.interfaces[0].ahead = vec!["other (id 7, TCX egress)".to_owned()];
    for egress in [Egress::Seen, Egress::Unseen] {
        report.listeners[0].egress = egress;
        let health = built(&report, &facts).health;
        let text = |code: &str| health.iter().find(|one| one.code == code).map(|one| &one.text);
        let (before, unseen) = (text("tc_before"), text("egress_unseen"));
        assert!(before.is_some_and(|text| text.contains("other (id 7, TCX egress)")), "{before:?}");
        assert_eq!(unseen.is_some(), egress == Egress::Unseen);
        let names = |text: &String| {
            text.contains("ends the chain (other (id 7") && !text.contains("without tcpguard")
        };
        assert!(unseen.is_none_or(names), "{unseen:?}");
        let mut hints = health.iter().map(|finding| finding.hint.as_deref());
        assert!(hints.all(|hint| hint.is_some_and(hint_check::is_named)), "{health:#?}");
    }
}

#[test]
fn the_next_program_is_named_and_so_is_the_reason_why_there_is_none() {
    let (report, mut facts) = calm();
    let mut shown = |id| {
        facts.interfaces[0].next = Some(NextProgramFacts { name: "balancer".to_owned(), id });
        built(&report, &facts)
    };
    let runs = shown(Ok(42));
    assert!(page(&runs).contains("next balancer (id 42)"), "{}", page(&runs));
    assert!(runs.health.is_empty(), "{:#?}", runs.health);

    let missing = shown(Err(Failure::new("no program is pinned", "bpftool prog pin")));
    assert!(page(&missing).contains("NO NEXT PROGRAM"), "{}", page(&missing));
    let expected = Finding::warning(
        "next_program",
        "eth0: packets are not handed on to balancer: no program is pinned",
    );
    assert_eq!(missing.health, [expected.about("eth0").hint("bpftool prog pin")]);
    assert_eq!(missing.daemon.state, State::Protecting, "it fails open");
}

/// An agent that is newer than the command may say more than the command knows.
#[test]
fn a_word_that_is_not_known_yet_is_tolerated() {
    let mut json = serde_json::to_value(status(flooded(Mode::Enforce))).unwrap();
    for pointer in [
        "/daemon/state",
        "/interfaces/0/hook",
        "/interfaces/0/mode",
        "/cookies/backend",
        "/losses/state",
    ] {
        *json.pointer_mut(pointer).expect(pointer) = Value::from("word_of_2030");
    }
    let status: Status = serde_json::from_value(json).unwrap();
    assert_eq!(status.daemon.state, State::Unknown);
    assert!(page(&status).starts_with("! tcpguard"), "{}", page(&status));
}

#[test]
fn costs_are_shown_of_each_program_that_has_one() {
    let before = status(flooded(Mode::Enforce));
    let mut after = before.clone();
    after.programs[0].runs += 100_000;
    after.programs[0].run_ns += 31_200_000;
    after.add_costs(&before, std::time::Duration::from_secs(1));
    let page = page(&after);
    let reported = "  Cost        tcpguard_ingress: 100k runs/s, 312ns each, 3.1% of one CPU\n";
    assert!(page.contains(reported), "{page}");
    assert!(!self::page(&before).contains("  Cost "), "unless asked for");
}

#[test]
fn one_interface_of_several_can_be_looked_at() {
    let mut status = status(degraded());
    assert!(!status.keep_interface("eth9"));
    assert_eq!(status.interfaces.len(), 2);
    assert!(status.keep_interface("eth1"));
    assert_eq!(status.interfaces[0].name, "eth1");
    assert_eq!(status.losses.interfaces[0].name, "eth1");
    assert_eq!((status.interfaces.len(), status.losses.interfaces.len()), (1, 1));
}

#[test]
fn json_survives_the_wire() {
    for (name, _, status) in scenes() {
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status, "{name}");
    }
}

#[test]
fn json_is_what_the_shipped_schema_says_and_nothing_else() {
    for (_, _, status) in scenes() {
        assert_formed("status", &serde_json::to_value(status).unwrap());
    }
}

#[test]
fn the_schema_check_finds_what_is_wrong() {
    let good = serde_json::to_value(status(flooded(Mode::Enforce))).unwrap();
    for (pointer, wrong) in [
        ("/daemon/state", Value::from("happy")),
        ("/daemon/pid", Value::from("4711")),
        ("/incidents/0/dst", Value::Null),
        ("/interfaces/0/totals/drop/drop_signature", Value::from(1.5)),
        ("/rules/list/0", serde_json::json!({})),
        ("/sampling", serde_json::json!({ "shift": 0, "one_in": 1, "extra": 1 })),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = wrong;
        assert!(!faults("status", &bad).is_empty(), "{pointer}");
    }
}

#[test]
fn listeners_of_this_host_come_before_those_behind_it_and_unused_ones_last() {
    let mut calm = status(calm());
    let of = |addr: &str, kind, syn_pps| {
        let mut listener = calm.listeners[0].clone();
        (listener.addr, listener.kind, listener.syn_pps) = (addr.parse().unwrap(), kind, syn_pps);
        listener
    };
    let (local, behind) = (ListenerKind::Local, ListenerKind::Forwarded);
    let guest = of("10.60.0.2", behind, 100.0);
    calm.listeners = vec![of("0.0.0.0", local, 0.0), guest, of("192.0.2.1", local, 20.0)];
    let order = |status: &Status| -> Vec<String> {
        text::worst_first(&status.listeners).iter().map(|one| one.addr.to_string()).collect()
    };
    assert_eq!(order(&calm), ["192.0.2.1", "10.60.0.2", "0.0.0.0"]);
    calm.listeners[1].state = ListenerState::Attacked;
    assert_eq!(order(&calm)[0], "10.60.0.2");
}
