//! Ticks from cumulative counters: the attempts and the completions between two polls.

mod poll_context;
mod unanswered_syns;

use tcpguard_common::abi::LATE_POLLS;

pub(crate) use self::poll_context::PollContext;
pub(crate) use self::unanswered_syns::UNANSWERED_AFTER;
use self::unanswered_syns::{Heard, UnansweredSyns};
use super::egress::{Egress, EgressCheck};
use super::window::Tick;
use crate::input::{ListenerCounters, Mode, Queues, Timestamp};

/// Polls that a sample may come late by and still be judged. The agent is late when a flood takes
/// its CPU, which is no time to look away; an average over more than this says too little.
const LATE: u32 = 8;

/// One listener's counters and the SYNs of the last tick that may still be answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct CounterDelta {
    last: ListenerCounters,
    open: u64,
    unanswered_syns: UnansweredSyns,
    egress_check: EgressCheck,
    /// The stack has replied to most of the seemingly unanswered SYNs of the last tick.
    hides: bool,
}

impl CounterDelta {
    /// Starts at `counters`: earlier counts belong to no tick.
    pub fn start(counters: ListenerCounters) -> Self {
        Self { last: counters, ..Self::default() }
    }

    /// The ticks since the last poll: one, or several averages after missed polls. `None` when a
    /// counter went backwards: the kernel counts anew and so must everything built on it.
    pub fn ticks(
        &mut self,
        counters: &ListenerCounters,
        around: &PollContext,
    ) -> Option<impl Iterator<Item = Tick> + use<>> {
        let delta = counters.since(&self.last)?;
        self.last = *counters;
        if let Some(queues) = &around.queues {
            let unanswered = self.fates(&delta, around.mode, false).unanswered;
            self.egress_check.poll(around.at, &delta, queues, around.unseen_cookies, unanswered);
        }
        let total = self.tick(&delta, around);
        let parts = around.parts() as u64;
        Some((0..parts).map(move |part| split(&total, part, parts)))
    }

    /// Goes through a poll in which nothing was counted.
    pub fn pass(&mut self, at: Timestamp, queues: Option<&Queues>, unseen_cookies: u64) {
        if let Some(queues) = queues {
            let nothing = ListenerCounters::default();
            self.egress_check.poll(at, &nothing, queues, unseen_cookies, 0);
        }
    }

    /// Counters at the last poll.
    pub fn counters(&self) -> &ListenerCounters {
        &self.last
    }

    /// The egress check: whether its SYN-ACKs leave by an attached interface, and the evidence for that.
    pub fn egress_check(&self) -> &EgressCheck {
        &self.egress_check
    }

    /// The egress check, to be updated.
    pub fn egress_check_mut(&mut self) -> &mut EgressCheck {
        &mut self.egress_check
    }

    /// Returns whether the stack's replies to the seemingly unanswered SYNs leave unseen, and a full queue drops
    /// none of these SYNs.
    pub fn hides_replies(&self) -> bool {
        self.hides
    }

    /// SYNs of which no answer was seen since the last poll.
    pub fn unanswered(&self, counters: &ListenerCounters, mode: Mode, one_sided: bool) -> u64 {
        let delta = counters.since(&self.last);
        delta.map_or(0, |delta| self.fates(&delta, mode, one_sided).unanswered)
    }

    /// Returns whether its answers are not seen and its completions are all the same.
    fn is_unseen(&self, delta: &ListenerCounters) -> bool {
        self.egress_check.verdict() == Egress::Unseen && delta.established.is_some()
    }

