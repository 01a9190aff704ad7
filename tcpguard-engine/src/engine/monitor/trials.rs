//! Test whether the latest addition keeps clients out.

use std::time::Duration;

use super::ListenerMonitor;
use crate::input::{Family, Mitigation, POLL, ReturnedCookies, Timestamp, Withheld};
use crate::listener::Sums;
use crate::mitigation::{Before, Harm, Newest};
use crate::policy::clean_age;

/// Span of the attack before an addition with which the time after it is compared.
const TRIED_AGAINST: Duration = Duration::from_secs(5);
/// Time within which a client's retransmitted SYN arrives: a second (RFC 6298 §2.1), and half a second for slack and
/// the way.
const SECOND_TRY: Duration = Duration::from_millis(1500);

/// An addition that keeps clients out.
pub(crate) struct Harmful {
    pub newest: Newest,
    pub harm: Harm,
    /// Family of these clients, where it is known.
    pub family: Option<Family>,
}

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
        match what {
            Newest::Mitigation(Mitigation::Cookies) => {
                self.ladder.cookie_completion.start(now + delay);
                self.ladder.canary.start(now);
                let before = before(attack.completed, self.rate_before.completed);
                self.ladder.fewer.monitor(now, Mitigation::Cookies, delay, before);
            }
            other => {
                self.ladder.fewer.wait(now + delay);
                let before = before(attack.returning, self.rate_before.returning);
                self.ladder.breaker.monitor(now, other, delay, before);
            }
        }
    }

    /// Returns whether clients of this family connect with cookies.
    pub fn has_cookies(&self, family: Family) -> bool {
        self.ladder.has(Mitigation::Cookies)
            && self.ladder.cookie_completion.works(family)
            && !self.withheld.contains(&Withheld::Family(family))
    }

    /// Judges cookies for a family anew.
    pub fn judge_anew(&mut self, now: Timestamp, family: Family) {
        self.ladder.cookie_completion.restart(family, now);
        self.ladder.canary.restart(family, now);
    }

    /// Returns whether the latest addition keeps clients out, after a poll that was `elapsed` long. `elsewhere`: the
    /// families whose clients return cookies of another listener at the same address.
    pub fn judge_newest(
        &mut self,
        now: Timestamp,
        elapsed: Duration,
        elsewhere: &[Family],
    ) -> Option<Harmful> {
        let cookies = Newest::Mitigation(Mitigation::Cookies);
        let of_family = |(family, harm)| Harmful { newest: cookies, harm, family: Some(family) };
        let answering = self.ladder.has(Mitigation::Cookies);
        if answering && let Some(harmed) = self.judge_cookie_completion(now, elapsed) {
            return Some(of_family(harmed));
        }
        // Connections that the application does not accept are no fault of a mitigation.
        if self.overloaded() {
            return None;
        }
        let Sums { completed, returning, returned_cookies, .. } = self.window.last(elapsed);
        let canary = &mut self.ladder.canary;
        if answering && let Some(harmed) = canary.poll(now, returned_cookies, elsewhere) {
            return Some(of_family(harmed));
        }
        if self.ladder.fewer.is_open() {
            let asked = returned_cookies.iter().map(|returned| returned.asked).sum();
            let (mitigation, harm) =
                self.ladder.fewer.poll(now, completed, elapsed, Some(asked))?;
            // Whatever else was added has a trial of its own from now on.
            let delay = POLL.max(self.rtt() * 2);
            self.ladder.breaker.restart(now, delay);
            let alone = || Harmful { newest: Newest::Mitigation(mitigation), harm, family: None };
            return Some(self.ladder.cookie_completion.suspected().map_or_else(alone, of_family));
        }
        let (newest, harm) = self.ladder.breaker.poll(now, returning, elapsed, None)?;
        Some(Harmful { newest, harm, family: None })
    }

    /// Returns the harm if the host completes hardly any handshakes of clients with valid cookies.
    fn judge_cookie_completion(
        &mut self,
        now: Timestamp,
        elapsed: Duration,
    ) -> Option<(Family, Harm)> {
        // Only the tracepoint shows that.
        if elapsed.is_zero() || self.counters().established.is_none() {
            return None;
        }
        let cookie_completion = &mut self.ladder.cookie_completion;
        // A full accept queue takes no connection, whether XDP or the stack has sent its SYN-ACK.
        if self.pressure.is_full() {
            cookie_completion.start(now);
        }
        // A family whose clients get no cookies may return old ones.
        let mut returned = self.window.last(elapsed).returned_cookies;
        for whom in &self.withheld {
            if let Withheld::Family(family) = *whom {
                returned[family as usize] = ReturnedCookies::default();
            }
        }
        cookie_completion.poll(now, returned, self.wrong_checksums)
    }
}
