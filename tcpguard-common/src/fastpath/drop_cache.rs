//! Dropped SYNs that are retransmitted.
//!
//! A SYN that a rule or a budget drops can never complete. A real client tries again: the same 4-tuple with the
//! same sequence number, after its retransmission timeout (1 s, then 2 s: RFC 6298 §2.1 and 5.5). So dropped SYNs
//! are remembered, and one that is retransmitted passes. The retransmission does not prove a client, since an
//! attacker may retransmit as well. The completed handshake does ([`super::let_through`]).

use super::{PacketCtx, Tables, hash};
use crate::abi::{DropCacheSet, Pace};

/// A tick is 2^23 ns (8.4 ms): a shift, where a division would cost as much as the rest.
const TICK: u32 = 23;
/// Bits of the time in a slot. It wraps after 34 s, and an entry as old as that can at worst let one dropped
/// SYN pass, if the tag is the same: of 2^20 there are, so for one SYN in 131,072.
const TIME_BITS: u32 = 12;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;
/// Earliest retransmission that counts, in ticks (0.8 s): shorter than any initial timeout in use (1 s), with
/// room for timer slack, and longer than a burst of duplicates.
pub const RETRANSMIT_MIN: u32 = (800_000_000 >> TICK) as u32;
/// Latest retransmission that counts, in ticks (3.5 s): the second one comes 2 s after the first.
pub const RETRANSMIT_MAX: u32 = (3_500_000_000_u64 >> TICK) as u32;

/// SYNs in a tick of [`Pace`] up to which a CPU remembers each, as a power of two (4,096: 244,000 a second).
/// Each costs a cache miss, behind a full receive path some 100 ns and more than all else that is done for it:
/// at this rate 2 % of a CPU.
const REMEMBERED_BITS: u8 = 12;
/// Of more than that a quarter of as many are remembered, as a power of two: 30,000 to 61,000 a second. Of those
/// of four CPUs four in five at least are there for the second retransmission, after 3 s, too (Poisson).
const THINNED_BITS: u8 = 2;

/// One SYN of how many, as a power of two, is remembered. A flood at its maximum leaves a CPU no time for a cache
/// miss with each SYN, and more than the table holds would be forgotten before they could be retransmitted. So a
/// CPU that sees too many remembers fewer, and each retransmitted one stands for so many.
#[inline(always)]
pub fn of_how_many(syns: &Pace) -> u8 {
    match syns.over(REMEMBERED_BITS) {
        0 => 0,
        over => over + THINNED_BITS,
    }
}

/// Returns whether a SYN is one of those that are remembered, one in `2^shift`. The hash of its connection decides,
/// so that its retransmissions are as well, and most SYNs need no hash of their own.
#[inline(always)]
pub fn is_remembered(flow_hash: u64, shift: u8) -> bool {
    // By other bits than those that choose the sample of flows: each sample is to be one of the other.
    hash::sampled(flow_hash >> 20, shift)
}

/// The tag of the SYN with `hash` in its set, without the time.
#[inline(always)]
fn tag(hash: u64) -> u32 {
    ((hash >> (32 + TIME_BITS)) as u32).max(1)
}

/// Result of the search for a SYN in its set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lookup {
    No,
    /// A moment ago: it leaves the set as it is.
    Duplicate,
    /// For so long that this may be a retransmission.
    Before,
}

/// Looks for the SYN with `hash` in its set.
#[inline(always)]
pub fn lookup(bucket: &DropCacheSet, hash: u64, now_ns: u64) -> Lookup {
    let tag = tag(hash);
    let mut place = 0;
    while place < 8 {
        let seen = bucket.places[place];
        if seen >> TIME_BITS == tag {
            let age = ((now_ns >> TICK) as u32).wrapping_sub(seen) & TIME_MASK;
            return if age < RETRANSMIT_MIN { Lookup::Duplicate } else { Lookup::Before };
        }
        place += 1;
    }
    Lookup::No
}

/// Remembers a SYN that is not in its set. The newest comes first and the others move up by one, so that
/// the oldest falls out: looking for it would cost more, because which one it is cannot be predicted.
#[inline(always)]
pub fn remember(bucket: &mut DropCacheSet, hash: u64, now_ns: u64) {
    let mut moving = tag(hash) << TIME_BITS | (now_ns >> TICK) as u32 & TIME_MASK;
    let mut place = 0;
    while place < 8 {
        core::mem::swap(&mut bucket.places[place], &mut moving);
        place += 1;
    }
}

