//! Extent of an evaluation.

/// Seed of the published numbers; thresholds are tuned on seeds below it.
pub const GOLDEN_SEED: u64 = 1000;

/// Extent of an evaluation, and its seeds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seeds. Each gives a population, and all that is drawn.
    pub seeds: Vec<u64>,
    /// Legitimate connects a second among which floods are looked for.
    pub legit: Vec<f64>,
    /// Rates of floods, SYN/s.
    pub rates: Vec<f64>,
    /// Listener-days over all mixes of benign traffic.
    pub days: f64,
    /// Number of flash crowds.
    pub crowds: usize,
    /// Rates of floods that are mitigated, SYN/s.
    pub mitigated: Vec<f64>,
    /// First seeds of further groups, for which the main numbers are given again.
    pub other_seeds: Vec<u64>,
}

impl Plan {
    /// The plan of the published page.
    pub fn full(seed: u64, seeds: u64, days: f64) -> Self {
        Self {
            seeds: (seed..seed + seeds).collect(),
            legit: vec![20.0, 200.0, 2000.0],
            rates: vec![5.0, 20.0, 100.0, 200.0, 1e3, 1e4, 1e5, 1e6],
            days,
            crowds: 144,
            mitigated: vec![1e3, 1e4, 1e5],
            other_seeds: (1..=3).map(|group| seed + group * 1000).collect(),
        }
    }

    /// A plan that takes less than a minute, for a glance during development.
    pub fn quick(seed: u64, seeds: u64, days: f64) -> Self {
        Self {
            legit: vec![200.0],
            rates: vec![20.0, 100.0, 1e3, 1e4],
            crowds: 12,
            mitigated: vec![1e3],
            other_seeds: Vec::new(),
            ..Self::full(seed, seeds, days)
        }
    }

    /// Rates among which the lowest is looked for that is found within a minute, SYN/s.
    pub fn faint(legit: f64) -> Vec<f64> {
        let absolute = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 30.0];
        let per_mille = [20.0, 25.0, 30.0, 35.0, 40.0, 50.0, 100.0, 200.0, 350.0, 500.0, 750.0];
        let shares = per_mille.into_iter().chain([1000.0, 1500.0]);
        let mut rates: Vec<f64> = absolute
            .into_iter()
            .filter(|rate| *rate >= legit / 100.0)
            .chain(shares.map(|share| legit * share / 1000.0).filter(|rate| *rate >= 30.0))
            .collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        rates
    }

    /// The rate that should be found within a minute, SYN/s.
    pub fn detectable(legit: f64) -> f64 {
        (3.0 * legit / 100.0).max(4.0)
    }

    /// Returns the time for which a flood of this rate is played, s. Longer ones of a million SYNs a second cost hours.
    /// A method that works in intervals of ten seconds is not given a chance there.
    pub fn span(rate: f64) -> f64 {
        match rate {
            rate if rate >= 1e6 => 5.0,
            rate if rate >= 1e5 => 45.0,
            _ => 60.0,
        }
    }

    /// Returns whether floods of this rate are played among so many clients: the largest only once.
    pub fn plays(legit: f64, rate: f64) -> bool {
        rate < 1e5 || legit == 200.0
    }

    /// The seeds in words.
    pub fn seeds_in_words(&self) -> String {
        match (self.seeds.first(), self.seeds.last()) {
            (Some(first), Some(last)) if first != last => format!("{first}–{last}"),
            (Some(only), _) => only.to_string(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_that_should_be_found_is_tried() {
        for legit in [20.0, 200.0, 2000.0] {
            let rates = Plan::faint(legit);
            assert!(rates.contains(&Plan::detectable(legit)), "{legit}: {rates:?}");
            assert!(rates.is_sorted(), "{rates:?}");
        }
    }

    #[test]
    fn a_tenth_of_the_legitimate_rate_is_tried_wherever_it_should_be_found() {
        let plan = Plan::full(GOLDEN_SEED, 20, 90.0);
        for legit in plan.legit.iter().filter(|legit| **legit >= 40.0) {
            assert!(plan.rates.contains(&(legit / 10.0)), "{legit}");
        }
    }
}
