//! Hits of a rule, and the number of real clients among them.
//!
//! A retransmitted SYN passes a signature rule, but it proves nothing: an attacker retransmits SYNs at
//! will, and a flood with few sequence numbers does so by chance. A client shows by the handshake that it
//! completes afterwards.

use std::collections::VecDeque;
use std::time::Duration;

use crate::input::{POLL, RuleCounters, Timestamp, constants};

constants! {
    /// Hits per second that keep a rule alive.
    pub(crate) const RULE_HIT_RATE: f64 = 1.0 PerSecond in 0.01..=10_000.0,
        "Weighed against the single SYNs that the Internet sends to every address, and against \
         floods of a few SYNs a second that rules still stop.";

    /// Signature rules: handshakes that new clients complete after a retransmission, as a share of
    /// the SYNs that match, from which a rule is withdrawn if cookies can answer instead.
    pub const COMPLETED_SHARE: f64 = 0.005 Share in 0.0001..=0.2,
        "Weighed against 2 clients a second under a rule that drops 5,000 SYN/s (0.04 %), which \
         connect with their second SYN, and against 100 (2 %), for which it is withdrawn.";

    /// Completed handshakes below which that share says nothing.
    pub(crate) const COMPLETED_MIN: u64 = 8 Count in 1..=10_000,
        "Weighed against an attacker with a few real addresses, each of which counts once, and \
         against the number of clients that wait a second for their second SYN.";

    /// The shorter of the two spans over which they are judged. The other is the rule's whole life.
    pub(crate) const COMPLETED_WINDOW: Duration = 10 Seconds in 3..=30,
        "Weighed against rules that were right for an hour before they began to hit clients: \
         their whole life would hide it.";
}

/// A hit rate is judged over this span, so that a single SYN does not keep a rule alive.
const RATE_SPAN: Duration = Duration::from_secs(4);
/// Completed handshakes of this span let further retransmissions pass. It is short, so that few pass once
/// handshakes no longer complete.
const COMPLETING_SPAN: Duration = Duration::from_secs(1);
/// Handshakes of new clients as a share of the matching SYNs, from which nearly all of these SYNs are
/// those of clients. Of a client one SYN is dropped, one passes, and its handshake completes: that is
/// half. A flood that is worth a rule has many SYNs for each handshake that helpers may complete.
pub(crate) const MOSTLY: f64 = 0.25;

/// The kernel's counts of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    hits: u64,
    accepted_retransmits: u64,
    completed: u64,
}

impl Counts {
    /// Since `before`; `None` when a counter went backwards.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            hits: self.hits.checked_sub(before.hits)?,
            accepted_retransmits: self
                .accepted_retransmits
                .checked_sub(before.accepted_retransmits)?,
            completed: self.completed.checked_sub(before.completed)?,
        })
    }

    /// Returns whether new clients complete handshakes in number, and more than this share of the matching SYNs.
    fn complete(self, share: f64) -> bool {
        self.completed >= COMPLETED_MIN
            && self.completed as f64 > share * (self.hits + self.accepted_retransmits) as f64
    }
}

/// Hits, retransmitted SYNs and completed handshakes of one rule, over its life and over the last seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    all: Counts,
    /// The counters have counted since before this run, so their first values are not recent.
    unread: bool,
    /// Totals at the end of each recent poll in which anything happened, and one older.
    recent: VecDeque<(Timestamp, Counts)>,
}

