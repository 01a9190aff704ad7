//! Packet time as the clock of a replay.

use std::time::Duration;

use tcpguard_engine::Timestamp;

use crate::documents::replay::START;

/// A packet older than the newest one by more than this was not reordered on its way into the
/// capture: the capturing host's clock was set back, and time goes on from there.
const SET_BACK: Duration = Duration::from_secs(5);

/// A clock that never goes backwards, whatever the packets' timestamps do.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Timestamp,
    newest_ns: Option<u64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: START, newest_ns: None }
    }
}

impl Clock {
    /// The time at which a packet stamped with `stamp_ns` (ns since 1970) arrives.
    pub fn at(&mut self, stamp_ns: u64) -> Timestamp {
        let newest = self.newest_ns.unwrap_or(stamp_ns);
        let back = Duration::from_nanos(newest.saturating_sub(stamp_ns));
        self.now = self.now + Duration::from_nanos(stamp_ns.saturating_sub(newest));
        if stamp_ns > newest || back > SET_BACK || self.newest_ns.is_none() {
            self.newest_ns = Some(stamp_ns);
        }
        self.now
    }

    /// The time of the last packet.
    pub const fn now(&self) -> Timestamp {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Seconds since the start at which packets with these timestamps arrive.
    fn arrivals<const N: usize>(stamps: [u64; N]) -> [u64; N] {
        let mut clock = Clock::default();
        stamps.map(|stamp| clock.at(1_700_000_000 * SECOND + stamp * SECOND).since(START).as_secs())
    }

    #[test]
    fn time_is_that_of_the_packets_from_the_first_on() {
        assert_eq!(arrivals([0, 1, 1, 5, 7_200]), [0, 1, 1, 5, 7_200]);
    }

    #[test]
    fn reordered_packets_arrive_with_the_newest_and_add_no_time() {
        assert_eq!(arrivals([10, 12, 9, 11, 12, 13]), [0, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn after_the_clock_was_set_back_time_goes_on() {
        assert_eq!(arrivals([1_000, 1_001, 10, 12]), [0, 1, 1, 3]);
    }

    #[test]
    fn the_end_of_time_is_no_end_of_the_program() {
        let mut clock = Clock::default();
        clock.at(0);
        assert_eq!(clock.at(u64::MAX), Timestamp::from_nanos(u64::MAX));
        assert_eq!(clock.at(0), clock.at(u64::MAX));
    }
}
