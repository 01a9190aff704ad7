//! A listener's counters and signals at one moment.

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::window::Sums;
use crate::input::{TcpExt, Timestamp, map_time};

/// Counters and signals at one moment.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Moment<At = Timestamp> {
    /// Time of the last of these counts.
    pub at: At,
    /// Rates of the listener in the window of the evidence up to then, by default 8 s.
    pub rates: Rates,
    /// Statistics of the signals.
    pub statistics: Statistics,
    /// Growth of the kernel's own counters in the same window, over all listeners of this network namespace.
    pub kernel: TcpExt,
    /// Number of half-open handshakes; `null` where they were not counted.
    pub half_open: Option<u32>,
    /// Number of connections that wait for the application to accept them; `null` where the queues were not
    /// read.
    pub accept_queue: Option<u32>,
    /// Capacity of the SYN queue and of the accept queue, each; `null` where the queues were not read.
    pub queue_limit: Option<u32>,
}

map_time!(Moment: at; rates, statistics, kernel, half_open, accept_queue, queue_limit);

/// Rates of a listener, per second.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Rates {
    /// Time over which the rates are taken, in seconds.
    pub span_s: f64,
    /// SYNs per second, retransmissions included.
    pub syn_pps: f64,
    /// Retransmitted SYNs per second (sampled).
    pub retransmitted_pps: f64,
    /// Handshakes attempted per second.
    pub attempted_pps: f64,
    /// Handshakes completed per second.
    pub completed_pps: f64,
    /// Unanswered SYNs per second: those that a full queue left without a reply.
    pub unanswered_pps: f64,
    /// SYNs per second that were left without a reply for another reason.
    pub ignored_pps: f64,
    /// SYNs per second that rules matched, in whatever mode.
    pub matched_pps: f64,
    /// SYNs per second that were dropped, by rules or because they were too many.
    pub dropped_pps: f64,
    /// SYNs per second that XDP answered with a cookie.
    pub cookies_sent_pps: f64,
    /// Out-of-state segments per second: they belonged to no connection, and were answered with a reset or
    /// dropped.
    pub out_of_state_pps: f64,
}

impl From<Sums> for Rates {
    fn from(counts: Sums) -> Self {
        // Two decimals are the precision of these rates.
        let rate = |count| (counts.per_second(count) * 100.0).round() / 100.0;
        Self {
            span_s: counts.span.as_secs_f64(),
            syn_pps: rate(counts.syns),
            retransmitted_pps: rate(counts.retransmitted),
            attempted_pps: rate(counts.attempts),
            completed_pps: rate(counts.established),
            unanswered_pps: rate(counts.unanswered),
            ignored_pps: rate(counts.ignored),
            matched_pps: rate(counts.matched),
            dropped_pps: rate(counts.dropped),
            cookies_sent_pps: rate(counts.cookies_sent),
            out_of_state_pps: rate(counts.resets),
        }
    }
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
