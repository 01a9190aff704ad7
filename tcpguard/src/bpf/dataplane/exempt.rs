//! Sources that are exempt from drops by source or signature.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use tcpguard_common::abi::maps::{EXEMPT_FILTER_BYTES, MAX_EXEMPT};
use tcpguard_common::abi::{ExemptEntry, PrefixV4, PrefixV6};
use tcpguard_common::fastpath::exempt;
use tcpguard_host::linux::MOST_PROTECTED;

use super::Dataplane;
use crate::bpf::convert::{Prefix, addr, prefix};
use crate::bpf::table::Table;
use crate::bpf::{Plain, Result};

/// The allowlist has the other half.
const _: () = assert!(MOST_PROTECTED == MAX_EXEMPT as usize / 2);

/// See [`exempt`].
type Filter = [u8; EXEMPT_FILTER_BYTES];

impl Dataplane {
    /// Exempts exactly these prefixes from drops by source or signature, each until its boot time in
    /// seconds (`u32::MAX`: as long as it is in the list). An unchanged list changes nothing in the
    /// kernel. Returns whether anything had to be changed.
    pub fn set_exempt(&self, nets: &[(IpNet, u32)]) -> Result<bool> {
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        for (net, until_s) in nets {
            let entry = ExemptEntry { until_s: *until_s };
            match prefix(net) {
                Prefix::V4(key) => drop(v4.insert(key, entry)),
                Prefix::V6(key) => drop(v6.insert(key, entry)),
            }
        }
        // At no time does the filter rule out an exemption that a trie contains: a new exemption enters
        // the filter first, and an old one leaves it last.
        let wanted = filter(nets);
        let before = self.exempt_filter.get(&0)?.unwrap_or([0; EXEMPT_FILTER_BYTES]);
        let mut both = wanted;
        both.iter_mut().zip(before).for_each(|(byte, before)| *byte &= before);
        let mut changed = both != before;
        if changed {
            self.exempt_filter.set(&0, &both)?;
        }
        changed |= replace::<PrefixV4>(&self.exempt_v4, &v4)?;
        changed |= replace::<PrefixV6>(&self.exempt_v6, &v6)?;
        if both != wanted {
            self.exempt_filter.set(&0, &wanted)?;
        }
        Ok(changed)
    }
}

/// The filter that rules out an exemption wherever none of these prefixes is.
fn filter(nets: &[(IpNet, u32)]) -> Filter {
    let mut filter = [u8::MAX; EXEMPT_FILTER_BYTES];
    for (net, _) in nets {
        let bits = u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
        for place in exempt::places(&addr(net.network()), bits) {
            filter[place / 8] &= !(1 << (place % 8));
        }
    }
    filter
}

/// Adds missing entries first and removes surplus ones then, so that an entry that stays is never
/// without its exemption. Where there is no room for both at a time, it is the other way round.
fn replace<K>(table: &Table<K, ExemptEntry>, wanted: &BTreeMap<K, ExemptEntry>) -> Result<bool>
where
    K: Plain + Ord,
{
    let present: BTreeSet<K> = table.keys(MAX_EXEMPT)?.into_iter().collect();
    let gone: Vec<&K> = present.iter().filter(|key| !wanted.contains_key(key)).collect();
    let crowded = wanted.len() + gone.len() > MAX_EXEMPT as usize;
    let remove = || gone.iter().try_for_each(|key| table.remove(key).map(drop));
    if crowded {
        remove()?;
    }
    let mut changed = !gone.is_empty();
    for (key, entry) in wanted {
        if !present.contains(key) || table.get(key)? != Some(*entry) {
            table.set(key, entry)?;
            changed = true;
        }
    }
    if !crowded {
        remove()?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_clears_the_bits_of_its_addresses_and_hardly_more() {
        let cleared = |nets: &[&str]| {
            let nets: Vec<_> = nets.iter().map(|net| (net.parse().unwrap(), u32::MAX)).collect();
            let bytes = filter(&nets);
            let half = |half: &[u8]| half.iter().map(|byte| byte.count_zeros()).sum::<u32>();
            (half(&bytes[..EXEMPT_FILTER_BYTES / 2]), half(&bytes[EXEMPT_FILTER_BYTES / 2..]))
        };
        assert_eq!(cleared(&[]), (0, 0));
        assert_eq!(cleared(&["192.0.2.1/32", "192.0.3.0/24", "10.0.0.0/15"]), (3, 0));
        assert_eq!(cleared(&["2001:db8:1::1/128", "2001:db8:1::/48"]), (0, 1));
        assert_eq!(cleared(&["2001:db8:1200::/40"]), (0, 256));
        assert_eq!(cleared(&["0.0.0.0/0"]), (65_536, 0));
        assert_eq!(cleared(&["fe80::/10"]), (0, 65_536));
    }
}
