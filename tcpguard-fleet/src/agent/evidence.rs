//! The report of the agent as evidence that is shared.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{FleetReport, Mitigation, Mode, SharedEvidence};
use tcpguard_host::time::Clock;

use crate::document::{Agent, Id, IncidentFacts, SignatureEvidence, signature_id, without_ttl};
use crate::share::{Evidence, Match};

/// Share of the SYNs of the attacks that is dropped or answered with cookies, from which they count as mitigated: as in
/// `tcpguard.status/1`.
const MITIGATED: f64 = 0.5;

/// The report as evidence.
pub fn evidence(clock: Clock, report: &FleetReport) -> Evidence {
    let mut signatures = BTreeMap::new();
    for incident in &report.incidents {
        for shared in shared_signatures(incident) {
            let known =
                signatures.entry((shared.port, shared.id)).or_insert_with(|| shared.clone());
            if known.hits < shared.hits {
                *known = shared;
            }
        }
    }
    let matches = report.hints.iter().map(|hint| Match {
        port: hint.port,
        id: signature_id(&hint.signature),
        syns: hint.syns,
    });
    Evidence {
        agent: agent(report),
        ports: report.ports.iter().copied().collect(),
        incidents: report.incidents.iter().map(|incident| facts(clock, incident)).collect(),
        signatures: signatures.into_values().collect(),
        matches: matches.collect(),
    }
}

fn agent(report: &FleetReport) -> Agent {
    // The sum of no numbers is -0.0 in Rust.
    let sum = |rate: fn(&SharedEvidence) -> f64| {
        report.incidents.iter().map(rate).fold(0.0, |sum, rate| sum + rate)
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Agent {
        version: report.version.clone(),
        mode: report.mode,
        state: state(report).to_owned(),
        ports: count(report.ports.len()),
        incidents: count(report.incidents.len()),
        syn_pps: sum(|incident| incident.syn_pps),
        drop_pps: match report.mode {
            Mode::Enforce => sum(|incident| incident.dropped_pps),
            // They would be dropped.
            Mode::Observe | Mode::Off => 0.0,
        },
    }
}

/// State of protection in one word of `tcpguard.status/1`, as far as the report has it.
fn state(report: &FleetReport) -> &'static str {
    let attacks = || report.incidents.iter().filter(|incident| incident.class.is_flood());
    let (syns, stopped) = attacks().fold((0.0, 0.0), |(syns, stopped), attack| {
        (syns + attack.syn_pps, stopped + attack.dropped_pps + attack.cookie_pps)
    });
    match report.mode {
        Mode::Enforce if attacks().next().is_some() && stopped >= MITIGATED * syns => {
            "attack_mitigated"
        }
        _ if attacks().next().is_some() => "attack_unmitigated",
        Mode::Off => "off",
        _ if !report.incidents.is_empty() => "elevated",
        Mode::Observe => "observing",
        Mode::Enforce => "protecting",
    }
}

fn facts(clock: Clock, incident: &SharedEvidence) -> IncidentFacts {
    let since = clock.now - Duration::from_secs(incident.age_s);
    let signatures: Vec<Id> = incident
        .signatures
        .iter()
        .filter_map(|signature| Some(signature_id(&without_ttl(&signature.signature)?)))
        .take(IncidentFacts::MAX_SIGNATURES)
        .collect();
    let share = |part: u64| part.min(incident.syns) as f64 / incident.syns.max(1) as f64;
    let victims = incident.victims.iter().map(|victim| IpNet::from(victim.addr));
    IncidentFacts {
        number: incident.incident,
        class: incident.class,
        victims: victims.take(IncidentFacts::MAX_TARGETS).collect(),
        ports: Some(incident.listener.port).filter(|port| *port != 0).into_iter().collect(),
        listeners: incident.listeners,
        since: clock.time_at(since),
        ended: None,
        syn_pps: incident.syn_pps,
        peak_syn_pps: incident.peak_syn_pps,
        dropped_share: share(incident.dropped),
        completion: incident.completion.clamp(0.0, 1.0),
        sources: incident.sources,
        signatures,
        mitigations: mitigations(incident),
    }
}

/// The mitigations that show in the counts of an incident.
fn mitigations(incident: &SharedEvidence) -> Vec<Mitigation> {
    let by_signature: u64 = incident.signatures.iter().map(|signature| signature.hits).sum();
    let shown = [
        (Mitigation::Source, incident.dropped > by_signature),
        (Mitigation::Signature, by_signature > 0),
        (Mitigation::Cookies, incident.cookie_pps > 0.0),
    ];
    shown.into_iter().filter(|(_, is_shown)| *is_shown).map(|(mitigation, _)| mitigation).collect()
}

