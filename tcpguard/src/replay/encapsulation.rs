//! Decapsulation of captured packets: from the first header down to the innermost IP packet.
//!
//! Tunnels are looked into without an option. A mirror port has no "tunnel's own interface" to record on,
//! and the outer packet of a tunnel has no TCP that would be judged in its place. A packet that a host's
//! capture holds outside and inside of a tunnel is a copy like any other. Only captures are treated this
//! way: to the BPF programs such a frame is no TCP, since each further header that they walk costs the
//! verifier, and they could not reply behind it.

use super::unreadable::{Kind, Unreadable};

/// Headers walked at most: those of three nested tunnels of tagged Ethernet frames. Each label and tag is one.
const MAX_HEADERS: usize = 32;

/// EtherTypes (<https://www.iana.org/assignments/ieee-802-numbers>).
mod ethertype {
    /// Smaller numbers are the length of a frame of LLC (IEEE 802.3 §3.2.6).
    pub const FIRST: u16 = 0x0600;
    pub const IPV4: u16 = 0x0800;
    pub const IPV6: u16 = 0x86dd;
    /// Customer and service tags, and service tags from before IEEE 802.1ad.
    pub const VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
    /// Ethernet in a tunnel.
    pub const BRIDGED: u16 = 0x6558;
    pub const PPP: u16 = 0x880b;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MULTICAST: u16 = 0x8848;
    pub const PPPOE_SESSION: u16 = 0x8864;
    pub const ERSPAN: u16 = 0x88be;
    pub const ERSPAN_III: u16 = 0x22eb;
    pub const MACSEC: u16 = 0x88e5;
    pub const NSH: u16 = 0x894f;
}

/// IP protocol numbers (<https://www.iana.org/assignments/protocol-numbers>).
mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const DESTINATION: u8 = 60;
    pub const ETHERIP: u8 = 97;
    pub const L2TP: u8 = 115;
    pub const MPLS: u8 = 137;
}

/// UDP ports of tunnels.
mod port {
    pub const GTP_U: u16 = 2152;
    pub const IPSEC: u16 = 4500;
    pub const VXLAN: u16 = 4789;
    pub const VXLAN_GPE: u16 = 4790;
    pub const GUE: u16 = 6080;
    pub const GENEVE: u16 = 6081;
    /// VXLAN as Linux sends it by default.
    pub const VXLAN_LINUX: u16 = 8472;
}

/// Header or content that begins at a place in a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Header {
    /// The addresses of an Ethernet frame.
    Ethernet,
    /// The header that this EtherType announces.
    Type(u16),
    Ppp,
    /// IP of this version.
    Ip(u8),
    /// IP of the version that it states itself.
    AnyIp,
    /// Content of an IP packet with this protocol number.
    Carried(u8),
}

pub const MPLS: Header = Header::Type(ethertype::MPLS);
pub const PPPOE: Header = Header::Type(ethertype::PPPOE_SESSION);

/// The header after another one, and the length of that other one in bytes.
type Step = Result<(Header, usize), Unreadable>;

/// The EtherType and the offset of the innermost IP packet in `bytes`, whose first header is `header`. It
/// carries TCP, is a fragment, or is malformed.
pub fn innermost(bytes: &[u8], mut header: Header) -> Result<([u8; 2], usize), Unreadable> {
    let (mut at, mut ip) = (0, None);
    for _ in 0..MAX_HEADERS {
        let rest = bytes.get(at..).ok_or(Unreadable::CUT_SHORT)?;
        let (next, length) = match header {
            Header::Ethernet => (Header::Type(field(rest, 12)?), 14),
            Header::Type(kind) => behind_type(kind, rest)?,
            Header::Ppp => behind_ppp(rest)?,
            Header::AnyIp => (Header::Ip(byte(rest, 0)? >> 4), 0),
            Header::Ip(version) => {
                let kind = if version == 4 { ethertype::IPV4 } else { ethertype::IPV6 };
                ip = Some((kind.to_be_bytes(), at));
                behind_ip(version, rest)?
            }
            Header::Carried(protocol::TCP | protocol::FRAGMENT) => {
                return ip.ok_or(Unreadable::TOO_DEEP);
            }
            Header::Carried(protocol) => behind_carried(protocol, rest)?,
        };
        (header, at) = (next, at + length);
    }
    Err(Unreadable::TOO_DEEP)
}

