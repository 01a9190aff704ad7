//! The parser's results for frames that are written out byte by byte.

use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, Fingerprint, Mask, Mode, Reason, layout, quirk,
};
use tcpguard_common::model::Model;
use tcpguard_common::wire::{
    Frame, MAX_EXTENSION_HEADERS, MAX_HEADER_BYTES, MAX_OPTIONS, Segment, Skip, fingerprint, flag,
    parse,
};

const CLIENT: [u8; 4] = [203, 0, 113, 9];
const SERVER: [u8; 4] = [192, 0, 2, 1];

/// MSS 1460, SACK permitted, timestamps, NOP, window scale 7: a SYN of Linux.
const LINUX_OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];

fn tcp(flags: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let mut segment = vec![0x1f, 0x90, 0x01, 0xbb, 0, 0, 0, 7, 0, 0, 0, 0];
    let offset = ((20 + options.len()) / 4) as u16;
    segment.extend((offset << 12 | flags).to_be_bytes());
    segment.extend([0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

fn ipv4(options: &[u8], flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(flags_and_offset.to_be_bytes());
    packet.extend([57, 6, 0, 0]);
    packet.extend(CLIENT);
    packet.extend(SERVER);
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 57]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(payload);
    packet
}

fn ethernet(tags: &[u16], protocol: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 5]);
    }
    frame.extend(protocol.to_be_bytes());
    frame.extend(packet);
    frame
}

fn v4_frame(packet: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, packet)
}

fn v6_frame(packet: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x86dd, packet)
}

fn syn() -> Vec<u8> {
    tcp(flag::SYN, &LINUX_OPTIONS, &[])
}

fn seen(frame: &[u8]) -> Segment {
    parse(frame).unwrap_or_else(|skip| panic!("{skip:?}"))
}

#[test]
fn a_plain_syn_is_read_field_by_field() {
    let frame = v4_frame(&ipv4(&[], 0x4000, &syn()));
    let segment = seen(&frame);
    assert_eq!(segment.flow.client, Addr::from_v4(CLIENT));
    assert_eq!(segment.flow.server, Addr::from_v4(SERVER));
    assert_eq!(segment.flow.client_port, 8080u16.to_be_bytes());
    assert_eq!(segment.flow.server_port, 443u16.to_be_bytes());
    assert_eq!((segment.seq, segment.ack, segment.window), (7, 0, 64_240));
    assert_eq!((segment.flags, segment.ttl, segment.ip_id), (flag::SYN, 57, 0x1234));
    assert!(!segment.payload);
    let expected = Fingerprint {
        options: layout::MSS
            | layout::SACK_OK << 4
            | layout::TIMESTAMP << 8
            | layout::NOP << 12
            | layout::WSCALE << 16,
        mss: 1460,
        window: 64_240,
        ip_id: 0x1234,
        quirks: quirk::DF,
        wscale: 7,
        ttl: 57,
        pad: [0; 6],
    };
    assert_eq!(fingerprint(&frame[..], &segment), expected);
}

#[test]
fn up_to_two_vlan_tags_of_either_kind_are_followed() {
    for tags in [&[][..], &[0x8100], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
        let frame = ethernet(tags, 0x0800, &ipv4(&[], 0, &syn()));
        assert_eq!(seen(&frame).seq, 7, "{tags:04x?}");
    }
    let three = ethernet(&[0x8100; 3], 0x0800, &ipv4(&[], 0, &syn()));
    assert_eq!(parse(&three[..]), Err(Skip::VlanDepth));
}

#[test]
fn ipv4_options_of_any_length_are_stepped_over() {
    for words in 0..=10 {
        let frame = v4_frame(&ipv4(&vec![1; words * 4], 0, &syn()));
        let segment = seen(&frame);
        assert_eq!(segment.seq, 7);
        assert_eq!(segment.quirks & quirk::IP_OPTIONS != 0, words > 0);
    }
}

#[test]
fn fragments_are_distinguished() {
    let first = seen(&v4_frame(&ipv4(&[], 0x2000, &syn())));
    assert_eq!(first.flags, flag::SYN, "a first fragment carries the SYN");
    let later = v4_frame(&ipv4(&[], 0x2001, &syn()));
    assert_eq!(parse(&later[..]), Err(Skip::Fragment));
    let last = v4_frame(&ipv4(&[], 0x0001, &syn()));
    assert_eq!(parse(&last[..]), Err(Skip::Fragment));
    let short = v4_frame(&ipv4(&[], 0x2000, &syn()[..8]));
    assert_eq!(parse(&short[..]), Err(Skip::FragmentShort));
    // The options go on in the next fragment: those in this one count, the rest is unknown.
    let cut = v4_frame(&ipv4(&[], 0x2000, &syn()[..26]));
    let segment = seen(&cut);
    assert_eq!(fingerprint(&cut[..], &segment).mss, 1460);
}

