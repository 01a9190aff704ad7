//! Numbers about numbers.

/// The median of values of which some may be missing: `None` counts as later than all others, and is
/// the median when as many are missing.
pub fn median(values: &[Option<f64>]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let median = match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], upper),
        _ => upper,
    };
    median.is_finite().then_some(median)
}

/// The smallest value that at least `share` of all reach or stay below (nearest rank); missing ones
/// count as for [`median`].
pub fn percentile(values: &[Option<f64>], share: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().filter(|value| value.is_finite())
}

fn sorted(values: &[Option<f64>]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Upper limit of the mean of a Poisson count, given that `events` were counted: the mean at which so few come with a
/// probability of 5 %.
pub fn poisson_upper(events: u64) -> f64 {
    let chance = |mean: f64| {
        let terms = (1..=events).scan((-mean).exp(), |term, k| {
            *term *= mean / k as f64;
            Some(*term)
        });
        (-mean).exp() + terms.sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 2.0 * events as f64 + 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if chance(middle) > 0.05 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The two ends of the 95 % interval of a probability, of which `hits` of `trials` are known (Wilson's
/// score interval, without continuity correction).
pub fn wilson(hits: u64, trials: u64) -> (f64, f64) {
    /// 97.5 % of a normal distribution lie below.
    const Z: f64 = 1.959_964;
    if trials == 0 {
        return (0.0, 1.0);
    }
    let n = trials as f64;
    let share = hits as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&some(&[3.0, 1.0, 2.0])), Some(2.0));
        assert_eq!(median(&some(&[4.0, 1.0, 2.0, 3.0])), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn what_is_missing_came_later_than_all_else() {
        assert_eq!(median(&[None, Some(2.0), Some(1.0)]), Some(2.0));
        assert_eq!(median(&[None, Some(2.0), Some(1.0), None]), None);
        assert_eq!(percentile(&[None, Some(1.0)], 0.95), None);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<Option<f64>> = (1..=20).map(|value| Some(f64::from(value))).collect();
        assert_eq!(percentile(&values, 0.95), Some(19.0));
        assert_eq!(percentile(&values, 1.0), Some(20.0));
        // The textbook example of the method: 15, 20, 35, 40, 50.
        let values = some(&[15.0, 20.0, 35.0, 40.0, 50.0]);
        assert_eq!(percentile(&values, 0.3), Some(20.0));
        assert_eq!(percentile(&values, 0.4), Some(20.0));
        assert_eq!(percentile(&values, 0.5), Some(35.0));
    }

    #[test]
    fn poisson_bounds_are_those_of_the_tables() {
        // Gehrels 1986, table 1, 95 %.
        for (events, bound) in [(0, 2.996), (1, 4.744), (2, 6.296), (3, 7.754), (10, 16.96)] {
            assert!((poisson_upper(events) - bound).abs() < 0.005, "{events}");
        }
    }

    #[test]
    fn wilson_intervals_are_those_of_the_tables() {
        // Newcombe 1998, table I, method 3.
        for (hits, trials, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (from, to) = wilson(hits, trials);
            assert!((from - low).abs() < 1e-4 && (to - high).abs() < 1e-4, "{hits}/{trials}");
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }
}
