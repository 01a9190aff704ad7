//! The course of one run over time, counted from the flood's first SYN.

use std::time::Duration;

use serde::Serialize;
use tcpguard_kit::daemon::alerts::Alert;
use tcpguard_kit::measure::clock::between;
use tcpguard_kit::traffic::clients::Attempts;
use tcpguard_kit::traffic::flood::FloodReport;

/// Attempts are counted by the slot in which they began.
pub const SLOT: Duration = Duration::from_millis(250);
/// Time within which clients want their response.
const LIMIT: Duration = Duration::from_secs(1);
/// Attempts of which at most one fails at full success; of fewer attempts that cannot be said.
pub const FULL: usize = 1000;

/// New clients that began in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slot {
    /// Time at which it began, in seconds; negative before the flood.
    pub at_s: f64,
    pub attempts: usize,
    /// Attempts with a response within 1 s.
    pub answered: usize,
}

/// One run of one defence. Moments are in seconds, `None` if they did not come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Course {
    /// Number of the round, from 1.
    pub round: usize,
    /// SYNs made per second.
    pub offered: f64,
    /// % of the packets for the host's interface that found its ring full and that no defence ever saw.
    /// Counted from 2 s after the first SYN to the last one.
    pub ring_full: f64,
    pub slots: Vec<Slot>,
    /// Moment from which on new clients were answered as if there were no flood.
    pub full_success: Option<f64>,
    /// Moments by the agent's own alerts. Empty for another defence.
    pub alerted: Moments,
}

/// Moments of a run by the agent's own alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moments {
    /// First alert about the attack.
    pub detected: Option<f64>,
    /// The measure that stops this flood was in the kernel: the first rule, or the cookies.
    pub armed: Option<f64>,
    /// The last rule and the last mitigation were removed, counted from the flood's last SYN.
    pub released: Option<f64>,
}

impl Course {
    /// Returns a summary in one line.
    pub fn summary(&self) -> String {
        let moments = [
            ("detected", self.alerted.detected),
            ("armed", self.alerted.armed),
            ("full success", self.full_success),
            ("released", self.alerted.released),
        ];
        let came = |(what, at): (&str, Option<f64>)| Some(format!(", {what} after {:.2} s", at?));
        let moments: String = moments.into_iter().filter_map(came).collect();
        format!("{:.0} SYN/s{moments}", self.offered)
    }

    /// % of the clients that began in `from..to`, in seconds, that were answered within 1 s. `None` without
    /// clients.
    pub fn percent(&self, from: f64, to: f64) -> Option<f64> {
        let slots = self.slots.iter().filter(|slot| (from..to).contains(&slot.at_s));
        let add = |sum: Slot, slot: &Slot| Slot {
            attempts: sum.attempts + slot.attempts,
            answered: sum.answered + slot.answered,
            ..sum
        };
        slots.fold(Slot { at_s: from, attempts: 0, answered: 0 }, add).percent()
    }
}

impl Slot {
    /// % answered within 1 s. `None` without clients.
    pub fn percent(&self) -> Option<f64> {
        (self.attempts > 0).then(|| 100.0 * self.answered as f64 / self.attempts as f64)
    }

    /// The slots of `attempts` from `before` the first SYN until `after` it.
    pub fn all(
        attempts: &Attempts,
        first_syn: u64,
        before: Duration,
        after: Duration,
    ) -> Vec<Self> {
        let slots = |span: Duration| (span.as_nanos() / SLOT.as_nanos()) as i64;
        let slot = SLOT.as_nanos() as i64;
        let slots = -slots(before)..slots(after);
        let of = |number: i64| {
            let from = first_syn.saturating_add_signed(number * slot);
            let begun = attempts.begun(from, from + slot as u64);
            Self {
                at_s: number as f64 * SLOT.as_secs_f64(),
                attempts: begun.0.len(),
                answered: begun.within(LIMIT),
            }
        };
        slots.map(of).collect()
    }
}

/// The earliest attempt with a response within 1 s from which on at least 99.9 % of all that began before the
/// flood's last SYN were answered so, [`FULL`] or more. In seconds from the flood's first SYN.
pub fn full_success(attempts: &Attempts, flood: &FloodReport) -> Option<f64> {
    let mut during = attempts.begun(flood.started, flood.ended).0;
    during.sort_by_key(|attempt| attempt.at);
    let (mut failed, mut since) = (0, None);
    for (begun, attempt) in during.iter().rev().enumerate() {
        let answered = attempt.took.is_some_and(|took| took <= LIMIT);
        failed += usize::from(!answered);
        let count = begun + 1;
        if answered && count >= FULL && failed * FULL <= count {
            since = Some(attempt.at);
        }
    }
    since.map(|at| between(flood.started, at).as_secs_f64())
}

impl Moments {
    /// Reads the moments from the alerts up to the removal of the last rule and mitigation, or from the
    /// alerts so far if the run did not wait for the removal. `arms` selects the alerts which say that the
    /// measure that stops the flood is in the kernel.
    pub fn of(
        alerts: &[Alert],
        flood: &FloodReport,
        arms: fn(&Alert) -> bool,
        is_released: bool,
    ) -> Self {
        let detects = |alert: &Alert| alert.event == "attack_started";
        // A mitigation may stop when its attack is over.
        let releases =
            |alert: &Alert| ["attack_ended", "mitigation_stopped"].contains(&&*alert.event);
        Self {
            detected: since(flood.started, alerts, detects).next(),
            armed: since(flood.started, alerts, arms).next(),
            released: since(flood.ended, alerts, releases).last().filter(|_| is_released),
        }
    }
}