    /// Fates of the SYNs between two polls.
    fn fates(&self, delta: &ListenerCounters, mode: Mode, unseen: bool) -> Fates {
        let matched = delta.dropped_source + delta.dropped_signature;
        // Outside enforce mode the SYNs that a rule matches go to the stack like all others.
        let by_rule = if mode == Mode::Enforce { matched } else { 0 };
        let dropped = by_rule + delta.limited;
        let passed = delta.syn.saturating_sub(dropped + delta.cookies_sent);

        // Retransmitted SYN-ACKs are counted by sample. Those of a past flood do not pass for new handshakes,
        // because each needs a SYN, of this tick or the one before.
        let fresh = match unseen {
            true => passed.saturating_sub(delta.syn_retransmit),
            false => delta.syn_ack.saturating_sub(delta.syn_ack_retransmit),
        };
        let answered = fresh.min(self.open + passed);
        let silent = passed.saturating_sub(answered);
        let retransmitted_silent = silent.min(delta.syn_retransmit);
        let unanswered = silent - retransmitted_silent;
        // Further replies of the stack belong to SYNs that it could read and XDP could not.
        let beyond = fresh - answered;
        Fates { matched, dropped, passed, answered, beyond, unanswered, retransmitted_silent }
    }

    fn tick(&mut self, delta: &ListenerCounters, around: &PollContext) -> Tick {
        let listens = around.queues.is_some();
        let unseen = around.one_sided || listens && self.is_unseen(delta);
        let Fates { matched, dropped, passed, answered, beyond, unanswered, retransmitted_silent } =
            self.fates(delta, around.mode, unseen);
        self.open = passed.saturating_sub(answered.saturating_sub(self.open));
        // Where answers are not seen, each has one that no full queue has dropped.
        let lost = if unseen { answered.min(around.queue_drops.unwrap_or(0)) } else { 0 };
        let (answered, unanswered) = (answered - lost, unanswered + lost);

        let heard = Heard {
            answered,
            unanswered: unanswered.saturating_sub(delta.refused),
            completed: delta.acknowledged.max(delta.established.unwrap_or(0)) + delta.reset,
            retransmitted: delta.syn_retransmit_timed,
        };
        // Polls that were left out because nothing arrived are time in which clients could retransmit their SYNs.
        let polls = if heard == Heard::default() { around.parts() } else { 1 };
        let unanswered_syns: u64 = (0..polls).map(|_| self.unanswered_syns.next(heard)).sum();
        // Unanswered SYNs to which the stack sent an unseen reply, unless its queue has dropped them.
        let hidden = (unanswered as f64 * self.egress_check.hidden(around.at)).round() as u64;
        let refused = match around.queue_drops {
            Some(_) if around.unread => unanswered_syns,
            None => 0,
            Some(drops) if around.queue_full => unanswered.min(drops.max(unanswered - hidden)),
            Some(drops) => unanswered.min(drops),
        };
        let ignored = unanswered.saturating_sub(refused);
        let hidden = hidden.min(ignored);
        let taken = answered + hidden;
        self.hides = 2 * hidden > unanswered;
        let (acknowledged, late) = third_acks(delta, is_full(around) && !around.answering);
        // A client that retransmits its SYN, after a rule dropped it or it was one too many, is one attempt,
        // not two. A SYN that is let through and left unanswered is no attempt anyway.
        let accepted_retransmits = match around.mode {
            Mode::Enforce => delta.accepted_retransmits.min(answered + delta.cookies_sent),
            Mode::Observe | Mode::Off => 0,
        };
        let limited =
            delta.syn_retransmit.saturating_sub(delta.accepted_retransmits + retransmitted_silent);
        let limited = limited.min(delta.limited);
        let again = accepted_retransmits + limited;
        Tick {
            end: around.at,
            span: around.elapsed,
            syns: delta.syn,
            attempts: (taken + delta.cookies_sent + dropped + refused).saturating_sub(again),
            answered: taken,
            beyond: beyond.min(around.beyond),
            cookies_sent: delta.cookies_sent,
            cookies_redeemed: delta.cookies_redeemed,
            returned_cookies: delta.returned_cookies,
            resets: delta.refused,
            unanswered: refused,
            established: delta.completed(),
            returning: delta.established_returning,
            let_through: delta.let_through,
            acknowledged,
            late,
            reset: delta.reset,
            ack_ignored: delta.ack_ignored,
            ignored: ignored - hidden,
            retransmitted: delta.syn_retransmit,
            retransmitted_timed: delta.syn_retransmit_timed,
            variance: match delta.established {
                Some(_) => 0,
                None => sampling_variance(delta.acknowledged, around.sample_shift),
            },
            matched,
            dropped,
            gap: around.elapsed > around.poll * LATE,
        }
    }
}

