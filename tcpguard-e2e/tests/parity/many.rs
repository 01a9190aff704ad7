//! Very many frames, and tables that are full.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tcpguard_common::abi::maps::{MAX_CLIENTS, MAX_FLOWS, MAX_SOURCES, MAX_SYN_ACKS, MAX_UNKNOWN};
use tcpguard_common::abi::{Action, Mode, Reason};
use tcpguard_common::wire;
use tcpguard_e2e::packet::{Segment, flags};
use tcpguard_fuzz::naive;
use tcpguard_goals::{Goal, Row, seed, size};

use super::traffic::{Frame, Traffic, v4};
use super::{MS, Pair, SHORTEST, START_NS, XDP_DROP, hex};

/// Frames between two sets of empty tables: up to half of their size no table loses anything, and
/// host and kernel may lose different things.
const ROUND: u64 = 20_000;
/// Frames between two steps of the clock, each of which is a system call.
const TICK: u64 = 64;

/// Whether the parser that everybody writes first sees something else in `frame` than the guard's.
fn naive_differs(frame: &[u8]) -> bool {
    let seen = wire::parse(frame).ok().map(|segment| (segment.flow, segment.flags as u8));
    seen != naive::parse(frame).map(|segment| (segment.flow, segment.flags))
}

#[test]
fn g8_random_frames_are_judged_alike() {
    let row = Row::new(Goal::G8);
    let rounds = size(15, 500);
    let modes = [
        (Mode::Enforce, 0, true),
        (Mode::Enforce, 2, false),
        (Mode::Observe, 0, true),
        (Mode::Off, 1, false),
    ];
    let (mut frames, mut differ) = (0, 0);
    for round in 0..rounds {
        let (mode, shift, illegal) = modes[(round % 4) as usize];
        let mut pair = Pair::new(mode, shift, illegal);
        let mut traffic = Traffic::new(seed().wrapping_mul(1000) + round);
        let mut now = START_NS;
        for number in 0..ROUND {
            now += traffic.below(3) * MS;
            if number % TICK == 0 {
                pair.set_clock(now);
            }
            match traffic.next() {
                Frame::In(frame) => {
                    pair.ingress(&frame);
                    differ += u64::from(frame.len() >= SHORTEST && naive_differs(&frame));
                }
                Frame::Out(frame) => pair.egress(&frame),
            }
            if traffic.sent.len() > 4000 {
                traffic.sent.drain(..2000);
                traffic.answered.clear();
            }
        }
        pair.assert_same_state();
        frames += pair.frames;
    }
    row.result(frames, format!("0 differences, tables and counters equal, {rounds} times"), true)
        .naive(frames, format!("{differ} frames seen as something else"), differ > 0)
        .finish();
}

/// The `number`th of many addresses.
fn one_of_many(net: u8, number: u32) -> IpAddr {
    Ipv4Addr::from_bits(u32::from(net) << 24 | number).into()
}

/// Fills all tables that traffic can fill, in the kernel alone.
fn fill(pair: &mut Pair) {
    let server = SocketAddr::new(v4(2, 1), 80);
    let ingress = |pair: &mut Pair, segment: &Segment| {
        pair.object.test_ingress(&segment.to_frame(), 1).expect("a test run");
    };
    for number in 0..MAX_CLIENTS + MAX_CLIENTS / 8 {
        let client = SocketAddr::new(one_of_many(11, number), 1024);
        ingress(pair, &Segment::new(client, server, flags::SYN));
        let mut reply = Segment::new(server, client, flags::SYN | flags::ACK);
        (reply.seq, reply.ack) = (77, 1);
        pair.object.test_egress(&reply.to_frame()).expect("a test run");
        let mut ack = Segment::new(client, server, flags::ACK);
        (ack.seq, ack.ack) = (1, 78);
        ingress(pair, &ack);
    }
    for number in 0..2 * MAX_SOURCES {
        let source = SocketAddr::new(one_of_many(12, number), 1024);
        ingress(pair, &Segment::new(source, server, flags::SYN));
    }
    for number in 0..2 * MAX_SYN_ACKS.max(MAX_UNKNOWN) {
        // Of a listener on every address, and of none that is known.
        for port in [443, 8443] {
            let from = SocketAddr::new(one_of_many(13, number), port);
            let to = SocketAddr::new(one_of_many(14, number), 1024);
            let mut reply = Segment::new(from, to, flags::SYN | flags::ACK);
            reply.ack = 1;
            pair.object.test_egress(&reply.to_frame()).expect("a test run");
        }
    }
    // An LRU keeps a few places free.
    let full = |entries: usize, size: u32| assert!(entries * 10 > size as usize * 9, "{entries}");
    let tables = &pair.dataplane;
    full(tables.flows().expect("flows").len(), MAX_FLOWS);
    full(tables.sources().expect("sources").len(), MAX_SOURCES);
    full(tables.clients().expect("clients").len(), MAX_CLIENTS);
    full(tables.syn_acks().expect("SYN-ACKs").len(), MAX_SYN_ACKS);
}

/// The model knows nothing of what fills the kernel's tables: it judges as if they were empty. Where
/// more clients complete handshakes than are remembered, some are forgotten, and what a rule says holds
/// for them again; nothing else may be dropped for want of a place.
#[test]
fn g8_full_tables_drop_only_what_a_rule_matches() {
    let row = Row::new(Goal::G8);
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    fill(&mut pair);
    let mut traffic = Traffic::new(seed());
    let (mut frames, mut dropped, mut forgotten, mut differ) = (0, 0, 0, 0);
    for number in 0..size(10_000, 100_000) {
        if number % TICK == 0 {
            pair.set_clock(START_NS + number * MS);
        }
        match traffic.next() {
            Frame::In(frame) if frame.len() >= SHORTEST => {
                let reason = pair.model.ingress(&frame);
                let (action, _) = pair.object.test_ingress(&frame, 1).expect("a test run");
                let drops = action == XDP_DROP;
                let empty = matches!(reason.action(), Action::Drop);
                let known = reason == Reason::SynValidated;
                assert!(!drops || empty || known, "{}: {}", reason.name(), hex(&frame));
                frames += 1;
                forgotten += u64::from(drops && known);
                dropped += u64::from(drops);
                differ += u64::from(naive_differs(&frame));
            }
            Frame::In(_) => {}
            Frame::Out(frame) => pair.egress(&frame),
        }
    }
    assert!(dropped > frames / 20, "{dropped} of {frames}");
    let said = format!(
        "{dropped} dropped, all by rules; {forgotten} of them from clients that were forgotten"
    );
    row.result(frames, said, true)
        .naive(frames, format!("{differ} frames seen as something else"), differ > 0)
        .finish();
}
