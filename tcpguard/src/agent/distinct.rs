//! How many distinct sources the registers stand for.

use tcpguard_common::abi::maps::HLL_REGISTERS;

/// The HyperLogLog estimate (Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", 2007), with their
/// linear counting for small numbers. Standard error 1.04/sqrt(1024) = 3.3 %.
pub fn estimate(registers: &[u8; HLL_REGISTERS]) -> u64 {
    let m = HLL_REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
    let alpha = 0.7213 / (1.0 + 1.079 / m);
    let raw = alpha * m * m / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
    estimate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_common::abi::Addr;
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
