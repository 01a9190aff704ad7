//! The obvious first parser: Ethernet, IPv4 without options, IPv6 without extension headers, TCP.
//! It misses the frames that the XDP program's parser exists for.

use tcpguard_common::abi::{Addr, FlowKey};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;

/// Fields that it reads of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The sender's address and port as the client's.
    pub flow: FlowKey,
    /// The flags, without reserved bits.
    pub flags: u8,
}

impl Segment {
    /// Returns whether it opens a connection.
    pub const fn is_syn(&self) -> bool {
        self.flags & 0x17 == 0x02
    }
}

/// The TCP segment in a frame, where this parser sees one.
pub fn parse(frame: &[u8]) -> Option<Segment> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let (client, server, tcp, end) = match word(12)? {
        IPV4 if *frame.get(14)? == 0x45 && *frame.get(23)? == TCP && word(20)? & 0x3fff == 0 => {
            let addr = |at: usize| Some(Addr::from_v4(frame.get(at..at + 4)?.try_into().ok()?));
            (addr(26)?, addr(30)?, 34, 14 + usize::from(word(16)?))
        }
        IPV6 if *frame.get(14)? >> 4 == 6 && *frame.get(20)? == TCP => {
            let addr = |at: usize| Some(Addr::from_v6(frame.get(at..at + 16)?.try_into().ok()?));
            (addr(22)?, addr(38)?, 54, 54 + usize::from(word(18)?))
        }
        _ => return None,
    };
    let header = usize::from(frame.get(tcp + 12)? >> 4) * 4;
    if header < 20 || tcp + header > end || end > frame.len() {
        return None;
    }
    let port = |at: usize| Some(word(at)?.to_be_bytes());
    let flow = FlowKey { client, server, client_port: port(tcp)?, server_port: port(tcp + 2)? };
    Some(Segment { flow, flags: frame[tcp + 13] })
}
