//! The open incidents as evidence for the other hosts of a fleet.

use std::collections::BTreeMap;

use tcpguard_common::abi::{Fingerprint, quirk};

use super::RuleBook;
use crate::engine::monitor::ListenerMonitor;
use crate::evidence::{Candidate, Victims};
use crate::incident::Incident;
use crate::input::{Listener, Matcher, RuleReason, SharedSignature, Timestamp, share, syn_length};
use crate::output::{ClientLength, SharedEvidence, SharedRates, SignatureEvidence, Victim};

impl RuleBook {
    pub fn evidence_of<'a>(
        &self,
        now: Timestamp,
        incident: &Incident,
        listeners: impl Iterator<Item = &'a ListenerMonitor>,
    ) -> SharedEvidence {
        let report = incident.report(Vec::new(), None);
        let mut rates = SharedRates { dropped: report.stopped_rate, cookies: 0.0 };
        let mut lengths = Lengths::default();
        incident.admitted.prints().for_each(|print| lengths.add(print, 1));
        for monitor in listeners {
            monitor.clients.completed().for_each(|(print, count)| lengths.add(&print, count));
            let (dropped, cookies) = monitor.stopped_rates();
            rates.dropped += dropped;
            rates.cookies += cookies;
        }
        SharedEvidence {
            victims: victims(report.listener, incident.victims()),
            signatures: self.signatures_of(incident),
            client_lengths: lengths.report(),
            ..SharedEvidence::of(now, &report, rates)
        }
    }

    /// The signatures of an incident that rest on the evidence of this host alone: those of its rules, and that of the
    /// last inspection.
    pub fn signatures_of(&self, incident: &Incident) -> Vec<SignatureEvidence> {
        let ruled = incident.wanted().iter().filter_map(|wanted| {
            let RuleReason::Signature { coverage, .. } = wanted.reason else { return None };
            let Matcher::Signature { mask, fingerprint, .. } = wanted.matcher else { return None };
            let meter = self.table.find(&wanted.matcher).map(|entry| &entry.meter);
            let shared = SignatureEvidence {
                signature: SharedSignature::of(mask, &fingerprint),
                share: coverage,
                clients: meter.map_or(0, |meter| meter.completed()),
                hits: meter.map_or(0, |meter| meter.hits()),
            };
            (!wanted.reason.rests_on_hint()).then_some(shared)
        });
        let mut all: Vec<SignatureEvidence> = ruled.collect();
        let found = incident.tool().map(of_candidate);
        let is_new =
            |found: &SignatureEvidence| all.iter().all(|known| known.signature != found.signature);
        let found = found.filter(is_new);
        all.extend(found);
        all.truncate(SharedEvidence::SIGNATURES);
        all
    }
}

/// Completed handshakes by the length of their SYNs: those on record from calm, and the looks of those since the incident
/// began.
#[derive(Default)]
struct Lengths(BTreeMap<(bool, Option<u16>), u64>);

impl Lengths {
    fn add(&mut self, print: &Fingerprint, completions: u64) {
        let key = (print.quirks & quirk::IPV6 != 0, syn_length(print));
        *self.0.entry(key).or_default() += completions;
    }

    fn report(self) -> Vec<ClientLength> {
        let of = |((ipv6, length), completions)| ClientLength { ipv6, length, completions };
        self.0.into_iter().map(of).collect()
    }
}

/// The attacked addresses: that of the listener, or where it has every address, those of the failed handshakes.
fn victims(listener: Listener, failing: &Victims) -> Vec<Victim> {
    match listener.addr.is_unspecified() {
        false => vec![Victim { addr: listener.addr, share: 1.0 }],
        true => failing.shares().map(|(addr, part)| Victim { addr, share: share(part) }).collect(),
    }
}

fn of_candidate(candidate: &Candidate) -> SignatureEvidence {
    SignatureEvidence {
        signature: SharedSignature::of(candidate.mask, &candidate.print),
        share: share(candidate.coverage),
        clients: candidate.completed + candidate.recorded,
        hits: 0,
    }
}
