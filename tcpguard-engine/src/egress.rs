//! Whether the answers of a listener leave where the guard sees them.
//!
//! A host may send by another interface than it receives on: by policy routing, behind a load balancer
//! that has the servers answer directly, or because only one of two interfaces is guarded. Then a flood
//! has no SYN-ACKs to count. That nobody is answered is no proof, because a firewall may drop the SYNs;
//! that somebody was, and it was not seen, is.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{ListenerCounters, Queues, Timestamp};

/// SYN-ACKs are set against what proves them over this span.
const SPAN: Duration = Duration::from_secs(4);
/// Answers that must have left and were not seen from which it is no chance: a client's handshake may
/// end by another way than it began.
const PROOF: u64 = 32;
/// SYNs without any SYN-ACK from which the queue is worth a count, and a host's cookies are held to be
/// their answers.
const UNANSWERED: u64 = 64;
/// A full queue without a SYN-ACK says so after this time. The kernel repeats answers 1, 3 and 7 s after
/// the SYN, and gives up entries of a full queue that it has repeated twice, so that others get in.
const STANDING: Duration = Duration::from_secs(8);
/// The answers are seen again when there was no proof of the contrary for so long.
const HELD: Duration = Duration::from_secs(30);

/// Whether the answers of a listener leave where the guard sees them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    /// None was seen, and nothing says that there was any.
    #[default]
    Unknown,
    /// They do.
    Seen,
    /// They leave by an interface that is not guarded.
    Unseen,
}

/// What one poll showed.
#[derive(Clone, Copy, Debug)]
struct Poll {
    at: Timestamp,
    syns: u64,
    syn_acks: u64,
    /// Handshakes of SYNs that were seen here.
    completed: u64,
    /// Cookies of the kernel that no SYN-ACK of any listener accounts for.
    cookies: u64,
}

impl Poll {
    /// Nothing was counted: it has nothing to add to any sum.
    fn is_blank(&self) -> bool {
        let Self { at: _, syns, syn_acks, completed, cookies } = self;
        [syns, syn_acks, completed, cookies] == [&0; 4]
    }
}

/// Half-open handshakes at the last count, and SYN-ACKs since.
#[derive(Clone, Copy, Debug)]
struct Count {
    half_open: u32,
    syn_acks: u64,
}

/// The last seconds of a listener's answers, and the verdict on them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// Those that were not blank.
    polls: VecDeque<Poll>,
    count: Option<Count>,
    /// Since when handshakes stand in the queue without a SYN-ACK.
    standing: Option<Timestamp>,
    verdict: Egress,
    /// When unseen answers were last proven.
    proven: Timestamp,
}

impl Answers {
    /// Judges what was counted since the last poll. `cookies` are the kernel's own that no listener's
    /// SYN-ACKs account for.
    ///
    /// Handshakes that are completed by the guard's cookies have no SYN-ACK of the stack's: while such
    /// cookies go out nothing is learned, but that the guard knew how to answer: it has seen the
    /// listener's own answers, in this run or an earlier one.
    pub fn poll(
        &mut self,
        now: Timestamp,
        delta: &ListenerCounters,
        queues: &Queues,
        cookies: u64,
    ) {
        if delta.cookies_sent > 0 {
            self.polls.clear();
            (self.count, self.standing) = (None, None);
            if self.verdict == Egress::Unknown {
                self.verdict = Egress::Seen;
            }
            return;
        }
        let poll = Poll {
            at: now,
            syns: delta.syn,
            syn_acks: delta.syn_ack,
            completed: delta.established.map_or(0, |_| delta.acknowledged),
            cookies,
        };
        if !poll.is_blank() {
            self.polls.push_back(poll);
        }
        while self.polls.front().is_some_and(|first| now.since(first.at) > SPAN) {
            self.polls.pop_front();
        }
        let grown = self.grown(delta.syn_ack, queues);
        let all = |count: fn(&Poll) -> u64| self.polls.iter().map(count).sum::<u64>();
        let (syns, syn_acks) = (all(|poll| poll.syns), all(|poll| poll.syn_acks));
        let (completed, cookies) = (all(|poll| poll.completed), all(|poll| poll.cookies));
        let silent = syns >= UNANSWERED && syn_acks == 0;
        let stands = self.stands(now, delta.syn_ack, queues);
        let proven = grown
            || completed >= PROOF.max(2 * syn_acks)
            || silent && (cookies >= PROOF.max(syns / 2) || stands);
        if proven {
            (self.verdict, self.proven) = (Egress::Unseen, now);
        } else if syn_acks > 0 && (self.verdict != Egress::Unseen || now.since(self.proven) >= HELD)
        {
            self.verdict = Egress::Seen;
        }
    }

