//! Real connections through SYN cookies: they end up as they would have without the guard. Needs
//! root, and a kernel with `bpf_sk_assign_tcp_reqsk` (6.9).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tcpguard::config::XdpMode;
use tcpguard::host::{SockDiag, SocketOffsets, interfaces, netns};
use tcpguard::kernel::{
    Attachment, Dataplane, Load, Object, Pins, Redeemer, Redemption, addr, attach,
    attach_tracepoint,
};
use tcpguard_common::ABI_VERSION;
use tcpguard_common::abi::{Config, ListenerCounters, ListenerEntry, ListenerKey, Mode, Reason};
use tcpguard_common::model::{cookie_keys, hash_key};
use tcpguard_e2e::clients;
use tcpguard_e2e::delay::Delay;
use tcpguard_e2e::flood::{Delivery, Flood};
use tcpguard_e2e::foreign::ForeignXdp;
use tcpguard_e2e::lab::{BACKLOG, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_e2e::netns::Netns;
use tcpguard_e2e::packet::mss_option;
use tcpguard_e2e::raw_client::RawClient;
use tcpguard_e2e::server::{Behaviour, Server};

/// What each end sends.
const TRANSFER: usize = 1 << 20;
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// The programs on the edge with the one listener, and nobody who governs them.
struct Armed {
    _object: Object,
    dataplane: Dataplane,
    _redeemer: Redeemer,
    attachment: Option<Attachment>,
    redemption: Option<Redemption>,
    _pins: Pins,
    _wire: ForeignXdp,
}

impl Armed {
    fn attach(lab: &Lab, mode: XdpMode) -> Result<Self> {
        let wire = lab.take_native_answers()?;
        lab.edge.run(|| {
            let pins = Pins::open(Path::new("/sys/fs/bpf/tcpguard"))?;
            let offsets = Some(SocketOffsets::of_running_kernel()?);
            let maps = pins.maps();
            let mut object = Object::load(Load { maps: Some(&maps), offsets, ..Load::default() })?;
            let dataplane = Dataplane::of(&object)?;
            let config = Config {
                abi_version: ABI_VERSION,
                mode: Mode::Enforce as u8,
                // There is no agent whose absence would matter.
                heartbeat_ns: u64::MAX,
                heartbeat_limit_ns: u64::MAX,
                hash_key: hash_key(1),
                netns_cookie: netns::cookie()?,
                established_seen: 1,
                ..Config::default()
            };
            dataplane.set_config(&config)?;
            dataplane.set_cookie_keys(&cookie_keys(1))?;
            let mut redeemer = Redeemer::load(&maps, false)?;
            let interface = interfaces::by_name(INTERFACE)?;
            attach_tracepoint(&mut object, &pins)?;
            let attachment = attach(&mut object, &pins, &interface, mode)?;
            let redemption = redeemer.attach(&pins, &interface)?;
            let armed = Self {
                _object: object,
                dataplane,
                _redeemer: redeemer,
                attachment: Some(attachment),
                redemption: Some(redemption),
                _pins: pins,
                _wire: wire,
            };
            armed.set_cookies(0)?;
            Ok(armed)
        })
    }

    /// Sets [`ListenerEntry::cookies`] of the one listener, which is bound to all addresses.
    fn set_cookies(&self, cookies: u8) -> Result<()> {
        let entry = ListenerEntry { steps: cookies, ..ListenerEntry::default() };
        let port = PORT.to_be_bytes();
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let keys = any.map(|ip| ListenerKey::new(addr(ip), port));
        for key in &keys {
            self.dataplane.set_listener(key, &entry)?;
        }
        Ok(self.dataplane.set_ports(keys.iter().map(|key| (key, 0)))?)
    }

    fn arm(&self) -> Result<()> {
        self.set_cookies(ListenerEntry::ANSWER | ListenerEntry::ACCEPT)
    }

    fn counters(&self) -> ListenerCounters {
        self.dataplane.listener_counters(0).unwrap()
    }

    /// Waits for counters that follow the traffic by a moment.
    #[track_caller]
    fn wait_until(&self, what: &str, holds: impl Fn(&ListenerCounters) -> bool) {
        let begun = Instant::now();
        while !holds(&self.counters()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.counters());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(redemption) = self.redemption.take() {
            redemption.remove().expect("the redeeming program comes off");
        }
        if let Some(attachment) = self.attachment.take() {
            attachment.remove();
        }
    }
}

fn listen(host: &Netns) -> TcpListener {
    let listener = host.run(|| {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("cannot bind the service's port")
    });
    listener.unwrap()
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..TRANSFER).map(|at| (at / 251) as u8 ^ at as u8 ^ seed).collect()
}

