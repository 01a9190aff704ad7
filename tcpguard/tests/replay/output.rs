//! Printed output, and exit codes.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard::documents::CapturedSyn;
use tcpguard::replay::capture::writer::Writer;
use tcpguard::text::{self, View};
use tcpguard_common::abi::Reason;
use tcpguard_engine::Mode;
use tcpguard_host::time::Time;
use tcpguard_support::schema::{assert_formed, faults};

use super::files::{PCAP, gzip};
use super::packets::*;
use super::{observe, run};

fn flooded() -> Vec<u8> {
    PCAP.write(&in_order(flooded_among(100)))
}

/// A flood of three seconds among this many clients, one each 50 ms.
fn flooded_among(clients: u32) -> Vec<Stamped> {
    let mut packets = served(BEGIN, clients);
    packets.extend(flood(BEGIN + SECOND, 3, 1000, Shows::Both, any_address));
    packets
}

/// Connections of so many clients, one each 50 ms.
fn served(from: u64, clients: u32) -> Vec<Stamped> {
    let one = |n| connection(from + u64::from(n) * 50 * MS, client(n), addr(SERVER), Shows::Both);
    (0..clients).flat_map(one).collect()
}

fn calm() -> Vec<u8> {
    PCAP.write(&connection(BEGIN, client(1), addr(SERVER), Shows::Both))
}

#[test]
fn json_is_what_the_shipped_schema_says_and_nothing_else() {
    for capture in [flooded(), calm()] {
        let document = serde_json::to_value(observe(&capture)).unwrap();
        assert_formed("replay", &document);
        let names: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "connections_without_syn duration_s file handshakes incidents packets sampled_one_in skipped \
             syn_acks syns";
        assert_eq!(names.join(" "), expected);
    }
}

