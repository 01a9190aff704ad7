//! ACK, FIN and RST floods at a listener whose out-of-state segments are dropped. Neither open
//! connections nor new ones are affected. Needs root.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tcpguard::bpf::XdpMode;
use tcpguard_common::abi::{ListenerEntry, Reason};
use tcpguard_goals::size;
use tcpguard_kit::daemon::armed::{Armed, PATIENCE, listen};
use tcpguard_kit::measure::tcp_counters::tcp_counter;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::flags;
use tcpguard_kit::traffic::flood::{Flood, FloodReport, Shape};

const SECOND: Duration = Duration::from_secs(1);
/// Duration of one flood.
const FLOOD: Duration = SECOND;
/// Rates of a flood, in segments per second: short and full.
const RATES: (u32, u32) = (5_000, 50_000);
/// Connections that are open all the time.
const OPEN: usize = 8;
/// Size of a message that each of them sends and gets back, in bytes.
const MESSAGE: usize = 8192;

const OUT_OF_STATE: u8 = ListenerEntry::OUT_OF_STATE;
const OWN: u8 = OUT_OF_STATE | ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;

/// A service that echoes its input, until its listener is shut down.
fn echo(host: &Netns, listener: TcpListener) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let serve = move || {
        listener.set_nonblocking(true)?;
        while !stopped.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            client.set_nonblocking(false)?;
            std::thread::spawn(move || std::io::copy(&mut &client, &mut &client));
        }
        Ok(())
    };
    drop(host.spawn("echo", serve).unwrap());
    stop
}

fn exchange(mut socket: &TcpStream, message: &[u8]) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut echoed = vec![0; message.len()];
    socket.write_all(message)?;
    socket.read_exact(&mut echoed).context("an answer did not come")?;
    ensure!(echoed == message, "an answer was damaged");
    Ok(())
}

