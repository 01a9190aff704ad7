//! Evidence of this host that others should have: signatures and incidents, and the times at which they are sent.

use std::collections::BTreeMap;

use tcpguard_engine::{IncidentClass, Timestamp};
use tcpguard_host::time::Time;

use super::heard::{Heard, says_the_same};
use super::random::Random;
use super::trickle::{Decision, FIRST_WITHIN, LEAST_INTERVAL, MOST_INTERVAL, Trickle};
use crate::document::{Id, IncidentFacts, Signature, SignatureEvidence};

/// Signatures of this host that are shared. Receivers take as many of one host.
pub const MAX_OWN_SIGNATURES: usize = super::heard::MAX_OF_PEER;
/// Incidents of this host that are shared. With the signatures they are a burst that receivers take.
pub const MAX_OWN_INCIDENTS: usize = 8;

/// Signatures of this host.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnSignatures {
    signatures: BTreeMap<(u16, Id), OwnSignature>,
    suppressed: u64,
}

#[derive(Clone, Debug)]
struct OwnSignature {
    evidence: SignatureEvidence,
    trickle: Trickle,
}

impl OwnSignatures {
    /// Takes all signatures that the agent has evidence about now. Those with most SYNs are shared. A new one counts
    /// the hosts from which it was heard of late.
    pub fn set(
        &mut self,
        now: Timestamp,
        mut evidence: Vec<SignatureEvidence>,
        heard: &Heard,
        redundancy: usize,
        random: &mut Random,
    ) {
        evidence.sort_by_key(|evidence| std::cmp::Reverse(evidence.hits));
        evidence.truncate(MAX_OWN_SIGNATURES);
        let mut before = std::mem::take(&mut self.signatures);
        for evidence in evidence {
            let key = (evidence.port, evidence.id);
            let own = match before.remove(&key) {
                Some(OwnSignature { evidence: earlier, mut trickle }) => {
                    let is_of_clients = (evidence.clients_like_it > 0, earlier.clients_like_it > 0);
                    if evidence.class != earlier.class || is_of_clients == (true, false) {
                        trickle.restart(now, random);
                    }
                    OwnSignature { evidence, trickle }
                }
                None => {
                    let mut trickle = Trickle::new(now, redundancy, random);
                    let lately = now - LEAST_INTERVAL;
                    heard.same(&evidence, lately).for_each(|host| trickle.hear(host));
                    OwnSignature { evidence, trickle }
                }
            };
            self.signatures.insert(key, own);
        }
    }

    /// Forgets all of them, without a message: the others forget them too.
    pub fn clear(&mut self) {
        self.signatures.clear();
    }

    /// Counts a report of another host.
    pub fn hear(&mut self, report: &Signature) {
        let Signature { envelope, evidence } = report;
        if let Some(own) = self.signatures.get_mut(&(evidence.port, evidence.id))
            && says_the_same(&own.evidence, evidence.confidence, evidence.clients_like_it)
        {
            own.trickle.hear(&envelope.host);
        }
    }

    /// The evidence to send now.
    pub fn due_now(&mut self, now: Timestamp, random: &mut Random) -> Vec<SignatureEvidence> {
        let mut to_send = Vec::new();
        for own in self.signatures.values_mut() {
            match own.trickle.decide(now, random) {
                Some(Decision::Send) => to_send.push(own.evidence.clone()),
                Some(Decision::Suppress) => self.suppressed += 1,
                None => {}
            }
        }
        to_send
    }

    /// Time of the next decision.
    pub fn due(&self) -> Option<Timestamp> {
        self.signatures.values().map(|own| own.trickle.due()).min()
    }

    /// Number of messages that were not sent because enough others had sent them.
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

/// Incidents of this host.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnIncidents {
    incidents: BTreeMap<u64, OwnIncident>,
    /// Incidents that are over, and whose end is not sent yet.
    ended: Vec<IncidentFacts>,
}

#[derive(Clone, Debug)]
struct OwnIncident {
    facts: IncidentFacts,
    /// Class that others know.
    sent: Option<IncidentClass>,
    due: Timestamp,
}

impl OwnIncidents {
    /// Takes all incidents that are open now. One that is missing is over, at the time of day `wall`.
    pub fn set(
        &mut self,
        now: Timestamp,
        wall: Time,
        mut facts: Vec<IncidentFacts>,
        random: &mut Random,
    ) {
        facts.retain(|facts| facts.ended.is_none());
        facts.sort_by(|one, other| other.syn_pps.total_cmp(&one.syn_pps));
        facts.truncate(MAX_OWN_INCIDENTS);
        let mut before = std::mem::take(&mut self.incidents);
        for facts in facts {
            let soon = now + random.late(FIRST_WITHIN);
            let (number, known) = (facts.number, before.remove(&facts.number));
            let incident = match known {
                Some(OwnIncident { sent, due, .. }) if sent == Some(facts.class) => {
                    OwnIncident { facts, sent, due }
                }
                Some(OwnIncident { sent, due, .. }) => {
                    OwnIncident { facts, sent, due: due.min(soon) }
                }
                None => OwnIncident { facts, sent: None, due: soon },
            };
            self.incidents.insert(number, incident);
        }
        let over = before.into_values().filter(|incident| incident.sent.is_some());
        self.ended.extend(over.map(|OwnIncident { facts, .. }| {
            let ended = facts.ended.or(Some(wall));
            IncidentFacts { ended, syn_pps: 0.0, ..facts }
        }));
        let excess = self.ended.len().saturating_sub(MAX_OWN_INCIDENTS);
        self.ended.drain(..excess);
    }

    /// Forgets all of them, without a message.
    pub fn clear(&mut self) {
        self.incidents.clear();
        self.ended.clear();
    }

