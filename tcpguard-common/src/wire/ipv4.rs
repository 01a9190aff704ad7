//! IPv4 with options and fragments.

use super::tcp::{PROTOCOL, Packet, Segment};
use super::{Frame, Skip, Window};
use crate::abi::{Addr, quirk};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    segment: &mut Segment,
) -> Result<Packet, Skip> {
    let ip = frame.window::<20>(at).ok_or_else(|| Skip::unread(frame, at + 20))?;
    let first = ip.u8::<0>();
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 {
        return Err(Skip::Malformed);
    }
    let total = usize::from(ip.u16::<2>());
    if total < header || !frame.holds(at + total) {
        return Err(Skip::Malformed);
    }
    if ip.u8::<9>() != PROTOCOL {
        return Err(Skip::NotTcp);
    }
    let fragment = ip.u16::<6>();
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
    segment.flow.client = Addr::from_v4(ip.u32::<12>().to_be_bytes());
    segment.flow.server = Addr::from_v4(ip.u32::<16>().to_be_bytes());
    segment.ttl = ip.u8::<8>();
    segment.ip_id = ip.u16::<4>();
    segment.quirks = quirks;
    segment.fragment = fragment & MORE_FRAGMENTS != 0;
    segment.ip_at = at as u16;
    Ok(Packet { tcp_at: at + header, end: at + total })
}
