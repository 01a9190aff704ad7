//! Alerts in a real journal, raised by a real flood. Needs root, systemd's journald and
//! `TCPGUARD_BIN`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard::documents::AgentEvent;
use tcpguard::telemetry::events::message_id;
use tcpguard::telemetry::{Alert, AlertSink, History, journal};
use tcpguard_engine::Timestamp;
use tcpguard_goals::{Goal, Row};
use tcpguard_host::time::Clock;
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::daemon::journald::Journald;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

fn of<'e>(entries: &'e [Value], event: &str) -> &'e Value {
    entries
        .iter()
        .find(|entry| entry["TCPGUARD_EVENT"] == event)
        .unwrap_or_else(|| panic!("no {event} in {entries:#?}"))
}

/// The number in a field.
fn number(entry: &Value, field: &str) -> u64 {
    let text = entry[field].as_str().unwrap_or_else(|| panic!("no {field} in {entry:#}"));
    text.parse().unwrap_or_else(|_| panic!("{field}={text} is no number"))
}

#[test]
fn a_flood_stands_in_the_journal_with_its_fields() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let journald = Journald::start(&lab.edge).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let config = "[detection]\nclear_s = 5\n";
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, config, &[]).unwrap();
    let mut flood = Flood::random(Family::V4.service(), 4 * SECOND);
    flood.rate = 8_000;
    flood.start(&lab).unwrap().wait().unwrap();
    agent.wait_until("the attack is over", 30 * SECOND, |s| s.past_incidents().len() == 1).unwrap();
    agent::cli(&lab.edge, &["mode", "observe"]).unwrap();

    let entries = journald.entries("").unwrap();
    let reported = entries.iter().filter(|entry| entry["TCPGUARD_EVENT"].is_string());
    for entry in reported {
        let event = entry["TCPGUARD_EVENT"].as_str().unwrap();
        let id = message_id(event).unwrap_or_else(|| panic!("{event} has no message id"));
        assert_eq!(entry["MESSAGE_ID"], id, "{event}");
        assert_eq!(entry["TCPGUARD_LOST"], Value::Null, "nothing was lost");
    }

    let started = of(&entries, "attack_started");
    assert_eq!(started["PRIORITY"], "2");
    assert_eq!(started["TCPGUARD_SEVERITY"], "critical");
    assert_eq!(started["TCPGUARD_CLASS"], "random_spoofed");
    assert_eq!(started["TCPGUARD_MODE"], "enforce");
    assert_eq!(number(started, "TCPGUARD_PORT"), u64::from(PORT));
    assert!(started["TCPGUARD_DST"].as_str().unwrap().parse::<std::net::IpAddr>().is_ok());
    assert!(number(started, "TCPGUARD_SYN_PPS") > 1_000, "{started:#}");
    assert!(number(started, "TCPGUARD_SOURCES_EST") > 100, "{started:#}");
    let attack = number(started, "TCPGUARD_INCIDENT_ID");

    assert_eq!(of(&entries, "rule_installed")["PRIORITY"], "5");
    let ended = of(&entries, "attack_ended");
    assert_eq!(number(ended, "TCPGUARD_INCIDENT_ID"), attack);
    assert!((4..=20).contains(&number(ended, "TCPGUARD_DURATION_S")), "{ended:#}");
    assert!(number(ended, "TCPGUARD_DROPPED") > 10_000, "{ended:#}");
    assert_eq!(of(&entries, "mode_changed")["TCPGUARD_MODE"], "observe");
}

#[test]
fn journald_takes_what_is_too_long_for_a_datagram() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let journald = Journald::start(&lab.edge).unwrap();
    let message = "x".repeat(400_000);
    let interfaces = vec!["eth0".to_owned()];
    let event = AgentEvent::FilterDetached { uid: 0, interfaces };
    let alert = Alert { message: message.clone(), ..Alert::own(event) };
    let lost = lab.edge.run(|| {
        let mut sink =
            AlertSink::new(Path::new(journal::SOCKET), std::io::sink(), History::default());
        let clock = Clock { now: Timestamp::default(), wall: jiff::Timestamp::now() };
        sink.raise(&alert, tcpguard_engine::Mode::Observe, clock);
        Ok(sink.lost())
    });
    assert_eq!(lost.unwrap(), 0);
    let entries = journald.entries("TCPGUARD_EVENT=filter_detached").unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["MESSAGE"].as_str().map(str::len), Some(message.len()));
    assert_eq!(entries[0]["TCPGUARD_IFACE"], "eth0");
}

#[test]
fn g17_a_journal_that_hangs_costs_alerts_and_no_poll() {
    let row = Row::new(Goal::G17);
    let lab = Lab::new(LabOptions::default()).unwrap();
    let journald = Journald::start(&lab.edge).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    journald.hang(true).unwrap();
    let begun = Instant::now();
    let lost = |status: &tcpguard_kit::daemon::status::Status| {
        status.health().iter().any(|(code, _)| code == "journal_lost")
    };
    let mut changes = 0;
    while !lost(&agent.status().unwrap()) {
        for mode in ["enforce", "observe"] {
            assert!(agent::cli(&lab.edge, &["mode", mode]).unwrap().status.success());
            changes += 1;
        }
        assert!(begun.elapsed() < 20 * SECOND, "{changes} alerts, and none is said to be lost");
    }
    let age = agent.status().unwrap().heartbeat_age();
    assert!(age < SECOND, "the last poll was {age:?} ago");

    journald.hang(false).unwrap();
    agent::cli(&lab.edge, &["mode", "enforce"]).unwrap();
    let entries = journald.entries("TCPGUARD_EVENT=mode_changed").unwrap();
    let last = entries.last().expect("those that fitted");
    let missing = changes + 1 - entries.len() as u64;
    let counted = number(last, "TCPGUARD_LOST");
    row.result(
        changes + 1,
        format!("alerts, the journal hung: {} kept + {counted} counted as lost", entries.len()),
        counted == missing,
    )
    .naive(changes + 1, format!("alerts without a count: {missing} missing unsaid"), missing > 0)
    .finish();
}
