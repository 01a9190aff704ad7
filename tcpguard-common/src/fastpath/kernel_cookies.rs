//! SYN cookies of the kernel's making, sent from here: for kernels that cannot be handed connections.
//!
//! The listening socket makes the cookie, notes that cookies are out, and takes the connection back
//! by itself, all of it only at `net.ipv4.tcp_syncookies = 2`. The cookie holds the client's MSS. All
//! else travels in the low bits of the timestamp, to which the kernel adds another secret number for
//! each peer at `net.ipv4.tcp_timestamps = 1`, the default; only at 2 can it be made here.

use super::{PacketCtx, Tables};
use crate::abi::{Config, ListenerEntry, option};
use crate::cookie::{Cookie, Offer};
use crate::wire::flag;

/// The kernel's cookie for a SYN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KernelCookie {
    /// Sequence number.
    pub isn: u32,
    /// The clock of its TCP timestamps, in ms, without the offset that the kernel may add for the
    /// peer.
    pub clock_ms: u32,
}

/// A [`KernelCookie`] in [`PacketCtx`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    isn: u32,
    clock_ms: u32,
    /// True if there is one.
    pub made: bool,
    /// True if the kernel will read the timestamp as it was sent.
    stamped: bool,
}

// The low bits of a timestamp that the kernel reads options from: net/ipv4/syncookies.c.
const TIME: u32 = !0x3f;
const UNSCALED: u32 = 0x0f;
const SACK: u32 = 0x10;
const ECN: u32 = 0x20;

/// Asks the kernel for a cookie, if the SYN is to be answered with one.
#[inline(always)]
pub(super) fn ask<T: Tables>(config: &Config, tables: &mut T, pkt: &mut PacketCtx) {
    pkt.given = Given::default();
    if pkt.segment.flags & flag::SYN == 0 || !wanted(&pkt.listener) {
        return;
    }
    if let Some(cookie) = tables.kernel_cookie(&pkt.segment, pkt.options.mss) {
        let KernelCookie { isn, clock_ms } = cookie;
        pkt.given = Given { isn, clock_ms, made: true, stamped: config.kernel_timestamps != 0 };
    }
}

/// Returns whether SYNs to this listener are answered with cookies made by the kernel, and not with those made by XDP.
#[inline(always)]
pub(super) const fn wanted(listener: &ListenerEntry) -> bool {
    let own_or_not = ListenerEntry::OWN_COOKIES | ListenerEntry::KERNEL_COOKIES;
    listener.mitigations & own_or_not == ListenerEntry::KERNEL_COOKIES
}

/// The fields of the SYN-ACK with that cookie to a client that makes this offer, and the options that may be
/// promised to it.
#[inline(always)]
pub(super) fn terms(given: &Given, client: &Offer) -> (Cookie, u32) {
    if !given.stamped || !client.has(option::TIMESTAMPS) {
        return (Cookie { isn: given.isn, timestamp: 0 }, 0);
    }
    let scaled = client.has(option::WSCALE);
    let wscale = if scaled { u32::from(client.wscale) & UNSCALED } else { UNSCALED };
    let sack = if client.has(option::SACK) { SACK } else { 0 };
    let ecn = if client.has(option::ECN) { ECN } else { 0 };
    let clock = given.clock_ms;
    let mut timestamp = clock & TIME | wscale | sack | ecn;
    // Never ahead of the clock, or the client would refuse the segments that follow (RFC 7323 §5).
    if timestamp > clock {
        timestamp = timestamp.wrapping_sub(!TIME + 1);
    }
    (Cookie { isn: given.isn, timestamp }, client.options)
}
