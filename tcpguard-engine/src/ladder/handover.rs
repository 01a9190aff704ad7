//! Whether the host completes the handshakes whose cookies were good.
//!
//! A SYN that is answered at XDP is seen by nothing behind it, so a firewall may take the client's ACK for
//! a segment of no connection and drop it, after the cookie in it was found good. Only the kernel's own
//! count of completed handshakes tells that.

use std::collections::VecDeque;
use std::time::Duration;

use super::breaker::Harm;
use crate::Timestamp;

/// Good cookies from which it means anything that the host completes none of their handshakes.
const LEAST: u64 = 8;
/// Handshakes are completed in far less than this after their ACK came.
const DELAY: Duration = Duration::from_secs(1);
/// Of so many good cookies the host must complete one handshake.
const ONE_OF: u64 = 8;
/// Once it has done so, it must have completed none at all for this long: whoever has a real address can
/// send many ACKs with good cookies and a wrong checksum.
const SILENCE: Duration = Duration::from_secs(3);

/// Good cookies and completed handshakes since cookies are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handover {
    /// What completed before this may have been answered by the stack.
    from: Timestamp,
    /// Good cookies of the last second, by poll, which may be under way still.
    young: VecDeque<(Timestamp, u64)>,
    /// Those before it since the host last kept up with them.
    good: u64,
    /// Handshakes completed since then.
    completed: u64,
    /// It has completed handshakes with cookies.
    proven: bool,
    /// When it completed one last.
    last: Timestamp,
}

impl Handover {
    /// Starts anew, and counts from `from` on.
    pub fn start(&mut self, from: Timestamp) {
        *self = Self { from, last: from, ..Self::default() };
    }

    /// Counts from `from` on, and does not forget that handshakes with cookies were completed.
    pub fn restart(&mut self, from: Timestamp) {
        *self = Self { from, last: from, proven: self.proven, ..Self::default() };
    }

    /// Adds a poll with so many good cookies and completed handshakes. The answer is what harm cookies do,
    /// where the host completed too few handshakes of so many good ones.
    pub fn poll(&mut self, now: Timestamp, good: u64, completed: u64) -> Option<Harm> {
        if now <= self.from {
            return None;
        }
        if good > 0 {
            self.young.push_back((now, good));
        }
        self.completed += completed;
        if completed > 0 {
            self.last = now;
        }
        while let Some((_, good)) = self.young.pop_front_if(|(at, _)| now.since(*at) >= DELAY) {
            self.good += good;
        }
        if self.good < LEAST {
            return None;
        }
        let kept_up = match self.proven {
            false => self.completed * ONE_OF >= self.good,
            true => self.completed > 0 || now.since(self.last) < SILENCE,
        };
        if !kept_up {
            return Some(self.harm(self.good));
        }
        if self.completed > 0 {
            self.proven = true;
            (self.good, self.completed) = (0, 0);
        }
        None
    }

    /// The same, without waiting for handshakes that may be under way: for when it is known that clients are
    /// kept out.
    pub fn suspected(&self) -> Option<Harm> {
        let good = self.good + self.young.iter().map(|(_, good)| good).sum::<u64>();
        let is_cause = good >= LEAST && self.completed * ONE_OF < good;
        is_cause.then(|| self.harm(good))
    }

    /// Where the host has completed a handshake, its set-up lets cookies through, and good ones may have come
    /// from an attacker with a real address: that is for a while only.
    fn harm(&self, good: u64) -> Harm {
        let completed = self.completed;
        Harm::Unfinished { completed, good, lasting: !self.proven && completed == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    /// After how many polls it is told, of (good cookies, completed handshakes) by poll.
    fn told(poll: impl Fn(u32) -> (u64, u64)) -> Option<u32> {
        let mut handover = Handover::default();
        let start = Timestamp::from_millis(10_000);
        handover.start(start);
        (1..=400).find(|&number| {
            let (good, completed) = poll(number);
            handover.poll(start + POLL * number, good, completed).is_some()
        })
    }

    #[test]
    fn a_host_that_completes_none_is_told_a_second_after_the_eighth_good_cookie() {
        assert_eq!(told(|_| (5, 0)), Some(2 + 4));
        assert_eq!(told(|poll| (u64::from(poll % 10 == 0), 0)), Some(80 + 4), "few clients");
        assert_eq!(told(|poll| (if poll < 8 { 1 } else { 0 }, 0)), None, "seven are chance");
    }

    #[test]
    fn one_that_completes_them_is_not() {
        assert_eq!(told(|poll| (5, if poll > 2 { 5 } else { 0 })), None, "half a second later");
        assert_eq!(told(|poll| (1, u64::from(poll % 4 == 0))), None, "one of four");
        assert_eq!(told(|_| (0, 0)), None);
    }

    #[test]
    fn one_of_many_is_as_good_as_none() {
        assert_eq!(told(|poll| (10, u64::from(poll == 1))), Some(5));
    }

    #[test]
    fn what_breaks_later_is_told_when_nothing_completes_for_three_seconds() {
        let broken = told(|poll| (5, if poll < 40 { 5 } else { 0 }));
        assert_eq!(broken, Some(39 + 12));
    }

    #[test]
    fn only_a_host_that_never_completed_one_is_not_tried_again() {
        let start = Timestamp::from_millis(10_000);
        // (Good, completed) by poll.
        let is_lasting = |poll: &dyn Fn(u32) -> (u64, u64), again: u32| {
            let mut handover = Handover::default();
            handover.start(start);
            let harm = (1..=400).find_map(|number| {
                if number == again {
                    handover.restart(start + POLL * number);
                }
                let (good, completed) = poll(number);
                handover.poll(start + POLL * number, good, completed)
            });
            harm.expect("harm").is_lasting()
        };
        assert!(is_lasting(&|_| (5, 0), 0));
        assert!(
            !is_lasting(&|poll| (400, if poll < 6 { 10 } else { 0 }), 0),
            "busy, many bad ACKs"
        );
        let silent = |poll| (5, if poll < 40 { 5 } else { 0 });
        assert!(!is_lasting(&silent, 0));
        assert!(!is_lasting(&silent, 60), "a full accept queue in between");
    }

    /// Their checksum may be wrong, which XDP does not see.
    #[test]
    fn acks_that_somebody_adds_later_do_not_outvote_the_clients() {
        let added = |poll| if poll < 40 { (5, 5) } else { (5000, u64::from(poll % 8 == 0)) };
        assert_eq!(told(added), None);
    }
}
