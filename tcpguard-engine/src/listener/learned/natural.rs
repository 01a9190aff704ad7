//! Baseline of the handshakes that fail without an attack: lost clients, port scanners, health checks.

use std::time::Duration;

use super::export::LearnedListener;
use crate::input::Timestamp;
use crate::listener::window::{Sums, Window};

/// Share assumed before anything is learned.
const INITIAL_SHARE: f64 = 0.02;
/// Bounds of the share that is learned gradually. The upper one keeps a patient attacker from teaching the
/// detector that everything fails.
const LEARNED: std::ops::RangeInclusive<f64> = 0.005..=0.25;
/// Bounds of the share that may be known, by an incident that showed nothing else for long. The release, the slow
/// path and the occupancy depend on it, never the alarm of the fast path.
pub(super) const SHARE: std::ops::RangeInclusive<f64> = 0.005..=0.4;
/// Highest learned rate of failures that do not grow with the traffic, per second: half-open health
/// probes of a balancer.
pub(super) const MAX_RATE: f64 = 20.0;
/// Seconds that the average reaches back at first. A flood that takes half a minute to fill a queue
/// must not have become natural by then.
const FIRST: u64 = 600;
/// Seconds that it reaches back at most: up to this it is the mean of all that was ever learned, so
/// that a flood which takes hours to grow stands out from it.
pub(super) const LONGEST: u64 = 6 * 3600;
/// Attempts in the span from which a second has its full weight.
const FULL_WEIGHT_ATTEMPTS: f64 = 80.0;
/// Largest multiple of the expected value that an observation counts as (winsorising), plus a constant. So a
/// rare bad second and a patient attacker teach slowly.
const WINSOR: f64 = 3.0;
const WINSOR_FLOOR: f64 = 4.0;
/// Dispersion of the failures of one tick, relative to chance (Poisson), before anything is learned, and the
/// bounds of the learned one.
const INITIAL_DISPERSION: f64 = 1.5;
pub(super) const DISPERSION: std::ops::RangeInclusive<f64> = 1.0..=20.0;
/// Weight of one tick in the average of the dispersion.
const DISPERSION_WEIGHT: f64 = 0.002;
const EVERY: Duration = Duration::from_secs(1);
const SPAN: Duration = Duration::from_secs(8);

/// Failures that belong to no attack.
#[derive(Clone, Debug)]
pub(crate) struct Natural {
    share: f64,
    rate: f64,
    /// Seconds that they were learned from, [`LONGEST`] at most.
    seconds: u64,
    dispersion: f64,
    learned: Timestamp,
}

impl Default for Natural {
    fn default() -> Self {
        Self {
            share: INITIAL_SHARE,
            rate: 0.0,
            seconds: 0,
            dispersion: INITIAL_DISPERSION,
            learned: Timestamp::default(),
        }
    }
}

impl Natural {
    /// Learns from the last seconds; to be called only in calm.
    pub fn learn(&mut self, now: Timestamp, window: &Window) {
        if now.since(self.learned) < EVERY {
            return;
        }
        self.learned = now;
        let sums = window.last(SPAN);
        if sums.attempts == 0 {
            return;
        }
        let attempts = sums.attempts as f64;
        let most = WINSOR * self.expected(&sums) + WINSOR_FLOOR;
        let failures = (sums.failures() as f64).min(most);
        self.seconds = (self.seconds + 1).min(LONGEST);
        let weight = 1.0 / self.seconds.max(FIRST) as f64;
        let of_share = weight * (attempts / FULL_WEIGHT_ATTEMPTS).min(1.0);
        let share = self.share + of_share * (failures / attempts - self.share);
        // More than that was not learned so, and may be forgotten.
        self.share = share.clamp(*LEARNED.start(), self.share.max(*LEARNED.end()));
        let rate = (failures / sums.span.as_secs_f64()).min(MAX_RATE);
        self.rate += weight * (rate - self.rate);
    }

    /// Goes through a poll like [`Self::learn`], after seconds without an attempt.
    pub fn pass(&mut self, now: Timestamp) {
        if now.since(self.learned) >= EVERY {
            self.learned = now;
        }
    }

    /// Takes `share` as the least share that fails for good. Returns whether such a share may be known.
    pub fn accept(&mut self, share: f64) -> bool {
        let known = SHARE.contains(&share);
        if known {
            self.share = self.share.max(share);
        }
        known
    }

    /// Returns the values that an earlier run learned.
    pub fn known(learned: &LearnedListener) -> Self {
        Self {
            share: learned.natural_share,
            rate: learned.natural_rate,
            seconds: learned.natural_seconds,
            dispersion: learned.dispersion,
            learned: Timestamp::default(),
        }
    }

