//! `tcpguard capture`: SYNs that XDP drops or answers, which packet sockets do not see. Needs root and
//! `TCPGUARD_BIN`.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tcpguard_kit::daemon::agent::{Agent, Mode, RUNTIME_DIR, binary, cli};
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// A packet of a capture, read by the specification alone.
struct Read {
    header: Vec<u8>,
    comment: String,
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// The options of a block, by code.
fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (code, length) = (half(0), usize::from(half(2)));
        if code == 0 {
            assert_eq!(bytes.len(), 4, "the end of the options is the end of the block");
            return found;
        }
        found.push((code, bytes[4..4 + length].to_vec()));
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
}

/// The packets of a pcapng file with blocks in little endian.
fn read(mut file: &[u8]) -> Vec<Read> {
    let mut packets = Vec::new();
    assert_eq!((word(file, 0), word(file, 8)), (0x0a0d_0d0a, 0x1a2b_3c4d));
    while !file.is_empty() {
        let (kind, length) = (word(file, 0), word(file, 4));
        assert_eq!(word(file, length - 4), length);
        let body = &file[8..length - 4];
        if kind == 6 {
            let captured = word(body, 12);
            assert!(captured <= word(body, 16), "no more than there was");
            let header = body[20..20 + captured].to_vec();
            let mut read = Read { header, comment: String::new() };
            for (code, value) in options(&body[20 + captured.next_multiple_of(4)..]) {
                match code {
                    1 => read.comment = String::from_utf8(value).unwrap(),
                    // Of `epb_verdict`, Wireshark's tools make copies that they cannot read.
                    other => panic!("option {other}"),
                }
            }
            packets.push(read);
        }
        file = &file[length..];
    }
    packets
}

/// Lines of tcpdump about SYNs: on an interface within three seconds, or in a capture.
fn tcpdump(host: &Netns, arguments: &[&str]) -> Vec<String> {
    let output = host
        .command("timeout")
        .unwrap()
        .args(["3", "tcpdump", "-n", "-l"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter(|line| line.contains("Flags [S")).map(str::to_owned).collect()
}

#[test]
fn what_xdp_drops_is_recorded_with_its_reason_and_replayed() {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new(LabOptions::default()).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let mut flood = Flood::random(family.service(), 120 * SECOND);
        flood.rate = 5_000;
        let flood = flood.start(&lab).unwrap();
        agent.wait_for_rule(TIMEOUT).unwrap();

        // The naive variant: tcpdump beside it. A retransmitted SYN may pass.
        let seen = tcpdump(&lab.edge, &["-i", INTERFACE, "tcp"]);
        assert!(seen.len() < 150, "of 15,000 in {family:?}: {} {:?}", seen.len(), seen.last());

        let file = "/run/dropped.pcapng";
        let line = ["capture", "-w", file, "--for", "5s", "--json"];
        let output = cli(&lab.edge, &line).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("limit reached: 5s (--for)"), "{said}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (packets, stand_for) =
            (result["packets"].as_u64().unwrap(), result["stand_for"].as_u64().unwrap());
        assert!((200..=700).contains(&packets), "{result}");
        // The first half second passes until headers are kept.
        assert!((12_500..=35_000).contains(&stand_for), "of 25,000: {result}");

        let shown = tcpdump(&lab.edge, &["-r", file]);
        assert_eq!(shown.len() as u64, packets, "{family:?}: {:?}", shown.first());
        let again = cli(&lab.edge, &["capture", "-w", file]).unwrap();
        assert_eq!(again.status.code(), Some(1), "it exists");

        let output = cli(&lab.edge, &["capture", "-w", "-", "-c", "100"]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("limit reached: 100 packets (--count)"), "{said}");
        let recorded = read(&output.stdout);
        assert_eq!(recorded.len(), 100);
        let to = match family.edge() {
            std::net::IpAddr::V4(to) => to.octets().to_vec(),
            std::net::IpAddr::V6(to) => to.octets().to_vec(),
        };
        for Read { header, comment } in recorded {
            assert!(header.windows(to.len()).any(|part| part == to), "{header:02x?}");
            let dropped = comment.starts_with("dropped: drop_");
            let answered = comment.starts_with("answered: cookie");
            assert!((dropped || answered) && comment.contains("(1 in "), "{comment}");
        }

        let replayed = cli(&lab.edge, &["replay", file, "--json"]).unwrap();
        let document: Value = serde_json::from_slice(&replayed.stdout).unwrap();
        assert_eq!(document["incidents"][0]["class"], "random_spoofed", "{document}");
        assert!(document["sampled_one_in"].as_u64().unwrap() >= 16, "{document}");
        let notes = String::from_utf8_lossy(&replayed.stderr);
        assert!(notes.contains("tcpguard capture recorded it"), "{notes}");
        flood.stop().unwrap();
    }
}

#[test]
fn without_an_agent_nothing_is_recorded_and_no_file_is_left() {
    let host = Netns::new("bare").unwrap();
    let output = cli(&host, &["capture", "-w", "/run/none.pcapng"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("agent not running") && said.contains("hint: "), "{said}");
    assert!(host.read("/run/none.pcapng").is_err());
}

/// A signal, and a disk that is full: what was recorded before is there.
#[test]
fn a_recording_that_ends_early_leaves_a_whole_capture() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let mut flood = Flood::random(Family::V4.service(), 120 * SECOND);
    flood.rate = 5_000;
    let flood = flood.start(&lab).unwrap();
    agent.wait_for_rule(TIMEOUT).unwrap();

    lab.edge.exec("mkdir -p /run/small").unwrap();
    lab.edge.exec("mount -t tmpfs -o size=16k tmpfs /run/small").unwrap();
    let full = cli(&lab.edge, &["capture", "-w", "/run/small/x.pcapng"]).unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device") && said.contains("hint: df -h"), "{said}");
    let kept = read(&bytes(&lab.edge, "/run/small/x.pcapng")).len();
    assert!(kept > 0 && said.contains(&format!("x.pcapng: {kept} packets")), "{kept}: {said}");

    let mut recording = lab.edge.command(binary().unwrap()).unwrap();
    recording.args(["capture", "-w", "/run/early.pcapng", "--runtime-dir", RUNTIME_DIR]);
    let recording = recording.stderr(Stdio::piped()).spawn().unwrap();
    // Each packet takes some 120 bytes there.
    let long = ["-c", "until [ $(stat -c %s /run/early.pcapng) -gt 16384 ]; do sleep 0.1; done"];
    assert!(lab.edge.command("sh").unwrap().args(long).status().unwrap().success());
    kill_process(Pid::from_child(&recording), Signal::INT).unwrap();
    let output = recording.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("ended by a signal"), "{said}");
    let kept = read(&bytes(&lab.edge, "/run/early.pcapng")).len();
    assert!(kept > 50 && said.contains(&format!("early.pcapng: {kept} packets")), "{kept}: {said}");
    flood.stop().unwrap();
}

fn bytes(host: &Netns, path: &'static str) -> Vec<u8> {
    host.run(move || Ok(std::fs::read(path)?)).unwrap()
}
