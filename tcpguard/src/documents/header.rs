//! Headers of SYNs: in hexadecimal for programs, and in words for people.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::Mask;
use tcpguard_common::wire::{self, Frame};
use tcpguard_engine as engine;
use tcpguard_host::time::{Clock, Time};

use crate::bpf::ip;

/// Header of one SYN, as it arrived.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SynHeader {
    /// Time of its arrival.
    pub at: Time,
    /// Bytes of the header in hexadecimal, from the IP header up to the end of the TCP options; at most 112
    /// bytes. Data is never kept.
    pub hex: String,
    /// Number of bytes from the IP header up to the end of the TCP options; left out if `hex` holds all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u16>,
}

impl SynHeader {
    pub(super) fn build(header: &engine::SynHeader, clock: Clock) -> Self {
        let engine::SynHeader { at, bytes, whole } = header;
        let cut = bytes.len() < usize::from(*whole);
        Self { at: clock.time_at(*at), hex: hex(bytes), length: cut.then_some(*whole) }
    }

    /// Returns the number of bytes that were kept.
    pub fn kept(&self) -> usize {
        self.hex.len() / 2
    }

    /// Returns the source of the SYN, which may be spoofed, and its fingerprint: options in their order,
    /// window, TTL and peculiarities. `None` where the TCP header or some of its options lie beyond the bytes
    /// that were kept.
    pub fn decoded(&self) -> Option<(SocketAddr, String)> {
        let bytes = unhex(&self.hex)?;
        let kept = Kept(&bytes);
        let segment = wire::parse_packet(&kept).ok()?;
        let port = u16::from_be_bytes(segment.flow.client_port);
        let looks = engine::describe(Mask::Full, &wire::fingerprint(&kept, &segment));
        Some((SocketAddr::new(ip(&segment.flow.client), port), looks))
    }

    /// Returns the destination of the SYN. `None` where the TCP header lies beyond the bytes that were kept.
    pub fn destination(&self) -> Option<IpAddr> {
        let bytes = unhex(&self.hex)?;
        Some(ip(&wire::parse_packet(&Kept(&bytes)).ok()?.flow.server))
    }
}

/// Writes bytes as two hexadecimal digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| Some(char::from(byte).to_digit(16)? as u8);
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
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
        let at = Time("2026-11-20T14:05:00Z".parse().unwrap());
        SynHeader { at, length: None, hex }
    }

    fn formatted(header: &SynHeader) -> Option<String> {
        header.decoded().map(|(from, looks)| format!("{from} {looks}"))
    }

    #[test]
    fn a_header_is_formatted_as_signatures_are() {
        let linux = header(LINUX);
        assert_eq!(linux.kept(), 60);
        let looks = "opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df data";
        assert_eq!(formatted(&linux).unwrap(), format!("198.51.100.7:40000 {looks}"));
        assert_eq!(linux.destination(), Some("203.0.113.10".parse().unwrap()));
        assert_eq!(unhex(&linux.hex).map(|bytes| hex(&bytes)), Some(linux.hex));
    }

    #[test]
    fn a_packet_without_a_tcp_header_and_one_that_is_no_header_are_not_formatted() {
        let linux = header(LINUX);
        for length in (0..linux.hex.len()).step_by(8) {
            assert_eq!(formatted(&header(&linux.hex[..length])), None, "{length} digits");
        }
        assert!(formatted(&linux).is_some(), "all of it");
        assert_eq!(formatted(&header("45zz")), None);
        assert_eq!(formatted(&header("450")), None);
    }
}
