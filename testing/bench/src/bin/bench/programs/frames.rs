//! The packets as frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcpguard::bpf::addr;
use tcpguard_common::abi::{CookieSecret, FlowKey, option};
use tcpguard_common::cookie::{self, Choice, Handshake, Offer};
use tcpguard_kit::measure::clock;
use tcpguard_kit::net::bare::Sources;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};

use super::case::{Family, Packet};

/// To which everything goes.
pub const PORT: u16 = 443;
/// The window of a SYN of a fixed-fingerprint flood.
pub const FIXED_WINDOW: u16 = 512;
/// A network card delivers nothing shorter.
const SHORTEST: usize = 60;

/// MSS 1460, window scale 8, SACK permitted: a SYN of Windows.
const WINDOWS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
/// NOP, NOP, timestamps, with an echo that lies in the last slot but is no cookie's.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];

/// The one source, in a network (/16, /48) that is not the host's own.
pub fn source(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 66).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9).into(),
    }
}

pub fn server(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Source `number` of those that a wrapper draws.
pub fn drawn(family: Family, number: u32) -> IpAddr {
    let drawn = Sources::drawn(number);
    match source(family) {
        IpAddr::V4(_) => Ipv4Addr::from_bits(drawn).into(),
        IpAddr::V6(v6) => {
            let rest = v6.to_bits() & !(0xffff_ffff << 64);
            Ipv6Addr::from_bits(rest | u128::from(drawn) << 64).into()
        }
    }
}

/// Made anew for each round: the time in a cookie is too old after a minute.
pub fn frame(packet: Packet, family: Family, secret: &CookieSecret) -> Vec<u8> {
    let mut frame = match packet {
        Packet::Ack => segment(family, flags::ACK, &[]).to_frame(),
        Packet::AckTimestamps => {
            let mut echo = TIMESTAMPS;
            echo[8..].copy_from_slice(&cookie::timestamp(secret, tick()).to_be_bytes());
            segment(family, flags::ACK, &echo).to_frame()
        }
        Packet::CookieAck => cookie_ack(secret, segment(family, flags::ACK, &TIMESTAMPS)),
        Packet::Bare | Packet::AnyWindow => {
            let mut syn = segment(family, flags::SYN, &[]);
            (syn.window, syn.dont_fragment) = (FIXED_WINDOW, false);
            syn.to_frame()
        }
        Packet::Windows => segment(family, flags::SYN, &WINDOWS).to_frame(),
        Packet::Linux => segment(family, flags::SYN, &linux_syn_options(1460, 1)).to_frame(),
    };
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

fn segment(family: Family, flags: u8, options: &[u8]) -> Segment {
    let (from, to) = (SocketAddr::new(source(family), 4000), SocketAddr::new(server(family), PORT));
    let mut segment = Segment::new(from, to, flags);
    (segment.seq, segment.window, segment.dont_fragment) = (7, 64_240, true);
    segment.options = options.to_vec();
    segment
}

fn tick() -> u64 {
    cookie::ticks(clock::boot_ns()) - 1000
}

/// The ACK of a client after a SYN that was answered a moment ago, with timestamps.
fn cookie_ack(secret: &CookieSecret, mut ack: Segment) -> Vec<u8> {
    let flow = FlowKey {
        client: addr(ack.src.ip()),
        server: addr(ack.dst.ip()),
        client_port: ack.src.port().to_be_bytes(),
        server_port: ack.dst.port().to_be_bytes(),
    };
    let options = option::WSCALE | option::SACK | option::TIMESTAMPS;
    let choice = Choice::new(&Offer::new(1460, 7, options), ack.src.is_ipv6());
    let handshake = Handshake { flow: &flow, client_isn: ack.seq.wrapping_sub(1) };
    let cookie = cookie::make(secret, &handshake, tick(), &choice);
    ack.ack = cookie.isn.wrapping_add(1);
    ack.options[8..].copy_from_slice(&cookie.timestamp.to_be_bytes());
    ack.to_frame()
}
