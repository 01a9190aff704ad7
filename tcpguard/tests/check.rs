//! `tcpguard check` as monitoring meets it: one line and an exit code.

#[path = "support/stand_in.rs"]
mod stand_in;
mod support;

use std::process::Command;

use serde_json::Value;
use stand_in::StandIn;
use support::{built, calm, clock, degraded, flooded, losing, serve, status};
use tcpguard::control::{RefusalKind, Request, Response};
use tcpguard::documents::monitoring::{Level, Report, Threshold, judge};
use tcpguard::documents::{State, Status};
use tcpguard::text;
use tcpguard_engine::{Completions, ListenerState, Mode, Queues};
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;
use tcpguard_support::schema::assert_documented;

fn judged(status: &Status, warn: &[Threshold], crit: &[Threshold]) -> Report {
    judge(status, text::headline(status).1.into_owned(), warn, crit)
}

fn line(status: &Status, warn: &[&str], crit: &[&str]) -> String {
    let ranges = |typed: &[&str]| typed.iter().map(|one| one.parse().unwrap()).collect::<Vec<_>>();
    let mut line = String::new();
    text::check(&mut line, &judged(status, &ranges(warn), &ranges(crit))).unwrap();
    line
}

fn elevated() -> Status {
    let (mut report, facts) = calm();
    report.listeners[1].state = ListenerState::Suspect;
    built(&report, &facts)
}

/// Something is done about the flood, and clients are kept out all the same.
fn locked_out() -> Status {
    let (mut report, facts) = flooded(Mode::Enforce);
    serve(&mut report.listeners[1], 2.0);
    built(&report, &facts)
}

/// The agent started with the last valid configuration.
fn started_over_a_mistake() -> Status {
    let (report, mut facts) = calm();
    facts.config.error = Some("line 3: unknown key".to_owned());
    facts.config.stands_in = Some(Time(clock().wall));
    built(&report, &facts)
}

fn refused() -> Status {
    let (report, mut facts) = calm();
    facts.config.error = Some("line 3: unknown key".to_owned());
    built(&report, &facts)
}

/// The line that is looked at first says whether clients connect, by one number: dropped and answered
/// SYNs are no clients that fail.
#[test]
fn the_line_says_whether_clients_connect() {
    let served = status(flooded(Mode::Enforce));
    assert!(line(&served, &[], &["clients=90:"]).contains("clients=100%;;90:;0"));
    let printed = line(&locked_out(), &[], &["clients=50:"]);
    let begins = "TCPGUARD CRITICAL - UNDER ATTACK, CLIENTS DO NOT CONNECT, 2 handshakes/s (baseline \
                  52/s): MOST CLIENTS FAIL, 98.9k SYN/s; ";
    assert!(printed.starts_with(begins), "{printed}");
    assert!(printed.contains(" | clients=3.85%;;50:;0 syn_pps="), "the first number: {printed}");

    let (mut report, facts) = flooded(Mode::Observe);
    serve(&mut report.listeners[1], 50.0);
    let printed = line(&built(&report, &facts), &[], &["clients=50:"]);
    let begins = "TCPGUARD CRITICAL - UNDER ATTACK, NOT mitigating, clients connect, 50 handshakes/s \
                  (baseline 52/s), 98.9k SYN/s; #3 ";
    assert!(printed.starts_with(begins), "{printed}");

    report.listeners[1].completions = Completions::of(1.5, Some(1.5), 98_000.0, None);
    let printed = line(&built(&report, &facts), &[], &["clients=50:"]);
    assert!(printed.contains("clients=U;;50:;0"), "too few to tell: {printed}");
}

#[test]
fn a_configuration_that_was_refused_is_a_warning_until_it_is_corrected() {
    let printed = line(&refused(), &[], &[]);
    let begins = "TCPGUARD WARNING - protecting, 52 handshakes/s (baseline 52/s), 52 SYN/s; \
                  configuration refused, the previous one still applies: line 3: unknown key; ";
    assert!(printed.starts_with(begins), "{printed}");
    let printed = line(&started_over_a_mistake(), &[], &[]);
    let begins = "TCPGUARD WARNING - DEGRADED: config refused, 52 handshakes/s (baseline 52/s), 52 \
                  SYN/s; configuration refused at the start, the last valid one of \
                  2026-11-20T14:05:31.204Z applies: line 3: unknown key; see: tcpguard status | ";
    assert!(printed.starts_with(begins), "{printed}");
}

