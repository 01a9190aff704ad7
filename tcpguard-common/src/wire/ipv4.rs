//! IPv4 with options and fragments.

use super::tcp::{PROTOCOL, Packet};
use super::{Frame, Skip};
use crate::abi::Addr;
use crate::fastpath::quirk;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Packet, Skip> {
    let first = frame.u8(at).ok_or(Skip::Malformed)?;
    // Read first the last field needed: the rest is then known to be there.
    let dst = frame.u32(at + 16).ok_or(Skip::Malformed)?;
    let src = frame.u32(at + 12).ok_or(Skip::Malformed)?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 {
        return Err(Skip::Malformed);
    }
    let total = usize::from(frame.u16(at + 2).ok_or(Skip::Malformed)?);
    if total < header || !frame.holds(at + total) {
        return Err(Skip::Malformed);
    }
    if frame.u8(at + 9) != Some(PROTOCOL) {
        return Err(Skip::NotTcp);
    }
    let fragment = frame.u16(at + 6).ok_or(Skip::Malformed)?;
    if fragment & FRAGMENT_OFFSET != 0 {
        return Err(Skip::Fragment);
    }
    let mut quirks = 0;
    if fragment & DONT_FRAGMENT != 0 {
        quirks |= quirk::DF;
    }
    if header > 20 {
        quirks |= quirk::IP_OPTIONS;
    }
    Ok(Packet {
        src: Addr::from_v4(src.to_be_bytes()),
        dst: Addr::from_v4(dst.to_be_bytes()),
        ttl: frame.u8(at + 8).ok_or(Skip::Malformed)?,
        ip_id: frame.u16(at + 4).ok_or(Skip::Malformed)?,
        quirks,
        first_fragment: fragment & MORE_FRAGMENTS != 0,
        at,
        tcp_at: at + header,
        end: at + total,
    })
}
