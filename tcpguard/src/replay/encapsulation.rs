//! Decapsulation of captured packets. PPPoE and MPLS headers are removed, as the devices in front
//! of a host do (`ppp0` has raw IP, a router pops labels). Only captures are treated this way. To
//! the BPF programs such a frame is no TCP: each further header that they walk costs the verifier,
//! and they could not reply behind it. A packet in a tunnel belongs to a connection of another host
//! until the tunnel's end and cannot be judged here. Its tunnel is named instead.

use tcpguard_common::wire::MAX_VLAN_TAGS;

use super::link::{IPV4, IPV6, Unreadable};

/// MPLS labels followed (RFC 3032 §2.1): a transport label, a VPN label and an entropy label.
const MPLS_LABELS: usize = 3;
/// Bytes of a label.
const LABEL: usize = 4;
/// Bytes of the headers of PPPoE (RFC 2516 §4) and PPP.
const PPPOE: usize = 8;

/// EtherTypes of VLAN tags, PPPoE sessions and MPLS.
mod ethertype {
    pub const VLAN: [u8; 2] = [0x81, 0x00];
    pub const SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];
    pub const PPPOE_SESSION: [u8; 2] = [0x88, 0x64];
    pub const MPLS: [u8; 2] = [0x88, 0x47];
    pub const MPLS_MULTICAST: [u8; 2] = [0x88, 0x48];
}

/// IP protocol numbers (<https://www.iana.org/assignments/protocol-numbers>).
mod protocol {
    pub const IPV4: u8 = 4;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const ETHERIP: u8 = 97;
    pub const L2TP: u8 = 115;
}

/// UDP ports of tunnels.
mod port {
    pub const GTP_U: u16 = 2152;
    pub const VXLAN: u16 = 4789;
    pub const GENEVE: u16 = 6081;
    /// VXLAN as Linux sends it by default.
    pub const VXLAN_LINUX: u16 = 8472;
}

/// Removes PPPoE and MPLS headers from an Ethernet frame, of which `captured` bytes were captured.
/// Returns how many captured bytes remain.
pub fn strip(frame: &mut Vec<u8>, captured: usize) -> Result<usize, Unreadable> {
    let Some((protocol, at)) = network(&frame[..captured]) else { return Ok(captured) };
    let inner = &frame[at..captured];
    let (protocol, header) = match protocol {
        ethertype::PPPOE_SESSION => pppoe(inner)?,
        ethertype::MPLS | ethertype::MPLS_MULTICAST => mpls(inner)?,
        _ => return Ok(captured),
    };
    frame.drain(at..at + header);
    frame[at - 2..at].copy_from_slice(&protocol);
    Ok(captured - header)
}

/// The tunnel of which an Ethernet frame without TCP is a packet, if it is one.
pub fn tunnel(frame: &[u8]) -> Option<&'static str> {
    let (protocol, at) = network(frame)?;
    let ip = &frame[at..];
    let (embedded, header) = match protocol {
        // Only the first fragment begins with the header of the carried protocol.
        IPV4 if field(ip, 6)? & 0x1fff != 0 => return None,
        IPV4 => (*ip.get(9)?, usize::from(ip[0] & 0x0f) * 4),
        IPV6 => (*ip.get(6)?, 40),
        _ => return None,
    };
    match embedded {
        protocol::IPV4 | protocol::IPV6 => Some("ip_in_ip"),
        protocol::GRE => Some("gre"),
        protocol::ESP => Some("esp"),
        protocol::ETHERIP => Some("etherip"),
        protocol::L2TP => Some("l2tp"),
        protocol::UDP => over_udp(ip.get(header..)?),
        _ => None,
    }
}

/// The tunnel of a UDP datagram, by its port and the fixed fields of the tunnel header.
fn over_udp(udp: &[u8]) -> Option<&'static str> {
    match (field(udp, 2)?, udp.get(8..)?) {
        // The VNI is valid (RFC 7348 §5).
        (port::VXLAN | port::VXLAN_LINUX, [flags, ..]) if flags & 0x08 != 0 => Some("vxlan"),
        // Version 0, Ethernet inside (RFC 8926 §3.4).
        (port::GENEVE, [version, _, 0x65, 0x58, ..]) if version >> 6 == 0 => Some("geneve"),
        // Version 1, a G-PDU (3GPP TS 29.281 §5.1).
        (port::GTP_U, [version, 0xff, ..]) if version >> 5 == 1 => Some("gtp_u"),
        _ => None,
    }
}

/// The network protocol of a frame behind its VLAN tags, and the offset of its header in bytes.
fn network(frame: &[u8]) -> Option<([u8; 2], usize)> {
    let mut at = 12;
    let mut protocol = field(frame, at)?.to_be_bytes();
    for _ in 0..MAX_VLAN_TAGS {
        if protocol != ethertype::VLAN && protocol != ethertype::SERVICE_VLAN {
            break;
        }
        at += 4;
        protocol = field(frame, at)?.to_be_bytes();
    }
    Some((protocol, at + 2))
}

fn pppoe(bytes: &[u8]) -> Result<([u8; 2], usize), Unreadable> {
    match bytes.first_chunk::<PPPOE>().ok_or(Unreadable::CutShort)? {
        // Version 1, type 1, session data, and IPv4 or IPv6 in PPP (RFC 1332, RFC 5072).
        [0x11, 0, .., 0x00, 0x21] => Ok((IPV4, PPPOE)),
        [0x11, 0, .., 0x00, 0x57] => Ok((IPV6, PPPOE)),
        _ => Err(Unreadable::NotIp),
    }
}

