//! Estimate of the number of distinct sources that send SYNs to a listener.

use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::maps::HLL_REGISTERS;
use tcpguard_common::fastpath::distinct;
use tcpguard_engine::Timestamp;

use crate::random::{ln, mix};

const WINDOW: Duration = Duration::from_secs(10);

/// The registers of a HyperLogLog sketch, emptied every ten seconds.
#[derive(Clone)]
pub(super) struct Sources {
    registers: Box<[u8; HLL_REGISTERS]>,
    since: Timestamp,
}

impl Sources {
    pub fn new(now: Timestamp) -> Self {
        Self { registers: Box::new([0; HLL_REGISTERS]), since: now }
    }

    pub fn note(&mut self, now: Timestamp, client: IpAddr) {
        if now.since(self.since) >= WINDOW {
            self.since = now;
            self.registers.fill(0);
        }
        let bits = match client {
            IpAddr::V4(addr) => u64::from(addr.to_bits()),
            IpAddr::V6(addr) => (addr.to_bits() >> 64) as u64,
        };
        distinct::add(&mut self.registers, mix(bits));
    }

    /// The estimate (Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", 2007, figure 3).
    pub fn estimate(&self) -> u64 {
        let m = HLL_REGISTERS as f64;
        let (mut sum, mut empty) = (0.0, 0);
        for rank in self.registers.iter() {
            sum += 1.0 / (1_u64 << rank) as f64;
            empty += u32::from(*rank == 0);
        }
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let linear = raw <= 2.5 * m && empty > 0;
        (if linear { m * ln(m / f64::from(empty)) } else { raw }).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn sources_are_counted_within_the_error_of_the_sketch_and_forgotten_after_ten_seconds() {
        let mut sources = Sources::new(Timestamp::default());
        assert_eq!(sources.estimate(), 0);
        let mut count = 0;
        for size in [10, 100, 1000, 3000, 30_000, 1_000_000] {
            while count < size {
                sources.note(Timestamp::from_millis(1), Ipv4Addr::from_bits(count).into());
                count += 1;
            }
            let error = sources.estimate() as f64 / f64::from(size) - 1.0;
            // Three standard errors of 3.25 %.
            assert!(error.abs() < 0.1, "{size}: {error}");
        }
        sources.note(Timestamp::from_millis(10_000), Ipv4Addr::LOCALHOST.into());
        assert_eq!(sources.estimate(), 1);
    }
}
