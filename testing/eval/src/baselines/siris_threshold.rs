//! The adaptive threshold of Siris and Papagalou.

use tcpguard_sim::Tick;

use super::Detector;
use super::interval::Intervals;
use super::mean::Mean;

/// Length of an interval, `T`, in seconds. As commonly cited.
pub const INTERVAL: u32 = 10;
/// Weight of the past in the mean, `β`. Verified in re-implementations: DoSTect's default is 0.98, and
/// its README cites 0.95 to 0.99 from the paper; `UOGus/433-Group` takes 0.9.
pub const BETA: f64 = 0.98;
/// Share of the mean by which SYNs must exceed it, `α`. Verified in re-implementations:
/// `UOGus/433-Group` (`server/attack_detection/adaptive_threshold.c`); DoSTect has the same value for
/// the CUSUM of the same paper.
pub const ALPHA: f64 = 0.5;
/// Intervals in a row, `k`. As commonly cited.
const IN_A_ROW: u32 = 4;

/// The adaptive threshold of Siris and Papagalou, "Application of anomaly detection algorithms for
/// detecting SYN flooding attacks", Globecom 2004, vol. 4, pp. 2050–2054. With `x_n` SYNs in interval
/// `n`:
///
/// ```text
/// μ̄_n = β·μ̄_(n−1) + (1 − β)·x_n
/// alarm while x_i ≥ (1 + α)·μ̄_(i−1) for the last k intervals i
/// ```
///
/// The condition and the mean are verified in re-implementations. An interval without any SYN exceeds
/// nothing, even a mean of zero. The mean goes on adapting during an attack.
#[derive(Clone, Debug)]
pub struct SirisThreshold {
    intervals: Intervals,
    baseline: Mean,
    exceeded: u32,
}

impl Default for SirisThreshold {
    fn default() -> Self {
        Self { intervals: Intervals::of(INTERVAL), baseline: Mean::new(BETA), exceeded: 0 }
    }
}

impl Detector for SirisThreshold {
    fn name(&self) -> &'static str {
        "Siris threshold"
    }

    fn tick(&mut self, tick: &Tick) -> bool {
        if let Some(sums) = self.intervals.add(tick) {
            let limit = self.baseline.get().map(|baseline| (1.0 + ALPHA) * baseline);
            let exceeds = limit.is_some_and(|limit| sums.syn > 0.0 && sums.syn >= limit);
            self.exceeded = if exceeds { self.exceeded.saturating_add(1) } else { 0 };
            self.baseline.add(sums.syn);
        }
        self.exceeded >= IN_A_ROW
    }

    fn warm_up(&self) -> f64 {
        f64::from(INTERVAL * IN_A_ROW)
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Rates, alarms, first_alarm};
    use super::*;

    /// `before` seconds of calm at 200/s, and then it sees `rate` SYNs a second for ten minutes.
    fn after_calm(before: f64, rate: u64) -> Option<f64> {
        let mut detector = SirisThreshold::default();
        assert_eq!(alarms(&mut detector, before, &Rates::calm(200)), 0);
        first_alarm(&mut detector, 600.0, &Rates { syn: rate, ..Rates::default() })
    }

    #[test]
    fn any_flood_takes_k_intervals() {
        for rate in [400, 2000, 100_000] {
            assert_eq!(after_calm(600.0, rate), Some(40.0), "{rate}/s");
        }
    }

    /// The interval in which it begins counts whole when it is large enough.
    #[test]
    fn by_its_phase_it_takes_up_to_an_interval_less() {
        assert_eq!(after_calm(608.0, 2000), Some(32.0));
        assert_eq!(after_calm(608.0, 400), Some(42.0), "too small to lift that interval");
    }

    #[test]
    fn less_than_half_more_is_never_found() {
        assert_eq!(after_calm(600.0, 296), None);
    }

    #[test]
    fn a_crowd_is_a_flood_to_it() {
        let mut detector = SirisThreshold::default();
        alarms(&mut detector, 600.0, &Rates::calm(200));
        assert_eq!(first_alarm(&mut detector, 600.0, &Rates::calm(4000)), Some(40.0));
    }
}
