//! The kernel's half-open connections, as the daemon lists and removes them. Needs root.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{Error, HalfOpen, SockDiag};
use tcpguard_kit::net::lab::{
    ATTACKER_MAC, BACKLOG, CLIENT_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT,
};
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// Accuracy of the kernel's timers: one tick, 10 ms where it is longest.
const TICK: Duration = Duration::from_millis(10);

/// A lab in which the edge has no other means than its SYN queue, and the service in it.
fn stage() -> (Lab, Server) {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    (lab, server)
}

/// The `number`-th of the addresses that no host owns (RFC 5737, RFC 3849).
fn spoofed(family: Family, number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100 + high, low).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1).into(),
    };
    SocketAddr::new(address, 1024 + number)
}

/// The attacker sends one SYN from each of `count` spoofed addresses.
fn send_syns(lab: &Lab, family: Family, count: u16) -> BTreeSet<SocketAddr> {
    let sources: BTreeSet<_> = (1..=count).map(|number| spoofed(family, number)).collect();
    let send = || {
        let socket = PacketSocket::open(INTERFACE)?;
        for &source in &sources {
            let mut syn = Segment::new(source, family.service(), flags::SYN);
            (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
            syn.options = linux_syn_options(1460, 1);
            socket.send(&syn.to_frame())?;
        }
        Ok(())
    };
    lab.attacker.run(send).unwrap();
    sources
}

fn half_open(lab: &Lab, port: Option<u16>) -> Vec<HalfOpen> {
    lab.edge.run(|| Ok(SockDiag::open()?.half_open(port)?)).unwrap()
}

/// Lists until `enough` says so: the last SYNs may still be on their way.
fn wait_for(lab: &Lab, enough: impl Fn(&[HalfOpen]) -> bool) -> Vec<HalfOpen> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let found = half_open(lab, Some(PORT));
        if enough(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "still {} half-open connections", found.len());
        sleep(Duration::from_millis(10));
    }
}

/// Removes them and says of each whether it was there.
fn destroy(lab: &Lab, entries: &[HalfOpen]) -> Vec<bool> {
    let destroy = || {
        let mut sockets = SockDiag::open()?;
        Ok(entries.iter().map(|entry| sockets.destroy(entry)).collect::<Result<_, _>>()?)
    };
    lab.edge.run(destroy).unwrap()
}

fn connect(lab: &Lab, family: Family, limit: Duration) -> Result<TcpStream> {
    lab.client.run(|| Ok(TcpStream::connect_timeout(&family.service(), limit)?))
}

#[test]
fn every_half_open_connection_is_listed_with_its_addresses() {
    let (lab, _server) = stage();
    let mut expected = send_syns(&lab, Family::V4, 40);
    expected.extend(send_syns(&lab, Family::V6, 40));

    let found = wait_for(&lab, |found| found.len() >= 80);
    let clients: BTreeSet<_> = found.iter().map(|entry| entry.client).collect();
    assert_eq!((found.len(), clients), (80, expected));
    // The listener takes both families on one socket; the entries are of their own family.
    for entry in &found {
        let family = if entry.client.is_ipv4() { Family::V4 } else { Family::V6 };
        assert_eq!(entry.server, family.service());
    }
    assert_eq!(half_open(&lab, None).len(), 80);
    assert_eq!(half_open(&lab, Some(PORT + 1)), []);
}

#[test]
fn a_removed_connection_is_gone_and_stays_gone() {
    let (lab, _server) = stage();
    for family in Family::BOTH {
        send_syns(&lab, family, 40);
        let entries = wait_for(&lab, |found| found.len() >= 40);
        let (doomed, kept) = entries.split_at(30);

        assert_eq!(destroy(&lab, doomed), [true; 30], "{family:?}");
        let left: BTreeSet<_> = half_open(&lab, None).iter().map(|entry| entry.client).collect();
        assert_eq!(left, kept.iter().map(|entry| entry.client).collect(), "{family:?}");
        assert_eq!(destroy(&lab, doomed), [false; 30], "{family:?}: nothing is left to remove");
        assert_eq!(destroy(&lab, kept), [true; 10], "{family:?}");
        connect(&lab, family, Duration::from_secs(1)).expect("the listener listens as before");
    }
}