/// The third ACKs that count, and how late they are.
///
/// An ACK is seen before the host's firewall and its stack see it, and they may refuse it: its checksum may be
/// wrong. So the kernel has the word, where it is asked. Only while a full accept queue keeps it from
/// completing handshakes (`waiting`) an ACK proves that the client is there, if the stack has answered it.
fn third_acks(delta: &ListenerCounters, waiting: bool) -> (u64, [u64; LATE_POLLS]) {
    let seen = delta.acknowledged;
    let Some(established) = delta.established.filter(|count| !waiting && *count < seen) else {
        return (seen, delta.late);
    };
    let share = |late: u64| (u128::from(late) * u128::from(established) / u128::from(seen)) as u64;
    (established, delta.late.map(share))
}

/// Returns whether the accept queue is full, or was, since it may drain between two polls.
fn is_full(around: &PollContext) -> bool {
    around.queues.is_some_and(|queues| queues.is_accept_full(around.overflowed))
}

/// Fates of the SYNs between two polls.
#[derive(Clone, Copy, Debug)]
struct Fates {
    matched: u64,
    dropped: u64,
    passed: u64,
    answered: u64,
    /// Answers to SYNs that were not counted.
    beyond: u64,
    /// First SYNs without a reply.
    unanswered: u64,
    /// Retransmitted SYNs without a reply.
    retransmitted_silent: u64,
}

/// Variance of a count that was estimated from one in `2^shift`: n of N seen with probability p and
/// weighted 1/p has the variance N (1 - p) / p.
fn sampling_variance(count: u64, shift: u8) -> u64 {
    count.saturating_mul((1 << shift.min(63)) - 1)
}

