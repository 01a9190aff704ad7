//! The rules that are wanted in the kernel, the prefixes that are exempt from them, and what is remembered of those
//! that have ended.

mod allowed;
mod confirmation;
mod shared_evidence;
mod which;

use std::collections::BTreeMap;

use tcpguard_common::abi::{Fingerprint, Mask};

pub(super) use self::confirmation::ALERTED_SINGLY;
use super::outbox::Outbox;
use crate::incident::{Restored, Target};
use crate::input::{ListenerId, Matcher, Rule, RuleId, Timestamp};
use crate::output::Command;
use crate::rules::{Entry, Exempt, FleetBounds, Life, Recurrence, RemovalReason, RuleTable};

/// All rules: of the engine, of operators and of the fleet.
#[derive(Clone, Debug)]
pub struct RuleBook {
    pub table: RuleTable,
    pub exempt: Exempt,
    /// Bounds on the rules of the fleet.
    pub fleet: FleetBounds,
    pub recurrence: Recurrence,
    /// Reasons for which rules are no longer wanted, until the plan has taken note.
    pub removal_reasons: BTreeMap<Matcher, RemovalReason>,
    /// The rules as they were before the last replacement, until the kernel has surely taken it.
    pub replaced: Option<RuleTable>,
}

impl RuleBook {
    /// No rules, and room for so many.
    pub fn new(room: u32) -> Self {
        Self {
            table: RuleTable::new(room),
            exempt: Exempt::default(),
            fleet: FleetBounds::default(),
            recurrence: Recurrence::default(),
            removal_reasons: BTreeMap::new(),
            replaced: None,
        }
    }

    /// A rule of an earlier run is no longer wanted. Returns whether it is one.
    pub fn disown(&mut self, matcher: &Matcher, why: &RemovalReason) -> bool {
        let orphan = self.table.disown(matcher);
        if orphan {
            self.removal_reasons.insert(*matcher, why.clone());
        }
        orphan
    }

    /// Matchers of rules of an earlier run that no incident has asked for yet.
    pub fn orphaned(&self) -> Vec<Matcher> {
        self.table.orphans().map(|entry| entry.rule.matcher).collect()
    }

    /// Returns the signatures that are dropped at every listener and have harmed no client.
    pub fn harmless_signatures(&self) -> Vec<(Mask, Fingerprint)> {
        let harmless = |entry: &&Entry| entry.meter.completed() == 0;
        let shared = self.table.signatures_of(ListenerId::HOST).filter(harmless);
        shared.filter_map(signature).collect()
    }

    /// Puts an operator's rule into the kernel. It replaces a rule with the same matcher, or gets a number of its
    /// own. Returns the number, or `None` when all are taken.
    pub fn install_operators(
        &mut self,
        now: Timestamp,
        rule: Rule,
        outbox: &mut Outbox,
    ) -> Option<RuleId> {
        if let Some(id) = self.table.find(&rule.matcher).map(|entry| entry.rule.id) {
            self.take_over(id, rule, outbox);
            return Some(id);
        }
        let Rule { matcher, origin, reason, expires, .. } = rule;
        let entry = self.table.add(now, matcher, origin, reason, Life::Until(expires))?;
        let made = &mut entry.rule;
        (made.forced, made.created, made.confirmation) =
            (rule.forced, rule.created, rule.confirmation);
        let made = made.clone();
        let id = made.id;
        outbox.push(Command::InstallRule(made));
        Some(id)
    }

    /// Makes an existing rule the operator's. The kernel must learn it of an automatic one, which spares
    /// clients, and of one that is forced now or no longer.
    pub fn take_over(&mut self, id: RuleId, rule: Rule, outbox: &mut Outbox) {
        let Some(entry) = self.table.entry_mut(id) else { return };
        let anew = entry.incident().is_some() || entry.rule.forced != rule.forced;
        let expires = rule.expires;
        entry.rule = Rule { id, created: entry.rule.created, ..rule };
        entry.ttl = None;
        entry.orphan = false;
        if anew {
            let rule = entry.rule.clone();
            outbox.push(Command::InstallRule(rule));
        } else {
            self.renew(id, expires, outbox);
        }
    }

    /// Makes an operator's rule once more, under any number.
    pub fn put_back(&mut self, now: Timestamp, before: Rule, outbox: &mut Outbox) -> Restored {
        let target = Target::of(&before.matcher);
        Restored { target, rule: self.install_operators(now, before, outbox) }
    }

    pub fn renew(&mut self, id: RuleId, expires: Timestamp, outbox: &mut Outbox) {
        if let Some(entry) = self.table.entry_mut(id) {
            entry.rule.expires = expires;
            outbox.push(Command::RenewRule { id, expires });
        }
    }
}

/// The signature that a rule matches.
pub fn signature(entry: &Entry) -> Option<(Mask, Fingerprint)> {
    match entry.rule.matcher {
        Matcher::Signature { mask, fingerprint, .. } => Some((mask, fingerprint)),
        Matcher::Source(..) => None,
    }
}
