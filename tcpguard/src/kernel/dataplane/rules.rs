//! The maps that hold rules.

use ipnet::IpNet;
use tcpguard_common::abi::{RuleHits, RuleRef, SignatureKey};
use tcpguard_common::fastpath::{Fingerprint, Mask};

use super::Dataplane;
use crate::kernel::KernelError;
use crate::kernel::convert::{Prefix, net, prefix};

/// A rule as the kernel holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRule {
    /// Index of its end and its hits.
    pub slot: u32,
    /// Which SYNs it drops.
    pub matcher: KernelMatcher,
    /// Boot time in ns at which it ends.
    pub expires_ns: u64,
}

/// Which SYNs a [`KernelRule`] drops.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelMatcher {
    /// From these sources.
    Source(IpNet),
    /// Those with this signature.
    Signature(SignatureKey),
}

impl Dataplane {
    /// Lets SYNs from `net` be dropped by rule `slot`; the flags are those of [`RuleRef`].
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn set_source_rule(
        &self,
        net: &IpNet,
        slot: u32,
        by_operator: bool,
        forced: bool,
    ) -> Result<(), KernelError> {
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(by_operator, RuleRef::BY_OPERATOR) | flag(forced, RuleRef::FORCED);
        let rule = RuleRef { slot, flags };
        match prefix(net) {
            Prefix::V4(key) => self.source_rules_v4.set(&key, &rule),
            Prefix::V6(key) => self.source_rules_v6.set(&key, &rule),
        }
    }

    /// Takes the source rule over exactly `net` away.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn remove_source_rule(&self, net: &IpNet) -> Result<(), KernelError> {
        match prefix(net) {
            Prefix::V4(key) => self.source_rules_v4.remove(&key).map(drop),
            Prefix::V6(key) => self.source_rules_v6.remove(&key).map(drop),
        }
    }

    /// Lets SYNs to `listener` that look like `fingerprint` under `mask` be dropped by rule `slot`.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn set_signature(
        &self,
        listener: u32,
        mask: Mask,
        fingerprint: &Fingerprint,
        slot: u32,
    ) -> Result<(), KernelError> {
        let key = signature_key(listener, mask, fingerprint);
        self.signatures.set(&key, &RuleRef { slot, flags: 0 })
    }

    /// Takes a signature rule away.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn remove_signature(
        &self,
        listener: u32,
        mask: Mask,
        fingerprint: &Fingerprint,
    ) -> Result<(), KernelError> {
        self.signatures.remove(&signature_key(listener, mask, fingerprint)).map(drop)
    }

    /// Every rule in the kernel: its slot, what it matches and the boot time in ns of its end.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn rules(&self) -> Result<Vec<KernelRule>, KernelError> {
        let mut rules = Vec::new();
        for key in self.source_rules_v4.keys()? {
            if let Some(rule) = self.source_rules_v4.get(&key)? {
                rules.push((rule, Prefix::V4(key)));
            }
        }
        for key in self.source_rules_v6.keys()? {
            if let Some(rule) = self.source_rules_v6.get(&key)? {
                rules.push((rule, Prefix::V6(key)));
            }
        }
        let mut rules: Vec<_> = rules
            .into_iter()
            .filter_map(|(rule, prefix)| Some((rule, KernelMatcher::Source(net(&prefix)?))))
            .collect();
        for (key, rule) in self.signatures.entries()? {
            rules.push((rule, KernelMatcher::Signature(key)));
        }
        rules
            .into_iter()
            .map(|(rule, matcher)| {
                let expires_ns = self.rule_expiry.get(&rule.slot)?.unwrap_or(0);
                Ok(KernelRule { slot: rule.slot, matcher, expires_ns })
            })
            .collect()
    }

    /// Takes a rule away, whatever it matches.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn remove_rule(&self, rule: &KernelRule) -> Result<(), KernelError> {
        match &rule.matcher {
            KernelMatcher::Source(net) => self.remove_source_rule(net),
            KernelMatcher::Signature(key) => self.signatures.remove(key).map(drop),
        }
    }

    /// Number of rules in the kernel.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn rule_count(&self) -> Result<u32, KernelError> {
        let count = self.source_rules_v4.keys()?.len()
            + self.source_rules_v6.keys()?.len()
            + self.signatures.entries()?.len();
        Ok(count as u32)
    }

    /// Lets rule `slot` end at `expires_ns` of boot time; 0 ends it now.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn set_rule_expiry(&self, slot: u32, expires_ns: u64) -> Result<(), KernelError> {
        self.rule_expiry.set(&slot, &expires_ns)
    }

    /// Hits of rule `slot`, summed over CPUs.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn rule_hits(&self, slot: u32) -> Result<RuleHits, KernelError> {
        let mut sum = RuleHits::default();
        for cpu in self.rule_hits.get(slot)? {
            sum.hits += cpu.hits;
            sum.returned += cpu.returned;
        }
        Ok(sum)
    }

    /// Starts the hits of rule `slot` from zero.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn reset_rule_hits(&self, slot: u32) -> Result<(), KernelError> {
        self.rule_hits.fill(slot, &RuleHits::default())
    }
}

/// The key of a signature rule.
pub fn signature_key(listener: u32, mask: Mask, fingerprint: &Fingerprint) -> SignatureKey {
    SignatureKey {
        listener,
        mask: mask.code().into(),
        fingerprint: fingerprint.masked(mask).words(),
    }
}
