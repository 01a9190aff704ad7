//! The filter for the provider, read by tcpdump: it matches each SYN of the flood that it was made for, and no SYN of
//! a client. The flood and the clients are those of a capture that tcpguard has judged.

use std::io::{Cursor, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::thread;

use tcpguard::replay::{OnHost, replay};
use tcpguard::text;
use tcpguard_engine::Mode;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options, mss_option};

use super::replay::{BEGIN_US, Stamped, pcap};

/// Label of the filter in the request to the provider.
const LABEL: &str = "Filter (tcpdump): ";
/// Clients per second, from the beginning to the end.
const CLIENTS: u64 = 100;
/// SYNs of the flood per second.
const RATE: u64 = 2000;
/// First and last second of the flood, and end of the capture.
const TIMES: [u64; 3] = [2, 5, 6];

/// SYNs of a tool, and the way in which they differ from those of the clients.
#[derive(Clone, Copy, Debug)]
enum Tool {
    /// No TCP option, and one window.
    Bare,
    /// One TCP option, and any window.
    AnyWindow,
    /// The clients' TCP options and window, with ECN.
    Ecn,
}

impl Tool {
    fn make(self, syn: &mut Segment, number: u64) {
        match self {
            Self::Bare => (syn.window, syn.ttl) = (512, 244),
            Self::AnyWindow => {
                syn.window = (number as u16).wrapping_mul(40_503);
                syn.options = mss_option(1400);
            }
            Self::Ecn => {
                client(syn, number);
                syn.flags |= flags::ECE | flags::CWR;
            }
        }
    }
}

fn client(syn: &mut Segment, number: u64) {
    (syn.window, syn.dont_fragment) = (64_240, true);
    syn.options = linux_syn_options(1460, number as u32);
}

/// An address of the documentation networks for the server, and any other for `number`.
fn address(family: Family, number: u64) -> IpAddr {
    let mixed = (number as u32).wrapping_mul(2_654_435_761);
    match family {
        Family::V4 => Ipv4Addr::from(0x0b00_0000 | mixed >> 8).into(),
        Family::V6 => Ipv6Addr::from(0x2400_u128 << 112 | u128::from(mixed) << 64 | 1).into(),
    }
}

fn server(family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::V6 => "2001:db8::1".parse().unwrap(),
    };
    SocketAddr::new(address, 443)
}

/// SYNs and the SYN-ACKs to them.
#[derive(Default)]
struct Side {
    syns: Vec<Stamped>,
    rest: Vec<Stamped>,
}

impl Side {
    /// A SYN at `at` and the SYN-ACK that follows; the third ACK too if the sender is `real`.
    fn add(
        &mut self,
        at: u64,
        from: SocketAddr,
        to: SocketAddr,
        real: bool,
        make: impl FnOnce(&mut Segment),
    ) {
        let mut syn = Segment::new(from, to, flags::SYN);
        syn.seq = at as u32;
        make(&mut syn);
        let mut syn_ack = Segment::new(to, from, flags::SYN | flags::ACK);
        (syn_ack.seq, syn_ack.ack) = (500, syn.seq.wrapping_add(1));
        let mut ack = Segment::new(from, to, flags::ACK);
        (ack.seq, ack.ack) = (syn_ack.ack, 501);
        self.syns.push((at, syn.to_frame()));
        self.rest.push((at + 50, syn_ack.to_frame()));
        self.rest.extend(real.then(|| (at + 5000, ack.to_frame())));
    }
}

/// Number of packets of a capture that the filter matches.
fn matched(capture: Vec<u8>, filter: &str) -> usize {
    let mut tcpdump = Command::new("tcpdump");
    // From standard input: tcpdump gives up root before it opens a file.
    tcpdump.args(["-n", "-t", "-q", "-r", "-", filter]).stdin(Stdio::piped());
    tcpdump.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut reading = tcpdump.spawn().expect("tcpdump: install it (`cargo xtask setup` says how)");
    let mut input = reading.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || input.write_all(&capture));
    let output = reading.wait_with_output().unwrap();
    assert!(output.status.success(), "{filter}: {}", String::from_utf8_lossy(&output.stderr));
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().count()
}

fn the_filter_separates(tool: Tool, family: Family) {
    let [begin, end, last] = TIMES.map(|seconds| seconds * 1_000_000);
    let (mut clients, mut flood) = (Side::default(), Side::default());
    for number in 0..last / 1_000_000 * CLIENTS {
        let at = BEGIN_US + number * 1_000_000 / CLIENTS;
        let from = SocketAddr::new(address(family, number % 50), 2000 + number as u16);
        clients.add(at, from, server(family), true, |syn| client(syn, number));
    }
    for number in 0..(end - begin) / 1_000_000 * RATE {
        let at = BEGIN_US + begin + number * 1_000_000 / RATE;
        let from = SocketAddr::new(address(family, 1000 + number), 1024);
        flood.add(at, from, server(family), false, |syn| tool.make(syn, number));
    }
    let all = [&clients.syns, &clients.rest, &flood.syns, &flood.rest];
    let capture = pcap(all.into_iter().flatten().cloned().collect(), |_| true);
    let outcome = replay("capture", Box::new(Cursor::new(capture)), OnHost, Mode::Observe).unwrap();
    let incidents: Vec<_> = outcome.in_full().map(|(incident, _)| incident).collect();
    assert_eq!(incidents.len(), 1, "{tool:?} {family:?}: {:?}", outcome.replay.incidents);
    let request = text::provider(&incidents[0]);
    let filter = request.iter().find_map(|line| line.strip_prefix(LABEL)).expect("a filter");
    println!("{tool:?} {family:?}: {filter}");
    let of = |side: &Side| matched(pcap(side.syns.clone(), |_| true), filter);
    assert_eq!((of(&flood), of(&clients)), (flood.syns.len(), 0), "{filter}");
    let rest = [clients.rest, flood.rest].concat();
    assert_eq!(matched(pcap(rest, |_| true), filter), 0, "{filter}");
}

#[test]
fn tcpdump_finds_the_flood_alone_by_the_filter_for_the_provider() {
    for tool in [Tool::Bare, Tool::AnyWindow, Tool::Ecn] {
        for family in Family::BOTH {
            the_filter_separates(tool, family);
        }
    }
}
