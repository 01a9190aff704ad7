//! Pacing of work whose cost others can raise: at each poll while it is cheap, then for a part of a CPU's time, a
//! twentieth by default, and every ten seconds if one pass takes longer than that part of them.

use std::time::Duration;

use tcpguard_engine::Timestamp;

/// Ratio of the time until the next run to the CPU time of the last one.
const PART: u32 = 20;
/// The work is done this often regardless of its cost.
const LONGEST: Duration = Duration::from_secs(10);

/// The last time that the work was done, and its CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    last: Option<(Timestamp, Duration)>,
}

impl Pace {
    /// Returns whether the work is to be done now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.is_due_for(now, PART)
    }

    /// Returns the same for work that may take one in `part` of a CPU's time.
    pub fn is_due_for(&self, now: Timestamp, part: u32) -> bool {
        let pause = |cost: Duration| cost.saturating_mul(part).min(LONGEST);
        self.last.is_none_or(|(at, cost)| now >= at + pause(cost))
    }

    /// Records that the work was done at `now` and took `cost` of CPU time.
    pub fn took(&mut self, now: Timestamp, cost: Duration) {
        self.last = Some((now, cost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_little_is_done_with_each_poll_and_what_costs_much_seldom() {
        const POLL: Duration = Duration::from_millis(250);
        for (cost_ms, expected) in [(0, 240), (1, 240), (12, 240), (35, 80), (140, 20), (900, 6)] {
            let (mut pace, mut done) = (Pace::default(), 0);
            for poll in 0..240 {
                let now = Timestamp::from_nanos(1_000_000_000) + POLL * poll;
                if pace.is_due(now) {
                    pace.took(now, Duration::from_millis(cost_ms));
                    done += 1;
                }
            }
            assert_eq!(done, expected, "of 240 polls, at {cost_ms} ms each");
        }
    }
}
