//! The clock that the guard and the kit share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot (`CLOCK_BOOTTIME`), the clock of every time in the guard's reports.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Boot time is never negative and takes 584 years to overflow.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// From `earlier` to `later`, both in nanoseconds since boot; negative as zero.
pub fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

/// `at` and the time after it, in nanoseconds since boot.
pub fn after(at: u64, duration: Duration) -> u64 {
    at + duration.as_nanos() as u64
}
