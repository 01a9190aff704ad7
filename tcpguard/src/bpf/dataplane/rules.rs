//! The maps that hold rules.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;
use tcpguard_common::abi::{Fingerprint, Mask, RuleHits, RuleRef, RuleReturns, SignatureKey};
use tcpguard_engine::Ports;

use super::Dataplane;
use crate::bpf::convert::{Source, client_around, net, source};
use crate::bpf::table::{BATCH, Position, Table};
use crate::bpf::{CarriedRules, KernelError, Plain};

/// A rule as the kernel holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRule {
    /// Index of its end and its hits.
    pub slot: u32,
    /// SYNs that it drops.
    pub matcher: KernelMatcher,
    /// Flags of [`RuleRef`].
    pub flags: u32,
    /// Boot time in ns at which it ends.
    pub expires_ns: u64,
}

/// SYNs that a [`KernelRule`] drops.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelMatcher {
    /// SYNs from these sources to these ports.
    Source(IpNet, Ports),
    /// SYNs with this signature.
    Signature(SignatureKey),
}

impl KernelMatcher {
    /// The entries that it takes, each as a matcher of its own: one for each port.
    pub fn entries(&self) -> Vec<Self> {
        match self {
            Self::Source(net, ports) => {
                let one = |port: Option<u16>| match port {
                    Some(port) => Ports::new(&[port]).ok(),
                    None => Some(Ports::EVERY),
                };
                let each = ports.entries().filter_map(one);
                each.map(|ports| Self::Source(*net, ports)).collect()
            }
            Self::Signature(key) => vec![Self::Signature(*key)],
        }
    }
}

impl Dataplane {
    /// Lets SYNs from `net` to `port`, or to every port, be dropped by `rule` while `set` is the set that
    /// counts (see [`tcpguard_common::abi::Config::rule_set`]). A rule over an IPv6 /64 under which there
    /// are others has [`RuleRef::NARROW`]; see [`Self::set_narrow`].
    pub fn set_source_rule(
        &self,
        set: u64,
        net: &IpNet,
        port: Option<u16>,
        mut rule: RuleRef,
    ) -> Result<(), KernelError> {
        if client_around(net).is_some() {
            rule.flags |= RuleRef::NARROW;
        }
        match source(set, net, port) {
            Source::Host(key) => self.source_hosts.set(&key, &rule),
            Source::V4(key) => self.source_rules_v4.set(&key, &rule),
            Source::V6(key) => self.source_rules_v6.set(&key, &rule),
        }
    }

    /// Lets the source rule of `set` over exactly `client`, for `port` or for every port, know whether
    /// there are `narrow` ones beneath it. Without such a rule nothing is to be known.
    pub fn set_narrow(
        &self,
        set: u64,
        client: &IpNet,
        port: Option<u16>,
        narrow: bool,
    ) -> Result<(), KernelError> {
        let Some(rule) = self.source_rule(set, client, port)? else { return Ok(()) };
        let flag = if narrow { RuleRef::NARROW } else { 0 };
        let flags = rule.flags & !RuleRef::NARROW | flag;
        if flags == rule.flags {
            return Ok(());
        }
        self.set_source_rule(set, client, port, RuleRef { flags, ..rule })
    }

    /// The source rule of `set` over exactly `net`, for `port` or for every port.
    pub fn source_rule(
        &self,
        set: u64,
        net: &IpNet,
        port: Option<u16>,
    ) -> Result<Option<RuleRef>, KernelError> {
        // A trie answers with the longest prefix that contains the one asked for, so this may be
        // the rule over a wider one; the caller knows which slot it looks for.
        match source(set, net, port) {
            Source::Host(key) => self.source_hosts.get(&key),
            Source::V4(key) => self.source_rules_v4.get(&key),
            Source::V6(key) => self.source_rules_v6.get(&key),
        }
    }

    /// Takes the source rule of `set` over exactly `net`, for `port` or for every port, away, unless
    /// another rule than `slot` stands there by now.
    pub fn remove_source_rule(
        &self,
        set: u64,
        net: &IpNet,
        port: Option<u16>,
        slot: u32,
    ) -> Result<(), KernelError> {
        if self.source_rule(set, net, port)?.is_none_or(|found| found.slot != slot) {
            return Ok(());
        }
        match source(set, net, port) {
            Source::Host(key) => self.source_hosts.remove(&key).map(drop),
            Source::V4(key) => self.source_rules_v4.remove(&key).map(drop),
            Source::V6(key) => self.source_rules_v6.remove(&key).map(drop),
        }
    }

