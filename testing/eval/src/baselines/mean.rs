//! The exponentially weighted mean that all of them learn by.

/// `m_n = β·m_(n−1) + (1 − β)·x_n`.
///
/// The first `1/(1 − β)` values weigh alike. The papers leave the start open, and this way no single value dominates
/// the mean for long.
#[derive(Clone, Debug)]
pub struct Mean {
    beta: f64,
    values: u32,
    value: f64,
}

impl Mean {
    /// A mean of nothing, with this weight of the past.
    pub fn new(beta: f64) -> Self {
        Self { beta, values: 0, value: 0.0 }
    }

    pub fn add(&mut self, value: f64) {
        self.values = self.values.saturating_add(1);
        let weight = (1.0 - self.beta).max(1.0 / f64::from(self.values));
        self.value += weight * (value - self.value);
    }

    /// The mean; `None` before the first value.
    pub fn get(&self) -> Option<f64> {
        (self.values > 0).then_some(self.value)
    }

    /// Returns the number of values.
    pub fn values(&self) -> u32 {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_as_the_plain_mean_and_forgets_by_the_weight() {
        let mut mean = Mean::new(0.5);
        assert_eq!(mean.get(), None);
        mean.add(10.0);
        assert_eq!(mean.get(), Some(10.0));
        mean.add(20.0);
        assert_eq!(mean.get(), Some(15.0));
        mean.add(7.0);
        assert_eq!(mean.get(), Some(11.0), "half of 15 and half of 7");
    }
}
