//! The way back to a client: by which interface and to which Ethernet address the host itself would reply.
//!
//! XDP can send a frame only by the interface on which it came. That the SYN came by it does not mean that the
//! reply leaves by it, nor that it goes to the sender of the frame: a load balancer hands SYNs to servers that
//! reply past it (direct server return), a host has two routers or two providers, and a neighbour is reached
//! through a balancer and answered directly. So the way is not taken from the SYN, but from the host's own
//! SYN-ACKs. The agent writes the routes, as prefixes of clients. [`learn`] notes by which interface, with which
//! VLAN tag and to which Ethernet address SYN-ACKs to each of them leave. It does not matter who is said to have
//! asked: all addresses of a route have the same next hops.
//!
//! A SYN is answered if a next hop of its route is behind the interface on which it came. The reply goes to the
//! sender of the frame if that is such a next hop, and else to the one that was seen last. Any other SYN goes to
//! the stack, whose SYN-ACK shows the way.
//!
//! Next hops change without a change of routes (a router fails over). So once in a second or two a SYN of each
//! route goes to the stack, to renew them. Where that renews nothing for ten seconds, only the sender of the frame
//! is still believed: a router that sends SYNs takes replies.
//!
//! Neighbours have an Ethernet address each. Those that were answered lately are remembered with it. Any other is
//! taken for the sender of its frame, unless a neighbour's frame was seen to come from another address.

use super::Tables;
use crate::abi::{
    Addr, LAPSE, NextHop, NextHops, SynAckRecord, Unanswered, largest_mss, moment, moments_since,
};
use crate::wire::{self, Frame, Window};

/// Age from which a next hop is to be seen again, in units of [`moment`].
const RENEWED: u32 = 2;
/// Age of a next hop up to which replies to other senders go to it, likewise: 10 s.
const TRUSTED: u32 = moment(10_000_000_000);

/// The way back for a SYN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct WayBack {
    /// Ethernet address of the next hop, as [`NextHop::mac`].
    pub to: u64,
    /// Largest MSS of the host's SYN-ACKs on that route; 0: not known.
    pub mss: u16,
}

/// The reason for which there is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoWayBack {
    /// The SYN cannot be answered.
    Unanswered(Unanswered),
    /// The frame claims to be from a group, as none is: a reply to each would be a broadcast.
    Group,
    /// Its SYN-ACK is to show the present way.
    Renewed,
}

/// The Ethernet addresses of a frame: destination and source, as [`NextHop::mac`].
#[inline(always)]
fn ends<F: Frame + ?Sized>(frame: &F) -> Option<(u64, u64)> {
    let addresses = frame.window::<12>(0)?;
    let number = |high: u32, low: u16| u64::from(high) << 16 | u64::from(low);
    let to = number(addresses.u32::<0>(), addresses.u16::<4>());
    Some((to, number(addresses.u32::<6>(), addresses.u16::<10>())))
}

/// Returns whether a frame that came in by an interface was sent to this host, and SYN-ACKs of this record leave by
/// that interface with its VLAN tag, and are all the host's own. (A tag that the hardware took off is missing.)
#[inline(always)]
pub(super) fn is_of<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &T,
    record: &SynAckRecord,
    ifindex: u32,
) -> bool {
    record.is_own()
        && record.leaves_by(ifindex, wire::vlan(frame))
        && ends(frame).is_some_and(|(to, _)| tables.is_own_mac(to))
}

