//! The egress check: whether the SYN-ACKs of a listener leave by an attached interface.
//!
//! A host may send by another interface than it receives on: by policy routing, behind a load balancer that
//! has the servers reply directly, or because only one of two interfaces is attached. Then a flood has no
//! SYN-ACKs to count. Missing replies are no proof of that, because a firewall may drop the SYNs. A reply
//! that was sent and not seen is proof.
//!
//! Clients that complete handshakes are a proof that costs an attacker handshakes. Counts are one that costs
//! an attacker nothing: SYNs that claim to come from behind another interface, or from a neighbour that does
//! not exist, get unseen replies on any host. So the kernel is asked for the routes of replies to unanswered
//! sources (`input::routes`). Of the counts, only the part that leaves as replies to clients do is a proof.

mod doubt;

use std::collections::VecDeque;
use std::time::Duration;

use self::doubt::{Doubt, Proof};
use crate::input::{Home, ListenerCounters, Queues, Routes, Timestamp};

/// Span over which SYN-ACKs are compared with the counts that prove them.
const SPAN: Duration = Duration::from_secs(4);
/// Number of replies that must have left and were not seen from which it is no chance: a client's handshake may end
/// by another way than it began.
const PROOF: u64 = 32;
/// SYNs without any SYN-ACK from which the queue is worth a count, and a host's cookies are held to be
/// their answers; and SYNs left unanswered from which their routes are worth a question.
const UNANSWERED: u64 = 64;
/// Number of SYNs of which at most one is left without a reply by chance. Counters are read while SYNs arrive, and
/// one that comes in the millisecond before gets its reply after it: of a poll's 250 ms that is one in 250. Eight
/// times as many are no chance, whatever delays a reply.
const BY_CHANCE: u64 = 32;
/// Time after which a full queue without a SYN-ACK is a proof, unless the routes are one before. The kernel
/// retransmits SYN-ACKs 1, 3 and 7 s after the SYN, and gives up entries of a full queue after two
/// retransmissions, so that others get in.
const STANDING: Duration = Duration::from_secs(8);
/// Time without proof of the contrary after which the replies are seen again.
const HELD: Duration = Duration::from_secs(30);
/// Half-open handshakes from which the stack is assumed to take SYNs to which no reply is seen. Fewer are
/// those of clients, and raise no alarm either (`occupancy_min`). A packet filter that drops such SYNs leaves
/// none.
const TAKEN: u32 = 16;

/// State of the test whether the SYN-ACKs of a listener leave by an attached interface.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    /// No SYN-ACK was seen, and nothing shows that there was any.
    #[default]
    Unknown,
    /// The SYN-ACKs leave by an attached interface.
    Seen,
    /// The SYN-ACKs leave by an interface that is not attached.
    Unseen,
}

/// Counts of one poll.
#[derive(Clone, Copy, Debug)]
struct Poll {
    at: Timestamp,
    syns: u64,
    syn_acks: u64,
    /// Handshakes of SYNs that were seen here.
    completed: u64,
    /// Cookies of the kernel that no SYN-ACK of any listener accounts for.
    cookies: u64,
    /// SYNs that went to the stack, were no retransmissions, and got no reply that was seen.
    unanswered: u64,
}

