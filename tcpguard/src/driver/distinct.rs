//! Estimate of the number of distinct sources that the registers stand for.

/// The HyperLogLog estimate (Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", 2007), with the
/// estimator of Ertl ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, §3):
/// the original one is several percent too high where it stops to count linearly. Standard error
/// 1.04/sqrt(m) for m registers: 3.3 % for 1,024.
pub fn estimate(registers: &[u8]) -> u64 {
    let mut ranks = [0_u32; RANKS];
    for rank in registers {
        ranks[usize::from(*rank).min(RANKS - 1)] += 1;
    }
    let m = registers.len() as f64;
    let filled = ranks[1..].iter().rev().fold(0.0, |sum, count| 0.5 * (sum + f64::from(*count)));
    let sum = filled + m * below(f64::from(ranks[0]) / m);
    (m * m / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
}

/// Ranks that are distinguished. No register gets to the last one.
const RANKS: usize = 64;

/// Contribution of the empty registers, by their share: x + x² + 2x⁴ + 4x⁸ + …
fn below(share: f64) -> f64 {
    if share >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (share, 1.0, share);
    loop {
        power *= power;
        let before = sum;
        sum += power * factor;
        factor *= 2.0;
        if sum == before {
            return sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_common::abi::Addr;
    use tcpguard_common::abi::maps::HLL_REGISTERS;
    use tcpguard_common::fastpath::{distinct, hash};
    use tcpguard_common::model::hash_key;

    #[test]
    fn the_estimate_is_within_four_standard_errors() {
        for count in [0u32, 1, 50, 1_000, 2_600, 37_623, 1_000_000] {
            let mut registers = [0; HLL_REGISTERS];
            for source in 0..count {
                let addr = Addr::from_v4(source.to_be_bytes());
                // Each twice: only distinct ones count.
                for _ in 0..2 {
                    distinct::add(&mut registers, hash::source(&hash_key(7), &addr));
                }
            }
            let estimate = estimate(&registers) as f64;
            let error = (estimate - f64::from(count)).abs();
            assert!(error <= 0.13 * f64::from(count), "{count} sources: {estimate}");
        }
    }
}
