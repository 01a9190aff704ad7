//! The sampling that follows from the packet rate that a CPU sees, by type of packet.

use super::ladder::ANY_COOKIES;
use crate::abi::{Config, Pace};

/// Sampling of flows with a dropped SYN, where not all flows are tracked: at most one in `2^DROPPED_SHIFT`. At
/// 40,000 SYN/s that is still 600 a second, of which a share of 1 % is known to 0.4 percentage points (binomial
/// standard error).
const DROPPED_SHIFT: u8 = 6;
/// Power of two by which flows with a dropped SYN are tracked less often than the others, where few of those
/// are tracked as well.
const DROPPED_LESS: u8 = 3;

/// Segments a tick up to which each is counted for its source, as a power of two (64: 3,800 a second).
/// Nothing is judged by these counts, and finding the source costs a cache miss or two.
pub const SEGMENT_BITS: u8 = 6;

/// The sample to which a SYN has to belong to be recorded: the agent's, or a smaller one while this CPU sees
/// too many for that. A still smaller one is enough for dropped SYNs, and for all while they are
/// answered with cookies. Their nature is known, and tracking one costs more than dropping or answering it.
#[inline(always)]
pub(super) fn tracked_shift(config: &Config, syns: &Pace, mitigations: u8, dropped: bool) -> u8 {
    let over = match config.tracked_bits {
        0 => 0,
        bits => syns.over(bits),
    };
    let shift = if over > config.sample_shift { over } else { config.sample_shift };
    if over != 0 && (dropped || mitigations & ANY_COOKIES != 0) {
        dropped_shift(shift)
    } else {
        shift
    }
}

/// The sampling of flows with a dropped SYN, as a power of two, where one in `2^shift` of the others is
/// tracked because a CPU sees too many for each. It is not less than that, so that the one sample is part of
/// the other.
#[inline(always)]
pub const fn dropped_shift(shift: u8) -> u8 {
    let less = shift + DROPPED_LESS;
    if less > DROPPED_SHIFT { less } else { DROPPED_SHIFT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_of_what_is_dropped_is_part_of_the_other() {
        assert_eq!([0, 3, 4, 16].map(dropped_shift), [6, 6, 7, 19]);
    }
}
