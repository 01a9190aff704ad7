//! Maps of an agent with another capacity for rules, with which this one goes on.

use std::os::fd::AsFd as _;
use std::path::Path;

use tcpguard_common::abi::{RuleRef, SourceHost, SourceKey, SourceV4, SourceV6, maps};

use super::layouts::{self, Kind, MAPS, links_of};
use super::{KernelError, Pins};
use crate::bpf::syscall;
use crate::bpf::table::{Plain, Table};

/// The contents of the maps with the capacity for rules, [`maps::SIZED_BY_RULES`].
#[derive(Debug)]
pub struct CarriedRules {
    pub(in crate::bpf) hosts: Vec<(SourceHost, RuleRef)>,
    pub(in crate::bpf) v4: Vec<(SourceKey<SourceV4>, RuleRef)>,
    pub(in crate::bpf) v6: Vec<(SourceKey<SourceV6>, RuleRef)>,
    /// Ends of rules by slot.
    pub(in crate::bpf) ends: Vec<(u32, u64)>,
}

impl Pins {
    /// Pins the maps of an agent with another capacity for rules here too, and returns its rules for
    /// [`crate::bpf::Dataplane::restore_rules`]: its maps of them are of no use here. `None` if its XDP program is no
    /// longer attached, or there is no capacity for its rules. An agent of another version of the ABI has no map in
    /// common with this one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn carry_maps(&self, rules: u32) -> Result<Option<CarriedRules>, KernelError> {
        let others = layouts::layouts(&self.dir).into_iter().filter(|layout| {
            layout.netns == self.netns && layout.is_of_this_abi() && layout.version != self.version
        });
        let mut others = others.map(|it| layouts::directory(&self.dir, it.version, it.netns));
        let attached = others.find(|layout| {
            links_of(layout, Kind::Ingress).iter().any(|pin| pin.hangs_on().is_some())
        });
        let from = attached.map(|layout| layout.join(MAPS));
        let Some(from) = from.filter(|from| from.join(maps::CONFIG).exists()) else {
            return Ok(None);
        };
        let carried = CarriedRules::read(&from)?;
        if !carried.fit(rules) {
            return Ok(None);
        }
        for name in maps::PINNED.iter().filter(|name| !maps::SIZED_BY_RULES.contains(name)) {
            let (old, new) = (from.join(name), self.maps().join(name));
            // A start that was interrupted has pinned some.
            if old.exists() && !new.exists() {
                syscall::open_pin(&old)
                    .and_then(|map| syscall::pin(map.as_fd(), &new))
                    .map_err(|error| KernelError::Pin { what: "share", path: old, error })?;
            }
        }
        Ok(Some(carried))
    }
}

impl CarriedRules {
    /// Reads the maps that are pinned in `from`.
    fn read(from: &Path) -> Result<Self, KernelError> {
        let mut ends = Table::pinned(from, maps::RULE_EXPIRY)?.entries()?;
        ends.retain(|(_, expires_ns)| *expires_ns != 0);
        Ok(Self {
            hosts: Table::pinned(from, maps::SOURCE_HOSTS)?.entries()?,
            v4: trie(from, maps::SOURCE_RULES_V4)?,
            v6: trie(from, maps::SOURCE_RULES_V6)?,
            ends,
        })
    }

    fn fit(&self, rules: u32) -> bool {
        self.hosts.len() + self.v4.len() + self.v6.len() <= rules as usize
            && self.ends.iter().all(|(slot, _)| *slot < maps::rule_slots(rules))
    }
}

/// The entries of a trie.
fn trie<K: Plain>(from: &Path, name: &'static str) -> Result<Vec<(K, RuleRef)>, KernelError> {
    let trie = Table::pinned(from, name)?;
    let keys = trie.keys(maps::rule_slots(maps::MAX_RULES))?.into_iter();
    let entry = |key| Ok(trie.get(&key)?.map(|rule| (key, rule)));
    keys.filter_map(|key| entry(key).transpose()).collect()
}
