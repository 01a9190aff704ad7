//! Whether a CPU sees so many SYNs that following every one of them is too dear.
//!
//! The agent chooses the sample, but only as often as it polls, and a flood is at its full rate
//! within microseconds. What a rule drops is nothing new, so there each CPU thins the sample by
//! itself and at once.

/// A tick is 2^24 ns (16.8 ms).
const TICK: u32 = 24;
/// SYNs per tick and CPU up to which every one may be followed (20,000 a second).
const SYNS_PER_TICK: u32 = ((20_000_u64 << TICK) / 1_000_000_000) as u32;
/// Above that one in `2^DROPPED_SHIFT` of the flows is followed whose SYN a rule drops. At twice
/// the limit that is still 600 a second, of which a share of 1 % is known to 0.4 percentage points
/// (binomial standard error).
const DROPPED_SHIFT: u8 = 6;
/// Where the agent follows fewer flows than that, so many fewer (as a power of two) are followed of
/// what is dropped.
const DROPPED_LESS: u8 = 3;

/// The SYNs that one CPU saw lately.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    tick: u32,
    syns: u32,
    fast: u32,
}

impl Pace {
    /// Counts a SYN at `now_ns` of boot time.
    #[inline(always)]
    pub const fn count(&mut self, now_ns: u64) {
        let tick = (now_ns >> TICK) as u32;
        if tick != self.tick {
            let before = tick.wrapping_sub(self.tick) == 1;
            self.fast = (before && self.syns > SYNS_PER_TICK) as u32;
            self.tick = tick;
            self.syns = 0;
        }
        self.syns += 1;
    }

    /// The shift of the sample of flows whose SYN is dropped, where it is `sample_shift` for the
    /// others. Not less than that, so that the one sample is part of the other.
    #[inline(always)]
    pub const fn dropped_shift(&self, sample_shift: u8) -> u8 {
        let shift = sample_shift + DROPPED_LESS;
        if self.fast == 0 && self.syns <= SYNS_PER_TICK {
            sample_shift
        } else if shift > DROPPED_SHIFT {
            shift
        } else {
            DROPPED_SHIFT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shift for dropped SYNs after `rate` SYNs a second for `ms` milliseconds from `from_ms` on.
    fn shift(pace: &mut Pace, rate: u64, from_ms: u64, ms: u64) -> u8 {
        for syn in 0..rate * ms / 1000 {
            pace.count(from_ms * 1_000_000 + syn * 1_000_000_000 / rate);
        }
        pace.dropped_shift(0)
    }

    #[test]
    fn all_are_followed_up_to_the_limit_and_few_from_the_first_tick_above_it() {
        let mut pace = Pace::default();
        assert_eq!(shift(&mut pace, 19_000, 1000, 500), 0);
        assert_eq!(shift(&mut pace, 100_000, 1500, 20), DROPPED_SHIFT);
        assert_eq!(shift(&mut pace, 100_000, 1520, 1000), DROPPED_SHIFT);
        assert_eq!(shift(&mut pace, 1000, 2520, 100), 0, "and all again when it is over");
    }

    #[test]
    fn a_sample_of_the_agents_is_never_exceeded() {
        let mut pace = Pace::default();
        shift(&mut pace, 100_000, 1000, 100);
        assert_eq!([0, 3, 4, 16].map(|shift| pace.dropped_shift(shift)), [6, 6, 7, 19]);
    }

    #[test]
    fn a_pause_is_no_tick_of_a_flood() {
        let mut pace = Pace::default();
        shift(&mut pace, 100_000, 1000, 100);
        pace.count(60_000_000_000);
        assert_eq!(pace.dropped_shift(0), 0);
    }
}
