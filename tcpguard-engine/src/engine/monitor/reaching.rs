//! SYNs that reach the stack in spite of all mitigations.

use std::time::Duration;

use super::{ListenerMonitor, RATE_SPAN};
use crate::input::{POLL, Timestamp};
use crate::listener::{BEYOND_RATE, FAILURE_SHARE, OCCUPANCY_MIN, Sums};
use crate::settings::Settings;

/// Share of a budget that failed handshakes take where it is of use: half of its part for first SYNs, which is half of
/// it. Clients with handshakes that all complete leave the rest to others.
const OF_USE: f64 = 0.25;
/// Share of its limit from which a SYN queue is full: Linux ends the oldest entries of one that is more than half full,
/// so that a few slots are free now and then (`reqsk_timer_handler`, net/ipv4/inet_connection_sock.c).
const FULL: f64 = 0.95;
/// Span over which the SYNs that reach the stack are judged: a pulse's pause is no defence, and one poll no failure.
const JUDGED: Duration = Duration::from_secs(2);

impl ListenerMonitor {
    /// SYNs a second that the stack was left to answer and that completed no handshake.
    pub fn reaching_rate(&self) -> f64 {
        let sums = self.window.last(RATE_SPAN);
        sums.per_second(sums.reaching())
    }

    /// Returns whether a flood reaches the stack although the agent acts, last in another way since `newest`: most of
    /// it, or as much as fills the SYN queue. Natural failures are no flood. Nor are failures that do not matter beside
    /// the other SYNs that reach the stack, however many are kept from it.
    pub fn is_overrun(&self, now: Timestamp, newest: Timestamp, settings: &Settings) -> bool {
        let sums = self.window.since((now - JUDGED).max(newest + POLL));
        let passed = Sums { attempts: sums.passed(), ..sums };
        let reaching = sums.reaching() as f64 - self.natural.expected(&passed);
        let matters = (settings.failure_floor * sums.span.as_secs_f64())
            .max(FAILURE_SHARE * passed.attempts as f64);
        let stopped = (sums.dropped + sums.cookies_sent) as f64;
        let turns_away = sums.span >= JUDGED && self.is_turning_away(now);
        let fills = self.is_queue_full(now) || sums.is_unanswered() || turns_away;
        sums.span >= RATE_SPAN && reaching >= matters && (reaching >= stopped || fills)
    }

    /// Returns whether SYNs that complete no handshake take enough tokens of a budget of `rate` a second for it to be of
    /// use. SYNs that a budget drops are no reason for it, because they may be those of clients.
    pub fn takes_budget(&self, rate: u32) -> bool {
        let sums = self.window.last(JUDGED);
        let left = sums.syns.saturating_sub(sums.dropped + sums.cookies_sent);
        let failing = left.saturating_sub(sums.completed.saturating_sub(sums.cookies_redeemed));
        failing as f64 - self.natural.expected(&Sums { attempts: left, ..sums })
            >= OF_USE * f64::from(rate) * sums.span.as_secs_f64()
    }

    /// Handshakes a second that complete.
    pub fn completing_rate(&self) -> f64 {
        let sums = self.window.last(RATE_SPAN);
        sums.per_second(sums.completed)
    }

    /// Free slots of the first half of its SYN queue, by the last count; 0 where there is none.
    pub fn free_slots(&self, now: Timestamp) -> u32 {
        let half = self.queues.map_or(0, |queues| queues.backlog / 2);
        self.half_open_lately(now).map_or(0, |half_open| half.saturating_sub(half_open))
    }

    /// Returns whether its SYN queue was found full not long ago. Of a tiny queue that says nothing.
    pub fn is_queue_full(&self, now: Timestamp) -> bool {
        let backlog = self.queues.map_or(0, |queues| queues.backlog);
        let room = (FULL * f64::from(backlog)).max(OCCUPANCY_MIN.into());
        self.half_open_lately(now).is_some_and(|half_open| f64::from(half_open) >= room)
    }

    /// SYNs of the last poll that the stack answered although the XDP program could not read them, and that
    /// completed no handshake. Where its SYN queue is full and the stack answers no more, `beyond`: all frames that
    /// may have held one, if they are more than the SYNs that the XDP program could read and left to the stack.
    pub(crate) fn evading(&self, now: Timestamp, elapsed: Duration, beyond: u64) -> u64 {
        let sums = self.window.last(elapsed);
        let read = sums.syns.saturating_sub(sums.dropped + sums.cookies_sent);
        match self.is_queue_full(now) && beyond > read {
            true => beyond,
            false => sums.evading(),
        }
    }

    /// Returns whether SYNs that the XDP program cannot read reach the stack in number.
    pub fn is_evaded(&self) -> bool {
        self.evaded
    }

    /// Notes whether SYNs that the XDP program cannot read reach the stack in number.
    pub(super) fn note_evaded(&mut self) {
        let sums = self.window.last(JUDGED);
        self.evaded = sums.per_second(sums.evading()) >= BEYOND_RATE;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::after;
    use super::*;
    use crate::input::Queues;
    use crate::listener::Tick;

    /// A rule drops 10,000 SYN/s, 60 clients connect in a second, and 400/s with their fingerprint complete nothing.
    #[test]
    fn dropping_most_of_a_flood_is_no_mitigation_while_the_rest_fills_the_queue() {
        let settings = Settings::default();
        let is_overrun = |alike: u64, unanswered, half_open| {
            let syns = 2500 + 15 + alike;
            let tick = Tick {
                syns,
                attempts: syns,
                unanswered,
                established: 15,
                matched: 2500,
                dropped: 2500,
                ..Tick::default()
            };
            let (mut monitor, now) = after(20, tick);
            monitor.queues = Some(Queues { half_open: Some(half_open), accept: 0, backlog: 1024 });
            monitor.counted = now;
            monitor.is_overrun(now, now - Duration::from_secs(4), &settings)
        };
        assert!(is_overrun(100, 0, 1024), "the queue is full");
        assert!(is_overrun(100, 90, 900), "or was, since the last count");
        assert!(!is_overrun(100, 0, 900), "it has room");
        assert!(!is_overrun(0, 0, 1024), "of what came before the rule");
    }
}
