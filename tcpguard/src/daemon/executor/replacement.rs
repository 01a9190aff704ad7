//! Replacement of one rule set by another, from one packet to the next.
//!
//! Every key of a rule names its set, and the configuration names the set that counts. So the new
//! set is written beside the old one, where no packet sees it, and one word makes it the one that
//! counts. Whatever ends the agent meanwhile, one of the two is whole and counts; the next agent
//! takes the other one out.
//!
//! State that both sets share is the masks of listeners, the look-ups that SYNs cannot skip and the ends of rules that
//! stay. At any time it suits the more demanding of the two sets.

use std::collections::BTreeMap;

use tcpguard_common::abi::Config;
use tcpguard_engine::{Matcher, Rule, RuleId};
use tcpguard_host::hint::Hint as _;

use super::Executor;
use crate::bpf::{KernelError, wait_for_programs};
use crate::driver::{Lookups, Wanted, flags};

/// Changes that a replacement must undo if it cannot be finished.
#[derive(Debug, Default)]
struct Staged {
    /// Ends that were moved, with their former values, in ns of boot time.
    ends: Vec<(RuleId, u64)>,
    /// Rules whose masks were added to their listeners.
    masks: Vec<Matcher>,
}

impl Executor {
    /// Lets exactly `rules` be in the kernel.
    ///
    /// # Errors
    /// When the kernel refuses. Then the previous rules still count.
    pub fn replace(&mut self, rules: &[Rule]) -> Result<(), KernelError> {
        let before = self.config.rule_set;
        let next = Config::rule_set_after(before);
        // An earlier replacement may have failed, also at taking its traces out.
        self.dataplane.remove_other_sets(before)?;
        let mut staged = Staged::default();
        let counting = self.stage(next, rules, &mut staged).and_then(|wanted| {
            self.let_count(next)?;
            Ok(wanted)
        });
        let wanted = match counting {
            Ok(wanted) => wanted,
            Err(error) => {
                if let Err(error) = self.unstage(staged) {
                    log::warn!(
                        "new rules, not in effect, not removed from the kernel: {}",
                        error.with_hint()
                    );
                }
                return Err(error);
            }
        };
        // From here on the new rules count, and a failure only leaves old entries behind.
        if let Err(error) = self.clear_up(wanted) {
            log::warn!(
                "old rules, no longer in effect, not removed from the kernel: {}",
                error.with_hint()
            );
        }
        Ok(())
    }

    /// Writes a set that does not count yet, and makes the state that it shares with the other fit for both.
    fn stage(
        &mut self,
        set: u64,
        rules: &[Rule],
        staged: &mut Staged,
    ) -> Result<BTreeMap<RuleId, Wanted>, KernelError> {
        let mut all = BTreeMap::new();
        let lookups = Lookups::of(rules.iter().map(|rule| &rule.matcher));
        for rule in rules {
            let (id, end) = (rule.id.0, rule.expires.as_nanos());
            let mut flags = flags(rule);
            match self.rules.contains_key(&rule.id) {
                false => {
                    self.dataplane.reset_rule_hits(id)?;
                    self.dataplane.set_rule_expiry(id, end)?;
                    staged.masks.push(rule.matcher);
                    self.add_mask(&rule.matcher)?;
                }
                true => {
                    let was = self.dataplane.rule_expiry(id)?;
                    if end > was {
                        staged.ends.push((rule.id, was));
                        self.dataplane.set_rule_expiry(id, end)?;
                    }
                    // A rule that was not requested anew keeps its flags: it was never forced over a prefix that has
                    // become protected since it was made.
                    if let (true, Some(before)) = (end == was, self.rules.get(&rule.id)) {
                        flags = before.flags;
                    }
                }
            }
            // The key last: it leads to the rest.
            let wanted = Wanted { matcher: rule.matcher, flags, ends: rule.expires };
            wanted.write_keys(set, rule.id, &lookups, &mut self.dataplane)?;
            all.insert(rule.id, wanted);
        }
        self.write_lookups(lookups.in_use().with(self.lookups.in_use()))?;
        Ok(all)
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
            self.remove_mask(&matcher)?;
        }
        self.write_lookups(self.lookups.in_use())?;
        cleared
    }

    fn clear_up(&mut self, wanted: BTreeMap<RuleId, Wanted>) -> Result<(), KernelError> {
        let before = self.know(wanted);
        // A run of the XDP program that began before the change may still look up a previous rule.
        wait_for_programs();
        for (id, wanted) in self.rules.iter().filter(|(id, _)| before.contains_key(id)) {
            self.dataplane.set_rule_expiry(id.0, wanted.ends.as_nanos())?;
        }
        for (id, gone) in &before {
            if self.rules.contains_key(id) {
                continue;
            }
            self.dataplane.set_rule_expiry(id.0, 0)?;
            self.remove_mask(&gone.matcher)?;
        }
        self.write_lookups(self.lookups.in_use())?;
        self.dataplane.remove_other_sets(self.config.rule_set).map(drop)
    }
}
