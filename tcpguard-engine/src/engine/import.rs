//! Replacement of an operator's rules as a whole: never half of a list.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Engine;
use crate::evidence::Severity;
use crate::incident::Event;
use crate::input::{Force, Origin, Rule, RuleToImport, Timestamp};
use crate::output::{Command, ImportReport, RequestError, Response};
use crate::rules::{Entry, RemovalReason, RuleTable};

impl Engine {
    /// Replaces the operators' rules by `rules`, or with `merge` adds `rules` to them.
    pub(super) fn import(
        &mut self,
        now: Timestamp,
        rules: &[RuleToImport],
        merge: bool,
        uid: u32,
        force: Force,
    ) -> Result<Response, RequestError> {
        let refused = self.refused(rules, force != Force::No);
        if !refused.is_empty() {
            return Err(RequestError::Import { refused });
        }
        let named: BTreeSet<IpNet> = rules.iter().map(|rule| rule.net.trunc()).collect();
        let is_named =
            |entry: &Entry| entry.rule.matcher.prefix().is_some_and(|net| named.contains(&net));
        let staying = |entry: &Entry| match entry.rule.origin {
            Origin::Operator { .. } => merge,
            Origin::Fleet(_) => !is_named(entry),
            Origin::Incident(_) => true,
        };
        let terms = |rule: &RuleToImport, before: Option<&Rule>| {
            self.terms(now, rule, force, before, false)
        };
        let rule_table = self.rule_table.with_rules_of(now, uid, rules, terms, staying);
        let rule_table = rule_table.ok_or(RequestError::Full { limit: self.rule_table.room() })?;
        let added = rule_table.missing_before(&self.rule_table);
        let waits = |entry: &&Entry| entry.rule.confirmation.is_some() && is_named(entry);
        let report = ImportReport {
            added,
            kept: rules.len() as u32 - added,
            removed: rule_table.missing_of(&self.rule_table).len() as u32,
            total: rule_table.len() as u32,
            pending_confirmation: rule_table.iter().filter(waits).count() as u32,
        };
        let ImportReport { added, kept, removed, total, pending_confirmation: pending } = report;
        let confirm_s = match force {
            Force::PendingConfirmation { within, .. } if pending > 0 => Some(within.as_secs()),
            _ => None,
        };
        self.replace_rules(now, rule_table, RemovalReason::NotImported { uid });
        self.yield_exemptions(named.into_iter());
        let event = Event::RulesImported { uid, added, kept, removed, total, pending, confirm_s };
        self.alert(Severity::Notice, event, None);
        Ok(Response::Imported(report))
    }

    /// The rules that are refused, by their position.
    fn refused(&self, rules: &[RuleToImport], force: bool) -> Vec<(usize, RequestError)> {
        let mut places: BTreeMap<IpNet, usize> = BTreeMap::new();
        let mut refused = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let net = rule.net.trunc();
            let first = *places.entry(net).or_insert(place);
            let harm = if force { None } else { self.check_harmless(net).err() };
            let twice = (first != place).then_some(RequestError::Twice { net, first });
            refused.extend(twice.or(harm).map(|why| (place, why)));
        }
        refused
    }

    /// Makes `rule_table` the rules, in the kernel as well.
    pub(super) fn replace_rules(
        &mut self,
        now: Timestamp,
        rule_table: RuleTable,
        why: RemovalReason,
    ) {
        let removed = rule_table.missing_of(&self.rule_table);
        for entry in &removed {
            self.note_end(now, entry, &why);
        }
        let rules: Vec<Rule> = rule_table.iter().map(|entry| entry.rule.clone()).collect();
        let removed = removed.into_iter().map(|entry| entry.rule).collect();
        self.replaced = Some(std::mem::replace(&mut self.rule_table, rule_table));
        self.commands.push_back(Command::ReplaceRules { rules, removed, why });
    }

    /// Says that the kernel did not take the last [`Command::ReplaceRules`], and that its rules are
    /// as they were before. So the engine restores them, and the pending alerts about their end are
    /// dropped.
    pub fn replacement_failed(&mut self, error: &str) {
        let Some(rule_table) = self.replaced.take() else { return };
        self.rule_table = rule_table;
        self.commands.retain(|command| {
            let Command::Alert { event, .. } = command else { return true };
            !matches!(event, Event::RulesImported { .. } | Event::RuleRemoved { .. })
        });
        let event = Event::RuleFailed { rule: None, error: error.to_owned(), retry_s: None };
        self.alert(Severity::Warning, event, None);
    }
}
