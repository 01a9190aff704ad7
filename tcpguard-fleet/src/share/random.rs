//! Random times, so that hosts do not act at the same moment.

use std::time::Duration;

/// Hosts that are attacked by one flood, in the largest fleet for which the messages are computed.
const LARGEST_GROUP: f64 = 100_000.0;

/// Random times from a seed (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
/// They must differ between hosts, and need not be secret.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on the seed alone.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A time from `least` up to, but not including, `most`, each as likely as any other.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.fraction())
    }

    /// A time up to `most` that is rarely early: of `LARGEST_GROUP` hosts about one draws zero, and the number that
    /// have drawn less grows by the same factor in each part of the time. So in a group of any size a few hosts come
    /// first, and the others hear them before their own time (the timer of RFC 4654, and of Nonnenmacher and Biersack,
    /// "Scalable feedback for large groups", 1999).
    pub fn late(&mut self, most: Duration) -> Duration {
        let fraction = 1.0 - self.fraction();
        most.mul_f64((1.0 + fraction.ln() / LARGEST_GROUP.ln()).max(0.0))
    }

    /// A number from 0 up to, but not including, 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        // A float holds 53 bits exactly.
        (word >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_evenly_between_their_bounds() {
        let (least, most) = (Duration::from_secs(15), Duration::from_secs(25));
        let mut random = Random::new(1);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let time = random.between(least, most);
            assert!(time >= least && time < most, "{time:?}");
            tenths[(time - least).as_secs() as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
        assert_eq!(random.between(least, least), least);
        assert_ne!(Random::new(1).between(least, most), Random::new(2).between(least, most));
    }

    /// Number of those of `hosts` hosts whose time lies within 20 ms of the first three. That is the latency of a
    /// message to 1,000 hosts, measured on one NATS server.
    fn at_the_start(hosts: u64, draw: impl Fn(&mut Random) -> Duration) -> usize {
        let mut times: Vec<_> = (0..hosts).map(|seed| draw(&mut Random::new(seed))).collect();
        times.sort_unstable();
        let heard = times[2] + Duration::from_millis(20);
        times.iter().filter(|time| **time <= heard).count()
    }

    #[test]
    fn few_hosts_of_a_group_of_any_size_come_first() {
        let most = Duration::from_millis(500);
        for hosts in [3, 100, 1000, 100_000] {
            let first = at_the_start(hosts, |random| random.late(most));
            assert!(first <= 20, "{first} of {hosts}");
        }
        // With times that are all equally likely, the number grows with the group.
        let first = at_the_start(100_000, |random| random.between(Duration::ZERO, most));
        assert!(first > 3000, "{first}");
    }
}
