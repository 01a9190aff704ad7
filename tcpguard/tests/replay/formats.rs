//! Every format and link type says the same.

use tcpguard::documents::replay::Replay;

use super::files::*;
use super::packets::*;
use super::{observe, verdicts};

/// Three IPv4 connections and one IPv6 connection within 3.021 s: 20 packets.
pub fn visits() -> Vec<Stamped> {
    let mut packets = Vec::new();
    for number in 0..3 {
        let at = BEGIN + u64::from(number) * SECOND;
        packets.extend(connection(at, client(number), addr(SERVER), Shows::Both));
    }
    let v6 = addr("[2001:db8::1]:443");
    packets.extend(connection(BEGIN + 3 * SECOND, client_v6(1), v6, Shows::Both));
    packets
}

pub fn assert_visits(replay: &Replay, what: &str) {
    assert_eq!((replay.packets, replay.skipped.len()), (20, 0), "{what}: {:?}", replay.skipped);
    assert_eq!((replay.syns, replay.syn_acks, replay.handshakes), (4, 4, 4), "{what}");
    assert_eq!(verdicts(replay), [], "{what}");
}

/// The file, and what each compression makes of it.
fn plain_and_compressed(file: Vec<u8>) -> Vec<Vec<u8>> {
    let compressed = COMPRESSIONS.map(|compress| compress(&file));
    [file].into_iter().chain(compressed).collect()
}

#[test]
fn pcap_of_either_order_and_unit() {
    for order in Order::BOTH {
        for nanoseconds in [false, true] {
            for file in plain_and_compressed(Pcap { order, nanoseconds, ..PCAP }.write(&visits())) {
                let replay = observe(&file);
                assert_visits(&replay, &format!("{order:?}, nanoseconds: {nanoseconds}"));
                assert_eq!(replay.duration_s, 3.021);
                assert_eq!(replay.began.unwrap().0.as_second(), 1_700_000_000);
            }
        }
    }
}

/// By `cat`, each with its own header.
#[test]
fn captures_that_were_joined_are_one() {
    let visits = visits();
    let orders = Order::BOTH.into_iter().flat_map(|order| [(order, 0), (order, 101)]);
    let parts = orders.zip(visits.chunks(5)).map(|((order, link), part)| {
        Pcap { order, link, nanoseconds: link == 0, ..PCAP }.write(part)
    });
    for file in plain_and_compressed(parts.collect::<Vec<_>>().concat()) {
        let replay = observe(&file);
        assert_visits(&replay, "joined");
        assert_eq!(replay.duration_s, 3.021);
    }
    let blocks = |part: &[Stamped]| {
        let mut file = PcapNg::new(Order::Little);
        file.interface(101, 0, Some(NANOSECONDS));
        part.iter().for_each(|(at, packet)| file.enhanced(0, *at, packet));
        file.bytes
    };
    assert_visits(&observe(&visits.chunks(7).map(blocks).collect::<Vec<_>>().concat()), "pcapng");
}

#[test]
fn pcapng_with_packets_of_every_kind_and_unit() {
    for order in Order::BOTH {
        for resolution in [None, Some(NANOSECONDS), Some(TWO_TO_MINUS_20)] {
            for obsolete in [false, true] {
                let mut file = PcapNg::new(order);
                file.interface(ETHERNET, 0, resolution);
                for (at, packet) in visits() {
                    let frame = on_link(ETHERNET, order, &packet);
                    let units = in_units(resolution, at);
                    if obsolete {
                        file.obsolete(0, units, &frame);
                    } else {
                        file.enhanced(0, units, &frame);
                    }
                    // Interface statistics, and a block of an unknown type.
                    file.block(5, &[0; 12]);
                    file.block(0x0bad_beef, b"whatever");
                }
                for file in plain_and_compressed(file.bytes) {
                    let what = format!("{order:?}, resolution {resolution:?}, {obsolete}");
                    let replay = observe(&file);
                    assert_visits(&replay, &what);
                    assert_eq!(replay.duration_s, 3.021, "{what}");
                }
            }
        }
    }
}

#[test]
fn packets_without_a_time_arrive_with_the_one_before() {
    let mut file = PcapNg::new(Order::Big);
    file.interface(ETHERNET, 128, None);
    for (_, packet) in visits() {
        file.simple(&on_link(ETHERNET, Order::Big, &packet), 128);
    }
    let replay = observe(&file.bytes);
    assert_visits(&replay, "simple packets");
    assert_eq!((replay.duration_s, replay.began), (0.0, None));
}

#[test]
fn every_link_type() {
    for link in [0, 1, 12, 14, 101, 108, 113, 276] {
        for order in Order::BOTH {
            let replay = observe(&Pcap { order, link, ..PCAP }.write(&visits()));
            assert_visits(&replay, &format!("link type {link}, {order:?}"));
        }
    }
    // These two are of one family each.
    for (link, first, count) in [(228, 0, 3), (229, 15, 1)] {
        let packets: Vec<Stamped> = visits()[first..].iter().take(count * 5).cloned().collect();
        let replay = observe(&Pcap { link, ..PCAP }.write(&packets));
        assert_eq!((replay.handshakes, replay.skipped.len()), (count as u64, 0), "{link}");
    }
}

#[test]
fn interfaces_of_several_sections_have_their_own_links_and_units() {
    let mut file = PcapNg::new(Order::Little);
    file.interface(ETHERNET, 0, None);
    file.interface(101, 0, Some(NANOSECONDS));
    let visits = visits();
    for (number, (at, packet)) in visits.iter().enumerate() {
        if number == 10 {
            // A section written by another host starts counting its interfaces anew.
            file.order = Order::Big;
            file.section();
            file.interface(276, 0, Some(TWO_TO_MINUS_20));
        }
        match (number < 10, number % 2) {
            (true, 0) => {
                let frame = on_link(ETHERNET, file.order, packet);
                file.enhanced(0, in_units(None, *at), &frame);
            }
            (true, _) => file.enhanced(1, *at, packet),
            (false, _) => {
                let frame = on_link(276, file.order, packet);
                file.enhanced(0, in_units(Some(TWO_TO_MINUS_20), *at), &frame);
            }
        }
    }
    let replay = observe(&file.bytes);
    assert_visits(&replay, "two sections");
    assert_eq!(replay.duration_s, 3.021);
}

#[test]
fn of_a_cut_packet_the_headers_are_enough_and_less_is_counted() {
    // The longest headers are those of an IPv6 SYN: 14 + 40 + 40 bytes.
    assert_visits(&observe(&Pcap { snap: 94, ..PCAP }.write(&visits())), "94 bytes");
    let replay = observe(&Pcap { snap: 50, ..PCAP }.write(&visits()));
    assert_eq!((replay.packets, replay.skipped["cut_short"], replay.syns), (20, 20, 0));
}

#[test]
fn what_is_not_tcp_is_skipped_with_its_reason() {
    let mut packets = visits();
    let mut udp = packets[0].clone();
    udp.1[9] = 17;
    let mut fragment = packets[0].clone();
    fragment.1[7] = 185;
    packets.extend([udp, fragment]);
    let replay = observe(&PCAP.write(&packets));
    assert_eq!((replay.packets, replay.syns), (22, 4));
    assert_eq!((replay.skipped["not_tcp"], replay.skipped["fragment"]), (1, 1));
}
