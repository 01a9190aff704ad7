//! Test whether handshakes fail so evenly, and for so long, that the listener's clients are the cause.
//!
//! With Happy Eyeballs, swarms and monitoring, a quarter of the handshakes may fail for ever. An incident for these
//! would never end. An attacker with an equally even flood may get the same share accepted, but no slot in a queue:
//! where the queue fills, cookies take over, and there failures are judged anew.

use std::time::Duration;

use crate::listener::window::{Sums, Tick};

/// The share is compared from minute to minute.
const MINUTE: Duration = Duration::from_secs(60);
/// Number of minutes that must be alike.
const MINUTES: u32 = 10;
/// Largest ratio of the shares of two minutes: 2:1, as everywhere between the threshold that raises an alarm and the
/// one that holds it. Chance alone makes the difference no larger (see [`ENOUGH`]). Of a flood in the same incident
/// as many SYNs may pass for those of such clients as these lose.
const EVEN: f64 = 2.0;
/// Handshakes in a minute from which a share of them means anything: of one in four, chance makes the most of ten
/// minutes twice the least once in fourteen times.
const ENOUGH: u64 = 120;

/// The minutes so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steady {
    /// The one that is not over.
    minute: Sums,
    minutes: u32,
    least: f64,
    most: f64,
}

impl Steady {
    /// Adds a tick in which clients failed, as far as is known.
    pub fn add(&mut self, tick: &Tick) {
        let minute = &mut self.minute;
        minute.span += tick.span;
        minute.syns += tick.syns;
        minute.retransmitted += tick.retransmitted;
        minute.attempts += tick.attempts;
        minute.completed += tick.completed();
        minute.variance += tick.variance;
        if minute.span < MINUTE {
            return;
        }
        let minute = std::mem::take(minute);
        let share = minute.first_failures() as f64 / minute.attempts.max(1) as f64;
        let (least, most) = match self.minutes {
            0 => (share, share),
            _ => (self.least.min(share), self.most.max(share)),
        };
        if minute.attempts < ENOUGH {
            *self = Self::default();
        } else if most > EVEN * least {
            (self.minutes, self.least, self.most) = (1, share, share);
        } else {
            (self.minutes, self.least, self.most) = (self.minutes + 1, least, most);
        }
    }

    /// The most that failed in one of the minutes, as a share, once these are enough.
    pub fn share(&self) -> Option<f64> {
        (self.minutes >= MINUTES).then_some(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share after minutes of 200 handshakes of which so many fail.
    fn steady(minutes: impl IntoIterator<Item = u64>) -> Option<f64> {
        let mut steady = Steady::default();
        for failing in minutes {
            let (span, attempts) = (MINUTE / 2, 100);
            let completed = |failing: u64| attempts - failing;
            for half in [failing / 2, failing - failing / 2] {
                let established = completed(half);
                steady.add(&Tick { span, syns: 100, attempts, established, ..Tick::default() });
            }
        }
        steady.share()
    }

    #[test]
    fn even_failures_over_ten_minutes_become_the_baseline() {
        assert_eq!(steady([60; 9]), None);
        assert_eq!(steady([60; 10]), Some(0.3));
        assert_eq!(steady((0..10).map(|minute| 50 + minute)), Some(0.295));
    }

    #[test]
    fn what_grows_or_comes_and_goes_is_not() {
        assert_eq!(steady((0..24).map(|minute| 10 * 3_u64.pow(minute / 8))), None);
        assert_eq!(steady((0..30).map(|minute| if minute % 5 == 0 { 20 } else { 60 })), None);
        assert_eq!(steady([90; 5].into_iter().chain([40; 9])), None);
    }

    #[test]
    fn a_few_handshakes_a_minute_say_nothing() {
        let mut steady = Steady::default();
        for _ in 0..20 {
            steady.add(&Tick { span: MINUTE, syns: 119, attempts: 119, ..Tick::default() });
        }
        assert_eq!(steady.share(), None);
    }
}
