//! Sums of the counts of several ticks.

use std::ops::AddAssign;
use std::time::Duration;

use super::Tick;
use crate::input::ReturnedCookies;

/// The counts of a listener in a span of time: several ticks together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Length of the span.
    pub span: Duration,
    /// SYNs that arrived, retransmissions included.
    pub syns: u64,
    /// Handshakes attempted; see `Tick::attempts`.
    pub attempts: u64,
    /// SYNs that the stack answered although the XDP program could not read them; no attempts.
    pub beyond: u64,
    /// SYNs among the attempts that the stack answered.
    pub answered: u64,
    /// SYNs among the attempts that a full queue left without a reply.
    pub unanswered: u64,
    /// Handshakes that completed, and those whose clients a full accept queue lets wait.
    pub completed: u64,
    /// Handshakes among these of returning clients, each client counted once in ten seconds.
    pub returning: u64,
    /// Handshakes of new clients that completed although a signature rule had dropped their first SYN.
    pub let_through: u64,
    /// Handshakes with a SYN-ACK that was retransmitted although the third ACK had arrived.
    pub ack_ignored: u64,
    /// SYNs left without a reply for another reason than a full SYN queue; no attempts.
    pub ignored: u64,
    /// SYNs that were retransmissions (sampled).
    pub retransmitted: u64,
    /// Those of these with a client's timing (sampled).
    pub retransmitted_timed: u64,
    /// Variance of the number of completions, where they are only known by sample.
    pub variance: u64,
    /// SYNs that rules matched, in whatever mode.
    pub matched: u64,
    /// SYNs dropped: of these, and because they were too many.
    pub dropped: u64,
    /// Out-of-state segments.
    pub resets: u64,
    /// Half-open handshakes that their clients reset.
    pub reset: u64,
    /// SYNs that XDP answered with a cookie.
    pub cookies_sent: u64,
    /// Valid cookies that clients returned.
    pub cookies_redeemed: u64,
    /// Cookies that clients returned, by IPv4 and by IPv6.
    pub returned_cookies: [ReturnedCookies; 2],
    /// Handshakes that completed: the kernel's count, or that of the third ACKs where it is not asked.
    pub established: u64,
}

impl Sums {
    /// Sums of several listeners over the same time.
    pub fn beside(all: impl Iterator<Item = Self>) -> Self {
        let (mut sums, mut span) = (Self::default(), Duration::ZERO);
        for one in all {
            span = span.max(one.span);
            sums += &one;
        }
        Self { span, ..sums }
    }

    /// SYNs without those that the stack ignores, such as those of martian sources, and without retransmissions. Both
    /// cost an attacker a packet each, and raise no alarm.
    pub fn answerable(&self) -> u64 {
        self.syns.saturating_sub(self.ignored + self.retransmitted)
    }

    /// Attempts that did not complete, less those that chance may feign where completions are only
    /// sampled: two standard deviations.
    pub fn failures(&self) -> u64 {
        let doubt = 2.0 * (self.variance as f64).sqrt();
        self.attempts.saturating_sub(self.completed).saturating_sub(doubt as u64)
    }

    /// Failures without retransmissions: where cookies answer, a SYN is an attempt each time it arrives.
    pub fn first_failures(&self) -> u64 {
        let first = self.syns.saturating_sub(self.retransmitted);
        Self { attempts: self.attempts.min(first), ..*self }.failures()
    }

    /// SYNs that were left to the stack: those that the XDP program neither dropped nor answered, be it because
    /// it could not read them.
    pub fn passed(&self) -> u64 {
        self.attempts.saturating_sub(self.dropped + self.cookies_sent) + self.beyond
    }

    /// Those of them that did not complete.
    pub fn reaching(&self) -> u64 {
        self.passed().saturating_sub(self.completed.saturating_sub(self.cookies_redeemed))
    }

    /// Sums without the SYNs that rules match, in whatever mode. All retransmissions may be among those.
    pub fn unmatched(&self) -> Self {
        let without = |count: u64| count.saturating_sub(self.matched);
        Self {
            syns: without(self.syns),
            retransmitted: without(self.retransmitted),
            retransmitted_timed: without(self.retransmitted_timed),
            attempts: without(self.attempts),
            dropped: without(self.dropped),
            matched: 0,
            ..*self
        }
    }

    /// SYNs that XDP could not read and for which no handshake completed. Completions beyond the number of readable
    /// SYNs are taken to be theirs.
    pub fn evading(&self) -> u64 {
        self.beyond.saturating_sub(self.completed.saturating_sub(self.attempts))
    }

    /// SYNs dropped because they were too many, and not by a rule.
    pub fn limited(&self) -> u64 {
        self.dropped.saturating_sub(self.matched)
    }

