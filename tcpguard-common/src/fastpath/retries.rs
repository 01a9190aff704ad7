//! SYNs that were dropped by the first-SYN drop or beyond budgets, and their retransmissions.
//!
//! More SYNs arrive than can be answered, so first ones are dropped, from every source. A real client
//! retransmits its SYN (same 4-tuple and sequence number): after 1 s and 2 s more (RFC 6298), every
//! second (Linux with `tcp_syn_linear_timeouts`), or after 3 s (RFC 1122, older Windows). A spoofed
//! source does not. `fastpath/drop_cache.rs` distinguishes the two for signature rules. It does so with
//! certainty, because a SYN that passes there goes to the stack. That table holds a million SYNs. Here
//! five million come each second. A SYN that passes is answered with a cookie, and a wrong decision now
//! and then costs no more than that reply.
//!
//! So it is a rotating Bloom filter of half-seconds. A SYN belongs to one line of 64 bytes, which is
//! all the memory it touches. In it each of the last eight half-seconds has a word of 60 bits, and a
//! SYN sets `BITS` of them. The word says itself which half-second it holds, so it needs no clearing.
//! After a pause of `WRAP` half-seconds, 63 s, it is taken for as young as it was before the pause;
//! after any other it is known to be old.
//!
//! A SYN is looked for only where a retransmission would have left it: 1 s ago, 2 s ago (the SYN before
//! that was lost on its way) and 3 s ago, each with a margin for timers that fire late and for jitter
//! (`AGES`). A SYN that was already seen within the last 0.4 s is a duplicate, or comes from a tool
//! that sends each SYN several times. It never passes. Otherwise a flood of few SYNs, sent over and
//! over, would pass as a whole.
//!
//! *Arithmetic.* At 5 M SYN/s a half-second (0.491 s) leaves 9.4 SYNs in each of the 262,144 lines.
//! With 4 bits each, a bit is set with probability 1 - (59/60)^37.5 = 0.47, so a SYN that was never
//! there is found in a word with 0.47^4 = 0.048, and with the spread among lines 0.057. The windows of
//! `AGES` touch 4.2 words on average: a fifth would pass (measured 21 % at 5 M/s, 6 % at 3 M/s, 0.4 %
//! at 1 M/s). That is the limit of 16 MiB: five million a second for 3.4 s are 17 million SYNs, at 7.9
//! bits each. A fourth window, 4 s ago, would take two more words, which leaves the others 6.3 bits,
//! and with it a third would pass; tags of a byte, first in, first out, are gone after 3 s. The loss
//! of a real client: at 5 M/s its second SYN is taken for a duplicate one time in twelve (its third
//! one as seldom), at 1 M/s one time in a thousand.
//!
//! Two CPUs that write one word at once lose one of two SYNs: its sender has to retransmit it once
//! more.

use crate::abi::RetryLine;

/// Bits that a SYN sets.
const BITS: u32 = 4;
/// Bits of a word that are the filter.
const FILTER_BITS: u32 = 60;
/// Half-seconds after which a word seems new again: the numbers that its high bits can hold, times the
/// words of a line.
const WRAP: u64 = 8 << (64 - FILTER_BITS);
/// Age of a SYN that is now retransmitted, in ns: both ends of each window. None is wider than a
/// half-second, so it touches no other half-seconds than those of its ends.
const AGES: [u64; 6] =
    [960_000_000, 1_120_000_000, 1_960_000_000, 2_160_000_000, 2_960_000_000, 3_200_000_000];
/// A SYN that comes no later than this after another, in ns, is no retransmission.
const TOO_YOUNG: u64 = 400_000_000;

/// The half-second of a time: 2^34 / 35 ns, 0.491 s, long. By shifts, where a division would cost as
/// much as the rest.
#[inline(always)]
const fn half_second(ns: u64) -> u64 {
    ((ns >> 20) * 35) >> 14
}

/// The bits of a SYN. Its line is chosen by the lowest bits of `hash`.
#[inline(always)]
const fn bits(hash: u64) -> u64 {
    let mut bits = 0;
    let mut from = 24;
    while from < 24 + 10 * BITS {
        let place = ((hash >> from & 1023) * FILTER_BITS as u64) >> 10;
        bits |= 1 << place;
        from += 10;
    }
    bits
}