/// The signatures of a flood at one port. Others are of no use to a host that guards other ports.
fn shared_signatures(incident: &SharedEvidence) -> impl Iterator<Item = SignatureEvidence> {
    let is_shared = incident.class.is_flood() && incident.listener.port != 0;
    let signatures = incident.signatures.iter().filter(move |_| is_shared);
    signatures.filter_map(|found| {
        let signature = without_ttl(&found.signature)?;
        Some(SignatureEvidence {
            port: incident.listener.port,
            id: signature_id(&signature),
            signature,
            class: incident.class,
            syn_pps: incident.syn_pps,
            share: found.share.clamp(0.0, 1.0),
            confidence: incident.confidence.clamp(0.0, 1.0),
            clients_like_it: found.clients,
            hits: found.hits,
        })
    })
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::{Fingerprint, Mask};
    use tcpguard_engine::{IncidentClass, Listener, SharedSignature, Timestamp};

    use super::super::tests::{flood, report};
    use super::*;
    use crate::document::tests::{AT, time};
    use crate::document::{Document, Incident, Signature};

    fn clock() -> Clock {
        Clock { now: Timestamp::from_millis(1_000_000), wall: time(AT).0 }
    }

    #[test]
    fn all_that_is_shared_can_be_sent() {
        let evidence = evidence(clock(), &report());
        let envelope = || crate::document::tests::envelope(7, 1);
        let (signatures, incidents) = (evidence.signatures.clone(), evidence.incidents.clone());
        let documents = signatures
            .into_iter()
            .map(|evidence| Document::Signature(Signature { envelope: envelope(), evidence }))
            .chain(
                incidents
                    .into_iter()
                    .map(|facts| Document::Incident(Incident { envelope: envelope(), facts })),
            );
        let sent: Vec<_> = documents.map(|document| document.to_json()).collect();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        assert_eq!(evidence.ports, [22, 443].into());
        let id = signature_id(&report().hints[0].signature);
        assert_eq!(evidence.matches, [Match { port: 22, id, syns: 7 }]);
        let facts = &evidence.incidents[0];
        assert_eq!(facts.since, time("2026-11-20T14:05:01.204Z"));
        assert_eq!(facts.victims, ["192.0.2.10/32".parse::<IpNet>().expect("a prefix")]);
        assert_eq!((facts.dropped_share, facts.ports.as_slice()), (0.97, &[443][..]));
        assert_eq!(facts.mitigations, [Mitigation::Signature, Mitigation::Cookies]);
    }

    #[test]
    fn the_state_is_that_of_the_attacks() {
        let state = |mode, incidents| state(&FleetReport { mode, incidents, ..report() });
        assert_eq!(state(Mode::Enforce, vec![flood(1)]), "attack_mitigated");
        assert_eq!(state(Mode::Observe, vec![flood(1)]), "attack_unmitigated");
        let passing = SharedEvidence { dropped_pps: 0.0, ..flood(1) };
        assert_eq!(state(Mode::Enforce, vec![passing]), "attack_unmitigated");
        let crowd = SharedEvidence { class: IncidentClass::FlashCrowd, ..flood(1) };
        assert_eq!(state(Mode::Enforce, vec![crowd]), "elevated");
        assert_eq!(state(Mode::Enforce, vec![]), "protecting");
        assert_eq!(state(Mode::Observe, vec![]), "observing");
        assert_eq!(state(Mode::Off, vec![]), "off");
        let observing = FleetReport { mode: Mode::Observe, ..report() };
        assert_eq!(agent(&observing).drop_pps, 0.0);
    }

    #[test]
    fn a_signature_is_shared_once_for_each_port_and_without_its_ttl() {
        let print = Fingerprint { window: 512, wscale: 255, ttl: 64, ..Fingerprint::default() };
        let with_ttl = SharedSignature::of(Mask::Full, &print);
        let mut one = flood(1);
        one.signatures[0].signature = with_ttl;
        one.signatures[0].hits = 5;
        let other = flood(2);
        let closed = SharedEvidence {
            class: IncidentClass::ClosedPorts,
            listener: Listener::HOST,
            ..flood(3)
        };
        let crowd = SharedEvidence { class: IncidentClass::FlashCrowd, ..flood(4) };
        let incidents = vec![one, other, closed, crowd];
        let evidence = evidence(clock(), &FleetReport { incidents, ..report() });
        let hits: Vec<_> = evidence.signatures.iter().map(|shared| shared.hits).collect();
        assert_eq!(hits, [2_910_000]);
        assert_eq!(evidence.incidents.len(), 4);
    }
}