fn behind_type(kind: u16, rest: &[u8]) -> Step {
    let unread = Err(Unreadable::not_tcp(Kind::EtherType(kind)));
    Ok(match kind {
        ethertype::IPV4 => (Header::Ip(4), 0),
        ethertype::IPV6 => (Header::Ip(6), 0),
        _ if ethertype::VLAN.contains(&kind) => (Header::Type(field(rest, 2)?), 4),
        ethertype::BRIDGED => (Header::Ethernet, 0),
        ethertype::PPP => (Header::Ppp, 0),
        // Version 1, type 1, session data (RFC 2516 §4).
        ethertype::PPPOE_SESSION => match (byte(rest, 0)?, byte(rest, 1)?) {
            (0x11, 0) => (Header::Ppp, 6),
            _ => return unread,
        },
        // Labels do not name what is behind them (RFC 3032 §2.1). Its first four bits identify IP.
        ethertype::MPLS | ethertype::MPLS_MULTICAST => match byte(rest, 2)? & 1 {
            0 => (Header::Type(kind), 4),
            _ if matches!(byte(rest, 4)? >> 4, 4 | 6) => (Header::AnyIp, 4),
            _ => return Err(Unreadable::hidden("mpls", Kind::EtherType(kind))),
        },
        // The length in words, and the next protocol (RFC 8300 §2.2).
        ethertype::NSH => (behind_shim(byte(rest, 3)?), usize::from(byte(rest, 1)? & 0x3f) * 4),
        // Integrity only, with or without an SCI (IEEE 802.1AE §9).
        ethertype::MACSEC => match byte(rest, 0)? {
            control if control & 0x0c != 0 => {
                return Err(Unreadable::hidden("macsec", Kind::EtherType(kind)));
            }
            control => {
                let tag = if control & 0x20 == 0 { 6 } else { 14 };
                (Header::Type(field(rest, tag)?), tag + 2)
            }
        },
        ..ethertype::FIRST => match rest {
            // SNAP (RFC 1042), and bridged as IEEE 802.1H has it.
            [0xaa, 0xaa, 3, 0, 0, 0 | 0xf8, _, _, ..] => (Header::Type(field(rest, 6)?), 8),
            _ => return Err(Unreadable::not_tcp(Kind::Llc(byte(rest, 0)?))),
        },
        _ => return unread,
    })
}

/// Next protocol by the numbers of NSH and VXLAN-GPE.
fn behind_shim(number: u8) -> Header {
    match number {
        1 => Header::Ip(4),
        2 => Header::Ip(6),
        3 => Header::Ethernet,
        4 => Header::Type(ethertype::NSH),
        5 => MPLS,
        other => Header::Type(other.into()),
    }
}

/// PPP (RFC 1661 §2), with or without address and control, and with a protocol field of one byte or two.
fn behind_ppp(rest: &[u8]) -> Step {
    let start = if rest.starts_with(&[0xff, 3]) { 2 } else { 0 };
    let (protocol, length) = match byte(rest, start)? {
        short if short & 1 == 1 => (short.into(), start + 1),
        _ => (field(rest, start)?, start + 2),
    };
    match protocol {
        0x21 => Ok((Header::Ip(4), length)),
        0x57 => Ok((Header::Ip(6), length)),
        0x281 | 0x283 => Ok((MPLS, length)),
        other => Err(Unreadable::not_tcp(Kind::Ppp(other))),
    }
}

fn behind_ip(version: u8, rest: &[u8]) -> Step {
    match version {
        // Only the first fragment begins with the header of the carried protocol.
        4 if field(rest, 6)? & 0x1fff != 0 => Ok((Header::Carried(protocol::FRAGMENT), 0)),
        4 => match byte(rest, 0)? & 0x0f {
            ..5 => Ok((Header::Carried(protocol::FRAGMENT), 0)),
            words => Ok((Header::Carried(byte(rest, 9)?), usize::from(words) * 4)),
        },
        6 => Ok((Header::Carried(byte(rest, 6)?), 40)),
        _ => Err(Unreadable::not_tcp(Kind::IpVersion(version))),
    }
}