#[test]
fn each_situation_has_its_line() {
    for (status, expected) in [
        (
            status(calm()),
            "TCPGUARD OK - protecting, 52 handshakes/s (baseline 52/s), 52 SYN/s | clients=100%;;;0 \
             syn_pps=52;;;0 drop_pps=0;;;0 half_open=0.02%;;;0 rules=0;;;0 incidents=0;;;0\n",
        ),
        (
            elevated(),
            "TCPGUARD WARNING - ELEVATED, 52 handshakes/s (baseline 52/s), 52 SYN/s; handshakes fail \
             without an attack; see: tcpguard status | clients=100%;;;0 \
             syn_pps=52;;;0 drop_pps=0;;;0 half_open=0.02%;;;0 rules=0;;;0 incidents=0;;;0\n",
        ),
        (
            status(flooded(Mode::Enforce)),
            "TCPGUARD WARNING - UNDER ATTACK, mitigating, 52 handshakes/s (baseline 52/s), 98.9k SYN/s; #3 random_spoofed on \
             :443; see: tcpguard status | clients=100%;;;0 \
             syn_pps=98900;;;0 drop_pps=98840;;;0 half_open=3.13%;;;0 rules=1;;;0 incidents=1;;;0\n",
        ),
    ] {
        assert_eq!(line(&status, &[], &[]), expected);
    }
}

#[test]
fn the_level_follows_the_situation() {
    let level = |status: &Status| judged(status, &[], &[]).level;
    let mut late = status(calm());
    late.daemon.state = State::Degraded;
    late.health.extend(status(degraded()).health.into_iter().filter(|it| it.code == "detached"));
    late.health[0].code = "agent_late".to_owned();
    for (name, status, expected) in [
        ("calm", status(calm()), Level::Ok),
        ("elevated", elevated(), Level::Warning),
        ("mitigated", status(flooded(Mode::Enforce)), Level::Warning),
        ("not mitigated", status(flooded(Mode::Observe)), Level::Critical),
        ("packets dropped before XDP", status(losing()), Level::Critical),
        ("off", status(flooded(Mode::Off)), Level::Critical),
        ("XDP program gone", status(degraded()), Level::Critical),
        ("degraded, but the XDP program is there", late, Level::Warning),
        ("stopped, but clients do not connect", locked_out(), Level::Critical),
        ("its configuration was refused", refused(), Level::Warning),
        ("it uses the last valid one", started_over_a_mistake(), Level::Warning),
    ] {
        assert_eq!(level(&status), expected, "{name}");
    }
    let mut gone = status(flooded(Mode::Enforce));
    gone.health = status(degraded()).health;
    assert_eq!(level(&gone), Level::Critical, "a lost filter is not hidden by an attack");
}

/// Fragments had filled it, and the line said OK.
#[test]
fn a_full_syn_queue_that_nothing_explains_is_critical() {
    let with = |state, half_open| {
        let (mut report, facts) = calm();
        let listener = &mut report.listeners[1];
        listener.state = state;
        listener.queues = Some(Queues { half_open: Some(half_open), accept: 0, backlog: 128 });
        judged(&built(&report, &facts), &[], &[])
    };
    let full = with(ListenerState::Suspect, 129);
    assert_eq!(full.level, Level::Critical);
    assert_eq!(full.reasons, [":443: the SYN queue is full (129 of 128)"]);
    assert_eq!(with(ListenerState::Suspect, 127).level, Level::Warning);
    assert_eq!(with(ListenerState::Mitigating, 129).level, Level::Warning, "cookies answer");
}

