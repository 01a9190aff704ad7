//! Token bucket in one word.

/// Speed and depth of a [`Bucket`]. All-zero is no limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rate {
    /// Nanoseconds that one token takes to grow back; 0: there are always enough.
    pub interval_ns: u32,
    /// Tokens in a full bucket.
    pub burst: u32,
}

impl Rate {
    /// `per_second` tokens a second, `burst` at once. The slowest rate is one token in 4.3 s, which
    /// also stands for zero a second. Above a thousand million there is no limit.
    pub const fn per_second(per_second: u64, burst: u32) -> Self {
        let interval_ns = match 1_000_000_000_u64.checked_div(per_second) {
            Some(ns) if ns <= u32::MAX as u64 => ns as u32,
            _ => u32::MAX,
        };
        Self { interval_ns, burst }
    }
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
        let Some(after) = self.after(now_ns, rate, 1) else {
            return false;
        };
        *self = after;
        true
    }

    /// The bucket after it has given `tokens` more; `None` when it holds fewer.
    #[inline(always)]
    pub const fn after(&self, now_ns: u64, rate: Rate, tokens: u32) -> Option<Self> {
        let interval = rate.interval_ns as u64;
        let start = if self.full_at_ns > now_ns { self.full_at_ns } else { now_ns };
        let room = interval * rate.burst.saturating_sub(tokens) as u64;
        if interval != 0 && start - now_ns > room {
            return None;
        }
        Some(Self { full_at_ns: start + interval * tokens as u64 })
    }

    /// Gives so many tokens back that were taken; a full bucket stays full.
    #[inline(always)]
    pub const fn give_back(&mut self, rate: Rate, tokens: u64) {
        let grown = tokens.saturating_mul(rate.interval_ns as u64);
        self.full_at_ns = self.full_at_ns.saturating_sub(grown);
    }

    /// Returns whether there is no token to be taken at `now_ns`.
    #[inline(always)]
    pub const fn is_empty(&self, now_ns: u64, rate: Rate) -> bool {
        self.after(now_ns, rate, 1).is_none()
    }

    /// The bucket in a word, for an exchange that no other CPU may come between.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.full_at_ns
    }

    /// Returns that word, to be changed.
    #[inline(always)]
    pub const fn word_mut(&mut self) -> &mut u64 {
        &mut self.full_at_ns
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

    #[test]
    fn many_at_once_are_as_many_as_one_by_one() {
        let mut bucket = Bucket::default();
        let mut taken = 0;
        while let Some(after) = bucket.after(1_000_000_000, RATE, 8) {
            bucket = after;
            taken += 8;
        }
        while bucket.take(1_000_000_000, RATE) {
            taken += 1;
        }
        assert_eq!(taken, 50);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_a_full_bucket_holds_no_more() {
        let (mut bucket, now) = (Bucket::default(), 1_000_000_000);
        for _ in 0..1_000 {
            assert!(bucket.take(now, RATE));
            bucket.give_back(RATE, 1);
        }
        bucket.give_back(RATE, 1_000);
        assert_eq!((0..1_000).filter(|_| bucket.take(now, RATE)).count(), 50);
        bucket.give_back(RATE, 7);
        assert_eq!((0..1_000).filter(|_| bucket.take(now, RATE)).count(), 7);
    }

    #[test]
    fn a_rate_of_all_zeroes_is_no_limit_and_one_in_the_past_leaves_none_behind() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(0, Rate::per_second(1, 1)));
        assert!((0..1000).all(|now| bucket.take(now, Rate::default())));
        assert_eq!(Rate::per_second(20, 50), RATE);
        assert_eq!(Rate::per_second(0, 5), Rate { interval_ns: u32::MAX, burst: 5 });
    }
}
