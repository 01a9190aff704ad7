//! Measurements of one quantity over several rounds.

use serde::Serialize;

use crate::part::Goal;

/// Measurements in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The least of them that a share of `q` (0 to 1) does not exceed.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    pub fn range(&self) -> Option<(f64, f64)> {
        let least = self.0.iter().copied().min_by(f64::total_cmp)?;
        let most = self.0.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }

    /// Median, least and greatest.
    pub fn point(&self) -> Option<[f64; 3]> {
        let (least, most) = self.range()?;
        Some([self.median()?, least, most])
    }

    /// The value of a target, which must not be above its limit.
    pub fn goal(&self) -> Goal {
        let (value, range, rounds) = (self.median(), self.range(), self.count());
        Goal { value, range, rounds, ..Goal::default() }
    }

    pub fn scaled(&self, factor: f64) -> Self {
        self.each(|value| value * factor)
    }

    /// Each as another quantity.
    pub fn each(&self, of: impl Fn(f64) -> f64) -> Self {
        self.0.iter().map(|&value| of(value)).collect()
    }

    /// Each as a multiple of the other's of the same round.
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(value, other)| value / other).collect()
    }

    /// The median alone, as in tables; `–` without any.
    pub fn middle(&self, digits: usize) -> String {
        self.median().map_or("–".to_owned(), |median| format!("{median:.digits$}"))
    }

    /// `1.25 (1.20–1.31)`, as in tables; `–` without any.
    pub fn cell(&self, digits: usize) -> String {
        self.point().map_or("–".to_owned(), |[median, least, most]| {
            format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
        })
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements_by_rank() {
        let samples: Samples = (1..=100).rev().map(f64::from).collect();
        assert_eq!(samples.quantile(0.5), Some(50.0));
        assert_eq!(samples.quantile(0.99), Some(99.0));
        assert_eq!(samples.quantile(1.0), Some(100.0));
        assert_eq!(samples.quantile(0.0), Some(1.0));
        assert_eq!(samples.range(), Some((1.0, 100.0)));
    }

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        let samples: Samples = [3.0, 1000.0, 2.0].into_iter().collect();
        assert_eq!(samples.point(), Some([3.0, 2.0, 1000.0]));
        assert_eq!(samples.cell(1), "3.0 (2.0–1000.0)");
    }

    #[test]
    fn ratios_are_those_of_a_round() {
        let [above, below]: [Samples; 2] =
            [[8.0, 90.0, 10.0], [10.0, 30.0, 5.0]].map(|values| values.into_iter().collect());
        assert_eq!(above.over(&below).point(), Some([2.0, 0.8, 3.0]));
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let none = Samples::default();
        assert_eq!((none.median(), none.range(), none.count()), (None, None, 0));
        assert_eq!(none.cell(1), "–");
    }
}
