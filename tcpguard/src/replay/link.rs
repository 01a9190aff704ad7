//! Link layers: every packet becomes an Ethernet frame, which is the input of the decision.

use super::capture::Packet;
use super::copies::Interface;
use super::encapsulation::{self, Header, MPLS, PPPOE, byte, field};
use super::unreadable::{Kind, Unreadable};

/// Longest frame made, in bytes: the largest IPv6 packet without a jumbo option.
pub const MAX_FRAME: usize = ADDRESSES + 2 + 40 + 65_535;

const ETHERNET: u16 = 1;
const LINUX_SLL2: u16 = 276;
/// Bytes of the addresses of an Ethernet frame.
const ADDRESSES: usize = 12;

/// Option of a packet of NFLOG that holds the packet itself (`NFULA_PAYLOAD`).
const PAYLOAD: u16 = 9;

/// Writes the innermost IP packet of `packet` to `frame` as an Ethernet frame without tags. It has the
/// length that it had on the wire, and bytes that were not captured are zero. Returns how many of its bytes
/// were captured.
pub fn to_ethernet(packet: &Packet, frame: &mut Vec<u8>) -> Result<usize, Unreadable> {
    let bytes = &packet.bytes;
    let whole = packet.length as usize <= bytes.len();
    let (protocol, at) = innermost(packet.link, bytes).map_err(|why| match why {
        Unreadable::CUT_SHORT if whole => Unreadable::MALFORMED,
        why => why,
    })?;
    let addresses = if packet.link == ETHERNET { &bytes[..ADDRESSES] } else { &[0; ADDRESSES] };
    frame.clear();
    frame.extend_from_slice(addresses);
    frame.extend_from_slice(&protocol);
    let added = frame.len();
    frame.extend_from_slice(&bytes[at..]);
    frame.truncate(MAX_FRAME);
    let captured = frame.len();
    let length = (packet.length as usize).saturating_sub(at) + added;
    frame.resize(length.clamp(captured, MAX_FRAME), 0);
    Ok(captured)
}

/// The interface that recorded a packet, where the capture names it.
pub fn interface(packet: &Packet) -> Option<Interface> {
    // A cooked capture of any interface is one interface to pcapng.
    if packet.link == LINUX_SLL2 {
        let index = packet.bytes.get(4..)?.first_chunk()?;
        return Some(Interface::Index(u32::from_be_bytes(*index)));
    }
    packet.interface.map(Interface::Described)
}

/// The EtherType and the offset of the innermost IP packet.
fn innermost(link: u16, bytes: &[u8]) -> Result<([u8; 2], usize), Unreadable> {
    let (header, at) = first(link, bytes)?;
    let inner = bytes.get(at..).ok_or(Unreadable::CUT_SHORT)?;
    encapsulation::innermost(inner, header).map(|(protocol, ip)| (protocol, at + ip))
}

/// The first header of a packet that [`encapsulation`] reads, and its offset, by the link type
/// (<https://www.tcpdump.org/linktypes.html>).
fn first(link: u16, bytes: &[u8]) -> Result<(Header, usize), Unreadable> {
    Ok(match link {
        ETHERNET => (Header::Ethernet, 0),
        // PPP, PPP in HDLC-like framing, and as pppd writes it: with the direction for an address.
        9 | 50 => (Header::Ppp, 0),
        166 => (Header::Ppp, 2),
        51 => (PPPOE, 0),
        // Raw IP, as `DLT_RAW` is numbered on most systems and on OpenBSD.
        12 | 14 | 101 => (Header::AnyIp, 0),
        // Cisco HDLC.
        104 => (Header::Type(field(bytes, 2)?), 4),
        // IPsec of OpenBSD, and its packet filter, which states the length of its header.
        109 => (Header::AnyIp, 12),
        117 => (Header::AnyIp, usize::from(byte(bytes, 0)?).next_multiple_of(4)),
        // "Linux cooked" captures of any interface, versions 1 and 2.
        113 => (Header::Type(field(bytes, 14)?), 16),
        LINUX_SLL2 => (Header::Type(field(bytes, 0)?), 20),
        219 => (MPLS, 0),
        228 => (Header::Ip(4), 0),
        229 => (Header::Ip(6), 0),
        239 => (Header::AnyIp, nflog(bytes)?),
        // BSD loopback: an address family in the capturing host's byte order (0), or the network's (108).
        // Families are small numbers, at whichever end they stand.
        0 | 108 => match *bytes.first_chunk::<4>().ok_or(Unreadable::CUT_SHORT)? {
            [2, 0, 0, 0] | [0, 0, 0, 2] => (Header::Ip(4), 4),
            // AF_INET6 of Linux, of NetBSD and OpenBSD, of FreeBSD, and of macOS.
            [10 | 24 | 28 | 30, 0, 0, 0] | [0, 0, 0, 10 | 24 | 28 | 30] => (Header::Ip(6), 4),
            _ => return Err(Unreadable::not_tcp(Kind::LinkType(link))),
        },
        other => return Err(Unreadable::hidden("link_type", Kind::LinkType(other))),
    })
}

/// The offset of the payload in a packet of NFLOG: options in the capturing host's byte order, of which no
/// number reaches 256.
fn nflog(bytes: &[u8]) -> Result<usize, Unreadable> {
    let mut at = 4;
    loop {
        let option = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let [a, b, c, d] = *option.ok_or(Unreadable::CUT_SHORT)?;
        let (length, number) = match d {
            0 => (u16::from_le_bytes([a, b]), u16::from(c)),
            _ => (u16::from_be_bytes([a, b]), u16::from(d)),
        };
        if number == PAYLOAD {
            return Ok(at + 4);
        }
        at += usize::from(length).max(4).next_multiple_of(4);
    }
}
