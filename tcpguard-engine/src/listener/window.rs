//! The recent past of a listener, poll by poll.

mod past;
mod sums;

pub use sums::Sums;

use std::ops::Range;
use std::time::Duration;

use tcpguard_common::abi::LATE_POLLS;

use self::past::{Entry, Past, Slot};
use crate::input::{ReturnedCookies, Timestamp};

/// Span of the past that the ticks cover.
pub(crate) const REACH: Duration = Duration::from_secs(16);
/// A half-open handshake's life in the kernel (`tcp_synack_retries` = 5: 1 + 2 + 4 + 8 + 16 + 32 s).
pub(crate) const LIFE: Duration = Duration::from_secs(63);
/// Number of coarse entries, of about a second each: together longer than [`LIFE`].
const SECONDS: usize = LIFE.as_secs() as usize + 1;
const SECOND: Duration = Duration::from_secs(1);

/// Counts of the time between two polls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tick {
    /// End of the tick.
    pub end: Timestamp,
    /// Its length.
    pub span: Duration,
    /// SYNs that arrived.
    pub syns: u64,
    /// Handshakes attempted: SYNs answered by the stack or by XDP, dropped SYNs, and SYNs that a full
    /// queue left without a reply. A SYN that was dropped and then retransmitted counts once.
    pub attempts: u64,
    /// Of these, SYNs that the stack answered.
    pub answered: u64,
    /// Of these, SYNs that XDP answered with a cookie.
    pub cookies_sent: u64,
    /// Of these, SYNs that a full queue left without a reply.
    pub unanswered: u64,
    /// SYNs that the stack answered although the XDP program could not read them; no attempts, because
    /// nothing more is known of them.
    pub beyond: u64,
    /// Valid cookies that clients sent back, whether or not the kernel has completed their handshakes.
    pub cookies_redeemed: u64,
    /// Cookies sent by XDP that clients returned, by IPv4 and by IPv6.
    pub returned_cookies: [ReturnedCookies; 2],
    /// Segments that belonged to no connection and were answered with a reset, or dropped.
    pub resets: u64,
    /// Handshakes that completed: the kernel's count, or that of the third ACKs where it is not asked.
    pub established: u64,
    /// Of all that completed, those of returning clients, each client counted once in ten seconds.
    pub returning: u64,
    /// Completions of new clients after a signature rule had dropped their first SYN.
    pub let_through: u64,
    /// Third ACKs that count: no more than the kernel completed, unless a full accept queue is why.
    pub acknowledged: u64,
    /// Of these, those attempted one tick before, and [`LATE_POLLS`] or more before.
    pub late: [u64; LATE_POLLS],
    /// Half-open handshakes that the client reset.
    pub reset: u64,
    /// Handshakes with a SYN-ACK that was retransmitted although the third ACK had arrived.
    pub ack_ignored: u64,
    /// SYNs left without a reply for another reason than a full SYN queue; no attempts.
    pub ignored: u64,
    /// SYNs that were retransmissions.
    pub retransmitted: u64,
    /// Those of these with a client's timing.
    pub retransmitted_timed: u64,
    /// Variance of the number of completions, where they are only known by sample.
    pub variance: u64,
    /// SYNs that rules matched, in whatever mode.
    pub matched: u64,
    /// SYNs dropped: of these, and because they were too many.
    pub dropped: u64,
    /// Part of a time without a poll that was too long to be judged: its numbers are averages.
    pub gap: bool,
}

impl Tick {
    /// Returns whether nothing was counted in it.
    pub fn is_still(&self) -> bool {
        let Self { end, span, gap, .. } = *self;
        *self == Self { end, span, gap, ..Self::default() }
    }

    /// Handshakes that completed: the kernel's count, or that of the third ACKs that count, whichever is
    /// greater.
    pub fn completed(&self) -> u64 {
        self.established.max(self.acknowledged)
    }

    /// Completions among these that were attempted at least `polls` ticks before (of [`LATE_POLLS`] and
    /// more: those attempted so long before). The kernel may count more than the third ACKs, because not
    /// all flows are tracked. These are taken to be as late as the third ACKs. `None` where there were
    /// none.
    fn completed_late(&self, polls: usize) -> Option<u64> {
        let late: u64 = match polls.checked_sub(1) {
            None => return Some(self.completed()),
            Some(polls) => self.late.iter().skip(polls.min(LATE_POLLS - 1)).sum(),
        };
        (late * self.completed()).checked_div(self.acknowledged)
    }
}

