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
