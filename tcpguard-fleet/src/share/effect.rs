//! Inputs of a host's part in the fleet from its agent, and its effects.

use std::collections::BTreeSet;

use super::hint::Hint;
use crate::document::{Agent, Announced, Id, IncidentFacts, SignatureEvidence};
use crate::trust::{ActiveRule, RuleName};

/// State of the agent of this host, as far as it concerns the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Its version, mode and rates.
    pub agent: Agent,
    /// Ports at which the host listens: hints for others are of no use.
    pub ports: BTreeSet<u16>,
    /// Open incidents.
    pub incidents: Vec<IncidentFacts>,
    /// Signatures of open floods.
    pub signatures: Vec<SignatureEvidence>,
    /// SYNs that were counted for hints.
    pub matches: Vec<Match>,
}

/// SYNs that the agent has counted for a hint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// Port of the hint.
    pub port: u16,
    /// Signature of the hint.
    pub id: Id,
    /// Number of SYNs since the agent has the hint.
    pub syns: u64,
}

/// Effect of a host's part in the fleet, in the order in which they are to be carried out. One that fails is dropped:
/// evidence is repeated, and the agent is given all again when it returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Publish a document.
    Publish {
        /// Its subject.
        subject: String,
        /// The document.
        document: Vec<u8>,
    },
    /// Give the agent a hint, in the place of an earlier one for its port and signature.
    Hint(Hint),
    /// The agent should forget a hint.
    ForgetHint {
        /// Port of the hint.
        port: u16,
        /// Signature of the hint.
        id: Id,
    },
    /// Give the agent an operator's rule. It is repeated.
    Rule(ActiveRule),
    /// The agent should end an operator's rule.
    EndRule(RuleName),
    /// A controller's report about routes for this host, for its relief.
    Announced(Announced),
    /// Write the operators' rules to their file: [`super::Share::saved_rules`].
    SaveRules,
    /// Subscribe to [`super::Share::subscriptions`] anew: they have changed.
    Subscribe,
}
