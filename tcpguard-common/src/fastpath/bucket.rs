//! Token bucket in one word.

/// How fast and how deep a [`Bucket`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Nanoseconds that one token takes to grow back.
    pub interval_ns: u64,
    /// Tokens in a full bucket.
    pub burst: u64,
}

/// A token bucket kept as the time at which it will be full again (the "theoretical arrival time"
/// of the generic cell rate algorithm, ITU-T I.371). All-zero is a full bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes one token at `now_ns` (boot time), or returns `false` and changes nothing.
    #[inline(always)]
    pub const fn take(&mut self, now_ns: u64, rate: Rate) -> bool {
        if self.is_empty(now_ns, rate) {
            return false;
        }
        let start = if self.full_at_ns > now_ns { self.full_at_ns } else { now_ns };
        self.full_at_ns = start + rate.interval_ns;
        true
    }

    /// Whether there is no token to be taken at `now_ns`.
    #[inline(always)]
    pub const fn is_empty(&self, now_ns: u64, rate: Rate) -> bool {
        self.full_at_ns.saturating_sub(now_ns) > rate.interval_ns * rate.burst.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { interval_ns: 50_000_000, burst: 50 };

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let mut now = 1_000_000_000;
        assert_eq!((0..1000).filter(|_| bucket.take(now, RATE)).count(), 50);
        now += 1_000_000_000;
        assert_eq!((0..1000).filter(|_| bucket.take(now, RATE)).count(), 20);
    }

    #[test]
    fn an_idle_bucket_does_not_grow_beyond_its_burst() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(0, RATE));
        assert_eq!((0..1000).filter(|_| bucket.take(u64::MAX / 2, RATE)).count(), 50);
    }
}
