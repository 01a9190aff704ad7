//! Admission of documents: which of those that the bus delivers a host reads, and which it believes to be their
//! sender's.

use std::collections::BTreeMap;

use tcpguard_common::abi::{Bucket, Rate};
use tcpguard_engine::Timestamp;
use tcpguard_host::time::Clock;

use super::bounds::{Bounds, MAX_SKEW};
use super::peer::Peer;
use super::reason::{Reason, Refusals};
use crate::document::{Document, HostId, Kind, RuleKey, SignedRule, Subject};

/// Admission of the documents that the bus delivers.
///
/// The bus vouches for the sender: only a host may publish under the subjects that end with its name. So a sender can
/// be counted, limited and muted by the subject alone, before a byte of its document is read.
#[derive(Clone, Debug)]
pub struct Admission {
    own: Option<Identity>,
    bounds: Bounds,
    total: Bucket,
    rules: Bucket,
    stored: Bucket,
    peers: BTreeMap<HostId, Peer>,
    refused: Refusals,
}

/// This host on the bus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Its name.
    pub host: HostId,
    /// Number of its run, as in [`crate::document::Envelope::boot`].
    pub boot: u64,
}

impl Admission {
    /// Admission for this host, which has heard no other yet. `own` is the name under which the process sends, if it
    /// does.
    pub fn new(own: Option<Identity>, bounds: Bounds) -> Self {
        Self {
            own,
            bounds,
            total: Bucket::default(),
            rules: Bucket::default(),
            stored: Bucket::default(),
            peers: BTreeMap::new(),
            refused: Refusals::default(),
        }
    }

    /// Reads a document that the bus delivered under this subject. `None`: it is an echo of one of this host. The
    /// signature of a rule is checked by [`super::OperatorRules`].
    ///
    /// # Errors
    /// The reason for which it is refused, which is counted.
    pub fn admit(
        &mut self,
        clock: Clock,
        subject: &str,
        bytes: &[u8],
    ) -> Result<Option<(Subject, Document)>, Reason> {
        let Ok(subject) = subject.parse::<Subject>() else {
            return Err(self.refuse(clock.now, None, Reason::Subject));
        };
        let host = subject.host().cloned();
        let admitted = match &host {
            None => self.read_rule(clock.now, &subject, bytes),
            // Reports about routes are of a controller, which may run on this host.
            Some(host)
                if subject.kind() != Kind::Announced
                    && self.own.as_ref().is_some_and(|own| own.host == *host) =>
            {
                self.read_own(clock.now, &subject, bytes)
            }
            Some(host) => self.read_peer(clock, host, &subject, bytes),
        };
        match admitted {
            Ok(document) => Ok(document.map(|document| (subject, document))),
            Err(reason) => Err(self.refuse(clock.now, host.as_ref(), reason)),
        }
    }

    /// Reads a document of the durable store. No flood on the bus keeps it back: it is counted by itself.
    ///
    /// # Errors
    /// The reason for which it is refused, which is counted.
    pub fn admit_stored(
        &mut self,
        now: Timestamp,
        key: &RuleKey,
        bytes: &[u8],
    ) -> Result<SignedRule, Reason> {
        let rate = take(&mut self.stored, now, self.bounds.rules);
        match rate.and_then(|()| read(&Subject::Rule(key.clone()), bytes)) {
            Ok(Document::Rule(rule)) => Ok(rule),
            Ok(_) => Err(self.refuse(now, None, Reason::Mismatch)),
            Err(reason) => Err(self.refuse(now, None, reason)),
        }
    }

    /// Counts a document that was admitted and is refused for its content, and returns the reason.
    pub fn refuse(&mut self, now: Timestamp, host: Option<&HostId>, reason: Reason) -> Reason {
        self.refused.count(reason);
        if let Some(peer) = host.and_then(|host| self.peers.get_mut(host)) {
            peer.refuse(now, reason);
        }
        reason
    }

    /// Forgets senders of which nothing was heard for long.
    pub fn forget_silent(&mut self, now: Timestamp) {
        self.peers.retain(|_, peer| !peer.is_stale(now));
    }

    /// Refused documents of all senders.
    pub const fn refused(&self) -> &Refusals {
        &self.refused
    }

    /// A sender, if it is known.
    pub fn peer(&self, host: &HostId) -> Option<&Peer> {
        self.peers.get(host)
    }

    /// The senders that are muted.
    pub fn muted(&self, now: Timestamp) -> impl Iterator<Item = &HostId> {
        let muted = self.peers.iter().filter(move |(_, peer)| peer.is_muted(now));
        muted.map(|(host, _)| host)
    }