/// Connections that are never idle.
struct Busy {
    stop: Arc<AtomicBool>,
    exchanged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Busy {
    fn start(host: &Netns, service: SocketAddr) -> Self {
        let (stop, exchanged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let connect = |number: usize| {
            let socket = host.run(|| Ok(TcpStream::connect_timeout(&service, PATIENCE)?)).unwrap();
            let (stop, exchanged) = (Arc::clone(&stop), Arc::clone(&exchanged));
            std::thread::spawn(move || {
                let message: Vec<u8> = (0..MESSAGE).map(|at| (at ^ number) as u8).collect();
                while !stop.load(Ordering::Relaxed) {
                    exchange(&socket, &message).with_context(|| format!("connection {number}"))?;
                    exchanged.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            })
        };
        let threads = (0..OPEN).map(connect).collect();
        Self { stop, exchanged, threads }
    }

    fn exchanged(&self) -> u64 {
        self.exchanged.load(Ordering::Relaxed)
    }

    /// Ends the connections, none of which may have lost anything.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Sends out-of-state segments while new connections are made, and returns the time that each took with its
/// exchanges.
fn flooded(lab: &Lab, service: SocketAddr, flags: u8) -> (FloodReport, Vec<Duration>) {
    let rate = size(RATES.0, RATES.1);
    let flood = Flood { shape: Shape::OutOfState(flags), rate, ..Flood::random(service, FLOOD) };
    let flood = flood.start(lab).unwrap();
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < FLOOD {
        let attempt = Instant::now();
        let connect = || Ok(TcpStream::connect_timeout(&service, PATIENCE)?);
        let socket = lab.client.run(connect).expect("a new connection");
        exchange(&socket, b"first").expect("its first exchange");
        // Data of more than one segment arrives in one burst with the third ACK, or after it.
        exchange(&socket, &[7; 4000]).expect("its second exchange");
        took.push(attempt.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    (flood.wait().unwrap(), took)
}

/// Resets that the edge has sent.
fn resets(lab: &Lab) -> u64 {
    tcp_counter(&lab.edge, "OutRsts").unwrap()
}

const FLOODS: [(&str, u8); 4] = [
    ("ACK", flags::ACK),
    ("FIN", flags::FIN | flags::ACK),
    ("RST", flags::RST),
    ("data", flags::ACK | flags::PSH),
];

fn no_client_notices(mode: XdpMode, syncookies: u8, mitigations: u8) {
    let lab = Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap();
    // How the listener answers is learned from its own answers, which cookies are not.
    lab.edge.sysctl("net.ipv4.tcp_syncookies", "1").unwrap();
    let server = echo(&lab.edge, listen(&lab.edge));
    let armed = Armed::attach(&lab, mode).unwrap();
    let busy = Family::BOTH.map(|family| Busy::start(&lab.client, family.service()));
    lab.edge.sysctl("net.ipv4.tcp_syncookies", &syncookies.to_string()).unwrap();
    armed.set_mitigations(mitigations).unwrap();
    for family in Family::BOTH {
        for (name, flags) in FLOODS {
            let (before, resets_before) = (armed.counters(), resets(&lab));
            let exchanged = busy.each_ref().map(Busy::exchanged);
            let (flood, took) = flooded(&lab, family.service(), flags);
            let refused = armed.counters().refused - before.refused;
            let answered = resets(&lab) - resets_before;
            let exchanged: Vec<u64> = busy
                .iter()
                .zip(exchanged)
                .map(|(busy, before)| busy.exchanged() - before)
                .collect();
            let slowest = took.iter().max().unwrap();
            println!(
                "{mode:?} {family:?} {name}: {} sent, {refused} dropped, {answered} resets; {} new \
                 connections, the slowest {slowest:?}; {exchanged:?} exchanges",
                flood.sent,
                took.len()
            );
            // Frames beyond the capacity of the wire never arrived.
            assert!(refused >= flood.sent / 10 * 8, "{refused} of {}", flood.sent);
            assert_eq!(answered, 0, "the stack saw out-of-state segments");
            assert!(took.len() >= 10 && *slowest < 3 * SECOND, "{took:?}");
            assert!(exchanged.iter().all(|number| *number > 100), "{exchanged:?}");
        }
    }
    // Before the counters are read: they are read one by one.
    busy.into_iter().for_each(Busy::finish);
    let counters = armed.counters();
    let cookies = counters.cookies_sent;
    assert_eq!(cookies != 0, mitigations & ListenerEntry::OWN_COOKIES != 0, "{counters:?}");
    assert_eq!(counters.cookies_redeemed, cookies, "{counters:?}");
    let invalid = armed.dataplane.returned_cookies(0).unwrap().invalid;
    println!("{cookies} cookies sent, {invalid} invalid");
    assert_eq!(invalid != 0, mitigations & ListenerEntry::ACCEPT != 0);
    let packets = armed.dataplane.packets(0).unwrap();
    assert_eq!(packets.reasons[Reason::DropOutOfState as usize], counters.refused);
    assert_eq!(packets.entry, packets.reasons.iter().sum::<u64>());
    server.store(true, Ordering::Relaxed);
}

#[test]
fn no_client_notices_where_the_stack_replies() {
    no_client_notices(XdpMode::Native, 1, OUT_OF_STATE);
}

#[test]
fn no_client_notices_own_cookies() {
    no_client_notices(XdpMode::Native, 1, OWN);
}

#[test]
fn no_client_notices_kernel_cookies_in_generic_mode() {
    no_client_notices(XdpMode::Generic, 2, OUT_OF_STATE);
}

/// A host behind the edge with a service on the same port.
fn behind(lab: &Lab) -> Netns {
    let inner = Netns::new("inner").unwrap();
    let path = inner.path();
    lab.edge
        .ip(&[
            &format!("link add inner type veth peer name eth0 netns {path}"),
            "link set inner up",
            "address add 10.79.0.1/24 dev inner",
        ])
        .unwrap();
    inner
        .ip(&[
            "link set eth0 up",
            "address add 10.79.0.2/24 dev eth0",
            "route add default via 10.79.0.1",
        ])
        .unwrap();
    for (host, interface) in [(&lab.edge, "inner"), (&inner, "eth0")] {
        host.exec(&format!("ethtool -K {interface} tx off tso off gso off gro off")).unwrap();
    }
    lab.edge.sysctl("net.ipv4.ip_forward", "1").unwrap();
    lab.client
        .ip(&[&format!("route add 10.79.0.0/24 via {} dev {INTERFACE}", Family::V4.edge())])
        .unwrap();
    inner
}

/// The edge has a listener on every address, as docker's proxy has, and forwards the port.
#[test]
fn forwarded_and_translated_services_lose_nothing() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let inner = behind(&lab);
    let local = echo(&lab.edge, listen(&lab.edge));
    let service = echo(&inner, listen(&inner));
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    let translated = Family::V4.service();
    // The proxy has answered outside itself, before the rule came.
    let socket = lab.client.run(|| Ok(TcpStream::connect(translated)?)).unwrap();
    exchange(&socket, b"to the proxy").unwrap();
    drop(socket);
    // The entry that all addresses share stands beside it.
    let seen = armed.dataplane.syn_acks().unwrap();
    assert_eq!(seen.iter().filter(|(key, _)| *key != key.of_all()).count(), 1);
    armed.set_mitigations(OUT_OF_STATE).unwrap();
    for rule in [
        "add table ip nat",
        "add chain ip nat in { type nat hook prerouting priority -100 ; }",
        "add rule ip nat in iifname eth0 tcp dport 443 ip daddr 10.77.0.1 dnat to 10.79.0.2:443",
    ] {
        let output = lab.edge.command("nft").unwrap().arg(rule).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let forwarded = SocketAddr::new([10, 79, 0, 2].into(), PORT);
    let targets = [forwarded, translated];
    let busy = targets.map(|target| Busy::start(&lab.client, target));
    // The SYN-ACKs that were seen of them also keep tcpguard from sending replies for them.
    armed.set_mitigations(OWN).unwrap();
    for (target, busy) in targets.into_iter().zip(&busy) {
        for (name, flags) in FLOODS {
            let exchanged = busy.exchanged();
            let (flood, took) = flooded(&lab, target, flags);
            let exchanged = busy.exchanged() - exchanged;
            let slowest = took.iter().max().unwrap();
            println!(
                "{target} {name}: {} sent; {} new connections, the slowest {slowest:?}; {exchanged} \
                 exchanges",
                flood.sent,
                took.len()
            );
            assert!(took.len() >= 10 && *slowest < 3 * SECOND, "{took:?}");
            assert!(exchanged > 100, "{exchanged}");
        }
    }
    busy.into_iter().for_each(Busy::finish);
    let packets = armed.dataplane.packets(0).unwrap();
    let dropped = packets.reasons[Reason::DropOutOfState as usize];
    assert_eq!((dropped, armed.counters().cookies_sent), (0, 0));
    for stop in [local, service] {
        stop.store(true, Ordering::Relaxed);
    }
}