fn behind_carried(number: u8, rest: &[u8]) -> Step {
    Ok(match number {
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
            (Header::Carried(byte(rest, 0)?), (usize::from(byte(rest, 1)?) + 1) * 8)
        }
        protocol::IPV4 => (Header::Ip(4), 0),
        protocol::IPV6 => (Header::Ip(6), 0),
        protocol::UDP => return behind_udp(rest),
        protocol::GRE => return behind_gre(rest),
        protocol::ETHERIP => (Header::Ethernet, 2),
        protocol::MPLS => (MPLS, 0),
        protocol::ESP => return Err(Unreadable::hidden("esp", Kind::Protocol(number))),
        protocol::L2TP => return Err(Unreadable::hidden("l2tp", Kind::Protocol(number))),
        _ => return Err(Unreadable::not_tcp(Kind::Protocol(number))),
    })
}

/// GRE (RFC 2784, with key and number of RFC 2890; RFC 2637), and ERSPAN in it.
fn behind_gre(rest: &[u8]) -> Step {
    let (flags, kind) = (field(rest, 0)?, field(rest, 2)?);
    let routed = flags & 0x4000 != 0;
    if routed {
        return Err(Unreadable::hidden("gre", Kind::Protocol(protocol::GRE)));
    }
    // Checksum, key, sequence number, and acknowledgement.
    let fields = [0x8000, 0x2000, 0x1000, 0x0080].into_iter().filter(|bit| flags & bit != 0);
    let length = 4 + 4 * fields.count();
    let numbered = flags & 0x1000 != 0;
    match kind {
        // Type I has no header of its own, and GRE no number.
        ethertype::ERSPAN => Ok((Header::Ethernet, length + if numbered { 8 } else { 0 })),
        ethertype::ERSPAN_III => {
            let last = field(rest, length + 10)?;
            let inner = if last >> 10 & 0x1f == 2 { Header::AnyIp } else { Header::Ethernet };
            Ok((inner, length + if last & 1 == 1 { 20 } else { 12 }))
        }
        _ => Ok((Header::Type(kind), length)),
    }
}

/// A tunnel over UDP, by its port and the fixed fields of its header.
fn behind_udp(rest: &[u8]) -> Step {
    let no_tcp = Unreadable::not_tcp(Kind::Protocol(protocol::UDP));
    let Some((udp, inner)) = rest.split_first_chunk::<8>() else { return Err(no_tcp) };
    let hidden = |reason| Err(Unreadable::hidden(reason, Kind::Protocol(protocol::UDP)));
    match (u16::from_be_bytes([udp[2], udp[3]]), inner) {
        // The VNI is valid (RFC 7348 §5).
        (port::VXLAN | port::VXLAN_LINUX, [flags, ..]) if flags & 0x08 != 0 => {
            Ok((Header::Ethernet, 16))
        }
        // So is the next protocol (draft-ietf-nvo3-vxlan-gpe).
        (port::VXLAN_GPE, [flags, _, _, next, ..]) if flags & 0x0c == 0x0c => {
            Ok((behind_shim(*next), 16))
        }
        // Version 0 (RFC 8926 §3.4).
        (port::GENEVE, [options, _, high, low, ..]) if options >> 6 == 0 => {
            let length = 16 + usize::from(options & 0x3f) * 4;
            Ok((Header::Type(u16::from_be_bytes([*high, *low])), length))
        }
        // Version 0, data (draft-ietf-intarea-gue).
        (port::GUE, [length, carried, ..]) if length >> 5 == 0 => {
            Ok((Header::Carried(*carried), 12 + usize::from(length & 0x1f) * 4))
        }
        // Version 1, a G-PDU, without optional fields (3GPP TS 29.281 §5.1).
        (port::GTP_U, [0x30, 0xff, ..]) => Ok((Header::AnyIp, 16)),
        (port::GTP_U, [version, 0xff, ..]) if version >> 5 == 1 => hidden("gtp_u"),
        // The SPI of ESP is not 0 (RFC 3948 §2.2).
        (port::IPSEC, [0, 0, 0, 0, ..]) => Err(no_tcp),
        (port::IPSEC, [_, _, _, _, ..]) => hidden("esp"),
        // Data of WireGuard, on any port: type 4, and padded to 16 bytes.
        (_, [4, 0, 0, 0, ..]) if udp[5] & 0x0f == 8 => hidden("wireguard"),
        _ => Err(no_tcp),
    }
}

/// The byte at `at`.
pub fn byte(bytes: &[u8], at: usize) -> Result<u8, Unreadable> {
    bytes.get(at).copied().ok_or(Unreadable::CUT_SHORT)
}

/// Two bytes at `at`.
pub fn field(bytes: &[u8], at: usize) -> Result<u16, Unreadable> {
    let pair = bytes.get(at..at + 2).ok_or(Unreadable::CUT_SHORT)?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}