/// Looks for the SYN with `hash` in its set, remembers it there, and returns whether it was retransmitted in
/// time.
#[inline(always)]
pub fn retransmitted(bucket: &mut DropCacheSet, hash: u64, now_ns: u64) -> bool {
    let now = (now_ns >> TICK) as u32 & TIME_MASK;
    let tag = tag(hash);
    let mut place = 0;
    while place < 8 {
        let seen = bucket.places[place];
        if seen >> TIME_BITS == tag {
            let age = now.wrapping_sub(seen) & TIME_MASK;
            // Of a duplicate the first time is kept, or the real retransmission would seem too early.
            bucket.places[place] = if age < RETRANSMIT_MIN { seen } else { tag << TIME_BITS | now };
            return (RETRANSMIT_MIN..=RETRANSMIT_MAX).contains(&age);
        }
        place += 1;
    }
    remember(bucket, hash, now_ns);
    false
}

/// Returns whether a SYN that is to be dropped was retransmitted in time, and remembers it. Beyond the sample it is
/// not remembered, and counts as a first one.
#[inline(always)]
pub(super) fn was_retransmitted<T: Tables>(tables: &mut T, pkt: &PacketCtx) -> bool {
    if !is_remembered(pkt.flow_hash, of_how_many(tables.syns())) {
        return false;
    }
    let hash = hash::syn(pkt.flow_hash, pkt.segment.seq);
    // A look-up that fails may not turn into a drop.
    tables.drop_cache_set(hash).is_none_or(|bucket| retransmitted(bucket, hash, pkt.now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn times(bucket: &mut DropCacheSet, hash: u64, times_ms: &[u64]) -> [bool; 4] {
        let mut answers = [false; 4];
        for (answer, ms) in answers.iter_mut().zip(times_ms) {
            *answer = retransmitted(bucket, hash, ms * MS);
        }
        answers
    }

    #[test]
    fn a_client_that_retransmits_at_1_and_3_seconds_is_recognised_both_times() {
        let mut bucket = DropCacheSet::default();
        let answers = times(&mut bucket, 7 << 44, &[10_000, 11_000, 13_000, 17_000]);
        assert_eq!(answers, [false, true, true, false]);
    }

    #[test]
    fn a_duplicate_within_the_burst_is_not_a_return_and_does_not_delay_one() {
        let mut bucket = DropCacheSet::default();
        let answers = times(&mut bucket, 7 << 44, &[10_000, 10_001, 10_700, 11_000]);
        assert_eq!(answers, [false, false, false, true]);
    }

    #[test]
    fn eight_syns_share_a_set_and_the_ninth_replaces_the_oldest() {
        let mut bucket = DropCacheSet::default();
        for tag in 1..=9u64 {
            assert!(!retransmitted(&mut bucket, tag << 44, (10_000 + tag) * MS));
        }
        assert!(!retransmitted(&mut bucket, 1 << 44, 11_100 * MS), "the oldest was replaced");
        assert!(retransmitted(&mut bucket, 9 << 44, 11_100 * MS));
    }

    /// The pace of a CPU that has seen so many SYNs a second for a tenth of one.
    fn pace(per_second: u64) -> Pace {
        let mut pace = Pace::default();
        let syns = per_second / 10;
        (0..syns).for_each(|syn| pace.count(1000 * MS + syn * 100 * MS / syns));
        pace
    }

    /// Any hash but the same each time.
    fn hash_of(number: u64) -> u64 {
        let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn of_more_syns_than_could_be_retransmitted_in_time_a_sample_is_remembered() {
        let remembered = |per_second| {
            let shift = of_how_many(&pace(per_second));
            let share = (0..65_536).filter(|&it| is_remembered(hash_of(it), shift)).count();
            per_second * share as u64 / 65_536
        };
        assert_eq!([100, 100_000, 240_000].map(remembered), [100, 100_000, 240_000]);
        for rate in [500_000, 900_000, 1_500_000, 3_000_000, 9_000_000] {
            let found = remembered(rate);
            assert!((27_000..65_000).contains(&found), "{found} of {rate}");
        }
    }

    #[test]
    fn those_that_are_remembered_are_in_every_set() {
        let shift = of_how_many(&pace(9_000_000));
        let mut sets = [0; 16];
        for flow in (0..524_288).map(hash_of).filter(|&flow| is_remembered(flow, shift)) {
            sets[hash::syn(flow, 7) as usize % 16] += 1;
        }
        assert!(sets.iter().all(|syns| (80..180).contains(syns)), "{sets:?}");
    }

    #[test]
    fn the_time_may_wrap() {
        let mut bucket = DropCacheSet::default();
        let wrap = u64::from(u32::MAX) << TICK;
        assert!(!retransmitted(&mut bucket, 5 << 44, wrap - 500 * MS));
        assert!(retransmitted(&mut bucket, 5 << 44, wrap + 501 * MS));
    }
}