/// Returns the times of the alerts that are `wanted`, in seconds since `from`, the earliest first.
fn since(
    from: u64,
    alerts: &[Alert],
    wanted: impl Fn(&Alert) -> bool,
) -> impl Iterator<Item = f64> {
    let wanted = move |alert: &&Alert| alert.at >= from && wanted(alert);
    alerts.iter().filter(wanted).map(move |alert| between(from, alert.at).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use tcpguard_kit::traffic::clients::Attempt;

    use super::*;

    const MS: u64 = 1_000_000;
    const FLOOD: FloodReport = FloodReport { sent: 1000, started: 10_000 * MS, ended: 16_000 * MS };

    /// Returns one attempt every 2 ms from 1 s before the flood until 1 s after it; those fail of which `fails`
    /// says so by their ms from the first SYN.
    fn attempts(fails: impl Fn(i64) -> bool) -> Attempts {
        let attempt = |ms: i64| {
            let took = (!fails(ms)).then_some(Duration::from_millis(3));
            Attempt { at: (10_000 + ms) as u64 * MS, connected: took, took }
        };
        Attempts((-1000..7000).step_by(2).map(attempt).collect())
    }

    /// Returns alerts from their times in ms, their events, and their mitigations (`""` for none).
    fn alerts(alerted: &[(u64, &str, &str)]) -> Vec<Alert> {
        let alert = |&(ms, event, mitigation): &(u64, &str, &str)| Alert {
            at: ms * MS,
            event: event.to_owned(),
            incident: None,
            mitigation: (!mitigation.is_empty()).then(|| mitigation.to_owned()),
        };
        alerted.iter().map(alert).collect()
    }

    #[test]
    fn slots_hold_attempts_begun_in_them_and_begin_before_the_flood() {
        let second = Duration::from_secs(1);
        let slots =
            Slot::all(&attempts(|ms| (0..125).contains(&ms)), FLOOD.started, second, second);
        let starts: Vec<_> = slots.iter().map(|slot| slot.at_s).collect();
        assert_eq!(starts, [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]);
        assert!(slots.iter().all(|slot| slot.attempts == 125));
        let percent: Vec<_> = slots[3..6].iter().filter_map(Slot::percent).collect();
        assert_eq!(percent, [100.0, 100.0 * 62.0 / 125.0, 100.0]);
        let empty = Slot { at_s: 0.0, attempts: 0, answered: 0 };
        assert_eq!(empty.percent(), None);
    }

    #[test]
    fn full_success_begins_behind_the_last_of_the_failures() {
        let early = attempts(|ms| (100..1500).contains(&ms) && ms % 4 == 0);
        // All but two: so many may fail among the 2,255 from there on.
        assert_eq!(full_success(&early, &FLOOD), Some(1.490));
        assert_eq!(full_success(&attempts(|_| false), &FLOOD), Some(0.0));
        // Losses before and after the flood have no influence on the result.
        assert_eq!(full_success(&attempts(|ms| !(0..6000).contains(&ms)), &FLOOD), Some(0.0));
    }

    #[test]
    fn full_success_is_claimed_of_a_thousand_attempts_at_least() {
        assert_eq!(full_success(&attempts(|ms| ms < 4000), &FLOOD), Some(4.0));
        assert_eq!(full_success(&attempts(|ms| ms < 4100), &FLOOD), None);
        assert_eq!(full_success(&attempts(|ms| ms % 100 == 0), &FLOOD), None);
        assert_eq!(full_success(&Attempts::default(), &FLOOD), None);
    }

    #[test]
    fn an_answer_after_more_than_a_second_is_no_success() {
        let mut late = attempts(|_| false);
        for attempt in late.0.iter_mut().filter(|attempt| attempt.at < 12_000 * MS) {
            attempt.took = Some(Duration::from_millis(1016));
        }
        let since = full_success(&late, &FLOOD).unwrap();
        assert!((1.99..=2.0).contains(&since), "{since}");
    }

    #[test]
    fn moments_are_the_first_alerts_and_the_last_withdrawal() {
        let alerted = alerts(&[
            (9_000, "rule_installed", ""),
            (10_300, "mitigation_started", "out_of_state"),
            (10_600, "attack_started", ""),
            (10_850, "mitigation_started", "cookies"),
            (11_100, "rule_installed", ""),
            (14_000, "mitigation_stopped", "cookies"),
            (46_000, "attack_ended", ""),
            (46_001, "mitigation_stopped", "out_of_state"),
        ]);
        let cookies: fn(&Alert) -> bool = |alert| {
            alert.event == "mitigation_started" && alert.mitigation.as_deref() == Some("cookies")
        };
        let rule: fn(&Alert) -> bool = |alert| alert.event == "rule_installed";
        let moments = |arms, is_released| Moments::of(&alerted, &FLOOD, arms, is_released);
        let expected = Moments { detected: Some(0.6), armed: Some(0.85), released: Some(30.001) };
        assert_eq!(moments(cookies, true), expected);
        assert_eq!(moments(cookies, false), Moments { released: None, ..expected });
        assert_eq!(moments(rule, true), Moments { armed: Some(1.1), ..expected });
        assert_eq!(Moments::of(&[], &FLOOD, cookies, true), Moments::default());
    }
}
