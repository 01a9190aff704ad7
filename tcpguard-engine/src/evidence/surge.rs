//! Surges: more handshakes fail than the listener's clients could begin.
//!
//! Clients behind a path that breaks arrive as often as before, and fail at two or three times the baseline
//! rate: a client without a reply tries again (RFC 6298 §5.5), and programs open connections anew. A
//! retransmission is no new client, so only first SYNs are compared. A flash crowd begins many more
//! handshakes, but those that the server can take complete. So more complete than ever before, and more
//! complete than fail. A hundred times the baseline that fails while fewer complete is neither of these. Nor
//! is eight times the baseline that goes on for seconds. An attacker that retransmits SYNs as clients do has
//! two ways to stay below that: a flood that clients could have caused, or as many completed handshakes as
//! open ones, from addresses that the attacker holds.

use super::measured::{Measured, Quantity};
use crate::input::constants;
use crate::listener::{FLASH_CROWD_FACTOR, FLASH_CROWD_FLOOR, Sums};

constants! {
    /// Multiple of the baseline of SYNs from which failures are more than clients could begin. It finds
    /// a mimicking flood before it is known that no SYN is retransmitted.
    pub(crate) const SURGE_FACTOR: f64 = 100.0 Number in 10.0..=1_000_000.0,
        "Clients with a broken path fail at two or three times their rate in the first seconds \
         (RFC 6298 §5.5). Weighed against flash crowds of 20 times the clients.";

    /// Failed handshakes per second below which they may be clients, however low the baseline is.
    pub(crate) const SURGE_FLOOR: f64 = 5000.0 PerSecond in 100.0..=10_000_000.0,
        "Weighed against all players of a game who reconnect at once to a listener with a low \
         baseline.";
}

/// Share of the rate that no clients could begin within a second, from which they could not begin it for
/// [`Surge::LASTING`] seconds either: eight times the baseline, and 400 a second.
const FOR_LONG: f64 = 0.08;

/// The rates of the last seconds, compared with the baseline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surge {
    /// More fail than clients could begin, and it is no flash crowd either.
    pub holds: bool,
    /// For seconds more have failed than clients could begin for so long.
    pub lasts: bool,
    /// Failed handshakes per second, without retransmissions.
    failing: f64,
    /// Completed ones per second.
    completing: f64,
    /// Baseline of SYNs per second; `None` while that is not known.
    baseline: Option<f64>,
}

impl Surge {
    /// Seconds that are compared one by one.
    pub const LASTING: usize = 3;

    /// Compares the sums of the last `seconds`, the last one first, with the `baseline` rate of SYNs per second.
    pub fn of(seconds: &[Sums; Self::LASTING], baseline: Option<f64>) -> Self {
        let exceeds = |sums: &Sums, part: f64| {
            baseline.is_some_and(|baseline| {
                let failing = sums.first_failures();
                let many_complete = sums.per_second(sums.completed) > FLASH_CROWD_FACTOR * baseline;
                let is_served = many_complete && sums.completed >= failing;
                sums.per_second(failing) >= part * surge_rate(baseline) && !is_served
            })
        };
        let [last, ..] = seconds;
        Self {
            holds: exceeds(last, 1.0),
            lasts: seconds.iter().all(|sums| exceeds(sums, FOR_LONG)),
            failing: last.per_second(last.first_failures()),
            completing: last.per_second(last.completed),
            baseline,
        }
    }

    /// Returns whether a rate of failed handshakes is more than this `part` of the rate at which a flash crowd
    /// begins handshakes.
    pub fn exceeds_flash_crowd(&self, rate: f64, part: f64) -> bool {
        self.baseline.is_some_and(|baseline| {
            rate >= (part * FLASH_CROWD_FACTOR * baseline).max(FLASH_CROWD_FLOOR)
        })
    }

    /// The rates, with the limit that a surge needs.
    pub fn measured(&self) -> [Measured; 3] {
        let failing = Quantity::FailedRate.is(self.failing);
        let limit = self.baseline.map(surge_rate);
        [
            limit.map_or(failing, |limit| failing.at_least(limit)),
            Quantity::CompletedRate.is(self.completing),
            Quantity::BaselineSynRate.maybe(self.baseline),
        ]
    }
}

/// Failed handshakes per second from which they are more than clients could begin.
fn surge_rate(baseline: f64) -> f64 {
    (SURGE_FACTOR * baseline).max(SURGE_FLOOR)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A second in which so many handshakes fail and complete, and so many SYNs are retransmitted.
    fn second(failing: u64, completed: u64, retransmitted: u64) -> Sums {
        let (span, attempts) = (Duration::from_secs(1), failing + completed);
        let syns = attempts;
        Sums { span, syns, attempts, completed, retransmitted, ..Sums::default() }
    }

    /// The surge of seconds of which the last one has these counts.
    fn surge(failing: u64, completed: u64, baseline: Option<f64>) -> Surge {
        let seconds = [second(failing, completed, 0), Sums::default(), Sums::default()];
        Surge::of(&seconds, baseline)
    }

    #[test]
    fn a_hundred_times_the_baseline_is_no_broken_path() {
        let flood = surge(156_000, 310, Some(400.0));
        assert!(flood.holds && !flood.lasts);
        assert_eq!(flood.measured()[0], Quantity::FailedRate.is(156_000.0).at_least(40_000.0));
        assert!(!surge(39_999, 310, Some(400.0)).holds);
        assert!(surge(40_000, 310, Some(400.0)).holds);
    }

    #[test]
    fn an_idle_listener_has_a_floor() {
        assert!(!surge(4_999, 0, Some(0.0)).holds);
        assert!(surge(5_000, 0, Some(0.0)).holds);
    }

    #[test]
    fn a_flash_crowd_that_is_served_is_none() {
        assert!(!surge(40_000, 40_000, Some(400.0)).holds);
        assert!(surge(40_001, 40_000, Some(400.0)).holds);
    }

    /// One address completes them.
    #[test]
    fn a_few_handshakes_that_complete_excuse_no_more_that_do_not() {
        for completed in [1_200, 1_201, 50_000] {
            assert!(surge(100_000, completed, Some(400.0)).holds, "{completed}");
        }
        let second = second(1_000, 181, 0);
        assert!(Surge::of(&[second; 3], Some(60.0)).lasts);
    }

    #[test]
    fn nothing_is_said_before_the_baseline_is_known() {
        let unknown = surge(500_000, 0, None);
        assert!(!unknown.holds && !unknown.lasts);
        assert!(!unknown.exceeds_flash_crowd(1e9, 1.0));
        assert_eq!(unknown.measured()[2], Quantity::BaselineSynRate.maybe(None));
    }

    #[test]
    fn eight_times_the_baseline_is_none_either_once_it_lasts() {
        let lasts = |seconds: [Sums; 3]| Surge::of(&seconds, Some(100.0)).lasts;
        assert!(lasts([second(800, 100, 0); 3]));
        assert!(!lasts([second(800, 100, 0), second(799, 100, 0), second(800, 100, 0)]));
        assert!(lasts([second(800, 301, 0); 3]), "more fail than complete");
        assert!(!lasts([second(800, 800, 0); 3]), "a flash crowd that is served");
        assert!(!lasts([second(900, 100, 200); 3]), "clients who try again: 700 of them");
        assert!(!lasts([second(800, 100, 0), second(800, 100, 0), Sums::default()]));
    }
}