    fn read_peer(
        &mut self,
        clock: Clock,
        host: &HostId,
        subject: &Subject,
        bytes: &[u8],
    ) -> Result<Option<Document>, Reason> {
        let now = clock.now;
        if !self.peers.contains_key(host) && self.peers.len() >= self.bounds.peers {
            return Err(Reason::TooManyPeers);
        }
        let peer = self.peers.entry(host.clone()).or_insert_with(|| Peer::new(now));
        peer.receive(now, subject.kind(), &self.bounds)?;
        take(&mut self.total, now, self.bounds.total)?;
        let document = read(subject, bytes)?;
        let Some(envelope) = document.envelope() else { return Err(Reason::Mismatch) };
        let skew_ms = envelope.at.0.as_millisecond().saturating_sub(clock.wall.as_millisecond());
        if u128::from(skew_ms.unsigned_abs()) > MAX_SKEW.as_millis() {
            return Err(Reason::ClockSkew);
        }
        peer.accept(now, subject.kind(), envelope, skew_ms)?;
        Ok(Some(document))
    }

    /// An echo has the number of this run. Another one is of a machine with the same name, such as a copy of this one.
    fn read_own(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        bytes: &[u8],
    ) -> Result<Option<Document>, Reason> {
        take(&mut self.total, now, self.bounds.total)?;
        let document = read(subject, bytes)?;
        let boot = document.envelope().map(|envelope| envelope.boot);
        match boot == self.own.as_ref().map(|own| own.boot) {
            true => Ok(None),
            false => Err(Reason::SameHost),
        }
    }

    fn read_rule(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        bytes: &[u8],
    ) -> Result<Option<Document>, Reason> {
        take(&mut self.rules, now, self.bounds.rules)?;
        read(subject, bytes).map(Some)
    }
}

fn take(bucket: &mut Bucket, now: Timestamp, rate: Rate) -> Result<(), Reason> {
    match bucket.take(now.as_nanos(), rate) {
        true => Ok(()),
        false => Err(Reason::TotalRate),
    }
}

