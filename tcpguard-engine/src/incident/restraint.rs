//! Reasons that an incident asks for no rule, or for no mitigation beside rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evidence::{
    CLIENTS_KNOWN, Candidate, IncidentClass, Measured, Quantity, REPLIED_UNFINISHED,
    SIGNATURE_COVERAGE,
};
use crate::input::Mitigation;
use crate::mitigation::{HeldBack, MitigationReason};

/// Reason that no rule, or no mitigation beside rules, is asked for, with its numbers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Restraint {
    /// The reason.
    pub reason: RestraintReason,
    /// Its numbers, each with the limit that a rule or a mitigation needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
}

/// Reason that nothing is done.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestraintReason {
    /// The incident is no flood.
    NoFlood,
    /// Too few indicators hold.
    FewIndicators,
    /// No failed handshake is known.
    NoFailedHandshake,
    /// The top signature covers too few of the failed handshakes.
    LowCoverage,
    /// The options of its SYNs were not captured.
    OptionsCut,
    /// Clients have the top signature.
    ClientsSignature,
    /// Too little is known of the clients' signatures.
    ClientsUnknown,
    /// An operator removed the rule.
    Removed,
    /// The agent holds it back.
    HeldBack {
        /// The cause.
        by: HeldBack,
    },
    /// The rules cover nearly all failed handshakes.
    RulesSuffice,
    /// No socket of this host listens at this address and port itself.
    NotLocal,
    /// The mitigation cannot be started.
    Refused {
        /// The mitigation.
        mitigation: Mitigation,
        /// Its reason.
        why: MitigationReason,
    },
}

impl RestraintReason {
    /// The reason with numbers.
    pub(crate) const fn with(self, measured: Vec<Measured>) -> Restraint {
        Restraint { reason: self, measured }
    }
}

impl From<RestraintReason> for Restraint {
    fn from(reason: RestraintReason) -> Self {
        reason.with(Vec::new())
    }
}

/// Returns the reason that the present incident gets no rule yet, where none is given when a rule is
/// considered: too few indicators hold, or too little is known of the clients.
pub(crate) fn without_rule(
    class: IncidentClass,
    holding: u32,
    candidate: Option<&Candidate>,
    recorded: u64,
) -> Option<Restraint> {
    if !class.is_flood() {
        return Some(RestraintReason::NoFlood.into());
    }
    let needed = class.indicators_to_drop();
    if holding < needed {
        let indicators = Quantity::Indicators.is(holding.into()).at_least(needed.into());
        return Some(RestraintReason::FewIndicators.with(vec![indicators]));
    }
    let Some(candidate) = candidate else {
        return Some(RestraintReason::NoFailedHandshake.into());
    };
    if candidate.print.is_cut() {
        return Some(RestraintReason::OptionsCut.into());
    }
    if !candidate.covers_enough() {
        let covers = Quantity::SignatureShare.is(candidate.coverage).at_least(SIGNATURE_COVERAGE);
        return Some(RestraintReason::LowCoverage.with(vec![covers]));
    }
    if candidate.is_of_clients() {
        return Some(RestraintReason::ClientsSignature.into());
    }
    let known = recorded >= CLIENTS_KNOWN || candidate.unfinished >= REPLIED_UNFINISHED;
    (!known).then(|| {
        RestraintReason::ClientsUnknown.with(vec![
            Quantity::RecordedHandshakes.counts(recorded).at_least(CLIENTS_KNOWN as f64),
            Quantity::UnfinishedHandshakes
                .counts(candidate.unfinished)
                .at_least(REPLIED_UNFINISHED as f64),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_without_a_rule_names_what_is_missing() {
        let random = IncidentClass::RandomSpoofed;
        let few = Quantity::Indicators.is(2.0).at_least(3.0);
        assert_eq!(
            without_rule(random, 2, None, 0),
            Some(RestraintReason::FewIndicators.with(vec![few]))
        );
        let candidate = Candidate {
            mask: tcpguard_common::abi::Mask::Full,
            print: tcpguard_common::abi::Fingerprint::default(),
            coverage: 0.9,
            completion: 0.0,
            completed: 0,
            admitted: false,
            recorded: 0,
            recorded_share: 0.0,
            unfinished: 300,
            together: 0.0,
        };
        let unknown = vec![
            Quantity::RecordedHandshakes.is(120.0).at_least(200.0),
            Quantity::UnfinishedHandshakes.is(300.0).at_least(1000.0),
        ];
        assert_eq!(
            without_rule(random, 3, Some(&candidate), 120),
            Some(RestraintReason::ClientsUnknown.with(unknown))
        );
        assert_eq!(without_rule(random, 3, Some(&candidate), 200), None);
        let crowd = without_rule(IncidentClass::FlashCrowd, 0, None, 0);
        assert_eq!(crowd, Some(RestraintReason::NoFlood.into()));
    }
}
