//! Test whether clients still get in after a mitigation was added.
//!
//! Any treatment of SYNs will do harm in some set-up. So after each addition the rate of completed
//! handshakes is compared with that of the attack so far. Where it falls to less than half, the latest
//! addition is withdrawn.
//!
//! An attacker could complete handshakes and then stop, in order to have the mitigation withdrawn. So only
//! handshakes of validated clients count: clients that came before the attack, each counted once in ten
//! seconds. Their number is capped at that before the attack. This does not show harm to new clients. Harm
//! by a signature rule to new clients shows in the rule's own meter (`rules/meter.rs`). With cookies all
//! handshakes count. There the clients that are missing must have come: replies to clients are counted
//! ([`super::canary`]), so that clients that pause are no harm.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::{Timestamp, rate};

/// Number of completions that must be expected before their lack means anything.
const EXPECTED: f64 = 20.0;
/// Number of standard deviations by which they must be missing: by chance once in 3,000.
const SIGMAS: f64 = 3.4;
/// Least time that a verdict takes: completions come in bursts.
const LEAST: Duration = Duration::from_secs(1);
/// Time without a verdict after which the test ends: too few clients connect for one.
const PATIENCE: Duration = Duration::from_secs(30);

/// A test of the latest addition.
#[derive(Clone, Debug)]
pub(crate) struct Breaker<T> {
    trial: Option<Trial<T>>,
}

#[derive(Clone, Debug)]
struct Trial<T> {
    what: T,
    /// Time before which the addition cannot show in completions.
    from: Timestamp,
    before: Before,
    /// Completions since then, and the time in which they were counted.
    completed: u64,
    span: Duration,
    /// Replies of the addition to clients since then.
    asked: u64,
}

/// Reference with which a trial is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Before {
    /// Completions in the attack before it. They are capped at the number without an attack: otherwise an
    /// attacker could complete handshakes during an attack and then stop, in order to have the mitigation
    /// withdrawn.
    pub completed: f64,
    /// Time in which they were counted.
    pub span: Duration,
    /// Factor by which the number of completions varies more than chance would (variance over mean).
    pub dispersion: f64,
}

impl Before {
    fn rate(&self) -> f64 {
        if self.span.is_zero() { 0.0 } else { self.completed / self.span.as_secs_f64() }
    }

    /// Returns whether `completed` in `span` are too few for chance, at the same rate. The completions of both
    /// spans together are expected in proportion to time. The variance is that of the binomial law,
    /// multiplied by the dispersion of the clients.
    fn exceeds(&self, completed: u64, span: Duration) -> bool {
        let all = self.completed + completed as f64;
        let share = span.as_secs_f64() / (span + self.span).as_secs_f64();
        let deviation = (all * share * (1.0 - share) * self.dispersion.max(1.0)).sqrt();
        (completed as f64) < all * share - SIGMAS * deviation
    }
}

/// Harm for which a mitigation or a rule is withdrawn.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Harm {
    /// Fewer than half as many handshakes of validated clients complete.
    Fewer {
        /// Handshakes per second before it.
        before: f64,
        /// Handshakes per second since.
        after: f64,
    },
    /// No client returns a cookie.
    None {
        /// Cookies that were sent to clients.
        asked: u64,
        /// Seconds without one that was returned.
        for_s: f64,
    },
    /// The host completes hardly any handshakes of clients with valid cookies.
    Unfinished {
        /// Valid cookies that clients returned; of one network up to four a second count.
        valid: u64,
        /// Handshakes that it completed of these.
        completed: u64,
        /// True if it would be the same at the next try, unless the host's set-up has changed by then.
        lasting: bool,
    },
}

impl Harm {
    /// Returns whether it would be the same at the next try, unless the host's set-up has changed by then.
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Unfinished { lasting: true, .. })
    }

    /// Returns the same harm, to be tried again after a while.
    pub const fn for_a_while(self) -> Self {
        match self {
            Self::Unfinished { completed, valid, .. } => {
                Self::Unfinished { completed, valid, lasting: false }
            }
            other => other,
        }
    }
}

impl<T> Trial<T> {
    /// Counts anew from `from` on.
    const fn restart(&mut self, from: Timestamp) {
        (self.from, self.completed, self.asked) = (from, 0, 0);
        self.span = Duration::ZERO;
    }
}

impl<T> Default for Breaker<T> {
    fn default() -> Self {
        Self { trial: None }
    }
}

impl<T: Clone + PartialEq> Breaker<T> {
    /// Tests the latest addition instead of any earlier one. Clients that it serves complete at the
    /// earliest after `delay`, and not before the earliest time of the test that it replaces.
    pub fn monitor(&mut self, now: Timestamp, what: T, delay: Duration, before: Before) {
        let running = self.trial.as_ref().map_or(now, |trial| trial.from);
        let from = running.max(now + delay);
        self.trial =
            Some(Trial { what, from, before, completed: 0, span: Duration::ZERO, asked: 0 });
    }

    /// Returns whether a test is still open.
    pub const fn is_open(&self) -> bool {
        self.trial.is_some()
    }

