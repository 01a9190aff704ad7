//! Suppression of evidence that others have sent already: Trickle (RFC 6206), with one interval length.

use std::collections::BTreeSet;
use std::time::Duration;

use tcpguard_engine::Timestamp;

use super::random::Random;
use crate::document::HostId;

/// Longest wait before new evidence is sent. Hosts that are attacked at the same moment wait for different times, so
/// that the first of them silence the others.
pub const FIRST_WITHIN: Duration = Duration::from_millis(500);
/// Shortest interval between two decisions about the same evidence.
pub const LEAST_INTERVAL: Duration = Duration::from_secs(15);
/// Longest interval. Receivers keep evidence for 60 s, so that two reports in a row may be lost.
pub const MOST_INTERVAL: Duration = Duration::from_secs(20);
/// Other hosts whose reports are enough (the redundancy constant `k` of RFC 6206, section 4.1).
pub const REDUNDANCY: usize = 3;

/// Time of the next decision about one piece of evidence, and the hosts that have sent it since the last.
///
/// A host listens through the whole interval before it decides. So it never sends while [`REDUNDANCY`] others have
/// within the last [`LEAST_INTERVAL`], however many hosts there are and whenever each of them began. RFC 6206, section
/// 4.1, listens through half of the interval for the same purpose, and lets the intervals grow while nothing changes:
/// here they may not, because silence means that the evidence is gone. The waits are those of [`Random::late`].
#[derive(Clone, Debug)]
pub(super) struct Trickle {
    due: Timestamp,
    redundancy: usize,
    others: BTreeSet<HostId>,
}

/// Decision about one piece of evidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Decision {
    /// Send it.
    Send,
    /// Enough others have.
    Suppress,
}

impl Trickle {
    /// New evidence, to be sent within [`FIRST_WITHIN`].
    pub fn new(now: Timestamp, redundancy: usize, random: &mut Random) -> Self {
        let due = now + random.late(FIRST_WITHIN);
        Self { due, redundancy, others: BTreeSet::new() }
    }

    /// The evidence has changed in a way that others must know: their reports no longer count.
    pub fn restart(&mut self, now: Timestamp, random: &mut Random) {
        let changed = Self::new(now, self.redundancy, random);
        self.due = self.due.min(changed.due);
        self.others.clear();
    }

    /// Counts a report of another host that says the same.
    pub fn hear(&mut self, host: &HostId) {
        if self.others.len() < self.redundancy {
            self.others.insert(host.clone());
        }
    }

    /// Time of the next decision.
    pub const fn due(&self) -> Timestamp {
        self.due
    }

    /// Decides, if it is time.
    pub fn decide(&mut self, now: Timestamp, random: &mut Random) -> Option<Decision> {
        if now < self.due {
            return None;
        }
        let is_enough = self.others.len() >= self.redundancy;
        self.due = now + LEAST_INTERVAL + random.late(MOST_INTERVAL - LEAST_INTERVAL);
        self.others.clear();
        Some(if is_enough { Decision::Suppress } else { Decision::Send })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::host;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn new_evidence_is_sent_soon_and_then_at_intervals() {
        let mut random = Random::new(1);
        let mut trickle = Trickle::new(START, REDUNDANCY, &mut random);
        assert!(trickle.due().since(START) <= FIRST_WITHIN);
        let mut before = trickle.due();
        assert_eq!(trickle.decide(before, &mut random), Some(Decision::Send));
        for _ in 0..100 {
            let interval = trickle.due().since(before);
            assert!((LEAST_INTERVAL..=MOST_INTERVAL).contains(&interval), "{interval:?}");
            before = trickle.due();
            let early = before - Duration::from_millis(1);
            assert_eq!(trickle.decide(early, &mut random), None);
            assert_eq!(trickle.decide(before, &mut random), Some(Decision::Send));
        }
    }

    #[test]
    fn three_other_hosts_are_enough_and_one_of_them_thrice_is_not() {
        let mut random = Random::new(1);
        let mut trickle = Trickle::new(START, REDUNDANCY, &mut random);
        let decide = |trickle: &mut Trickle, random: &mut Random, hosts: [u32; 3]| {
            hosts.iter().for_each(|number| trickle.hear(&host(*number)));
            trickle.decide(trickle.due(), random)
        };
        let once = decide(&mut trickle, &mut random, [1, 2, 3]);
        assert_eq!(once, Some(Decision::Suppress));
        let thrice = decide(&mut trickle, &mut random, [1, 1, 1]);
        assert_eq!(thrice, Some(Decision::Send));
    }

    #[test]
    fn changed_evidence_is_sent_although_others_have_sent_the_earlier() {
        let mut random = Random::new(1);
        let mut trickle = Trickle::new(START, REDUNDANCY, &mut random);
        let now = trickle.due();
        trickle.decide(now, &mut random);
        [1, 2, 3].iter().for_each(|number| trickle.hear(&host(*number)));
        trickle.restart(now, &mut random);
        let due = trickle.due();
        assert!(due.since(now) <= FIRST_WITHIN);
        assert_eq!(trickle.decide(due, &mut random), Some(Decision::Send));
    }
}
