//! Scales from values to positions on the page, and the round values at which an axis is marked.

/// Seconds between two marks of a time axis that a reader can count in.
const TIMES: [f64; 21] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
    3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0, DAY,
];
const DAY: f64 = 86_400.0;
/// Least distance of two values that their labels distinguish.
const LEAST_STEP: f64 = 0.1;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    values: [f64; 2],
    pixels: [f64; 2],
}

impl Scale {
    /// The values from first to last lie on the pixels from first to last.
    pub fn new(values: [f64; 2], pixels: [f64; 2]) -> Self {
        Self { values, pixels }
    }

    /// Returns the position of `value`, in pixels. A value beyond an end of the scale has the position of that end.
    pub fn at(&self, value: f64) -> f64 {
        let ([low, high], [start, end]) = (self.values, self.pixels);
        if high <= low {
            return start;
        }
        start + (value.clamp(low, high) - low) / (high - low) * (end - start)
    }
}

/// Values from 0 up to `max`: 1, 2 or 5 times a power of ten apart, and at most `most` of these steps,
/// of which there should be three at least. The first of these steps may lie above `max`.
pub(crate) fn values(max: f64, most: usize) -> Vec<f64> {
    let max = if max.is_finite() && max > 0.0 { max.max(LEAST_STEP) } else { 1.0 };
    let most = most.max(1) as f64;
    let power = 10_f64.powf((max / most).log10().floor()).max(LEAST_STEP);
    let steps = [1.0, 2.0, 5.0, 10.0].map(|round| round * power);
    // A little more than exact, because floating point does not represent tenths exactly.
    let enough = |step: &f64| max <= step * most * (1.0 + 1e-9);
    let step = steps.into_iter().find(enough).unwrap_or(20.0 * power);
    let count = (max / step * (1.0 + 1e-9)).floor() as usize;
    (0..=count).map(|number| number as f64 * step).collect()
}

/// Seconds between marks of an axis over `span` seconds with at most `most` steps.
pub(crate) fn time_step(span: f64, most: usize) -> f64 {
    let most = most.max(1) as f64;
    let fits = |step: &f64| span <= step * most;
    TIMES.into_iter().find(fits).unwrap_or_else(|| DAY * (span / DAY / most).ceil())
}

#[cfg(test)]
mod tests {
    use tcpguard_host::units::short;

    use super::*;

    #[test]
    fn values_lie_between_the_ends() {
        let scale = Scale::new([0.0, 200.0], [100.0, 0.0]);
        for (value, expected) in
            [(0.0, 100.0), (50.0, 75.0), (200.0, 0.0), (300.0, 0.0), (-1.0, 100.0)]
        {
            assert_eq!(scale.at(value), expected, "{value}");
        }
        assert_eq!(Scale::new([3.0, 3.0], [10.0, 20.0]).at(3.0), 10.0, "no range at all");
    }

    #[test]
    fn an_axis_is_marked_at_round_values_up_to_the_greatest() {
        for (max, most, expected) in [
            (0.0, 4, "0 0.5 1"),
            (1.0, 4, "0 0.5 1"),
            (3.0, 4, "0 1 2 3"),
            (4.0, 4, "0 1 2 3 4"),
            (4.1, 4, "0 2 4"),
            (50.0, 4, "0 20 40"),
            (128.0, 4, "0 50 100"),
            (4096.0, 4, "0 2000 4000"),
            (101_000.0, 4, "0 50k 100k"),
            (0.3, 3, "0 0.1 0.2 0.3"),
            (0.15, 4, "0 0.1"),
            (0.01, 4, "0 0.1"),
            (2.5e6, 3, "0 1M 2M"),
            (f64::NAN, 4, "0 0.5 1"),
        ] {
            let labels: Vec<String> = values(max, most).into_iter().map(short).collect();
            assert_eq!(labels.join(" "), expected, "{max}");
        }
    }

    #[test]
    fn times_are_marked_at_what_clocks_show() {
        for (span, most, expected) in [
            (0.3, 6, 0.1),
            (6.0, 6, 1.0),
            (61.0, 6, 15.0),
            (75.0, 4, 30.0),
            (3_600.0, 6, 600.0),
            (90_000.0, 6, 21_600.0),
            (1_000_000.0, 4, 259_200.0),
        ] {
            assert_eq!(time_step(span, most), expected, "{span} s");
        }
    }

    #[test]
    fn whatever_the_greatest_value_is_two_to_few_marks_are_not_above_it() {
        let mut max = LEAST_STEP;
        while max < 1e13 {
            for most in 3..8 {
                let values = values(max, most);
                assert!((2..=most + 1).contains(&values.len()), "{max} {most}: {values:?}");
                assert!(*values.last().unwrap() <= max * (1.0 + 1e-6), "{max} {most}: {values:?}");
            }
            max *= 1.37;
        }
    }
}
