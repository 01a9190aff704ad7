//! SYNs that no benign sender sends: every field of every header can have a wrong value. Lengths and
//! checksums are right unless a field says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::packet::{Mac, fold, sum};

/// Values of the EtherType field.
pub mod ethertype {
    /// EtherType of IPv4.
    pub const IPV4: u16 = 0x0800;
    /// EtherType of IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A customer's VLAN tag.
    pub const VLAN: u16 = 0x8100;
    /// A provider's VLAN tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// IPv6 extension headers and other protocols, by their numbers.
pub mod next {
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    /// Routing header, a list of nodes to visit.
    pub const ROUTING: u8 = 43;
    /// Fragment header, before a part of a packet.
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AH: u8 = 51;
    pub const NONE: u8 = 59;
    pub const DESTINATION: u8 = 60;
}

const SYN: u16 = 2;

/// A SYN, with everything that can be odd about it.
#[derive(Clone, Debug)]
pub struct Odd {
    /// Ethernet destination and source.
    pub macs: [Mac; 2],
    /// VLAN tags, outermost first: EtherType and control information.
    pub tags: Vec<(u16, u16)>,
    /// EtherType of the payload that the frame claims.
    pub ethertype: u16,
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    pub version: u8,
    /// IPv4: bytes of options, padded with zeros to a multiple of four.
    pub ip_options: Vec<u8>,
    /// IPv4: header length in words; `None`: the right one.
    pub ihl: Option<u8>,
    /// Number that is added to the length in the IP header.
    pub length_off: i32,
    /// IPv4: flags and offset of the fragment.
    pub fragment: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol that follows the IP header and extension headers.
    pub protocol: u8,
    /// IPv4: number that is added to the checksum.
    pub ip_checksum_off: u16,
    /// IPv6: extension headers: their number, and all after the first byte.
    pub chain: Vec<(u8, Vec<u8>)>,
    /// Source port and destination port.
    pub ports: [u16; 2],
    pub seq: u32,
    pub ack: u32,
    /// TCP: header length in words; `None`: the right one.
    pub offset: Option<u8>,
    /// The twelve bits after the offset.
    pub flags: u16,
    pub window: u16,
    pub urgent: u16,
    /// TCP options, padded with zeros to a multiple of four.
    pub options: Vec<u8>,
    /// TCP: number that is added to the checksum.
    pub checksum_off: u16,
    /// Data behind the TCP header.
    pub payload: Vec<u8>,
    /// Bytes behind the packet in the frame.
    pub trailer: Vec<u8>,
}

impl Odd {
    /// A SYN about which nothing is odd.
    pub fn new(macs: [Mac; 2], src: IpAddr, dst: IpAddr, ports: [u16; 2]) -> Self {
        let v4 = dst.is_ipv4();
        Self {
            macs,
            tags: Vec::new(),
            ethertype: if v4 { ethertype::IPV4 } else { ethertype::IPV6 },
            src,
            dst,
            version: if v4 { 4 } else { 6 },
            ip_options: Vec::new(),
            ihl: None,
            length_off: 0,
            fragment: 0,
            ttl: 64,
            protocol: next::TCP,
            ip_checksum_off: 0,
            chain: Vec::new(),
            ports,
            seq: 1,
            ack: 0,
            offset: None,
            flags: SYN,
            window: 64_240,
            urgent: 0,
            options: vec![2, 4, 5, 180],
            checksum_off: 0,
            payload: Vec::new(),
            trailer: Vec::new(),
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.ethernet();
        self.ip(&mut frame, &self.segment(), self.fragment);
        frame.extend(&self.trailer);
        frame
    }

    /// The packet in fragments that end at these offsets in the payload of the IP header, each a multiple of
    /// eight. The last fragment holds the rest.
    ///
    /// # Panics
    /// For invalid offsets.
    pub fn fragments(&self, ends: &[usize]) -> Vec<Vec<u8>> {
        let segment = self.segment();
        let mut from = 0_usize;
        let ends = ends.iter().copied().chain([segment.len()]);
        let pieces = ends.map(|end| {
            assert!(from.is_multiple_of(8) && from < end, "{from}..{end}");
            let part = &segment[from..end];
            let more = u16::from(end != segment.len());
            let mut frame = self.ethernet();
            if self.dst.is_ipv4() {
                self.ip(&mut frame, part, more << 13 | (from / 8) as u16);
            } else {
                let place = (from as u16 | more).to_be_bytes();
                let header = vec![0, place[0], place[1], 0, 0, 0, 7];
                let chain = vec![(next::FRAGMENT, header)];
                Self { chain, ..self.clone() }.ip(&mut frame, part, 0);
            }
            from = end;
            frame
        });
        pieces.collect()
    }

    fn ethernet(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(self.ethertype.to_be_bytes());
        frame
    }

    fn ip(&self, frame: &mut Vec<u8>, payload: &[u8], fragment: u16) {
        let start = frame.len();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = 20 + self.ip_options.len().next_multiple_of(4);
                let ihl = self.ihl.unwrap_or((header / 4) as u8);
                let total = (header + payload.len()) as i32 + self.length_off;
                frame.extend([self.version << 4 | ihl & 15, 0]);
                frame.extend((total as u16).to_be_bytes());
                // Fragments of one packet are known by it.
                frame.extend(self.ports[0].to_be_bytes());
                frame.extend(fragment.to_be_bytes());
                frame.extend([self.ttl, self.protocol, 0, 0]);
                frame.extend([src.octets(), dst.octets()].concat());
                frame.extend(&self.ip_options);
                frame.resize(start + header, 0);
                // The stack sums up as many words as the header says it has.
                let end = (start + usize::from(ihl & 15) * 4).clamp(start + 12, frame.len());
                let checksum = fold(sum(&frame[start..end])).wrapping_add(self.ip_checksum_off);
                frame[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let kinds = self.chain.iter().map(|(kind, _)| *kind).chain([self.protocol]);
                let kinds: Vec<u8> = kinds.collect();
                let extensions: usize = self.chain.iter().map(|(_, body)| 1 + body.len()).sum();
                let length = (extensions + payload.len()) as i32 + self.length_off;
                frame.extend([self.version << 4, 0, 0, 0]);
                frame.extend((length as u16).to_be_bytes());
                frame.extend([kinds[0], self.ttl]);
                frame.extend([src.octets(), dst.octets()].concat());
                for ((_, body), next) in self.chain.iter().zip(&kinds[1..]) {
                    frame.push(*next);
                    frame.extend(body);
                }
            }
            (src, dst) => panic!("no packet goes from {src} to {dst}"),
        }
        frame.extend(payload);
    }

