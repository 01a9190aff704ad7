//! Retransmitted SYNs, as evidence of a client.
//!
//! A client's kernel retransmits an unanswered SYN after a second, and then after twice as long each time (RFC
//! 6298 §2.1, §5.5). No other sender has to. But to send each SYN twice at once costs an attacker one more packet,
//! no state and no time. So of a flow only those retransmissions count that come as late as a client's do: the
//! second one that counts comes three times as late as the first may, and so on. Only these are evidence
//! ([`crate::abi::Late::syn_retransmit_timed`]). That any SYN came before is counted apart, because a
//! retransmission is no attempt, whether a client or an attacker sends it.

use crate::abi::Flow;

/// A tick is 2^26 ns (67 ms). It is kept modulo 256, which is 17 s: longer than any wait between a client's first
/// SYNs (1, 2, 4 and 8 s). One that comes so long after the first, or a little more, is taken for young, and does
/// no harm.
const TICK: u32 = 26;
/// Earliest retransmission that counts, in ticks (0.8 s): as [`super::seen`] has it.
const LEAST: u32 = 12;
/// Retransmissions with a time of their own. The fourth comes after 15 s, and the time since the first SYN is
/// known modulo 17 s.
const TIMED: u8 = 4;

/// A SYN whose first repetition comes later than this after it repeats nothing, in ns: of a client's retransmissions
/// after 1, 3, 7 and 15 s all would have been lost on the way here. A flood that sends an old list of SYNs again does
/// not look like clients on a broken path by that.
const FIRST_NS: u64 = 17_000_000_000;
/// The same of further repetitions, in ns: a client gives up after 127 s (`net.ipv4.tcp_syn_retries`: 6).
const LAST_NS: u64 = 128_000_000_000;

/// Returns whether a SYN at `now_ns` with the sequence number of `flow` may be a retransmission of its SYN.
#[inline(always)]
pub(super) const fn may_repeat(flow: &Flow, now_ns: u64) -> bool {
    let limit = if flow.syn_retransmits == 0 { FIRST_NS } else { LAST_NS };
    now_ns.saturating_sub(flow.syn_ns) < limit
}

/// The tick of this time.
#[inline(always)]
pub(super) const fn tick(now_ns: u64) -> u8 {
    (now_ns >> TICK) as u8
}

/// Returns whether the retransmission of a SYN at `now_ns` counts as a client's. `first`: the tick in which the
/// SYN came first. `repeated`: how many retransmissions of it have counted so far. The waits of a client add up
/// to 1, 3, 7 and 15 times the first one. Where they do not double at once (`net.ipv4.tcp_syn_linear_timeouts`),
/// some of its retransmissions do not count.
#[inline(always)]
pub(super) const fn is_clients(first: u8, repeated: u8, now_ns: u64) -> bool {
    let before = if repeated < TIMED { repeated } else { TIMED - 1 };
    let waits = (2_u32 << (before & 3)) - 1;
    // The first SYN came somewhere within its tick.
    tick(now_ns).wrapping_sub(first) as u32 > waits * LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const STARTS: [u64; 4] = [0, 50, 9_973, u64::MAX / MS / 2];

    #[test]
    fn a_clients_repetitions_count_and_a_burst_does_not() {
        for start in STARTS {
            let counts = |after_ms| is_clients(tick(start * MS), 0, (start + after_ms) * MS);
            assert!([0, 1, 100, 400, 700, 800].iter().all(|after| !counts(*after)), "{start}");
            assert!(
                [900, 1000, 3000, 7000, 15_000, 31_000].iter().all(|after| counts(*after)),
                "{start}"
            );
        }
    }

    /// The naive way counts each that comes late enough for the first one.
    #[test]
    fn each_repetition_waits_for_twice_as_long_as_the_one_before() {
        for start in STARTS {
            let times = |after_ms: &[u64]| {
                after_ms.iter().fold(0, |times, after| {
                    let now = (start + after) * MS;
                    times + u8::from(is_clients(tick(start * MS), times, now))
                })
            };
            for (after_ms, counted) in [
                (&[1000, 3000, 7000, 15_000, 31_000][..], 5),
                // As Linux does from 6.5 on, and macOS.
                (&[1000, 2000, 3000, 4000, 5000, 7000], 3),
                (&[3000, 9000], 2),
                (&[1000, 1001, 1002, 2000], 1),
                (&[1000, 3000, 3001, 5000], 2),
            ] {
                assert_eq!(times(after_ms), counted, "{start} {after_ms:?}");
            }
        }
    }
}
