//! The rules that should be in the kernel, for the audit, and their repair.

use std::ops::Bound;

use tcpguard_engine::RuleId;

use super::Executor;
use super::audit::Deviation;
use crate::bpf::{KernelError, KernelMatcher, KernelRule};

impl Executor {
    /// The rules as they should be in the kernel, from the one after `after` on.
    pub fn wanted(&self, after: Option<RuleId>) -> impl Iterator<Item = (RuleId, KernelRule)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let set = self.config.rule_set;
        self.rules
            .range((from, Bound::Unbounded))
            .map(move |(id, wanted)| (*id, wanted.in_kernel(set, *id)))
    }

    /// Returns one entry of a wanted rule, as it should be in the kernel.
    pub fn entry(&self, rule: &KernelRule, entry: KernelMatcher) -> KernelRule {
        let flags = rule.flags | self.lookups.narrow_flag(&entry);
        KernelRule { matcher: entry, flags, ..rule.clone() }
    }

    /// Returns the end of the rule with this number, in ns of boot time, if there should be one.
    pub fn rule_end(&self, id: RuleId) -> Option<u64> {
        Some(self.rules.get(&id)?.ends.as_nanos())
    }

    /// The rule with this number as it should be in the kernel.
    pub fn wanted_rule(&self, id: RuleId) -> Option<KernelRule> {
        Some(self.rules.get(&id)?.in_kernel(self.config.rule_set, id))
    }

    /// Repairs a deviation in the kernel.
    pub fn repair(&mut self, deviation: &Deviation) -> Result<(), KernelError> {
        let set = self.config.rule_set;
        match deviation {
            Deviation::Missing(id) | Deviation::OtherEnd(id) | Deviation::Altered(id) => {
                let Some(wanted) = self.rules.get(id) else { return Ok(()) };
                // The end first: from the moment the key is there, packets use it.
                self.dataplane.set_rule_expiry(id.0, wanted.ends.as_nanos())?;
                wanted.write_keys(set, *id, &self.lookups, &mut self.dataplane)
            }
            Deviation::Foreign(walked) => self.dataplane.remove_walked(set, walked),
        }
    }

    /// Writes the configuration record again if another process has changed it. Returns whether
    /// that was so.
    pub fn repair_config(&self) -> Result<bool, KernelError> {
        let differs = self.dataplane.config()? != self.config;
        if differs {
            self.dataplane.set_config(&self.config)?;
        }
        Ok(differs)
    }
}