    /// The incidents to send now.
    pub fn due_now(&mut self, now: Timestamp, random: &mut Random) -> Vec<IncidentFacts> {
        let mut to_send = std::mem::take(&mut self.ended);
        for incident in self.incidents.values_mut().filter(|incident| incident.due <= now) {
            incident.sent = Some(incident.facts.class);
            incident.due = now + random.between(LEAST_INTERVAL, MOST_INTERVAL);
            to_send.push(incident.facts.clone());
        }
        to_send
    }

    /// Time at which the next is sent.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        match self.ended.is_empty() {
            true => self.incidents.values().map(|incident| incident.due).min(),
            false => Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::document::tests::{AT, envelope, evidence, facts, time};
    use crate::share::REDUNDANCY;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn signatures(own: &mut OwnSignatures, now: Timestamp, evidence: Vec<SignatureEvidence>) {
        own.set(now, evidence, &Heard::default(), REDUNDANCY, &mut Random::new(1));
    }

    #[test]
    fn the_signatures_with_most_syns_are_shared() {
        let mut own = OwnSignatures::default();
        let all = (1..=20)
            .map(|window| SignatureEvidence { hits: window.into(), ..evidence(443, window) });
        signatures(&mut own, START, all.collect());
        let sent = own.due_now(START + FIRST_WITHIN, &mut Random::new(2));
        let mut hits: Vec<_> = sent.iter().map(|evidence| evidence.hits).collect();
        hits.sort_unstable();
        assert_eq!(hits, (13..=20).collect::<Vec<_>>());
    }

    #[test]
    fn a_signature_that_three_others_sent_already_is_not_sent() {
        let mut heard = Heard::default();
        let report = |number, after| {
            let signature =
                Signature { envelope: envelope(number, 1), evidence: evidence(443, 512) };
            (START + Duration::from_secs(after), signature)
        };
        for (now, signature) in [report(7, 0), report(8, 1), report(9, 2)] {
            heard.take(now, &signature).expect("taken");
        }
        let later = START + Duration::from_secs(3);
        let sent = |heard: &Heard, now: Timestamp| {
            let (mut own, mut random) = (OwnSignatures::default(), Random::new(1));
            own.set(now, vec![evidence(443, 512)], heard, REDUNDANCY, &mut random);
            let sent = own.due_now(now + FIRST_WITHIN, &mut random).len() as u64;
            assert_eq!(sent + own.suppressed(), 1);
            sent
        };
        assert_eq!(sent(&heard, later), 0);
        assert_eq!(sent(&Heard::default(), later), 1);
        assert_eq!(sent(&heard, later + LEAST_INTERVAL), 1, "too long ago");
    }

    /// Three hosts that say less would otherwise keep this one silent.
    #[test]
    fn reports_that_say_less_silence_no_host() {
        let mut own = OwnSignatures::default();
        let mut random = Random::new(1);
        signatures(&mut own, START, vec![evidence(443, 512)]);
        for number in 7..10 {
            let weak = SignatureEvidence { confidence: 0.25, ..evidence(443, 512) };
            own.hear(&Signature { envelope: envelope(number, 1), evidence: weak });
        }
        assert_eq!(own.due_now(START + FIRST_WITHIN, &mut random).len(), 1);
    }

    #[test]
    fn clients_with_a_signature_are_reported_at_once() {
        let mut own = OwnSignatures::default();
        let mut random = Random::new(1);
        signatures(&mut own, START, vec![evidence(443, 512)]);
        let now = START + FIRST_WITHIN;
        assert_eq!(own.due_now(now, &mut random).len(), 1);
        let clients = SignatureEvidence { clients_like_it: 2, ..evidence(443, 512) };
        signatures(&mut own, now, vec![clients.clone()]);
        assert_eq!(own.due_now(now + FIRST_WITHIN, &mut random), [clients]);
        signatures(&mut own, now, vec![]);
        assert_eq!(own.due(), None);
    }

    #[test]
    fn an_incident_is_sent_at_its_start_at_another_class_at_intervals_and_at_its_end() {
        let mut own = OwnIncidents::default();
        let mut random = Random::new(1);
        let open = facts(3, "192.0.2.10/32");
        let mut sent = Vec::new();
        let mut now = START;
        for tenth in 0..1000 {
            let class = match tenth {
                ..300 => IncidentClass::HandshakeDegraded,
                _ => IncidentClass::RandomSpoofed,
            };
            own.set(now, time(AT), vec![IncidentFacts { class, ..open.clone() }], &mut random);
            sent.extend(own.due_now(now, &mut random).into_iter().map(|facts| (tenth, facts)));
            now = now + Duration::from_millis(100);
        }
        assert!((6..=9).contains(&sent.len()), "{} in 100 s", sent.len());
        assert!(sent[0].0 <= 5, "{}", sent[0].0);
        let changed = sent.iter().find(|(_, facts)| facts.class == IncidentClass::RandomSpoofed);
        assert!(changed.is_some_and(|(tenth, _)| (300..=305).contains(tenth)), "{changed:?}");

        own.set(now, time(AT), vec![], &mut random);
        assert_eq!(own.due(now), Some(now));
        let end = own.due_now(now, &mut random);
        assert_eq!(end.iter().map(|facts| facts.ended).collect::<Vec<_>>(), [Some(time(AT))]);
        assert_eq!((own.due(now), own.due_now(now, &mut random)), (None, vec![]));
    }

    #[test]
    fn an_incident_that_no_host_knows_has_no_end_to_report() {
        let mut own = OwnIncidents::default();
        let mut random = Random::new(1);
        own.set(START, time(AT), vec![facts(3, "192.0.2.10/32")], &mut random);
        own.set(START, time(AT), vec![], &mut random);
        assert_eq!(own.due(START), None);
    }
}
