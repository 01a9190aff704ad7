//! SYN, SYN-ACK with a cookie, ACK: the bytes of both directions, checked by other means than
//! those that made them.

use proptest::prelude::*;
use tcpguard_common::abi::option::{ECN, SACK, TIMESTAMPS, WSCALE};
use tcpguard_common::abi::{
    Action, Addr, ExemptEntry, ListenerEntry, ListenerKey, Mode, Reason, SynAckRecord, moment,
};
use tcpguard_common::cookie;
use tcpguard_common::fastpath::{Accepted, COOKIE_HEARTBEAT_NS, HandedOver, Tables};
use tcpguard_common::model::{Model, Packet, cookie_secret, enforcing};
use tcpguard_common::wire::TAGGED;

const S: u64 = 1_000_000_000;
const NOW: u64 = 5_000 * S;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_ISN: u32 = 0xffff_ffff;
const CLIENT_PORT: u16 = 50_000;

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

const LINUX: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
const WINDOWS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];

/// The headers between Ethernet addresses and TCP.
#[derive(Clone, Debug)]
struct Path {
    /// EtherTypes of VLAN tags.
    tags: Vec<u16>,
    v6: bool,
    /// IPv4 options or IPv6 extension headers (destination options) in front of TCP.
    extra: Vec<u8>,
}

impl Path {
    fn vlan(&self) -> u32 {
        if self.tags.is_empty() { 0 } else { TAGGED | 5 }
    }

    fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        if self.v6 {
            let ip = |last| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
            (ip(9), ip(1))
        } else {
            (vec![203, 0, 113, 9], vec![192, 0, 2, 1])
        }
    }

    fn server(&self) -> Addr {
        let (_, server) = self.addresses();
        if self.v6 {
            Addr::from_v6(server.try_into().unwrap())
        } else {
            Addr::from_v4(server.try_into().unwrap())
        }
    }

    /// A frame from the client.
    fn frame(&self, tcp: &[u8]) -> Vec<u8> {
        let mut frame = [HOST_MAC, CLIENT_MAC].concat();
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x60, 5]);
        }
        let (client, server) = self.addresses();
        let length = (self.extra.len() + tcp.len()) as u16;
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([if self.extra.is_empty() { 6 } else { 60 }, 57]);
        } else {
            frame.extend([8, 0, 0x45 + (self.extra.len() / 4) as u8, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0x12, 0x34, 0x40, 0, 57, 6, 0, 0]);
        }
        frame.extend(client);
        frame.extend(server);
        frame.extend(&self.extra);
        frame.extend(tcp);
        frame
    }
}

fn paths() -> Vec<Path> {
    let mut paths = Vec::new();
    for tags in [vec![], vec![0x8100], vec![0x88a8, 0x8100]] {
        for (v6, extra) in [
            (false, vec![]),
            (false, vec![1; 8]),
            (true, vec![]),
            (true, vec![6, 0, 1, 4, 0, 0, 0, 0]),
        ] {
            paths.push(Path { tags: tags.clone(), v6, extra });
        }
    }
    paths
}

fn plain(v6: bool) -> Path {
    Path { tags: vec![], v6, extra: vec![] }
}

