//! SYNs that an automatic rule matches and that pass all the same, until their handshake completes.
//!
//! A retransmitted SYN proves nothing: an attacker retransmits at will, and a flood with few sequence numbers does
//! so by chance. A handshake that completes after it is a client's. So each such SYN is remembered with the rule
//! that it matched, and if the kernel completes its handshake, that is counted for the rule. In observe mode,
//! where every SYN passes, this is done for those of the sample.
//!
//! Only a new client counts, so no client counts twice within the time that clients are remembered. On a collision
//! the later SYN takes the slot. A rule with hundreds of thousands of retransmitted SYNs is therefore credited
//! with fewer completions than there are, and it stays.

use super::decide::HANDSHAKE_NS;
use super::{PacketCtx, Tables, pace};
use crate::abi::{Config, LetThrough, Pace};

/// SYNs a tick up to which each CPU remembers those of the sample in observe mode, as a power of two (8: 480 a
/// second). The CPUs share the slots: with more SYNs, later ones would take them before handshakes complete.
const SAMPLE_BITS: u8 = 3;

/// Returns the slot of a connection, given its hash: not from the bits by which the sample is chosen, or a
/// small sample would share a few slots.
#[inline(always)]
const fn place(flow_hash: u64) -> u64 {
    flow_hash >> 40
}

/// Returns the sample to which a SYN has to belong to be remembered in observe mode, as a power of two.
#[inline(always)]
pub(super) fn sample(config: &Config, syns: &Pace, mitigations: u8) -> u8 {
    let (tracked, few) =
        (pace::tracked_shift(config, syns, mitigations, false), syns.over(SAMPLE_BITS));
    if tracked > few { tracked } else { few }
}

/// Seconds after which a handshake is no longer waited for.
const PATIENCE_S: u16 = (HANDSHAKE_NS / SECOND_NS) as u16;
const SECOND_NS: u64 = 1_000_000_000;

/// Remembers a SYN that stands for `2^shift` of its like.
#[inline(always)]
pub(super) fn remember<T: Tables>(tables: &mut T, pkt: &PacketCtx, shift: u8) {
    let at_s = seconds(pkt.now);
    if let Some(place) = tables.let_through(place(pkt.flow_hash)) {
        *place = LetThrough { flow: pkt.flow_hash, slot: pkt.slot, at_s, shift, pad: 0 };
    }
}

/// Counts the completed handshake of the connection with this hash at a listener, and for the rule that its SYN
/// matched, if it is remembered.
#[inline(always)]
pub(super) fn completed<T: Tables>(tables: &mut T, listener: u32, hash: u64, now: u64) {
    let Some(place) = tables.let_through(place(hash)) else {
        return;
    };
    let LetThrough { flow, slot, at_s, shift, .. } = *place;
    if flow != hash || seconds(now).wrapping_sub(at_s) > PATIENCE_S {
        return;
    }
    *place = LetThrough::default();
    let weight: u32 = 1 << (shift & 31);
    if let Some(returns) = tables.rule_returns(slot) {
        returns.completed = returns.completed.saturating_add(weight);
    }
    if let Some(late) = tables.late(listener) {
        late.let_through += u64::from(weight);
    }
}

#[inline(always)]
const fn seconds(now_ns: u64) -> u16 {
    (now_ns / SECOND_NS) as u16
}
