//! TCP behind every link layer and in every tunnel that is looked into, and frames that are none.

use tcpguard::documents::replay::Replay;
use tcpguard::text;

use super::files::*;
use super::formats::{assert_visits, visits};
use super::observe;
use super::packets::*;

/// A link type, and the link layer of a packet, given whether that is IPv6.
type Framing = (&'static str, u16, fn(&[u8], bool) -> Vec<u8>);

const ETHERTYPES: [[u8; 2]; 2] = [[0x08, 0], [0x86, 0xdd]];

fn ethertype(v6: bool) -> [u8; 2] {
    ETHERTYPES[usize::from(v6)]
}

/// An Ethernet frame whose EtherType and the rest are these.
fn frame(parts: &[&[u8]]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &parts.concat()].concat()
}

fn ethernet(packet: &[u8], v6: bool) -> Vec<u8> {
    frame(&[&ethertype(v6), packet])
}

fn in_ip(protocol: u8, header: &[u8], inner: &[u8]) -> Vec<u8> {
    frame(&[&[8, 0], &tunnelled(protocol, header, inner)])
}

fn in_udp(port: u16, header: &[u8], inner: &[u8]) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let length = (8 + header.len() + inner.len()) as u16;
    let [long, short] = length.to_be_bytes();
    in_ip(17, &[&[0xc0, 0, high, low, long, short, 0, 0], header].concat(), inner)
}

/// PPP's number of the protocol.
fn ppp(v6: bool) -> [u8; 2] {
    [0, if v6 { 0x57 } else { 0x21 }]
}

fn mpls(labels: u8) -> Vec<u8> {
    (1..=labels).flat_map(|number| [0, 1, u8::from(number == labels), 64]).collect()
}

/// Behind a link layer, tags, labels and sessions.
const LINKS: [Framing; 31] = [
    ("tag", 1, |ip, v6| frame(&[&[0x81, 0, 0, 7], &ethertype(v6), ip])),
    ("802.1ad", 1, |ip, v6| frame(&[&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7], &ethertype(v6), ip])),
    ("0x9100", 1, |ip, v6| frame(&[&[0x91, 0, 0, 9, 0x81, 0, 0, 7], &ethertype(v6), ip])),
    ("0x9200", 1, |ip, v6| frame(&[&[0x92, 0, 0, 9, 0x81, 0, 0, 7], &ethertype(v6), ip])),
    ("three tags", 1, |ip, v6| frame(&[&[0x81, 0, 0, 7].repeat(3), &ethertype(v6), ip])),
    ("SNAP", 1, |ip, v6| frame(&[&[0, 60, 0xaa, 0xaa, 3, 0, 0, 0], &ethertype(v6), ip])),
    ("tagged SNAP", 1, |ip, v6| {
        frame(&[&[0x81, 0, 0, 7, 0, 60, 0xaa, 0xaa, 3, 0, 0, 0], &ethertype(v6), ip])
    }),
    ("PPPoE", 1, |ip, v6| frame(&[&[0x88, 0x64, 0x11, 0, 0, 7, 0, 0], &ppp(v6), ip])),
    ("tagged PPPoE", 1, |ip, v6| {
        frame(&[&[0x81, 0, 0, 7, 0x88, 0x64, 0x11, 0, 0, 7, 0, 0], &ppp(v6), ip])
    }),
    ("a label", 1, |ip, _| frame(&[&[0x88, 0x47], &mpls(1), ip])),
    ("4 labels", 1, |ip, _| frame(&[&[0x88, 0x48], &mpls(4), ip])),
    ("NSH", 1, |ip, v6| frame(&[&[0x89, 0x4f, 0, 2, 1, 1 + u8::from(v6), 0, 0, 1, 255], ip])),
    ("MACsec, integrity", 1, |ip, v6| {
        frame(&[&[0x88, 0xe5, 0, 0, 0, 0, 0, 1], &ethertype(v6), ip, &[0; 16]])
    }),
    ("MACsec with SCI", 1, |ip, v6| {
        let tag = [0x88, 0xe5, 0x20, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 1];
        frame(&[&tag, &ethertype(v6), ip, &[0; 16]])
    }),
    ("PPP", 9, |ip, v6| [&ppp(v6), ip].concat()),
    ("PPP, short protocol", 9, |ip, v6| [&ppp(v6)[1..], ip].concat()),
    ("PPP of HDLC", 50, |ip, v6| [&[0xff, 3][..], &ppp(v6), ip].concat()),
    ("PPP of HDLC without address", 50, |ip, v6| [&ppp(v6), ip].concat()),
    ("PPP with labels", 50, |ip, _| [&[0xff, 3, 2, 0x81][..], &mpls(2), ip].concat()),
    ("pppd", 166, |ip, v6| [&[1, 3][..], &ppp(v6), ip].concat()),
    ("PPPoE without Ethernet", 51, |ip, v6| [&[0x11, 0, 0, 7, 0, 0][..], &ppp(v6), ip].concat()),
    ("Cisco HDLC", 104, |ip, v6| [&[0x0f, 0][..], &ethertype(v6), ip].concat()),
    ("IPsec of OpenBSD", 109, |ip, _| [&[0; 12][..], ip].concat()),
    ("pflog", 117, |ip, _| [&[61][..], &[0; 63], ip].concat()),
    ("labels without Ethernet", 219, |ip, _| [&mpls(2), ip].concat()),
    ("NFLOG", 239, |ip, _| nflog(&[5, 0, 10, 0, 1, 0, 0, 0], |n| n.to_le_bytes(), ip)),
    ("NFLOG, big-endian", 239, |ip, _| nflog(&[0, 5, 0, 10, 1, 0, 0, 0], |n| n.to_be_bytes(), ip)),
    ("cooked PPPoE", 113, |ip, v6| {
        [&[0; 14][..], &[0x88, 0x64, 0x11, 0, 0, 7, 0, 0], &ppp(v6), ip].concat()
    }),
    ("cooked tag", 113, |ip, v6| [&[0; 14][..], &[0x81, 0, 0, 7], &ethertype(v6), ip].concat()),
    ("cooked tag of version 2", 276, |ip, v6| {
        [&[0x81, 0][..], &[0; 18], &[0, 7], &ethertype(v6), ip].concat()
    }),
    ("trailer", 1, |ip, v6| [&ethernet(ip, v6)[..], &[0xde, 0xad, 0xbe, 0xef]].concat()),
];