    fn segment(&self) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let offset = self.offset.unwrap_or((5 + options / 4) as u8);
        let mut tcp = self.ports.map(u16::to_be_bytes).concat();
        tcp.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
        tcp.extend((u16::from(offset) << 12 | self.flags & 0x0fff).to_be_bytes());
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&self.options);
        tcp.resize(20 + options, 0);
        tcp.extend(&self.payload);
        // A receiver that cuts the packet by its length in the IP header computes the checksum of the
        // remaining bytes.
        let whole = tcp.len() as i32;
        let counted = (whole + self.length_off).clamp(0, whole) as usize;
        let addresses = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&src.octets()) + sum(&dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&src.octets()) + sum(&dst.octets()),
            (src, dst) => panic!("no packet goes from {src} to {dst}"),
        };
        let pseudo = addresses + u64::from(next::TCP) + counted as u64;
        let checksum = fold(pseudo + sum(&tcp[..counted])).wrapping_add(self.checksum_off);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        tcp
    }
}

/// An extension header for [`Odd::chain`] of options that mean nothing (PadN of at most seven bytes, as
/// the stack allows), `words` times eight bytes long.
pub fn padding(kind: u8, words: u8) -> (u8, Vec<u8>) {
    let mut body = vec![words - 1, 1, 4, 0, 0, 0, 0];
    for _ in 1..words {
        // An unknown option that is to be skipped.
        body.extend([0x1e, 6, 0, 0, 0, 0, 0, 0]);
    }
    (kind, body)
}

/// Addresses that no other host has, for many SYNs that must be distinguished.
pub fn new_client(v4: bool, number: u32) -> IpAddr {
    if v4 {
        Ipv4Addr::from_bits(0xc612_0000 | number & 0x0001_ffff).into()
    } else {
        Ipv6Addr::from_bits(0x2001_0db8_00ff_0000_0000_0000_0000_0000 | u128::from(number)).into()
    }
}
