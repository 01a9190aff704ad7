//! The rules that an incident asks for once the failed handshakes are judged: the same for an incident of
//! one listener and for that of the host.

use super::Engine;
use crate::evidence::Assessment;
use crate::incident::{Incident, Restraint, without_rule};
use crate::input::Matcher;
use crate::policy::{Grounds, consider};

impl Engine {
    /// Matchers of rules of an earlier run that no incident has asked for yet.
    pub(super) fn orphaned(&self) -> Vec<Matcher> {
        self.rule_table.orphans().map(|entry| entry.rule.matcher).collect()
    }
}

/// Asks for the rules that an incident calls for, unless it is known in a moment whether its answers are seen
/// (`waits`). Why it asks for none, by `all` that fails, where that can be said.
pub(super) fn ask_for_rules(
    incident: &mut Incident,
    grounds: &Grounds<'_>,
    all: &Assessment,
    waits: bool,
) -> Option<Restraint> {
    if !waits {
        consider(incident, grounds);
    }
    if !incident.wanted().is_empty() {
        return None;
    }
    let (candidate, known) = (all.signature.as_ref(), grounds.clients.completions());
    without_rule(incident.class(), all.gate, candidate, known)
}