/// Part `part` of `parts` of a tick: equal shares that add up to the whole.
fn split(whole: &Tick, part: u64, parts: u64) -> Tick {
    if parts == 1 {
        return *whole;
    }
    let share = |count: u64| {
        let upto = |part: u64| (u128::from(count) * u128::from(part) / u128::from(parts)) as u64;
        upto(part + 1) - upto(part)
    };
    let span = whole.span / parts as u32;
    macro_rules! shares {
        ($($count:ident)*) => {
            Tick {
                end: whole.end - span * (parts - 1 - part) as u32,
                span,
                gap: whole.gap,
                late: whole.late.map(share),
                returned_cookies: whole.returned_cookies.map(|it| it.with(it, |count, _| share(count))),
                $($count: share(whole.$count),)*
            }
        };
    }
    shares!(
        syns attempts answered beyond cookies_sent cookies_redeemed resets variance unanswered established returning
        let_through acknowledged reset ack_ignored ignored retransmitted retransmitted_timed matched dropped
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    fn around(mode: Mode) -> PollContext {
        PollContext {
            at: Timestamp::from_millis(10_000),
            elapsed: POLL,
            poll: POLL,
            mode,
            queue_drops: Some(0),
            unseen_cookies: 0,
            queues: None,
            overflowed: false,
            queue_full: false,
            sample_shift: 0,
            one_sided: false,
            unread: false,
            answering: false,
            beyond: 0,
        }
    }

    #[test]
    fn third_acks_count_as_far_as_the_kernel_completes_them_unless_a_full_accept_queue_is_why() {
        let counters = |established| ListenerCounters {
            acknowledged: 40,
            established,
            late: [20, 4],
            ..ListenerCounters::default()
        };
        let counted = |established: Option<u64>, accept, answering| {
            let queues = Some(Queues { half_open: None, accept, backlog: 128 });
            let around = PollContext { answering, queues, ..around(Mode::Enforce) };
            let before = established.map(|_| 0);
            let before = ListenerCounters { established: before, ..ListenerCounters::default() };
            let ticks = CounterDelta::start(before).ticks(&counters(established), &around);
            let tick = ticks.and_then(|mut ticks| ticks.next()).expect("one tick");
            (tick.completed(), tick.late)
        };
        for answering in [false, true] {
            let refused = (0, [0, 0]);
            assert_eq!(counted(Some(0), 0, answering), refused, "a wrong checksum, or a firewall");
            assert_eq!(counted(Some(10), 127, answering), (10, [5, 1]));
            assert_eq!(counted(Some(50), 0, answering), (50, [20, 4]), "not all are tracked");
            assert_eq!(counted(None, 0, answering), (40, [20, 4]), "nobody asks the kernel");
        }
        assert_eq!(counted(Some(10), 128, false), (40, [20, 4]), "the host lets them wait");
        assert_eq!(counted(Some(10), 128, true), (10, [5, 1]), "it has not answered them");
    }

    fn one(counters: ListenerCounters, around: &PollContext) -> Tick {
        let mut counter_delta = CounterDelta::start(ListenerCounters::default());
        counter_delta.ticks(&counters, around).and_then(|mut ticks| ticks.next()).expect("one tick")
    }

    #[test]
    fn where_no_queue_is_read_unanswered_syns_without_retransmission_are_attempts() {
        let around = PollContext { unread: true, ..around(Mode::Observe) };
        // SYNs a tick: answered, refused, completed, retransmitted and those among these with a client's timing; and
        // attempts at last.
        for ([answered, refused, completed, retransmitted, timed], attempts) in [
            ([5, 0, 5, 0, 0], 100),
            ([5, 0, 5, 40, 40], 5),
            ([5, 0, 5, 100, 0], 100),
            ([5, 95, 5, 0, 0], 5),
            ([50, 0, 100, 0, 0], 50),
        ] {
            let mut counter_delta = CounterDelta::start(ListenerCounters::default());
            let mut last = 0;
            for tick in 1..=20 {
                let counters = ListenerCounters {
                    syn: (100 + retransmitted) * tick,
                    syn_retransmit: retransmitted * tick,
                    syn_retransmit_timed: timed * tick,
                    syn_ack: answered * tick,
                    refused: refused * tick,
                    acknowledged: completed * tick,
                    ..ListenerCounters::default()
                };
                let mut ticks = counter_delta.ticks(&counters, &around).expect("counters go on");
                last = ticks.next().expect("a tick").attempts;
            }
            assert_eq!(last, attempts, "{answered} {refused} {completed} {retransmitted} {timed}");
        }
    }

    #[test]
    fn polls_that_were_left_out_because_nothing_came_pass_like_any_other() {
        let unread = PollContext { unread: true, ..around(Mode::Observe) };
        let counters = ListenerCounters { syn: 100, ..ListenerCounters::default() };
        let mut counter_delta = CounterDelta::start(ListenerCounters::default());
        let mut attempts = |elapsed| {
            let around = PollContext { elapsed, ..unread };
            let ticks = counter_delta.ticks(&counters, &around).expect("counters go on");
            ticks.map(|tick| tick.attempts).sum::<u64>()
        };
        assert_eq!(attempts(POLL), 0, "a client would not have retransmitted yet");
        assert_eq!(attempts(POLL * 8), 100);
        assert_eq!(attempts(POLL * 8), 0, "each counts once");
    }

    #[test]
    fn attempts_are_answered_syns_and_dropped_ones() {
        let counters = ListenerCounters {
            syn: 1000,
            syn_ack: 110,
            syn_ack_retransmit: 10,
            dropped_signature: 800,
            dropped_source: 50,
            ..ListenerCounters::default()
        };
        assert_eq!(one(counters, &around(Mode::Enforce)).attempts, 100 + 850);
    }

    #[test]
    fn a_client_that_retransmits_after_a_drop_is_one_attempt() {
        // A rule drops the first SYNs of ten clients, and lets ten retransmitted ones through.
        let ruled = ListenerCounters {
            syn: 20,
            syn_retransmit: 10,
            dropped_signature: 10,
            accepted_retransmits: 10,
            ..ListenerCounters::default()
        };
        let attempts = |counters| one(counters, &around(Mode::Enforce)).attempts;
        assert_eq!(attempts(ListenerCounters { syn_ack: 10, ..ruled }), 10);
        assert_eq!(attempts(ListenerCounters { cookies_sent: 10, ..ruled }), 10);
        assert_eq!(attempts(ruled), 10, "the queue is full, and what is dropped counts");
        // And five that are one too many, and five that were.
        let limited =
            ListenerCounters { syn: 30, syn_retransmit: 15, syn_ack: 15, limited: 5, ..ruled };
        assert_eq!(attempts(limited), 15);
        // Ten that are dropped as one too many, and twenty that pass when retransmitted, to a full queue.
        let again = ListenerCounters {
            syn: 30,
            syn_retransmit: 20,
            limited: 10,
            ..ListenerCounters::default()
        };
        assert_eq!(attempts(again), 10);
    }

    #[test]
    fn in_observe_mode_matched_syns_are_answered_too_and_count_once() {
        let counters = ListenerCounters {
            syn: 1000,
            syn_ack: 1000,
            dropped_signature: 800,
            ..ListenerCounters::default()
        };
        let tick = one(counters, &around(Mode::Observe));
        assert_eq!((tick.attempts, tick.answered), (1000, 1000));
        assert_eq!((tick.matched, tick.dropped), (800, 0));
    }

    #[test]
    fn repeated_syn_acks_of_a_past_flood_are_no_attempts() {
        let mut counter_delta = CounterDelta::start(ListenerCounters::default());
        let around = around(Mode::Observe);
        let mut counters =
            ListenerCounters { syn: 500, syn_ack: 500, ..ListenerCounters::default() };
        let attempts = |counter_delta: &mut CounterDelta, counters: &ListenerCounters| {
            counter_delta
                .ticks(counters, &around)
                .and_then(|mut t| t.next())
                .map(|tick| tick.attempts)
        };
        assert_eq!(attempts(&mut counter_delta, &counters), Some(500));
        counters.syn_ack += 500;
        assert_eq!(attempts(&mut counter_delta, &counters), Some(0));
    }

    /// Fragments of eight bytes, of which the stack makes SYNs.
    #[test]
    fn replies_to_syns_in_unread_frames_count_as_far_as_frames_explain_them() {
        let counters = ListenerCounters { syn: 10, syn_ack: 510, ..ListenerCounters::default() };
        for (beyond, answered) in [(0, 0), (300, 300), (1000, 500)] {
            let tick = one(counters, &PollContext { beyond, ..around(Mode::Observe) });
            assert_eq!((tick.attempts, tick.beyond), (10, answered), "{beyond}");
        }
        let retransmitted = ListenerCounters { syn_ack_retransmit: 500, ..counters };
        let tick = one(retransmitted, &PollContext { beyond: 1000, ..around(Mode::Observe) });
        assert_eq!(tick.beyond, 0, "a repetition answers nothing new");
    }

    #[test]
    fn a_syn_at_the_end_of_a_tick_may_be_answered_in_the_next_but_only_once() {
        let mut counter_delta = CounterDelta::start(ListenerCounters::default());
        let around = around(Mode::Observe);
        let mut counters = ListenerCounters { syn: 3, syn_ack: 1, ..ListenerCounters::default() };
        let attempts = |counter_delta: &mut CounterDelta, counters: &ListenerCounters| {
            counter_delta
                .ticks(counters, &around)
                .and_then(|mut t| t.next())
                .map(|tick| tick.attempts)
        };
        assert_eq!(attempts(&mut counter_delta, &counters), Some(1));
        counters.syn_ack += 5;
        assert_eq!(attempts(&mut counter_delta, &counters), Some(2));
        counters.syn_ack += 5;
        assert_eq!(attempts(&mut counter_delta, &counters), Some(0));
    }

    #[test]
    fn unanswered_syns_count_as_far_as_full_queues_explain_them() {
        let counters = ListenerCounters {
            syn: 1000,
            syn_retransmit: 100,
            syn_ack: 128,
            ..ListenerCounters::default()
        };
        let quiet = around(Mode::Observe);
        let attempts = |around: PollContext| one(counters, &around).attempts;
        assert_eq!(attempts(quiet), 128, "a firewall may have dropped them");
        assert_eq!(attempts(PollContext { queue_drops: Some(300), ..quiet }), 128 + 300);
        assert_eq!(attempts(PollContext { queue_drops: Some(5000), ..quiet }), 900);
        assert_eq!(attempts(PollContext { queue_full: true, ..quiet }), 900);
        let overflowing = PollContext { queue_drops: None, queue_full: true, ..quiet };
        assert_eq!(attempts(overflowing), 128, "the application does not accept");
    }

    #[test]
    fn where_answers_are_not_seen_every_syn_that_is_no_repetition_is_an_attempt() {
        let counters =
            ListenerCounters { syn: 1000, syn_retransmit: 100, ..ListenerCounters::default() };
        let around = PollContext { one_sided: true, ..around(Mode::Observe) };
        assert_eq!(one(counters, &around).attempts, 900);
    }

    #[test]
    fn where_answers_leave_unseen_syns_are_attempts_if_completions_are_known() {
        for (established, listens, attempts) in
            [(true, true, 100), (false, true, 0), (true, false, 0)]
        {
            let queues = listens.then_some(Queues { half_open: None, accept: 0, backlog: 128 });
            let around = PollContext { queues, ..around(Mode::Observe) };
            let at = |count| established.then_some(count);
            let mut counter_delta = CounterDelta::start(ListenerCounters {
                established: at(0),
                ..ListenerCounters::default()
            });
            let mut last = 0;
            for tick in 1..=20 {
                let counters = ListenerCounters {
                    syn: 100 * tick,
                    acknowledged: 50 * tick,
                    established: at(50 * tick),
                    ..ListenerCounters::default()
                };
                let around = PollContext { at: around.at + POLL * tick as u32, ..around };
                let mut ticks = counter_delta.ticks(&counters, &around).expect("counters go on");
                last = ticks.next().expect("a tick").attempts;
            }
            assert_eq!(last, attempts, "completions known: {established}, a socket: {listens}");
        }
    }

    #[test]
    fn only_completions_known_by_sample_are_uncertain() {
        let around = PollContext { sample_shift: 3, ..around(Mode::Observe) };
        let sampled = ListenerCounters { acknowledged: 80, ..ListenerCounters::default() };
        assert_eq!(one(sampled, &around).variance, 560);
        let mut counter_delta =
            CounterDelta::start(ListenerCounters { established: Some(0), ..Default::default() });
        let traced = ListenerCounters { established: Some(80), ..sampled };
        let tick = counter_delta.ticks(&traced, &around).and_then(|mut ticks| ticks.next());
        assert_eq!(tick.map(|tick| tick.variance), Some(0));
    }

    #[test]
    fn missed_polls_become_averages_that_lose_nothing() {
        let mut counter_delta = CounterDelta::start(ListenerCounters::default());
        let around = PollContext { elapsed: POLL * 4, ..around(Mode::Observe) };
        let counters = ListenerCounters { syn: 10, syn_ack: 10, ..ListenerCounters::default() };
        let ticks: Vec<Tick> =
            counter_delta.ticks(&counters, &around).expect("no restart").collect();
        assert_eq!(ticks.iter().map(|tick| tick.attempts).collect::<Vec<_>>(), [2, 3, 2, 3]);
        assert!(ticks.iter().all(|tick| !tick.gap && tick.span == POLL), "late, not too late");
        assert_eq!(ticks[3].end, around.at);
        assert_eq!(ticks[0].end, around.at - POLL * 3);
        let long = PollContext { elapsed: POLL * 9, ..around };
        let counters = ListenerCounters { syn: 20, ..counters };
        let mut ticks = counter_delta.ticks(&counters, &long).expect("no restart");
        assert!(ticks.all(|tick| tick.gap), "too late to be judged");
    }

    #[test]
    fn a_counter_that_goes_backwards_is_a_restart() {
        let mut counter_delta =
            CounterDelta::start(ListenerCounters { syn: 10, ..ListenerCounters::default() });
        assert!(
            counter_delta.ticks(&ListenerCounters::default(), &around(Mode::Observe)).is_none()
        );
    }
}
