//! A listener's counters and signals at one moment.

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::window::Sums;
use crate::input::{Queues, TcpExt, Timestamp};

/// Counters and signals at one moment.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Moment {
    /// Time of the last of these counts.
    pub at: Timestamp,
    /// The listener's counts in the window of the evidence up to then.
    pub counts: Sums,
    /// Statistics of the signals.
    pub statistics: Statistics,
    /// Growth of the kernel's own counters of this network namespace in as much time.
    pub tcp_ext: TcpExt,
    /// The listener's queues, as last read.
    pub queues: Option<Queues>,
}

/// The statistics that the signals derive from the counters.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Statistics {
    /// Time that a handshake was given to complete, in milliseconds.
    pub given_ms: u64,
    /// Fast path: attempts of the span judged.
    pub fast_attempts: u64,
    /// Fast path: number of these that failed.
    pub fast_failures: u64,
    /// Fast path: consecutive polls in which too many failed.
    pub fast_polls: u32,
    /// Slow path: the cumulative sum.
    pub cusum: f64,
    /// Slow path: the sum from which it alarms.
    pub cusum_limit: f64,
    /// Variance of the failures of a tick over that of chance.
    pub dispersion: f64,
    /// Share of the attempts that fail anyway.
    pub natural_share: f64,
    /// Attempts a second that fail anyway.
    pub natural_rate: f64,
    /// Failures to be expected in the window of the evidence.
    pub expected: f64,
    /// SYN queue: the part that failed handshakes hold; `None` where it was not counted.
    pub occupancy: Option<Occupied>,
    /// Accept queue: polls in which it was full, less those since in which it was not.
    pub overload_polls: u32,
    /// Signs of a flash crowd: number of consecutive polls.
    pub flash_crowd_polls: u32,
    /// Baseline of SYNs a second; 0 while that is not known.
    pub baseline_syn_rate: f64,
}

/// Estimates of the part of a SYN queue that failed handshakes hold: it is the least of the first
/// three.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Occupied {
    /// Half-open handshakes.
    pub half_open: u32,
    /// Failures of the last minute beyond those to be expected.
    pub of_a_minute: f64,
    /// Failures of the last 10 s beyond those to be expected, times 6.3: an entry of the queue lives 63 s.
    pub going_on: f64,
    /// Number from which an alarm is raised.
    pub limit: f64,
}

/// The kernel's own counters over a while, from which their growth is computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    readings: VecDeque<(Timestamp, TcpExt)>,
}

impl Growth {
    /// Takes over a reading; the answer is the growth over the last `span`, or over less while less
    /// is known.
    pub fn over(&mut self, now: Timestamp, span: Duration, reading: TcpExt) -> TcpExt {
        self.readings.push_back((now, reading));
        while self.readings.get(1).is_some_and(|(at, _)| now.since(*at) >= span) {
            self.readings.pop_front();
        }
        let before = self.readings.front().map_or(reading, |(_, before)| *before);
        let grown = |count: fn(&TcpExt) -> u64| count(&reading).saturating_sub(count(&before));
        TcpExt {
            listen_overflows: grown(|counters| counters.listen_overflows),
            listen_drops: grown(|counters| counters.listen_drops),
            req_q_full_do_cookies: grown(|counters| counters.req_q_full_do_cookies),
            req_q_full_drop: grown(|counters| counters.req_q_full_drop),
            syncookies_sent: grown(|counters| counters.syncookies_sent),
            syncookies_recv: grown(|counters| counters.syncookies_recv),
            syncookies_failed: grown(|counters| counters.syncookies_failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_last_seconds() {
        let mut growth = Growth::default();
        let mut grown = |second: u64, drops| {
            let reading = TcpExt { listen_drops: drops, ..TcpExt::default() };
            let now = Timestamp::from_millis(1000 * second);
            growth.over(now, Duration::from_secs(8), reading).listen_drops
        };
        assert_eq!(grown(100, 50), 0, "what was before is nobody's");
        assert_eq!(grown(104, 60), 10);
        assert_eq!(grown(108, 70), 20);
        assert_eq!(grown(112, 75), 15);
        assert_eq!(grown(113, 3), 0, "it counts anew");
    }
}
