//! Test whether the latest addition keeps clients out.

use std::time::Duration;

use super::{ASSUMED_RTT, ListenerMonitor};
use crate::input::{Mitigation, POLL, Timestamp};
use crate::listener::Sums;
use crate::mitigation::{Before, Harm, Newest};
use crate::policy::clean_age;

/// Span of the attack before an addition with which the time after it is compared.
const TRIED_AGAINST: Duration = Duration::from_secs(5);
/// Span over which the rate of the clients that may be expected is measured.
const RECENT: Duration = Duration::from_secs(16);
/// Time within which a client's retransmitted SYN arrives: a second (RFC 6298 §2.1), and half a second for slack and
/// the way.
const SECOND_TRY: Duration = Duration::from_millis(1500);

/// Completed handshakes a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateBefore {
    completed: f64,
    /// Those of returning clients, each client counted once in ten seconds.
    returning: f64,
}

impl From<Sums> for RateBefore {
    fn from(sums: Sums) -> Self {
        let [completed, returning] =
            [sums.completed, sums.returning].map(|count| sums.per_second(count));
        Self { completed, returning }
    }
}

impl RateBefore {
    /// Returns the rate of all completed handshakes, where returning clients were not counted separately.
    pub const fn of_all(completed: f64) -> Self {
        Self { completed, returning: 0.0 }
    }
}

impl ListenerMonitor {
    /// Compares how many clients get in from now on with how many did before.
    pub fn try_out(&mut self, now: Timestamp, what: Newest) {
        let delay = match what {
            // Only the second SYN gets in, and only when the queue has been cleaned up.
            Newest::Mitigation(Mitigation::Budget) => SECOND_TRY + clean_age(self.rtt()),
            Newest::Mitigation(_) | Newest::Rule(_) => POLL.max(self.rtt() * 2),
        };
        let attacked = self.incident.as_deref().map(|incident| incident.started());
        let from = attacked.map_or(now, |started| started.max(now - TRIED_AGAINST));
        let attack = self.window.since(from);
        let before = |completed: u64, rate_before: f64| Before {
            completed: (completed as f64).min(rate_before * attack.span.as_secs_f64()),
            span: attack.span,
            dispersion: self.natural.dispersion(),
        };
        let recent = self.window.last(RECENT);
        let baseline = recent.per_second(recent.completed);
        match what {
            Newest::Mitigation(Mitigation::Cookies) => {
                self.ladder.cookie_completion.start(now + delay);
                let before = before(attack.completed, self.rate_before.completed);
                self.ladder.canary.monitor(now, Mitigation::Cookies, delay, before, baseline);
            }
            other => {
                self.ladder.canary.wait(now + delay);
                let before = before(attack.returning, self.rate_before.returning);
                self.ladder.breaker.monitor(now, other, delay, before, baseline);
            }
        }
    }

    /// Returns whether the latest addition keeps clients out, after a poll that was `elapsed` long.
    pub fn judge_newest(&mut self, now: Timestamp, elapsed: Duration) -> Option<(Newest, Harm)> {
        if self.ladder.has(Mitigation::Cookies)
            && let Some(harm) = self.judge_cookie_completion(now, elapsed)
        {
            return Some((Newest::Mitigation(Mitigation::Cookies), harm));
        }
        // Connections that the application does not accept are no fault of a mitigation.
        if self.overloaded() {
            return None;
        }
        let Sums { completed, returning, .. } = self.window.last(elapsed);
        let canary = &mut self.ladder.canary;
        if canary.is_open() {
            let (mitigation, harm) = canary.poll(now, completed, elapsed, |_| true)?;
            // Whatever else was added has a trial of its own from now on.
            let delay = POLL.max(self.clients.rtt().unwrap_or(ASSUMED_RTT) * 2);
            self.ladder.breaker.restart(now, delay);
            let harm = self.ladder.cookie_completion.suspected().unwrap_or(harm);
            return Some((Newest::Mitigation(mitigation), harm));
        }
        self.ladder.breaker.poll(now, returning, elapsed, |_| false)
    }

    /// Returns the harm if the host completes hardly any handshakes of clients with valid cookies.
    fn judge_cookie_completion(&mut self, now: Timestamp, elapsed: Duration) -> Option<Harm> {
        // Only the tracepoint shows that.
        if elapsed.is_zero() || self.counters().established.is_none() {
            return None;
        }
        let cookie_completion = &mut self.ladder.cookie_completion;
        // A full accept queue takes no connection, whether XDP or the stack has sent its SYN-ACK.
        if self.pressure.polls().0 > 0 {
            cookie_completion.start(now);
        }
        let sums = self.window.last(elapsed);
        cookie_completion.poll(now, sums.returned_cookies)
    }
}
