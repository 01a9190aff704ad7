//! Doubt about counts that the routes of unanswered sources may explain.

use std::time::Duration;

use crate::input::{Home, Routes, Timestamp};

/// Time for which routes of sources hold: the sources of a flood may be others a moment later. It is the
/// interval of inspections in an incident, so that the kernel is not asked twice about the same sources.
const FRESH: Duration = Duration::from_secs(1);
/// Time for which the last routes are used while they are asked for again: three inspections, because one
/// may be late, and one may find no unanswered source that is old enough.
const USED: Duration = Duration::from_secs(3);
/// Time after which they are asked for again where they explained nothing: as often as the flows are inspected in
/// calm.
const PAUSE: Duration = Duration::from_secs(5);

/// Time without a question after which a proof lapses. There is none before a source has been without a reply
/// for a poll, and an inspection asks about three listeners. A flood of many listeners, or one in bursts,
/// would otherwise prove by counts a claim that no route supports.
const LAPSES: Duration = Duration::from_secs(2);

/// Replies that have left unseen, according to counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    at: Timestamp,
    answers: u64,
    /// Number of such replies that is a proof.
    needed: u64,
    /// True if routes of unanswered sources were asked for since.
    asked: bool,
}

impl Proof {
    /// Returns the proof that so many replies were sent unseen, if they are enough for one.
    pub fn new(at: Timestamp, answers: u64, needed: u64) -> Option<Self> {
        (answers >= needed).then_some(Self { at, answers, needed, asked: false })
    }

    /// Returns whether it is a proof without the replies that left unseen because of their sources: all but this share.
    fn stands(&self, ordinary: f64) -> bool {
        self.answers as f64 * ordinary >= self.needed as f64
    }
}

/// State of the sources of unanswered SYNs. Most listeners never have any.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt {
    /// The proof that the routes may explain.
    proof: Option<Proof>,
    /// Time at which routes were last asked for.
    pub asked: Option<Timestamp>,
    /// The last routes, and the time at which they were received.
    routes: Option<(Timestamp, Routes)>,
    /// Last time at which the stack was known to take SYNs to which no reply is seen.
    taken: Option<Timestamp>,
}

impl Doubt {
    /// Notes that the stack takes SYNs to which no reply is seen.
    pub fn note_taken(&mut self, now: Timestamp) {
        self.taken = Some(now);
    }

    /// Returns whether the stack took such SYNs within this time.
    pub fn has_taken(&self, now: Timestamp, within: Duration) -> bool {
        self.taken.is_some_and(|taken| now.since(taken) <= within)
    }

    /// Forgets the counted proofs.
    pub fn clear(&mut self) {
        (self.proof, self.taken) = (None, None);
    }

    /// Returns whether one of these proofs stands; `None` until the routes say so. A proof stands if no response came
    /// to the question of an earlier poll.
    pub fn weigh(&mut self, now: Timestamp, counted: &[Proof]) -> Option<bool> {
        let fresh = self.routes_within(now, FRESH).and_then(|routes| routes.ordinary);
        if let Some(ordinary) = fresh {
            self.proof = None;
            return Some(counted.iter().any(|proof| proof.stands(ordinary)));
        }
        if self.proof.is_some_and(|proof| proof.asked) {
            self.proof = None;
            return Some(true);
        }
        self.proof = self.proof.filter(|proof| now.since(proof.at) < LAPSES);
        let ratio = |proof: &Proof| proof.answers as f64 / proof.needed as f64;
        let strongest = counted.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        self.proof = self.proof.or(strongest.copied());
        if self.proof.is_some() { None } else { Some(false) }
    }

    /// Returns whether a proof waits for the routes.
    pub fn waits(&self) -> bool {
        self.proof.is_some()
    }

    /// Returns whether it is time to ask for routes.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let explain = self.routes.is_some_and(|(_, routes)| routes.hidden > 0.0);
        let pause = if explain { FRESH } else { PAUSE };
        self.asked.is_none_or(|asked| now.since(asked) >= pause)
    }

    /// Notes that routes are being asked for, those of so many unanswered sources among them.
    pub fn ask(&mut self, now: Timestamp, unanswered: usize) {
        self.asked = Some(now);
        if let Some(proof) = &mut self.proof {
            proof.asked |= unanswered > 0;
        }
    }

    /// Takes over the routes. Returns whether a proof that has waited for them stands.
    pub fn learn(&mut self, now: Timestamp, routes: Routes) -> bool {
        self.routes = Some((now, routes));
        let Some(ordinary) = routes.ordinary else { return false };
        self.proof.take().is_some_and(|proof| proof.stands(ordinary))
    }

    /// The routes, if they are no older than this.
    pub fn routes_within(&self, now: Timestamp, within: Duration) -> Option<&Routes> {
        self.routes.as_ref().filter(|(at, _)| now.since(*at) <= within).map(|(_, routes)| routes)
    }

    /// Returns the routes, if they are recent enough to be used.
    pub fn routes(&self, now: Timestamp) -> Option<&Routes> {
        self.routes_within(now, USED)
    }

    /// Returns the way by which replies to clients leave, as clients have shown it.
    pub fn shown(&self) -> Home {
        self.routes.map_or(Home::Unknown, |(_, routes)| routes.shown)
    }
}
