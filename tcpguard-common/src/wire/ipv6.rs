//! IPv6 with extension headers and fragments.

use super::frame::MAX_HEADER_BYTES;
use super::tcp::{PROTOCOL, Packet, Segment};
use super::{Frame, Skip, Window};
use crate::abi::{Addr, quirk};

/// Extension headers followed. Linux follows any number; a bound keeps the walk verifiable, and
/// frames with more are counted.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 1;

#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    segment: &mut Segment,
) -> Result<Packet, Skip> {
    let ip = frame.window::<40>(at).ok_or_else(|| Skip::unread(frame, at + 40))?;
    let src = [ip.u32::<8>(), ip.u32::<12>(), ip.u32::<16>(), ip.u32::<20>()];
    let dst = [ip.u32::<24>(), ip.u32::<28>(), ip.u32::<32>(), ip.u32::<36>()];
    segment.flow.client = Addr::from_v6_words(src);
    segment.flow.server = Addr::from_v6_words(dst);
    if ip.u8::<0>() >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let end = at + 40 + usize::from(ip.u16::<4>());
    if !frame.holds(end) {
        return Err(Skip::Malformed);
    }
    segment.ttl = ip.u8::<7>();
    let mut next = ip.u8::<6>();
    let mut header = at + 40;
    let mut quirks = quirk::IPV6;
    let mut first_fragment = false;
    if next != PROTOCOL {
        let chain = extension_headers(frame, header, next, end)?;
        (next, header, first_fragment) = (chain.next, chain.at, chain.first_fragment);
        quirks |= quirk::IP_OPTIONS;
    }
    if next != PROTOCOL {
        return Err(Skip::NotTcp);
    }
    segment.ip_id = 0;
    segment.quirks = quirks;
    segment.fragment = first_fragment;
    segment.ip_at = at as u16;
    Ok(Packet { tcp_at: header, end })
}

struct Chain {
    next: u8,
    at: usize,
    first_fragment: bool,
}

#[inline(always)]
fn extension_headers<F: Frame + ?Sized>(
    frame: &F,
    mut at: usize,
    mut next: u8,
    end: usize,
) -> Result<Chain, Skip> {
    let mut first_fragment = false;
    for _ in 0..MAX_EXTENSION_HEADERS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let header = extension(frame, at)?;
                let length = header.u8::<1>();
                next = header.u8::<0>();
                at += (usize::from(length) + 1) * 8;
            }
            FRAGMENT => {
                let header = extension(frame, at)?;
                let field = header.u16::<2>();
                if field & FRAGMENT_OFFSET != 0 {
                    return Err(Skip::Fragment);
                }
                next = header.u8::<0>();
                first_fragment |= field & MORE_FRAGMENTS != 0;
                at += 8;
            }
            _ => {
                return Ok(Chain { next, at, first_fragment });
            }
        }
        at = frame.forget(at as u64) as usize;
        if at > end {
            return Err(Skip::Malformed);
        }
        if at > MAX_HEADER_BYTES - 60 {
            return Err(Skip::HeaderDepth);
        }
    }
    match next {
        HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT => Err(Skip::Ipv6Depth),
        _ => Ok(Chain { next, at, first_fragment }),
    }
}

/// The beginning of an extension header, of which none is shorter than eight bytes.
#[inline(always)]
fn extension<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<F::Window<'_, 8>, Skip> {
    frame.window::<8>(at).ok_or_else(|| Skip::unread(frame, at + 8))
}
