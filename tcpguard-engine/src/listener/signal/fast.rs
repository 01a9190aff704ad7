//! The fast path: most of many handshakes fail, in two polls running.

use crate::input::constants;
use crate::listener::window::{Sums, Window};
use crate::settings::Settings;

constants! {
    /// Share of the attempts left uncompleted, in two polls, that raises the fast alarm. A smaller
    /// share is reached by clients far away.
    pub(crate) const FAST_SHARE: f64 = 0.75 Share in 0.1..=1.0,
        "Weighed against bursts of clients up to 0.5 s away, which must stay below, and \
         against floods of five times the clients' rate, which must reach it.";

    /// Consecutive polls for which both must hold. With 1 a single burst is an alarm.
    pub(crate) const FAST_POLLS: u32 = 2 Count in 1..=20,
        "Two: a single bad tick is no alarm (in the first poll of a burst, no client can have \
         answered).";
}

/// Attempts are judged in spans of this many ticks, so that a pulse shorter than a tick, or one
/// that straddles two, weighs the same.
const SPAN: usize = 2;

/// Counts the polls in which most of many handshakes failed.
///
/// Resets by the client are failures here: a flood tool's own kernel resets the answers it did not
/// ask for, and the handful of health probes that do the same never reach the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fast {
    streak: u32,
}

impl Fast {
    /// Judges the poll that has just been added to `window`; attempts younger than `maturity` ticks
    /// do not count yet. `true` when this is at least the `polls`th in a row.
    pub fn poll(
        &mut self,
        window: &Window,
        maturity: usize,
        polls: u32,
        settings: &Settings,
    ) -> bool {
        // Averages over missed polls say too little about either moment.
        if window.latest().is_none_or(|tick| tick.gap) {
            return false;
        }
        let sums = Self::judged(window, maturity);
        let failures = sums.failures();
        let failing = failures >= settings.fast_failures
            && failures as f64 >= FAST_SHARE * sums.attempts as f64;
        self.streak = if failing { self.streak + 1 } else { 0 };
        self.streak >= polls
    }

    /// Counts that a poll judges: attempts of the span, and completions since.
    pub fn judged(window: &Window, maturity: usize) -> Sums {
        window.mature(SPAN, maturity)
    }

    /// Bad polls running.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Returns whether the last poll was bad.
    pub fn failing(&self) -> bool {
        self.streak > 0
    }

    /// Starts again.
    pub fn reset(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::input::Timestamp;
    use crate::listener::window::Tick;

    const POLL: Duration = Duration::from_millis(250);

    /// The poll (from 1) at which it alarms, for (attempts, completions) by tick.
    fn alarm(ticks: &[(u64, u64)], polls: u32) -> Option<usize> {
        let mut window = Window::default();
        let mut fast = Fast::default();
        let mut ticks = ticks.iter().enumerate();
        ticks.find_map(|(index, &(attempts, established))| {
            let end = Timestamp::from_millis(250 * (index as u64 + 1));
            window.push(Tick { end, span: POLL, attempts, established, ..Tick::default() });
            fast.poll(&window, 1, polls, &Settings::default()).then_some(index + 1)
        })
    }

    #[test]
    fn a_flood_is_found_at_the_third_poll_after_it_began() {
        assert_eq!(alarm(&[(5, 5), (25_000, 5), (25_000, 5), (25_000, 5)], 2), Some(4));
    }

    #[test]
    fn an_armed_listener_needs_one_bad_poll() {
        assert_eq!(alarm(&[(5, 5), (25_000, 5), (25_000, 5)], 1), Some(3));
    }

    #[test]
    fn a_pulse_within_one_tick_is_enough() {
        assert_eq!(alarm(&[(5, 5), (25_000, 5), (5, 5), (5, 5)], 2), Some(4));
    }

    #[test]
    fn few_failures_or_a_small_share_of_many_are_quiet() {
        assert_eq!(alarm(&[(31, 0); 20], 2), None, "62 in two ticks");
        assert_eq!(alarm(&[(32, 0); 20], 2), Some(4), "64 in two ticks");
        assert_eq!(alarm(&[(1000, 500); 20], 2), None, "half of them");
    }

    #[test]
    fn a_burst_of_slow_clients_is_in_flight_not_failing() {
        // 2,000 connects a tick from nothing, answered by clients 300 ms away.
        assert_eq!(
            alarm(&[(10, 10), (2000, 10), (2000, 1600), (2000, 2000), (2000, 2000)], 2),
            None
        );
        // All of them in one tick, completing within the next two.
        assert_eq!(alarm(&[(10, 10), (2000, 10), (0, 1000), (0, 1000), (0, 0)], 2), None);
    }
}