#[test]
fn a_queue_that_a_flood_has_filled_is_free_again_at_once() {
    let (lab, _server) = stage();
    for family in Family::BOTH {
        // A quarter of tcp_max_syn_backlog is reserved for peers that the kernel knows to be alive. The listener's
        // own limit shall be the one that is reached.
        lab.edge.sysctl("net.ipv4.tcp_max_syn_backlog", "4096").unwrap();
        send_syns(&lab, family, 500);
        let entries = wait_for(&lab, |found| found.len() >= BACKLOG as usize);
        connect(&lab, family, Duration::from_millis(300)).expect_err("the queue is full");

        assert!(destroy(&lab, &entries).iter().all(|&removed| removed), "{family:?}");
        connect(&lab, family, Duration::from_millis(300)).expect("the queue is empty");
        wait_for(&lab, <[_]>::is_empty);
    }
}

#[test]
fn a_client_that_completes_after_it_was_listed_keeps_its_connection() {
    let (lab, server) = stage();
    let client = SocketAddr::new(Family::V4.raw_client(), 40_000);
    let segment = |flags, seq, ack| Segment {
        src_mac: CLIENT_MAC,
        dst_mac: EDGE_MAC,
        seq,
        ack,
        window: 65_535,
        ..Segment::new(client, Family::V4.service(), flags)
    };
    let wire = lab.client.run(|| Ok(PacketSocket::open(INTERFACE)?)).unwrap();
    wire.send(&segment(flags::SYN, 100, 0).to_frame()).unwrap();
    let listed = wait_for(&lab, |found| found.len() == 1);
    let answer = receive(&wire, flags::SYN | flags::ACK).unwrap();

    let ack = segment(flags::ACK, 101, answer.seq.wrapping_add(1));
    wire.send(&ack.to_frame()).unwrap();
    wait_for(&lab, <[_]>::is_empty);
    assert_eq!(destroy(&lab, &listed), [false]);

    let payload = tcpguard_kit::traffic::server::REQUEST.to_vec();
    wire.send(&Segment { payload, flags: flags::ACK | flags::PSH, ..ack }.to_frame()).unwrap();
    let answer = receive(&wire, flags::PSH).unwrap();
    assert_eq!(answer.payload, tcpguard_kit::traffic::server::RESPONSE);
    assert_eq!(server.served(), 1);
}

/// The next segment that has these flags. A reset is an error.
fn receive(wire: &PacketSocket, wanted: u8) -> Result<Segment> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut frame = [0; 2048];
    while Instant::now() < deadline {
        let Some(len) = wire.try_receive(&mut frame)? else {
            sleep(Duration::from_millis(1));
            continue;
        };
        let Some(segment) = Segment::parse(&frame[..len]) else {
            continue;
        };
        if segment.flags & flags::RST != 0 {
            bail!("the connection was reset");
        }
        if segment.flags & wanted == wanted {
            return Ok(segment);
        }
    }
    bail!("no answer")
}

#[test]
fn age_follows_the_kernels_timers_and_is_never_too_high() {
    let (lab, _server) = stage();
    let begun = Instant::now();
    send_syns(&lab, Family::V4, 20);
    let young = wait_for(&lab, |found| found.len() >= 20);
    let elapsed = begun.elapsed() + TICK;
    assert!(young.iter().all(|entry| entry.age_at_least() <= elapsed), "{elapsed:?}: {young:?}");

    // The timers prove the most right after the second retransmission of the SYN-ACKs.
    sleep(Duration::from_millis(3_400).saturating_sub(begun.elapsed()));
    let old = half_open(&lab, Some(PORT));
    let elapsed = begun.elapsed() + TICK;
    assert_eq!(old.len(), 20);
    for entry in old {
        let age = entry.age_at_least();
        assert!(age >= Duration::from_secs(3) && age <= elapsed, "{elapsed:?}: {age:?} {entry:?}");
        assert!(entry.retransmits >= 2, "{entry:?}");
    }
}

#[test]
fn without_the_right_to_it_nothing_is_removed_and_the_error_names_the_right() {
    let (lab, _server) = stage();
    send_syns(&lab, Family::V4, 1);
    let entries = wait_for(&lab, |found| found.len() == 1);

    let error = lab.edge.run(|| {
        let had = capabilities(None).context("capabilities")?;
        let effective = had.effective - CapabilitySet::NET_ADMIN;
        set_capabilities(None, CapabilitySets { effective, ..had }).context("capabilities")?;
        Ok(SockDiag::open()?.destroy(&entries[0]))
    });
    let error = error.unwrap().expect_err("CAP_NET_ADMIN is missing");
    assert!(matches!(error, Error::NotPermitted { .. }), "{error}");
    assert!(error.hint().contains("CAP_NET_ADMIN"), "{}", error.hint());
    assert_eq!(half_open(&lab, Some(PORT)).len(), 1);
}