impl Meter {
    /// Of a rule that was in the kernel before.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::default() }
    }

    /// Takes over the kernel's cumulative counters. Counters that went backwards start again.
    pub fn read(&mut self, now: Timestamp, counters: &RuleCounters) {
        let RuleCounters { hits, accepted_retransmits, completed, .. } = *counters;
        let all = Counts { hits, accepted_retransmits, completed };
        let before = std::mem::replace(&mut self.all, all);
        if std::mem::take(&mut self.unread) {
            self.recent.push_back((now, all));
            return;
        }
        if all.since(before).is_none() {
            self.recent.clear();
        } else if all == before {
            return;
        } else if self.recent.is_empty() {
            self.recent.push_back((now - POLL, before));
        }
        self.recent.push_back((now, all));
        while self.recent.get(1).is_some_and(|(at, _)| now.since(*at) >= COMPLETED_WINDOW) {
            self.recent.pop_front();
        }
    }

    /// SYNs dropped, or in observe mode matched, since it was installed.
    pub fn hits(&self) -> u64 {
        self.all.hits
    }

    /// SYNs let through because they were retransmitted.
    pub fn accepted_retransmits(&self) -> u64 {
        self.all.accepted_retransmits
    }

    /// Handshakes that new clients completed after that.
    pub fn completed(&self) -> u64 {
        self.all.completed
    }

    /// Returns whether the rule hits enough to be needed.
    pub fn active(&self, now: Timestamp) -> bool {
        let hits = self.within(now, RATE_SPAN).hits;
        hits as f64 >= RULE_HIT_RATE * RATE_SPAN.as_secs_f64()
    }

    /// Returns whether clients in such number complete handshakes, in the rule's life or lately, that it does more
    /// harm than good where the flood can be answered.
    pub fn is_harmful(&self, now: Timestamp) -> bool {
        let share = COMPLETED_SHARE;
        self.all.complete(share) || self.within(now, COMPLETED_WINDOW).complete(share)
    }

    /// Returns whether nearly all of its hits are those of clients.
    pub fn hits_mostly_clients(&self, now: Timestamp) -> bool {
        self.within(now, COMPLETED_WINDOW).complete(MOSTLY)
    }

    /// Returns whether any clients have the signature that the rule drops, beyond the number that an attacker may
    /// feign with a few addresses.
    pub fn hits_clients(&self, now: Timestamp) -> bool {
        self.within(now, COMPLETED_WINDOW).completed >= COMPLETED_MIN
    }

    /// Retransmitted SYNs a second that were let through lately.
    pub fn retransmitting(&self, now: Timestamp) -> f64 {
        self.within(now, RATE_SPAN).accepted_retransmits as f64 / RATE_SPAN.as_secs_f64()
    }

    /// Handshakes a second that new clients completed after that.
    pub fn completing(&self, now: Timestamp) -> f64 {
        self.within(now, COMPLETING_SPAN).completed as f64 / COMPLETING_SPAN.as_secs_f64()
    }

    /// Counts of the last `span`.
    fn within(&self, now: Timestamp, span: Duration) -> Counts {
        let before = |(at, _): &&(Timestamp, Counts)| now.since(*at) >= span;
        let base = self.recent.iter().rev().find(before).or_else(|| self.recent.front());
        base.and_then(|(_, base)| self.all.since(*base)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::RuleId;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// Takes over so many hits, retransmissions and completed handshakes.
    fn read(meter: &mut Meter, ms: u64, counts: [u64; 3]) {
        let [hits, accepted_retransmits, completed] = counts;
        let counters = RuleCounters { id: RuleId(0), hits, accepted_retransmits, completed };
        meter.read(at(ms), &counters);
    }

    #[test]
    fn a_rule_that_hits_a_spoofed_flood_harms_no_client() {
        let mut meter = Meter::default();
        for poll in 1..=1000 {
            read(&mut meter, 250 * poll, [25_000 * poll, poll / 100, poll / 100]);
            assert!(!meter.is_harmful(at(250 * poll)));
        }
    }

    #[test]
    fn syns_that_are_retransmitted_and_never_complete_are_no_clients_however_many() {
        let mut meter = Meter::default();
        for poll in 1..=100 {
            read(&mut meter, 250 * poll, [750 * poll, 750 * poll, 0]);
            assert!(!meter.is_harmful(at(250 * poll)));
            assert!(!meter.hits_clients(at(250 * poll)));
        }
    }

    #[test]
    fn a_rule_that_hits_clients_is_found_out_by_the_eighth_that_completes() {
        let mut meter = Meter::default();
        read(&mut meter, 250, [1400, 20, 7]);
        assert!(!meter.is_harmful(at(250)), "seven of 1,400 got in and are forgiven");
        read(&mut meter, 500, [1500, 20, 8]);
        assert!(meter.is_harmful(at(500)));
    }

    #[test]
    fn a_few_clients_among_many_hits_are_answered_and_do_not_end_the_rule() {
        let mut meter = Meter::default();
        read(&mut meter, 1000, [20_000, 20, 8]);
        assert!(meter.hits_clients(at(1000)));
        assert!(!meter.is_harmful(at(1000)));
        assert!(!meter.hits_clients(at(20_000)), "and only while they come");
    }

    #[test]
    fn a_long_flood_does_not_outweigh_the_clients_of_the_last_seconds() {
        let mut meter = Meter::default();
        read(&mut meter, 250, [10_000_000, 0, 0]);
        for poll in 0..40 {
            read(&mut meter, 20_000 + 250 * poll, [10_000_000 + poll * 3, poll / 2, poll / 2]);
        }
        assert!(meter.is_harmful(at(29_750)));
        assert!(!meter.is_harmful(at(60_000)), "and only those");
    }

    #[test]
    fn a_rule_hits_mostly_clients_once_no_flood_hits_it() {
        let mut meter = Meter::default();
        read(&mut meter, 250, [2000, 200, 200]);
        assert!(meter.is_harmful(at(250)), "many are clients");
        assert!(!meter.hits_mostly_clients(at(250)), "but not most");
        for second in 1..=11 {
            let more = 5 * second;
            read(&mut meter, 250 + 1000 * second, [2000 + more, 200 + more, 200 + more]);
            let of_clients = meter.hits_mostly_clients(at(250 + 1000 * second));
            assert_eq!(of_clients, second >= 10, "{second} s after its end");
        }
    }

    #[test]
    fn retransmissions_that_do_not_complete_are_no_clients_and_outweigh_a_few() {
        let mut meter = Meter::default();
        read(&mut meter, 250, [40, 60, 20]);
        assert!(!meter.hits_mostly_clients(at(250)));
    }

    #[test]
    fn rates_of_retransmissions_and_completed_handshakes_are_those_of_the_last_seconds() {
        let mut meter = Meter::default();
        for second in 1..=10 {
            read(&mut meter, 1000 * second, [3000 * second, 16 * second, 5 * second]);
        }
        assert_eq!((meter.retransmitting(at(10_000)), meter.completing(at(10_000))), (16.0, 5.0));
        assert_eq!((meter.retransmitting(at(12_000)), meter.completing(at(12_000))), (8.0, 0.0));
        assert_eq!(meter.retransmitting(at(15_000)), 0.0);
    }

    #[test]
    fn one_hit_in_four_seconds_does_not_keep_a_rule_alive() {
        let mut meter = Meter::default();
        read(&mut meter, 250, [1, 0, 0]);
        assert!(!meter.active(at(250)));
        read(&mut meter, 500, [4, 0, 0]);
        assert!(meter.active(at(500)));
        assert!(!meter.active(at(5000)));
    }

    #[test]
    fn what_a_rule_hit_before_is_no_reason_to_renew_it() {
        let mut meter = Meter::unread();
        read(&mut meter, 250, [1_000_000, 3, 2]);
        assert!(!meter.active(at(250)));
        assert_eq!(
            (meter.hits(), meter.accepted_retransmits(), meter.completed()),
            (1_000_000, 3, 2)
        );
        read(&mut meter, 500, [1_001_000, 3, 2]);
        assert!(meter.active(at(500)));
    }

    #[test]
    fn counters_that_start_again_are_no_negative_hits() {
        let mut meter = Meter::default();
        read(&mut meter, 250, [1000, 3, 1]);
        read(&mut meter, 500, [10, 0, 0]);
        read(&mut meter, 750, [20, 0, 0]);
        let lately = meter.within(at(750), RATE_SPAN);
        assert_eq!((meter.hits(), lately), (20, Counts { hits: 10, ..Counts::default() }));
    }
}