#[test]
fn ranges_raise_the_level_and_stand_beside_their_numbers() {
    let calm = status(calm());
    let warned = line(&calm, &["syn_pps=50"], &["syn_pps=100"]);
    let expected = "TCPGUARD WARNING - protecting, 52 handshakes/s (baseline 52/s), 52 SYN/s; syn_pps \
                    52 against 50; see: tcpguard status | clients=100%;;;0 syn_pps=52;50;100;0 ";
    assert!(warned.starts_with(expected), "{warned}");
    let critical = line(&calm, &["syn_pps=50"], &["syn_pps=51"]);
    assert!(critical.starts_with("TCPGUARD CRITICAL - "), "{critical}");
    assert!(!critical.contains("against 50"), "the worst is enough: {critical}");
    let connecting = line(&calm, &[], &["clients=50:"]);
    assert!(connecting.starts_with("TCPGUARD OK - ") && connecting.contains("clients=100%;;50:;0"));

    let (report, mut facts) = support::calm();
    facts.interfaces[0].packets.earlier = None;
    let unknown = built(&report, &facts);
    let printed = line(&unknown, &["syn_pps=50"], &[]);
    assert!(
        printed.starts_with(
            "TCPGUARD UNKNOWN - protecting, 52 handshakes/s (baseline 52/s); syn_pps is not known"
        ),
        "{printed}"
    );
    assert!(printed.contains("syn_pps=U;50;;0"), "{printed}");
    assert!(line(&unknown, &[], &[]).starts_with("TCPGUARD OK - "), "nobody asked for it");
}

#[test]
fn text_from_elsewhere_ends_neither_the_words_nor_the_line() {
    let mut status = status(degraded());
    let finding = &mut status.health[0];
    (finding.severity, finding.text) = (Severity::Critical, "a | b\nOK".to_owned());
    let line = line(&status, &[], &[]);
    assert_eq!((line.matches('|').count(), line.lines().count()), (1, 1), "{line}");
}

/// Exit code and standard output of the real binary; nothing may be said on stderr unless `talks`.
fn run(dir: &std::path::Path, line: &[&str], talks: bool) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tcpguard"))
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .args(["--runtime-dir".as_ref(), dir.as_os_str()])
        .args(["--pin-dir".as_ref(), dir.join("pins").as_os_str()])
        .args(line)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(!said.is_empty(), talks, "{line:?}: {said}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn agent(dir: &std::path::Path, status: Status) -> StandIn {
    StandIn::in_dir(dir, move |request| match request {
        Request::Status => Response::Status(Box::new(status.clone())),
        other => {
            Response::refused(RefusalKind::NotFound, format!("{other:?} is not looked at"), "")
        }
    })
}

#[test]
fn the_exit_code_is_that_of_a_plugin() {
    for (status, code) in [
        (status(calm()), 0),
        (status(flooded(Mode::Enforce)), 1),
        (status(flooded(Mode::Observe)), 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let _agent = agent(dir.path(), status);
        let (found, said) = run(dir.path(), &["check"], false);
        assert_eq!((found, said.lines().count()), (Some(code), 1), "{said}");
        assert_eq!(run(dir.path(), &["check", "--quiet"], false), (Some(code), String::new()));
    }
    let dir = tempfile::tempdir().unwrap();
    let _agent = agent(dir.path(), status(calm()));
    let warned = run(dir.path(), &["check", "--warn", "syn_pps=1"], false);
    assert_eq!(warned.0, Some(1), "{}", warned.1);
}

#[test]
fn without_an_agent_it_is_critical_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = run(dir.path(), &["check"], false);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.starts_with("TCPGUARD CRITICAL - agent not running: "), "{said}");
    assert!(said.ends_with("(hint: systemctl start tcpguard)\n"), "{said}");
    assert_eq!(run(dir.path(), &["check", "--quiet"], false), (Some(2), String::new()));
}

#[test]
fn a_line_that_makes_no_sense_is_unknown_too() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        &["check", "--warn"][..],
        &["check", "--warn", "syn_pps"],
        &["check", "--crit", "syn_pps=20:10"],
        &["check", "--sideways"],
    ] {
        let (code, said) = run(dir.path(), line, true);
        assert_eq!((code, said.as_str()), (Some(3), ""), "{line:?}: 2 would say CRITICAL");
    }
}

#[test]
fn json_is_what_its_schema_says() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = agent(dir.path(), status(flooded(Mode::Observe)));
    let line = ["check", "--json", "--warn", "syn_pps=@10:"];
    let (code, said) = run(dir.path(), &line, false);
    assert_eq!(code, Some(2), "{said}");
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&found["level"], &found["metrics"][1]["warn"]),
        (&"critical".into(), &"@10:".into())
    );
    assert_eq!(found["metrics"][0]["metric"], "clients");
    assert_documented("check", &found);
}
