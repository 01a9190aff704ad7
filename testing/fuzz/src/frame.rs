//! Frames. The parser's results lie in the frame, and it misses nothing that a simpler parser sees. A packet passes or
//! is dropped unchanged, or is turned into a reply that its sender can use.

use tcpguard_common::abi::{
    ABI_VERSION, Action, Addr, Config, EVERY_PORT, ExemptEntry, Fingerprint, ListenerEntry,
    ListenerKey, Mask, Mode, PacketCounters, Rate, Reason, ReplyRate, RuleRef, SignatureKey,
    SynAckRecord, option,
};
use tcpguard_common::fastpath::{COOKIE_HEARTBEAT_NS, FAILED_COOKIE_NS, KernelCookie};
use tcpguard_common::model::{Model, Packet, cookie_secret, hash_key};
use tcpguard_common::wire::{self, MAX_HEADER_BYTES, Segment, flag};

use crate::bytes::Bytes;
use crate::naive;

const S: u64 = 1_000_000_000;
const NOW: u64 = 5_000 * S;
const SET: u64 = 7;
const PORT: [u8; 2] = 443u16.to_be_bytes();
/// The host's, and its Ethernet address.
const V4: Addr = Addr::from_v4([192, 0, 2, 1]);
const V6: Addr = Addr::from_v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The input is the situation in four bytes, then frames: in two bytes which way one goes and how long it is, then its
/// bytes. Returns the packet counters.
///
/// # Panics
/// When a property of the module's description does not hold.
pub fn frame(input: &[u8]) -> PacketCounters {
    let mut bytes = Bytes::new(input);
    let mut host = host(&mut bytes);
    while !bytes.is_empty() {
        let head = bytes.u16();
        let frame = bytes.take(usize::from(head & 0x07ff));
        host.now_ns += u64::from(head >> 13) * S / 4;
        read(frame);
        match head >> 11 & 3 {
            0 => host.egress(frame),
            1 => drop(host.redeem(frame)),
            _ => {
                arrive(&mut host, frame);
                assert!(!host.marked || host.redeem(frame).is_none(), "a mark hides no cookie");
            }
        }
    }
    let counted = host.packets;
    assert_eq!(counted.entry, counted.reasons.iter().sum::<u64>(), "each packet has one reason");
    counted
}

/// A host under attack, with rules of every kind and a listener with SYN-ACKs that were seen.
fn host(bytes: &mut Bytes<'_>) -> Model {
    let (modes, mitigations, marks, more) = (bytes.u8(), bytes.u8(), bytes.u8(), bytes.u8());
    let mut host = Model::new(Config {
        abi_version: if modes == 0xff { 0 } else { ABI_VERSION },
        mode: [Mode::Off, Mode::Observe, Mode::Enforce][usize::from(modes % 3)] as u8,
        sample_shift: modes >> 2 & 3,
        drop_illegal: modes >> 4 & 1,
        out_of_state: modes >> 5 & 1,
        drop_out_of_state: modes >> 6 & 1,
        established_seen: more,
        marks_segments: more >> 2 & 1,
        drop_beyond_bounds: if more >> 1 & 1 == 0 { 0 } else { Reason::EVERY_BOUND },
        heartbeat_ns: NOW,
        heartbeat_limit_ns: 8 * S,
        hash_key: hash_key(1),
        source_rules: Config::HOSTS | Config::NETS,
        rule_set: SET,
        failed_cookie_ns: FAILED_COOKIE_NS,
        // 40 a second, and two at once.
        replies_per_network: ReplyRate { interval: 24, depth: 48, shift: 20, pad: [0; 3] },
        replies_per_cpu: Rate::per_second(60, 3),
        closed_ports: Rate::per_second(20, 1),
        ..Config::default()
    });
    host.now_ns = NOW;
    host.cookie_secret = cookie_secret(1);
    host.sockets.next_cookie = (more & 1 != 0).then_some(KernelCookie { isn: 77, clock_ms: 9 });
    for (any, own) in [(Addr::ANY_V4, V4), (Addr::ANY_V6, V6)] {
        let key = ListenerKey::new(any, PORT);
        let entry = ListenerEntry {
            mitigations,
            masks: if marks & 1 == 0 { 0 } else { 1 << Mask::NoTtl.code() },
            samples: marks >> 1 & 1,
            budget: Rate::per_second(50, 2),
            ..ListenerEntry::default()
        };
        host.add_listener(key, entry);
        host.sockets.listening.insert(key);
        let seen = SynAckRecord {
            mss: 1460,
            window: 65_160,
            ttl: 61,
            wscale: 10,
            options: u32::from(marks >> 2) & (option::WSCALE | option::SACK | option::TIMESTAMPS),
            ..SynAckRecord::default()
        };
        host.syn_acks.insert(ListenerKey::new(own, PORT), seen);
    }
    host.replies_by(MAC, MAC, 0);
    let flood = Fingerprint { window: 512, wscale: 255, ..Fingerprint::default() };
    let fingerprint = flood.masked(Mask::NoTtl).words();
    let mask = Mask::NoTtl.code().into();
    let key = SignatureKey { listener: 0, mask, set: SET as u16, fingerprint };
    host.signatures.push((key, RuleRef { slot: 1, flags: 0 }));
    let rule = |slot, flags| RuleRef { slot, flags };
    let own = Addr::from_v4([203, 0, 113, 0]);
    host.source_rules
        .insert((SET, EVERY_PORT), vec![((own, 122), rule(0, 0)), ((own, 126), rule(2, 3))]);
    host.rule_expiry = [(0, u64::MAX), (1, NOW + S), (2, u64::MAX)].into();
    let stays = ((Addr::from_v4([203, 0, 113, 32]), 123), ExemptEntry::STAYS);
    host.exempt = vec![stays, ((V4, 128), ExemptEntry::OWN), ((V6, 128), ExemptEntry::OWN)];
    host
}

