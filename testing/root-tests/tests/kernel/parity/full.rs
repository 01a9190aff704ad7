//! Tables that are full.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tcpguard::bpf::{Dataplane, addr, ip};
use tcpguard_common::abi::maps::{
    CLOSED_PORT_CELLS, MAX_CLIENTS, MAX_FLOWS, MAX_SOURCES, MAX_SYN_ACKS, MAX_UNKNOWN,
};
use tcpguard_common::abi::{Class, EVERY_PORT, ListenerEntry, ListenerKey, Mode, Rate, Reason};
use tcpguard_common::fastpath::classify;
use tcpguard_common::model::{Model, Packet};
use tcpguard_common::wire;
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::net::packet::{Segment, flags};

use super::traffic::{Frame, Traffic, v4};
use super::{MS, Pair, SET, SHORTEST, START_NS, XDP_DROP, hex, verdict};

/// Frames between two advances of the clock, each of which is a system call.
const TICK: u64 = 64;

/// The `number`th of many addresses.
fn one_of_many(net: u8, number: u32) -> IpAddr {
    Ipv4Addr::from_bits(u32::from(net) << 24 | number).into()
}

/// SYN-ACKs leave from a port of so many addresses, in the kernel alone.
fn answer(pair: &mut Pair, port: u16, addresses: u32) {
    for number in 0..addresses {
        let from = SocketAddr::new(one_of_many(13, number), port);
        let to = SocketAddr::new(one_of_many(14, number), 1024);
        let mut reply = Segment::new(from, to, flags::SYN | flags::ACK);
        reply.ack = 1;
        pair.object.test_egress(&reply.to_frame()).expect("a test run");
    }
}

/// SYN-ACKs that no known listener sends.
fn answer_unknown(pair: &mut Pair) {
    answer(pair, 8443, 2 * MAX_UNKNOWN);
}

/// Fills all tables that traffic can fill, in the kernel alone.
///
/// The other maps hold fixed cells, which exist from the start and of which none can be missing: marks
/// (PENDING, CLIENT_FILTERS), registers (DISTINCT_SOURCES), buckets (REPLY_LIMITS, BUDGETS), the words of
/// CLOSED, which record their own age, the sets of DROP_CACHE, in which the oldest entry is replaced, the slots of
/// SYN_SAMPLES and CPU, and counters. The cells of CLOSED_PORT_SOURCES are fixed too, but each belongs to one
/// source.
fn fill(pair: &mut Pair) {
    let [server, closed] = [80, 9].map(|port| SocketAddr::new(v4(2, 1), port));
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
        let to = if number % 8 == 0 { closed } else { server };
        ingress(pair, &Segment::new(source, to, flags::SYN));
    }
    // Of a listener on every address, and of none that is known.
    answer(pair, 443, 2 * MAX_SYN_ACKS);
    answer_unknown(pair);
    let tables = &pair.dataplane;
    let closed_port_sources = tables.closed_port_sources().expect("probes");
    let unknown = tables.take_unknown_listeners().expect("unknown listeners").len();
    for (table, entries, size) in [
        ("flows", tables.flows().expect("flows").len(), MAX_FLOWS),
        ("sources", tables.sources().expect("sources").len(), MAX_SOURCES),
        ("clients", tables.clients().expect("clients").len(), MAX_CLIENTS),
        ("SYN-ACKs", tables.syn_acks().expect("SYN-ACKs").len(), MAX_SYN_ACKS),
        (
            "probes",
            closed_port_sources.iter().filter(|(_, cell)| cell.syns != 0).count(),
            CLOSED_PORT_CELLS,
        ),
        ("unknown listeners", unknown, MAX_UNKNOWN),
    ] {
        // Sets and cells fill one by one, and an LRU keeps up to 128 slots of a CPU free, which is half of the
        // smallest.
        assert!(entries + 128 > size as usize / 10 * 9, "{entries} of {size} {table}");
    }
    // Reading these empties the table.
    answer_unknown(pair);
}

/// Removes from a host every entry that the kernel has lost for the ends of a frame, as full tables may: a
/// client is unvalidated again, and no SYN-ACK of a listener was seen. A lost flow has no other effect than
/// that its handshake validates no client. Returns the number of entries.
fn forget(tables: &Dataplane, host: &mut Model, frame: &[u8]) -> u64 {
    let Ok(wire::Segment { flow, .. }) = wire::parse(frame) else { return 0 };
    let client = flow.client.client();
    let is_new_client = tables.client(ip(&client)).expect("clients").is_none();
    let client_lost = is_new_client && host.clients.remove(&client).is_some();
    let listener = ListenerKey::new(flow.server, flow.server_port);
    let answers_lost = [listener, listener.of_all()].map(|key| {
        let is_silent = tables.syn_ack(&key).expect("SYN-ACKs").is_none();
        u64::from(is_silent && host.syn_acks.remove(&key).is_some())
    });
    u64::from(client_lost) + answers_lost.iter().sum::<u64>()
}

/// SYNs that leave are left out: one from a client to a listener, which no host sends, makes a handshake
/// without a mark in PENDING. Where all marks are set, its third packet is looked up all the same.
fn is_syn(frame: &[u8]) -> bool {
    wire::parse(frame).is_ok_and(|segment| classify(segment.flags) == Class::Syn)
}