    /// Lets SYNs that `matcher` matches be dropped by `rule` while `set` is the set that counts.
    pub fn set_rule(
        &self,
        set: u64,
        matcher: &KernelMatcher,
        rule: RuleRef,
    ) -> Result<(), KernelError> {
        match matcher {
            KernelMatcher::Source(net, ports) => {
                ports.entries().try_for_each(|port| self.set_source_rule(set, net, port, rule))
            }
            KernelMatcher::Signature(key) => self.signatures.set(key, &rule),
        }
    }

    /// Every rule of `set`: its slot, its matcher and the boot time in ns of its end.
    pub fn rules(&self, set: u64) -> Result<Vec<KernelRule>, KernelError> {
        let entries = self.source_entries(set)?.into_iter().filter_map(|(source, rule)| {
            let (net, port) = net(&source)?;
            Some((rule, net, port))
        });
        let mut rules = with_ports(entries);
        for (key, rule) in self.signatures.entries()?.into_iter().filter(|(key, _)| key.is_of(set))
        {
            rules.push((rule, KernelMatcher::Signature(key)));
        }
        rules.into_iter().map(|(rule, matcher)| self.kernel_rule(rule, matcher)).collect()
    }

    /// The entries of `set` in the tables of source rules.
    fn source_entries(&self, set: u64) -> Result<Vec<(Source, RuleRef)>, KernelError> {
        let hosts = self.source_hosts.entries()?.into_iter();
        let mut all: Vec<_> = hosts.map(|(key, rule)| (Source::Host(key), rule)).collect();
        for key in self.source_rules_v4.keys(self.rule_slots)? {
            all.extend(self.source_rules_v4.get(&key)?.map(|rule| (Source::V4(key), rule)));
        }
        for key in self.source_rules_v6.keys(self.rule_slots)? {
            all.extend(self.source_rules_v6.get(&key)?.map(|rule| (Source::V6(key), rule)));
        }
        all.retain(|(source, _)| source.is_of(set));
        Ok(all)
    }

    /// Writes the rules of an agent with another capacity for them.
    pub fn restore_rules(&self, carried: &CarriedRules) -> Result<(), KernelError> {
        let CarriedRules { hosts, v4, v6, ends } = carried;
        ends.iter().try_for_each(|(slot, end)| self.set_rule_expiry(*slot, *end))?;
        hosts.iter().try_for_each(|(key, rule)| self.source_hosts.set(key, rule))?;
        v4.iter().try_for_each(|(key, rule)| self.source_rules_v4.set(key, rule))?;
        v6.iter().try_for_each(|(key, rule)| self.source_rules_v6.set(key, rule))
    }

    /// A rule with all that belongs to it.
    pub(super) fn kernel_rule(
        &self,
        rule: RuleRef,
        matcher: KernelMatcher,
    ) -> Result<KernelRule, KernelError> {
        let RuleRef { slot, flags } = rule;
        Ok(KernelRule { slot, matcher, flags, expires_ns: self.rule_expiry(slot)? })
    }

    /// Takes rule `slot` of `set` away, whatever it matches.
    pub fn remove_rule(
        &self,
        set: u64,
        slot: u32,
        matcher: &KernelMatcher,
    ) -> Result<(), KernelError> {
        match matcher {
            KernelMatcher::Source(net, ports) => {
                ports.entries().try_for_each(|port| self.remove_source_rule(set, net, port, slot))
            }
            KernelMatcher::Signature(key) => self.signatures.remove(key).map(drop),
        }
    }

    /// Number of rules of `set` in the kernel.
    pub fn rule_count(&self, set: u64) -> Result<u32, KernelError> {
        // Over one prefix there is one rule for every port and one for certain ports at most.
        let sources = self.source_entries(set)?.into_iter();
        let sources = sources.filter_map(|(source, _)| net(&source));
        let sources: HashSet<_> = sources.map(|(net, port)| (net, port.is_none())).collect();
        let signatures = self.signatures.entries()?;
        let signatures = signatures.iter().filter(|(key, _)| key.is_of(set)).count();
        Ok((sources.len() + signatures) as u32)
    }

    /// Removes every rule that is of a set other than `set`: a remnant of a set that was replaced, or
    /// that never came to count. Returns how many there were.
    pub fn remove_other_sets(&self, set: u64) -> Result<u32, KernelError> {
        let hosts = keys(&self.source_hosts)?;
        let v4 = self.source_rules_v4.keys(self.rule_slots)?;
        let v6 = self.source_rules_v6.keys(self.rule_slots)?;
        let signatures = keys(&self.signatures)?;
        Ok(remove_all_but(&self.source_hosts, hosts, |key| key.is_of(set))?
            + remove_all_but(&self.source_rules_v4, v4, |key| key.data.is_of(set))?
            + remove_all_but(&self.source_rules_v6, v6, |key| key.data.is_of(set))?
            + remove_all_but(&self.signatures, signatures, |key| key.is_of(set))?)
    }

