//! Every format and link type says the same.

use std::time::Duration;

use tcpguard::documents::replay::{Replay, Untimely};
use tcpguard_engine::{Event, Mode, RestraintReason, SynHeader};

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
    assert_eq!(replay.untimely, Some(Untimely::Missing));
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
    // The longest headers are those of an IPv6 SYN: 14 + 40 + 40 bytes. Its flags end at byte 68, those of IPv4 at 48.
    for (snap, said) in
        [(94, None), (93, Some("1 of 4 SYNs")), (73, Some("4 of 4 SYNs")), (68, Some("4 of 4"))]
    {
        let replay = observe(&Pcap { snap, ..PCAP }.write(&visits()));
        assert_visits(&replay, &format!("{snap} bytes"));
        let note = replay.notes.iter().find(|note| note.contains("were cut in their options"));
        assert_eq!(note.is_some(), said.is_some(), "{snap}: {:?}", replay.notes);
        assert!(note.is_none_or(|note| note.starts_with(said.unwrap())), "{snap}: {note:?}");
    }
    for (snap, cut, syns) in [(67, 5, 3), (48, 5, 3), (47, 20, 0)] {
        let replay = observe(&Pcap { snap, ..PCAP }.write(&visits()));
        assert_eq!((replay.skipped["cut_short"], replay.syns), (cut, syns), "{snap}");
        // What is left says nothing once it holds fewer SYNs than may be hidden.
        assert!(!replay.is_judged(), "{snap}");
    }
}

/// The default of old tcpdumps was 68 bytes. The options of a client's SYN go on to byte 74.
#[test]
fn a_flood_that_is_cut_in_its_options_is_found_and_gets_no_rule_by_signature() {
    let mut packets: Vec<Stamped> = (0..400)
        .flat_map(|n| {
            connection(BEGIN + u64::from(n) * 50 * MS, client(n), addr(SERVER), Shows::Both)
        })
        .collect();
    let flood = flood_of(&LINUX, BEGIN + 12 * SECOND, 6, 500, Shows::Both, any_address);
    packets.extend(flood);
    let packets = in_order(packets);
    let whole = observe(&PCAP.write(&packets));
    for snap in [54, 60, 64, 68, 70, 73] {
        let capture = Pcap { snap, ..PCAP }.write(&packets);
        let outcome = super::of_whole(super::run(&capture, Mode::Observe));
        let replay = &outcome.replay;
        let counts = |replay: &Replay| (replay.syns, replay.syn_acks, replay.handshakes);
        assert_eq!(counts(replay), counts(&whole), "{snap}");
        assert_eq!(verdicts(replay), [("random_spoofed", SERVER)], "{snap}");
        let incident = &replay.incidents[0];
        assert_eq!(incident.syns, whole.incidents[0].syns, "{snap}");
        let rules =
            incident.actions.iter().filter(|it| matches!(it.action, Event::RuleInstalled { .. }));
        assert_eq!(rules.count(), 0, "{snap}: {:#?}", incident.actions);
        let signatures = &incident.evidence.numbers.signatures;
        assert!(signatures[0].text.starts_with("opts=unknown"), "{snap}: {signatures:?}");
        let (full, _) = outcome.in_full().next().unwrap();
        let no_rule = full.record.no_rule.unwrap().reason;
        assert_eq!(no_rule, RestraintReason::OptionsCut, "{snap}");
        let kept =
            |header: &SynHeader<f64>| header.bytes.len() == snap - 14 && header.length == Some(60);
        assert!(incident.syn_headers.iter().all(kept), "{snap}: {:?}", incident.syn_headers);
    }
    assert!(
        whole.incidents[0]
            .actions
            .iter()
            .any(|it| matches!(it.action, Event::RuleInstalled { .. }))
    );
}

