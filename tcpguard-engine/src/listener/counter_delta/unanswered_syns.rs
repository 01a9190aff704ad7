//! Unanswered SYNs of a listener with queues that cannot be read.

use std::collections::VecDeque;
use std::time::Duration;

use crate::input::POLL;

/// Ticks that a client is given to retransmit an unanswered SYN: 1.5 s.
const AGAIN: usize = 6;
/// The same as a span: so much later it is known that a SYN was not answered.
pub(crate) const UNANSWERED_AFTER: Duration = POLL.saturating_mul(AGAIN as u32);
/// Ticks over which unanswered SYNs are judged.
const HEARD: usize = 16;
/// Unanswered SYNs in that time below which nothing is made of them, as of `fast_failures`.
const UNANSWERED_MIN: u64 = 64;
/// Share of them that clients retransmit, with a client's timing: of spoofed SYNs fewer are (`retransmit_share`).
const UNANSWERED_RETRANSMITTED: f64 = 0.35;

/// Fates of the SYNs at a listener with queues that cannot be read. Unanswered SYNs that are not
/// retransmitted then show that its SYN queue is full.
#[derive(Clone, Debug, Default)]
pub(super) struct UnansweredSyns {
    ticks: VecDeque<Heard>,
}

/// The SYNs of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub answered: u64,
    pub unanswered: u64,
    pub completed: u64,
    /// Retransmissions with a client's timing.
    pub retransmitted: u64,
}

impl UnansweredSyns {
    /// Adds a tick. Returns how many SYNs a full queue left without a reply. They are reported once a
    /// client would have retransmitted them.
    pub fn next(&mut self, tick: Heard) -> u64 {
        // Empty ticks at the front add nothing and are left out. Most listeners have no others.
        if !self.ticks.is_empty() || tick != Heard::default() {
            self.ticks.push_back(tick);
        }
        let is_over = |ticks: &VecDeque<Heard>| {
            ticks.len() > HEARD || ticks.front() == Some(&Heard::default())
        };
        while is_over(&self.ticks) {
            self.ticks.pop_front();
        }
        let Some(judged) = self.ticks.len().checked_sub(AGAIN + 1) else { return 0 };
        let all = |count: fn(&Heard) -> u64| self.ticks.iter().map(count).sum::<u64>();
        let old = |count: fn(&Heard) -> u64| self.ticks.iter().take(judged + 1).map(count).sum();
        let unanswered: u64 = old(|tick| tick.unanswered);
        // Where answers were sent but not captured, more clients go on than were answered.
        let heard = all(|tick| tick.completed).saturating_sub(all(|tick| tick.answered));
        let missing = unanswered.saturating_sub(heard);
        let retransmitted = all(|tick| tick.retransmitted);
        if missing < UNANSWERED_MIN
            || retransmitted as f64 > UNANSWERED_RETRANSMITTED * missing as f64
        {
            return 0;
        }
        let share = missing as f64 / unanswered as f64;
        (self.ticks[judged].unanswered as f64 * share) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_listener_without_syns_no_tick_is_kept() {
        let mut unanswered_syns = UnansweredSyns::default();
        let syns = Heard { unanswered: 3, ..Heard::default() };
        let quiet = [Heard::default(); HEARD];
        quiet.iter().for_each(|tick| _ = unanswered_syns.next(*tick));
        assert!(unanswered_syns.ticks.is_empty());
        unanswered_syns.next(syns);
        quiet[1..].iter().for_each(|tick| _ = unanswered_syns.next(*tick));
        assert_eq!(unanswered_syns.ticks.len(), HEARD, "what came is remembered as long as ever");
        unanswered_syns.next(quiet[0]);
        assert!(unanswered_syns.ticks.is_empty());
    }
}
