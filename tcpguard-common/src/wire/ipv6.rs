//! IPv6 with extension headers and fragments.

use super::frame::MAX_HEADER_BYTES;
use super::tcp::{PROTOCOL, Packet};
use super::{Frame, Skip};
use crate::abi::Addr;
use crate::fastpath::quirk;

/// Extension headers followed. Linux follows any number; a bound keeps the walk verifiable, and
/// what lies beyond is counted.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 1;

#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Packet, Skip> {
    let dst = addr(frame, at + 24).ok_or(Skip::Malformed)?;
    let src = addr(frame, at + 8).ok_or(Skip::Malformed)?;
    if frame.u8(at).ok_or(Skip::Malformed)? >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let end = at + 40 + usize::from(frame.u16(at + 4).ok_or(Skip::Malformed)?);
    if !frame.holds(end) {
        return Err(Skip::Malformed);
    }
    let ttl = frame.u8(at + 7).ok_or(Skip::Malformed)?;
    let mut next = frame.u8(at + 6).ok_or(Skip::Malformed)?;
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
    Ok(Packet { src, dst, ttl, ip_id: 0, quirks, first_fragment, at, tcp_at: header, end })
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
                let length = frame.u8(at + 1).ok_or(Skip::Malformed)?;
                next = frame.u8(at).ok_or(Skip::Malformed)?;
                at += (usize::from(length) + 1) * 8;
            }
            FRAGMENT => {
                let field = frame.u16(at + 2).ok_or(Skip::Malformed)?;
                if field & FRAGMENT_OFFSET != 0 {
                    return Err(Skip::Fragment);
                }
                next = frame.u8(at).ok_or(Skip::Malformed)?;
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

#[inline(always)]
fn addr<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Addr> {
    let last = frame.u32(at + 12)?;
    Some(Addr::from_v6_words([frame.u32(at)?, frame.u32(at + 4)?, frame.u32(at + 8)?, last]))
}
