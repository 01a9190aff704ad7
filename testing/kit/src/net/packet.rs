//! Frames, built field by field: Ethernet, VLAN tags, IPv4 or IPv6, TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP flag bits (RFC 9293 §3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    /// Push function: the receiver passes the data on without delay.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

pub type Mac = [u8; 6];

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_TCP: u8 = 6;
const ETHERNET_HEADER: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;

/// One TCP segment in its frame. Integers are in host byte order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    /// VLAN tags, outermost first: EtherType (0x8100 or 0x88a8) and tag control information.
    pub vlans: Vec<(u16, u16)>,
    /// Source address and port. Both addresses must be of one family.
    pub src: SocketAddr,
    /// Destination address and port.
    pub dst: SocketAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// IPv4 identification.
    pub ip_id: u16,
    /// TCP flag bits: see [`flags`].
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub urgent: u16,
    /// TCP options as on the wire; padded with zeros to a multiple of four. At most 40 bytes.
    pub options: Vec<u8>,
    /// Data behind the TCP header.
    pub payload: Vec<u8>,
}

impl Segment {
    /// A segment with the given ends and flags, TTL 64, and everything else zero or empty.
    pub fn new(src: SocketAddr, dst: SocketAddr, flags: u8) -> Self {
        Self {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            vlans: Vec::new(),
            src,
            dst,
            ttl: 64,
            dont_fragment: false,
            ip_id: 0,
            flags,
            seq: 0,
            ack: 0,
            window: 0,
            urgent: 0,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// The frame as on the wire, with right lengths and checksums.
    ///
    /// # Panics
    /// When the addresses are of two families or the options are longer than 40 bytes.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128 + self.payload.len());
        self.write_frame(&mut frame);
        frame
    }

    /// Like [`Self::to_frame`], into a buffer that is cleared first and can be used again.
    pub fn write_frame(&self, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend_from_slice(&self.dst_mac);
        frame.extend_from_slice(&self.src_mac);
        for (ethertype, tci) in &self.vlans {
            frame.extend_from_slice(&ethertype.to_be_bytes());
            frame.extend_from_slice(&tci.to_be_bytes());
        }
        let options = self.options.len().next_multiple_of(4);
        assert!(options <= 40, "TCP has room for 40 bytes of options, not {options}");
        let tcp_length = TCP_HEADER + options + self.payload.len();
        let pseudo_header = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
                self.write_ipv4(frame, src, dst, tcp_length);
                sum(&src.octets()) + sum(&dst.octets())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
                self.write_ipv6(frame, src, dst, tcp_length);
                sum(&src.octets()) + sum(&dst.octets())
            }
            (src, dst) => panic!("a segment cannot go from {src} to {dst}"),
        } + u64::from(PROTOCOL_TCP)
            + tcp_length as u64;
        let tcp = frame.len();
        frame.extend_from_slice(&self.src.port().to_be_bytes());
        frame.extend_from_slice(&self.dst.port().to_be_bytes());
        frame.extend_from_slice(&self.seq.to_be_bytes());
        frame.extend_from_slice(&self.ack.to_be_bytes());
        frame.push((((TCP_HEADER + options) / 4) << 4) as u8);
        frame.push(self.flags);
        frame.extend_from_slice(&self.window.to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&self.urgent.to_be_bytes());
        frame.extend_from_slice(&self.options);
        frame.resize(tcp + TCP_HEADER + options, 0);
        frame.extend_from_slice(&self.payload);
        let checksum = fold(pseudo_header + sum(&frame[tcp..]));
        frame[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
    }

