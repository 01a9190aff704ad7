//! Real connections through SYN cookies: they end up as they would have without tcpguard. Needs root, and a kernel
//! with `bpf_sk_assign_tcp_reqsk` (6.9).

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use tcpguard::bpf::{XdpMode, addr};
use tcpguard_common::abi::{ListenerKey, Reason};
use tcpguard_host::linux::SockDiag;
use tcpguard_kit::daemon::armed::{Armed, PATIENCE, connection, listen};
use tcpguard_kit::net::delay::Delay;
use tcpguard_kit::net::foreign::MetadataCounter;
use tcpguard_kit::net::lab::{
    BACKLOG, CLIENT_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT,
};
use tcpguard_kit::net::packet::{Segment, flags, mss_option};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::traffic::clients;
use tcpguard_kit::traffic::flood::{Delivery, Flood};
use tcpguard_kit::traffic::raw_client::RawClient;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Properties of a client.
#[derive(Clone, Copy, Debug)]
struct Client {
    timestamps: bool,
    ecn: bool,
    /// `net.ipv4.tcp_rmem`, which gives its window scale.
    rmem: &'static str,
}

/// The kernel's default, which gives a window scale of 7.
const DEFAULT_RMEM: &str = "4096 131072 6291456";
const CLIENTS: [Client; 4] = [
    Client { timestamps: true, ecn: false, rmem: DEFAULT_RMEM },
    Client { timestamps: true, ecn: true, rmem: "4096 131072 33554432" },
    Client { timestamps: false, ecn: false, rmem: DEFAULT_RMEM },
    Client { timestamps: false, ecn: false, rmem: "4096 131072 16777000" },
];

/// A SYN and a reset in the name of a neighbour with an Ethernet address that the host does not know. Once
/// the host knows it, a SYN-ACK leaves without a connection behind it. That does not mean that another host's
/// service has this address.
#[test]
fn a_syn_that_is_reset_while_its_reply_waits_for_a_neighbour_disarms_nothing() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let listener = listen(&lab.edge);
    let armed = Armed::attach(&lab, XdpMode::Auto).unwrap();
    for (family, neighbour) in [(Family::V4, "10.77.0.199"), (Family::V6, "fd77::199")] {
        connection(&lab, &listener, family).unwrap();
        let key = ListenerKey::new(addr(family.edge()), PORT.to_be_bytes());
        let record = || armed.dataplane.syn_ack(&key).unwrap().expect("its look");
        assert!(record().is_own());
        let (source, service) =
            (SocketAddr::new(neighbour.parse().unwrap(), 4321), family.service());
        let segment = |flags, seq| Segment {
            src_mac: CLIENT_MAC,
            dst_mac: EDGE_MAC,
            seq,
            window: 64_240,
            options: mss_option(1460),
            ..Segment::new(source, service, flags)
        };
        let before = armed.counters().syn_ack;
        lab.client
            .run(|| {
                let wire = PacketSocket::open(INTERFACE)?;
                wire.send(&segment(flags::SYN, 1_000).to_frame())?;
                Ok(wire.send(
                    &Segment { options: Vec::new(), ..segment(flags::RST, 1_001) }.to_frame(),
                )?)
            })
            .unwrap();
        sleep(Duration::from_millis(200));
        assert_eq!(armed.counters().syn_ack, before, "it waits for the neighbour");
        // As its answer would; that of IPv6 takes multicast, which does not cross the lab.
        let known = format!("neigh replace {neighbour} lladdr 02:00:00:00:00:02 dev {INTERFACE}");
        lab.edge.ip(&[&known]).unwrap();
        armed.wait_until("the SYN-ACK", |counters| counters.syn_ack > before);
        assert!(record().is_own(), "{family:?}: {:?}", record());
        armed.arm().unwrap();
        let sent = armed.counters().cookies_sent;
        connection(&lab, &listener, family).unwrap();
        assert!(armed.counters().cookies_sent > sent, "{family:?}");
        armed.set_mitigations(0).unwrap();
    }
}