#[test]
fn extension_headers_are_followed_up_to_the_bound() {
    for count in 0..=MAX_EXTENSION_HEADERS + 1 {
        let mut payload = Vec::new();
        for place in 0..count {
            let next = if place + 1 == count { 6 } else { 60 };
            payload.extend([next, 0, 1, 4, 0, 0, 0, 0]);
        }
        payload.extend(syn());
        let frame = v6_frame(&ipv6(if count == 0 { 6 } else { 60 }, &payload));
        if count <= MAX_EXTENSION_HEADERS {
            let segment = seen(&frame);
            assert_eq!(segment.seq, 7, "{count} headers");
            assert_eq!(segment.quirks & quirk::IPV6, quirk::IPV6);
        } else {
            assert_eq!(parse(&frame[..]), Err(Skip::Ipv6Depth), "{count} headers");
        }
    }
}

#[test]
fn every_kind_of_extension_header_is_known() {
    let header = |kind: u8, body: [u8; 7]| {
        let mut payload = vec![6];
        payload.extend(body);
        payload.extend(syn());
        v6_frame(&ipv6(kind, &payload))
    };
    for kind in [0, 43, 60] {
        assert_eq!(seen(&header(kind, [0; 7])).seq, 7, "header {kind}");
    }
    assert_eq!(seen(&header(44, [0; 7])).seq, 7, "an atomic fragment");
    assert_eq!(seen(&header(44, [0, 0, 1, 0, 0, 0, 1])).seq, 7, "a first fragment");
    assert_eq!(parse(&header(44, [0, 0, 8, 0, 0, 0, 1])[..]), Err(Skip::Fragment));
    // The stack does not look behind these either, unless IPsec is set up.
    for kind in [50, 51, 59, 17] {
        assert_eq!(parse(&header(kind, [0; 7])[..]), Err(Skip::NotTcp), "header {kind}");
    }
}

#[test]
fn headers_beyond_the_reach_of_the_parser_are_counted_as_such() {
    let mut payload = vec![6, 127];
    payload.extend(vec![0; 1022]);
    payload.extend(syn());
    let frame = v6_frame(&ipv6(60, &payload));
    assert!(frame.len() > MAX_HEADER_BYTES);
    assert_eq!(parse(&frame[..]), Err(Skip::HeaderDepth));
}

/// A frame of which only the first piece can be read, as the kernel has those of drivers that split
/// off the presumed headers.
struct Pieces<'a> {
    whole: &'a [u8],
    first: usize,
}

impl Frame for Pieces<'_> {
    type Window<'a, const N: usize>
        = &'a [u8; N]
    where
        Self: 'a;

    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.whole[..self.first].window(at)
    }

    fn holds(&self, length: usize) -> bool {
        self.whole.holds(length)
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.whole[..self.first].u8(at)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.whole[..self.first].u16(at)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.whole[..self.first].u32(at)
    }
}

/// Fragmented headers are not the sender's fault, and a SYN is not taken for one without its options.
#[test]
fn headers_that_lie_in_another_piece_of_the_frame_are_beyond_reach_and_not_malformed() {
    let segment = [&syn()[..], b"data"].concat();
    let extended = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat();
    for whole in [
        v4_frame(&ipv4(&[], 0, &segment)),
        v4_frame(&ipv4(&[1; 40], 0, &segment)),
        ethernet(&[0x88a8, 0x8100], 0x86dd, &ipv6(6, &segment)),
        v6_frame(&ipv6(60, &extended)),
        v6_frame(&ipv6(44, &[&[6, 0, 0, 0, 0, 0, 0, 0][..], &segment].concat())),
    ] {
        let expected = seen(&whole);
        for first in 0..=whole.len() {
            let read = parse(&Pieces { whole: &whole, first });
            if first < usize::from(expected.options_end) {
                assert_eq!(read, Err(Skip::HeaderDepth), "{first} of {} bytes", whole.len());
            } else {
                assert_eq!(read, Ok(expected), "{first} of {} bytes", whole.len());
            }
        }
    }
}