    fn write_ipv4(&self, frame: &mut Vec<u8>, src: Ipv4Addr, dst: Ipv4Addr, tcp_length: usize) {
        let start = frame.len();
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&((IPV4_HEADER + tcp_length) as u16).to_be_bytes());
        frame.extend_from_slice(&self.ip_id.to_be_bytes());
        frame.extend_from_slice(&[if self.dont_fragment { 0x40 } else { 0 }, 0]);
        frame.extend_from_slice(&[self.ttl, PROTOCOL_TCP, 0, 0]);
        frame.extend_from_slice(&src.octets());
        frame.extend_from_slice(&dst.octets());
        let checksum = fold(sum(&frame[start..]));
        frame[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn write_ipv6(&self, frame: &mut Vec<u8>, src: Ipv6Addr, dst: Ipv6Addr, tcp_length: usize) {
        frame.extend_from_slice(&[0x60, 0, 0, 0]);
        frame.extend_from_slice(&(tcp_length as u16).to_be_bytes());
        frame.extend_from_slice(&[PROTOCOL_TCP, self.ttl]);
        frame.extend_from_slice(&src.octets());
        frame.extend_from_slice(&dst.octets());
    }

    /// Parses the frames that the lab's own hosts send: untagged Ethernet, IPv4, or IPv6 without extension
    /// headers, TCP. `None` for everything else. Checksums are not checked.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethertype = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
        let ip = frame.get(ETHERNET_HEADER..)?;
        let (src, dst, ttl, tcp) = match ethertype {
            ETHERTYPE_IPV4 => {
                let header = usize::from(ip.first()? & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
                if *ip.get(9)? != PROTOCOL_TCP {
                    return None;
                }
                let addr = |at: usize| {
                    let octets: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
                    Some(IpAddr::from(octets))
                };
                (addr(12)?, addr(16)?, ip[8], ip.get(header..total)?)
            }
            ETHERTYPE_IPV6 => {
                let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
                if *ip.get(6)? != PROTOCOL_TCP {
                    return None;
                }
                let addr = |at: usize| {
                    let octets: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
                    Some(IpAddr::from(octets))
                };
                (addr(8)?, addr(24)?, ip[7], ip.get(IPV6_HEADER..IPV6_HEADER + length)?)
            }
            _ => return None,
        };
        let u16_at = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        let header = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Self {
            src_mac: frame[6..12].try_into().ok()?,
            dst_mac: frame[..6].try_into().ok()?,
            vlans: Vec::new(),
            src: SocketAddr::new(src, u16_at(0)?),
            dst: SocketAddr::new(dst, u16_at(2)?),
            ttl,
            dont_fragment: ethertype == ETHERTYPE_IPV4 && ip[6] & 0x40 != 0,
            ip_id: if ethertype == ETHERTYPE_IPV4 { u16::from_be_bytes([ip[4], ip[5]]) } else { 0 },
            flags: tcp[13],
            seq: u32_at(4)?,
            ack: u32_at(8)?,
            window: u16_at(14)?,
            urgent: u16_at(18)?,
            options: tcp.get(TCP_HEADER..header)?.to_vec(),
            payload: tcp.get(header..)?.to_vec(),
        })
    }
}

/// The options of a SYN as Linux sends it: MSS, SACK permitted, timestamps, window scale 7.
pub fn linux_syn_options(mss: u16, timestamp: u32) -> Vec<u8> {
    let mut options = mss_option(mss);
    options.extend_from_slice(&[4, 2, 8, 10]);
    options.extend_from_slice(&timestamp.to_be_bytes());
    options.extend_from_slice(&[0, 0, 0, 0, 1, 3, 3, 7]);
    options
}

/// The maximum segment size option alone.
pub fn mss_option(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![2, 4, high, low]
}

/// Sum of 16-bit words, an odd last byte as if followed by zero (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let sum: u64 = words.by_ref().map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    sum + words.remainder().first().map_or(0, |&last| u64::from(last) << 8)
}

/// The checksum that belongs to a sum: carries added in, complemented.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(src: &str, dst: &str) -> Segment {
        Segment::new(src.parse().unwrap(), dst.parse().unwrap(), flags::SYN)
    }

    #[test]
    fn an_ipv4_header_sums_to_zero() {
        let frame = syn("192.0.2.1:1024", "198.51.100.2:443").to_frame();
        assert_eq!(fold(sum(&frame[14..34])), 0);
    }

    #[test]
    fn the_example_of_rfc_1071_has_its_checksum() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for mut segment in
            [syn("192.0.2.1:1024", "198.51.100.2:443"), syn("[2001:db8::1]:1024", "[fd00::2]:443")]
        {
            segment.src_mac = [2, 0, 0, 0, 0, 1];
            segment.seq = 0xdead_beef;
            segment.window = 64_240;
            segment.options = linux_syn_options(1460, 7);
            segment.payload = b"odd".to_vec();
            assert_eq!(Segment::parse(&segment.to_frame()), Some(segment));
        }
    }

    #[test]
    fn truncated_frames_are_not_read() {
        for segment in
            [syn("192.0.2.1:1", "192.0.2.2:2"), syn("[2001:db8::1]:1", "[2001:db8::2]:2")]
        {
            let frame = segment.to_frame();
            for length in 0..frame.len() {
                assert_eq!(Segment::parse(&frame[..length]), None, "{length} bytes");
            }
        }
    }
}