/// The high bits of the word of a half-second.
#[inline(always)]
const fn number(half: u64) -> u64 {
    (half % WRAP / 8) << FILTER_BITS
}

#[inline(always)]
const fn holds(line: &RetryLine, half: u64, bits: u64) -> bool {
    let all = !0 << FILTER_BITS | bits;
    line.words[half as usize & 7] & all == number(half) | bits
}

/// Looks for the SYN with `hash` in its line, remembers it there, and returns whether it was
/// retransmitted.
#[inline(always)]
pub fn retransmitted(line: &mut RetryLine, hash: u64, now_ns: u64) -> bool {
    let bits = bits(hash);
    let half = half_second(now_ns);
    let young =
        holds(line, half, bits) || holds(line, half_second(now_ns.saturating_sub(TOO_YOUNG)), bits);
    let retransmitted = !young && came_before(line, bits, now_ns);
    let word = &mut line.words[half as usize & 7];
    let same = *word >> FILTER_BITS == number(half) >> FILTER_BITS;
    *word = if same { *word } else { number(half) } | bits;
    retransmitted
}

#[inline(always)]
const fn came_before(line: &RetryLine, bits: u64, now_ns: u64) -> bool {
    let mut end = 0;
    while end < AGES.len() {
        if holds(line, half_second(now_ns.saturating_sub(AGES[end])), bits) {
            return true;
        }
        end += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    /// SplitMix64 (Steele et al., 2014).
    fn mixed(number: u64) -> u64 {
        let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A part of the filter, under its part of the flood.
    struct Part {
        lines: Vec<RetryLine>,
        random: u64,
        now_ns: u64,
    }

    impl Part {
        const LINES: u64 = 8192;

        fn new(now_ns: u64) -> Self {
            Self { lines: std::vec![RetryLine::default(); Self::LINES as usize], random: 1, now_ns }
        }

        fn hash(&mut self) -> u64 {
            self.random += 1;
            mixed(self.random)
        }

        fn syn(&mut self, hash: u64) -> bool {
            retransmitted(&mut self.lines[(hash % Self::LINES) as usize], hash, self.now_ns)
        }

        /// The share of a flood of so many SYNs a second, all of them new, that passes.
        fn flood(&mut self, per_second: u64, ns: u64) -> f64 {
            let gap = S * u64::from(crate::abi::maps::RETRY_LINES) / Self::LINES / per_second;
            let (mut passed, mut all) = (0, 0);
            let end = self.now_ns + ns;
            while self.now_ns < end {
                self.now_ns += gap;
                let hash = self.hash();
                passed += u32::from(self.syn(hash));
                all += 1;
            }
            f64::from(passed) / f64::from(all)
        }

        /// Of clients that send their SYNs at these times (in ms) under a flood: the shares that
        /// pass with each.
        fn clients(&mut self, per_second: u64, at_ms: &[u64]) -> Vec<f64> {
            const CLIENTS: u32 = 2000;
            let mut passed = std::vec![0; at_ms.len()];
            let start = self.now_ns;
            let clients: Vec<u64> = (0..CLIENTS).map(|_| self.hash()).collect();
            for (at, passed) in at_ms.iter().zip(&mut passed) {
                let wait = start + at * MS - self.now_ns;
                self.flood(per_second, wait);
                for client in &clients {
                    *passed += u32::from(self.syn(*client));
                }
            }
            passed.iter().map(|passed| f64::from(*passed) / f64::from(CLIENTS)).collect()
        }
    }

    #[test]
    fn of_a_random_flood_passes_what_the_memory_allows() {
        for (per_second, most) in [(500_000, 0.001), (1_000_000, 0.01), (5_000_000, 0.23)] {
            let mut part = Part::new(1000 * S);
            part.flood(per_second, 4 * S);
            let passed = part.flood(per_second, S);
            assert!(passed <= most, "{per_second} SYN/s: {passed}");
        }
    }

    #[test]
    fn clients_are_recognised_at_any_rate_and_however_they_retransmit() {
        for (per_second, least) in [(1_000_000, 0.995), (3_000_000, 0.96), (5_000_000, 0.89)] {
            let mut part = Part::new(1000 * S);
            part.flood(per_second, 4 * S);
            // The last pair: the first SYN never arrived. Timers fire late rather than early.
            for times in [&[0, 1015, 3045][..], &[0, 990, 1995], &[0, 3030], &[0, 2050]] {
                let shares = part.clients(per_second, times);
                assert!(shares[0] < 0.30, "{per_second} SYN/s, the first SYN: {shares:?}");
                let worst = shares[1..].iter().fold(1.0, |worst: f64, share| worst.min(*share));
                assert!(worst >= least, "{per_second} SYN/s, {times:?}: {shares:?}");
                part.flood(per_second, 97 * MS);
            }
        }
    }

    /// The naive filter is emptied every four seconds, in as much memory. It lets a sender pass that
    /// sends a SYN twice at once, and forgets clients that it had just seen. Half-seconds avoid both.
    #[test]
    fn a_filter_that_only_rotates_admits_floods_that_send_each_syn_twice() {
        struct Naive(u64);
        impl Naive {
            fn retransmitted(&mut self, hash: u64) -> bool {
                let there = self.0 & bits(hash) == bits(hash);
                self.0 |= bits(hash);
                there
            }
        }
        let mut naive = Naive(0);
        let mut line = RetryLine::default();
        for _ in 0..2 {
            assert!(!retransmitted(&mut line, mixed(7), 1000 * S));
        }
        assert_eq!([naive.retransmitted(mixed(7)), naive.retransmitted(mixed(7))], [false, true]);
        naive.0 = 0;
        assert!(retransmitted(&mut line, mixed(7), 1001 * S));
        assert!(!naive.retransmitted(mixed(7)), "emptied in between");
    }

    #[test]
    fn a_flood_of_few_syns_sent_over_and_over_passes_at_no_time() {
        for period in [1, 50, 200, 390] {
            let mut line = RetryLine::default();
            let passed = (0..10_000 / period)
                .filter(|round| retransmitted(&mut line, mixed(7), 1000 * S + round * period * MS))
                .count();
            assert_eq!(passed, 0, "every {period} ms");
        }
    }

    #[test]
    fn a_duplicate_neither_passes_nor_delays_its_client() {
        let mut line = RetryLine::default();
        let at = |ms: u64| 1000 * S + ms * MS;
        let mut answers =
            [0, 1, 1000, 1001, 3000].map(|ms| retransmitted(&mut line, mixed(5), at(ms)));
        assert_eq!(answers, [false, false, true, false, true]);
        // A request with a short timer of its own passes as soon as it pauses for a second.
        line = RetryLine::default();
        answers = [0, 300, 600, 900, 1900].map(|ms| retransmitted(&mut line, mixed(5), at(ms)));
        assert_eq!(answers, [false, false, false, false, true]);
    }

    #[test]
    fn what_is_old_is_forgotten_also_after_a_pause() {
        let mut line = RetryLine::default();
        let fill = |line: &mut RetryLine, at: u64| {
            for syn in 0..400u64 {
                retransmitted(line, mixed(syn), at);
            }
        };
        for half in 0..8 {
            fill(&mut line, 1000 * S + half * 491 * MS);
        }
        assert!(
            retransmitted(&mut line.clone(), mixed(400), 1_004_500 * MS),
            "full, it says yes to all"
        );
        for pause in [4, 10, 40, 70, 1000, 100_000] {
            let mut later = line;
            let now = 1004 * S + pause * S;
            assert!(!retransmitted(&mut later, mixed(401), now), "{pause} s later");
            assert!(retransmitted(&mut later, mixed(401), now + S), "{pause} s later");
        }
    }

    /// The numbers of half-seconds wrap: every phase of the wrap is like any other.
    #[test]
    fn at_any_uptime_a_retransmission_passes_and_a_new_client_does_not() {
        for step in 0..4 * WRAP {
            let start = step * 491 * MS + step * 7 * MS;
            let mut line = RetryLine::default();
            assert!(!retransmitted(&mut line, mixed(1), start));
            assert!(retransmitted(&mut line, mixed(1), start + 1003 * MS), "from {start}");
            assert!(!retransmitted(&mut line, mixed(2), start + 1003 * MS), "from {start}");
        }
    }
}
