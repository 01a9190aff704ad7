//! Several captures are one recording, in the order of their times.

use std::fs;
use std::io::Cursor;
use std::process::{Command, Output};

use serde_json::Value;
use tcpguard::replay::capture::{CaptureError, Source};
use tcpguard::replay::{OnHost, Outcome, replay_beside};
use tcpguard_engine::{Mode, Tuning};

use super::files::*;
use super::formats::{assert_visits, visits};
use super::of_whole;
use super::packets::*;

fn together(files: &[(&str, &[u8])]) -> anyhow::Result<Outcome> {
    let source = |(name, bytes): &(&str, &[u8])| -> Source {
        ((*name).to_owned(), Box::new(Cursor::new(bytes.to_vec())))
    };
    let sources = files.iter().map(source).collect();
    replay_beside(sources, OnHost, Mode::Observe, Tuning::default(), &mut |_| {})
}

/// The packets of one capture in three: each third one in a file of another format and another link type.
fn in_three(packets: &[Stamped]) -> [Vec<u8>; 3] {
    let third =
        |number| -> Vec<Stamped> { packets.iter().skip(number).step_by(3).cloned().collect() };
    let mut blocks = PcapNg::new(Order::Big);
    blocks.interface(101, 0, Some(NANOSECONDS));
    third(2).iter().for_each(|(at, packet)| blocks.enhanced(0, *at, packet));
    let cooked = Pcap { link: 113, nanoseconds: true, order: Order::Big, ..PCAP };
    [gzip(&PCAP.write(&third(0))), cooked.write(&third(1)), blocks.bytes]
}

#[test]
fn packets_of_several_captures_are_in_the_order_of_their_times() {
    let [a, b, c] = in_three(&visits());
    for files in [[("a", &a[..]), ("b", &b), ("c", &c)], [("c", &c), ("b", &b), ("a", &a)]] {
        let replay = of_whole(together(&files)).replay;
        assert_visits(&replay, "in three");
        assert_eq!(replay.duration_s, 3.021);
        assert_eq!(replay.began.unwrap().0.as_second(), 1_700_000_000);
    }
    // Parts of one recording, one after another.
    let visits = visits();
    let parts: Vec<_> = visits.chunks(1).map(|part| PCAP.write(part)).collect();
    let files: Vec<_> = parts.iter().rev().map(|part| ("part", part.as_slice())).collect();
    let replay = of_whole(together(&files)).replay;
    assert_visits(&replay, "in parts");
    assert_eq!(replay.file, "part, part, part, 17 more");
}

#[test]
fn a_packet_that_two_captures_hold_counts_once() {
    let file = PCAP.write(&visits());
    let replay = of_whole(together(&[("eth0.pcap", &file), ("br0.pcap", &file)])).replay;
    assert_eq!((replay.packets, replay.skipped["copy"], replay.handshakes), (40, 20, 4));
    let copies =
        replay.notes.iter().find(|note| note.contains("twice, on br0.pcap and eth0.pcap:"));
    assert!(copies.is_some(), "{:?}", replay.notes);
}

#[test]
fn a_capture_that_cannot_be_read_on_is_named_and_the_others_are_read() {
    let [a, b, c] = in_three(&visits());
    let cut = &b[..b.len() - 1];
    let outcome = together(&[("a", &a), ("b", cut), ("c", &c)]).unwrap();
    assert!(outcome.damage.is_none(), "{:?}", outcome.damage);
    assert_eq!((outcome.replay.packets, outcome.replay.skipped["cut_off"]), (19, 1));
    let place = format!("b is truncated at byte {},", cut.len());
    assert!(outcome.replay.notes.iter().any(|note| note.starts_with(&place)), "{place}");

    let damaged = [&c[..], &[0xff; 12]].concat();
    let outcome = together(&[("a", &a), ("b", &b), ("c", &damaged)]).unwrap();
    assert_visits(&outcome.replay, "all that there is");
    let damage = outcome.damage.expect("a damage");
    assert!(damage.to_string().starts_with(&format!("cannot read c at byte {}", c.len())));

    let error = together(&[("a", &a), ("b", b"text"), ("c", &c)]).expect_err("no capture");
    assert!(error.is::<CaptureError>() && error.to_string().starts_with("cannot read b: it is"));
}

fn tcpguard(arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
    command.arg("replay").args(arguments).output().unwrap()
}

#[test]
fn the_command_line_takes_several_captures() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let [a, b, c] = in_three(&visits());
    for (name, bytes) in [("a.pcap.gz", &a), ("b.pcap", &b), ("c.pcapng", &c)] {
        fs::write(path(name), bytes).unwrap();
    }
    let files = [path("c.pcapng"), path("a.pcap.gz"), path("b.pcap")];
    let output = tcpguard(&[&files[..], &["--json".to_owned()]].concat());
    assert_eq!(output.status.code(), Some(0));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["packets"], &document["handshakes"]), (&20.into(), &4.into()));
    assert_eq!(document["file"], files.join(", "));

    let html = path("page.html");
    let output = tcpguard(&[&files[..], &["--html".to_owned(), html.clone()]].concat());
    assert_eq!(output.status.code(), Some(0));
    let page = fs::read_to_string(html).unwrap();
    assert!(page.contains("in c.pcapng, a.pcap.gz, b.pcap<"), "without their folders");

    fs::write(path("text"), b"no capture").unwrap();
    for (wrong, code) in [("none.pcap", 5), ("text", 3)] {
        let output = tcpguard(&[path("a.pcap.gz"), path(wrong)]);
        assert_eq!(output.status.code(), Some(code));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains(&path(wrong)) && output.stdout.is_empty(), "{complaint}");
    }
    assert_eq!(tcpguard(&[]).status.code(), Some(2));
}
