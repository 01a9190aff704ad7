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
/// Time for which clients can return a cookie: the kernel accepts its own ones for two minutes (`MAX_SYNCOOKIE_AGE`,
/// include/net/tcp.h), and tcpguard its own for 69 s.
const RETURNED: Duration = Duration::from_secs(120);
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
    /// Handshakes of SYNs that were seen here and that had a SYN-ACK of the stack's.
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
    /// Time at which tcpguard last sent a cookie.
    answered: Option<Timestamp>,
    doubt: Option<Box<Doubt>>,
}

impl EgressCheck {
    /// Judges the counts since the last poll. `cookies` are the kernel's own that no listener's SYN-ACKs
    /// account for, `unanswered` the SYNs that went to the stack and to which no reply was seen.
    ///
    /// Handshakes that are completed by tcpguard's cookies have no SYN-ACK of the stack's. While such cookies
    /// go out, only one thing is learned: tcpguard knew how to reply, so it has seen the listener's own
    /// replies, in this run or an earlier one. For as long as clients can return such cookies, completions
    /// prove nothing: an attacker that holds cookies back chooses the moment.
    pub fn poll(
        &mut self,
        now: Timestamp,
        delta: &ListenerCounters,
        queues: &Queues,
        cookies: u64,
        unanswered: u64,
    ) {
        if delta.cookies_sent > 0 {
            self.answered = Some(now);
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
        let is_by_cookie = self.answered.is_some_and(|at| now.since(at) < RETURNED);
        let poll = Poll {
            at: now,
            syns: delta.syn,
            syn_acks: delta.syn_ack,
            completed: delta
                .established
                .filter(|_| !is_by_cookie)
                .map_or(0, |_| delta.acknowledged),
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
mod tests;
