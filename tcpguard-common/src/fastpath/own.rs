//! Own addresses: those to which packets are delivered to this host itself.
//!
//! A socket that is bound to all addresses listens at these ([`super::count`]). Packets to any other address are in
//! transit, to a guest or to a host behind this one. They are no matter of a listener here that has the same port.
//!
//! The agent keeps the own addresses among the exempt prefixes. A look-up in a trie for each SYN would cost a tenth
//! of what a dropped SYN costs. So each CPU remembers its last answers, each in the slot that a hash of the address
//! chooses, for the rest of a tick.

use super::exempt::place;
use super::sets::Key as _;
use super::{PacketCtx, Tables};
use crate::abi::maps::OWN_CACHE;
use crate::abi::{Addr, ExemptEntry};

/// An answer is remembered for the rest of a tick of 2^23 ns (8.4 ms).
const TICK: u32 = 23;

/// An address, and whether it is the host's own. All-zero says that `::` is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnAddress {
    addr: Addr,
    /// Time of the look-up, as [`tick`], and in the lowest bit the answer.
    answer: u32,
}

/// Returns whether packets to an address are delivered to this host itself, according to the agent.
#[inline(always)]
pub(super) fn is_own<T: Tables>(tables: &T, addr: &Addr) -> bool {
    !tables.is_exempt_filter_clear(place(addr))
        && tables.exemption(addr).until_s == ExemptEntry::OWN
}

/// Finds out whether a SYN goes to an own address, if this CPU was asked in this tick. Returns whether it was.
#[inline(always)]
pub(super) fn recall<T: Tables>(tables: &mut T, pkt: &mut PacketCtx) -> bool {
    let addr = &pkt.segment.flow.server;
    let Some(known) = tables.own_address(slot(addr)) else {
        return false;
    };
    pkt.own = known.answer & 1 != 0;
    known.answer & !1 == tick(pkt.now) && known.addr.difference(addr) == 0
}

/// Finds out whether a SYN goes to an own address.
#[inline(always)]
pub(super) fn look_up<T: Tables>(tables: &mut T, pkt: &mut PacketCtx) {
    let addr = pkt.segment.flow.server;
    pkt.own = is_own(tables, &addr);
    if let Some(known) = tables.own_address(slot(&addr)) {
        *known = OwnAddress { addr, answer: tick(pkt.now) | u32::from(pkt.own) };
    }
}

#[inline(always)]
const fn tick(now_ns: u64) -> u32 {
    ((now_ns >> TICK) as u32) << 1
}

/// The slot of an address (multiplicative hashing, Knuth, TAOCP 6.4). Who sends SYNs to addresses that share one
/// costs himself no more than a look-up each.
#[inline(always)]
const fn slot(addr: &Addr) -> usize {
    const FACTOR: u32 = 0x9e37_79b9;
    let [a, b, c, d] = *addr.words();
    ((a ^ b ^ c ^ d).wrapping_mul(FACTOR) >> (u32::BITS - OWN_CACHE.trailing_zeros())) as usize
}