    /// Learns the variation of the failures of one tick; to be called only in calm. One tick counts as at
    /// most the upper bound.
    pub fn learn_dispersion(&mut self, failures: f64, expected: f64) {
        let observed = (failures - expected).powi(2) / expected;
        let seen = observed.clamp(0.0, *DISPERSION.end());
        self.dispersion += DISPERSION_WEIGHT * (seen - self.dispersion);
        self.dispersion = self.dispersion.clamp(*DISPERSION.start(), *DISPERSION.end());
    }

    /// Share of the attempts that fail anyway.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Attempts per second that fail whatever the traffic.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Seconds that both were learned from, six hours at most.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Variance of the failures of a tick over that of chance.
    pub fn dispersion(&self) -> f64 {
        self.dispersion
    }

    /// Failures to be expected among these attempts.
    pub fn expected(&self, sums: &Sums) -> f64 {
        (self.share * sums.attempts as f64).max(self.rate * sums.span.as_secs_f64())
    }

    /// Failures beyond those to be expected.
    pub fn excess(&self, sums: &Sums) -> f64 {
        sums.failures() as f64 - self.expected(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::window::Tick;

    fn restored(seconds: u64, mut tick: impl FnMut(u64) -> (u64, u64)) -> Natural {
        let mut window = Window::default();
        let mut natural = Natural::default();
        for second in 1..=seconds {
            let end = Timestamp::from_millis(1000 * second);
            let (attempts, established) = tick(second);
            window.push(Tick { end, span: EVERY, attempts, established, ..Tick::default() });
            natural.learn(end, &window);
        }
        natural
    }

    #[test]
    fn the_baseline_share_is_learned_within_the_hour() {
        let natural = restored(3600, |_| (200, 190));
        assert!((natural.share - 0.05).abs() < 0.0025, "{}", natural.share);
    }

    #[test]
    fn a_bad_second_raises_the_baseline_at_most_threefold() {
        let mut natural = restored(3600, |_| (200, 196));
        let (before, mut window) = (natural.share, Window::default());
        for second in 3601..=3609 {
            let end = Timestamp::from_millis(1000 * second);
            window.push(Tick { end, span: EVERY, attempts: 10_000, ..Tick::default() });
            natural.learn(end, &window);
        }
        assert!(natural.share < 1.05 * before, "{} after {before}", natural.share);
    }

    #[test]
    fn dispersion_is_learned_within_its_bounds() {
        let mut natural = Natural::default();
        for tick in 0..10_000 {
            natural.learn_dispersion(if tick % 2 == 0 { 2.0 } else { 10.0 }, 6.0);
        }
        assert!((natural.dispersion - 16.0 / 6.0).abs() < 0.01, "{}", natural.dispersion);
        natural.learn_dispersion(1e9, 1.0);
        assert!(natural.dispersion < 3.0, "one tick is no lesson");
    }

    /// Slow growth is learned as slowly. With a memory of ten minutes only, 3.1 of 5 a second would be learned.
    #[test]
    fn what_grows_within_hours_stands_out_from_what_was_learned_of_it() {
        let natural = restored(600 + 1800, |second| {
            let grown = second.saturating_sub(600) * 20 / 7200;
            (20 + grown, 20)
        });
        let then = Sums { span: EVERY, attempts: 25, completed: 20, ..Sums::default() };
        let learned = natural.expected(&then);
        assert!(learned < 2.5, "{learned} of 5 a second");
    }

    #[test]
    fn what_was_accepted_is_kept_while_it_lasts_and_forgotten_when_less_fails() {
        let mut natural = Natural::default();
        assert!(natural.accept(0.3) && natural.accept(0.2) && !natural.accept(0.45));
        let after = |mut natural: Natural, completed| {
            let mut window = Window::default();
            for second in 1..=3600 {
                let end = Timestamp::from_millis(1000 * second);
                window.push(Tick {
                    end,
                    span: EVERY,
                    attempts: 200,
                    established: completed,
                    ..Tick::default()
                });
                natural.learn(end, &window);
            }
            natural.share
        };
        assert!((0.29..=0.3).contains(&after(natural.clone(), 140)), "30 % fail");
        assert_eq!(after(natural.clone(), 100), 0.3, "half fails: no more is learned");
        assert!(after(natural, 190) < 0.08, "5 % fail");
    }

    #[test]
    fn a_two_hour_ramp_teaches_no_more_than_the_bounds() {
        let natural = restored(7200, |second| (200 + second, 200));
        let flood = Sums { span: EVERY, attempts: 7200, completed: 200, ..Sums::default() };
        assert!(natural.share <= 0.25);
        assert!(natural.expected(&flood) <= 0.25 * 7200.0);
        let idle = Sums { span: EVERY, ..Sums::default() };
        assert!(natural.expected(&idle) <= MAX_RATE);
    }
}
