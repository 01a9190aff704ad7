//! Random numbers that are the same for the same seed on every machine.
//!
//! The logarithm and the exponential function are series in plain arithmetic, which IEEE 754 defines
//! to the last bit; those of a system's mathematical library may differ there.

use std::f64::consts::{LN_2, SQRT_2};

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers of their own for the `index`-th of something under `seed`.
    pub fn stream(seed: u64, index: u64) -> Self {
        Self(mix(mix(seed) ^ index))
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        let bits = mix(self.0);
        self.0 = self.0.wrapping_add(STRIDE);
        bits
    }

    /// From 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        self.bits() as f64 / u64::MAX as f64
    }

    /// Exponentially distributed with mean 1: the time between arrivals that know nothing of each
    /// other.
    pub fn exponential(&mut self) -> f64 {
        -ln(((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64)
    }

    /// Normally distributed with mean 0 and variance 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.share() - 1.0, 2.0 * self.share() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * ln(square) / square).sqrt();
            }
        }
    }
}

const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads the bits of a number: the first one of the generator with this seed.
pub(crate) fn mix(bits: u64) -> u64 {
    let z = bits.wrapping_add(STRIDE);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The natural logarithm of a normal positive number: of x = m·2^e with m about 1, ln m = 2 artanh
/// ((m - 1) / (m + 1)).
pub(crate) fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let mut exponent = (x.to_bits() >> 52) as i64 - 1023;
    let mut m = f64::from_bits(x.to_bits() & MANTISSA | 1023 << 52);
    if m > SQRT_2 {
        m /= 2.0;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let series = (0..8).rev().fold(0.0, |sum, k| sum * s * s + 1.0 / f64::from(2 * k + 1));
    2.0 * s * series + exponent as f64 * LN_2
}

/// e to the power of `x`: the series for the remainder after whole powers of two.
pub(crate) fn exp(x: f64) -> f64 {
    let power = (x / LN_2).round().clamp(-1000.0, 1000.0);
    let rest = x - power * LN_2;
    let series = (1..14).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    series * f64::from_bits(((1023 + power as i64) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_of_the_textbook() {
        for x in [1e-12, 0.001, 0.5, 0.99, 1.0, 1.5, 2.0, 1234.5, 1e12] {
            assert!((ln(x) - x.ln()).abs() <= 1e-12 * x.ln().abs().max(1.0), "{x}");
        }
        for x in [-30.0, -1.0, -0.1, 0.0, 0.3, 1.0, 5.5, 30.0] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn draws_have_the_mean_and_variance_of_their_distribution() {
        let mut random = Random::new(7);
        let mut moments = |draw: fn(&mut Random) -> f64| {
            let draws: Vec<f64> = (0..100_000).map(|_| draw(&mut random)).collect();
            let mean = draws.iter().sum::<f64>() / 1e5;
            (mean, draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5)
        };
        let (mean, variance) = moments(Random::exponential);
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let (mean, variance) = moments(Random::normal);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
