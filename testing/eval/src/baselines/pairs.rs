//! The non-parametric CUSUM over pairs of packets, which FDS and SYN-dog share.
//!
//! Of every period `n`, with `S_n` SYNs and `P_n` packets that pair with them:
//!
//! ```text
//! P̄_n = α·P̄_(n−1) + (1 − α)·P_n
//! X_n = (S_n − P_n) / P̄_(n−1)
//! y_n = max(0, y_(n−1) + X_n − a)        alarm while y_n > N
//! ```
//!
//! Normalised by the pairs it needs no knowledge of the site: in calm `X` stays below `a`, and an
//! attack of rate `h = 2a` is found after `N/(h − a)` periods.

use super::mean::Mean;

/// Upper bound of the mean of `X` in calm, `a`. As commonly cited.
pub const CALM: f64 = 0.35;
/// Threshold of the sum, `N`. As commonly cited; with `h = 2a` it makes the three periods of detection
/// time that are cited with it: `1.05/(0.7 − 0.35) = 3`.
pub const THRESHOLD: f64 = 1.05;
/// Length of a period, `t0`, in seconds. As commonly cited.
pub const PERIOD: u32 = 20;
/// Weight of the past in `P̄`, `α`. The abstracts and secondary sources at hand fix no value; a flood
/// adds no pairs, so that the delay hardly depends on it.
pub const ALPHA: f64 = 0.9;
/// `P̄` counts as at least this much: it is a divisor, and may be zero.
const FEWEST: f64 = 1.0;

/// The sum and the mean that it has learned.
#[derive(Clone, Debug)]
pub struct Pairs {
    baseline: Mean,
    sum: f64,
}

impl Pairs {
    /// Before the first period, with this `α`.
    pub fn new(alpha: f64) -> Self {
        Self { baseline: Mean::new(alpha), sum: 0.0 }
    }

    /// A period is over; whether it is alarmed now. The first one is learned from only.
    pub fn period(&mut self, syns: f64, pairs: f64) -> bool {
        if let Some(baseline) = self.baseline.get() {
            self.sum = (self.sum + (syns - pairs) / baseline.max(FEWEST) - CALM).max(0.0);
        }
        self.baseline.add(pairs);
        self.sum > THRESHOLD
    }
}
