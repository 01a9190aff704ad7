//! A capture replayed through the loaded programs has the same results as on the host.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};

use tcpguard::documents::replay::Replay;
use tcpguard::replay::{Backend, Kernel, OnHost, replay};
use tcpguard_engine::Mode;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};

/// Microseconds since 1970 and a frame.
pub type Stamped = (u64, Vec<u8>);

pub const BEGIN_US: u64 = 1_700_000_000_000_000;

fn server() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 443)
}

fn segment(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Segment {
    let mut segment = Segment::new(from, to, flags);
    (segment.seq, segment.ack) = (seq, ack);
    segment
}

/// A client every 10 ms that connects and sends a request, some of it in a frame of 60 kB, as
/// receive offload makes them.
fn clients(seconds: u64) -> Vec<Stamped> {
    let mut frames = Vec::new();
    for number in 0..seconds * 100 {
        let at = BEGIN_US + number * 10_000;
        let client = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 2000 + number as u16);
        let mut syn = segment(client, server(), flags::SYN, 7, 0);
        syn.options = linux_syn_options(1460, 1);
        let mut request = segment(client, server(), flags::ACK, 8, 501);
        request.payload = vec![b'x'; if number % 10 == 0 { 60_000 } else { 100 }];
        let mut answer = segment(server(), client, flags::ACK, 501, 108);
        answer.payload = vec![b'y'; 20_000];
        frames.extend([
            (at, syn.to_frame()),
            (at + 100, segment(server(), client, flags::SYN | flags::ACK, 500, 8).to_frame()),
            (at + 5000, segment(client, server(), flags::ACK, 8, 501).to_frame()),
            (at + 5100, request.to_frame()),
            (at + 5200, answer.to_frame()),
        ]);
    }
    frames
}

/// Spoofed SYNs, 2,000 a second, and the replies to them.
fn flood(from_us: u64, seconds: u64) -> Vec<Stamped> {
    let mut frames = Vec::new();
    for number in 0..seconds * 2000 {
        let at = BEGIN_US + from_us + number * 500;
        // A permutation of the addresses: every source is another one.
        let source = Ipv4Addr::from((number as u32).wrapping_mul(2_654_435_761));
        let bot = SocketAddr::new(source.into(), 1024);
        let seq = number as u32;
        frames.push((at, segment(bot, server(), flags::SYN, seq, 0).to_frame()));
        let answer = segment(server(), bot, flags::SYN | flags::ACK, 9, seq.wrapping_add(1));
        frames.push((at + 50, answer.to_frame()));
    }
    frames
}

/// A capture of these frames, by time.
pub fn pcap(mut frames: Vec<Stamped>, keep: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    frames.sort_by_key(|(at, _)| *at);
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1_u32];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (at, frame) in frames.iter().filter(|(_, frame)| keep(frame)) {
        let length = frame.len() as u32;
        let record = [(at / 1_000_000) as u32, (at % 1_000_000) as u32, length, length];
        file.extend(record.iter().flat_map(|word| word.to_le_bytes()));
        file.extend_from_slice(frame);
    }
    file
}

fn run(capture: &[u8], backend: impl Backend, mode: Mode) -> Replay {
    let source = Box::new(Cursor::new(capture.to_vec()));
    let outcome = replay("capture", source, backend, mode).expect("a replay");
    assert!(outcome.damage.is_none());
    outcome.replay
}

#[test]
fn kernel_and_host_say_the_same_about_a_capture() {
    assert!(rustix::process::geteuid().is_root(), "root tests need root: cargo xtask test");
    let traffic = || [clients(8), flood(2_000_000, 3)].concat();
    let arrives = |frame: &[u8]| {
        // Where an IPv4 header behind an Ethernet header has the source.
        frame[26..30] != [198, 51, 100, 1]
    };
    let captures =
        [pcap(traffic(), |_| true), pcap(traffic(), arrives), pcap(clients(3), |_| true)];
    for (capture, incidents) in captures.iter().zip([1, 1, 0]) {
        for mode in [Mode::Observe, Mode::Enforce] {
            let host = run(capture, OnHost, mode);
            let kernel = Kernel::load().expect("the object loads");
            assert_eq!(run(capture, kernel, mode), host, "{mode:?}");
            assert_eq!(host.incidents.len(), incidents, "{mode:?}");
            assert!(host.handshakes >= 300);
        }
    }
}