fn read(subject: &Subject, bytes: &[u8]) -> Result<Document, Reason> {
    let document = Document::parse(bytes).map_err(|error| Reason::from(&error))?;
    subject.check(&document).map_err(|_| Reason::Mismatch)?;
    Ok(document)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_host::time::Time;

    use super::*;
    use crate::document::Envelope;
    use crate::document::tests::{AT, envelope, heartbeat, host, time};

    fn clock(after: Duration) -> Clock {
        let wall = time(AT).0.checked_add(after).expect("a time");
        Clock { now: Timestamp::from_millis(1_000_000) + after, wall }
    }

    fn starting(bounds: Bounds) -> Admission {
        Admission::new(Some(Identity { host: host(1), boot: 1 }), bounds)
    }

    fn sent(envelope: Envelope) -> (String, Vec<u8>) {
        let document = Document::Host(heartbeat(envelope));
        let subject = Subject::of(&document).expect("a subject");
        (subject.to_string(), document.to_json().expect("JSON"))
    }

    fn admit(
        admission: &mut Admission,
        after: Duration,
        envelope: Envelope,
    ) -> Result<bool, Reason> {
        let (subject, bytes) = sent(envelope);
        admission.admit(clock(after), &subject, &bytes).map(|document| document.is_some())
    }

    #[test]
    fn a_document_of_another_host_is_admitted_once() {
        let mut admission = starting(Bounds::EDGE);
        assert_eq!(admit(&mut admission, Duration::ZERO, envelope(7, 1)), Ok(true));
        let copy = admit(&mut admission, Duration::from_secs(1), envelope(7, 1));
        assert_eq!(copy, Err(Reason::Replayed));
        assert_eq!(admission.refused().of(Reason::Replayed), 1);
        let peer = admission.peer(&host(7)).expect("known");
        assert_eq!((peer.skew_ms(), peer.refused().total()), (Some(0), 1));
    }

    #[test]
    fn a_copy_is_refused_by_its_time_when_its_order_is_forgotten() {
        let mut admission = starting(Bounds::EDGE);
        // The sender's clock is as far ahead as it may be.
        let at = clock(MAX_SKEW).wall;
        let early = || Envelope { at: Time(at), ..envelope(7, 1) };
        assert_eq!(admit(&mut admission, Duration::ZERO, early()), Ok(true));
        for second in 1..2000 {
            let after = Duration::from_secs(second);
            admission.forget_silent(clock(after).now);
            let copy = admit(&mut admission, after, early());
            assert!(copy.is_err(), "{second} s: {copy:?}");
        }
    }

    #[test]
    fn no_host_speaks_for_another() {
        let mut admission = starting(Bounds::EDGE);
        let (subject, _) = sent(envelope(7, 1));
        let (_, bytes) = sent(envelope(8, 1));
        let refused = admission.admit(clock(Duration::ZERO), &subject, &bytes);
        assert_eq!(refused, Err(Reason::Mismatch));
        assert!(admission.peer(&host(8)).is_none(), "the other is not to blame");
        assert_eq!(admission.peer(&host(7)).expect("known").refused().total(), 1);
    }

    #[test]
    fn an_echo_is_skipped_and_a_second_host_of_this_name_is_noticed() {
        let mut admission = starting(Bounds::EDGE);
        assert_eq!(admit(&mut admission, Duration::ZERO, envelope(1, 1)), Ok(false));
        let other = Envelope { boot: 2, ..envelope(1, 1) };
        assert_eq!(admit(&mut admission, Duration::ZERO, other), Err(Reason::SameHost));
    }

    #[test]
    fn a_clock_far_off_is_refused() {
        let mut admission = starting(Bounds::EDGE);
        let late = MAX_SKEW + Duration::from_millis(1);
        assert_eq!(admit(&mut admission, late, envelope(7, 1)), Err(Reason::ClockSkew));
        assert_eq!(admit(&mut admission, MAX_SKEW, envelope(7, 2)), Ok(true));
        assert_eq!(admission.peer(&host(7)).and_then(Peer::skew_ms), Some(-300_000));
    }

    #[test]
    fn a_flood_of_one_sender_leaves_the_others_their_part() {
        let mut admission = starting(Bounds::EDGE);
        for seq in 1..10_000 {
            let _ = admit(&mut admission, Duration::ZERO, envelope(7, seq));
        }
        assert_eq!(admission.muted(clock(Duration::ZERO).now).collect::<Vec<_>>(), [&host(7)]);
        assert_eq!(admit(&mut admission, Duration::ZERO, envelope(8, 1)), Ok(true));

        // Without a limit for each, the flood takes the part of all.
        let peer = Bounds::EDGE.total;
        let mut naive = starting(Bounds { peer, ..Bounds::EDGE });
        for seq in 1..10_000 {
            let _ = admit(&mut naive, Duration::ZERO, envelope(7, seq));
        }
        assert_eq!(admit(&mut naive, Duration::ZERO, envelope(8, 1)), Err(Reason::TotalRate));
    }

    #[test]
    fn memory_is_bounded_however_many_senders_there_are() {
        let mut admission = starting(Bounds { peers: 100, ..Bounds::EDGE });
        for number in 10..500 {
            let _ = admit(&mut admission, Duration::ZERO, envelope(number, 1));
        }
        assert_eq!(admission.refused().of(Reason::TooManyPeers), 390);
        let later = Duration::from_secs(700);
        admission.forget_silent(clock(later).now);
        let at = Time(clock(later).wall);
        let fresh = Envelope { at, ..envelope(900, 1) };
        assert_eq!(admit(&mut admission, later, fresh), Ok(true), "the silent ones are forgotten");
    }

    #[test]
    fn a_flood_of_rules_keeps_no_rule_of_the_store_back() {
        let mut admission = starting(Bounds::EDGE);
        let now = clock(Duration::ZERO);
        let key: RuleKey = "ops.0123456789abcdef".parse().expect("a key");
        let subject = Subject::Rule(key.clone()).to_string();
        while admission.admit(now, &subject, b"") != Err(Reason::TotalRate) {}
        let rule = SignedRule {
            role: "ops".parse().expect("a role"),
            key: "0".repeat(64),
            body: "{}".to_owned(),
            sig: "0".repeat(128),
        };
        let bytes = Document::Rule(rule.clone()).to_json().expect("JSON");
        assert_eq!(admission.admit_stored(now.now, &key, &bytes), Ok(rule));
    }

    #[test]
    fn garbage_is_refused_by_its_reason() {
        let mut admission = starting(Bounds::EDGE);
        let now = clock(Duration::ZERO);
        let (subject, _) = sent(envelope(7, 1));
        for (subject, bytes, reason) in [
            ("tg.9.host.a1b2c3d4", &b"{}"[..], Reason::Subject),
            (&*subject, &b""[..], Reason::Malformed),
            (&*subject, &br#"{"schema":"tcpguard.fleet.host/2"}"#[..], Reason::UnknownSchema),
            (&*subject, &[b' '; 3000][..], Reason::TooLong),
            ("tg.1.rule.ops.0123456789abcdef", &b"[]"[..], Reason::Malformed),
        ] {
            assert_eq!(admission.admit(now, subject, bytes), Err(reason));
        }
        assert_eq!(admission.refused().total(), 5);
    }
}
