//! Growth rates of totals for which the agent reports no rate.

use std::collections::BTreeMap;
use std::time::Duration;

/// A total that stands still for so long does not grow: the agent counts sources anew every five seconds at the
/// latest.
const STILL: Duration = Duration::from_secs(6);

/// Totals by name, with the growth rate of each.
#[derive(Clone, Debug)]
pub struct Growth<K> {
    known: BTreeMap<K, Total>,
}

#[derive(Clone, Copy, Debug)]
struct Total {
    value: u64,
    /// Time since which it has this value; at most [`STILL`] ago.
    since: Duration,
    rate: Option<f64>,
}

impl<K> Default for Growth<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<K: Ord> Growth<K> {
    /// Takes all totals as they are at `now`. Those not among them are forgotten.
    pub fn note(&mut self, now: Duration, totals: impl IntoIterator<Item = (K, u64)>) {
        let mut known = std::mem::take(&mut self.known);
        for (name, value) in totals {
            let total = match known.remove(&name) {
                Some(before) => before.grown(value, now),
                None => Total { value, since: now, rate: None },
            };
            self.known.insert(name, total);
        }
    }

    /// Returns the growth of `name` per second; `None` where that is not known yet.
    pub fn rate(&self, name: &K) -> Option<f64> {
        self.known.get(name)?.rate
    }
}

impl Total {
    fn grown(self, value: u64, now: Duration) -> Self {
        let span = now.saturating_sub(self.since);
        match value.checked_sub(self.value) {
            // It is counted anew.
            None => Self { value, since: now, rate: None },
            Some(0) if span < STILL => self,
            Some(0) => Self { since: now.saturating_sub(STILL), rate: Some(0.0), ..self },
            Some(_) if span.is_zero() => Self { value, ..self },
            Some(more) => Self { value, since: now, rate: Some(more as f64 / span.as_secs_f64()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate after each of these totals.
    fn rates(totals: &[(u64, u64)]) -> Vec<Option<f64>> {
        let mut growth = Growth::default();
        let each = totals.iter().map(|(second, total)| {
            growth.note(Duration::from_secs(*second), [("it", *total)]);
            growth.rate(&"it")
        });
        each.collect()
    }

    #[test]
    fn two_looks_make_a_rate() {
        assert_eq!(rates(&[(0, 100), (1, 150), (3, 150 + 60)]), [None, Some(50.0), Some(30.0)]);
    }

    #[test]
    fn totals_that_change_every_five_seconds_have_one_rate_in_between() {
        let looks = [(0, 0), (5, 50), (6, 50), (9, 50), (10, 100)];
        let found = rates(&looks);
        assert_eq!(found[1..], [Some(10.0); 4]);
    }

    #[test]
    fn what_stands_still_does_not_grow_and_is_not_averaged_over_its_rest() {
        let looks = [(0, 0), (1, 10), (6, 10), (7, 10), (100, 10), (101, 17)];
        let found = rates(&looks);
        assert_eq!(found[2..5], [Some(10.0), Some(0.0), Some(0.0)]);
        assert_eq!(found[5], Some(1.0), "7 in the 7 s since it was last seen to stand still");
    }

    #[test]
    fn a_total_that_falls_is_counted_anew() {
        assert_eq!(rates(&[(0, 100), (1, 200), (2, 5), (3, 6)])[2..], [None, Some(1.0)]);
    }

    #[test]
    fn a_counter_that_is_no_longer_noted_is_forgotten() {
        let mut growth = Growth::default();
        growth.note(Duration::ZERO, [(1, 0), (2, 0)]);
        growth.note(Duration::from_secs(1), [(1, 5)]);
        growth.note(Duration::from_secs(2), [(1, 10), (2, 1000)]);
        assert_eq!((growth.rate(&1), growth.rate(&2)), (Some(5.0), None));
    }
}
