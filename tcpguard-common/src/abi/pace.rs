//! The packet rate that a CPU sees.
//!
//! The agent chooses the sample, but only as often as it polls, and a flood is at its full rate within
//! microseconds. Work that is too expensive for each packet of a flood is done by each CPU for fewer,
//! by itself and at once.

const SECOND_NS: u64 = 1_000_000_000;

/// The packets of a kind that one CPU saw lately.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    tick: u32,
    packets: u32,
    /// Bound on the packets in this tick so far, as a power of two ...
    bits: u8,
    /// ... and on those in the tick before.
    before: u8,
    pad: [u8; 2],
}

impl Pace {
    /// A tick is 2^24 ns (16.8 ms).
    pub(crate) const TICK: u32 = 24;

    /// Counts a packet at `now_ns` of boot time.
    #[inline(always)]
    pub const fn count(&mut self, now_ns: u64) {
        let tick = (now_ns >> Self::TICK) as u32;
        if tick != self.tick {
            self.before = if tick.wrapping_sub(self.tick) == 1 { self.bits } else { 0 };
            self.tick = tick;
            self.packets = 0;
            self.bits = 0;
        }
        self.packets = self.packets.wrapping_add(1);
        if self.packets > 1 << (self.bits & 31) {
            self.bits += 1;
        }
    }

    /// The packets in this tick so far.
    #[inline(always)]
    pub(crate) const fn packets(&self) -> u32 {
        self.packets
    }

    /// Returns the number of packets in this tick up to which the answers stay as they are.
    #[inline(always)]
    pub(crate) const fn packets_at_this_rate(&self) -> u32 {
        1 << (self.bits & 31)
    }

    /// Counts a packet in the tick of the one before, where the answers stay as they are.
    #[inline(always)]
    pub(crate) const fn one_more(&mut self) {
        self.packets = self.packets.wrapping_add(1);
    }

    /// Returns whether the packet just counted is the last of so many (a power of two) in its tick.
    #[inline(always)]
    pub const fn is_nth(&self, many: u32) -> bool {
        self.packets & (many - 1) == 0
    }

    /// Returns the sampling, one packet in so many, as a power of two, for work that can be done for `2^bits`
    /// packets in a tick.
    #[inline(always)]
    pub const fn over(&self, bits: u8) -> u8 {
        let now = if self.bits > self.before { self.bits } else { self.before };
        now.saturating_sub(bits)
    }

    /// The packets in a tick at this rate, to the next power of two: for [`Self::over`].
    pub const fn bits(per_second: u64) -> u8 {
        let in_tick = (per_second << Self::TICK) / SECOND_NS;
        in_tick.next_power_of_two().trailing_zeros() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the sampling, one packet in so many, as a power of two, after `rate` a second for `ms`
    /// milliseconds from `from_ms` on, where 20,000 a second are not too many.
    fn over(pace: &mut Pace, rate: u64, from_ms: u64, ms: u64) -> u8 {
        for syn in 0..rate * ms / 1000 {
            pace.count(from_ms * 1_000_000 + syn * SECOND_NS / rate);
        }
        pace.over(Pace::bits(20_000))
    }

    #[test]
    fn nothing_is_left_out_up_to_the_limit_and_at_once_as_much_as_needed_above_it() {
        let mut pace = Pace::default();
        assert_eq!(over(&mut pace, 20_000, 1000, 500), 0);
        assert_eq!(over(&mut pace, 100_000, 1500, 6), 1, "within the first tick");
        assert_eq!(over(&mut pace, 100_000, 1506, 1000), 2, "25,000 a second");
        assert_eq!(over(&mut pace, 5_000_000, 2506, 100), 8);
        assert_eq!(over(&mut pace, 1000, 2606, 100), 0, "and all again when it is over");
    }

    #[test]
    fn a_limit_is_taken_to_the_next_power_of_two() {
        for (per_second, bits) in [(0, 0), (100, 0), (20_000, 9), (30_000, 9), (31_000, 10)] {
            assert_eq!(Pace::bits(per_second), bits, "{per_second}");
        }
    }

    #[test]
    fn a_pause_is_no_tick_of_a_flood() {
        let mut pace = Pace::default();
        over(&mut pace, 100_000, 1000, 100);
        pace.count(60_000_000_000);
        assert_eq!(pace.over(Pace::bits(20_000)), 0);
    }
}