    /// Whether handshakes stand in the queue and none has been answered, not even again, for as long as
    /// the kernel takes at most. A queue that was full from the start grows no more.
    fn stands(&mut self, now: Timestamp, syn_acks: u64, queues: &Queues) -> bool {
        match queues.half_open {
            Some(half_open) if u64::from(half_open) < PROOF => self.standing = None,
            Some(_) => {
                self.standing.get_or_insert(now);
            }
            None => {}
        }
        if syn_acks > 0 {
            self.standing = None;
        }
        self.standing.is_some_and(|since| now.since(since) >= STANDING)
    }

    /// Whether the queue has taken more handshakes since the last count than SYN-ACKs were seen.
    fn grown(&mut self, syn_acks: u64, queues: &Queues) -> bool {
        if let Some(count) = &mut self.count {
            count.syn_acks += syn_acks;
        }
        let Some(half_open) = queues.half_open else { return false };
        let last = self.count.replace(Count { half_open, syn_acks: 0 });
        last.is_some_and(|last| {
            let grown = u64::from(half_open.saturating_sub(last.half_open));
            grown >= PROOF.max(2 * last.syn_acks)
        })
    }

    /// The verdict.
    pub fn verdict(&self) -> Egress {
        self.verdict
    }

    /// Whether a count of the queue would tell more: many SYNs and no answer.
    pub fn asks_for_count(&self) -> bool {
        let syns: u64 = self.polls.iter().map(|poll| poll.syns).sum();
        self.verdict != Egress::Unseen
            && syns >= UNANSWERED
            && self.polls.iter().all(|poll| poll.syn_acks == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that is polled every 250 ms.
    struct Polled {
        answers: Answers,
        now: Timestamp,
    }

    impl Polled {
        fn new() -> Self {
            Self { answers: Answers::default(), now: Timestamp::from_millis(1_000_000) }
        }

        /// So many polls with these counts: SYNs, SYN-ACKs, completed, half-open, cookies.
        fn polls(&mut self, times: u32, counts: [u64; 5]) -> Egress {
            let [syn, syn_ack, acknowledged, half_open, cookies] = counts;
            let established = Some(acknowledged);
            let delta = ListenerCounters {
                syn,
                syn_ack,
                acknowledged,
                established,
                ..ListenerCounters::default()
            };
            let half_open = (half_open > 0).then_some(half_open as u32);
            let queues = Queues { half_open, accept: 0, backlog: 128 };
            for _ in 0..times {
                self.now = self.now + Duration::from_millis(250);
                self.answers.poll(self.now, &delta, &queues, cookies);
            }
            self.answers.verdict()
        }
    }

    #[test]
    fn a_poll_that_counted_nothing_is_not_kept() {
        let mut polled = Polled::new();
        polled.polls(20, [0; 5]);
        assert!(polled.answers.polls.is_empty());
        polled.polls(1, [1, 0, 0, 0, 0]);
        polled.polls(3, [0; 5]);
        assert_eq!(polled.answers.polls.len(), 1);
    }

    #[test]
    fn clients_that_complete_unanswered_handshakes_prove_it_within_seconds() {
        let mut polled = Polled::new();
        assert_eq!(polled.polls(3, [10, 0, 10, 0, 0]), Egress::Unknown, "30 may be chance");
        assert_eq!(polled.polls(1, [10, 0, 10, 0, 0]), Egress::Unseen);
        // One client every two seconds never does: nothing is to be protected there.
        let mut rare = Polled::new();
        for _ in 0..100 {
            assert_eq!(rare.polls(8, [0, 0, 0, 0, 0]), Egress::Unknown);
            assert_eq!(rare.polls(1, [1, 0, 1, 0, 0]), Egress::Unknown);
        }
    }

    #[test]
    fn connections_that_did_not_come_by_here_prove_nothing() {
        let mut polled = Polled::new();
        let delta = ListenerCounters { established: Some(100), ..ListenerCounters::default() };
        for _ in 0..40 {
            polled.now = polled.now + Duration::from_millis(250);
            polled.answers.poll(polled.now, &delta, &Queues::default(), 0);
        }
        assert_eq!(polled.answers.verdict(), Egress::Unknown, "of the host with itself");
    }

    #[test]
    fn unanswered_syns_alone_prove_nothing_but_ask_for_a_count() {
        let mut polled = Polled::new();
        assert_eq!(polled.polls(100, [1000, 0, 0, 0, 0]), Egress::Unknown, "a firewall");
        assert!(polled.answers.asks_for_count());
        assert_eq!(polled.polls(1, [1000, 1, 0, 0, 0]), Egress::Seen);
        assert!(!polled.answers.asks_for_count());
    }

    #[test]
    fn a_queue_that_takes_handshakes_without_a_syn_ack_proves_it() {
        let mut polled = Polled::new();
        polled.polls(1, [1, 0, 0, 1, 0]);
        assert_eq!(polled.polls(1, [1000, 0, 0, 128, 0]), Egress::Unseen);
        // Seen answers account for the growth.
        let mut seen = Polled::new();
        seen.polls(1, [1, 1, 0, 1, 0]);
        assert_eq!(seen.polls(1, [1000, 127, 0, 128, 0]), Egress::Seen);
    }

    #[test]
    fn a_queue_that_was_full_from_the_start_proves_it_after_eight_seconds() {
        let mut polled = Polled::new();
        assert_eq!(polled.polls(32, [1000, 0, 0, 128, 0]), Egress::Unknown);
        assert_eq!(polled.polls(1, [1000, 0, 0, 128, 0]), Egress::Unseen);
        // What is answered once more in the meantime is seen.
        let mut seen = Polled::new();
        for _ in 0..4 {
            seen.polls(31, [1000, 0, 0, 128, 0]);
            assert_eq!(seen.polls(1, [1000, 128, 0, 128, 0]), Egress::Seen);
        }
    }

    #[test]
    fn cookies_of_the_kernel_that_nobody_saw_leave_prove_it_at_once() {
        let mut polled = Polled::new();
        assert_eq!(polled.polls(1, [1000, 0, 0, 0, 900]), Egress::Unseen);
        let mut elsewhere = Polled::new();
        assert_eq!(elsewhere.polls(20, [1000, 0, 0, 0, 100]), Egress::Unknown, "of another port");
    }

    #[test]
    fn answers_are_seen_again_only_after_half_a_minute_without_proof() {
        let mut polled = Polled::new();
        assert_eq!(polled.polls(8, [10, 0, 10, 0, 0]), Egress::Unseen);
        // For as long as the window holds the old completions there is proof.
        assert_eq!(polled.polls(120, [10, 10, 10, 0, 0]), Egress::Unseen);
        assert_eq!(polled.polls(16, [10, 10, 10, 0, 0]), Egress::Seen);
        assert_eq!(polled.polls(1, [10, 10, 10, 0, 0]), Egress::Seen);
    }

    #[test]
    fn silence_changes_nothing() {
        let mut polled = Polled::new();
        polled.polls(8, [10, 0, 10, 0, 0]);
        assert_eq!(polled.polls(4000, [0, 0, 0, 0, 0]), Egress::Unseen);
    }

    #[test]
    fn while_the_guard_answers_nothing_is_learned() {
        let mut polled = Polled::new();
        polled.polls(4, [10, 10, 10, 0, 0]);
        let delta = ListenerCounters {
            syn: 100,
            cookies_sent: 100,
            acknowledged: 50,
            established: Some(50),
            ..ListenerCounters::default()
        };
        for _ in 0..40 {
            polled.now = polled.now + Duration::from_millis(250);
            polled.answers.poll(polled.now, &delta, &Queues::default(), 0);
        }
        assert_eq!(polled.answers.verdict(), Egress::Seen);
    }
}
