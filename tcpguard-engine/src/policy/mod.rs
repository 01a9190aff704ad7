//! Choice of the rules that an incident calls for. The plan turns them into changes in the kernel.

pub(crate) mod residual;
mod signature;
pub(crate) mod source;

pub(crate) use residual::{RESIDUAL_FLOWS, RESIDUAL_SHARE, Residual};
pub use source::SOURCES_PER_INCIDENT;

use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use crate::evidence::{Assessment, Candidate, Cohort, EVIDENCE_FLOWS, Hints, StoppedBy};
use crate::incident::{Event, Incident, RuleObstacle, Target};
use crate::input::{ListenerId, Matcher, Timestamp, ValidatedClients};
use crate::listener::KnownFingerprints;
use crate::mitigation::HeldBack;
use crate::rules::{Exempt, Recurrence};
use crate::settings::Settings;

/// Inputs of a decision about rules, beside the incident.
pub(crate) struct Grounds<'a> {
    pub now: Timestamp,
    pub listener: ListenerId,
    /// Port of the listener; 0: that of no single one.
    pub port: u16,
    /// The failed and completed flows, without those that the client reset: they hold no slot in a queue.
    pub cohort: &'a Cohort,
    /// Assessment of these flows.
    pub assessment: &'a Assessment,
    /// The listener's clients.
    pub clients: &'a dyn KnownFingerprints,
    /// Clients of the whole host.
    pub validated: &'a dyn ValidatedClients,
    pub exempt: &'a Exempt,
    /// True if no reply of the listener was seen: then rules are only advised.
    pub unsure: bool,
    /// Reason that rules are only advised although replies of the listener may have been seen.
    pub held_back: Option<HeldBack>,
    pub recurrence: &'a Recurrence,
    /// Matchers of an earlier run's rules that still act. They keep away the SYNs for which they were made.
    pub inherited: &'a [Matcher],
    /// True if an operator forbids rules against sources here.
    pub source_forbidden: bool,
    /// True if an operator forbids rules against signatures here.
    pub signature_forbidden: bool,
    /// True if a full queue leaves SYNs unanswered, so that no handshake can complete.
    pub unanswering: bool,
    /// True if more SYNs come than are answered, with all that there is: cookies are not to be had, or do not
    /// suffice.
    pub unanswerable: bool,
    /// Signatures of floods that other hosts report.
    pub hints: &'a Hints,
    /// Signatures of an attack that ended a short while ago.
    pub remembered: &'a [(Mask, Fingerprint)],
    pub settings: &'a Settings,
}

/// Asks for the rules that the incident's class calls for and its evidence allows. Where rules are only
/// advised, it notes them instead. Rules that are asked for already stay.
pub(crate) fn consider(incident: &mut Incident, grounds: &Grounds<'_>) {
    let asked = incident.wanted().len();
    decide(incident, grounds);
    let unsure = grounds.unsure.then_some(HeldBack::NoReplySeen);
    let Some(why) = grounds.held_back.or(unsure) else { return };
    for advised in incident.take_wanted(asked) {
        let target = Target::of(&advised.matcher);
        incident.note(grounds.now, Event::RuleAdvised { target, why });
    }
}

fn decide(incident: &mut Incident, grounds: &Grounds<'_>) {
    source::review(incident, grounds);
    if grounds.cohort.failing.len() < EVIDENCE_FLOWS {
        return;
    }
    signature::review(incident, grounds);
    match incident.class().facts().stopped_by {
        StoppedBy::Signatures => signature::consider(incident, grounds),
        StoppedBy::UnsharedSignatures => {
            signature::consider(incident, grounds);
            let separates = |candidate: &Candidate| candidate.may_be_tried();
            if incident.wanted().is_empty()
                && !grounds.assessment.signature.as_ref().is_some_and(separates)
            {
                let why = RuleObstacle::Inseparable;
                incident.note(grounds.now, Event::RuleDeclined { target: None, why });
            }
        }
        StoppedBy::Sources => {
            signature::consider(incident, grounds);
            source::consider(incident, grounds);
        }
        StoppedBy::Nothing | StoppedBy::Limits => {}
    }
}

/// Returns whether failed flows are enough to be worth a rule or a mitigation of their own.
fn matters(cohort: &Cohort, grounds: &Grounds<'_>) -> bool {
    let share = cohort.weight() as f64 / grounds.cohort.weight().max(1) as f64;
    Residual { flows: cohort.weight(), share }.matters()
}

/// Half-open entries younger than this may belong to clients on their way, whatever the round-trip
/// time.
const CLEAN_AGE: Duration = Duration::from_secs(3);

/// The age from which a half-open entry without a recorded SYN counts as the flood's.
pub(crate) fn clean_age(rtt: Duration) -> Duration {
    CLEAN_AGE.max(rtt * 4)
}
