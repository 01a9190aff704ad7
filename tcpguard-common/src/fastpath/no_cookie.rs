//! Mark of a segment without a cookie, from XDP to the program at tc, which alone can hand a connection to the kernel.
//!
//! XDP has read a segment already. At tc it would have to be read again, mostly to find that it brings no cookie.
//! So XDP checks cookies, and puts a word of metadata, [`mark`], in front of a packet that brings no good one. The
//! metadata travels with the packet, and a packet with this word passes tc at once.
//!
//! A packet that lost its mark on the way, or for whose mark the driver leaves no room, is checked at tc.

use super::count::listener_at;
use super::{PacketCtx, Tables, cookies};
use crate::abi::{Config, ListenerEntry};
use crate::wire::{self, Frame};

/// Returns whether a segment that may bring a cookie to its listener brings none. `false` where it is not known:
/// options in another than the recommended order are left to the program at tc.
#[inline(always)]
pub fn is_known<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    pkt: &mut PacketCtx,
) -> bool {
    let segment = &pkt.segment;
    let accepts = |listener: ListenerEntry| listener.mitigations & ListenerEntry::ACCEPT != 0;
    if segment.fragment || !listener_at(tables, &segment.flow, true).is_some_and(accepts) {
        return false;
    }
    let Some(times) = wire::recommended_timestamps(frame, segment) else {
        return false;
    };
    pkt.times = times;
    cookies::returned(tables, pkt).is_none()
}

/// The word, in the order of the host. Another agent, in another network namespace of this machine, has another: a
/// packet that is forwarded to it keeps its metadata. The lowest byte is zero, because Cilium's programs at tc take bits
/// of it for flags of their own (`ctx_get_xfer` of its bpf/lib).
#[inline(always)]
pub const fn mark(config: &Config) -> u32 {
    const TCPGUARD: u32 = 0x7463_6700;
    TCPGUARD ^ (config.netns_cookie as u32) << 8
}