/// Finds the way back for a SYN from `client` that came in by this interface.
#[inline(always)]
pub(super) fn find<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    client: &Addr,
    now_ns: u64,
    ifindex: u32,
) -> Result<WayBack, NoWayBack> {
    const NO_WAY: NoWayBack = NoWayBack::Unanswered(Unanswered::NoWay);
    const NO_REPLY: NoWayBack = NoWayBack::Unanswered(Unanswered::NoReply);
    const OTHER_MAC: NoWayBack = NoWayBack::Unanswered(Unanswered::OtherMac);
    let (to, from) = ends(frame).ok_or(OTHER_MAC)?;
    if !tables.is_own_mac(to) {
        return Err(OTHER_MAC);
    }
    if is_group(from) {
        return Err(NoWayBack::Group);
    }
    let (vlan, now) = (wire::vlan(frame), moment(now_ns));
    let route = tables.route(client).ok_or(NO_WAY)?;
    let hops = tables.next_hops(route).ok_or(NO_WAY)?;
    if hops.kind == NextHops::NOWHERE {
        return Err(NO_REPLY);
    }
    let hop = choose(hops, from, ifindex, vlan).ok_or(NO_WAY)?;
    let (on_link, age) = (hops.kind == NextHops::ON_LINK, moments_since(hop.seen, now));
    if age >= RENEWED && hops.asked != now {
        hops.asked = now;
        return Err(NoWayBack::Renewed);
    }
    if age > if on_link || hop.mac == from { LAPSE } else { TRUSTED } {
        return Err(NO_WAY);
    }
    let (mss, indirect_at) = (hops.mss, hops.indirect_at);
    if !on_link {
        return Ok(WayBack { to: hop.mac, mss });
    }
    match tables.neighbour(client) {
        Some(known) if known.ifindex == ifindex && known.mac != from => {
            let (to, age) = (known.mac, moments_since(known.seen, now));
            if let Some(hops) = tables.next_hops(route) {
                hops.indirect_at = now;
            }
            // It may have another address since.
            if age >= RENEWED { Err(NO_WAY) } else { Ok(WayBack { to, mss }) }
        }
        Some(known) if known.ifindex == ifindex => Ok(WayBack { to: from, mss }),
        _ if indirect_at != 0 && moments_since(indirect_at, now) <= LAPSE => Err(NO_WAY),
        _ => Ok(WayBack { to: from, mss }),
    }
}

/// The next hop behind an interface and VLAN: the sender of the frame if it is one, else the one that was seen
/// last.
#[inline(always)]
fn choose(hops: &NextHops, from: u64, ifindex: u32, vlan: u32) -> Option<NextHop> {
    let mut chosen = NextHop::default();
    for hop in &hops.hops {
        let behind = hop.ifindex == ifindex && hop.vlan == vlan;
        let better = chosen.ifindex == 0 || hop.mac == from || hop.seen > chosen.seen;
        if behind && better && (chosen.mac != from || chosen.ifindex == 0) {
            chosen = *hop;
        }
    }
    if chosen.ifindex == 0 { None } else { Some(chosen) }
}

/// Returns whether it is the address of a group: the lowest bit of its first byte.
#[inline(always)]
const fn is_group(mac: u64) -> bool {
    mac >> 40 & 1 != 0
}

/// Notes where a SYN-ACK to `client` goes, which leaves by this interface with this VLAN tag. `mss`: 0 if it says
/// nothing of how the host replies.
#[inline(always)]
pub(super) fn learn<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    client: &Addr,
    (ifindex, vlan): (u32, u32),
    mss: u16,
    now: u32,
) {
    let Some((mac, _)) = ends(frame) else {
        return;
    };
    let Some(route) = tables.route(client) else {
        return;
    };
    let Some(hops) = tables.next_hops(route) else {
        return;
    };
    let on_link = hops.kind == NextHops::ON_LINK;
    if hops.kind == NextHops::NOWHERE || is_group(mac) {
        return;
    }
    if mss != 0 {
        let (largest, at) = largest_mss((hops.mss, hops.mss_at), mss, now);
        if (largest, at) != (hops.mss, hops.mss_at) {
            (hops.mss, hops.mss_at) = (largest, at);
        }
    }
    let seen = NextHop { mac, ifindex, vlan, seen: now, reserved: 0 };
    note(hops, &if on_link { NextHop { mac: 0, ..seen } } else { seen });
    if on_link && tables.neighbour(client).is_none_or(|known| *known != seen) {
        tables.insert_neighbour(client, &seen);
    }
}

/// Notes a hop in place of the one that was not seen for the longest time, unless it is there. One that does not
/// change stays in every CPU's cache.
#[inline(always)]
fn note(hops: &mut NextHops, seen: &NextHop) {
    let (mut place, mut oldest) = (0, u32::MAX);
    for (number, hop) in hops.hops.iter_mut().enumerate() {
        if hop.ifindex == seen.ifindex && hop.vlan == seen.vlan && hop.mac == seen.mac {
            if hop.seen < seen.seen {
                hop.seen = seen.seen;
            }
            return;
        }
        let age = if hop.ifindex == 0 { 0 } else { hop.seen };
        if age < oldest {
            (place, oldest) = (number, age);
        }
    }
    for (number, hop) in hops.hops.iter_mut().enumerate() {
        if number == place {
            *hop = *seen;
        }
    }
}
