//! Which rules an incident calls for. What they change in the kernel is for the plan.

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::fastpath::{Fingerprint, Mask};

use crate::evidence::{Assessment, Candidate, Cohort, assess, describe};
use crate::incident::Incident;
use crate::learned::Clients;
use crate::rules::{Protected, Recurrence};
use crate::words::percent;
use crate::{IncidentClass, KnownClients, ListenerId, Matcher, Settings, Timestamp};

/// Failing flows outside all rules from which a further signature is looked for, and their share.
const REMAINING_MIN: u64 = 64;
const REMAINING_SHARE: f64 = 0.05;

/// What a decision about rules rests on beside the incident.
pub(crate) struct Grounds<'a> {
    pub listener: ListenerId,
    /// The failing and completed flows.
    pub cohort: &'a Cohort,
    /// What they say.
    pub assessment: &'a Assessment,
    /// The listener's clients.
    pub clients: &'a Clients,
    /// Clients of the whole host.
    pub known: &'a dyn KnownClients,
    pub protected: &'a Protected,
    pub recurrence: &'a Recurrence,
    /// A full queue leaves SYNs unanswered, so that no handshake can complete.
    pub unanswering: bool,
    /// Signatures of an attack that ended a short while ago.
    pub remembered: &'a [(Mask, Fingerprint)],
    pub settings: &'a Settings,
}

/// Asks for at most one more rule.
pub(crate) fn consider(now: Timestamp, incident: &mut Incident, grounds: &Grounds<'_>) {
    match incident.class() {
        IncidentClass::RandomSpoofed => consider_signature(now, incident, grounds),
        IncidentClass::SingleSource => {
            if !consider_source(now, incident, grounds) {
                consider_signature(now, incident, grounds);
            }
        }
        IncidentClass::HandshakeDegraded => {
            if grounds.assessment.gate >= grounds.settings.gate_attack {
                let text = "no rule: the sources are neither one nor forged at random; \
                            block them by hand: tcpguard block PREFIX";
                incident.note(now, text.to_owned());
            }
        }
    }
}

/// A rule against the source that dominates, unless clients stand behind it. Whether the source is
/// dealt with.
fn consider_source(now: Timestamp, incident: &mut Incident, grounds: &Grounds<'_>) -> bool {
    let Some(net) = grounds.assessment.top_source else { return false };
    let matcher = Matcher::Source(net);
    if grounds.assessment.top_source_repeated && incident.wants(&matcher) {
        // Dropping its SYNs would keep it from ever showing that it can complete a handshake.
        incident.refuse(&matcher, REPEATED);
    }
    if incident.wants(&matcher) {
        return true;
    }
    if incident.has_refused(&matcher) {
        return false;
    }
    if grounds.assessment.gate < grounds.settings.gate_drop {
        return false;
    }
    if let Some(objection) = objection(&net, grounds) {
        incident.note(now, format!("no rule against {net}: {objection}"));
        return false;
    }
    let ttl = grounds.recurrence.ttl(now, &net, grounds.settings);
    let share = percent(grounds.assessment.evidence.top_source_share);
    incident.want(matcher, format!("{share} of the failing SYNs come from it"), ttl);
    true
}

fn objection(net: &IpNet, grounds: &Grounds<'_>) -> Option<String> {
    if let Some((_, what)) = grounds.protected.touched_by(net) {
        return Some(format!("it is protected ({what})"));
    }
    if grounds.assessment.top_source_repeated {
        return Some(REPEATED.to_owned());
    }
    let clients = grounds.cohort.completed_within(net) || grounds.known.completed_within(net);
    clients.then(|| "clients behind the same address complete handshakes".to_owned())
}

