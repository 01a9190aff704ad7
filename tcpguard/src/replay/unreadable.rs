//! Packets of a capture in which no TCP segment could be read.

use std::fmt;

use tcpguard_common::abi::Reason;
use tcpguard_common::wire::Skip;

use crate::documents::replay::CUT_SHORT;

/// Reason why no TCP segment could be read from a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// Its name among the reasons for which packets are skipped.
    pub reason: &'static str,
    /// Kind of the content in the place of TCP.
    pub kind: Option<Kind>,
}

/// Kind of a frame, by the number in its last header that was read.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    LinkType(u16),
    EtherType(u16),
    /// Service access point of a frame without an EtherType.
    Llc(u8),
    Ppp(u16),
    IpVersion(u8),
    Protocol(u8),
}

impl Unreadable {
    /// Too few bytes were captured to identify the packet.
    pub const CUT_SHORT: Self = Self { reason: CUT_SHORT, kind: None };
    /// More headers than are walked.
    pub const TOO_DEEP: Self = Self { reason: "too_deep", kind: None };
    /// The packet is shorter than its headers.
    pub const MALFORMED: Self = Self { reason: Reason::Malformed.name(), kind: None };

    /// Another protocol than TCP.
    pub const fn not_tcp(kind: Kind) -> Self {
        Self::hidden(Reason::NotTcp.name(), kind)
    }

    /// A frame in which there may be TCP.
    pub const fn hidden(reason: &'static str, kind: Kind) -> Self {
        Self { reason, kind: Some(kind) }
    }
}

impl From<Skip> for Unreadable {
    fn from(skip: Skip) -> Self {
        Self { reason: Reason::from(skip).name(), kind: None }
    }
}

/// Names of frequent kinds (<https://www.tcpdump.org/linktypes.html>, IANA).
const NAMES: [(Kind, &str); 47] = [
    (Kind::LinkType(6), "IEEE802_5"),
    (Kind::LinkType(8), "SLIP"),
    (Kind::LinkType(10), "FDDI"),
    (Kind::LinkType(11), "ATM_RFC1483"),
    (Kind::LinkType(105), "IEEE802_11"),
    (Kind::LinkType(107), "FRELAY"),
    (Kind::LinkType(119), "IEEE802_11_PRISM"),
    (Kind::LinkType(127), "IEEE802_11_RADIOTAP"),
    (Kind::LinkType(143), "DOCSIS"),
    (Kind::LinkType(147), "USER0"),
    (Kind::LinkType(177), "LINUX_LAPD"),
    (Kind::LinkType(187), "BLUETOOTH_HCI_H4"),
    (Kind::LinkType(189), "USB_LINUX"),
    (Kind::LinkType(192), "PPI"),
    (Kind::LinkType(195), "IEEE802_15_4_WITHFCS"),
    (Kind::LinkType(201), "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (Kind::LinkType(220), "USB_LINUX_MMAPPED"),
    (Kind::LinkType(226), "IPNET"),
    (Kind::LinkType(227), "CAN_SOCKETCAN"),
    (Kind::LinkType(240), "NETANALYZER"),
    (Kind::LinkType(252), "WIRESHARK_UPPER_PDU"),
    (Kind::LinkType(253), "NETLINK"),
    (Kind::LinkType(271), "VSOCK"),
    (Kind::EtherType(0x0806), "ARP"),
    (Kind::EtherType(0x8809), "LACP"),
    (Kind::EtherType(0x8847), "MPLS"),
    (Kind::EtherType(0x8863), "PPPoE discovery"),
    (Kind::EtherType(0x8864), "PPPoE"),
    (Kind::EtherType(0x888e), "EAPOL"),
    (Kind::EtherType(0x88cc), "LLDP"),
    (Kind::EtherType(0x88e5), "MACsec"),
    (Kind::EtherType(0x88f7), "PTP"),
    (Kind::EtherType(0x8906), "FCoE"),
    (Kind::Llc(0x42), "STP"),
    (Kind::Llc(0xaa), "SNAP"),
    (Kind::Llc(0xfe), "ISO"),
    (Kind::Ppp(0x00fd), "compressed"),
    (Kind::Ppp(0xc021), "LCP"),
    (Kind::Protocol(1), "ICMP"),
    (Kind::Protocol(2), "IGMP"),
    (Kind::Protocol(17), "UDP"),
    (Kind::Protocol(47), "GRE"),
    (Kind::Protocol(50), "ESP"),
    (Kind::Protocol(51), "AH"),
    (Kind::Protocol(58), "ICMPv6"),
    (Kind::Protocol(112), "VRRP"),
    (Kind::Protocol(132), "SCTP"),
];

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkType(number) => write!(out, "link type {number}"),
            Self::EtherType(number) => write!(out, "EtherType {number:#06x}"),
            Self::Llc(number) => write!(out, "LLC SAP {number:#04x}"),
            Self::Ppp(number) => write!(out, "PPP protocol {number:#06x}"),
            Self::IpVersion(number) => write!(out, "IP version {number}"),
            Self::Protocol(number) => write!(out, "IP protocol {number}"),
        }?;
        match NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => write!(out, " ({name})"),
            None => Ok(()),
        }
    }
}