/// Outcome of a frame: the XDP action, and the bytes.
type Fate = (u32, Vec<u8>);

fn fate_on(host: &mut Model, frame: &[u8]) -> (Reason, Fate) {
    let mut packet = Packet(frame.to_vec());
    let reason = host.ingress_packet(&mut packet);
    (reason, (verdict(reason), packet.0))
}

/// Outcomes of frames at full tables that differ from those on a host.
#[derive(Default)]
struct Against {
    /// Dropped though the host has no rule that says so.
    unfounded: u64,
    /// Not dropped though it has one.
    missing: u64,
    /// Answered by one of them only, or in other words.
    otherwise: u64,
    first: Option<String>,
}

impl Against {
    fn note(&mut self, frame: &[u8], kernel: &Fate, (reason, host): (Reason, &Fate)) {
        if kernel == host {
            return;
        }
        let differs = match (kernel.0 == XDP_DROP, host.0 == XDP_DROP) {
            (true, false) => &mut self.unfounded,
            (false, true) => &mut self.missing,
            _ => &mut self.otherwise,
        };
        *differs += 1;
        self.first.get_or_insert_with(|| {
            let [kernel, host] =
                [kernel, host].map(|(says, after)| format!("{says}: {}", hex(after)));
            format!("kernel says {kernel}, host {host} ({}) of {}", reason.name(), hex(frame))
        });
    }

    fn is_alike(&self) -> bool {
        self.first.is_none()
    }

    fn numbers(&self) -> String {
        let Self { unfounded, missing, otherwise, .. } = self;
        format!("{unfounded} dropped by no rule, {missing} let in, {otherwise} answered otherwise")
    }
}

/// The host does not hold the entries that fill the kernel's tables. It decides as if there were capacity for
/// all, and forgets only the entries that it finds missing in the kernel. Apart from that both must pass,
/// drop and reply to every frame alike. The naive variant is a host of which one rule covers another prefix.
#[test]
fn g8_full_tables_drop_only_what_a_rule_matches() {
    let row = Row::new(Goal::G8);
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    pair.keep_agent();
    let bits = pair.model.config.tracked_bits;
    pair.follow_all();
    fill(&mut pair);
    pair.configure(|config| config.tracked_bits = bits);
    // Only where SYNs are answered is it asked of whom SYN-ACKs were seen.
    pair.set_mitigation_bits(
        1,
        ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT,
        Rate::default(),
    );
    let mut elsewhere = pair.model.clone();
    let rules = elsewhere.source_rules.get_mut(&(SET, EVERY_PORT)).expect("rules for every port");
    rules[0].0.0 = addr(Ipv4Addr::new(203, 0, 113, 64).into());
    let mut traffic = Traffic::new(seed());
    // While the tables were filled no time passed, so a moment later no CPU remembers a flood.
    let mut number = 16 * TICK;
    let (mut judged, mut dropped, mut forgotten) = (0, 0, 0);
    let mut reasons = BTreeSet::new();
    let (mut ours, mut naive) = (Against::default(), Against::default());
    while judged < size(10_000, 100_000) {
        if number.is_multiple_of(TICK) {
            pair.set_clock(START_NS + number * MS);
            elsewhere.now_ns = pair.model.now_ns;
        }
        number += 1;
        match traffic.next() {
            Frame::In(frame) if frame.len() >= SHORTEST => {
                forgotten += forget(&pair.dataplane, &mut pair.model, &frame);
                forget(&pair.dataplane, &mut elsewhere, &frame);
                let (reason, host) = fate_on(&mut pair.model, &frame);
                let (naive_reason, other) = fate_on(&mut elsewhere, &frame);
                let (action, _, after) =
                    pair.object.test_ingress_frame(&frame, 1).expect("a test run");
                let kernel = (action, after);
                ours.note(&frame, &kernel, (reason, &host));
                naive.note(&frame, &kernel, (naive_reason, &other));
                judged += 1;
                dropped += u64::from(action == XDP_DROP);
                reasons.insert(reason);
            }
            Frame::In(_) => {}
            Frame::Out(frame) if is_syn(&frame) => {}
            Frame::Out(frame) => {
                elsewhere.egress(&frame);
                pair.egress(&frame);
            }
        }
    }
    println!("{:?}", ours.first);
    assert!(dropped > judged / 20, "{dropped} of {judged}");
    // Of the most recent entries hardly any is lost: clients are still exempt, and SYNs get replies.
    assert!(forgotten < judged / 20, "{forgotten} were forgotten");
    for reason in [
        Reason::Syn,
        Reason::SynValidated,
        Reason::HandshakeAck,
        Reason::Cookie,
        Reason::DropSource,
        Reason::DropSignature,
    ] {
        assert!(reasons.contains(&reason), "no frame was {}", reason.name());
    }
    // The host had capacity for all, so its decision rests on every frame that arrived.
    assert!(pair.model.flows.iter().count() < MAX_FLOWS as usize / 2);
    let said = format!("{dropped} dropped, {forgotten} forgotten; {}", ours.numbers());
    row.result(judged, said, ours.is_alike())
        .naive(
            judged,
            format!("a rule of the host's elsewhere: {}", naive.numbers()),
            naive.unfounded > 0 && naive.missing > 0,
        )
        .finish();
}