fn exchange(mut socket: &TcpStream, seed: u8, expected: u8, first: bool) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut received = vec![0; TRANSFER];
    if first {
        socket.write_all(&pattern(seed))?;
    }
    socket.read_exact(&mut received).context("the transfer stopped")?;
    ensure!(received == pattern(expected), "the transfer was damaged");
    if !first {
        socket.write_all(&pattern(seed))?;
    }
    Ok(())
}

/// Connects, sends a megabyte each way, and returns what `ss -ti` says at the client and at the
/// server that was agreed upon in the handshake.
fn connection(lab: &Lab, listener: &TcpListener, family: Family) -> Result<[Agreed; 2]> {
    let client = lab.client.run(|| Ok(TcpStream::connect_timeout(&family.service(), PATIENCE)?))?;
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    let server = loop {
        match listener.accept() {
            Ok((server, _)) => break server,
            Err(_) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("the service got no connection"),
        }
    };
    server.set_nonblocking(false)?;
    std::thread::scope(|scope| -> Result<()> {
        let served = scope.spawn(|| exchange(&server, 2, 1, false));
        exchange(&client, 1, 2, true)?;
        served.join().expect("the server's thread")
    })?;
    let port = client.local_addr()?.port();
    let ends = [
        agreed(&lab.client, &format!("sport = :{port} and dport = :{PORT}"))?,
        agreed(&lab.edge, &format!("sport = :{PORT} and dport = :{port}"))?,
    ];
    Ok(ends)
}

/// Flags and sizes by name.
type Agreed = BTreeMap<String, String>;

fn agreed(host: &Netns, filter: &str) -> Result<Agreed> {
    let output = host.command("ss")?.args(["-tinOH", filter]).output().context("ss")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.lines().count() == 1, "not one connection: {text}");
    const NAMES: [&str; 9] =
        ["ts", "sack", "ecn", "ecnseen", "wscale", "mss", "pmtu", "advmss", "usec_ts"];
    let words = text.split_whitespace().map(|word| word.split_once(':').unwrap_or((word, "")));
    let known = words.filter(|(name, _)| NAMES.contains(name));
    Ok(known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// What a client can be like.
#[derive(Clone, Copy, Debug)]
struct Client {
    timestamps: bool,
    ecn: bool,
    /// `net.ipv4.tcp_rmem`, which gives its window scale.
    rmem: &'static str,
}

/// The kernel's default, which gives a window scale of 7.
const USUAL: &str = "4096 131072 6291456";
const CLIENTS: [Client; 4] = [
    Client { timestamps: true, ecn: false, rmem: USUAL },
    Client { timestamps: true, ecn: true, rmem: "4096 131072 33554432" },
    Client { timestamps: false, ecn: false, rmem: USUAL },
    Client { timestamps: false, ecn: false, rmem: "4096 131072 16777000" },
];

fn connections_are_as_without_the_guard(mode: XdpMode) {
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
    // Whoever counts completions by the tracepoint sees these too.
    assert_eq!(counters.established, learned.established + count, "{counters:?}");
    let packets = armed.dataplane.packets(0).unwrap();
    assert_eq!(packets.reasons[Reason::Cookie as usize], count);
    assert_eq!(packets.entry, packets.reasons.iter().sum::<u64>());
}

#[test]
fn connections_are_as_without_the_guard_in_native_mode() {
    connections_are_as_without_the_guard(XdpMode::Native);
}

#[test]
fn connections_are_as_without_the_guard_in_generic_mode() {
    connections_are_as_without_the_guard(XdpMode::Generic);
}

/// SYNs of any length: the answer to one of 54 bytes without options has no room for its own, and
/// client and request come in one burst.
fn syns_of_every_shape_are_answered(mode: XdpMode) {
    // With a thread that receives, what comes close together is one burst.
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
fn a_full_accept_queue_resets_nobody() {
    let lab = Lab::new(LabOptions { measured: true, ..LabOptions::default() }).unwrap();
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

/// The age of the timestamp that comes back is the round-trip time, and the first retransmission
/// timer is set by it: told another one, the server would repeat its first flight on slow paths.
#[test]
fn the_server_knows_from_the_handshake_how_far_the_client_is() {
    let delay = Delay { mean: Duration::from_millis(150), jitter: Duration::ZERO };
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
        std::thread::sleep(SECOND);
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
