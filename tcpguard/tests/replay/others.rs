//! Traffic that is no flood, or no spoofed flood.

use std::net::{Ipv4Addr, SocketAddr};

use super::files::PCAP;
use super::packets::*;
use super::{observe, verdicts};

/// The protected host, with clients that connect all the while.
fn host(shows: Shows, seconds: u64) -> Vec<Stamped> {
    (0..seconds * 20)
        .flat_map(|n| connection(BEGIN + n * 50 * MS, client(n as u32), addr(SERVER), shows))
        .collect()
}

fn server_by_number(number: u64) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0xcb00_0000 + number as u32).into(), 443)
}

#[test]
fn a_port_scan_is_one_in_both_directions_or_one() {
    let scanner = addr("203.0.113.9:40000");
    for shows in [Shows::Both, Shows::Arriving] {
        let mut packets = host(shows, 10);
        for port in 1..=200 {
            let target = SocketAddr::new(addr(SERVER).ip(), 1000 + port);
            let at = BEGIN + SECOND + u64::from(port) * 20 * MS;
            packets.push((at, Tcp::new(scanner, target, SYN, 7, 0).packet()));
            if shows == Shows::Both {
                // A closed port answers as RFC 9293 says.
                let refusal = Tcp::new(target, scanner, RST | ACK, 0, 8);
                packets.push((at + 1000, refusal.packet()));
            }
        }
        let replay = observe(&PCAP.write(&in_order(packets)));
        assert_eq!(verdicts(&replay), [("scan", "198.51.100.1")], "{shows:?}");
    }
}

#[test]
fn replies_to_syns_that_were_not_sent_are_a_reflection() {
    for shows in [Shows::Both, Shows::Arriving] {
        let mut packets = host(shows, 10);
        let mut dice = Dice(5);
        for number in 0..8000 {
            let at = BEGIN + 2 * SECOND + number * MS / 2;
            let victim = SocketAddr::new(addr(SERVER).ip(), 1024 + (dice.next() % 60_000) as u16);
            let reflector = server_by_number(dice.next() % 3000);
            let answer = Tcp::new(reflector, victim, SYN_ACK, dice.next() as u32, 9);
            packets.push((at, answer.packet()));
        }
        let replay = observe(&PCAP.write(&in_order(packets)));
        let classes: Vec<&str> = verdicts(&replay).into_iter().map(|(class, _)| class).collect();
        assert_eq!(classes, ["reflection"], "{shows:?}");
    }
}

#[test]
fn a_busy_proxys_own_connections_are_no_incident() {
    let mut packets = Vec::new();
    for number in 0..12_000 {
        let own = SocketAddr::new(addr(SERVER).ip(), 1024 + (number % 60_000) as u16);
        let at = BEGIN + number * MS / 2;
        packets.extend(connection(at, own, server_by_number(number % 40), Shows::Both));
    }
    let replay = observe(&PCAP.write(&in_order(packets)));
    assert_eq!(verdicts(&replay), []);
    assert_eq!(replay.handshakes, 12_000);
}

#[test]
fn clients_that_try_dead_servers_again_and_again_are_no_incident() {
    let mut packets = host(Shows::Both, 40);
    for number in 0..300 {
        let dead = server_by_number(number % 30);
        let own = SocketAddr::new(addr(SERVER).ip(), 2000 + number as u16);
        for (retry, wait) in [0, 1, 3, 7, 15].into_iter().enumerate() {
            let at = BEGIN + number * 100 * MS + wait * SECOND + retry as u64;
            packets.push((at, Tcp::new(own, dead, SYN, number as u32, 0).packet()));
        }
    }
    let replay = observe(&PCAP.write(&in_order(packets)));
    assert_eq!(verdicts(&replay), []);
    assert_eq!((replay.syns, replay.syn_acks), (800 + 1500, 800));
}

/// A flood that goes on to the capture's end is reported with its rate, not with that of the
/// silence after.
#[test]
fn the_end_of_a_capture_is_no_end_of_its_flood() {
    let few = |dice: u64| Ipv4Addr::new(203, 0, 113, (dice % 6) as u8);
    let mut packets = host(Shows::Both, 6);
    packets.extend(flood(BEGIN + 3 * SECOND, 3, 600, Shows::Both, few));
    let replay = observe(&PCAP.write(&in_order(packets)));
    assert_eq!(verdicts(&replay), [("few_source", SERVER)]);
    let peak = replay.incidents[0].evidence.peak_syn_pps;
    assert!((500.0..700.0).contains(&peak), "{peak}");
}

#[test]
fn a_flood_from_a_few_sources_is_named_so() {
    let few = |dice: u64| Ipv4Addr::new(203, 0, 113, (dice % 6) as u8);
    for shows in [Shows::Both, Shows::Arriving] {
        let mut packets = host(shows, 10);
        packets.extend(flood(BEGIN + 3 * SECOND, 5, 600, shows, few));
        let replay = observe(&PCAP.write(&in_order(packets)));
        assert_eq!(verdicts(&replay), [("few_source", SERVER)], "{shows:?}");
    }
}
