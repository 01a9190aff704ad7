//! Rules against the common fields of one tool's SYNs.

use tcpguard_common::abi::{Fingerprint, Mask};

use super::Grounds;
use crate::evidence::{
    Assessment, Background, Candidate, Cohort, INDICATORS_ATTACK, INDICATORS_DROP,
    SIGNATURE_COVERAGE, SIGNATURES_PER_LISTENER, assess,
};
use crate::incident::{Event, Incident, RuleObstacle, Target};
use crate::input::{ListenerId, Matcher, RuleReason, SignatureBasis, share};
use crate::rules::{RULE_TTL, RemovalReason};

/// Number of failed flows outside all rules from which a further signature is looked for, and their share.
const REMAINING_MIN: u64 = 64;
const REMAINING_SHARE: f64 = 0.05;

/// Withdraws the request for rules in which a hint stands in for an indicator, once neither this host's own evidence
/// nor the hint supports them, or clients are known to have the signature.
pub(super) fn review(incident: &mut Incident, grounds: &Grounds<'_>) {
    let assessment = grounds.assessment;
    let retransmitted = assessment.retransmitted && !grounds.unanswerable;
    for wanted in incident.wanted().to_vec() {
        let Matcher::Signature { mask, fingerprint, .. } = wanted.matcher else { continue };
        if !wanted.reason.rests_on_hint() {
            continue;
        }
        let needed = match grounds.hints.support(grounds.port, mask, &fingerprint) {
            true => INDICATORS_ATTACK,
            false => INDICATORS_DROP,
        };
        let of_clients = is_of_clients(grounds.cohort, grounds, mask, &fingerprint);
        if assessment.gate < needed || retransmitted || of_clients {
            incident.forget(&wanted.matcher, RemovalReason::Unsupported);
        }
    }
}

/// Asks for a rule against the signature of the failed flows that no rule covers yet.
pub(super) fn consider(incident: &mut Incident, grounds: &Grounds<'_>) {
    if grounds.signature_forbidden {
        return;
    }
    if incident.signatures().count() >= SIGNATURES_PER_LISTENER {
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
        let background =
            Background { novelty: grounds.assessment.novelty.clone(), ..Background::default() };
        remaining = assess(&uncovered, grounds.clients, background);
        // The class of flood does not matter: the rule rests on its own evidence.
        if !remaining.class.is_flood() {
            return;
        }
        (&uncovered, &remaining)
    };
    if let Some((signature, reason)) = remembered(incident, cohort, grounds) {
        incident.want(signature, reason, RULE_TTL);
        return;
    }
    let Some(candidate) = assessment.signature else { return };
    match verdict(incident, &candidate, assessment, grounds) {
        Ok(reason) => incident.want(matcher(&candidate, grounds.listener), reason, RULE_TTL),
        Err(Some(why)) => {
            let named = matches!(why, RuleObstacle::ClientsMatch | RuleObstacle::Retransmitted);
            let target = named.then(|| Target::of(&matcher(&candidate, grounds.listener)));
            incident.note(grounds.now, Event::RuleDeclined { target, why });
        }
        Err(None) => {}
    }
}

fn matcher(candidate: &Candidate, listener: ListenerId) -> Matcher {
    Matcher::Signature { listener, mask: candidate.mask, fingerprint: candidate.print }
}

/// Returns the reason for dropping the candidate, or that against it; `Err(None)` when the next inspection
/// may decide.
fn verdict(
    incident: &Incident,
    candidate: &Candidate,
    assessment: &Assessment,
    grounds: &Grounds<'_>,
) -> Result<RuleReason, Option<RuleObstacle>> {
    let rule = matcher(candidate, grounds.listener);
    if incident.has_removed(grounds.now, &rule).is_some() {
        return Err(None);
    }
    if incident.has_refused(grounds.now, &rule) {
        return Err(Some(RuleObstacle::Refused));
    }
    if candidate.print.is_cut() {
        return Err(None);
    }
    if !candidate.covers_enough() {
        return Err(Some(RuleObstacle::SmallCoverage { coverage: share(candidate.coverage) }));
    }
    if candidate.is_of_clients() {
        return Err(Some(RuleObstacle::ClientsMatch));
    }
    // Where the flood cannot be answered, this is no objection: an attacker can send each SYN twice as well.
    if assessment.retransmitted && !grounds.unanswerable {
        return Err(Some(RuleObstacle::Retransmitted));
    }
    // Many real sources have fewer marks: there, a signature that no client shares must do.
    let class = if incident.wanted().is_empty() { incident.class() } else { assessment.class };
    let marks = class.indicators_to_drop();
    // A hint of other hosts stands in for one indicator of a signature that is a tool's by this host's own evidence.
    let is_hinted = assessment.gate < marks;
    if is_hinted
        && !(assessment.gate >= INDICATORS_ATTACK
            && grounds.hints.support_tool(grounds.port, candidate))
    {
        return Err(None);
    }
    let basis = if candidate.may_be_dropped(grounds.clients) {
        if is_hinted { SignatureBasis::Hinted } else { SignatureBasis::NoClient }
    } else if is_hinted {
        return Err(None);
    } else if grounds.unanswering && assessment.unanimous {
        SignatureBasis::FullQueue
    } else if grounds.unsure && assessment.unanimous {
        // Flows whose SYN-ACKs are not seen never show that the source fell silent after a SYN-ACK.
        SignatureBasis::NoReplySeen
    } else {
        return Err(None);
    };
    Ok(RuleReason::Signature { coverage: share(candidate.coverage), basis })
}

/// Returns whether a client completed a handshake with a signature: in the window, in this incident, or on record.
fn is_of_clients(cohort: &Cohort, grounds: &Grounds<'_>, mask: Mask, print: &Fingerprint) -> bool {
    cohort.admitted.has(mask, print)
        || cohort.completed.iter().any(|(_, known, _)| known.masked(mask) == *print)
        || grounds.clients.with_signature(mask, print) > 0
}

/// The signature of the last attack here, if it covers this one.
fn remembered(
    incident: &Incident,
    cohort: &Cohort,
    grounds: &Grounds<'_>,
) -> Option<(Matcher, RuleReason)> {
    let all = cohort.weight() as f64;
    grounds.remembered.iter().find_map(|&(mask, fingerprint)| {
        let matcher = Matcher::Signature { listener: grounds.listener, mask, fingerprint };
        let alike = cohort.failing.iter().filter(|flow| flow.print.masked(mask) == fingerprint);
        let weight: u64 = alike.map(|flow| flow.weight).sum();
        let coverage = weight as f64 / all;
        let fits = coverage >= SIGNATURE_COVERAGE
            && !is_of_clients(cohort, grounds, mask, &fingerprint)
            && !incident.wants(&matcher)
            && !incident.has_refused(grounds.now, &matcher);
        let (coverage, basis) = (share(coverage), SignatureBasis::LastAttack);
        fits.then_some((matcher, RuleReason::Signature { coverage, basis }))
    })
}
