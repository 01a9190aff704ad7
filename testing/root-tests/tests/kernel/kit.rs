//! Tests of the properties of the lab on which the live tests rely. Needs root.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::{self, sleep};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_kit::net::foreign::{ForeignXdp, Verdict};
use tcpguard_kit::net::lab::{BACKLOG, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::packet::{Segment, flags};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::net::ring::Ring;
use tcpguard_kit::traffic::flood::{Delivery, Flood, Shape, Sources};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::raw_client::RawClient;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_flood_keeps_its_rate_and_every_packet_arrives() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    // Slow machines come to 70,000 of the 100,000 a second that live tests ask for.
    let rates = [(25_000, 0.98), (100_000, 0.5)];
    let cases = Family::BOTH.into_iter().flat_map(|family| rates.map(|rate| (family, rate)));
    for (family, (rate, least)) in cases {
        // Whatever else the machine does may slow one flood down.
        let kept = (0..3).any(|_| {
            let before = lab.edge.interface_counter(INTERFACE, "rx_packets").unwrap();
            let flood = Flood { rate, ..Flood::random(family.service(), SECOND) };
            let report = flood.start(&lab).unwrap().wait().unwrap();
            let arrived = lab.edge.interface_counter(INTERFACE, "rx_packets").unwrap() - before;
            assert_eq!(report.sent, u64::from(rate), "{family:?}");
            assert_eq!(arrived, report.sent, "{family:?}: nothing else is on the wire");
            println!("{family:?}: {:.0} of {rate} SYN/s", report.rate());
            let share = report.rate() / f64::from(rate);
            assert!(share <= 1.02, "{family:?}: {share:.3} of {rate} SYN/s");
            share >= least
        });
        assert_eq!(lab.lost().unwrap(), 0, "{family:?}");
        assert!(kept, "{family:?}: {rate} SYN/s");
    }
}

fn measured() -> Lab {
    Lab::new(LabOptions { measured: true, ..LabOptions::default() }).unwrap()
}

/// The kernel answers every SYN that arrives, so it finds the checksums right.
#[test]
fn bursts_keep_their_rate_and_every_syn_is_answered() {
    let lab = measured();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let counters = || {
        let counter = |name| lab.edge.interface_counter(INTERFACE, name).unwrap();
        (counter("rx_packets"), counter("tx_packets"), lab.lost().unwrap())
    };
    for family in Family::BOTH {
        let kept = (0..3).any(|_| {
            let before = counters();
            // Not a multiple of a burst: the last one is short.
            let flood = Flood { rate: 20_010, ..Flood::random(family.service(), SECOND) };
            let flood = Flood { delivery: Delivery::Bursts, ..flood };
            let report = flood.start(&lab).unwrap().wait().unwrap();
            sleep(SECOND / 10);
            let now = counters();
            let (arrived, answers, lost) = (now.0 - before.0, now.1 - before.1, now.2 - before.2);
            assert_eq!(report.sent, 20_010, "{family:?}");
            assert_eq!(arrived + lost, report.sent, "{family:?}: nothing else is on the wire");
            // SYN-ACKs for SYNs in the queue are retransmitted after 1, 3 and 7 s.
            let repeated = 3 * (BACKLOG as u64 + 1);
            assert!(
                (arrived..=arrived + repeated).contains(&answers),
                "{family:?}: {answers} answers to {arrived} SYNs"
            );
            println!("{family:?}: {:.0} SYN/s", report.rate());
            (19_600.0..=20_400.0).contains(&report.rate())
        });
        assert!(kept, "{family:?}: 20,010 SYN/s");
    }
}

/// Nothing drops the flood here, so that it comes faster than the stack takes it.
#[test]
fn what_a_full_ring_loses_is_counted_to_the_packet() {
    let lab = measured();
    let ring = Ring::read(&lab).unwrap();
    let flood = Flood::random(Family::V4.service(), SECOND);
    let flood = Flood { delivery: Delivery::Unpaced, ..flood };
    let report = flood.start(&lab).unwrap().wait().unwrap();
    sleep(SECOND / 10);
    let passage = Ring::read(&lab).unwrap().since(&ring);
    assert_eq!(passage.taken + passage.lost, report.sent);
    assert!(passage.lost > 0, "{passage:?}");
}

#[test]
fn each_syn_of_a_burst_is_complete_and_from_another_source() {
    let lab = measured();
    for family in Family::BOTH {
        let syns = syns_of(&lab, Flood::random(family.service(), SECOND));
        let distinct = |of: fn(&Segment) -> String| syns.iter().map(of).collect::<BTreeSet<_>>();
        for syn in &syns {
            assert_eq!((syn.flags, syn.dst, syn.ttl), (flags::SYN, family.service(), 64));
            assert!(is_foreign(syn.src.ip()) && syn.src.port() >= 1024, "from {}", syn.src);
        }
        assert_eq!(distinct(|syn| syn.src.ip().to_string()).len(), syns.len(), "{family:?}");
        assert_eq!(distinct(|syn| syn.seq.to_string()).len(), syns.len(), "{family:?}");
        assert!(distinct(|syn| syn.src.port().to_string()).len() > syns.len() / 2, "{family:?}");
    }
}

