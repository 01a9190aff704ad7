//! Walks over the rules in the kernel, one by one or a few at a time. There may be thousands, and the
//! agent that compares them with the wanted ones has other work as well.

use tcpguard_common::abi::{RuleRef, SourceKey, SourceV4, SourceV6};
use tcpguard_engine::Ports;

use super::{Dataplane, KernelMatcher, KernelRule};
use crate::bpf::convert::{Source, net};
use crate::bpf::table::Position;
use crate::bpf::table::Table;
use crate::bpf::{Plain, Result};

/// Position of a walk over the rules; by default at the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleWalk {
    place: Place,
    /// Keys seen in the table that is being walked. A key that is removed by others just then makes
    /// a trie begin again, which must not go on for ever.
    seen: u32,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Hosts(Position),
    V4(Option<SourceKey<SourceV4>>),
    V6(Option<SourceKey<SourceV6>>),
    Signatures(Position),
    End,
}

impl Default for Place {
    fn default() -> Self {
        Self::Hosts(Position::default())
    }
}

/// A finding of a walk.
#[derive(Clone, Debug, PartialEq)]
pub enum Walked {
    /// An entry of the set, one of [`KernelMatcher::entries`], and the rule that it leads to.
    Entry(KernelMatcher, RuleRef),
    /// A key that the agent never writes. It belongs to no set or no port, because fewer bits count
    /// than name both, so that it matches sources whatever set counts, or to many ports. Or no SYN is
    /// looked up by it.
    NotLookedUp(Source),
}

impl Dataplane {
    /// The rule of `set` that one of [`KernelMatcher::entries`] leads to. Of source rules it may be the one
    /// over the narrowest prefix that contains that entry; its slot shows which.
    pub fn rule(&self, set: u64, matcher: &KernelMatcher) -> Result<Option<KernelRule>> {
        let found = match matcher {
            KernelMatcher::Source(net, ports) => {
                self.source_rule(set, net, ports.entries().next().flatten())?
            }
            KernelMatcher::Signature(key) => self.signatures.get(key)?,
        };
        found.map(|found| self.kernel_rule(found, matcher.clone())).transpose()
    }

    /// Reads the next keys, about `limit` at most, and gives those of `set` to `each`. Returns how many were
    /// read; fewer than `limit` were the last.
    pub fn walk_rules(
        &self,
        set: u64,
        walk: &mut RuleWalk,
        limit: usize,
        mut each: impl FnMut(Walked),
    ) -> Result<usize> {
        let mut looked_at = 0;
        while looked_at < limit {
            match walk.place {
                Place::Hosts(mut position) => {
                    let mut batch = Vec::new();
                    let more = self.source_hosts.batch(&mut position, |key, found| {
                        batch.push((Source::Host(key), found));
                    })?;
                    looked_at += batch.len();
                    batch
                        .into_iter()
                        .filter_map(|(key, found)| come_across(set, key, found))
                        .for_each(&mut each);
                    walk.place = if more { Place::Hosts(position) } else { Place::V4(None) };
                }
                Place::V4(after) => {
                    match self.next(&self.source_rules_v4, after, &mut walk.seen)? {
                        Some(key) => {
                            walk.place = Place::V4(Some(key));
                            // It may have gone since.
                            if let Some(found) = self.source_rules_v4.get(&key)? {
                                come_across(set, Source::V4(key), found).map(&mut each);
                            }
                        }
                        None => *walk = RuleWalk { place: Place::V6(None), seen: 0 },
                    }
                }
                Place::V6(after) => {
                    match self.next(&self.source_rules_v6, after, &mut walk.seen)? {
                        Some(key) => {
                            walk.place = Place::V6(Some(key));
                            if let Some(found) = self.source_rules_v6.get(&key)? {
                                come_across(set, Source::V6(key), found).map(&mut each);
                            }
                        }
                        None => {
                            *walk =
                                RuleWalk { place: Place::Signatures(Position::default()), seen: 0 };
                        }
                    }
                }
                Place::Signatures(mut position) => {
                    let more = self.signatures.batch(&mut position, |key, found| {
                        looked_at += 1;
                        if key.is_of(set) {
                            each(Walked::Entry(KernelMatcher::Signature(key), found));
                        }
                    })?;
                    walk.place = if more { Place::Signatures(position) } else { Place::End };
                }
                Place::End => return Ok(looked_at),
            }
            looked_at += 1;
        }
        Ok(looked_at)
    }

    /// Removes a finding of a walk.
    pub fn remove_walked(&self, set: u64, walked: &Walked) -> Result<()> {
        match walked {
            Walked::Entry(matcher, found) => self.remove_rule(set, found.slot, matcher),
            Walked::NotLookedUp(Source::Host(key)) => self.source_hosts.remove(key).map(drop),
            Walked::NotLookedUp(Source::V4(key)) => self.source_rules_v4.remove(key).map(drop),
            Walked::NotLookedUp(Source::V6(key)) => self.source_rules_v6.remove(key).map(drop),
        }
    }

    /// The key after `after`, unless more were seen than the table holds.
    fn next<K: Plain>(
        &self,
        table: &Table<K, RuleRef>,
        after: Option<K>,
        seen: &mut u32,
    ) -> Result<Option<K>> {
        if *seen > self.rule_slots {
            return Ok(None);
        }
        *seen += 1;
        table.next_key(after.as_ref())
    }
}

/// The finding for an entry of a table of source rules; `None` if the entry is of another set.
fn come_across(set: u64, key: Source, found: RuleRef) -> Option<Walked> {
    if key.is_not_looked_up() {
        return Some(Walked::NotLookedUp(key));
    }
    let (net, port) = net(&key).filter(|_| key.is_of(set))?;
    let ports = match port {
        Some(port) => Ports::new(&[port]).ok()?,
        None => Ports::EVERY,
    };
    Some(Walked::Entry(KernelMatcher::Source(net, ports), found))
}