/// The protocol behind MPLS labels, and the length of the labels in bytes. Labels do not name the
/// protocol. Its first four bits identify IPv4 and IPv6.
fn mpls(bytes: &[u8]) -> Result<([u8; 2], usize), Unreadable> {
    for number in 0..MPLS_LABELS {
        let label = bytes.get(number * LABEL..(number + 1) * LABEL).ok_or(Unreadable::CutShort)?;
        let is_bottom_of_stack = label[2] & 1 == 1;
        if is_bottom_of_stack {
            let header = (number + 1) * LABEL;
            return match bytes.get(header).ok_or(Unreadable::CutShort)? >> 4 {
                4 => Ok((IPV4, header)),
                6 => Ok((IPV6, header)),
                _ => Err(Unreadable::Mpls),
            };
        }
    }
    Err(Unreadable::Mpls)
}

/// Two bytes at `at`.
fn field(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame of these layers.
    fn frame(layers: &[&[u8]]) -> Vec<u8> {
        [&[0_u8; 12][..], &layers.concat()].concat()
    }

    const V4: &[u8] = &[0x45, 0, 0, 40];
    const V6: &[u8] = &[0x60, 0, 0, 0];
    const VLAN: &[u8] = &[0x81, 0, 0, 7];

    #[test]
    fn pppoe_and_mpls_are_stripped_behind_vlan_tags_too() {
        let session = |protocol: u8| [0x88, 0x64, 0x11, 0, 0, 1, 0, 6, 0, protocol];
        let labels = |count: u8| {
            let stack = (1..=count).flat_map(|number| [0, 1, u8::from(number == count), 64]);
            [0x88, 0x47].into_iter().chain(stack).collect::<Vec<u8>>()
        };
        for (header, ip, protocol) in [
            (session(0x21).to_vec(), V4, IPV4),
            (session(0x57).to_vec(), V6, IPV6),
            (labels(1), V4, IPV4),
            (labels(2), V6, IPV6),
            (labels(3), V4, IPV4),
        ] {
            for tags in 0..=MAX_VLAN_TAGS {
                let tags = VLAN.repeat(tags);
                let mut walked = frame(&[&tags, &header, ip]);
                let captured = walked.len();
                let left = strip(&mut walked, captured);
                assert_eq!(walked, frame(&[&tags, &protocol, ip]));
                assert_eq!(left, Ok(walked.len()));
            }
        }
        let mut deep = frame(&[&labels(4), V4]);
        let captured = deep.len();
        assert_eq!(strip(&mut deep, captured), Err(Unreadable::Mpls));
    }

    #[test]
    fn what_is_no_ip_or_was_cut_off_is_said() {
        for (layers, why) in [
            (&[0x88, 0x64, 0x11, 0, 0, 1, 0, 6, 0xc0, 0x21][..], Unreadable::NotIp),
            (&[0x88, 0x64, 0x11, 0xa7, 0, 1, 0, 6, 0, 0x21], Unreadable::NotIp),
            (&[0x88, 0x64, 0x11, 0, 0], Unreadable::CutShort),
            (&[0x88, 0x47, 0, 1, 1, 64], Unreadable::CutShort),
            (&[0x88, 0x47, 0, 1, 0, 64, 0], Unreadable::CutShort),
            // A pseudowire's control word (RFC 4385).
            (&[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 0], Unreadable::Mpls),
        ] {
            let mut frame = frame(&[layers]);
            let captured = frame.len();
            assert_eq!(strip(&mut frame, captured), Err(why), "{layers:x?}");
        }
        for length in 0..18 {
            let mut plain = frame(&[VLAN, &IPV4])[..length].to_vec();
            assert_eq!(strip(&mut plain, length), Ok(length));
        }
    }

    #[test]
    fn tunnels_are_named() {
        let v4 = |protocol: u8, inner: &[u8]| {
            let mut ip = vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, protocol];
            ip.resize(20, 0);
            frame(&[&IPV4, &ip, inner])
        };
        let v6 = |protocol: u8, inner: &[u8]| {
            let mut ip = vec![0x60, 0, 0, 0, 0, 20, protocol];
            ip.resize(40, 0);
            frame(&[VLAN, &IPV6, &ip, inner])
        };
        let udp = |port: u16, inner: &[u8]| {
            let [high, low] = port.to_be_bytes();
            [&[0, 9, high, low, 0, 8, 0, 0][..], inner].concat()
        };
        for (protocol, name) in [
            (4, Some("ip_in_ip")),
            (41, Some("ip_in_ip")),
            (47, Some("gre")),
            (50, Some("esp")),
            (97, Some("etherip")),
            (115, Some("l2tp")),
            (1, None),
            (6, None),
        ] {
            assert_eq!(tunnel(&v4(protocol, &[])), name, "{protocol}");
            assert_eq!(tunnel(&v6(protocol, &[])), name, "{protocol}");
        }
        for (port, inner, name) in [
            (4789, &[8, 0, 0, 0][..], Some("vxlan")),
            (8472, &[8, 0, 0, 0], Some("vxlan")),
            (4789, &[0, 0, 0, 0], None),
            (6081, &[0, 0, 0x65, 0x58], Some("geneve")),
            (6081, b"text", None),
            (2152, &[0x30, 0xff, 0, 8], Some("gtp_u")),
            (2152, &[0x32, 1, 0, 8], None),
            (443, &[8, 0, 0, 0], None),
            (4789, &[], None),
        ] {
            assert_eq!(tunnel(&v4(17, &udp(port, inner))), name, "{port}");
            assert_eq!(tunnel(&v6(17, &udp(port, inner))), name, "{port}");
        }
        let mut later = v4(47, &[]);
        later[14 + 7] = 1;
        assert_eq!(tunnel(&later), None, "a later fragment");
        for length in 0..40 {
            tunnel(&v4(17, &udp(4789, &[8]))[..length]);
        }
    }
}
