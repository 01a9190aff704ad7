//! The clock by which everything is timed, and its conversion to calendar time.

use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tcpguard_engine::Timestamp;

use super::time_namespace;

/// Offset of this process's boot clock to the host's, in ns. A process stays in the time namespace in which
/// it was started.
static OFFSET: LazyLock<i128> = LazyLock::new(time_namespace::boottime_offset);

/// Returns the time since boot, as the BPF programs count it (`CLOCK_BOOTTIME` outside any time namespace).
pub fn boot_time() -> Timestamp {
    let now = clock_gettime(ClockId::Boottime);
    let shown = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    Timestamp::from_nanos(u64::try_from(shown - *OFFSET).unwrap_or(0))
}

/// CPU time that the calling thread has taken, also in the kernel.
pub fn cpu_time() -> Duration {
    let taken = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(taken.tv_sec.unsigned_abs(), taken.tv_nsec.unsigned_abs() as u32)
}

/// Returns the id of this boot; empty where the kernel does not report one, which is then no boot known before.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Turns boot time into calendar time, for people. Take a new one for each report: the calendar
/// may be set at any time.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    boot: Timestamp,
    wall: jiff::Timestamp,
}

impl WallClock {
    /// Returns a wall clock from both clocks as they are now.
    pub fn now() -> Self {
        Self::new(boot_time(), jiff::Timestamp::now())
    }

    /// Returns a wall clock from the two clocks read at one moment.
    pub fn new(boot: Timestamp, wall: jiff::Timestamp) -> Self {
        Self { boot, wall }
    }

    /// The calendar time of `at`, before or after the moment the clocks were read.
    pub fn at(&self, at: Timestamp) -> jiff::Timestamp {
        // One of the two differences is zero.
        let ago = self.boot.since(at);
        let ahead = at.since(self.boot);
        let wall = self.wall.saturating_sub(ago).unwrap_or(jiff::Timestamp::MIN);
        wall.saturating_add(ahead).unwrap_or(jiff::Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_forward() {
        let first = boot_time();
        assert!(first > Timestamp::default());
        assert!(boot_time() >= first);
    }

    #[test]
    fn past_and_future_lie_on_their_side_of_the_present() {
        let wall: jiff::Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        let clock = WallClock::new(Timestamp::from_millis(100_000), wall);
        for (at, expected) in [
            (100_000, "2026-03-01T12:00:00Z"),
            (40_000, "2026-03-01T11:59:00Z"),
            (100_250, "2026-03-01T12:00:00.25Z"),
            (3_700_000, "2026-03-01T13:00:00Z"),
        ] {
            assert_eq!(clock.at(Timestamp::from_millis(at)).to_string(), expected);
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_its_end() {
        let wall = jiff::Timestamp::MAX;
        let clock = WallClock::new(Timestamp::default(), wall);
        assert_eq!(clock.at(Timestamp::from_nanos(u64::MAX)), jiff::Timestamp::MAX);
    }
}