/// Shows the parser a frame.
fn read(frame: &[u8]) {
    let parsed = wire::parse(frame);
    if let Some(seen) = naive::parse(frame) {
        let segment = parsed.unwrap_or_else(|skip| panic!("{skip:?}, and the naive one: {seen:?}"));
        assert_eq!(segment.flow, seen.flow);
        assert_eq!(segment.flags & 0xff, u16::from(seen.flags));
    }
    let Ok(segment) = parsed else { return };
    let (from, to) = (usize::from(segment.options_at), usize::from(segment.options_end));
    let ip = usize::from(segment.ip_at);
    assert!(14 <= ip && ip + 40 <= from && from <= to && to <= frame.len(), "{segment:?}");
    assert!(to <= MAX_HEADER_BYTES, "{segment:?}");
    let print = wire::fingerprint(frame, &segment);
    let options = wire::syn_options(frame, &segment);
    assert_eq!(options.mss, print.mss);
    let times = wire::timestamps(frame, &segment);
    assert!(wire::recommended_timestamps(frame, &segment).is_none_or(|read| read == times));
    // The same packet without its Ethernet header, and with something behind it.
    let at_ip = wire::parse_packet(&frame[ip..]).expect("as in the frame");
    let moved = |at: u16| at + segment.ip_at;
    let (ip_at, options_at, options_end) =
        (moved(at_ip.ip_at), moved(at_ip.options_at), moved(at_ip.options_end));
    assert_eq!(Segment { ip_at, options_at, options_end, ..at_ip }, segment);
    let longer = [frame, &[0xff; 9]].concat();
    assert_eq!(wire::parse(&longer[..]), Ok(segment), "padding changes nothing");
}

fn arrive(host: &mut Model, frame: &[u8]) {
    let mut packet = Packet(frame.to_vec());
    let reason = host.ingress_packet(&mut packet);
    match reason.action() {
        Action::Tx => answered(frame, &packet.0),
        Action::Pass | Action::Drop => assert_eq!(packet.0, frame, "{}", reason.name()),
    }
    // Without an agent cookies end first, and then rules.
    let silence = match reason.action() {
        Action::Pass => u64::MAX,
        Action::Drop => host.config.heartbeat_limit_ns,
        Action::Tx => COOKIE_HEARTBEAT_NS,
    };
    assert!(host.now_ns - NOW <= silence, "{}", reason.name());
    let enforced = host.config.mode == Mode::Enforce as u8 && host.config.abi_version != 0;
    assert!(enforced || reason.action() == Action::Pass, "{}", reason.name());
    assert_eq!(reason == Reason::Unconfigured, host.config.abi_version == 0);
}

/// `answer` is a SYN-ACK to the SYN that `frame` holds.
fn answered(frame: &[u8], answer: &[u8]) {
    let syn = wire::parse(frame).expect("only a SYN is answered");
    let reply = wire::parse(answer).expect("and by a segment");
    assert!(answer.len() <= frame.len(), "packets do not grow");
    assert!(
        answer[..6] == frame[6..12] || answer[..6] == MAC,
        "to its sender, or to the host's router"
    );
    assert_eq!(answer[6..12], frame[..6], "from the address that it was sent to");
    assert_eq!(reply.flow, syn.flow.reversed());
    assert_eq!(reply.flags & !(flag::ECE), flag::SYN | flag::ACK);
    assert_eq!(reply.ack, syn.seq.wrapping_add(1));
    assert!(!reply.payload && !reply.fragment);
    let (ip, tcp) = (usize::from(reply.ip_at), usize::from(reply.options_at) - 20);
    let segment = &answer[tcp..usize::from(reply.options_end)];
    let addresses = if answer[ip] >> 4 == 4 {
        assert_eq!(sum(&answer[ip..ip + 20]), 0xffff, "the header's checksum");
        &answer[ip + 12..ip + 20]
    } else {
        &answer[ip + 8..ip + 40]
    };
    let pseudo = [addresses, &[0, 6], &(segment.len() as u16).to_be_bytes()].concat();
    assert_eq!(sum(&[&pseudo, segment].concat()), 0xffff, "the segment's checksum");
}

/// The Internet checksum byte by byte (RFC 1071 §1), not complemented.
fn sum(bytes: &[u8]) -> u16 {
    bytes.iter().enumerate().fold(0, |sum: u16, (at, byte)| {
        let word = if at % 2 == 0 { u16::from(*byte) << 8 } else { u16::from(*byte) };
        let (added, carry) = sum.overflowing_add(word);
        added + u16::from(carry)
    })
}
