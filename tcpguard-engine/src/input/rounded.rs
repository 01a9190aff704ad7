//! Rounding of the numbers that events and reasons carry, so that equal facts are equal.

/// A share of 1 to three decimals: 0 and 1 only where it is exactly that.
pub(crate) fn share(share: f64) -> f64 {
    match (share * 1e3).round() / 1e3 {
        none if none <= 0.0 && share > 0.0 => 0.0005,
        all if all >= 1.0 && share < 1.0 => 0.9995,
        rounded => rounded,
    }
}

/// A rate or a mean to one decimal.
pub(crate) fn rate(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_0_or_1_only_where_it_is_exactly_that() {
        let cases = [(0.0, 0.0), (0.0001, 0.0005), (0.0731, 0.073), (0.99996, 0.9995), (1.0, 1.0)];
        for (exact, rounded) in cases {
            assert_eq!(share(exact), rounded);
        }
    }
}
