//! The CUSUM of Siris and Papagalou.

use tcpguard_sim::Tick;

use super::Detector;
use super::interval::Intervals;
use super::mean::Mean;
use super::siris_threshold::{ALPHA, BETA, INTERVAL};

/// Threshold of the sum, `h`. DoSTect's README reports 5.0 as a working value. That the paper has the same value is
/// only commonly cited.
const THRESHOLD: f64 = 5.0;
/// Intervals from which the variance is learned before it is used.
const LEARN: u32 = 30;
/// The variance counts as at least this much: it is a divisor.
const LEAST_VARIANCE: f64 = 1.0;

/// The CUSUM of the same paper as [`super::SirisThreshold`], over the same intervals and mean:
///
/// ```text
/// g_n = max(0, g_(n−1) + α·μ̄_(n−1)/σ² · (x_n − μ̄_(n−1) − α·μ̄_(n−1)/2))        alarm when g_n ≥ h
/// ```
///
/// The formula, `α` and `β` are verified in DoSTect (`edoermini/DoSTect`, README and
/// `core/detectors.py`). `σ²` is the variance of `x_n − μ̄_(n−1)`: the paper takes it as known and
/// DoSTect as a constant; here it is learned like the mean, and not from intervals that alarm, which
/// would blind it. As in DoSTect `g` starts again from 0 after an alarm, which so lasts as long as
/// every interval raises it anew.
#[derive(Clone, Debug)]
pub struct SirisCusum {
    intervals: Intervals,
    baseline: Mean,
    variance: Mean,
    sum: f64,
    alarmed: bool,
}

impl Default for SirisCusum {
    fn default() -> Self {
        Self {
            intervals: Intervals::of(INTERVAL),
            baseline: Mean::new(BETA),
            variance: Mean::new(BETA),
            sum: 0.0,
            alarmed: false,
        }
    }
}

impl SirisCusum {
    fn interval(&mut self, syns: f64) {
        let Some(baseline) = self.baseline.get() else { return };
        let excess = syns - baseline;
        self.alarmed = false;
        if let Some(variance) = self.variance.get().filter(|_| self.variance.values() >= LEARN) {
            let scale = ALPHA * baseline / variance.max(LEAST_VARIANCE);
            self.sum = (self.sum + scale * (excess - ALPHA * baseline / 2.0)).max(0.0);
            if self.sum >= THRESHOLD {
                self.sum = 0.0;
                self.alarmed = true;
            }
        }
        if !self.alarmed {
            self.variance.add(excess * excess);
        }
    }
}

impl Detector for SirisCusum {
    fn name(&self) -> &'static str {
        "Siris CUSUM"
    }

    fn tick(&mut self, tick: &Tick) -> bool {
        if let Some(sums) = self.intervals.add(tick) {
            self.interval(sums.syn);
            self.baseline.add(sums.syn);
        }
        self.alarmed
    }

    fn warm_up(&self) -> f64 {
        f64::from(INTERVAL * (1 + LEARN))
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Rates, alarms, first_alarm};
    use super::*;

    const BASELINE: f64 = 2000.0;

    /// SYNs in an interval that vary by `deviation` to either side, for 2,000 s.
    fn calm(detector: &mut SirisCusum, deviation: u64) {
        for n in 0..200 {
            let syns = if n % 2 == 0 { 2000 + deviation } else { 2000 - deviation };
            let found = alarms(detector, 10.0, &Rates { syn: syns / 10, ..Rates::default() });
            assert_eq!(found, 0, "interval {n}");
        }
    }

    /// `h` divided by the growth of the sum in an interval, before the mean and the variance have followed noticeably.
    fn intervals(excess: f64, deviation: f64) -> f64 {
        let scale = ALPHA * BASELINE / (deviation * deviation);
        (THRESHOLD / (scale * (excess - ALPHA * BASELINE / 2.0))).ceil()
    }

    #[test]
    fn the_delay_is_that_of_the_formula() {
        for (excess, deviation) in [(1200, 600), (1600, 600), (1000, 200), (20_000, 600)] {
            let mut detector = SirisCusum::default();
            calm(&mut detector, deviation);
            let flood = Rates { syn: (2000 + excess) / 10, ..Rates::default() };
            let expected = intervals(excess as f64, deviation as f64) * 10.0;
            let found = first_alarm(&mut detector, 600.0, &flood);
            assert_eq!(found, Some(expected), "{excess} more, deviation {deviation}");
        }
    }

    #[test]
    fn less_than_a_quarter_more_is_never_found() {
        let mut detector = SirisCusum::default();
        calm(&mut detector, 200);
        let flood = Rates { syn: 244, ..Rates::default() };
        assert_eq!(first_alarm(&mut detector, 3600.0, &flood), None);
    }

    /// Starting again from 0 ends no alarm while the flood goes on.
    #[test]
    fn an_alarm_lasts_as_long_as_a_large_flood() {
        let mut detector = SirisCusum::default();
        calm(&mut detector, 200);
        let flood = Rates { syn: 5000, ..Rates::default() };
        assert_eq!(alarms(&mut detector, 60.0, &flood), 60 * 4 - 39, "from its first interval on");
    }
}