fn nflog(option: &[u8], order: fn(u16) -> [u8; 2], ip: &[u8]) -> Vec<u8> {
    let length = order(ip.len() as u16 + 4);
    [&[2, 0, 0, 0][..], option, &length, &order(9), ip].concat()
}

/// In a tunnel of Ethernet frames.
const TUNNELS: [Framing; 24] = [
    ("GRE", 1, |ip, v6| in_ip(47, &[&[0, 0][..], &ethertype(v6)].concat(), ip)),
    ("GRE with all fields", 1, |ip, v6| {
        in_ip(47, &[&[0xb0, 0][..], &ethertype(v6), &[0; 12]].concat(), ip)
    }),
    ("GRE with labels", 1, |ip, _| in_ip(47, &[&[0, 0, 0x88, 0x47][..], &mpls(1)].concat(), ip)),
    ("EoGRE", 1, |ip, v6| in_ip(47, &[0, 0, 0x65, 0x58], &ethernet(ip, v6))),
    ("NVGRE", 1, |ip, v6| in_ip(47, &[0x20, 0, 0x65, 0x58, 0, 0, 1, 0], &ethernet(ip, v6))),
    ("PPTP", 1, |ip, v6| {
        let header = [0x30, 0x81, 0x88, 0x0b, 0, 60, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 3];
        in_ip(47, &[&header[..], &ppp(v6)].concat(), ip)
    }),
    ("ERSPAN I", 1, |ip, v6| in_ip(47, &[0, 0, 0x88, 0xbe], &ethernet(ip, v6))),
    ("ERSPAN II", 1, |ip, v6| {
        let header = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0x20, 1, 0, 0, 0, 0];
        in_ip(47, &header, &ethernet(ip, v6))
    }),
    ("ERSPAN III", 1, |ip, v6| {
        let header = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        in_ip(47, &header, &ethernet(ip, v6))
    }),
    ("ERSPAN III with a subheader", 1, |ip, v6| {
        let mut header = [0; 28];
        header[..8].copy_from_slice(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1]);
        header[8] = 0x20;
        header[19] = 1;
        in_ip(47, &header, &ethernet(ip, v6))
    }),
    ("ERSPAN III of IP", 1, |ip, _| {
        let header = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0x20, 1, 0, 0, 0, 0, 0, 0, 8, 0];
        in_ip(47, &header, ip)
    }),
    ("IP in IP", 1, |ip, v6| in_ip(if v6 { 41 } else { 4 }, &[], ip)),
    ("IP in IPv6 with a limit", 1, |ip, v6| {
        let outer = [0x60, 0, 0, 0, 0, 88, 60, 64];
        let limit = [if v6 { 41 } else { 4 }, 0, 4, 1, 4, 1, 1, 0];
        frame(&[&[0x86, 0xdd], &outer, &[0x20; 32], &limit, ip])
    }),
    ("MPLS in IP", 1, |ip, _| in_ip(137, &mpls(1), ip)),
    ("EtherIP", 1, |ip, v6| in_ip(97, &[0x30, 0], &ethernet(ip, v6))),
    ("VXLAN", 1, |ip, v6| in_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &ethernet(ip, v6))),
    ("VXLAN of Linux", 1, |ip, v6| in_udp(8472, &[8, 0, 0, 0, 0, 0, 7, 0], &ethernet(ip, v6))),
    ("VXLAN-GPE", 1, |ip, v6| in_udp(4790, &[12, 0, 0, 1 + u8::from(v6), 0, 0, 7, 0], ip)),
    ("VXLAN-GPE with NSH", 1, |ip, v6| {
        let nsh = [0, 2, 1, 1 + u8::from(v6), 0, 0, 1, 255];
        in_udp(4790, &[&[12, 0, 0, 4, 0, 0, 7, 0][..], &nsh].concat(), ip)
    }),
    ("Geneve", 1, |ip, v6| in_udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], &ethernet(ip, v6))),
    ("Geneve with options and IP", 1, |ip, v6| {
        let fixed = [&[2, 0][..], &ethertype(v6), &[0, 0, 7, 0]].concat();
        in_udp(6081, &[&fixed[..], &[1, 2, 0x80, 1, 0, 0, 0, 0]].concat(), ip)
    }),
    ("GUE", 1, |ip, v6| in_udp(6080, &[0, if v6 { 41 } else { 4 }, 0, 0], ip)),
    ("GTP-U", 1, |ip, _| in_udp(2152, &[0x30, 0xff, 0, 40, 0, 0, 0, 5], ip)),
    ("VXLAN in GRE in a tag", 1, |ip, v6| {
        let inner = in_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &ethernet(ip, v6));
        let outer = in_ip(47, &[0, 0, 0x65, 0x58], &inner);
        frame(&[&[0x81, 0, 0, 7], &outer[12..]])
    }),
];

