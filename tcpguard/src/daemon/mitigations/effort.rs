//! The CPU time that the mitigations of a poll may cost: each is some work for the agent, and those of a
//! carpet attack start all at once.

use std::time::Duration;

use tcpguard_engine::Timestamp;

/// Part of a poll that mitigations may take: an alarm takes three polls, and must not take four because of the
/// mitigations that other listeners need. The listeners' order decides which are started first; the others are tried
/// again in a second.
const PART: u32 = 4;

/// The CPU time that mitigations have taken in a poll.
#[derive(Debug, Default)]
pub struct Effort {
    poll: Option<Timestamp>,
    spent: Duration,
    asked: Option<Timestamp>,
}

impl Effort {
    /// Nothing was done yet.
    pub const fn new() -> Self {
        Self { poll: None, spent: Duration::ZERO, asked: None }
    }

    /// Returns whether there is time for another mitigation in the poll of `now`, where polls are one `poll` apart.
    /// For one there always is.
    pub fn is_left(&self, now: Timestamp, poll: Duration) -> bool {
        self.poll != Some(now) || self.spent < poll / PART
    }

    /// A mitigation took so much in the poll of `now`.
    pub fn took(&mut self, now: Timestamp, cost: Duration) {
        if self.poll.replace(now) != Some(now) {
            self.spent = Duration::ZERO;
        }
        self.spent += cost;
    }

    /// Returns whether the packet filter is to be asked whether it has changed: once in a poll.
    pub fn asks_firewall(&mut self, now: Timestamp) -> bool {
        self.asked.replace(now) != Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    #[test]
    fn mitigations_take_a_quarter_of_a_poll_at_most_and_one_always_starts() {
        for (cost_ms, expected) in [(1, 63), (10, 7), (500, 1)] {
            let mut effort = Effort::new();
            for poll in 1..=3 {
                let now = Timestamp::default() + POLL * poll;
                let mut taken = 0;
                while taken < 1000 && effort.is_left(now, POLL) {
                    effort.took(now, Duration::from_millis(cost_ms));
                    taken += 1;
                }
                assert_eq!(taken, expected, "at {cost_ms} ms each");
            }
        }
    }

    #[test]
    fn the_packet_filter_is_asked_once_in_a_poll() {
        let mut effort = Effort::new();
        let mut asked = |poll: u32| effort.asks_firewall(Timestamp::default() + POLL * poll);
        assert_eq!([1, 1, 1, 2, 2].map(&mut asked), [true, false, false, true, false]);
    }
}