/// Of IPv6 the flags are cut off, and of IPv4 they are not.
#[test]
fn a_calm_half_does_not_speak_for_a_half_that_was_cut_off() {
    let mut packets: Vec<Stamped> = (0..200)
        .flat_map(|n| {
            connection(BEGIN + u64::from(n) * 50 * MS, client(n), addr(SERVER), Shows::Both)
        })
        .collect();
    let v6 = addr("[2001:db8::1]:443");
    for n in 0..250 {
        let at = BEGIN + u64::from(n) * 5 * MS;
        packets.push((at, Tcp::new(client_v6(n), v6, SYN, 7, 0).packet()));
    }
    let replay = observe(&Pcap { snap: 64, ..PCAP }.write(&in_order(packets)));
    let unread = replay.unread().unwrap();
    assert_eq!((replay.syns, unread.packets, unread.why), (200, 250, Some("cut_short")));
}

/// Two CPUs write their packets milliseconds apart.
#[test]
fn packets_in_disorder_are_sorted() {
    let packets: Vec<Stamped> = (0..100)
        .flat_map(|n| {
            connection(BEGIN + u64::from(n) * 7 * MS, client(n), addr(SERVER), Shows::Both)
        })
        .collect();
    let in_order = in_order(packets.clone());
    let mut dice = Dice(5);
    let mut keyed: Vec<_> = in_order.iter().map(|one| (one.0 + dice.below(10 * MS), one)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    let shuffled: Vec<Stamped> = keyed.into_iter().map(|(_, one)| one.clone()).collect();
    assert_ne!(shuffled, in_order);
    assert_eq!(observe(&PCAP.write(&shuffled)), observe(&PCAP.write(&in_order)));
}

/// Four threads that begin 3 s apart have each its own file, and these were joined.
#[test]
fn time_that_runs_backwards_is_stated_and_a_calm_of_it_is_no_verdict() {
    let flood = |from| flood(from, 6, 100, Shows::Arriving, any_address);
    let joined: Vec<Stamped> = (0..4).flat_map(|n| flood(BEGIN + n * 3 * SECOND)).collect();
    let replay = observe(&PCAP.write(&joined));
    let Some(Untimely::SetBack { times: 3, read, span, longer: true }) = replay.untimely else {
        panic!("{:?}", replay.untimely);
    };
    let ms = |time: Duration| time.as_millis();
    assert_eq!((ms(read), ms(span)), (23_960, 14_990));
    assert!(!replay.is_judged());
    let note = "Time runs backwards 3 times: packets of 14s are read as 23s, so that rates are too low. \
                Sort them: reordercap IN OUT";
    assert!(replay.notes.iter().any(|it| it == note), "{:?}", replay.notes);
    assert_eq!(observe(&PCAP.write(&in_order(joined))).untimely, None);
    // A clock that was set back by ten seconds in an hour makes no rate wrong.
    let hour: Vec<Stamped> = (0..60)
        .flat_map(|n| {
            let at = BEGIN + n * 60 * SECOND - if n < 30 { 0 } else { 70 * SECOND };
            connection(at, client(n as u32), addr(SERVER), Shows::Both)
        })
        .collect();
    let replay = observe(&PCAP.write(&hour));
    assert!(replay.is_judged() && replay.untimely.is_some(), "{:?}", replay.untimely);
}

#[test]
fn a_capture_without_usable_times_is_not_judged() {
    let packets = in_order(flood(BEGIN, 6, 1000, Shows::Both, any_address));
    for step in [0, 1000] {
        let invented: Vec<Stamped> = packets
            .iter()
            .enumerate()
            .map(|(number, (_, packet))| (number as u64 * step, packet.clone()))
            .collect();
        let replay = observe(&PCAP.write(&invented));
        assert_eq!((replay.untimely, replay.is_judged()), (Some(Untimely::Missing), false));
        assert!(replay.notes.iter().any(|it| it.contains("no usable times")), "{:?}", replay.notes);
    }
    assert_eq!(observe(&PCAP.write(&packets)).untimely, None);
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