/// Visits in frames of this kind.
fn framed((_, link, framing): Framing) -> Replay {
    let mut file = PcapNg::new(Order::Little);
    file.interface(link, 0, None);
    for (at, packet) in visits() {
        let v6 = packet[0] >> 4 == 6;
        file.enhanced(0, in_units(None, at), &framing(&packet, v6));
    }
    observe(&file.bytes)
}

#[test]
fn tcp_is_found_behind_every_link_layer_and_in_every_tunnel() {
    for framing in LINKS.into_iter().chain(TUNNELS) {
        assert_visits(&framed(framing), framing.0);
    }
}

/// Behind whatever byte a frame is cut, it holds the SYN or is too short, and is nothing else.
#[test]
fn frames_cut_at_every_byte_are_cut_short() {
    let (at, syn) = visits().swap_remove(0);
    for (name, link, framing) in LINKS.into_iter().chain(TUNNELS) {
        let whole = framing(&syn, false);
        for snap in 0..whole.len() {
            let mut file = PcapNg::new(Order::Big);
            file.interface(link, snap as u32, None);
            file.simple(&whole, snap);
            let replay = observe(&file.bytes);
            let skipped: Vec<&str> = replay.skipped.keys().map(String::as_str).collect();
            let seen = match (replay.syns, skipped.as_slice()) {
                (1, []) | (0, ["cut_short"]) => true,
                // The port of a datagram shows a tunnel.
                (0, ["not_tcp"]) => whole[..snap].len() < 14 + 8 + 20 + 8 + 60,
                _ => false,
            };
            assert!(seen, "{name} cut at {snap}, at {at}: {replay:?}");
        }
    }
}

#[test]
fn tunnels_are_walked_to_a_bound() {
    let (at, mut packet) = visits().swap_remove(0);
    for nested in 0..40 {
        let replay = observe(&PCAP.write(&[(at, packet.clone())]));
        // Ethernet, its type, and two headers for each IP packet.
        let (syns, deep) = if nested <= 14 { (1, None) } else { (0, Some(&1)) };
        assert_eq!((replay.syns, replay.skipped.get("too_deep")), (syns, deep), "{nested}");
        packet = tunnelled(4, &[], &packet);
    }
}

