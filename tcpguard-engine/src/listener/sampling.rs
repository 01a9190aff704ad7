//! Share of the flows that are tracked in detail, chosen by the rate of SYNs.

use std::time::Duration;

use crate::input::{Timestamp, constants};

constants! {
    /// Flows tracked per second, over all listeners.
    pub const TRACKED_PER_SECOND: u64 = 20_000 Count in 100..=1_000_000,
        "Weighed against the kernel's table of sampled flows, which must hold each flow until it \
         is judged.";

    /// Time after which fewer SYNs allow a larger share of them to be tracked.
    pub(crate) const SAMPLING_HOLD: Duration = 10 Seconds in 3..=60,
        "As the longest pause assumed of a pulsed flood.";
}

/// Largest sampling shift. No flood needs more: one in 65,536 of 10^9 SYN/s is still tracked.
const MAX_SHIFT: u8 = 16;

/// Chooses the sampling shift: up at once, down slowly, so that the pauses of a pulsed flood do not
/// fill the flow table with the next pulse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampling {
    needed: Timestamp,
}

impl Sampling {
    /// Returns the shift to change to from `shift`, for `syn_rate` SYNs per second over the last poll.
    pub fn poll(&mut self, now: Timestamp, syn_rate: f64, shift: u8) -> Option<u8> {
        let limit = TRACKED_PER_SECOND as f64;
        let needed = (0..MAX_SHIFT)
            .find(|shift| syn_rate / f64::from(1_u32 << shift) <= limit)
            .unwrap_or(MAX_SHIFT);
        if needed >= shift {
            self.needed = now;
            return (needed > shift).then_some(needed);
        }
        if now.since(self.needed) < SAMPLING_HOLD {
            return None;
        }
        self.needed = now;
        Some(shift - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn more_syns_are_tracked_less_often_at_once_and_fewer_again_step_by_step() {
        let mut sampling = Sampling::default();
        let mut now = Timestamp::from_millis(1000);
        let mut shift = 0;
        let mut poll = |rate, seconds| {
            now = now + Duration::from_secs(seconds);
            if let Some(next) = sampling.poll(now, rate, shift) {
                shift = next;
            }
            shift
        };
        assert_eq!(poll(20_000.0, 0), 0);
        assert_eq!(poll(100_000.0, 0), 3, "12,500 a second are tracked");
        assert_eq!(poll(5_000_000.0, 0), 8);
        assert_eq!(poll(0.0, 9), 8);
        assert_eq!(poll(0.0, 1), 7);
        assert_eq!(poll(0.0, 9), 7);
        assert_eq!(poll(0.0, 1), 6);
    }
}
