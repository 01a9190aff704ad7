//! Floods of identical SYNs, which kernel and host drop by a remembered template of one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcpguard_common::abi::{Mode, Reason};
use tcpguard_kit::net::packet::{Segment, flags};

use super::traffic::{Traffic, v4};
use super::{MS, Pair, START_NS};

/// Length of a tick, in which packets of a kind are counted (`fastpath/pace.rs`), in ns.
const TICK_NS: u64 = 1 << 24;
const KNOWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// A SYN of the flood that the rules are about; of one in ten something is otherwise.
fn syn(traffic: &mut Traffic) -> Segment {
    let (six, number) = (traffic.below(3) == 0, traffic.below(1 << 31) as u32);
    let (from, to): (IpAddr, IpAddr) = if six {
        let v6 = |bits: u128| Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits).into();
        (v6(u128::from(number) << 64 | 1), v6(2))
    } else {
        (Ipv4Addr::from_bits(0x0b00_0000 + number).into(), v4(2, 1))
    };
    let from = SocketAddr::new(from, traffic.below(65_536) as u16);
    let mut syn = Segment::new(from, SocketAddr::new(to, 443), flags::SYN);
    (syn.window, syn.seq) = (512, number | 1);
    match traffic.below(100) {
        0 if !six => syn.src = SocketAddr::new(KNOWN.into(), 5000),
        // An exempt source, and the neighbour of an exempt one.
        1 if !six => syn.src = SocketAddr::new(Ipv4Addr::new(203, 0, 113, 33).into(), 5000),
        2 if !six => syn.src = SocketAddr::new(Ipv4Addr::new(203, 0, 113, 70).into(), 5000),
        // The SYN is retransmitted, at once or later.
        3 if !six => (syn.src, syn.seq) = (SocketAddr::new(v4(7, 7), 5000), 9),
        4 => syn.ttl -= 1,
        5 => syn.window = 513,
        6 => syn.flags |= flags::ACK,
        7 => syn.ack = 1,
        8 => syn.options = vec![2, 4, 5, 180],
        9 => syn.seq = 0,
        _ => {}
    }
    syn
}

#[test]
fn syns_that_are_word_for_word_alike_are_dropped_and_counted_alike() {
    for (seed, mode, samples) in
        [(31, Mode::Enforce, 0), (32, Mode::Enforce, 6), (33, Mode::Observe, 0)]
    {
        let mut pair = Pair::new(mode, 0, false);
        pair.configure(|config| (config.source_rules, config.port_rules) = (0, 0));
        pair.keep_agent();
        (1..=2).for_each(|id| pair.sample_syns(id, samples));
        pair.complete_handshake(
            SocketAddr::new(KNOWN.into(), 4000),
            SocketAddr::new(v4(2, 1), 443),
        );
        let mut traffic = Traffic::new(seed);
        let mut now = START_NS;
        for number in 0..12_000 {
            now += traffic.below(4_000);
            if number % 4_000 == 3_999 {
                now += 1_000 * MS;
            }
            if number % 8 == 0 {
                pair.set_clock(now);
            }
            let frame = syn(&mut traffic).to_frame();
            pair.ingress(&frame);
        }
        pair.assert_same_state();
        // By any other way there is no listener to be found. Of the first 512 in a tick each is followed, and
        // the 1025th and 2049th change how many are.
        pair.set_clock(now.next_multiple_of(TICK_NS));
        let drops = |pair: &Pair| {
            let reasons = [Reason::DropSignature, Reason::WouldDropSignature];
            reasons.iter().filter_map(|reason| pair.reasons.get(reason)).sum::<u64>()
        };
        let mut of = |pair: &mut Pair, syns: u32| {
            let before = drops(pair);
            for _ in 0..syns {
                let frame = syn(&mut traffic).to_frame();
                pair.ingress(&frame);
            }
            drops(pair) - before
        };
        let (all, dropped) = (drops(&pair), of(&mut pair, 1_100));
        pair.model.ports.clear();
        pair.dataplane.set_ports(std::iter::empty()).unwrap();
        let by_template = of(&mut pair, 200);
        pair.assert_same_state();
        println!("{all} of 12,000 dropped, {dropped} of 1,100, {by_template} of 200 by template");
        assert!(all > 9_000 && dropped > 900);
        // The first SYN whose header is to be kept is not counted, and neither is the next one.
        assert!(by_template > if samples == 0 { 100 } else { 5 });
    }
}
