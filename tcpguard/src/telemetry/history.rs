//! The alerts that are remembered, each under a number.

use std::collections::VecDeque;

use jiff::SignedDuration;

use crate::documents::AlertEntry;

pub const REMEMBERED: usize = 1000;
/// The time over which the status counts alerts.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The latest alerts, of earlier runs of the agent too. Beyond the latest half, severe ones are kept for longer: alerts
/// about scans do not push out those about an attack.
#[derive(Clone, Debug)]
pub struct History {
    alerts: VecDeque<AlertEntry>,
    first: u64,
    last: u64,
}

impl Default for History {
    fn default() -> Self {
        Self::after(Vec::new())
    }
}

impl History {
    /// A history that goes on from the alerts of earlier runs, in any order.
    pub fn after(mut earlier: Vec<AlertEntry>) -> Self {
        earlier.sort_by_key(|alert| alert.seq);
        earlier.dedup_by_key(|alert| alert.seq);
        let last = earlier.last().map_or(0, |alert| alert.seq);
        let mut new = Self { alerts: earlier.into(), first: last.saturating_add(1), last };
        new.forget();
        new
    }

    /// Adds one under the next number.
    pub fn add(&mut self, alert: AlertEntry) {
        self.last = self.last.saturating_add(1);
        self.alerts.push_back(AlertEntry { seq: self.last, ..alert });
        self.forget();
    }

    /// Drops those that are too many: of the older half the least severe, the oldest first.
    fn forget(&mut self) {
        while self.alerts.len() > REMEMBERED {
            let older = self.alerts.iter().take(self.alerts.len() - REMEMBERED / 2).enumerate();
            let least = older.min_by_key(|(_, alert)| alert.severity).map(|(place, _)| place);
            self.alerts.remove(least.unwrap_or_default());
        }
    }

    /// Number of the first alert of this run, even before that alert is raised.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Number of the latest alert; 0 before the first of all.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The remembered alerts after alert `seq`, oldest first.
    pub fn since(&self, seq: u64) -> Vec<AlertEntry> {
        let newer = self.alerts.partition_point(|alert| alert.seq <= seq);
        self.alerts.range(newer..).cloned().collect()
    }

    /// Those of the 24 hours before `wall`, oldest first.
    pub fn of_a_day(&self, wall: jiff::Timestamp) -> Vec<AlertEntry> {
        let young = |alert: &&AlertEntry| wall.duration_since(alert.at.0) <= DAY;
        self.alerts.iter().filter(young).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::AlertEvent;
    use tcpguard_host::finding::Severity;
    use tcpguard_host::time::Time;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn alert(seq: u64, second: i64) -> AlertEntry {
        AlertEntry {
            seq,
            at: Time(at(second)),
            severity: Severity::Notice,
            event: AlertEvent::Unknown { event: "mode_changed".to_owned() },
            message: "x".to_owned(),
            incident: None,
        }
    }

    fn numbers(alerts: &[AlertEntry]) -> Vec<u64> {
        alerts.iter().map(|alert| alert.seq).collect()
    }

    #[test]
    fn the_latest_thousand_are_remembered_and_those_of_a_day_counted() {
        let mut history = History::default();
        for second in 0..1500 {
            history.add(alert(0, second));
        }
        assert_eq!((history.since(0).len(), history.since(0)[0].seq), (REMEMBERED, 501));
        assert_eq!(numbers(&history.since(1498)), [1499, 1500]);
        assert_eq!((history.first(), history.last()), (1, 1500));
        assert_eq!(history.since(u64::MAX), []);
        let day = 86_400;
        assert_eq!(history.of_a_day(at(1500)).len(), REMEMBERED);
        assert_eq!(history.of_a_day(at(day + 1400)).len(), 100);
        assert_eq!(history.of_a_day(at(2 * day)), []);
    }

    #[test]
    fn the_alerts_about_an_attack_outlive_those_about_scans() {
        let mut history = History::default();
        let about = |severity| AlertEntry { severity, ..alert(0, 0) };
        history.add(about(Severity::Warning));
        history.add(about(Severity::Critical));
        (0..5000).for_each(|_| history.add(about(Severity::Notice)));
        assert_eq!(numbers(&history.since(0))[..3], [1, 2, 5002 - 997]);
        (0..5000).for_each(|_| history.add(about(Severity::Critical)));
        let numbers = numbers(&history.since(0));
        assert_eq!((numbers[0], numbers.len()), (9003, REMEMBERED), "nor the new ones");
        (0..5000).for_each(|_| history.add(about(Severity::Notice)));
        let left = history.since(0);
        assert_eq!(left.iter().filter(|one| one.severity == Severity::Critical).count(), 500);
        let again = History::after(left.clone()).since(0);
        assert_eq!(again, left, "the same over a restart");
    }

    #[test]
    fn numbers_go_on_from_whatever_was_on_record() {
        let earlier = [7, 5, 7, 6].map(|seq| alert(seq, seq as i64)).to_vec();
        let mut history = History::after(earlier);
        assert_eq!(numbers(&history.since(0)), [5, 6, 7]);
        history.add(alert(0, 9));
        assert_eq!(numbers(&history.since(6)), [7, 8]);
        assert_eq!(history.first(), 8);
        let many: Vec<_> = (1..=2000).map(|seq| alert(seq, 0)).collect();
        assert_eq!(History::after(many).since(0)[0].seq, 1001);
        assert_eq!(History::after(vec![alert(u64::MAX, 0)]).last(), u64::MAX, "and no panic");
    }
}