    /// Returns whether a full queue left most of the attempts without an answer that were neither dropped before it
    /// nor answered with a cookie.
    pub fn is_unanswered(&self) -> bool {
        let left = self.attempts.saturating_sub(self.dropped + self.cookies_sent);
        self.unanswered > 0 && self.unanswered * 2 >= left
    }

    /// A count per second; 0 where no time has passed.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.span.is_zero() { 0.0 } else { count as f64 / self.span.as_secs_f64() }
    }
}

/// The sums with the counts of another time, or of another listener, added.
macro_rules! plus {
    ($sums:ident, $other:ident, $span:expr, $completed:expr) => {
        plus!(
            $sums, $other, $span, $completed,
            syns attempts beyond answered unanswered returning let_through ack_ignored ignored retransmitted
            retransmitted_timed variance matched dropped resets reset cookies_sent cookies_redeemed established
        )
    };
    ($sums:ident, $other:ident, $span:expr, $completed:expr, $($count:ident)*) => {
        Sums {
            span: $span,
            completed: $completed,
            returned_cookies: [0, 1].map(|family: usize| {
                let other = $other.returned_cookies[family];
                $sums.returned_cookies[family].with(other, |sum, other| sum + other)
            }),
            $($count: $sums.$count + $other.$count,)*
        }
    };
}

/// Another time of the same listener.
impl AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        *self = plus!(self, other, self.span + other.span, self.completed + other.completed);
    }
}

/// A tick of the span; all but the completions, which only the whole span shows.
impl AddAssign<&Tick> for Sums {
    fn add_assign(&mut self, tick: &Tick) {
        *self = plus!(self, tick, self.span, self.completed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listeners_count_in_the_same_time_adds_up_and_the_time_does_not() {
        let second = Duration::from_secs(1);
        let cookies = |valid| ReturnedCookies { valid, ..ReturnedCookies::default() };
        let one = Sums {
            span: second,
            attempts: 10,
            dropped: 4,
            let_through: 1,
            returned_cookies: [cookies(2), cookies(0)],
            ..Sums::default()
        };
        let other = Sums { span: second * 2, attempts: 5, completed: 3, ..one };
        let both = Sums::beside([one, other].into_iter());
        assert_eq!((both.span, both.attempts, both.completed), (second * 2, 15, 3));
        assert_eq!((both.dropped, both.let_through), (8, 2));
        assert_eq!(both.returned_cookies, [cookies(4), cookies(0)]);
    }

    #[test]
    fn what_reaches_the_stack_is_what_was_neither_dropped_nor_answered_nor_completed() {
        let sums = Sums {
            attempts: 1000,
            dropped: 600,
            cookies_sent: 300,
            completed: 60,
            cookies_redeemed: 20,
            beyond: 50,
            ..Sums::default()
        };
        assert_eq!(sums.reaching(), 100 + 50 - 40);
        assert_eq!(Sums { completed: 500, ..sums }.reaching(), 0);
        // Of SYNs that were not read, completions are those beyond the ones that were.
        for (attempts, completed, evading) in [(10, 10, 50), (10, 40, 20), (10, 70, 0)] {
            assert_eq!(Sums { attempts, completed, ..sums }.evading(), evading, "{completed}");
        }
    }

    #[test]
    fn what_is_dropped_hides_nothing_of_what_is_not() {
        let (syns, attempts, dropped, retransmitted) = (11_000, 10_900, 10_000, 5100);
        let sums =
            Sums { syns, attempts, dropped, retransmitted, completed: 450, ..Sums::default() };
        let full = |unanswered| Sums { unanswered, ..sums }.is_unanswered();
        assert_eq!([0, 449, 450].map(full), [false, false, true]);
        let answered = |unanswered| Sums { unanswered, cookies_sent: 800, ..sums }.is_unanswered();
        assert_eq!([49, 50].map(answered), [false, true], "nor what cookies answer");
        // By a rule, which in observe mode only counts.
        let ruled = Sums { matched: 10_000, ..sums }.unmatched();
        let Sums { syns, retransmitted, attempts, dropped, .. } = ruled;
        assert_eq!((syns, retransmitted, attempts, dropped), (1000, 0, 900, 0));
        let counted = Sums { matched: 10_000, dropped: 0, ..sums }.unmatched();
        assert_eq!((ruled, ruled.first_failures()), (counted, 450));
    }

    #[test]
    fn sampled_completions_must_be_missing_beyond_chance() {
        let sums = Sums { attempts: 200, completed: 180, variance: 100, ..Sums::default() };
        assert_eq!(sums.failures(), 0, "20 may be missing by chance");
        assert_eq!(Sums { completed: 170, ..sums }.failures(), 10);
        let answered = Sums { attempts: 200, completed: 20, syns: 220, ..Sums::default() };
        let again = |retransmitted| Sums { retransmitted, ..answered }.first_failures();
        assert_eq!([0, 20, 110, 220].map(again), [180, 180, 90, 0], "repetitions are left out");
    }
}
