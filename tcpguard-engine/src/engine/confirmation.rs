//! Rules that could cut off a service of the host or its operator, pending confirmation.
//!
//! The end of such a rule in the kernel is the moment by which it must be confirmed. So it ends then,
//! whatever has happened to the agent. The engine only has to restore the replaced rule.

use ipnet::IpNet;

use super::Engine;
use super::unblock::{ALERTED_SINGLY, lies_within};
use crate::evidence::Severity;
use crate::incident::{Event, NamedRule, Restored, Target};
use crate::input::{Force, Rule, RuleConfirmation, RuleId, RuleToImport, Timestamp};
use crate::output::{Command, RequestError, Response};
use crate::rules::{Entry, Life, RemovalReason, RuleReport, Terms};
use crate::settings::Limits;

impl Engine {
    /// Reports operators' rules that were not confirmed in time, which ended while there was no agent, and
    /// restores the rules that they had replaced. To be called after [`Engine::adopt`].
    pub fn revert(&mut self, now: Timestamp, rules: Vec<Rule>) {
        for rule in rules {
            self.reverted(now, rule);
        }
    }

    /// Terms of a rule that replaces `before`, the operator's rule over the same prefix. `cuts_off`: it drops
    /// clients.
    pub(super) fn terms(
        &self,
        now: Timestamp,
        rule: &RuleToImport,
        force: Force,
        before: Option<&Rule>,
        cuts_off: bool,
    ) -> Terms {
        let net = rule.net.trunc();
        let lifetime = rule.lifetime.unwrap_or(Limits::MANUAL_RULE);
        let mut until = now + lifetime.min(Limits::MAX_MANUAL_RULE);
        let mut forced = force != Force::No && self.exempt.is_protected(&net);
        // Without a word about its end a rule that is there already never ends sooner.
        if let (None, Some(before)) = (rule.lifetime, before.filter(|before| rule.is(before))) {
            if before.confirmation.is_some() {
                let Rule { forced, expires, confirmation, .. } = before.clone();
                return Terms { forced, expires, confirmation };
            }
            until = until.max(before.expires);
            forced |= before.forced;
        }
        let for_good = Terms { forced, expires: until, confirmation: None };
        let Force::PendingConfirmation { within, caller } = force else { return for_good };
        let risky = cuts_off
            || self.check_harmless(net).is_err()
            || caller.is_some_and(|caller| net.contains(&caller));
        let expires = now + within;
        if !risky || expires >= until {
            return for_good;
        }
        // A second trial does not make the first one last.
        let instead_of = before.and_then(|before| match &before.confirmation {
            Some(confirmation) => confirmation.instead_of.clone(),
            None => Some(Box::new(before.clone())),
        });
        Terms { forced, expires, confirmation: Some(RuleConfirmation { until, instead_of }) }
    }

    /// Lets rules stay that wait for an operator's word.
    pub(super) fn confirm(
        &mut self,
        now: Timestamp,
        net: Option<IpNet>,
        uid: u32,
    ) -> Result<Response, RequestError> {
        let waits = |entry: &&Entry| {
            let asked = net.is_none_or(|net| lies_within(&net, entry));
            entry.rule.confirmation.is_some() && entry.rule.expires > now && asked
        };
        let waiting: Vec<RuleId> =
            self.rule_table.iter().filter(waits).map(|entry| entry.rule.id).collect();
        if waiting.is_empty() {
            return Err(RequestError::NotPending { net });
        }
        for id in &waiting {
            let confirmation =
                self.rule_table.entry_mut(*id).and_then(|entry| entry.rule.confirmation.take());
            if let Some(confirmation) = confirmation {
                self.renew_rule(*id, confirmation.until);
            }
        }
        let stays = |entry: &&Entry| waiting.binary_search(&entry.rule.id).is_ok();
        let staying = || self.rule_table.iter().filter(stays);
        let reports: Vec<RuleReport> = staying().map(|entry| self.rule_report(entry)).collect();
        let event = |rules, rule, left_s| Event::RuleConfirmed { uid, rules, rule, left_s };
        let events: Vec<Event> = match reports.len() {
            rules if rules > ALERTED_SINGLY => vec![event(rules as u64, None, None)],
            _ => staying()
                .map(|Entry { rule, .. }| {
                    let left_s = rule.expires.since(now).as_secs();
                    let rule = NamedRule { id: rule.id, target: Target::of(&rule.matcher) };
                    event(1, Some(rule), Some(left_s))
                })
                .collect(),
        };
        for event in events {
            self.alert(Severity::Notice, event, None);
        }
        Ok(Response::Confirmed(reports))
    }

    /// Removes a rule that was not confirmed in time.
    pub(super) fn roll_back(&mut self, now: Timestamp, id: RuleId) {
        let Some(rule) = self.rule_table.entry_mut(id).map(|entry| entry.rule.clone()) else {
            return;
        };
        self.remove_rule(now, id, RemovalReason::Unconfirmed);
        self.reverted(now, rule);
    }

    fn reverted(&mut self, now: Timestamp, rule: Rule) {
        let named = NamedRule { id: rule.id, target: Target::of(&rule.matcher) };
        let back = rule.confirmation.and_then(|confirmation| confirmation.to_restore(now));
        let restored = back.map(|before| self.put_back(now, before));
        let event = Event::RuleReverted { rule: named, restored };
        self.alert(Severity::Warning, event, None);
    }

    /// Makes an operator's rule once more, under any number.
    pub(super) fn put_back(&mut self, now: Timestamp, before: Rule) -> Restored {
        let target = Target::of(&before.matcher);
        Restored { target, rule: self.install_operators(now, before) }
    }

    /// Puts an operator's rule into the kernel. It replaces a rule with the same matcher, or gets a number of its
    /// own. Returns the number, or `None` when all are taken.
    pub(super) fn install_operators(&mut self, now: Timestamp, rule: Rule) -> Option<RuleId> {
        if let Some(id) = self.rule_table.find(&rule.matcher).map(|entry| entry.rule.id) {
            self.take_over(id, rule);
            return Some(id);
        }
        let Rule { matcher, origin, reason, expires, .. } = rule;
        let entry = self.rule_table.add(now, matcher, origin, reason, Life::Until(expires))?;
        let made = &mut entry.rule;
        (made.forced, made.created, made.confirmation) =
            (rule.forced, rule.created, rule.confirmation);
        let made = made.clone();
        let id = made.id;
        self.commands.push_back(Command::InstallRule(made));
        Some(id)
    }

    /// Makes an existing rule the operator's. The kernel must learn it of an automatic one, which spares
    /// clients, and of one that is forced now or no longer.
    fn take_over(&mut self, id: RuleId, rule: Rule) {
        let Some(entry) = self.rule_table.entry_mut(id) else { return };
        let anew = entry.incident().is_some() || entry.rule.forced != rule.forced;
        let expires = rule.expires;
        entry.rule = Rule { id, created: entry.rule.created, ..rule };
        entry.ttl = None;
        entry.orphan = false;
        if anew {
            let rule = entry.rule.clone();
            self.commands.push_back(Command::InstallRule(rule));
        } else {
            self.renew_rule(id, expires);
        }
    }
}