/// A tick whose handshakes have had the time to complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Matured {
    /// Start of the tick.
    pub start: Timestamp,
    /// Its length.
    pub span: Duration,
    /// Handshakes attempted in it.
    pub attempts: u64,
    /// Of these, those that completed; and others that took longer than one waits for, and have
    /// completed now.
    pub completed: u64,
    /// Half-open handshakes that the client reset.
    pub reset: u64,
    /// Variance of the number of completions, where they are only known by sample.
    pub variance: u64,
    /// True for a gap, as in [`Tick`].
    pub gap: bool,
}

impl Entry for Tick {
    fn blank(end: Timestamp, span: Duration) -> Self {
        Self { end, span, ..Self::default() }
    }

    fn end(&self) -> Timestamp {
        self.end
    }

    fn span(&self) -> Duration {
        self.span
    }
}

/// About a second of ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Second {
    end: Timestamp,
    span: Duration,
    answered: u64,
    established: u64,
    acknowledged: u64,
    variance: u64,
}

impl Entry for Second {
    fn blank(end: Timestamp, span: Duration) -> Self {
        Self { end, span, ..Self::default() }
    }

    fn end(&self) -> Timestamp {
        self.end
    }

    fn span(&self) -> Duration {
        self.span
    }
}

/// A row of ticks and a coarser one that reaches further back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    ticks: Past<Tick>,
    seconds: Past<Second>,
    /// The one that is not over.
    second: Second,
}

impl Window {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds the next tick.
    pub fn push(&mut self, tick: Tick) {
        self.ticks.push(tick);
        let second = self.advance(tick.end, tick.span);
        second.answered += tick.answered;
        second.established += tick.established;
        second.acknowledged += tick.acknowledged;
        second.variance += tick.variance;
    }

    /// Adds a tick in which nothing was counted.
    pub fn pass(&mut self, end: Timestamp, span: Duration) {
        self.ticks.push_blank(end, span);
        self.advance(end, span);
    }

    /// Forgets what is too old. Returns the second that is not over.
    fn advance(&mut self, end: Timestamp, span: Duration) -> &mut Second {
        while let Some(first) = self.ticks.first()
            && self.ticks.span() - first.span >= REACH
        {
            self.ticks.pop();
        }
        if self.second.span >= SECOND {
            self.seconds.push(std::mem::take(&mut self.second));
            if self.seconds.len() == SECONDS {
                self.seconds.pop();
            }
        }
        self.second.end = end;
        self.second.span += span;
        &mut self.second
    }

    /// The last tick.
    pub fn latest(&self) -> Option<Tick> {
        self.ticks.last().map(|tick| tick.copied())
    }

    /// The sums of the last `span` (of whole ticks; less when less is known).
    pub fn last(&self, span: Duration) -> Sums {
        self.latest_end().map(|end| self.since(end - span)).unwrap_or_default()
    }

    fn latest_end(&self) -> Option<Timestamp> {
        self.ticks.last().map(|tick| tick.end)
    }

    /// Completions are the kernel's count, or that of the third ACKs of the ticks where these are more. Such clients
    /// are there, though a full accept queue keeps the kernel from completing their handshakes. Each handshake counts
    /// once, because the larger count is taken over the whole span rather than tick by tick.
    fn sum(&self, places: Range<usize>) -> Sums {
        let (mut sums, mut acknowledged) = (Sums::default(), 0);
        let span = self.ticks.for_each_counted(places, |tick| {
            sums += tick;
            acknowledged += tick.acknowledged;
        });
        Sums { span, completed: sums.established.max(acknowledged), ..sums }
    }

    /// Attempts made `lag` to `lag + ticks` ticks ago, less their completions since.
    ///
    /// Each handshake has at least `lag` ticks to complete. Completions in the span itself count against
    /// it, whenever they were attempted. So do all completions since then, where the time of their
    /// attempt is not known. This errs towards quiet.
    pub fn mature(&self, ticks: usize, lag: usize) -> Sums {
        let newest = self.ticks.len().saturating_sub(lag);
        let oldest = newest.saturating_sub(ticks);
        let attempted = self.sum(oldest..newest);
        let since = || self.ticks.range(newest..self.ticks.len());
        let late = since().enumerate().map(|(index, slot)| {
            slot.count(|tick| tick.completed_late(index + 1).unwrap_or_else(|| tick.completed()))
        });
        let variance = since().map(|slot| slot.count(|tick| tick.variance)).sum::<u64>();
        Sums {
            completed: attempted.completed + late.sum::<u64>(),
            variance: attempted.variance + variance,
            ..attempted
        }
    }