    /// Counts from `from` on: until then something added since keeps clients waiting.
    pub fn wait(&mut self, from: Timestamp) {
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.from < from) {
            trial.restart(from);
        }
    }

    /// Starts anew: the observations so far had another cause.
    pub fn restart(&mut self, now: Timestamp, delay: Duration) {
        if let Some(trial) = &mut self.trial {
            trial.restart(now + delay);
        }
    }

    /// Ends the test of `what`, which has been removed.
    pub fn forget(&mut self, what: &T) {
        self.trial.take_if(|trial| trial.what == *what);
    }

    /// Judges a poll with `completed` handshakes in `elapsed`. Returns the addition to withdraw, and the
    /// harm that it did. `asked` is the number of the addition's own replies to clients, where it replies: at least
    /// half of the missing clients must be among those that got one and did not complete.
    pub fn poll(
        &mut self,
        now: Timestamp,
        completed: u64,
        elapsed: Duration,
        asked: Option<u64>,
    ) -> Option<(T, Harm)> {
        let trial = self.trial.as_mut()?;
        if now <= trial.from {
            return None;
        }
        trial.completed += completed;
        trial.span += elapsed;
        trial.asked += asked.unwrap_or(0);
        let seconds = trial.span.as_secs_f64();
        let expected = trial.before.rate() * seconds;
        if expected < EXPECTED || trial.span < LEAST {
            self.trial.take_if(|trial| trial.span >= PATIENCE);
            return None;
        }
        let missing = expected - trial.completed as f64;
        let fewer = missing > expected / 2.0 && trial.before.exceeds(trial.completed, trial.span);
        let unserved = trial.asked.saturating_sub(trial.completed) as f64;
        if fewer && asked.is_some() && unserved < missing / 2.0 {
            // They have not come, or not retransmitted their SYNs yet.
            self.trial.take_if(|trial| trial.span >= PATIENCE);
            return None;
        }
        // Judged once, one way or the other.
        let trial = self.trial.take()?;
        let after = rate(trial.completed as f64 / seconds);
        fewer.then(|| (trial.what, Harm::Fewer { before: rate(trial.before.rate()), after }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    /// Returns a reference with `per_second` completions a second, counted for 5 s.
    fn rate(per_second: f64) -> Before {
        let span = Duration::from_secs(5);
        Before { completed: 5.0 * per_second, span, dispersion: 1.0 }
    }

    /// Returns the number of polls after which something is withdrawn, and the harm, with `before` completions a
    /// second before it, and completions a poll and replies to clients a poll after it.
    fn withdrawn(
        before: f64,
        after: impl Fn(u32) -> u64,
        asked: Option<u64>,
    ) -> Option<(u32, Harm)> {
        let mut breaker = Breaker::default();
        let start = Timestamp::from_millis(10_000);
        breaker.monitor(start, "it", POLL, rate(before));
        (1..400).find_map(|poll| {
            let now = start + POLL * poll;
            let harm = breaker.poll(now, after(poll), POLL, asked)?;
            Some((poll, harm.1))
        })
    }

    #[test]
    fn clients_that_go_on_are_no_reason_whatever_chance_does() {
        for asked in [None, Some(10)] {
            assert_eq!(withdrawn(40.0, |_| 10, asked), None);
            assert_eq!(withdrawn(40.0, |poll| [3, 14, 8, 7][poll as usize % 4], asked), None);
            assert_eq!(withdrawn(0.0, |_| 10, asked), None, "it was what let them in");
        }
    }

    #[test]
    fn half_as_many_completions_are() {
        for asked in [None, Some(10)] {
            let (poll, harm) = withdrawn(40.0, |_| 4, asked).expect("withdrawn");
            assert_eq!(poll, 5, "after a second");
            assert_eq!(harm, Harm::Fewer { before: 40.0, after: 16.0 });
        }
    }

    #[test]
    fn clients_that_did_not_come_are_not_missing_where_replies_to_them_are_counted() {
        assert_eq!(withdrawn(40.0, |_| 0, Some(0)), None);
        assert_eq!(withdrawn(40.0, |_| 4, Some(4)), None, "few do, and all of them complete");
    }

    #[test]
    fn what_was_seen_for_a_moment_only_is_no_measure() {
        let brief = Before { completed: 25.0, span: Duration::from_millis(500), dispersion: 3.0 };
        assert!(!brief.exceeds(20, Duration::from_secs(1)), "50 a second may have been a burst");
        assert!(brief.exceeds(0, Duration::from_secs(4)));
    }

    #[test]
    fn what_is_added_meanwhile_is_not_judged_before_the_first_could_serve() {
        let mut breaker = Breaker::default();
        let start = Timestamp::from_millis(10_000);
        breaker.monitor(start, "slow", Duration::from_secs(4), rate(100.0));
        breaker.monitor(start + POLL, "quick", POLL, rate(100.0));
        let judged =
            (2..16).find_map(|poll| breaker.poll(start + POLL * poll, 0, POLL, None).map(|_| poll));
        assert_eq!(judged, None, "for four seconds nobody can tell");
    }

    #[test]
    fn what_is_no_longer_there_is_not_withdrawn() {
        let mut breaker = Breaker::default();
        let start = Timestamp::from_millis(10_000);
        breaker.monitor(start, 1, POLL, rate(1000.0));
        breaker.forget(&1);
        assert_eq!(breaker.poll(start + POLL * 40, 0, POLL, None), None);
    }
}
