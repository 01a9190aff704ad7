//! One rule set in the place of another, from one packet to the next.
//!
//! Every key of a rule names its set, and the configuration names the set that counts. So the new
//! set is written beside the old one, where no packet sees it, and one word makes it the one that
//! counts. Whatever ends the agent meanwhile, one of the two is whole and counts; the next agent
//! takes the other one out.
//!
//! What both sets share, masks of listeners, the number of source rules and the ends of rules that
//! stay, is at any time what the more demanding of the two needs.

use std::collections::BTreeMap;

use tcpguard_common::abi::{Config, RuleRef};
use tcpguard_engine::{Matcher, Rule, RuleId};

use super::{Executor, is_source};
use crate::kernel::{KernelError, wait_for_programs};

/// What a replacement that cannot be finished must take back.
#[derive(Debug, Default)]
struct Staged {
    /// Ends that were moved, with what they were, in ns of boot time.
    ends: Vec<(RuleId, u64)>,
    /// Signature rules that listeners were told of.
    masks: Vec<Matcher>,
}

impl Executor {
    /// Lets exactly `rules` be in the kernel.
    ///
    /// # Errors
    /// When the kernel refuses. Then the rules that count are those of before.
    pub fn replace(&mut self, rules: &[Rule]) -> Result<(), KernelError> {
        let before = self.config.rule_set;
        let next = Config::rule_set_after(before);
        // An earlier replacement may have failed, also at taking its traces out.
        self.dataplane.remove_other_sets(before)?;
        let mut staged = Staged::default();
        let counting = self.stage(next, rules, &mut staged).and_then(|()| self.let_count(next));
        if let Err(error) = counting {
            if let Err(error) = self.unstage(staged) {
                log::warn!("rules that do not count are still in the kernel: {error}");
            }
            return Err(error);
        }
        // From here on the new rules count, and what fails only leaves something behind.
        if let Err(error) = self.clear_up(rules) {
            log::warn!("rules that no longer count are still in the kernel: {error}");
        }
        Ok(())
    }

    /// Writes a set that does not count yet, and makes what it shares with the other fit for both.
    fn stage(&mut self, set: u64, rules: &[Rule], staged: &mut Staged) -> Result<(), KernelError> {
        for rule in rules {
            let (id, end) = (rule.id.0, rule.expires.as_nanos());
            let mut unchanged = None;
            match self.rules.contains_key(&rule.id) {
                false => {
                    self.dataplane.reset_rule_hits(id)?;
                    self.dataplane.set_rule_expiry(id, end)?;
                    if let Matcher::Signature { listener, mask, .. } = rule.matcher {
                        staged.masks.push(rule.matcher);
                        self.listeners.add_rule(listener, mask, &self.dataplane)?;
                    }
                }
                true => {
                    let was = self.dataplane.rule_expiry(id)?;
                    if end > was {
                        staged.ends.push((rule.id, was));
                        self.dataplane.set_rule_expiry(id, end)?;
                    }
                    if end == was {
                        unchanged = self.flags_of(rule)?;
                    }
                }
            }
            // The key last: it leads to the rest.
            match (unchanged, rule.matcher) {
                (Some(flags), Matcher::Source(net)) => {
                    let is = |flag| flags & flag != 0;
                    let (by_operator, forced) = (is(RuleRef::BY_OPERATOR), is(RuleRef::FORCED));
                    self.dataplane.set_source_rule(set, &net, id, by_operator, forced)?;
                }
                _ => self.write_key(set, rule)?,
            }
        }
        let sources = rules.iter().filter(|rule| is_source(&rule.matcher)).count() as u32;
        self.write_source_rules(sources.max(self.config.source_rules))
    }

    /// The flags of a source rule as it counts now. One that nobody asked for anew keeps them: it may
    /// have been found in the kernel without a record that says whose it is.
    fn flags_of(&self, rule: &Rule) -> Result<Option<u32>, KernelError> {
        let Matcher::Source(net) = &rule.matcher else { return Ok(None) };
        let found = self.dataplane.source_rule(self.config.rule_set, net)?;
        Ok(found.filter(|found| found.slot == rule.id.0).map(|found| found.flags))
    }

    fn let_count(&mut self, set: u64) -> Result<(), KernelError> {
        let before = std::mem::replace(&mut self.config.rule_set, set);
        let written = self.dataplane.set_config(&self.config);
        if written.is_err() {
            self.config.rule_set = before;
        }
        written
    }

    fn unstage(&mut self, staged: Staged) -> Result<(), KernelError> {
        let cleared = self.dataplane.remove_other_sets(self.config.rule_set).map(drop);
        for (id, end) in staged.ends {
            self.dataplane.set_rule_expiry(id.0, end)?;
        }
        for matcher in staged.masks {
            self.forget_mask(&matcher)?;
        }
        self.write_source_rules(self.sources)?;
        cleared
    }

    fn clear_up(&mut self, rules: &[Rule]) -> Result<(), KernelError> {
        let now: BTreeMap<RuleId, Matcher> =
            rules.iter().map(|rule| (rule.id, rule.matcher)).collect();
        let before = self.know(now);
        // A run that began before the change may still look for a rule of before.
        wait_for_programs();
        for rule in rules.iter().filter(|rule| before.contains_key(&rule.id)) {
            self.dataplane.set_rule_expiry(rule.id.0, rule.expires.as_nanos())?;
        }
        for (id, matcher) in &before {
            if self.rules.contains_key(id) {
                continue;
            }
            self.dataplane.set_rule_expiry(id.0, 0)?;
            self.forget_mask(matcher)?;
        }
        self.write_source_rules(self.sources)?;
        self.dataplane.remove_other_sets(self.config.rule_set).map(drop)
    }

    fn forget_mask(&mut self, matcher: &Matcher) -> Result<(), KernelError> {
        match matcher {
            Matcher::Source(_) => Ok(()),
            Matcher::Signature { listener, mask, .. } => {
                self.listeners.remove_rule(*listener, *mask, &self.dataplane)
            }
        }
    }
}
