//! Times of arrivals.

use crate::random::{Random, exp};

/// Distribution of arrivals over time, for a given rate.
#[derive(Clone, Copy, Debug, Default)]
pub enum Arrivals {
    #[default]
    Even,
    /// Independently of each other.
    Poisson,
    /// Independently of each other at a rate that is drawn anew every second: log-normal with this
    /// `sigma` (of its logarithm), of which `rho` is the correlation from one second to the next.
    /// The mean is the given rate.
    Bursty {
        /// Standard deviation of the logarithm of the rate.
        sigma: f64,
        /// Correlation with the second before, 0 to 1.
        rho: f64,
    },
    /// Independently of each other, at the given rate at the busiest time, which is when they begin,
    /// and at `low` times that rate half a period later. The mean lies in the middle.
    Diurnal {
        /// Share of the rate that is left at night.
        low: f64,
        /// Length of a day, s.
        period: f64,
    },
    /// Independently of each other at the given rate for `on`, then not at all for `off`, and so on.
    OnOff {
        /// Length of a time with arrivals, s.
        on: f64,
        /// Length of a pause, s.
        off: f64,
    },
}

/// The arrivals of one source.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    random: Random,
    /// Arrivals expected since the last one.
    due: f64,
    /// Value that `due` must reach for the next arrival.
    gap: f64,
    /// Of bursty arrivals: the second that the rate is drawn for, the logarithm of its ratio to its
    /// median, and its ratio to its mean.
    second: Option<u64>,
    level: f64,
    burst: f64,
}

impl Stream {
    pub fn new(random: Random) -> Self {
        Self { random, due: 0.0, gap: 1.0, second: None, level: 0.0, burst: 1.0 }
    }

    /// Goes on by `span`, to `since` after the first one began (both s). Returns the number of
    /// arrivals at `rate` a second.
    pub fn arrive(&mut self, arrivals: Arrivals, rate: f64, since: f64, span: f64) -> u64 {
        self.due += rate * self.factor(arrivals, since) * span;
        let mut count = 0;
        if let Arrivals::Even = arrivals {
            while self.due >= 1.0 {
                self.due -= 1.0;
                count += 1;
            }
            return count;
        }
        while self.due >= self.gap {
            self.due -= self.gap;
            self.gap = self.random.exponential();
            count += 1;
        }
        count
    }

    /// The rate at this time in terms of the given one.
    fn factor(&mut self, arrivals: Arrivals, since: f64) -> f64 {
        match arrivals {
            Arrivals::Even | Arrivals::Poisson => 1.0,
            Arrivals::Bursty { sigma, rho } => {
                let second = since as u64;
                if self.second != Some(second) {
                    let rho = if self.second.is_some() { rho } else { 0.0 };
                    self.second = Some(second);
                    let news = (1.0 - rho * rho).sqrt() * self.random.normal();
                    self.level = rho * self.level + sigma * news;
                    self.burst = exp(self.level - sigma * sigma / 2.0);
                }
                self.burst
            }
            Arrivals::Diurnal { low, period } => {
                let day = (2.0 * (since / period).fract() - 1.0).abs();
                low + (1.0 - low) * day * day * (3.0 - 2.0 * day)
            }
            Arrivals::OnOff { on, off } => f64::from(since.rem_euclid(on + off) < on),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrivals in each of `seconds`, at 50 a second.
    fn counts(arrivals: Arrivals, seconds: usize) -> Vec<f64> {
        let mut stream = Stream::new(Random::new(3));
        let mut count = |step: usize| stream.arrive(arrivals, 50.0, step as f64 * 0.002, 0.002);
        let second = |second: usize| (second * 500..(second + 1) * 500).map(&mut count).sum();
        (0..seconds).map(second).map(|count: u64| count as f64).collect()
    }

    fn moments(counts: &[f64]) -> (f64, f64) {
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let square = |count: &f64| (count - mean) * (count - mean);
        (mean, counts.iter().map(square).sum::<f64>() / counts.len() as f64)
    }

    #[test]
    fn even_arrivals_are_the_same_number_every_second() {
        let (mean, variance) = moments(&counts(Arrivals::Even, 100));
        assert!((mean - 50.0).abs() < 0.02 && variance < 0.2, "{mean} {variance}");
    }

    #[test]
    fn independent_arrivals_vary_by_their_mean() {
        let (mean, variance) = moments(&counts(Arrivals::Poisson, 4000));
        assert!((mean - 50.0).abs() < 0.5, "{mean}");
        assert!((variance / mean - 1.0).abs() < 0.1, "{variance}");
    }

    #[test]
    fn bursts_keep_the_mean_and_last_as_long_as_they_are_correlated() {
        let counts = counts(Arrivals::Bursty { sigma: 0.5, rho: 0.8 }, 40_000);
        let (mean, variance) = moments(&counts);
        assert!((mean - 50.0).abs() < 2.0, "{mean}");
        // Of a log-normal rate, (e^sigma² - 1) mean², beside the variance of the arrivals.
        let expected = 50.0 + 2500.0 * (exp(0.25) - 1.0);
        assert!((variance / expected - 1.0).abs() < 0.15, "{variance} {expected}");
        let pairs = counts.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean));
        let correlation = pairs.sum::<f64>() / counts.len() as f64 / variance;
        assert!((0.6..0.8).contains(&correlation), "{correlation}");
    }

    #[test]
    fn nights_are_quieter_than_days() {
        let counts = counts(Arrivals::Diurnal { low: 0.2, period: 1000.0 }, 2000);
        let around = |second: usize| moments(&counts[second - 50..second + 50]).0;
        assert!((around(1000) - 50.0).abs() < 4.0 && (around(500) - 10.0).abs() < 2.0);
        assert!((moments(&counts).0 - 30.0).abs() < 1.0);
    }

    #[test]
    fn nothing_arrives_while_it_is_off() {
        let counts = counts(Arrivals::OnOff { on: 3.0, off: 7.0 }, 1000);
        let on = |second: &usize| second % 10 < 3;
        let rest: f64 = (0..1000).filter(|second| !on(second)).map(|second| counts[second]).sum();
        assert!(rest < 10.0, "all but what falls on the boundary: {rest}");
        assert!((moments(&counts).0 - 15.0).abs() < 1.0);
    }
}