fn connections_are_as_without_tcpguard(mode: XdpMode) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let listener = listen(&lab.edge);
    let dress = |client: &Client| {
        for (key, value) in [
            ("tcp_timestamps", u8::from(client.timestamps).to_string()),
            ("tcp_ecn", if client.ecn { "1" } else { "2" }.to_owned()),
            ("tcp_rmem", client.rmem.to_owned()),
        ] {
            lab.client.sysctl(&format!("net.ipv4.{key}"), &value).unwrap();
        }
    };
    let mut without = Vec::new();
    for client in &CLIENTS {
        dress(client);
        for family in Family::BOTH {
            without.push(connection(&lab, &listener, family).unwrap());
        }
    }
    let armed = Armed::attach(&lab, mode).unwrap();
    // How the listener answers is learned from its own answers, to clients of each kind.
    for client in &CLIENTS {
        dress(client);
        for family in Family::BOTH {
            connection(&lab, &listener, family).unwrap();
        }
    }
    let learned = armed.counters();
    assert_eq!((learned.cookies_sent, learned.cookies_redeemed), (0, 0));
    let metadata = MetadataCounter::attach(&lab.edge, INTERFACE).unwrap();
    connection(&lab, &listener, Family::V4).unwrap();
    assert_eq!(metadata.packets().unwrap(), 0, "no cookies, no marks");
    let learned = armed.counters();
    armed.arm().unwrap();
    let mut without = without.into_iter();
    let mut count = 0;
    for client in &CLIENTS {
        dress(client);
        for family in Family::BOTH {
            let [here, there] = connection(&lab, &listener, family).unwrap();
            let [expected_here, expected_there] = without.next().unwrap();
            println!("{mode:?} {family:?} {client:?}\n  client {here:?}\n  server {there:?}");
            assert_eq!(here, expected_here, "the client's end, {family:?}, {client:?}");
            assert_eq!(there, expected_there, "the server's end, {family:?}, {client:?}");
            count += 1;
        }
    }
    armed.wait_until("every connection came by a cookie", |counters| {
        counters.cookies_redeemed == count
    });
    let counters = armed.counters();
    assert_eq!(counters.cookies_sent, count, "{counters:?}");
    assert_eq!(counters.syn_ack, learned.syn_ack, "the stack answered none: {counters:?}");
    // A count of completions by the tracepoint sees these too.
    assert_eq!(counters.established, learned.established + count, "{counters:?}");
    // Of each connection the third ACK brings the cookie, and the FIN, at least, brings none.
    assert!(metadata.packets().unwrap() >= count, "marks get to tc");
    let packets = armed.dataplane.packets(0).unwrap();
    assert_eq!(packets.reasons[Reason::Cookie as usize], count);
    assert_eq!(packets.entry, packets.reasons.iter().sum::<u64>());
}

#[test]
fn connections_are_as_without_tcpguard_in_native_mode() {
    connections_are_as_without_tcpguard(XdpMode::Native);
}

#[test]
fn connections_are_as_without_tcpguard_in_generic_mode() {
    connections_are_as_without_tcpguard(XdpMode::Generic);
}

/// SYNs of any length: the answer to one of 54 bytes without options has no room for its own, and
/// client and request come in one burst.
fn syns_of_every_shape_are_answered(mode: XdpMode) {
    // With a thread that receives, packets that arrive close together are one burst.
    let lab = Lab::new(LabOptions { measured: true, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let armed = Armed::attach(&lab, mode).unwrap();
    for family in Family::BOTH {
        let client = RawClient { family, port: 20_000 };
        client.connect(&lab, &client.bare_syn()).unwrap().expect("without cookies");
    }
    armed.arm().unwrap();
    let mut count = 0;
    for family in Family::BOTH {
        let shapes: [(&str, Vec<u8>, Vec<u8>); 5] = [
            ("bare", Vec::new(), Vec::new()),
            ("MSS only", mss_option(1400), Vec::new()),
            ("Windows", vec![2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2], Vec::new()),
            ("TCP Fast Open", vec![2, 4, 5, 180, 34, 2, 1, 1], Vec::new()),
            ("with data", mss_option(1460), vec![7; 1000]),
        ];
        for (port, (name, options, payload)) in (21_000..).zip(shapes) {
            let client = RawClient { family, port };
            let mut syn = client.bare_syn();
            (syn.options, syn.payload) = (options, payload);
            let connected = client.connect(&lab, &syn).unwrap();
            let connected = connected.unwrap_or_else(|| panic!("{mode:?} {family:?} {name}"));
            assert_eq!(connected.syns, 1, "{mode:?} {family:?} {name}: {connected:?}");
            // Client and request in one burst are one connection, and nothing is lost.
            assert!(connected.took < Duration::from_millis(150), "{name}: {connected:?}");
            count += 1;
        }
    }
    armed.wait_until("every connection came by a cookie", |counters| {
        counters.cookies_redeemed == count && counters.cookies_sent == count
    });
}

#[test]
fn syns_of_every_shape_are_answered_in_native_mode() {
    syns_of_every_shape_are_answered(XdpMode::Native);
}

#[test]
fn syns_of_every_shape_are_answered_in_generic_mode() {
    syns_of_every_shape_are_answered(XdpMode::Generic);
}

/// A connection that finds no room is not refused: the stack says nothing to it either.
#[test]
fn a_full_accept_queue_resets_no_client() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Hang).unwrap();
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    let family = Family::V4;
    let connect = || Ok(TcpStream::connect_timeout(&family.service(), PATIENCE)?);
    let mut waiting = vec![lab.client.run(connect).unwrap()];
    armed.arm().unwrap();
    // One more than the backlog: the kernel's queue is full when it holds more.
    let fits = u64::try_from(BACKLOG).unwrap();
    for _ in 0..fits {
        waiting.push(lab.client.run(connect).unwrap());
    }
    armed.wait_until("the queue is full", |counters| counters.cookies_redeemed == fits);
    let client = RawClient { family, port: 23_000 };
    let connected = client.connect(&lab, &client.bare_syn()).expect("it is not refused");
    assert!(connected.is_none(), "nobody accepts: {connected:?}");
    let counters = armed.counters();
    assert_eq!(counters.refused, 0, "{counters:?}");
    assert!(counters.cookies_redeemed > fits, "it was handed over: {counters:?}");
}