#[test]
fn the_schema_distinguishes_a_wrong_document_from_a_right_one() {
    let good = serde_json::to_value(observe(&flooded())).unwrap();
    for (pointer, wrong) in [
        ("/packets", Value::from(-1)),
        ("/skipped", serde_json::json!({ "not_tcp": "many" })),
        ("/incidents/0/class", Value::from("syn_flood")),
        ("/incidents/0/ended_s", Value::from("later")),
        ("/incidents/0/evidence/indicators", Value::Null),
        ("/incidents/0", serde_json::json!({})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = wrong;
        assert!(!faults("replay", &bad).is_empty(), "{pointer}");
    }
}

#[test]
fn text_says_the_same_in_lines_of_100_columns() {
    let outcome = run(&flooded(), Mode::Observe).unwrap();
    let incidents: Vec<_> = outcome.in_full().map(|(incident, _)| incident).collect();
    let zone = jiff::tz::TimeZone::UTC;
    let view = View { utf8: true, colour: false, zone, width: View::WIDTH };
    let mut text = String::new();
    let began = Time(outcome.began());
    text::replay(&mut text, &outcome.replay, &incidents, began, &view).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let title = text::title(&incidents[0].incident);
    let action = text::event_line(&outcome.replay.incidents[0].actions[0].action);
    let action = action.split_whitespace().collect::<Vec<_>>().join(" ");
    for shown in ["✗ 1 incident in capture", "198.51.100.1:80", &title, &action] {
        assert!(words.contains(shown), "{shown} is missing:\n{text}");
    }
}

/// Runs `tcpguard replay` with `capture` as its standard input.
fn tcpguard(arguments: &[&str], capture: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tcpguard"))
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A reader that stops early because the input is no capture is no failure of this test.
    let _ = child.stdin.take().unwrap().write_all(capture);
    child.wait_with_output().unwrap()
}

fn line(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim_end()
}

#[test]
fn the_exit_code_distinguishes_calm_trouble_and_no_capture() {
    let (calm, flooded) = (calm(), flooded());
    for (capture, code) in [(&calm, 0), (&gzip(&calm), 0), (&flooded, 1)] {
        let output = tcpguard(&["-", "--json"], capture);
        assert_eq!(output.status.code(), Some(code), "{}", line(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["file"], "-");
        assert_eq!(document["incidents"].as_array().unwrap().is_empty(), code == 0);
    }
    let output = tcpguard(&["-"], b"no capture at all");
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    assert_eq!(
        line(&output.stderr),
        "error: cannot read -: it is neither pcap nor pcapng, plain or in gzip, zstd or lz4\n\
         hint: convert it: editcap -F pcapng FILE OUT"
    );
}

/// Everything encrypted: a flood in it would not be seen.
#[test]
fn a_capture_of_which_most_could_not_be_read_is_not_called_calm() {
    let flood = flood(BEGIN, 3, 1000, Shows::Both, any_address);
    let hidden: Vec<Stamped> = flood.iter().map(in_esp).collect();
    let capture = PCAP.write(&hidden);
    for arguments in [&["-"][..], &["-", "--fail-on", "never"]] {
        let output = tcpguard(arguments, &capture);
        assert_eq!(output.status.code(), Some(3));
        let words = line(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        let why = "because they are encrypted (esp): 6000 of IP protocol 50 (ESP). Record on the";
        for part in ["100% of the packets could not be read (esp) in -", why] {
            assert!(words.contains(part), "{words}");
        }
        assert!(!words.contains("no incident"), "{words}");
    }
    let output = tcpguard(&["-", "--json"], &capture);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["skipped"]["esp"], 6000);
    assert!(line(&output.stderr).contains("ESP"), "{}", line(&output.stderr));

    // The findings in the rest come first.
    let hidden = hidden.iter().flat_map(|packet| [packet.clone(), packet.clone()]);
    let packets = in_order(flood.into_iter().chain(hidden).collect());
    let output = tcpguard(&["-"], &PCAP.write(&packets));
    assert_eq!(output.status.code(), Some(1));
    let shown = line(&output.stdout);
    assert!(shown.contains("1 incident, 66.7% of the packets could not be read (esp)"), "{shown}");
}

/// Neither a capture without TCP nor one without packets is calm.
#[test]
fn a_capture_in_which_nothing_could_be_judged_says_what_it_holds() {
    let icmp: Vec<Stamped> =
        (0..1000).map(|n| (BEGIN + n * MS, tunnelled(1, &[8, 0], &[0; 40]))).collect();
    for (capture, verdict, why) in [
        (&PCAP.write(&[])[..], "✗ not judged: no packet in -", "There is no packet in it."),
        (
            &PCAP.write(&icmp),
            "✗ not judged: no TCP in -",
            "1000 of 1000 packets (100%) were not judged, most of them because there is no TCP in them \
             (not_tcp): 1000 of IP protocol 1 (ICMP). Record on the interface on which the clients \
             arrive: tcpdump -i INTERFACE -w FILE tcp",
        ),
    ] {
        let output = tcpguard(&["-"], capture);
        assert_eq!(output.status.code(), Some(3));
        let words = line(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.starts_with(verdict) && words.contains(why), "{words}");
        assert!(!words.contains("It holds"), "{words}");
        let output = tcpguard(&["-", "--json"], capture);
        assert_eq!(output.status.code(), Some(3));
        assert!(line(&output.stderr).contains(why), "{}", line(&output.stderr));
    }
}

/// tcpdump on a host where XDP answers the SYNs, or all but two: connections go on that never began.
#[test]
fn a_capture_without_syns_is_not_called_calm() {
    let is_syn = |packet: &[u8]| packet[20 + 13] & SYN != 0;
    let mut packets = served(BEGIN, 50);
    let with_syns = PCAP.write(&in_order(packets.clone()));
    let without_those_before = |time: u64| {
        let kept = packets.iter().filter(|(at, packet)| *at >= BEGIN + time || !is_syn(packet));
        PCAP.write(&in_order(kept.cloned().collect()))
    };
    let (in_the_middle, with_two) =
        (without_those_before(1000 * MS), without_those_before(2400 * MS));
    packets.retain(|(_, packet)| !is_syn(packet));
    let capture = PCAP.write(&in_order(packets));
    let output = tcpguard(&["-"], &capture);
    assert_eq!(output.status.code(), Some(3));
    let words = line(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("✗ not judged: SYNs are missing in -"), "{words}");
    assert!(words.contains("behind XDP") && words.contains("tcpguard capture -w FILE"), "{words}");
    assert!(!words.contains("both directions") && !words.contains("no incident"), "{words}");
    let output = tcpguard(&["-", "--json"], &capture);
    assert!(line(&output.stderr).contains("behind XDP"), "{}", line(&output.stderr));
    let output = tcpguard(&["-"], &with_two);
    let words = line(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(words.contains("28 connections began without a SYN"), "{words}");
    let output = tcpguard(&["-"], &with_syns);
    assert_eq!(output.status.code(), Some(0), "with them it is calm: {}", line(&output.stdout));
    let output = tcpguard(&["-"], &in_the_middle);
    let words = line(&output.stdout);
    assert!(output.status.success() && words.contains("both directions"), "{words}");
}

/// A flood of 6,400 SYN/s of which every 64th is recorded.
#[test]
fn a_sample_of_what_xdp_dropped_is_judged_and_said_to_be_one() {
    let mut writer = Writer::start();
    for (at_ns, header) in flood(BEGIN, 6, 100, Shows::Arriving, any_address) {
        writer.add(&CapturedSyn::build(at_ns, &header, Reason::DropSignature, 64).unwrap());
    }
    let output = tcpguard(&["-", "--json"], &writer.take());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["incidents"][0]["class"], "random_spoofed");
    assert_eq!((&document["sampled_one_in"], &document["syns"]), (&64.into(), &600.into()));
    let notes = line(&output.stderr);
    for part in ["on average 1 in 64 of about 38.4k", "Rates and counts are those of the sample"] {
        assert!(notes.contains(part), "{notes}");
    }
    assert!(notes.contains("one direction only"), "{notes}");
}

#[test]
fn a_name_that_a_terminal_would_obey_is_printed_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("\x1b[2Jgnp.\u{202e}pacp");
    std::fs::write(&path, calm()).unwrap();
    for arguments in [vec![], vec!["--json"]] {
        let output = tcpguard(&[&[path.to_str().unwrap()][..], &arguments].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{}", line(&output.stderr));
        let obeyed = ['\x1b', '\u{202e}'];
        assert!(!line(&output.stdout).contains(obeyed), "{:?}", line(&output.stdout));
        assert!(!line(&output.stderr).contains(obeyed), "{:?}", line(&output.stderr));
    }
    let missing = directory.path().join("\x1b[2Jnone");
    let output = tcpguard(&[missing.to_str().unwrap()], b"");
    assert!(!line(&output.stderr).contains('\x1b'), "{:?}", line(&output.stderr));
}

#[test]
fn which_incidents_count_is_the_callers_to_say() {
    let flooded = flooded();
    for (counts, code) in [("notice", 1), ("critical", 1), ("never", 0)] {
        let output = tcpguard(&["-", "--fail-on", counts], &flooded);
        assert_eq!(output.status.code(), Some(code), "{counts}: {}", line(&output.stderr));
        assert!(line(&output.stdout).contains("SYN flood, spoofed sources"));
    }
    // A scan is worth a notice.
    let scan = scan_of("198.51.100.1", "192.0.2.7");
    let shown = |arguments: &[&str]| tcpguard(arguments, &scan).status.code();
    assert_eq!(shown(&["-"]), Some(1));
    assert_eq!(shown(&["-", "--fail-on", "warning"]), Some(0));
}

/// Probes of 40 ports of this host a second, all refused.
fn scan_of(host: &str, by: &str) -> Vec<u8> {
    let probes = (0..1000u16).flat_map(|n| {
        let [from, to] = [by, host].map(|addr| addr.parse::<std::net::IpAddr>().unwrap());
        let (from, to) = (SocketAddr::new(from, 40_000), SocketAddr::new(to, 1000 + n));
        let at = BEGIN + u64::from(n) * 25 * MS;
        [
            (at, Tcp::new(from, to, SYN, 7, 0).packet()),
            (at + MS, Tcp::new(to, from, RST | ACK, 0, 8).packet()),
        ]
    });
    PCAP.write(&probes.collect::<Vec<_>>())
}

#[test]
fn an_own_address_is_never_to_be_blocked() {
    for (host, by, advice) in [
        ("198.51.100.1", "192.0.2.7", "tcpguard block 192.0.2.7"),
        ("127.0.0.1", "127.0.0.1", "find the program on this host that scans"),
        ("::1", "::1", "find the program on this host that scans"),
    ] {
        let output = tcpguard(&["-"], &scan_of(host, by));
        let words = line(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(advice), "{words}");
        assert!(words.contains(", at least 266 ports and 1 address tried"), "{words}");
    }
}

#[test]
fn a_file_has_no_interface_and_a_flood_without_a_rule_no_rule_to_drop_by() {
    let flood = flood(BEGIN, 3, 1000, Shows::Arriving, any_address);
    let output = tcpguard(&["-"], &PCAP.write(&flood));
    let words = line(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "SYN rate peak 1000/s",
        "Sources about 2973, 1 SYN each",
        "Replies next to none in the capture",
    ] {
        assert!(words.contains(part), "{words}");
    }
    assert!(
        !words.contains("drop what the rules match") || !words.contains("Rules none"),
        "{words}"
    );
    // Nothing could be read: nothing is said about directions.
    let mut unknown = PCAP.write(&flood);
    unknown[20] = 147;
    assert!(!line(&tcpguard(&["-"], &unknown).stdout).contains("It holds"));
}

#[test]
fn a_capture_whose_times_are_of_no_use_is_not_judged() {
    let packets = in_order(flooded_among(100).clone());
    let untimed: Vec<Stamped> = packets.iter().map(|(_, packet)| (0, packet.clone())).collect();
    let joined = [served(BEGIN, 50), served(BEGIN + SECOND, 50)].concat();
    for (packets, said) in
        [(untimed, "no times: not judged"), (joined, "time runs backwards: rates are not judged")]
    {
        let output = tcpguard(&["-", "--fail-on", "never"], &PCAP.write(&packets));
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(line(&output.stdout).contains(said), "{}", line(&output.stdout));
        assert!(!line(&output.stdout).contains("no incident"), "{}", line(&output.stdout));
    }
}

#[test]
fn at_a_pace_alerts_are_printed_as_they_happen() {
    let flooded = flooded();
    let begun = Instant::now();
    let output = tcpguard(&["-", "--speed", "10x"], &flooded);
    assert!(begun.elapsed() >= Duration::from_millis(480), "{:?}", begun.elapsed());
    let alerts = line(&output.stderr);
    let started = alerts.lines().find(|line| line.contains("attack #1 started")).unwrap();
    assert!(started.trim_start().starts_with("1."), "{started}");
    assert!(tcpguard(&["-"], &flooded).stderr.is_empty());
    for wrong in ["0x", "-1", "fast", "nan", "1e9"] {
        assert_eq!(tcpguard(&["-", &format!("--speed={wrong}")], &flooded).status.code(), Some(2));
    }
}

#[test]
fn of_a_damaged_capture_the_readable_part_is_reported_as_well_as_the_damage() {
    let mut capture = flooded();
    let length = capture.len();
    capture.extend_from_slice(&[0xff; 16]);
    let output = tcpguard(&["-"], &capture);
    assert_eq!(output.status.code(), Some(3));
    let shown = line(&output.stdout);
    assert!(shown.contains("SYN flood, spoofed sources"), "{shown}");
    assert!(line(&output.stderr).contains(&format!("at byte {length}: ")));
}

#[test]
fn a_cut_capture_says_so_beside_its_json() {
    let capture = flooded();
    let output = tcpguard(&["-", "--json"], &capture[..capture.len() - 1]);
    assert_eq!(output.status.code(), Some(1));
    let place = format!("truncated at byte {}", capture.len() - 1);
    assert!(line(&output.stderr).contains(&place), "{}", line(&output.stderr));
}

#[test]
fn a_file_is_read_by_its_name_and_a_missing_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calm.pcap");
    std::fs::write(&path, calm()).unwrap();
    let output = tcpguard(&[path.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(0), "{}", line(&output.stderr));
    let missing = directory.path().join("none.pcap");
    for (missing, code) in [(missing, 5), (directory.path().to_owned(), 3)] {
        let output = tcpguard(&[missing.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(code));
        let complaint = line(&output.stderr);
        assert!(complaint.contains(missing.to_str().unwrap()), "{complaint}");
        assert_eq!(complaint.lines().count(), 2, "an error and its hint: {complaint}");
    }
}

#[test]
fn a_mode_that_replays_nothing_is_a_usage_error() {
    assert_eq!(tcpguard(&["-", "--mode", "off"], &calm()).status.code(), Some(2));
}

#[test]
fn a_configuration_judges_by_its_own_thresholds_and_its_mistakes_are_no_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("guard.toml");
    let path = file.to_str().unwrap();
    // Clients for 45 s, three of which are under a flood.
    let capture = PCAP.write(&in_order(flooded_among(900)));
    let ended = |arguments: &[&str]| {
        let output = tcpguard(arguments, &capture);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["incidents"][0]["ended_s"].as_f64()
    };
    let by_default = ended(&["-", "--json"]);
    assert!(by_default.is_some_and(|ended| ended < 6.0), "its last SYN: {by_default:?}");
    std::fs::write(&file, "[detection]\nclear_s = 300\n").unwrap();
    assert_eq!(ended(&["-", "--json", "--config", path]), None, "it is open at the end");

    std::fs::write(&file, "[detection]\nfast_min = 7\n").unwrap();
    let output = tcpguard(&["-", "-c", path], &flooded());
    assert_eq!(output.status.code(), Some(2));
    let complaint = line(&output.stderr);
    assert!(complaint.contains(&format!("{path}:2:12: detection.fast_min: 7 does")), "{complaint}");
}