    /// Returns the outcome of the tick `lag` ticks ago (or [`LATE_POLLS`], if that is less): its attempts,
    /// against the completions of these attempts rather than those seen in it. Completions that took
    /// longer still count where they are seen now, so that over time each counts once.
    pub fn matured(&self, lag: usize) -> Option<Matured> {
        let lag = lag.min(LATE_POLLS);
        let index = self.ticks.len().checked_sub(lag + 1)?;
        let own = || self.ticks.range(index..self.ticks.len());
        let (tick, newest) = (own().next()?.copied(), self.latest()?);
        let late = |tick: &Tick, polls| match polls {
            polls if polls > LATE_POLLS => 0,
            polls => tick.completed_late(polls).unwrap_or(0),
        };
        let in_time = own()
            .enumerate()
            .map(|(polls, slot)| slot.count(|tick| late(tick, polls) - late(tick, polls + 1)));
        Some(Matured {
            start: tick.end - tick.span,
            span: tick.span,
            attempts: tick.attempts,
            completed: in_time.sum::<u64>() + late(&newest, lag + 1),
            reset: tick.reset,
            variance: tick.variance,
            gap: tick.gap,
        })
    }

    /// Returns the length of the tick `lag` ticks ago, as [`Self::matured`] takes it.
    pub fn matured_span(&self, lag: usize) -> Option<Duration> {
        let index = self.ticks.len().checked_sub(lag.min(LATE_POLLS) + 1)?;
        Some(self.ticks.at(index).span)
    }

    /// Load of the SYN queue in the last minute: the SYNs answered more than `lag` ticks ago as
    /// attempts, against all completions since. The longest that an entry lives is a minute.
    pub fn mature_minute(&self, lag: usize) -> Sums {
        let newest = self.ticks.len().saturating_sub(lag);
        let young = self.ticks.range(newest..self.ticks.len());
        let young: u64 = young.map(|slot| slot.count(|tick| tick.answered)).sum();
        let total = |count: fn(&Second) -> u64| {
            self.seconds.iter().map(|slot| slot.count(count)).sum::<u64>() + count(&self.second)
        };
        let completed = total(|s| s.established).max(total(|s| s.acknowledged));
        Sums {
            span: self.seconds.span() + self.second.span,
            attempts: total(|second| second.answered).saturating_sub(young),
            completed,
            variance: total(|second| second.variance),
            ..Sums::default()
        }
    }

    /// Returns the start of the first tick.
    pub fn begin(&self) -> Option<Timestamp> {
        self.ticks.first().map(|tick| tick.start())
    }

    /// The start of the run of ticks, up to the last one, in which most attempts failed.
    pub fn failing_since(&self) -> Option<Timestamp> {
        let failing = |slot: &Slot<&Tick>| {
            slot.entry.is_some_and(|tick| tick.attempts > 0 && tick.completed() * 2 < tick.attempts)
        };
        // The attempts of the last ticks may still be on their way.
        let mut ticks =
            self.ticks.since_counted().rev().skip_while(|tick| !failing(tick)).peekable();
        ticks.peek()?;
        ticks.take_while(failing).last().map(|tick| tick.start())
    }

    /// The end of the last tick in which more was attempted than completed.
    pub fn failed_last(&self) -> Option<Timestamp> {
        let failed =
            |slot: &Slot<&Tick>| slot.entry.is_some_and(|tick| tick.attempts > tick.completed());
        self.ticks.since_counted().rev().find(failed).map(|tick| tick.end)
    }

    /// The sums of all ticks that began at `start` or later and were over at `end`.
    pub fn between(&self, start: Timestamp, end: Timestamp) -> Sums {
        let first = self.ticks.partition_point(|tick| tick.start() < start);
        self.sum(first..self.until(end).max(first))
    }

    /// The number of ticks that were over at `end`.
    fn until(&self, end: Timestamp) -> usize {
        self.ticks.partition_point(|tick| tick.end <= end)
    }

    /// The sums of the last seconds, each by itself, the last one first.
    pub fn seconds<const N: usize>(&self, now: Timestamp) -> [Sums; N] {
        std::array::from_fn(|index| {
            let end = now - SECOND * index as u32;
            self.between(end - SECOND, end)
        })
    }

    /// Sums of the time before `end`, as far back as ticks reach.
    pub fn rates_before(&self, end: Timestamp) -> Sums {
        self.sum(0..self.until(end))
    }