#[test]
fn lengths_that_lie_are_malformed() {
    let good = v4_frame(&ipv4(&[], 0, &syn()));
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        parse(&frame[..]).unwrap_err()
    };
    assert_eq!(with(14, 0x44), Skip::Malformed, "header shorter than 20 bytes");
    assert_eq!(with(14, 0x55), Skip::Malformed, "another version");
    assert_eq!(with(16, 0xff), Skip::Malformed, "longer than the frame");
    assert_eq!(with(17, 19), Skip::Malformed, "shorter than its header");
    assert_eq!(with(17, 39), Skip::Malformed, "the TCP header is cut off");
    assert_eq!(with(46, 0x40), Skip::Malformed, "data offset below 5");
    assert_eq!(with(46, 0xf0), Skip::Malformed, "data offset beyond the packet");
    assert_eq!(with(23, 17), Skip::NotTcp, "UDP");
}

#[test]
fn padding_behind_the_packet_is_no_data() {
    let mut frame = v4_frame(&ipv4(&[], 0, &tcp(flag::SYN, &[], &[])));
    frame.extend([0; 6]);
    assert!(!seen(&frame).payload);
    assert!(seen(&v4_frame(&ipv4(&[], 0, &tcp(flag::SYN, &[], b"GET")))).payload);
}

#[test]
fn no_prefix_of_a_frame_is_read_beyond_its_end() {
    let frames = [
        v4_frame(&ipv4(&[], 0, &syn())),
        ethernet(&[0x88a8, 0x8100], 0x86dd, &ipv6(6, &syn())),
        v6_frame(&ipv6(44, &[&[6, 0, 0, 1, 0, 0, 0, 1][..], &syn()].concat())),
    ];
    for frame in &frames {
        for length in 0..frame.len() {
            assert!(parse(&frame[..length]).is_err(), "{length} of {} bytes", frame.len());
        }
    }
}

fn print(options: &[u8]) -> Fingerprint {
    let frame = v4_frame(&ipv4(&[], 0, &tcp(flag::SYN, options, &[])));
    let segment = seen(&frame);
    fingerprint(&frame[..], &segment)
}

/// Accurate ECN is RFC 9768, section 3.1.1.
#[test]
fn an_offer_of_ecn_is_no_reserved_bit() {
    use flag::{AE, CWR, ECE, SYN};
    const ALL: u16 = quirk::ECN | quirk::ACC_ECN | quirk::RESERVED;
    for (flags, expected) in [
        (0, 0),
        (ECE, 0),
        (ECE | CWR, quirk::ECN),
        (AE | ECE | CWR, quirk::ECN | quirk::ACC_ECN),
        (AE, quirk::RESERVED),
        (AE | CWR, quirk::RESERVED),
        (0x200 | ECE | CWR, quirk::RESERVED | quirk::ECN),
        (0x800 | AE | ECE | CWR, ALL),
    ] {
        let frame = v4_frame(&ipv4(&[], 0, &tcp(SYN | flags, &[], &[])));
        let found = fingerprint(&frame[..], &seen(&frame)).quirks & ALL;
        assert_eq!(found, expected, "{flags:#x}");
    }
}

#[test]
fn options_that_contradict_themselves_are_a_quirk_not_an_end() {
    for options in [
        // Length 0, length 1, length beyond the header.
        [2, 0, 5, 180],
        [2, 1, 5, 180],
        [2, 200, 5, 180],
    ] {
        let print = print(&options);
        assert_eq!(print.quirks & quirk::BAD_OPTIONS, quirk::BAD_OPTIONS, "{options:?}");
        assert_eq!(print.mss, 0);
    }
}

#[test]
fn more_options_than_are_read_are_said_to_be_more() {
    let exactly = print(&[1; MAX_OPTIONS]);
    assert_eq!(exactly.quirks & quirk::MANY_OPTIONS, 0);
    assert_eq!(print(&[1; 16]).quirks & quirk::MANY_OPTIONS, quirk::MANY_OPTIONS);
}

#[test]
fn what_follows_the_end_of_options_does_not_matter() {
    let print = print(&[2, 4, 5, 180, 0, 2, 4, 9]);
    assert_eq!(print.options, layout::MSS | layout::END << 4);
    assert_eq!(print.mss, 1460);
}