impl Poll {
    /// Returns whether nothing was counted, so that the poll adds nothing to any sum.
    fn is_blank(&self) -> bool {
        let Self { at: _, syns, syn_acks, completed, cookies, unanswered } = self;
        [syns, syn_acks, completed, cookies, unanswered] == [&0; 5]
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
pub(crate) struct EgressCheck {
    /// Polls that were not blank.
    polls: VecDeque<Poll>,
    count: Option<Count>,
    /// Time since which handshakes stand in the queue without a SYN-ACK.
    standing: Option<Timestamp>,
    verdict: Egress,
    /// Time of the last proof that replies leave unseen.
    proven: Timestamp,
    doubt: Option<Box<Doubt>>,
}

impl EgressCheck {
    /// Judges the counts since the last poll. `cookies` are the kernel's own that no listener's SYN-ACKs
    /// account for, `unanswered` the SYNs that went to the stack and to which no reply was seen.
    ///
    /// Handshakes that are completed by tcpguard's cookies have no SYN-ACK of the stack's. While such cookies
    /// go out, only one thing is learned: tcpguard knew how to reply, so it has seen the listener's own
    /// replies, in this run or an earlier one.
    pub fn poll(
        &mut self,
        now: Timestamp,
        delta: &ListenerCounters,
        queues: &Queues,
        cookies: u64,
        unanswered: u64,
    ) {
        if delta.cookies_sent > 0 {
            self.polls.clear();
            (self.count, self.standing) = (None, None);
            if let Some(doubt) = &mut self.doubt {
                doubt.clear();
            }
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
            unanswered,
        };
        if !poll.is_blank() {
            self.polls.push_back(poll);
        }
        while self.polls.front().is_some_and(|first| now.since(first.at) > SPAN) {
            self.polls.pop_front();
        }
        let grown = self.grown(now, delta.syn_ack, queues);
        let (syns, syn_acks) = (self.sum(|poll| poll.syns), self.sum(|poll| poll.syn_acks));
        let (completed, cookies) = (self.sum(|poll| poll.completed), self.sum(|poll| poll.cookies));
        let silent = syns >= UNANSWERED && syn_acks == 0;
        let sent = Proof::new(now, cookies, PROOF.max(syns / 2)).filter(|_| silent);
        let stands = self.stands(now, delta.syn_ack, queues).filter(|_| silent);
        if cookies >= PROOF || queues.half_open.is_some_and(|half_open| half_open >= TAKEN) {
            self.doubt.get_or_insert_default().note_taken(now);
        }
        let counted = [grown, sent, stands].into_iter().flatten().collect::<Vec<_>>();
        let by_clients = completed >= PROOF.max(2 * syn_acks);
        let by_counts = self.weigh(now, &counted);
        if by_clients || by_counts == Some(true) {
            (self.verdict, self.proven) = (Egress::Unseen, now);
        } else if by_counts.is_some()
            && syn_acks > 0
            && (self.verdict != Egress::Unseen || now.since(self.proven) >= HELD)
        {
            self.verdict = Egress::Seen;
        }
    }

    fn sum(&self, count: fn(&Poll) -> u64) -> u64 {
        self.polls.iter().map(count).sum()
    }

    /// Returns whether one of these proofs stands; `None` until the routes say so.
    fn weigh(&mut self, now: Timestamp, counted: &[Proof]) -> Option<bool> {
        if counted.is_empty() && self.doubt.is_none() {
            return Some(false);
        }
        self.doubt.get_or_insert_default().weigh(now, counted)
    }

    /// The proof that handshakes stand in the queue and no SYN-ACK has been sent, not even a retransmitted
    /// one, for as long as the kernel takes at most. A queue that was full from the start no longer grows.
    /// Where the routes say that replies leave elsewhere, both those to clients and those to most of these
    /// sources, there is no need to wait for the kernel's retransmission.
    fn stands(&mut self, now: Timestamp, syn_acks: u64, queues: &Queues) -> Option<Proof> {
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
        let since = self.standing?;
        let half_open = self.count.map_or(0, |count| count.half_open.into());
        let routes = self.doubt.as_deref().and_then(|doubt| doubt.routes(now));
        let is_known = routes.is_some_and(Routes::blame_the_listener);
        Proof::new(now, half_open, PROOF).filter(|_| is_known || now.since(since) >= STANDING)
    }

    /// Returns the proof that the queue has taken more handshakes since the last count than SYN-ACKs were seen.
    fn grown(&mut self, now: Timestamp, syn_acks: u64, queues: &Queues) -> Option<Proof> {
        if let Some(count) = &mut self.count {
            count.syn_acks += syn_acks;
        }
        let half_open = queues.half_open?;
        let last = self.count.replace(Count { half_open, syn_acks: 0 })?;
        let grown = u64::from(half_open.saturating_sub(last.half_open));
        Proof::new(now, grown, PROOF.max(2 * last.syn_acks))
    }

    /// Returns the verdict.
    pub fn verdict(&self) -> Egress {
        self.verdict
    }

    /// Returns whether a count of the queue would help to decide: there are many SYNs, and replies are missing.
    pub fn asks_for_count(&self) -> bool {
        let silent =
            || self.sum(|poll| poll.syns) >= UNANSWERED && self.sum(|poll| poll.syn_acks) == 0;
        self.verdict != Egress::Unseen && (silent() || self.leaves_many_unanswered())
    }

    /// Returns whether many SYNs have been left without an answer, of those that have had a poll's time.
    fn leaves_many_unanswered(&self) -> bool {
        let before = self.polls.iter().rev().skip(1);
        let unanswered = before.map(|poll| poll.unanswered).sum::<u64>();
        unanswered >= UNANSWERED && unanswered * BY_CHANCE >= self.sum(|poll| poll.syns)
    }

    /// Returns whether the verdict waits for the routes of unanswered sources.
    pub fn waits_for_routes(&self) -> bool {
        self.doubt.as_deref().is_some_and(Doubt::waits)
    }

    /// Returns whether these routes would help to decide.
    pub fn asks_for_routes(&self, now: Timestamp) -> bool {
        let worth = self.verdict != Egress::Unseen
            && self.leaves_many_unanswered()
            && self.doubt.as_deref().is_none_or(|doubt| doubt.is_due(now));
        worth || self.waits_for_routes()
    }

    /// Returns the time at which routes were last asked for.
    pub fn routes_asked(&self) -> Option<Timestamp> {
        self.doubt.as_deref().and_then(|doubt| doubt.asked)
    }

    /// Notes that routes are being asked for, those of so many unanswered sources among them.
    pub fn ask_routes(&mut self, now: Timestamp, unanswered: usize) {
        self.doubt.get_or_insert_default().ask(now, unanswered);
    }

    /// Takes over the routes.
    pub fn learn_routes(&mut self, now: Timestamp, routes: Routes) {
        let doubt = self.doubt.get_or_insert_default();
        let stands = doubt.learn(now, routes);
        // The replies to SYNs that the stack takes would be seen: a queue that was full from the start sends
        // none.
        let takes = routes.home == Home::Attached && doubt.has_taken(now, STANDING);
        if stands {
            (self.verdict, self.proven) = (Egress::Unseen, now);
        } else if self.verdict == Egress::Unknown && (takes || routes.blame_the_sources()) {
            self.verdict = Egress::Seen;
        }
    }

    /// The last routes, if they are not old.
    pub fn routes(&self, now: Timestamp) -> Option<&Routes> {
        self.doubt.as_deref().and_then(|doubt| doubt.routes_within(now, HELD))
    }

    /// Returns the way by which replies to clients leave, as clients have shown it.
    pub fn shown(&self) -> Home {
        self.doubt.as_deref().map_or(Home::Unknown, Doubt::shown)
    }

    /// Share of the SYNs without a reply seen that the stack has answered by another way than an attached
    /// interface.
    pub fn hidden(&self, now: Timestamp) -> f64 {
        let doubt = self.doubt.as_deref().filter(|_| self.verdict != Egress::Unseen);
        let doubt = doubt.filter(|doubt| doubt.has_taken(now, STANDING));
        doubt.and_then(|doubt| doubt.routes(now)).map_or(0.0, |routes| routes.hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that is polled every 250 ms.
    struct Polled {
        egress_check: EgressCheck,
        now: Timestamp,
        /// SYNs in each poll that get no answer and are no proof of anything.
        unanswered: u64,
        /// The result when routes are asked for; `None`: no response comes.
        routes: Option<Routes>,
        /// Number of unanswered sources among those for which routes are asked.
        about: usize,
    }

    /// Answers to clients would be seen, those to the unanswered sources leave elsewhere.
    const SPOOFED: Routes = Routes {
        home: Home::Attached,
        shown: Home::Unknown,
        ordinary: Some(0.0),
        hidden: 1.0,
        unreachable: 1.0,
    };
    /// All answers leave elsewhere.
    const ASYMMETRIC: Routes =
        Routes { home: Home::Elsewhere, ordinary: Some(1.0), unreachable: 0.0, ..SPOOFED };

    impl Polled {
        /// Returns a listener for which routes say nothing.
        fn new() -> Self {
            Self::with(Some(Routes::default()))
        }

        fn with(routes: Option<Routes>) -> Self {
            let now = Timestamp::from_millis(1_000_000);
            Self { egress_check: EgressCheck::default(), now, unanswered: 0, routes, about: 64 }
        }

        /// Makes so many polls with these counts: SYNs, SYN-ACKs, completed, half-open, cookies. Returns the verdict.
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
                self.egress_check.poll(self.now, &delta, &queues, cookies, self.unanswered);
                if self.egress_check.asks_for_routes(self.now) {
                    self.egress_check.ask_routes(self.now, self.about);
                    if let Some(routes) = self.routes {
                        self.egress_check.learn_routes(self.now, routes);
                    }
                }
            }
            self.egress_check.verdict()
        }
    }

    #[test]
    fn a_poll_that_counted_nothing_is_not_kept() {
        let mut polled = Polled::new();
        polled.polls(20, [0; 5]);
        assert!(polled.egress_check.polls.is_empty());
        polled.polls(1, [1, 0, 0, 0, 0]);
        polled.polls(3, [0; 5]);
        assert_eq!(polled.egress_check.polls.len(), 1);
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
            polled.egress_check.poll(polled.now, &delta, &Queues::default(), 0, 0);
        }
        assert_eq!(polled.egress_check.verdict(), Egress::Unknown, "of the host with itself");
    }

    #[test]
    fn unanswered_syns_alone_prove_nothing_but_ask_for_a_count() {
        let mut polled = Polled::new();
        assert_eq!(polled.polls(100, [1000, 0, 0, 0, 0]), Egress::Unknown, "a firewall");
        assert!(polled.egress_check.asks_for_count());
        assert_eq!(polled.polls(1, [1000, 1, 0, 0, 0]), Egress::Seen);
        assert!(!polled.egress_check.asks_for_count());
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
        // A retransmitted SYN-ACK in the meantime is seen.
        let mut seen = Polled::new();
        for _ in 0..4 {
            seen.polls(31, [1000, 0, 0, 128, 0]);
            assert_eq!(seen.polls(1, [1000, 128, 0, 128, 0]), Egress::Seen);
        }
    }

    /// A mitigation that relieves the queue may leave no eight seconds to wait.
    #[test]
    fn where_routes_lead_elsewhere_a_queue_that_was_full_from_the_start_proves_it_at_once() {
        let after = |routes| {
            let mut polled = Polled::with(Some(routes));
            polled.unanswered = 1000;
            polled.polls(3, [1000, 0, 0, 128, 0])
        };
        assert_eq!(after(ASYMMETRIC), Egress::Unseen);
        assert_eq!(after(Routes::default()), Egress::Unknown, "they say nothing");
        let some = Routes { hidden: 0.49, ..ASYMMETRIC };
        assert_eq!(after(some), Egress::Unknown, "most of the answers would be seen");
        assert_eq!(after(SPOOFED), Egress::Seen);
    }

    #[test]
    fn cookies_of_the_kernel_that_leave_unseen_prove_it_at_once() {
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
    fn while_cookies_answer_nothing_is_learned() {
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
            polled.egress_check.poll(polled.now, &delta, &Queues::default(), 0, 0);
        }
        assert_eq!(polled.egress_check.verdict(), Egress::Seen);
    }

    /// A flood of many listeners, or one in bursts too short to ask about, proves nothing by counts.
    #[test]
    fn a_proof_of_which_no_unanswered_source_was_asked_about_lapses() {
        let no_route = Routes { ordinary: None, ..Routes::default() };
        for routes in [None, Some(no_route)] {
            let mut polled = Polled::with(routes);
            polled.about = 0;
            polled.polls(1, [1, 1, 0, 1, 0]);
            assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), Egress::Seen, "{routes:?}");
            assert!(polled.egress_check.waits_for_routes());
            assert_eq!(polled.polls(40, [10, 10, 0, 128, 0]), Egress::Seen, "{routes:?}");
            assert!(!polled.egress_check.waits_for_routes());
        }
        let mut asked = Polled::with(None);
        asked.polls(1, [1, 1, 0, 1, 0]);
        asked.polls(1, [500, 15, 0, 128, 0]);
        assert_eq!(asked.polls(1, [10, 10, 0, 128, 0]), Egress::Unseen, "nobody answers");
    }

    /// Number of polls, and the counts of each.
    type Polls = (u32, [u64; 5]);

    /// Counts that prove unseen replies by themselves.
    const COUNTED: [(&str, &[Polls]); 3] = [
        ("a queue that grows", &[(1, [1, 1, 0, 1, 0]), (1, [500, 15, 0, 128, 0])]),
        ("cookies of the kernel", &[(1, [1000, 0, 0, 0, 900])]),
        ("a queue that stands", &[(33, [1000, 0, 0, 128, 0])]),
    ];

    #[test]
    fn sources_with_replies_elsewhere_make_no_listener_unseen() {
        for (name, polls) in COUNTED {
            let verdict = |routes| {
                let mut polled = Polled::with(Some(routes));
                polls
                    .iter()
                    .fold(Egress::Unknown, |_, (times, counts)| polled.polls(*times, *counts))
            };
            assert_eq!(verdict(Routes::default()), Egress::Unseen, "by counts alone: {name}");
            assert_eq!(verdict(SPOOFED), Egress::Seen, "{name}");
            assert_eq!(verdict(ASYMMETRIC), Egress::Unseen, "clients are answered there: {name}");
        }
    }

    #[test]
    fn clients_that_complete_unanswered_handshakes_prove_it_whatever_routes_say() {
        let mut polled = Polled::with(Some(SPOOFED));
        polled.unanswered = 1000;
        assert_eq!(polled.polls(8, [1010, 0, 10, 128, 0]), Egress::Unseen);
    }

    #[test]
    fn only_what_goes_where_clients_answers_go_is_a_proof() {
        for (ordinary, expected) in [(0.25, Egress::Seen), (0.26, Egress::Unseen)] {
            let mut polled = Polled::with(Some(Routes { ordinary: Some(ordinary), ..SPOOFED }));
            polled.polls(1, [1, 1, 0, 1, 0]);
            assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), expected, "{ordinary} of 127");
        }
    }

    #[test]
    fn where_the_route_of_replies_is_unknown_counts_decide_a_poll_later() {
        let mut polled = Polled::with(None);
        polled.polls(1, [1, 1, 0, 1, 0]);
        assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), Egress::Seen);
        assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), Egress::Unseen);
    }

    #[test]
    fn unanswered_syns_have_their_routes_asked_for_now_and_then() {
        let polled = Polled::with(None);
        assert!(!polled.egress_check.asks_for_routes(polled.now));
        // 64 of them in four seconds, and not one in a hundred by chance.
        for (unanswered, syns, asked) in [(3, 100, false), (4, 1000, false), (4, 100, true)] {
            let mut polled = Polled::with(None);
            polled.unanswered = unanswered;
            polled.polls(40, [syns, syns - unanswered, 0, 0, 0]);
            assert_eq!(
                polled.egress_check.routes_asked().is_some(),
                asked,
                "{unanswered} of {syns}"
            );
        }
        let times = |routes| {
            let mut polled = Polled::with(Some(routes));
            polled.unanswered = 100;
            let mut times = std::collections::BTreeSet::new();
            for _ in 0..80 {
                polled.polls(1, [200, 100, 0, 0, 0]);
                times.extend(polled.egress_check.routes_asked());
            }
            times.len()
        };
        assert_eq!((times(Routes::default()), times(SPOOFED)), (4, 20), "in 20 s");
    }

    #[test]
    fn what_is_answered_elsewhere_counts_while_the_stack_takes_it() {
        let mut polled = Polled::with(Some(SPOOFED));
        polled.unanswered = 100;
        let hidden = |polled: &Polled| polled.egress_check.hidden(polled.now);
        polled.polls(8, [200, 100, 0, 15, 0]);
        assert_eq!(hidden(&polled), 0.0, "a packet filter may drop it");
        polled.polls(1, [200, 100, 0, 16, 0]);
        assert_eq!(hidden(&polled), 1.0);
        polled.polls(32, [200, 100, 0, 0, 0]);
        assert_eq!(hidden(&polled), 1.0, "queues are counted every five seconds in calm");
        polled.polls(1, [200, 100, 0, 0, 0]);
        assert_eq!(hidden(&polled), 0.0);
        polled.polls(1, [200, 100, 0, 0, 2]);
        polled.polls(15, [200, 100, 0, 0, 2]);
        assert_eq!(hidden(&polled), 1.0, "cookies of the kernel");
    }
}