/// A rule against the signature of what no rule covers yet.
fn consider_signature(now: Timestamp, incident: &mut Incident, grounds: &Grounds<'_>) {
    let settings = grounds.settings;
    if incident.signatures().count() >= settings.signatures_per_listener {
        return;
    }
    let uncovered;
    let remaining;
    let (cohort, assessment) = if incident.wanted().is_empty() {
        (grounds.cohort, grounds.assessment)
    } else {
        uncovered = grounds.cohort.without(|flow| incident.covers(flow));
        let least = REMAINING_SHARE * grounds.cohort.weight() as f64;
        if (uncovered.weight() as f64) < least.max(REMAINING_MIN as f64) {
            return;
        }
        remaining = assess(&uncovered, grounds.clients, settings);
        if remaining.class != incident.class() {
            return;
        }
        (&uncovered, &remaining)
    };
    if let Some((signature, reason)) = remembered(incident, cohort, grounds) {
        incident.want(signature, reason, settings.rule_ttl);
        return;
    }
    let Some(candidate) = assessment.signature else { return };
    match verdict(incident, &candidate, assessment, grounds) {
        Ok(reason) => {
            incident.want(matcher(&candidate, grounds.listener), reason, settings.rule_ttl)
        }
        Err(Some(why)) => incident.note(now, why),
        Err(None) => {}
    }
}

fn matcher(candidate: &Candidate, listener: ListenerId) -> Matcher {
    Matcher::Signature { listener, mask: candidate.mask, fingerprint: candidate.print }
}

/// Why the candidate should be dropped, or why not; `Err(None)` when the next look may tell.
fn verdict(
    incident: &Incident,
    candidate: &Candidate,
    assessment: &Assessment,
    grounds: &Grounds<'_>,
) -> Result<String, Option<String>> {
    let settings = grounds.settings;
    let text = describe(candidate.mask, &candidate.print);
    if incident.has_refused(&matcher(candidate, grounds.listener)) {
        return Err(Some(NOTHING_LEFT.to_owned()));
    }
    if candidate.coverage < settings.signature_coverage {
        return Err(Some(format!(
            "no rule: the top signature covers only {}",
            percent(candidate.coverage)
        )));
    }
    if candidate.is_of_clients() {
        return Err(Some(format!(
            "no rule against {text}: real clients look the same; {NOTHING_LEFT}"
        )));
    }
    if assessment.repeated {
        return Err(Some(format!("no rule against {text}: {REPEATED}")));
    }
    if assessment.gate < settings.gate_drop {
        return Err(None);
    }
    let covers = percent(candidate.coverage);
    if candidate.may_be_dropped(grounds.clients, settings) {
        Ok(format!("covers {covers} of the failing SYNs and no client"))
    } else if grounds.unanswering && assessment.unanimous {
        Ok(format!(
            "covers {covers} of the failing SYNs; on trial, because the full queue answers nobody"
        ))
    } else {
        Err(None)
    }
}

const REPEATED: &str = "its SYNs are repeated, as real clients repeat theirs";
/// What there is beside signatures.
pub(crate) const NOTHING_LEFT: &str = "nothing but the kernel's own SYN cookies is left";

/// The signature of the last attack here, if it covers this one.
fn remembered(
    incident: &Incident,
    cohort: &Cohort,
    grounds: &Grounds<'_>,
) -> Option<(Matcher, String)> {
    let all = cohort.weight() as f64;
    grounds.remembered.iter().find_map(|&(mask, fingerprint)| {
        let matcher = Matcher::Signature { listener: grounds.listener, mask, fingerprint };
        let alike = cohort.failing.iter().filter(|flow| flow.print.masked(mask) == fingerprint);
        let weight: u64 = alike.map(|flow| flow.weight).sum();
        let coverage = weight as f64 / all;
        let completed =
            cohort.completed.iter().any(|(_, print, _)| print.masked(mask) == fingerprint);
        let fits = coverage >= grounds.settings.signature_coverage
            && !completed
            && grounds.clients.with_signature(mask, &fingerprint) == 0
            && !incident.wants(&matcher)
            && !incident.has_refused(&matcher);
        let reason = || {
            format!("the last attack's signature, covers {} of the failing SYNs", percent(coverage))
        };
        fits.then(|| (matcher, reason()))
    })
}

/// Half-open entries younger than this may belong to clients on their way, whatever the round-trip
/// time.
const CLEAN_AGE: Duration = Duration::from_secs(3);

/// The age from which a half-open entry without a recorded SYN counts as the flood's.
pub(crate) fn clean_age(rtt: Duration) -> Duration {
    CLEAN_AGE.max(rtt * 4)
}