fn tcp(flags: u8, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = CLIENT_PORT.to_be_bytes().to_vec();
    segment.extend(443u16.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([((20 + options.len()) / 4 * 16) as u8, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

fn record(options: u32) -> SynAckRecord {
    SynAckRecord {
        mss: 1460,
        window: 65_160,
        ttl: 61,
        wscale: 10,
        options,
        ..SynAckRecord::default()
    }
}

fn host(options: u32) -> Model {
    let mut host = Model::new(enforcing(NOW));
    host.now_ns = NOW;
    host.cookie_secret = cookie_secret(1);
    let cookies = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
    for v6 in [false, true] {
        let any = if v6 { Addr::ANY_V6 } else { Addr::ANY_V4 };
        let port = 443u16.to_be_bytes();
        let entry = ListenerEntry { mitigations: cookies, ..ListenerEntry::default() };
        host.add_listener(ListenerKey::new(any, port), entry);
        host.syn_acks.insert(ListenerKey::new(plain(v6).server(), port), record(options));
    }
    host.replies_by(HOST_MAC, CLIENT_MAC, 0);
    host
}

const ALL: u32 = WSCALE | SACK | TIMESTAMPS | ECN;

/// The Internet checksum byte by byte (RFC 1071 §1), with end-around carry after each addition.
fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u16 = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let word = if at % 2 == 0 { u16::from(*byte) << 8 } else { u16::from(*byte) };
        let (added, carry) = sum.overflowing_add(word);
        sum = added + u16::from(carry);
    }
    !sum
}

/// A SYN-ACK, read without the help of the code under test.
#[derive(Clone, Debug)]
struct Answer {
    isn: u32,
    window: u16,
    flags: u8,
    options: Vec<u8>,
    length: usize,
}

/// Reads `frame` and checks all of it that does not depend on the SYN's options.
#[track_caller]
fn read(path: &Path, frame: &[u8]) -> Answer {
    let ip = 14 + 4 * path.tags.len();
    assert_eq!(frame[..6], CLIENT_MAC, "to the client");
    assert_eq!(frame[6..12], HOST_MAC, "from the host");
    for (tag, at) in path.tags.iter().zip((12..).step_by(4)) {
        let expected = [&tag.to_be_bytes()[..], &[0x60, 5]].concat();
        assert_eq!(frame[at..at + 4], expected, "tags stay as they are");
    }
    let (client, server) = path.addresses();
    let (tcp_at, end) = if path.v6 {
        assert_eq!(frame[ip - 2..ip + 4], [0x86, 0xdd, 0x60, 0, 0, 0]);
        assert_eq!(frame[ip + 6..ip + 8], [6, 61], "TCP follows at once");
        assert_eq!(frame[ip + 8..ip + 24], server);
        assert_eq!(frame[ip + 24..ip + 40], client);
        let length = u16::from_be_bytes([frame[ip + 4], frame[ip + 5]]);
        (ip + 40, ip + 40 + usize::from(length))
    } else {
        assert_eq!(frame[ip - 2..ip + 2], [8, 0, 0x45, 0], "without options");
        assert_eq!(frame[ip + 4..ip + 8], [0, 0, 0x40, 0], "not to be fragmented");
        assert_eq!(frame[ip + 8..ip + 10], [61, 6]);
        assert_eq!(frame[ip + 12..ip + 16], server);
        assert_eq!(frame[ip + 16..ip + 20], client);
        assert_eq!(checksum(&[&frame[ip..ip + 20]]), 0, "the IPv4 header's checksum");
        let length = u16::from_be_bytes([frame[ip + 2], frame[ip + 3]]);
        (ip + 20, ip + usize::from(length))
    };
    let tcp = &frame[tcp_at..end];
    let length = (tcp.len() as u32).to_be_bytes();
    assert_eq!(checksum(&[&server, &client, &[0, 6], &length, tcp]), 0, "TCP's checksum");
    assert_eq!(tcp[..2], 443u16.to_be_bytes());
    assert_eq!(tcp[2..4], CLIENT_PORT.to_be_bytes());
    assert_eq!(tcp[8..12], CLIENT_ISN.wrapping_add(1).to_be_bytes(), "the SYN, and no data");
    assert_eq!(usize::from(tcp[12] >> 4) * 4, tcp.len(), "options to the end, and no data");
    assert!(end <= frame.len() && (end == frame.len() || frame.len() == 60), "no old bytes");
    Answer {
        isn: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
        window: u16::from_be_bytes([tcp[14], tcp[15]]),
        flags: tcp[13],
        options: tcp[20..].to_vec(),
        length: frame.len(),
    }
}

/// The host's answer to a SYN, which must be one.
#[track_caller]
fn answer(host: &mut Model, path: &Path, flags: u8, options: &[u8], payload: &[u8]) -> Answer {
    let mut frame = Packet(path.frame(&tcp(flags, CLIENT_ISN, 0, options, payload)));
    host.replies_by(HOST_MAC, CLIENT_MAC, path.vlan());
    let before = frame.0.len();
    let reason = host.ingress_packet(&mut frame);
    assert_eq!(reason, Reason::Cookie, "{path:?} {options:?}");
    assert_eq!(reason.action(), Action::Tx);
    assert!(frame.0.len() <= before, "nothing grows");
    read(path, &frame.0)
}

/// The connection as it is described to the kernel when the client acknowledges `answer`.
fn complete(host: &mut Model, path: &Path, answer: &Answer) -> Option<Accepted> {
    let at = answer.options.windows(2).position(|w| w == [8, 10]);
    let options = at.map_or(Vec::new(), |at| {
        let value = 10u32.to_be_bytes();
        [&[1, 1, 8, 10][..], &value, &answer.options[at + 2..at + 6]].concat()
    });
    let (seq, ack) = (CLIENT_ISN.wrapping_add(1), answer.isn.wrapping_add(1));
    redeem(host, &path.frame(&tcp(ACK, seq, ack, &options, &[])))
}

/// The connection as it is described to the kernel after this frame, which XDP must have left unmarked then.
fn redeem(host: &mut Model, frame: &[u8]) -> Option<Accepted> {
    host.config.marks_segments = 1;
    host.ingress(frame);
    let accepted = host.redeem(frame);
    assert!(!host.marked || accepted.is_none());
    accepted
}

#[test]
fn a_segment_that_brings_no_cookie_is_marked_if_its_options_were_read_and_its_listener_accepts_cookies()
 {
    for v6 in [false, true] {
        let (mut host, path) = (host(ALL), plain(v6));
        let echo = cookie::timestamp(&host.cookie_secret, cookie::ticks(NOW)).to_be_bytes();
        let read = [&[1, 1, 8, 10, 0, 0, 0, 9][..], &echo].concat();
        let unread = [&[8, 10, 0, 0, 0, 9][..], &echo, &[1, 1]].concat();
        let is_marked = |host: &mut Model, options: &[u8], ack| {
            host.ingress(&path.frame(&tcp(ACK, CLIENT_ISN.wrapping_add(1), ack, options, &[])));
            host.marked
        };
        assert!(!is_marked(&mut host, &[], 8), "nothing is marked without a program at tc");
        host.config.marks_segments = 1;
        assert!(is_marked(&mut host, &[], 8) && is_marked(&mut host, &read, 8));
        assert!(!is_marked(&mut host, &unread, 8));
        let answer = answer(&mut host, &path, SYN, &[2, 4, 5, 180], &[]);
        let ack = answer.isn.wrapping_add(1);
        assert!(!is_marked(&mut host, &[], ack));
        assert!(is_marked(&mut host, &[], ack.wrapping_add(1)));
        let any = ListenerKey::new(path.server(), 443u16.to_be_bytes()).of_all();
        host.add_listener(any, ListenerEntry::default());
        assert!(!is_marked(&mut host, &[], 8), "the listener accepts none");
    }
}

#[test]
fn every_layer_below_tcp_is_answered_in_kind_and_the_ack_is_taken() {
    for path in paths() {
        let mut host = host(ALL);
        let linux = answer(&mut host, &path, SYN, &LINUX, &[]);
        assert_eq!((linux.flags, linux.window), (SYN_ACK, 65_160));
        assert_eq!(linux.options[..6], [2, 4, 5, 180, 4, 2], "{path:?}");
        assert_eq!(linux.options[6..8], [8, 10]);
        assert_eq!(linux.options[12..], [0, 0, 0, 9, 1, 3, 3, 10]);
        let accepted = complete(&mut host, &path, &linux).expect("a good cookie");
        let mss = if path.v6 { 1440 } else { 1460 };
        assert_eq!((accepted.mss, accepted.client_wscale, accepted.host_wscale), (mss, 7, 10));
        assert_eq!((accepted.options, accepted.client_timestamp), (WSCALE | SACK | TIMESTAMPS, 10));

        let windows = answer(&mut host, &path, SYN, &WINDOWS, &[]);
        assert_eq!(windows.options, [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 10]);
        let accepted = complete(&mut host, &path, &windows).expect("a good cookie");
        assert_eq!((accepted.mss, accepted.client_wscale, accepted.host_wscale), (mss, 8, 10));
        assert_eq!((accepted.options, accepted.host_timestamp), (WSCALE | SACK, 0));
        assert_eq!(host.listener_counters[&0].cookies_sent, 2);

        // The host's packet filter leaves less of the client's MSS.
        let mitigations = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
        let limited = ListenerEntry { mitigations, mss_limit: 1240, ..ListenerEntry::default() };
        host.add_listener(ListenerKey::new(path.server(), 443u16.to_be_bytes()).of_all(), limited);
        let linux = answer(&mut host, &path, SYN, &LINUX, &[]);
        assert_eq!(linux.options[..4], [2, 4, 5, 180], "the host's own");
        assert_eq!(complete(&mut host, &path, &linux).expect("a good cookie").mss, 1240);
    }
}

/// Options of SYNs in every combination and as tightly packed as they can be.
fn layouts() -> Vec<Vec<u8>> {
    let parts: [&[u8]; 5] = [
        &[2, 4, 5, 120],
        &[3, 3, 7],
        &[4, 2],
        &[8, 10, 0, 0, 0, 9, 0, 0, 0, 0],
        // TCP Fast Open, asking for a cookie.
        &[34, 2],
    ];
    let mut layouts = Vec::new();
    for chosen in 0..1 << parts.len() {
        let mut layout = Vec::new();
        for (_, part) in parts.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1) {
            layout.extend(*part);
        }
        layout.resize(layout.len().next_multiple_of(4), 0);
        layouts.push(layout);
    }
    layouts
}

#[test]
fn no_answer_is_longer_than_its_syn_and_only_an_mss_that_was_not_offered_is_left_out() {
    for path in paths() {
        for options in layouts() {
            let mut host = host(ALL);
            let syn = path.frame(&tcp(SYN, CLIENT_ISN, 0, &options, &[])).len();
            let answer = answer(&mut host, &path, SYN, &options, &[]);
            assert!(answer.length <= syn);
            let has = |kind: &[u8], of: &[u8]| of.windows(2).any(|window| window == kind);
            let [scales, sack, stamps] = [[3, 3], [4, 2], [8, 10]].map(|kind| has(&kind, &options));
            // The joint table has no entry for scaling without SACK, which no stack sends.
            let expected = [scales && (sack || stamps), sack, stamps];
            let answered = [[3, 3], [4, 2], [8, 10]].map(|kind| has(&kind, &answer.options));
            assert_eq!(answered, expected, "{options:?}: {answer:?}");
            if has(&[2, 4], &options) || !path.extra.is_empty() {
                assert!(has(&[2, 4], &answer.options), "{options:?}: {answer:?}");
            }
            assert!(!answer.options.contains(&34), "TCP Fast Open is not answered");
            assert!(complete(&mut host, &path, &answer).is_some(), "{options:?}");
        }
    }
}

/// Bytes that a frame takes on the wire, but for preamble and check sequence.
fn on_the_wire(frame: &[u8]) -> usize {
    frame.len().max(60)
}

fn option_bytes() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        vec![2, 4, 5, 180],
        vec![3, 3, 7],
        vec![4, 2],
        vec![8, 10, 0, 0, 0, 9, 0, 0, 0, 0],
        vec![34, 2],
        vec![1],
        vec![0],
    ]);
    let any = prop::collection::vec(any::<u8>(), 1..6);
    prop::collection::vec(prop_oneof![4 => known, 1 => any], 0..8).prop_map(|parts| {
        let mut options = parts.concat();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 0);
        options
    })
}

