//! One sender, as a receiver knows it.

use std::collections::BTreeMap;

use tcpguard_common::abi::Bucket;
use tcpguard_engine::Timestamp;

use super::bounds::{Bounds, FAULT_WINDOW, MAX_FAULTS, MUTED, REPLAY_MEMORY};
use super::reason::{Reason, Refusals};
use crate::document::{Envelope, Kind};

/// One sender, as a receiver knows it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Time of its last document, accepted or not.
    touched: Timestamp,
    documents: Bucket,
    announcements: Bucket,
    /// The last accepted document of each kind.
    last: BTreeMap<Kind, Last>,
    /// Lead of its clock, in ms, by its last accepted document.
    skew_ms: Option<i64>,
    refused: Refusals,
    /// Begin of the window in which faults are counted.
    window: Timestamp,
    faults: u32,
    muted_until: Option<Timestamp>,
}

/// The last accepted document of a kind.
#[derive(Clone, Copy, Debug)]
struct Last {
    boot: u64,
    seq: u64,
    at: Timestamp,
}

impl Peer {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            touched: now,
            documents: Bucket::default(),
            announcements: Bucket::default(),
            last: BTreeMap::new(),
            skew_ms: None,
            refused: Refusals::default(),
            window: now,
            faults: 0,
            muted_until: None,
        }
    }

    /// Lead of its clock over that of this host, in ms, the time on the way included. `None` before its first
    /// accepted document.
    pub const fn skew_ms(&self) -> Option<i64> {
        self.skew_ms
    }

    /// Its refused documents.
    pub const fn refused(&self) -> &Refusals {
        &self.refused
    }

    /// Returns whether its documents are dropped unread.
    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.muted_until.is_some_and(|until| now < until)
    }

    /// Returns whether nothing that is known of it matters any longer.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.touched) >= REPLAY_MEMORY && !self.is_muted(now)
    }

    /// Accounts for a document of this kind, before it is read.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        kind: Kind,
        bounds: &Bounds,
    ) -> Result<(), Reason> {
        self.touched = now;
        if self.is_muted(now) {
            return Err(Reason::Muted);
        }
        let (bucket, rate) = match kind {
            Kind::Announced => (&mut self.announcements, bounds.controller),
            _ => (&mut self.documents, bounds.peer),
        };
        match bucket.take(now.as_nanos(), rate) {
            true => Ok(()),
            false => Err(Reason::Rate),
        }
    }

    /// Compares a document with the last of its kind, and remembers it. `skew_ms` is the lead of the sender's clock.
    pub(super) fn accept(
        &mut self,
        now: Timestamp,
        kind: Kind,
        envelope: &Envelope,
        skew_ms: i64,
    ) -> Result<(), Reason> {
        let Envelope { boot, seq, .. } = *envelope;
        let last = self.last.get(&kind).filter(|last| now.since(last.at) < REPLAY_MEMORY);
        if last.is_some_and(|last| (boot, seq) <= (last.boot, last.seq)) {
            return Err(Reason::Replayed);
        }
        self.last.insert(kind, Last { boot, seq, at: now });
        self.skew_ms = Some(skew_ms);
        Ok(())
    }

    /// Counts a refused document. Too many by its own fault, and it is muted.
    pub(super) fn refuse(&mut self, now: Timestamp, reason: Reason) {
        self.refused.count(reason);
        if !reason.is_by_sender() {
            return;
        }
        if now.since(self.window) >= FAULT_WINDOW {
            (self.window, self.faults) = (now, 0);
        }
        self.faults += 1;
        if self.faults > MAX_FAULTS {
            self.muted_until = Some(now + MUTED);
            (self.window, self.faults) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::document::tests::envelope;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn accept(peer: &mut Peer, now: Timestamp, boot: u64, seq: u64) -> Result<(), Reason> {
        let envelope = Envelope { boot, ..envelope(7, seq) };
        peer.accept(now, Kind::Host, &envelope, 0)
    }

    #[test]
    fn only_a_newer_document_is_accepted() {
        let mut peer = Peer::new(START);
        assert_eq!(accept(&mut peer, START, 5, 10), Ok(()));
        assert_eq!(accept(&mut peer, START, 5, 10), Err(Reason::Replayed), "a copy");
        assert_eq!(accept(&mut peer, START, 5, 9), Err(Reason::Replayed), "an older one");
        assert_eq!(accept(&mut peer, START, 4, 11), Err(Reason::Replayed), "of an earlier run");
        assert_eq!(accept(&mut peer, START, 6, 1), Ok(()), "of a later run");
        let other = peer.accept(START, Kind::Signature, &envelope(7, 1), 0);
        assert_eq!(other, Ok(()), "another kind has an order of its own");
    }

    /// A host whose clock was ahead at its start is heard again when that run is forgotten.
    #[test]
    fn the_order_is_forgotten_once_copies_are_refused_by_their_time() {
        let mut peer = Peer::new(START);
        assert_eq!(accept(&mut peer, START, 9, 10), Ok(()));
        let before = START + REPLAY_MEMORY - Duration::from_millis(1);
        assert_eq!(accept(&mut peer, before, 5, 1), Err(Reason::Replayed));
        assert_eq!(accept(&mut peer, START + REPLAY_MEMORY, 5, 1), Ok(()));
    }

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let mut peer = Peer::new(START);
        let mut passed = |kind, seconds: u64| {
            let now = START + Duration::from_secs(seconds);
            (0..1000).filter(|_| peer.receive(now, kind, &Bounds::EDGE).is_ok()).count()
        };
        assert_eq!(passed(Kind::Host, 0), 20);
        assert_eq!(passed(Kind::Host, 1), 2);
        assert_eq!(passed(Kind::Announced, 1), 160, "counted by themselves");
    }

    #[test]
    fn a_sender_of_garbage_is_muted_for_ten_minutes() {
        let mut peer = Peer::new(START);
        (0..MAX_FAULTS).for_each(|_| peer.refuse(START, Reason::Malformed));
        (0..1000).for_each(|_| peer.refuse(START, Reason::TotalRate));
        assert!(!peer.is_muted(START), "as many as may be, and others are not its fault");
        peer.refuse(START, Reason::Malformed);
        assert!(peer.is_muted(START) && !peer.is_muted(START + MUTED));
        assert_eq!(peer.receive(START, Kind::Host, &Bounds::EDGE), Err(Reason::Muted));
        assert!(!peer.is_stale(START + REPLAY_MEMORY - Duration::from_secs(1)));
        assert!(peer.is_stale(START + REPLAY_MEMORY));
    }

    #[test]
    fn a_fault_now_and_then_mutes_no_sender() {
        let mut peer = Peer::new(START);
        for second in 0..3600 {
            let now = START + Duration::from_secs(second);
            peer.refuse(now, Reason::ClockSkew);
            assert!(!peer.is_muted(now), "{second} s");
        }
        assert_eq!(peer.refused().of(Reason::ClockSkew), 3600);
    }
}
