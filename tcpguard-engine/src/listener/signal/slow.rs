//! The slow path: a few handshakes too many fail, for a while.
//!
//! A cumulative sum (Page, "Continuous inspection schemes", 1954) of the log likelihood ratio of two
//! Poisson rates: the natural failures, and the natural failures plus a flood that would matter.
//! Handshakes do not fail independently, so the ratio is divided by the learned dispersion.
//!
//! A tick is judged once its handshakes have had their time, against the completions of these very
//! handshakes. Against the completions that are merely seen in the same tick, the handshakes under way
//! at each poll would vary more than the failures. That is still so where completions are not tracked
//! one by one. There a flash crowd from far away passes for failures for the time of a round trip.
//! The alarm is therefore only a suspicion, to be confirmed by the sampled flows.

use crate::input::{Timestamp, constants};
use crate::listener::learned::Natural;
use crate::listener::window::{Sums, Window};
use crate::settings::Settings;

constants! {
    /// Value of the cumulative sum at which the slow alarm is raised. Each unit more makes false
    /// positives e times rarer and small floods slower to find.
    pub(crate) const SLOW_LIMIT: f64 = 16.0 Number in 4.0..=1000.0,
        "Wald's bound: at the limit h the mean time between false positives is at least e^h ticks. \
         e^16 ticks are 26 days, if the dispersion is right. Weighed against floods of a twentieth \
         of the clients' rate, which must be found within seconds.";

    /// Share of the handshakes from which their failure matters. At busy listeners this counts rather
    /// than failure_floor.
    pub(crate) const FAILURE_SHARE: f64 = 0.05 Share in 0.001..=0.5,
        "Weighed against mobile clients of which one in fifty is lost, and against floods of \
         a tenth of the clients' rate.";
}

/// Failures per second that belong to no attack on any host: scanners and single SYNs.
const BACKGROUND: f64 = 1.25;

/// The flood that the sum is designed for, as a share of one that would matter. It finds larger ones
/// as well and hardly later, but never one of less than two thirds of this size.
const DESIGNED_FOR: f64 = 0.5;

/// The cumulative sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slow {
    sum: f64,
    since: Option<Timestamp>,
}

impl Slow {
    /// Judges the tick of `window` that has had `maturity` ticks to complete. `true` when the sum is
    /// above its limit.
    ///
    /// Client resets are no failures here, as they are to the fast path, up to `health_check_rate` a second:
    /// half-open health probes end with them for ever.
    pub fn poll(
        &mut self,
        window: &Window,
        maturity: usize,
        natural: &mut Natural,
        health_check_rate: f64,
        settings: &Settings,
    ) -> bool {
        let Some(tick) = window.matured(maturity).filter(|tick| !tick.gap) else {
            return self.high();
        };
        let seconds = tick.span.as_secs_f64();
        let health_checks = (tick.reset as f64).min(health_check_rate * seconds);
        let doubt = 2.0 * (tick.variance as f64).sqrt();
        let failures = tick.attempts as f64 - tick.completed as f64 - health_checks - doubt;
        let sums = Sums { span: tick.span, attempts: tick.attempts, ..Sums::default() };
        let expected = natural.expected(&sums) + BACKGROUND * seconds;
        let matters = (settings.failure_floor * seconds).max(FAILURE_SHARE * tick.attempts as f64);
        let flood = DESIGNED_FOR * matters;
        let ratio = failures * (1.0 + flood / expected).ln() - flood;
        // One tick alone never alarms.
        let gain = (ratio / natural.dispersion()).min(SLOW_LIMIT / 2.0);
        let calm = self.sum < SLOW_LIMIT / 4.0;
        // Bounded, so that the sum of a long flood is soon gone.
        self.sum = (self.sum + gain).clamp(0.0, 2.0 * SLOW_LIMIT);
        self.since = (self.sum > 0.0).then(|| self.since.unwrap_or(tick.start));
        if calm && self.sum < SLOW_LIMIT / 4.0 {
            natural.learn_dispersion(failures.max(0.0), expected);
        }
        self.high()
    }