proptest! {
    /// No address gets more bytes from XDP than were sent in its name.
    #[test]
    fn no_bytes_are_added_on_the_way_out(
        path in 0..paths().len(),
        options in option_bytes(),
        flags in prop::sample::select(vec![SYN, SYN | ECE | CWR, SYN | 0x08, SYN | 0x20]),
        payload in prop_oneof![Just(0), 0..1400_usize],
        padding in 0..16_usize,
        learned in 0..=ALL,
    ) {
        let path = &paths()[path];
        let mut frame = path.frame(&tcp(flags, CLIENT_ISN, 0, &options, &vec![7; payload]));
        frame.resize(frame.len() + padding, 0xaa);
        let mut host = host(learned & ALL);
        host.replies_by(HOST_MAC, CLIENT_MAC, path.vlan());
        let mut packet = Packet(frame.clone());
        let answered = host.ingress_packet(&mut packet).action() == Action::Tx;
        prop_assert!(on_the_wire(&packet.0) <= on_the_wire(&frame));
        prop_assert!(answered || packet.0 == frame);
        // Only signed SYNs are left to the stack.
        let signed = options.contains(&19) || options.contains(&29);
        prop_assert!(answered || signed, "{options:?}");
    }
}

#[test]
fn padding_has_room_for_the_mss_that_a_bare_syn_lacks() {
    let path = plain(false);
    let mut frame = path.frame(&tcp(SYN, CLIENT_ISN, 0, &[], &[]));
    assert_eq!(frame.len(), 54);
    let mut host = host(ALL);
    assert_eq!(answer(&mut host, &path, SYN, &[], &[]).options, []);
    // Network cards deliver 60 bytes at least.
    frame.resize(60, 0xaa);
    let mut frame = Packet(frame);
    assert_eq!(host.ingress_packet(&mut frame), Reason::Cookie);
    let answer = read(&path, &frame.0);
    assert_eq!((answer.options, answer.length), (vec![2, 4, 5, 180], 60));
}

