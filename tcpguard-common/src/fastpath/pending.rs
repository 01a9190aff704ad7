//! Marks of the flows that may have a handshake under way.
//!
//! Nearly every segment that arrives belongs to a connection with a handshake of long ago. To look that
//! up among the flows costs two cache misses. A mark for each 16 bits of the keyed hash of a flow shows
//! it instead: 64 KiB, which the cache holds. A SYN that is recorded sets the mark of its flow to the
//! time, so that the mark expires after [`HANDSHAKE_NS`] without being cleared. A mark may say
//! "perhaps" of a flow that has no handshake, never "no" of one that has: it is a byte, and CPUs that
//! set it at once write the same or nearly so.

use super::decide::HANDSHAKE_NS;
use crate::abi::maps::PENDING_MARKS;

/// A tick is 2^33 ns (8.6 s).
const TICK: u32 = 33;
/// Ticks after which a handshake is no longer waited for, the one that it began in not counted.
const TICKS: u8 = (HANDSHAKE_NS >> TICK) as u8 + 1;
/// Bit of every mark that was ever set: an all-zero table says that no handshake is under way.
const SET: u8 = 0x80;
/// The other bits are of the number of the tick, which wraps after 18 minutes.
const TIME: u8 = 0x7f;

// A mark must be old long before its number wraps.
const _: () = assert!(TICKS < TIME / 2);

/// Position of a flow's mark, given its hash: not the bits by which the sample is chosen, nor those of
/// its set among the flows, or all of a set's flows would share a mark.
#[inline(always)]
pub const fn place(flow_hash: u64) -> usize {
    (flow_hash >> 32) as usize & (PENDING_MARKS - 1)
}

/// The mark of a flow with a SYN at `now_ns` of boot time.
#[inline(always)]
pub const fn mark(now_ns: u64) -> u8 {
    SET | (now_ns >> TICK) as u8 & TIME
}

/// Returns whether the third packet of a handshake that this mark stands for may still come at `now_ns`.
#[inline(always)]
pub const fn is_fresh(mark: u8, now_ns: u64) -> bool {
    // Clocks of two CPUs may stand in two ticks: a mark may be of the next one.
    let age = self::mark(now_ns).wrapping_sub(mark).wrapping_add(1) & TIME;
    mark & SET != 0 && age <= TICKS + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 1 << TICK;

    #[test]
    fn a_mark_lasts_as_long_as_a_handshake_may_and_hardly_longer() {
        for began in [0, 1, TICK_NS - 1, 126 * TICK_NS, 127 * TICK_NS + 5, 1 << 50] {
            let mark = mark(began);
            for later in [0, 1, TICK_NS, HANDSHAKE_NS] {
                assert!(is_fresh(mark, began + later), "{began} + {later}");
            }
            assert!(!is_fresh(mark, began + HANDSHAKE_NS + 2 * TICK_NS), "{began}");
        }
    }

    #[test]
    fn another_cpu_s_clock_may_be_a_tick_behind() {
        assert!(is_fresh(mark(5 * TICK_NS), 5 * TICK_NS - 1));
        assert!(
            is_fresh(mark(128 * TICK_NS), 128 * TICK_NS - 1),
            "also when the number begins anew"
        );
    }

    #[test]
    fn an_empty_table_waits_for_no_handshake() {
        for tick in 0..300 {
            assert!(!is_fresh(0, tick * TICK_NS));
        }
    }
}
