//! The rule sets that situations need, each under a number of its own.
//!
//! All of them are in the kernel at once, as when one takes the place of another: the programs look up
//! no rule of any set but the one that counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;
use tcpguard::kernel::Dataplane;
use tcpguard_common::abi::{RuleRef, maps};
use tcpguard_common::fastpath::{Fingerprint, Mask, quirk};

use super::case::{Family, RULES, SIGNATURES, Situation};
use super::frames::{CRUDE_WINDOW, drawn, source};

/// Under which signatures are that share a mask.
const ONE_MASK: Mask = Mask::NoTtl;
/// Bits of an address that are the same in all drawn ones: of an IPv4 address, and after the first 32 of
/// an IPv6 address.
const DRAWN: u8 = 3;

/// The number of the set that counts in a situation. Set 0 is empty.
pub fn set(situation: Situation, family: Family) -> u64 {
    let at = |counts: &[u32], count| counts.iter().position(|&it| it == count).unwrap_or(0) as u64;
    match situation {
        Situation::Observe | Situation::Cookies | Situation::Rules(0) => 0,
        Situation::Rules(count) => 1 + at(&RULES, count),
        Situation::Signatures { count, spread } => {
            let v6 = family == Family::V6;
            16 * (1 + u64::from(spread) + 2 * u64::from(v6)) + at(&SIGNATURES, count)
        }
    }
}

/// [`tcpguard_common::abi::ListenerEntry::masks`] in a situation.
pub fn masks(situation: Situation) -> u8 {
    match situation {
        Situation::Signatures { count, spread } => {
            (0..count).map(|number| mask(number, spread)).fold(0, |all, one| all | 1 << one.code())
        }
        _ => 0,
    }
}

/// Puts all sets into the kernel, for ever.
///
/// # Errors
/// When the kernel refuses.
pub fn install(dataplane: &Dataplane) -> Result<()> {
    let mut slots = 0..;
    let mut slot = || -> Result<u32> {
        let slot = slots.next().unwrap_or(u32::MAX);
        dataplane.set_rule_expiry(slot, u64::MAX)?;
        Ok(slot)
    };
    for family in Family::ALL {
        for count in RULES {
            let set = set(Situation::Rules(count), family);
            for net in sources(family, count) {
                let rule = RuleRef { slot: slot()?, flags: 0 };
                dataplane.set_source_rule(set, &net, None, rule)?;
            }
        }
        for (spread, count) in [false, true].into_iter().flat_map(|it| SIGNATURES.map(|n| (it, n)))
        {
            let set = set(Situation::Signatures { count, spread }, family);
            for (mask, fingerprint) in signatures(family, count, spread) {
                dataplane.set_signature(set, 0, mask, &fingerprint, slot()?)?;
            }
        }
    }
    Ok(())
}

/// Why there are no more of them.
pub fn too_many() -> String {
    format!("100,000 source rules: the guard holds {} rules at most", maps::RULES)
}

/// `count` prefixes: the one source itself, as many networks as hold all drawn sources, and for the rest
/// hosts that send nothing. A single one holds everybody.
fn sources(family: Family, count: u32) -> Vec<IpNet> {
    let (everybody, from, host) = match family {
        Family::V4 => (1, DRAWN, 32),
        Family::V6 => (32, 32 + DRAWN, 128),
    };
    let net = |address, length| IpNet::new_assert(address, length).trunc();
    if count == 1 {
        return vec![net(drawn(family, 0), everybody)];
    }
    let bits = (count - 1).ilog2();
    let networks = (0..1 << bits).map(|number: u32| {
        let address = match drawn(family, 0) {
            IpAddr::V4(v4) => {
                Ipv4Addr::from_bits(v4.to_bits() | number << (32 - u32::from(from) - bits)).into()
            }
            IpAddr::V6(v6) => {
                let number = u128::from(number) << (128 - u32::from(from) - bits);
                Ipv6Addr::from_bits(v6.to_bits() | number).into()
            }
        };
        net(address, from + bits as u8)
    });
    let others = (0..).map(|number| net(other(family, number), host));
    let first = [net(source(family), host)];
    first.into_iter().chain(networks).chain(others).take(count as usize).collect()
}

/// A host that sends nothing.
pub fn other(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a00_0000 | number).into(),
        Family::V6 => {
            Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number.wrapping_mul(0x9e37_79b1))).into()
        }
    }
}

/// The mask of a signature.
fn mask(number: u32, spread: bool) -> Mask {
    if spread { Mask::ALL[number as usize % Mask::ALL.len()] } else { ONE_MASK }
}

/// `count` signatures, one of them that of the crude SYN. Random sources change the IP identification of
/// IPv4, so it is not under the mask that compares that.
fn signatures(family: Family, count: u32, spread: bool) -> Vec<(Mask, Fingerprint)> {
    let v6 = family == Family::V6;
    let crude = Fingerprint {
        window: CRUDE_WINDOW,
        wscale: 255,
        ttl: 64,
        quirks: if v6 { quirk::IPV6 } else { 0 },
        ..Fingerprint::default()
    };
    let hit = (count - 1).min(Mask::Shape.code().into());
    let signature = |number| {
        // No SYN is like the others under any mask: that many options are not in one.
        let options = if number == hit { 0 } else { u64::MAX - u64::from(number) };
        (mask(number, spread), Fingerprint { options, ..crude })
    };
    (0..count).map(signature).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sets_have_numbers_of_their_own() {
        let mut sets = BTreeSet::new();
        for count in RULES {
            assert!(sets.insert(set(Situation::Rules(count), Family::V4)));
        }
        for (family, count) in Family::ALL.into_iter().flat_map(|it| SIGNATURES.map(|n| (it, n))) {
            for spread in [false, true] {
                assert!(sets.insert(set(Situation::Signatures { count, spread }, family)));
            }
        }
        assert!(!sets.contains(&set(Situation::Observe, Family::V6)));
        assert!(sets.iter().all(|&set| set < 256), "a key holds two bytes of it");
    }

    #[test]
    fn every_source_is_among_the_rules() {
        for (family, count) in Family::ALL.into_iter().flat_map(|it| RULES.map(|n| (it, n))) {
            let rules = sources(family, count);
            assert_eq!(rules.iter().collect::<BTreeSet<_>>().len(), count as usize);
            let listed = |address: IpAddr| rules.iter().any(|rule| rule.contains(&address));
            assert!(listed(source(family)));
            assert!((0..200).map(|number| drawn(family, number)).all(listed), "{count} rules");
        }
    }

    #[test]
    fn one_signature_is_that_of_the_packet() {
        for (spread, count) in [false, true].into_iter().flat_map(|it| SIGNATURES.map(|n| (it, n)))
        {
            let all = signatures(Family::V4, count, spread);
            let keys: BTreeSet<_> = all
                .iter()
                .map(|(mask, print)| (mask.code(), print.masked(*mask).words()))
                .collect();
            assert_eq!(keys.len(), count as usize, "they differ under their masks");
            let hits: Vec<_> = all.iter().filter(|(_, print)| print.options == 0).collect();
            assert_eq!(hits.len(), 1);
            assert_ne!(hits[0].0, Mask::IpId);
            let masks = masks(Situation::Signatures { count, spread });
            assert_eq!(masks.count_ones(), if spread { count.min(8) } else { 1 });
        }
    }
}