/// Frames in which no TCP can be seen: the reason, and the kind that the sentence names.
#[test]
fn what_is_not_read_is_named() {
    let rows: [(&str, &str, Framing); 18] = [
        ("not_tcp", "20 of EtherType 0x0806 (ARP)", ("ARP", 1, |ip, _| frame(&[&[8, 6], ip]))),
        ("not_tcp", "20 of EtherType 0xc000", ("DSA", 1, |ip, _| frame(&[&[0xc0, 0, 0, 0], ip]))),
        (
            "not_tcp",
            "20 of LLC SAP 0x42 (STP)",
            ("STP", 1, |_, _| frame(&[&[0, 38, 0x42, 0x42, 3]])),
        ),
        (
            "not_tcp",
            "20 of EtherType 0x8864 (PPPoE)",
            ("PADT", 1, |ip, _| frame(&[&[0x88, 0x64, 0x11, 0xa7, 0, 1, 0, 6], ip])),
        ),
        ("not_tcp", "20 of PPP protocol 0xc021 (LCP)", ("LCP", 9, |_, _| vec![0xc0, 0x21, 1, 1])),
        ("not_tcp", "20 of IP protocol 1 (ICMP)", ("ICMP", 1, |ip, _| in_ip(1, &[], ip))),
        ("not_tcp", "20 of IP protocol 17 (UDP)", ("DNS", 1, |ip, _| in_udp(53, &[], ip))),
        ("not_tcp", "20 of IP protocol 17 (UDP)", ("no VNI", 1, |ip, _| in_udp(4789, &[0; 8], ip))),
        (
            "not_tcp",
            "20 of EtherType 0x0806 (ARP)",
            ("ARP in VXLAN", 1, |ip, _| {
                in_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &frame(&[&[8, 6], ip]))
            }),
        ),
        ("not_tcp", "20 of IP version 5", ("raw", 101, |_, _| vec![0x50; 40])),
        ("link_type", "20 of link type 147 (USER0)", ("user", 147, |ip, _| ip.to_vec())),
        ("link_type", "20 of link type 300", ("unnamed", 300, |ip, _| ip.to_vec())),
        (
            "macsec",
            "20 of EtherType 0x88e5 (MACsec)",
            ("MACsec", 1, |ip, _| frame(&[&[0x88, 0xe5, 0x0c, 0, 0, 0, 0, 1], ip])),
        ),
        (
            "mpls",
            "20 of EtherType 0x8847 (MPLS)",
            ("pseudowire", 1, |ip, v6| {
                frame(&[&[0x88, 0x47], &mpls(1), &[0; 4], &ethernet(ip, v6)])
            }),
        ),
        ("esp", "20 of IP protocol 50 (ESP)", ("ESP", 1, |ip, _| in_ip(50, &[0, 0, 0, 1], ip))),
        (
            "esp",
            "20 of IP protocol 17 (UDP)",
            ("NAT-T", 1, |ip, _| in_udp(4500, &[0, 0, 0, 1], ip)),
        ),
        ("l2tp", "20 of IP protocol 115", ("L2TP", 1, |ip, _| in_ip(115, &[0, 0, 0, 1], ip))),
        (
            "wireguard",
            "20 of IP protocol 17 (UDP)",
            ("WireGuard", 1, |_, _| in_udp(51820, &[4, 0, 0, 0, 9, 9, 9, 9], &[9; 56])),
        ),
    ];
    for (why, kind, framing) in rows {
        let replay = framed(framing);
        let name = framing.0;
        assert_eq!((replay.skipped[why], replay.syns), (20, 0), "{name}: {:?}", replay.skipped);
        let unread = replay.unread().expect("all of it");
        assert_eq!((unread.why, unread.packets, unread.share()), (Some(why), 20, 1.0), "{name}");
        let note = text::unread_packets(&unread);
        assert!(
            replay.notes == [note.clone()] && note.contains(&format!("({why}): {kind}. Record")),
            "{note}"
        );
    }
}

#[test]
fn less_than_half_that_hides_tcp_is_not_said() {
    let hidden = visits().iter().map(in_esp).collect::<Vec<_>>();
    let some = observe(&PCAP.write(&in_order([&visits()[..], &hidden].concat())));
    assert_eq!((some.skipped["esp"], some.unread()), (20, None));
    // Packets without TCP hide nothing.
    let datagrams = visits().into_iter().map(|(at, ip)| (at, tunnelled(17, &[0; 8], &ip)));
    let packets = in_order(visits()[..5].iter().cloned().chain(datagrams).collect());
    let some = observe(&PCAP.write(&packets));
    assert_eq!((some.skipped["not_tcp"], some.unread()), (20, None));
}
