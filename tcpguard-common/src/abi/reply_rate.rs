//! Token bucket in 32 bits, for replies to networks: a CPU has 65,536 of them in 256 KiB.

/// Speed and depth of the buckets of replies to networks on one CPU, in ticks. All-zero is no limit.
///
/// A bucket is the time at which it will be full again, as [`super::Bucket`] is, in ticks and modulo 2^32. All-zero
/// is a full bucket. After a pause, a bucket seems as empty as it can be for at most 8,192 of 2^32 ticks. (With 16
/// bits, all unused buckets would be empty at once, for 31 ms in each 9 s.)
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReplyRate {
    /// Ticks that one token takes to grow back; 0: there are always enough.
    pub interval: u16,
    /// Ticks in which an empty bucket is full again.
    pub depth: u16,
    /// A tick is `2^shift` ns.
    pub shift: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

impl ReplyRate {
    /// Tokens in a full bucket: no fewer on a CPU with a small share, because arrivals vary, and no more, because
    /// `depth` holds no more.
    const BURST: (u64, u64) = (8, 256);
    /// Each token takes 16 to 32 ticks.
    const TICK_BITS: u32 = 4;

    /// The share of each of `cpus` CPUs in `per_second` replies a second, and a second's worth at once.
    pub const fn share(per_second: u64, cpus: u64) -> Self {
        let interval_ns = 1_000_000_000 * cpus / per_second;
        let bits = match interval_ns.checked_ilog2() {
            Some(bits) => bits,
            None => return Self { interval: 0, depth: 0, shift: 0, pad: [0; 3] },
        };
        let shift = bits.saturating_sub(Self::TICK_BITS);
        // Rounded so that no more than the limit is sent.
        let interval = interval_ns.div_ceil(1 << shift) as u16;
        let (least, most) = Self::BURST;
        let burst = match per_second / cpus {
            few if few < least => least,
            many if many > most => most,
            burst => burst,
        };
        Self { interval, depth: interval * burst as u16, shift: shift as u8, pad: [0; 3] }
    }

    /// Takes a token that takes `weight` times as long to grow back as others, or returns `false` and changes
    /// nothing.
    #[inline(always)]
    pub const fn take(self, bucket: &mut u32, now_ns: u64, weight: u16) -> bool {
        let after = self.ahead(*bucket, now_ns) + (self.interval * weight) as u32;
        if after > self.depth as u32 {
            return false;
        }
        *bucket = self.tick(now_ns).wrapping_add(after);
        true
    }

    /// Gives a token back that was taken; a full bucket stays full.
    #[inline(always)]
    pub const fn give_back(self, bucket: &mut u32, now_ns: u64) {
        let ahead = self.ahead(*bucket, now_ns);
        if ahead != 0 {
            *bucket = self.tick(now_ns).wrapping_add(ahead.saturating_sub(self.interval as u32));
        }
    }

    /// Returns whether less than half of the tokens are left.
    #[inline(always)]
    pub const fn is_half_empty(self, bucket: u32, now_ns: u64) -> bool {
        self.ahead(bucket, now_ns) > self.depth as u32 / 2
    }

    /// Tokens that are left in a bucket; in a full one with 0 for a bucket.
    pub const fn left(self, bucket: u32, now_ns: u64) -> u32 {
        let ticks = self.depth as u32 - self.ahead(bucket, now_ns);
        match ticks.checked_div(self.interval as u32) {
            Some(tokens) => tokens,
            None => u32::MAX,
        }
    }

    /// Ticks until the bucket is full.
    #[inline(always)]
    const fn ahead(self, bucket: u32, now_ns: u64) -> u32 {
        let ahead = bucket.wrapping_sub(self.tick(now_ns));
        if ahead > self.depth as u32 { 0 } else { ahead }
    }

    #[inline(always)]
    const fn tick(self, now_ns: u64) -> u32 {
        (now_ns >> (self.shift & 63)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const START: u64 = 5_000 * S;

    /// Tokens that are given in `seconds` of 100,000 requests each.
    fn given(rate: ReplyRate, bucket: &mut u32, seconds: u64) -> u64 {
        let requests = 0..seconds * 100_000;
        requests.filter(|at| rate.take(bucket, START + at * S / 100_000, 1)).count() as u64
    }

    #[test]
    fn a_cpu_gives_its_share_and_no_more() {
        for per_second in [1, 10, 256, 1_000, 30_000] {
            for cpus in [1, 2, 7, 16, 64, 128] {
                let rate = ReplyRate::share(per_second, cpus);
                let burst = u64::from(rate.depth / rate.interval);
                assert_eq!(burst, (per_second / cpus).clamp(8, 256));
                let most = burst + 10 * per_second / cpus + 1;
                let least = burst + 10 * per_second * 15 / 16 / cpus;
                let given = given(rate, &mut 0, 10);
                assert!((least..=most).contains(&given), "{per_second} on {cpus}: {given}");
            }
        }
    }

    #[test]
    fn a_bucket_is_full_after_a_pause_and_before_its_first_token() {
        for cpus in [1, 16, 128] {
            let rate = ReplyRate::share(256, cpus);
            let burst = rate.depth / rate.interval;
            let mut bucket = 0;
            while rate.take(&mut bucket, START, 1) {}
            let full_at = START + 2 * cpus * S;
            for now in (0..100_000).map(|part| full_at + part * 600 * S / 100_000) {
                for mut bucket in [0, bucket] {
                    assert!(rate.take(&mut bucket, now, burst), "{now}");
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_a_full_bucket_holds_no_more() {
        let rate = ReplyRate::share(256, 1);
        let mut bucket = 0;
        rate.give_back(&mut bucket, START);
        assert_eq!(bucket, 0, "nothing was taken");
        assert_eq!(rate.left(bucket, START), 256);
        while rate.take(&mut bucket, START, 1) {}
        for back in [1, 7, 256, 300] {
            assert_eq!(rate.left(bucket, START), 0);
            (0..back).for_each(|_| rate.give_back(&mut bucket, START));
            assert_eq!(rate.left(bucket, START), back.min(256) as u32);
            let taken = (0..1_000).filter(|_| rate.take(&mut bucket, START, 1)).count();
            assert_eq!(taken, back.min(256));
        }
    }

    #[test]
    fn an_all_zero_rate_is_no_limit_and_neither_is_one_beyond_all_ticks() {
        for rate in [ReplyRate::default(), ReplyRate::share(u64::MAX, 1)] {
            assert!((0..1_000).all(|now| rate.take(&mut 0, now * 7_919, 1)));
            assert!(!rate.is_half_empty(9, START));
        }
    }
}
