//! Tables that are full.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tcpguard_common::abi::maps::{MAX_CLIENTS, MAX_FLOWS, MAX_SOURCES, MAX_SYN_ACKS, MAX_UNKNOWN};
use tcpguard_common::abi::{Action, EVERY_PORT, Mode, Reason};
use tcpguard_e2e::packet::{Segment, flags};
use tcpguard_goals::{Goal, Row, seed, size};

use super::traffic::{Frame, Traffic, v4};
use super::{MS, Pair, SET, SHORTEST, START_NS, XDP_DROP, hex};

/// Frames between two steps of the clock, each of which is a system call.
const TICK: u64 = 64;

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
    // An LRU keeps a few places free, and sets fill one by one.
    let full = |entries: usize, size: u32| assert!(entries * 10 > size as usize * 9, "{entries}");
    let tables = &pair.dataplane;
    full(tables.flows().expect("flows").len(), MAX_FLOWS);
    full(tables.sources().expect("sources").len(), MAX_SOURCES);
    full(tables.clients().expect("clients").len(), MAX_CLIENTS);
    full(tables.syn_acks().expect("SYN-ACKs").len(), MAX_SYN_ACKS);
}

/// What became of frames at full tables, beside the word of one model.
#[derive(Default)]
struct Against {
    /// Dropped though the model has no rule that says so.
    unfounded: u64,
    /// Dropped by a rule, of clients that the model knows and the kernel has forgotten.
    forgotten: u64,
    first: Option<String>,
}

impl Against {
    fn note(&mut self, frame: &[u8], reason: Reason) {
        let known = reason == Reason::SynValidated;
        self.forgotten += u64::from(known);
        if !known && reason.action() != Action::Drop {
            self.unfounded += 1;
            self.first.get_or_insert_with(|| format!("{}: {}", reason.name(), hex(frame)));
        }
    }
}

/// The model knows nothing of what fills the kernel's tables: it judges as if they were empty. Where
/// more clients complete handshakes than are remembered, some are forgotten, and what a rule says holds
/// for them again; nothing else may be dropped for want of a place. The naive variant is the word of a
/// model that has one rule less.
#[test]
fn g8_full_tables_drop_only_what_a_rule_matches() {
    let row = Row::new(Goal::G8);
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    fill(&mut pair);
    let mut lacking = pair.model.clone();
    lacking.source_rules.get_mut(&(SET, EVERY_PORT)).expect("rules for every port").remove(0);
    let mut traffic = Traffic::new(seed());
    let (mut judged, mut dropped, mut number) = (0, 0, 0);
    let (mut ours, mut naive) = (Against::default(), Against::default());
    while judged < size(10_000, 100_000) {
        if number % TICK == 0 {
            pair.set_clock(START_NS + number * MS);
            lacking.now_ns = pair.model.now_ns;
        }
        number += 1;
        match traffic.next() {
            Frame::In(frame) if frame.len() >= SHORTEST => {
                let reasons = [pair.model.ingress(&frame), lacking.ingress(&frame)];
                let (action, _) = pair.object.test_ingress(&frame, 1).expect("a test run");
                judged += 1;
                if action == XDP_DROP {
                    dropped += 1;
                    ours.note(&frame, reasons[0]);
                    naive.note(&frame, reasons[1]);
                }
            }
            Frame::In(_) => {}
            Frame::Out(frame) => {
                lacking.egress(&frame);
                pair.egress(&frame);
            }
        }
    }
    println!("{:?}", ours.first);
    assert!(dropped > judged / 20, "{dropped} of {judged}");
    let Against { unfounded, forgotten, .. } = ours;
    let said = format!(
        "{dropped} dropped, {unfounded} of them by no rule, {forgotten} from clients that were forgotten"
    );
    row.result(judged, said, unfounded == 0)
        .naive(
            judged,
            format!("{} dropped that a host with one rule less knows no rule for", naive.unfounded),
            naive.unfounded > 0,
        )
        .finish();
}