    /// Lets rule `slot` end at `expires_ns` of boot time; 0 ends it now.
    pub fn set_rule_expiry(&self, slot: u32, expires_ns: u64) -> Result<(), KernelError> {
        self.rule_expiry.set(&slot, &expires_ns)
    }

    /// Boot time in ns at which rule `slot` ends; 0 when it has.
    pub fn rule_expiry(&self, slot: u32) -> Result<u64, KernelError> {
        Ok(self.rule_expiry.get(&slot)?.unwrap_or(0))
    }

    /// Gives the next slots of rules, from `position` on, to `each`, with the times at which their rules end.
    /// Moves `position` behind them. Returns whether there are more slots.
    pub fn rule_ends(
        &self,
        position: &mut Position,
        each: impl FnMut(u32, u64),
    ) -> Result<bool, KernelError> {
        self.rule_expiry.batch(position, each)
    }

    /// Counters of rule `slot`, of all CPUs.
    pub fn rule_hits(&self, slot: u32) -> Result<RuleHits, KernelError> {
        let hits = self.rule_hits.get(slot)?.iter().sum();
        Ok(RuleHits { hits, returns: self.rule_returns.get(&slot)?.unwrap_or_default() })
    }

    /// Counters of the rules in the first `slots` slots, and perhaps of more, by slot.
    pub fn first_rule_hits(&self, slots: u32) -> Result<Vec<RuleHits>, KernelError> {
        let (mut all, mut position) = (Vec::<RuleHits>::new(), Position::default());
        while all.len() < slots as usize
            && self.rule_hits.batch(&mut position, |cpus| {
                all.push(RuleHits { hits: cpus.iter().sum(), ..RuleHits::default() });
            })?
        {}
        // A rule without hits has kept no client out.
        for (place, hits) in all.chunks_mut(BATCH).enumerate() {
            if hits.iter().any(|of_rule| of_rule.hits != 0) {
                let first = place * BATCH;
                self.rule_returns.batch(&mut Position::before(first as u32), |slot, returns| {
                    if let Some(hits) = hits.get_mut(slot as usize - first) {
                        hits.returns = returns;
                    }
                })?;
            }
        }
        Ok(all)
    }

    /// Starts the counters of rule `slot` from zero.
    pub fn reset_rule_hits(&self, slot: u32) -> Result<(), KernelError> {
        self.rule_hits.fill(slot, &0)?;
        self.rule_returns.set(&slot, &RuleReturns::default())
    }
}

fn keys<K: Plain>(table: &Table<K, RuleRef>) -> Result<Vec<K>, KernelError> {
    Ok(table.entries()?.into_iter().map(|(key, _)| key).collect())
}

fn remove_all_but<K: Plain>(
    table: &Table<K, RuleRef>,
    keys: Vec<K>,
    stays: impl Fn(&K) -> bool,
) -> Result<u32, KernelError> {
    let mut removed = 0;
    for key in keys.iter().filter(|key| !stays(key)) {
        removed += u32::from(table.remove(key)?);
    }
    Ok(removed)
}

/// The rules behind the entries of source rules, each of a rule, a prefix, and one port or every port.
fn with_ports(
    entries: impl Iterator<Item = (RuleRef, IpNet, Option<u16>)>,
) -> Vec<(RuleRef, KernelMatcher)> {
    let mut rules: BTreeMap<(u32, IpNet, bool), (RuleRef, Vec<u16>)> = BTreeMap::new();
    for (rule, net, port) in entries {
        // The flags of its entries are the same, unless something else wrote them.
        let (_, ports) =
            rules.entry((rule.slot, net, port.is_none())).or_insert((rule, Vec::new()));
        ports.extend(port);
    }
    let mut all = Vec::new();
    for ((_, net, every), (rule, ports)) in rules {
        let mut add = |ports| all.push((rule, KernelMatcher::Source(net, ports)));
        if every {
            add(Ports::EVERY);
        }
        // Not more than one rule names, unless something else wrote them.
        ports.chunks(Ports::MOST).filter_map(|ports| Ports::new(ports).ok()).for_each(add);
    }
    all
}

/// The key of a signature rule in `set`.
pub fn signature_key(
    set: u64,
    listener: u32,
    mask: Mask,
    fingerprint: &Fingerprint,
) -> SignatureKey {
    SignatureKey {
        listener,
        mask: mask.code().into(),
        set: set as u16,
        fingerprint: fingerprint.masked(mask).words(),
    }
}