    /// Goes through a tick like [`Self::poll`], if nothing was attempted in it and the sum is zero.
    pub fn pass(&self, window: &Window, maturity: usize, natural: &mut Natural) {
        if let Some(span) = window.matured_span(maturity) {
            let expected = natural.expected(&Sums { span, ..Sums::default() });
            natural.learn_dispersion(0.0, expected + BACKGROUND * span.as_secs_f64());
        }
    }

    fn high(&self) -> bool {
        self.sum >= SLOW_LIMIT
    }

    /// The sum as it stands.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the time since which the sum has been above zero: the most likely moment at which
    /// more began to fail (Page's estimate). `None` while it is zero.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Returns whether so much has piled up that nothing should be learned.
    pub fn rising(&self) -> bool {
        self.sum >= SLOW_LIMIT / 4.0
    }

    /// Starts again with a sum of zero.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::listener::window::Tick;

    const POLL: Duration = Duration::from_millis(250);

    /// The tick (from 1) at which it alarms, for (attempts, completions) by tick.
    fn alarm(ticks: impl IntoIterator<Item = (u64, u64)>) -> Option<usize> {
        let (mut window, mut natural) = (Window::default(), Natural::default());
        let mut slow = Slow::default();
        ticks.into_iter().enumerate().find_map(|(index, (attempts, established))| {
            let end = Timestamp::from_millis(250 * (index as u64 + 1));
            window.push(Tick { end, span: POLL, attempts, established, ..Tick::default() });
            slow.poll(&window, 0, &mut natural, 30.0, &Settings::default()).then_some(index + 1)
        })
    }

    /// `legit` clients and `spoofed` SYNs a second, spread evenly.
    fn flood(legit: u64, spoofed: u64) -> impl Iterator<Item = (u64, u64)> {
        (0..2400_u64).map(move |tick| {
            let share = |rate: u64| rate * (tick + 1) / 4 - rate * tick / 4;
            (share(legit) + share(spoofed), share(legit))
        })
    }

    #[test]
    fn a_few_more_failures_a_second_are_found_within_seconds() {
        for (legit, spoofed, seconds) in [
            (20, 10, 5),
            (20, 8, 6),
            (20, 4, 25),
            (200, 20, 4),
            (200, 100, 2),
            (2000, 100, 10),
            (2000, 200, 3),
        ] {
            let tick = alarm(flood(legit, spoofed)).unwrap_or(usize::MAX);
            assert!(tick <= 4 * seconds, "{spoofed} among {legit}: {tick} ticks");
        }
    }

    #[test]
    fn what_fails_anyway_is_quiet() {
        assert_eq!(alarm(flood(200, 3)), None);
        assert_eq!(alarm(flood(2000, 40)), None);
        assert_eq!(alarm(flood(0, 2)), None);
    }

    #[test]
    fn one_tick_alone_never_alarms() {
        let burst = [(38, 0)].into_iter().chain([(0, 0); 40]);
        assert_eq!(alarm(burst), None);
        let huge = [(100_000, 0)].into_iter().chain([(0, 0); 40]);
        assert_eq!(alarm(huge), None);
    }

    #[test]
    fn handshakes_that_the_client_resets_are_none_of_it_unless_there_are_many() {
        for (reset, alarms) in [(5, false), (25, true)] {
            let (mut window, mut natural) = (Window::default(), Natural::default());
            let mut slow = Slow::default();
            let mut alarmed = false;
            for index in 1..=400 {
                let end = Timestamp::from_millis(250 * index);
                window.push(Tick { end, span: POLL, attempts: reset, reset, ..Tick::default() });
                alarmed |= slow.poll(&window, 0, &mut natural, 30.0, &Settings::default());
            }
            assert_eq!(alarmed, alarms, "{reset} in a tick");
        }
    }
}
