//! Verbs that only read: status, explanations, alerts.

use std::process::Stdio;

use tcpguard_engine as engine;

use super::host::{Host, Outcome};
use super::support::{calm, degraded, flooded, status};

#[test]
fn status_prints_the_page() {
    let host = Host::with(status(calm()));
    let page = include_str!("../expected/calm.txt");
    host.run(&["status"]).is(0, page, "");
    let first_line = format!("{}\n", page.lines().next().unwrap());
    host.run(&["status", "--brief"]).is(0, &first_line, "");
    assert_eq!(host.run(&["status", "--json"]).json()["schema"], "tcpguard.status/1");
}

#[test]
fn a_plain_locale_gets_ascii_and_json_stays_as_it_is() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    let run =
        |line: &[&str]| Outcome::of(line, host.command(line).env("LC_ALL", "C").output().unwrap());
    let text = run(&["status"]);
    assert!(text.code == Some(0) && text.stdout.is_ascii(), "{text:#?}");
    assert_eq!(run(&["status", "--json"]).json()["incidents"][0]["id"], 3);
}

#[test]
fn colour_is_only_there_when_wanted() {
    let host = Host::with(status(calm()));
    for (line, expected) in [
        (&["status"][..], false),
        (&["status", "--color", "always"], true),
        (&["status", "--color", "never"], false),
        (&["status", "--color", "always", "--json"], false),
    ] {
        assert_eq!(host.run(line).stdout.contains('\x1b'), expected, "{line:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let host = Host::with(status(calm()));
    for line in [&["status"][..], &["status", "--json"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = host.command(line).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        Outcome::of(line, child.wait_with_output().unwrap()).is(0, "", "");
    }
}

#[test]
fn output_that_finds_no_room_is_an_error_with_a_way_on() {
    let host = Host::with(status(calm()));
    for line in [&["status"][..], &["status", "--json"], &["version"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = host.command(line).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        Outcome::of(line, child.wait_with_output().unwrap()).is(
            1,
            "",
            "error: cannot write the output: No space left on device (os error 28)\nhint: df -h\n",
        );
    }
}

#[test]
fn waiting_ends_with_the_state_or_with_the_time() {
    let healthy = Host::with(status(calm()));
    let waited = healthy.run(&["status", "--wait", "healthy", "--brief"]);
    assert_eq!(waited.code, Some(0), "{waited:#?}");

    let degraded = Host::with(status(degraded()));
    let brief = degraded.run(&["status", "--brief"]).stdout;
    degraded.run(&["status", "--wait", "healthy", "--timeout", "1s", "--brief"]).is(
        1,
        &brief,
        "error: not healthy after 1s\nhint: tcpguard status\n",
    );
}

#[test]
fn an_address_and_an_attack_are_explained() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    let address = host.run(&["explain", "198.51.100.7"]);
    assert_eq!(address.code, Some(0), "{address:#?}");
    assert!(address.stdout.starts_with("198.51.100.7: decisions"), "{address:#?}");
    assert!(
        address.stdout.contains("  1. rule 7 (attack #3) drops SYNs with the signature"),
        "{address:#?}"
    );
    assert!(address.stderr.contains("tcpguard block 198.51.100.7/32"), "{address:#?}");
    let json = host.run(&["explain", "198.51.100.7", "--json"]).json();
    assert_eq!(json["decisions"][0]["outcome"]["kind"], "drop_signature");
    assert_eq!(json["decisions"][0]["rule"], 7);

    let id = host.run(&["status", "--json"]).json()["incidents"][0]["id"].to_string();
    let attack = host.run(&["explain", &id]);
    assert_eq!(attack.code, Some(0), "{attack:#?}");
    for words in ["Mitigation", "Clients", "Action", "Actions", "--evidence"] {
        assert!(attack.stdout.contains(words), "{words}: {attack:#?}");
    }
    let attack = host.run(&["explain", &id, "--evidence"]);
    for words in ["Alarm", "Criteria", "Indicators", "opts=none win=512 ttl=64", "BEFORE"] {
        assert!(attack.stdout.contains(words), "{words}: {attack:#?}");
    }
    let json = host.run(&["explain", &id, "--json"]).json();
    assert_eq!(json["schema"], "tcpguard.incident/1");
    assert_eq!(json["record"]["lines"][1]["holds"], true);
    host.run(&["explain", "99"]).is(5, "", "error: no incident #99\nhint: tcpguard status\n");
}

#[test]
fn alerts_are_listed_from_a_severity_on() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    let all = host.run(&["events", "--json"]).json()["events"].as_array().unwrap().len();
    let critical = host.run(&["events", "--severity", "critical", "--json"]).json();
    let critical = critical["events"].as_array().unwrap();
    assert!(!critical.is_empty() && critical.len() < all, "{} of {all}", critical.len());
    assert!(critical.iter().all(|alert| alert["severity"] == "critical"));
}

#[test]
fn times_are_shown_in_utc_where_that_is_wanted() {
    let host = Host::with(status(calm()));
    let page = include_str!("../expected/calm.txt");
    // POSIX counts to the west: two hours ahead of UTC.
    let elsewhere =
        |line: &[&str]| Outcome::of(line, host.command(line).env("TZ", "EET-2").output().unwrap());
    let local = elsewhere(&["status", "--full"]);
    assert!(local.stdout.contains("loaded 2026-11-14 11:53"), "{local:#?}");
    elsewhere(&["status", "--utc"]).is(0, page, "");
}