#[test]
fn each_mask_leaves_out_its_fields_and_no_other() {
    let one = Fingerprint {
        options: 3,
        mss: 1460,
        window: 512,
        ip_id: 7,
        quirks: quirk::DF,
        wscale: 7,
        ttl: 64,
        pad: [0; 6],
    };
    let same = |mask: Mask, other: Fingerprint| one.masked(mask) == other.masked(mask);
    for mask in Mask::ALL {
        let name = mask.name();
        assert!(!same(mask, Fingerprint { options: 4, ..one }), "{name} compares the layout");
        assert!(!same(mask, Fingerprint { quirks: 0, ..one }), "{name} compares quirks");
        let ip_id = same(mask, Fingerprint { ip_id: 8, ..one });
        assert_eq!(ip_id, mask != Mask::IpId, "{name} and the IP id");
        let ttl = same(mask, Fingerprint { ttl: 65, ..one });
        assert_eq!(
            ttl,
            !matches!(mask, Mask::Full | Mask::NoWindow | Mask::NoWindowMss),
            "{name} and TTL"
        );
        let window = same(mask, Fingerprint { window: 513, ..one });
        assert_eq!(window, !matches!(mask, Mask::Full | Mask::NoTtl), "{name} and window");
    }
}

/// The fate of a frame at a host with this policy, mode and age of the last sign of life.
fn fate(frame: &[u8], drop_beyond_bounds: u8, mode: Mode, silent_s: u64) -> Reason {
    let now = 1000 * 1_000_000_000;
    let mut host = Model::new(Config {
        abi_version: ABI_VERSION,
        mode: mode as u8,
        drop_beyond_bounds,
        heartbeat_ns: now - silent_s * 1_000_000_000,
        heartbeat_limit_ns: 30 * 1_000_000_000,
        ..Config::default()
    });
    host.now_ns = now;
    host.ingress(frame)
}

/// Frames are dropped only where the operator wants it, in enforce mode, while an agent lives. A frame
/// that is no TCP, a later fragment, and a frame that the stack refuses by itself are never dropped.
#[test]
fn what_lies_beyond_a_bound_is_dropped_where_that_is_wanted() {
    let tags = ethernet(&[0x8100; 3], 0x0800, &ipv4(&[], 0, &syn()));
    let short = v4_frame(&ipv4(&[], 0x2000, &syn()[..8]));
    let mut headers: Vec<u8> = (0..=MAX_EXTENSION_HEADERS as u8)
        .flat_map(|place| {
            let next = if place == MAX_EXTENSION_HEADERS as u8 { 6 } else { 60 };
            [next, 0, 1, 4, 0, 0, 0, 0]
        })
        .collect();
    headers.extend(syn());
    let headers = v6_frame(&ipv6(60, &headers));
    let mut far = vec![6, 255];
    far.resize(2048, 0);
    far.extend(syn());
    let far = v6_frame(&ipv6(60, &far));
    for (frame, bound) in [
        (&tags, Reason::VlanDepth),
        (&short, Reason::FragmentShort),
        (&headers, Reason::Ipv6Depth),
        (&far, Reason::HeaderDepth),
    ] {
        let others = Reason::EVERY_BOUND & !bound.bound();
        assert_eq!(fate(frame, 0, Mode::Enforce, 0), bound);
        assert_eq!(fate(frame, others, Mode::Enforce, 0), bound, "the others are");
        for wanted in [bound.bound(), Reason::EVERY_BOUND] {
            let dropped = fate(frame, wanted, Mode::Enforce, 0);
            assert_eq!(dropped, Reason::DropBeyondBounds, "{bound:?}");
        }
        let every = Reason::EVERY_BOUND;
        assert_eq!(fate(frame, every, Mode::Enforce, 31), bound, "no agent answers for it");
        assert_eq!(fate(frame, every, Mode::Observe, 0), bound);
        assert_eq!(fate(frame, every, Mode::Off, 0), bound);
    }
    for (frame, reason) in [
        (v4_frame(&ipv4(&[], 0x2001, &syn())), Reason::Fragment),
        (ethernet(&[], 0x0806, &[0; 28]), Reason::NotTcp),
        (v4_frame(&ipv4(&[], 0, &syn())[..30]), Reason::Malformed),
        (v4_frame(&ipv4(&[], 0, &syn())), Reason::NoListener),
    ] {
        assert_eq!(fate(&frame, Reason::EVERY_BOUND, Mode::Enforce, 0), reason);
    }
}