/// The age of the echoed timestamp is the round-trip time, by which the first retransmission timer is set. With a
/// wrong round-trip time, the server would retransmit its first flight on slow paths.
#[test]
fn the_server_knows_from_the_handshake_how_far_the_client_is() {
    let delay = Delay { mean: Duration::from_millis(150), jitter: Duration::ZERO, loss: 0.0 };
    let lab = Lab::new(LabOptions { client_delay: Some(delay), ..LabOptions::default() }).unwrap();
    let listener = listen(&lab.edge);
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    let family = Family::V4;
    let connect = || Ok(TcpStream::connect_timeout(&family.service(), PATIENCE)?);
    let round_trip = || {
        let client = lab.client.run(connect).unwrap();
        let (server, _) = listener.accept().unwrap();
        let filter =
            format!("sport = :{PORT} and dport = :{}", client.local_addr().unwrap().port());
        let output = lab.edge.command("ss").unwrap().args(["-tinOH", &filter]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let rtt = text.split_whitespace().find_map(|word| word.strip_prefix("rtt:"));
        let (rtt, _) = rtt.and_then(|rtt| rtt.split_once('/')).expect(&text);
        drop((client, server));
        rtt.parse::<f64>().unwrap()
    };
    let without = round_trip();
    armed.arm().unwrap();
    let with = round_trip();
    println!("round trip without cookies {without} ms, with {with} ms");
    assert_eq!(armed.counters().cookies_sent, 1);
    // The six bits that hold options are missing: never less, at most 67 ms and a timer tick more.
    assert!(with >= without - 10.0 && with <= without + 80.0, "{without} ms, {with} ms");
}

/// Frames that came from no socket, as a network card delivers them, at a rate at which the queue
/// would be full after 3 ms: every SYN is answered, nothing waits, and clients notice nothing.
#[test]
fn clients_connect_through_a_flood_and_the_stack_sees_none_of_it() {
    let lab = Lab::new(LabOptions { measured: true, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    for family in Family::BOTH {
        let client = RawClient { family, port: 24_000 };
        client.connect(&lab, &client.bare_syn()).unwrap().expect("without cookies");
    }
    armed.arm().unwrap();
    for family in Family::BOTH {
        let before = armed.counters();
        let clients = clients::Load::start(&lab.client, family.service(), 50).unwrap();
        let flood = Flood { rate: 40_000, ..Flood::random(family.service(), 2 * SECOND) };
        let flood = Flood { delivery: Delivery::Bursts, ..flood }.start(&lab).unwrap();
        sleep(SECOND);
        let waiting = lab.edge.run(|| Ok(SockDiag::open()?.half_open(Some(PORT))?.len())).unwrap();
        let flood = flood.wait().unwrap();
        let clients = clients.finish().unwrap();
        let now = armed.counters();
        println!("{family:?}: {} SYNs sent; {}", flood.sent, clients.summary());
        assert_eq!(waiting, 0, "half-open connections");
        let (syns, sent) = (now.syn - before.syn, now.cookies_sent - before.cookies_sent);
        assert_eq!(sent, syns, "each SYN is answered");
        assert!(sent >= flood.sent / 10 * 9, "{sent} of {} SYNs arrived", flood.sent);
        assert_eq!(now.syn_ack, before.syn_ack, "none of them by the stack");
        // A full ring may cost a client its first SYN.
        assert_eq!(clients.share_within(3 * SECOND), 1.0, "{}", clients.summary());
        assert!(clients.share_within(SECOND) >= 0.98, "{}", clients.summary());
        let redeemed = now.cookies_redeemed - before.cookies_redeemed;
        assert!(redeemed >= 50, "{redeemed} clients");
    }
}