/// SYNs in the flood's bursts, as they arrive, complete and with valid checksums.
fn syns_of(lab: &Lab, flood: Flood) -> Vec<Segment> {
    let wire = lab.edge.run(|| Ok(PacketSocket::open(INTERFACE)?)).unwrap();
    let (rate, duration) = (4_000, SECOND / 4);
    let flood = Flood { rate, duration, delivery: Delivery::Bursts, ..flood };
    let target = flood.target;
    let flood = flood.start(lab).unwrap();
    let (mut syns, mut buffer) = (Vec::new(), [0; 256]);
    while flood.sent() < 1_000 {
        while let Some(length) = wire.try_receive(&mut buffer).unwrap() {
            let syn = Segment::parse(&buffer[..length]).unwrap();
            assert_eq!(syn.to_frame(), buffer[..length], "lengths and checksums are right");
            syns.extend((syn.dst == target).then_some(syn));
        }
        sleep(Duration::from_millis(1));
    }
    assert!(syns.len() >= 500, "{target}: {} SYNs were seen", syns.len());
    syns
}

#[test]
fn a_bounded_number_of_syns_in_bursts_returns_with_the_same_source_port_and_number() {
    let lab = measured();
    for family in Family::BOTH {
        let flood = Flood::random(family.service(), SECOND);
        let syns = syns_of(&lab, Flood { distinct: Some(4), ..flood });
        let distinct = |of: fn(&Segment) -> String| syns.iter().map(of).collect::<BTreeSet<_>>();
        assert!(syns.iter().all(|syn| is_foreign(syn.src.ip())), "{family:?}");
        assert_eq!(distinct(|syn| syn.src.ip().to_string()).len(), 16, "{family:?}: sources");
        assert_eq!(distinct(|syn| syn.src.to_string()).len(), 16, "{family:?}: connections");
        assert_eq!(distinct(|syn| syn.seq.to_string()).len(), 1, "{family:?}: numbers");
    }
}

/// A mimicking flood must differ from its client in nothing that a signature could hold on to.
#[test]
fn copies_in_bursts_are_complete_and_as_the_client_sends_them() {
    let lab = measured();
    for family in Family::BOTH {
        let likeness = Likeness::capture(&lab, family).unwrap();
        let net: IpNet = match family {
            Family::V4 => "198.51.100.0/24".parse().unwrap(),
            Family::V6 => "2001:db8:7::/56".parse().unwrap(),
        };
        let (shape, sources) = (Shape::Copy(likeness), Sources::Net(net));
        let flood = Flood::random(family.service(), SECOND);
        let mut syns = syns_of(&lab, Flood { shape, sources, ..flood });
        syns.retain(|syn| syn.src.ip() != family.client());
        for syn in &syns {
            assert!(net.contains(&syn.src.ip()), "{} is not in {net}", syn.src);
            assert_eq!((syn.flags, syn.dst), (flags::SYN, family.service()));
            let copy = Likeness::of(syn).unwrap();
            assert_eq!(copy.window, likeness.window);
            assert_eq!(copy.dont_fragment, likeness.dont_fragment);
            assert_eq!(copy.options_at(0), likeness.options_at(0), "the timestamp apart");
            assert!(matches!(syn.ttl, 40..=64 | 100..=128), "TTL {}", syn.ttl);
        }
        let distinct = |of: fn(&Segment) -> String| syns.iter().map(of).collect::<BTreeSet<_>>();
        assert!(distinct(|syn| syn.ttl.to_string()).len() > 40, "{family:?}: TTLs");
        let clocks = distinct(|syn| format!("{:?}", syn.options)).len();
        assert_eq!(clocks, syns.len(), "{family:?}: every host has its own clock");
    }
}

/// Returns whether an address is global unicast and in none of the labs' networks.
fn is_foreign(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 10 | 127 | 224..),
        IpAddr::V6(v6) => v6.octets()[0] & 0xe0 == 0x20,
    }
}

#[test]
fn a_hand_made_client_repeats_its_syn_as_a_kernel_does() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let client = RawClient { family: Family::V4, port: 40_000 };
    let closed = ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Drop).unwrap();
    let connected = thread::scope(|scope| {
        let connected = scope.spawn(|| client.connect(&lab, &client.bare_syn()).unwrap());
        sleep(SECOND / 2);
        drop(closed);
        connected.join().unwrap()
    });
    let connected = connected.expect("its second SYN finds the door open");
    assert_eq!(connected.syns, 2, "{connected:?}");
    assert!((SECOND..2 * SECOND).contains(&connected.took), "{connected:?}");
}

#[test]
fn the_receive_thread_accounts_for_every_packet() {
    let lab = Lab::new(LabOptions { measured: true, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let receiver = lab.receiver.as_ref().unwrap();
    let before = receiver.read(&lab.edge).unwrap();
    let report =
        Flood::random(Family::V4.service(), 2 * SECOND).start(&lab).unwrap().wait().unwrap();
    let cost = receiver.read(&lab.edge).unwrap().since(&before);
    assert_eq!(cost.packets + lab.lost().unwrap(), report.sent);
    // The kernel's own answer, cookies included, takes 1 to 10 µs on machines of this decade.
    let ns = cost.ns_per_packet();
    assert!((300.0..=30_000.0).contains(&ns), "{ns} ns per packet");
}

#[test]
fn a_foreign_program_takes_an_interface_until_it_is_dropped() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let links = || lab.edge.exec("ip link show dev eth0").unwrap();
    let foreign = ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Pass).unwrap();
    assert!(links().contains("xdp"));
    assert!(ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Pass).is_err(), "it is taken");
    drop(foreign);
    assert!(!links().contains("xdp"));
}
