//! The clock that tcpguard and the kit share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Limit of a wait for an event whose time a test does not judge. A busy machine delays it.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Nanoseconds since boot (`CLOCK_BOOTTIME`), the clock of every time in tcpguard's reports.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Boot time is never negative and takes 584 years to overflow.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds by which the time of day, counted from 1970, is ahead of the boot clock. They run at one
/// speed, so this changes only when the clock is set.
pub fn wall_ahead_ns() -> i128 {
    jiff::Timestamp::now().as_nanosecond() - i128::from(boot_ns())
}

/// A time of day of this boot in nanoseconds since boot, as the clock is set now.
pub fn since_boot(time: jiff::Timestamp) -> u64 {
    (time.as_nanosecond() - wall_ahead_ns()) as u64
}

/// From `earlier` to `later`, both in nanoseconds since boot; negative as zero.
pub fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

/// `at` and the time after it, in nanoseconds since boot.
pub fn after(at: u64, duration: Duration) -> u64 {
    at + duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_found_on_the_boot_clock() {
        let before = boot_ns();
        let found = since_boot(jiff::Timestamp::now());
        let second = 1_000_000_000;
        assert!((before - second..boot_ns() + second).contains(&found), "{found}, {before}");
    }
}