    /// The sums of all ticks that ended after `start`.
    pub fn since(&self, start: Timestamp) -> Sums {
        self.sum(self.until(start)..self.ticks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    fn window(ticks: &[(u64, u64, u64)]) -> Window {
        let mut window = Window::default();
        for (index, &(attempts, established, acknowledged)) in ticks.iter().enumerate() {
            let end = Timestamp::from_millis(250 * (index as u64 + 1));
            window.push(Tick {
                end,
                span: POLL,
                syns: attempts,
                attempts,
                answered: attempts,
                established,
                acknowledged,
                ..Tick::default()
            });
        }
        window
    }

    #[test]
    fn seconds_are_summed_one_by_one() {
        let window = window(&[(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0)]);
        let [last, before, earlier] = window.seconds(Timestamp::from_millis(1500));
        assert_eq!((last.attempts, before.attempts, earlier.attempts), (3 + 4 + 5 + 6, 1 + 2, 0));
        assert_eq!((last.span, before.span), (SECOND, SECOND / 2));
    }

    #[test]
    fn a_handshake_seen_by_both_means_in_different_ticks_counts_once() {
        let window = window(&[(10, 10, 0), (0, 0, 10)]);
        assert_eq!(window.last(POLL * 2).completed, 10);
    }

    #[test]
    fn third_acks_count_while_a_full_accept_queue_keeps_the_kernel_from_completing() {
        let window = window(&[(10, 10, 10), (10, 0, 10)]);
        assert_eq!(window.last(POLL).completed, 10);
    }

    /// A window of (attempts, third ACKs, those of them that are late) by tick.
    fn followed(ticks: &[(u64, u64, [u64; LATE_POLLS])]) -> Window {
        let mut window = Window::default();
        for (index, &(attempts, acknowledged, late)) in ticks.iter().enumerate() {
            let end = Timestamp::from_millis(250 * (index as u64 + 1));
            let tick = Tick { end, span: POLL, attempts, acknowledged, late, ..Tick::default() };
            window.push(tick);
        }
        window
    }

    #[test]
    fn attempts_are_judged_a_tick_later_against_their_own_completions_since() {
        let window = followed(&[(100, 0, [0, 0]), (50, 90, [80, 10]), (70, 45, [20, 5])]);
        let sums = window.mature(2, 1);
        assert_eq!((sums.attempts, sums.completed), (150, 115), "20 of the last 45 are younger");
    }

    #[test]
    fn completions_of_which_nothing_is_known_count_for_the_older_attempts() {
        let window = window(&[(100, 0, 0), (50, 90, 0), (7, 5, 0)]);
        let sums = window.mature(2, 1);
        assert_eq!((sums.attempts, sums.completed), (150, 95));
    }

    #[test]
    fn a_tick_is_settled_by_the_completions_of_its_own_attempts() {
        let ticks = [(10, 10, [0, 0]), (30, 12, [2, 0]), (20, 25, [14, 1]), (20, 19, [9, 3])];
        let completed = |lag| followed(&ticks).matured(lag).map(|tick| tick.completed);
        assert_eq!(completed(0), Some(19), "as seen");
        assert_eq!(completed(1), Some(10 + 9 + 3), "at once, a tick later, and those of long ago");
        assert_eq!(completed(2), Some(10 + 14 + 3));
        assert_eq!(completed(9), completed(2), "no more is distinguished");
        assert_eq!(followed(&ticks[..2]).matured(2), None, "not yet");
    }

    #[test]
    fn what_only_the_kernel_saw_complete_is_as_late_as_what_was_followed() {
        let mut window = followed(&[(100, 10, [0, 0])]);
        let (end, late) = (Timestamp::from_millis(500), [5, 0]);
        let last =
            Tick { end, span: POLL, established: 80, acknowledged: 10, late, ..Tick::default() };
        window.push(last);
        assert_eq!(window.matured(1).map(|tick| tick.completed), Some(10 + 40));
    }

    #[test]
    fn the_start_of_failure_is_found_behind_ticks_that_are_still_empty() {
        let window = window(&[(10, 10, 10), (10, 9, 9), (100, 5, 5), (100, 0, 0), (0, 0, 0)]);
        assert_eq!(window.failing_since(), Some(Timestamp::from_millis(500)));
    }

    #[test]
    fn ticks_reach_back_as_far_at_any_pace() {
        for millis in [50, 250, 1000] {
            let span = Duration::from_millis(millis);
            let mut window = Window::default();
            for index in 1..=1000 {
                let end = Timestamp::from_millis(millis * index);
                window.push(Tick { end, span, syns: millis, ..Tick::default() });
            }
            let all = window.last(REACH * 2);
            assert_eq!((all.span, all.syns), (REACH, 16_000));
        }
    }

    #[test]
    fn a_minute_leaves_out_the_last_attempts_but_not_the_last_completions() {
        let mut ticks = vec![(10, 0, 0); 40];
        ticks.extend(vec![(7, 3, 3); 2]);
        let minute = window(&ticks).mature_minute(2);
        assert_eq!((minute.attempts, minute.failures()), (400, 394));
    }
}