#[test]
fn data_in_a_syn_is_left_to_be_sent_again() {
    for path in paths() {
        let mut host = host(ALL);
        // With a TCP Fast Open cookie of eight bytes.
        let options = [2, 4, 5, 180, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
        let answer = answer(&mut host, &path, SYN, &options, &[0x55; 1200]);
        assert_eq!(answer.options, [2, 4, 5, 180]);
        assert!(complete(&mut host, &path, &answer).is_some());
    }
}

#[test]
fn ecn_is_accepted_where_the_listener_does_and_timestamps_can_carry_it() {
    let path = plain(false);
    let ecn = SYN | ECE | CWR;
    for (learned, options, expected) in
        [(ALL, &LINUX[..], true), (ALL & !ECN, &LINUX[..], false), (ALL, &WINDOWS[..], false)]
    {
        let mut host = host(learned);
        let answer = answer(&mut host, &path, ecn, options, &[]);
        assert_eq!(answer.flags, if expected { SYN_ACK | ECE } else { SYN_ACK });
        let accepted = complete(&mut host, &path, &answer).unwrap();
        assert_eq!(accepted.options & ECN != 0, expected);
    }
}

#[test]
fn an_option_that_the_listener_never_sent_is_not_promised() {
    let path = plain(true);
    let mut host = host(SACK);
    let answer = answer(&mut host, &path, SYN, &LINUX, &[]);
    assert_eq!(answer.options, [2, 4, 5, 180, 1, 1, 4, 2]);
    assert_eq!(complete(&mut host, &path, &answer).unwrap().options, SACK);
}

#[test]
fn what_cannot_be_answered_here_goes_to_the_stack_as_it_was() {
    let path = plain(false);
    let syn = path.frame(&tcp(SYN, CLIENT_ISN, 0, &LINUX, &[]));
    let passed = |host: &mut Model, frame: Vec<u8>, why: &str| {
        let mut packet = Packet(frame.clone());
        assert_eq!(host.ingress_packet(&mut packet), Reason::Syn, "{why}");
        assert_eq!(packet.0, frame, "{why}");
    };
    let mut unknown = host(ALL);
    unknown.syn_acks.clear();
    passed(&mut unknown, syn.clone(), "no SYN-ACK was ever seen");

    let mut secretless = host(ALL);
    secretless.cookie_secret.drawn = 0;
    passed(&mut secretless, syn.clone(), "no secret");

    let md5 = [&[19, 18][..], &[0; 16], &[1, 1]].concat();
    let signed = path.frame(&tcp(SYN, CLIENT_ISN, 0, &md5, &[]));
    passed(&mut host(ALL), signed, "signed");

    let mut broadcast = syn.clone();
    broadcast[26..30].copy_from_slice(&[255; 4]);
    passed(&mut host(ALL), broadcast, "from nobody");

    let mut group = syn.clone();
    group[6] |= 1;
    let fate = host(ALL).ingress_packet(&mut Packet(group));
    assert_eq!(fate, Reason::DropReflection, "from the Ethernet address of a group");

    let mut mapped = plain(true).frame(&tcp(SYN, CLIENT_ISN, 0, &LINUX, &[]));
    let mapped_address = |v4: [u8; 4]| [&[0; 10][..], &[0xff, 0xff], &v4].concat();
    mapped[22..38].copy_from_slice(&mapped_address([203, 0, 113, 9]));
    mapped[38..54].copy_from_slice(&mapped_address([192, 0, 2, 1]));
    passed(&mut host(ALL), mapped, "of neither family");

    let mut fragment = syn.clone();
    fragment[14 + 6] = 0x20;
    passed(&mut host(ALL), fragment, "a fragment");

    for (mode, now, why) in [
        (Mode::Observe, NOW, "observing"),
        (Mode::Enforce, NOW + COOKIE_HEARTBEAT_NS + 1, "no agent"),
    ] {
        let mut host = host(ALL);
        (host.config.mode, host.now_ns) = (mode as u8, now);
        passed(&mut host, syn.clone(), why);
    }
    let mut disarmed = host(ALL);
    disarmed.listener_entries.get_mut(&0).unwrap().mitigations = ListenerEntry::ACCEPT;
    passed(&mut disarmed, syn, "not armed");
}

#[test]
fn cookies_that_are_out_are_taken_after_the_mode_has_ended_and_each_once_in_a_burst() {
    let path = plain(false);
    let mut host = host(ALL);
    let answer = answer(&mut host, &path, SYN, &LINUX, &[]);
    host.listener_entries.get_mut(&0).unwrap().mitigations = ListenerEntry::ACCEPT;
    host.now_ns += 20 * S;
    let accepted = complete(&mut host, &path, &answer).unwrap();
    // The clock continues from the timestamp that was sent, so the client's echo has its true age.
    let sent = u32::from_be_bytes(answer.options[8..12].try_into().unwrap());
    let age = accepted.host_timestamp.wrapping_sub(sent);
    assert!((19_000..19_200).contains(&age), "{age} ticks of 1.05 ms");
    assert_eq!(complete(&mut host, &path, &answer), None, "in the same burst");
    host.now_ns += S;
    assert!(complete(&mut host, &path, &answer).is_some(), "the first may have been lost");
    host.listener_entries.get_mut(&0).unwrap().mitigations = 0;
    host.now_ns += S;
    assert_eq!(complete(&mut host, &path, &answer), None);
}

/// Each CPU remembers the listener's reply for a tick: one may know less of it than the one that made the
/// cookie.
#[test]
fn a_cookie_is_accepted_by_a_cpu_that_remembers_less_than_it_promised() {
    let path = plain(false);
    let (mut one, mut other) = (host(SACK), host(ALL));
    let mut of_one = answer(&mut one, &path, SYN, &LINUX, &[]);
    let of_other = answer(&mut other, &path, SYN, &LINUX, &[]);
    one.syn_acks = other.syn_acks;
    let remembered = answer(&mut one, &path, SYN, &LINUX, &[]);
    assert_eq!(remembered.options, of_one.options);
    let accepted = complete(&mut one, &path, &of_other).expect("a good cookie");
    assert_eq!(accepted.options, WSCALE | SACK | TIMESTAMPS);
    one.now_ns += S;
    of_one = answer(&mut one, &path, SYN, &LINUX, &[]);
    assert_eq!(of_one.options.len(), of_other.options.len(), "and then it is learned");
}

/// Cookies have 32 bits, and where 100,000 connections come a second, two of one moment will be equal.
#[test]
fn a_connection_whose_cookie_is_by_chance_anothers_is_handed_over_too() {
    let path = plain(false);
    let mut host = host(ALL);
    let answer = answer(&mut host, &path, SYN, &LINUX, &[]);
    let other = u64::from(answer.isn) | u64::from(CLIENT_ISN ^ 1) << 32;
    let handed_over = HandedOver::new(other, cookie::ticks(host.now_ns));
    *host.handed_over(answer.isn).unwrap() = handed_over;
    assert!(complete(&mut host, &path, &answer).is_some());
    assert_eq!(complete(&mut host, &path, &answer), None, "and then it is known");
}

/// A SYN-ACK that leaves, as a listener's stack sends it.
fn departing(path: &Path, options: &[u8], flags: u8) -> Vec<u8> {
    let mut frame = path.frame(&tcp(flags, 7, 8, options, &[]));
    let ip = 14 + 4 * path.tags.len();
    let (client, server) = path.addresses();
    let (src, length) = if path.v6 { (ip + 8, 16) } else { (ip + 12, 4) };
    frame[src..src + length].copy_from_slice(&server);
    frame[src + length..src + 2 * length].copy_from_slice(&client);
    frame[..6].copy_from_slice(&CLIENT_MAC);
    frame[6..12].copy_from_slice(&HOST_MAC);
    let tcp_at = src + 2 * length + path.extra.len();
    frame[tcp_at..tcp_at + 2].copy_from_slice(&443u16.to_be_bytes());
    frame[tcp_at + 2..tcp_at + 4].copy_from_slice(&CLIENT_PORT.to_be_bytes());
    frame
}

#[test]
fn a_listeners_answers_are_learned_and_what_it_once_offered_is_kept() {
    for (v6, tags) in [(false, vec![]), (true, vec![]), (false, vec![0x8100])] {
        let path = Path { tags, ..plain(v6) };
        let mut host = host(ALL);
        host.syn_acks.clear();
        host.exempt.push(((path.server(), 128), ExemptEntry::OWN));
        let all = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 9, 1, 3, 3, 10];
        host.egress(&departing(&path, &all, SYN_ACK | ECE));
        host.egress(&departing(&path, &[2, 4, 5, 160], SYN_ACK));
        let key = ListenerKey::new(path.server(), 443u16.to_be_bytes());
        let expected = SynAckRecord {
            interfaces: SynAckRecord::interface(Model::DEPARTURE.ifindex, path.vlan()),
            window: 0xfaf0,
            ttl: 57,
            mss_at: moment(NOW),
            ..record(ALL)
        };
        // Of this address, and of all of the listener's.
        for key in [key, key.of_all()] {
            assert_eq!(host.syn_acks.get(&key), Some(&expected));
        }
        assert_eq!(host.syn_acks.len(), 2);
    }
}
