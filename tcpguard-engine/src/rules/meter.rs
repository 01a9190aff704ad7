//! How much a rule hits, and how many real clients are among it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Settings, Timestamp};

/// A hit rate is judged over this span, so that a single stray SYN does not keep a rule alive.
const RATE_SPAN: Duration = Duration::from_secs(4);

/// Hits and returning SYNs of one rule, over its life and over the last seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    hits: u64,
    returned: u64,
    /// The counters have counted since before this run, and what they say first is no news.
    unread: bool,
    /// Totals at the end of each recent poll in which anything happened, and one older.
    recent: VecDeque<(Timestamp, u64, u64)>,
}

impl Meter {
    /// Of a rule that was in the kernel before.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::default() }
    }

    /// Takes over the kernel's cumulative counters. Counters that went backwards start again.
    pub fn read(&mut self, now: Timestamp, hits: u64, returned: u64, settings: &Settings) {
        if std::mem::take(&mut self.unread) {
            (self.hits, self.returned) = (hits, returned);
            self.recent.push_back((now, hits, returned));
            return;
        }
        if hits < self.hits || returned < self.returned {
            self.recent.clear();
        } else if (hits, returned) == (self.hits, self.returned) {
            return;
        } else if self.recent.is_empty() {
            self.recent.push_back((now - settings.poll, self.hits, self.returned));
        }
        (self.hits, self.returned) = (hits, returned);
        self.recent.push_back((now, hits, returned));
        while self.recent.get(1).is_some_and(|(at, ..)| now.since(*at) >= settings.returned_window)
        {
            self.recent.pop_front();
        }
    }

    /// SYNs dropped, or in observe mode matched, since it was installed.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// SYNs let through because they came back.
    pub fn returned(&self) -> u64 {
        self.returned
    }

    /// Whether the rule hits enough to be needed.
    pub fn active(&self, now: Timestamp, settings: &Settings) -> bool {
        let (hits, _) = self.within(now, RATE_SPAN);
        hits as f64 >= settings.rule_hit_rate * RATE_SPAN.as_secs_f64()
    }

    /// Whether so many SYNs come back, in the rule's life or lately, that it hits real clients.
    pub fn hurts(&self, now: Timestamp, settings: &Settings) -> bool {
        let too_many = |(hits, returned): (u64, u64)| {
            returned >= settings.returned_min
                && returned as f64 > settings.returned_share * (hits + returned) as f64
        };
        too_many((self.hits, self.returned)) || too_many(self.within(now, settings.returned_window))
    }

    /// Hits and returned SYNs of the last `span`.
    fn within(&self, now: Timestamp, span: Duration) -> (u64, u64) {
        let before = |(at, ..): &&(Timestamp, u64, u64)| now.since(*at) >= span;
        let base = self.recent.iter().rev().find(before).or_else(|| self.recent.front());
        base.map_or((0, 0), |(_, hits, returned)| (self.hits - hits, self.returned - returned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_rule_that_hits_a_random_flood_hurts_nobody() {
        let (mut meter, settings) = (Meter::default(), Settings::default());
        for poll in 1..=1000 {
            meter.read(at(250 * poll), 25_000 * poll, poll / 100, &settings);
            assert!(!meter.hurts(at(250 * poll), &settings));
        }
    }

    #[test]
    fn a_rule_that_hits_clients_is_found_out_by_the_eighth_that_returns() {
        let (mut meter, settings) = (Meter::default(), Settings::default());
        meter.read(at(250), 1400, 7, &settings);
        assert!(!meter.hurts(at(250), &settings), "seven of 1,400 are let in and forgiven");
        meter.read(at(500), 1500, 8, &settings);
        assert!(meter.hurts(at(500), &settings));
    }

    #[test]
    fn a_long_flood_does_not_outweigh_the_clients_of_the_last_seconds() {
        let (mut meter, settings) = (Meter::default(), Settings::default());
        meter.read(at(250), 10_000_000, 0, &settings);
        for poll in 0..40 {
            meter.read(at(20_000 + 250 * poll), 10_000_000 + poll * 3, poll / 2, &settings);
        }
        assert!(meter.hurts(at(29_750), &settings));
        assert!(!meter.hurts(at(60_000), &settings), "and only those");
    }

    #[test]
    fn one_hit_in_four_seconds_does_not_keep_a_rule_alive() {
        let (mut meter, settings) = (Meter::default(), Settings::default());
        meter.read(at(250), 1, 0, &settings);
        assert!(!meter.active(at(250), &settings));
        meter.read(at(500), 4, 0, &settings);
        assert!(meter.active(at(500), &settings));
        assert!(!meter.active(at(5000), &settings));
    }

    #[test]
    fn what_a_rule_hit_before_is_no_reason_to_renew_it() {
        let (mut meter, settings) = (Meter::unread(), Settings::default());
        meter.read(at(250), 1_000_000, 3, &settings);
        assert!(!meter.active(at(250), &settings));
        assert_eq!((meter.hits(), meter.returned()), (1_000_000, 3));
        meter.read(at(500), 1_001_000, 3, &settings);
        assert!(meter.active(at(500), &settings));
    }

    #[test]
    fn counters_that_start_again_are_no_negative_hits() {
        let (mut meter, settings) = (Meter::default(), Settings::default());
        meter.read(at(250), 1000, 3, &settings);
        meter.read(at(500), 10, 0, &settings);
        meter.read(at(750), 20, 0, &settings);
        assert_eq!((meter.hits(), meter.within(at(750), RATE_SPAN)), (20, (10, 0)));
    }
}
