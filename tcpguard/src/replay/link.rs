//! Link layers: every packet becomes an Ethernet frame, which is the input of the decision.

use tcpguard_common::abi::Reason;

use super::capture::Packet;
use super::copies::Interface;
use super::encapsulation;

/// Longest frame made, in bytes: the largest IPv6 packet without a jumbo option, behind an Ethernet
/// header with two tags.
pub const MAX_FRAME: usize = 14 + 8 + 40 + 65_535;

const ETHERNET_HEADER: usize = 14;
/// EtherTypes of the IP versions.
pub const IPV4: [u8; 2] = [0x08, 0x00];
pub const IPV6: [u8; 2] = [0x86, 0xdd];

mod linktype {
    /// BSD loopback: address family in the capturing host's byte order.
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    /// Raw IP, as `DLT_RAW` is numbered on most systems and on OpenBSD.
    pub const RAW_DLT: u16 = 12;
    pub const RAW_OPENBSD: u16 = 14;
    pub const RAW: u16 = 101;
    /// OpenBSD loopback: address family in network byte order.
    pub const LOOP: u16 = 108;
    /// "Linux cooked" captures of any interface, versions 1 and 2.
    pub const LINUX_SLL: u16 = 113;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const LINUX_SLL2: u16 = 276;
}

/// Reason why no frame can be made of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// A link type that is not known here.
    LinkType(u16),
    /// Too few bytes were captured to identify the packet.
    CutShort,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// MPLS labels beyond those that are followed, or something else than IP behind them.
    Mpls,
}

impl Unreadable {
    /// Its name among the reasons for which packets are skipped.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkType(_) => "link_type",
            Self::CutShort => "cut_short",
            Self::NotIp => Reason::NotTcp.name(),
            Self::Mpls => "mpls",
        }
    }
}

/// Writes `packet` to `frame` as an Ethernet frame without PPPoE and MPLS. The frame has the length
/// that it had on the wire, and bytes that were not captured are zero. Returns how many of its
/// bytes were captured.
pub fn to_ethernet(packet: &Packet, frame: &mut Vec<u8>) -> Result<usize, Unreadable> {
    frame.clear();
    let bytes = &packet.bytes;
    let skipped = if packet.link == linktype::ETHERNET {
        0
    } else {
        let (protocol, header) = network(packet.link, bytes)?;
        frame.extend_from_slice(&[0; ETHERNET_HEADER - 2]);
        frame.extend_from_slice(&protocol);
        header
    };
    let added = frame.len();
    frame.extend_from_slice(bytes.get(skipped..).ok_or(Unreadable::CutShort)?);
    frame.truncate(MAX_FRAME);
    let captured = frame.len();
    let length = (packet.length as usize).saturating_sub(skipped) + added;
    // Loopback captures can hold less of a frame than an Ethernet header.
    frame.resize(length.clamp(captured, MAX_FRAME).max(ETHERNET_HEADER), 0);
    encapsulation::strip(frame, captured)
}

/// The interface that recorded a packet, where the capture names it.
pub fn interface(packet: &Packet) -> Option<Interface> {
    // A cooked capture of any interface is one interface to pcapng.
    if packet.link == linktype::LINUX_SLL2 {
        let index = packet.bytes.get(4..)?.first_chunk()?;
        return Some(Interface::Index(u32::from_be_bytes(*index)));
    }
    packet.interface.map(Interface::Described)
}

/// The EtherType of a packet and the length of its link-layer header.
fn network(link: u16, bytes: &[u8]) -> Result<([u8; 2], usize), Unreadable> {
    let field = |at| {
        let pair: &[u8] = bytes.get(at..at + 2).ok_or(Unreadable::CutShort)?;
        Ok([pair[0], pair[1]])
    };
    match link {
        linktype::RAW_DLT | linktype::RAW_OPENBSD | linktype::RAW => {
            match bytes.first().ok_or(Unreadable::CutShort)? >> 4 {
                4 => Ok((IPV4, 0)),
                6 => Ok((IPV6, 0)),
                _ => Err(Unreadable::NotIp),
            }
        }
        linktype::IPV4 => Ok((IPV4, 0)),
        linktype::IPV6 => Ok((IPV6, 0)),
        linktype::LINUX_SLL => Ok((field(14)?, 16)),
        linktype::LINUX_SLL2 => Ok((field(0)?, 20)),
        linktype::NULL | linktype::LOOP => {
            let family = bytes.first_chunk::<4>().ok_or(Unreadable::CutShort)?;
            // Families are small numbers, at whichever end they stand.
            match *family {
                [2, 0, 0, 0] | [0, 0, 0, 2] => Ok((IPV4, 4)),
                // AF_INET6 of Linux, of NetBSD and OpenBSD, of FreeBSD, and of macOS.
                [10 | 24 | 28 | 30, 0, 0, 0] | [0, 0, 0, 10 | 24 | 28 | 30] => Ok((IPV6, 4)),
                _ => Err(Unreadable::NotIp),
            }
        }
        other => Err(Unreadable::LinkType(other)),
    }
}
