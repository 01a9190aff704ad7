//! Headers of SYNs in words, for people.

use std::net::{IpAddr, SocketAddr};

use tcpguard_common::abi::Mask;
use tcpguard_common::wire::{self, Frame};
use tcpguard_engine as engine;
use tcpguard_host::time::Time;

use crate::bpf::ip;

/// Header of one SYN, as it arrived.
pub type SynHeader = engine::SynHeader<Time>;

/// Returns the source of a SYN with this header, which may be spoofed, and its fingerprint: options in their order,
/// window, TTL and peculiarities. `None` where the TCP header or some of its options lie beyond the bytes
/// that were kept.
pub fn decoded(header: &[u8]) -> Option<(SocketAddr, String)> {
    let kept = Kept(header);
    let segment = wire::parse_packet(&kept).ok()?;
    let port = u16::from_be_bytes(segment.flow.client_port);
    let looks = engine::describe(Mask::Full, &wire::fingerprint(&kept, &segment));
    Some((SocketAddr::new(ip(&segment.flow.client), port), looks))
}

/// Returns the destination of a SYN with this header. `None` where the TCP header lies beyond the bytes that were kept.
pub fn destination(header: &[u8]) -> Option<IpAddr> {
    Some(ip(&wire::parse_packet(&Kept(header)).ok()?.flow.server))
}

/// Beginning of a packet that was longer. The lengths in its headers are trusted.
struct Kept<'a>(&'a [u8]);

impl Frame for Kept<'_> {
    type Window<'a, const N: usize>
        = &'a [u8; N]
    where
        Self: 'a;

    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.0.window(at)
    }

    fn holds(&self, _: usize) -> bool {
        true
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.0.u8(at)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.0.u16(at)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.0.u32(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SYN from 198.51.100.7:40000, without its 10 bytes of data.
    const LINUX: &str = "4500004600014000400600 00c6336407cb00710a 9c4001bb 0102030400000000a002faf0\
                         00000000 020405b40402080a000000090000000001030307";

    fn header(hex: &str) -> SynHeader {
        let hex: String = hex.split_whitespace().collect();
        let header = serde_json::json!({ "at": "2026-11-20T14:05:00Z", "hex": hex });
        serde_json::from_value(header).unwrap()
    }

    fn formatted(header: &[u8]) -> Option<String> {
        decoded(header).map(|(from, looks)| format!("{from} {looks}"))
    }

    #[test]
    fn a_header_is_formatted_as_signatures_are() {
        let linux = header(LINUX);
        assert_eq!(linux.bytes.len(), 60);
        let looks = "opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df data";
        assert_eq!(formatted(&linux.bytes).unwrap(), format!("198.51.100.7:40000 {looks}"));
        assert_eq!(destination(&linux.bytes), Some("203.0.113.10".parse().unwrap()));
        let text = serde_json::to_string(&linux).unwrap();
        assert_eq!(serde_json::from_str::<SynHeader>(&text).unwrap(), linux);
    }

    #[test]
    fn a_packet_without_a_tcp_header_is_not_formatted() {
        let linux = header(LINUX).bytes;
        for length in (0..linux.len()).step_by(4) {
            assert_eq!(formatted(&linux[..length]), None, "{length} bytes");
        }
        assert!(formatted(&linux).is_some(), "all of it");
    }

    #[test]
    fn text_that_is_not_hexadecimal_is_no_header() {
        for hex in ["45zz", "450"] {
            let header = serde_json::json!({ "at": "2026-11-20T14:05:00Z", "hex": hex });
            assert!(serde_json::from_value::<SynHeader>(header).is_err(), "{hex}");
        }
    }
}
