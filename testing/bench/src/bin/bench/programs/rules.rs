//! The rule sets that situations need, each under a number of its own.
//!
//! All of them are in the kernel at once, as when one replaces another: the programs look up no rule of any set
//! but the one that counts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;
use tcpguard::bpf::{Dataplane, KernelMatcher, signature_key};
use tcpguard_common::abi::{Config, Fingerprint, Mask, RuleRef, maps, quirk};
use tcpguard_kit::net::bare::Sources;

use super::case::{Family, LISTS, Masks, NETS, SIGNATURES, Situation, among};
use super::frames::{FIXED_WINDOW, drawn, source};

/// Under which signatures are that share a mask ...
const ONE_MASK: Mask = Mask::NoTtl;
/// ... and under which those are for which the window does not matter.
const NO_WINDOW: Mask = Mask::NoWindowTtl;
/// Capacity for rules, in `policy.rules`, where the default is too small.
pub const MORE_ROOM: u32 = maps::MAX_RULES;

/// The number of the set that counts in a situation. Set 0 is empty.
pub fn set(situation: Situation, family: Family) -> u64 {
    let at = |counts: &[u32], count| counts.iter().position(|&it| it == count).unwrap_or(0) as u64;
    match situation {
        Situation::Observe
        | Situation::Followed
        | Situation::Listeners(_)
        | Situation::Cookies
        | Situation::Listed(0) => 0,
        Situation::Listed(count) => 1 + at(&LISTS, count),
        Situation::Nets(count) => 1 + LISTS.len() as u64 + at(&NETS, count),
        Situation::Unlisted(_) => 1 + (LISTS.len() + NETS.len()) as u64,
        Situation::Signatures { count, masks } => {
            let v6 = u64::from(family == Family::V6);
            16 * (1 + masks as u64 + Masks::EACH.len() as u64 * v6) + at(&SIGNATURES, count)
        }
    }
}

/// [`tcpguard_common::abi::ListenerEntry::masks`] in a situation.
pub fn masks(situation: Situation) -> u8 {
    match situation {
        Situation::Signatures { count, masks } => {
            (0..count).map(|number| mask(number, masks)).fold(0, |all, one| all | 1 << one.code())
        }
        _ => 0,
    }
}

/// [`Config::source_rules`] in a situation.
pub const fn kinds(situation: Situation) -> u8 {
    match situation {
        Situation::Listed(count) | Situation::Unlisted(count) if count != 0 => Config::HOSTS,
        Situation::Nets(_) => Config::NETS,
        _ => 0,
    }
}

/// Returns whether there are more rules in a situation than the default capacity holds.
pub const fn need_more_room(situation: Situation) -> bool {
    source_rules(situation) > maps::RULES
}

/// Rules about sources in a situation.
pub const fn source_rules(situation: Situation) -> u32 {
    match situation {
        Situation::Listed(count) | Situation::Unlisted(count) | Situation::Nets(count) => count,
        _ => 0,
    }
}

/// Puts all sets of signatures into the kernel, for ever.
pub fn install_signatures(dataplane: &Dataplane) -> Result<()> {
    // Each set has the first slots, as if there were no other.
    let places = SIGNATURES.into_iter().max().unwrap_or(0);
    (0..places).try_for_each(|place| dataplane.set_rule_expiry(place, u64::MAX))?;
    for family in Family::ALL {
        for (masks, count) in Masks::EACH.into_iter().flat_map(|it| SIGNATURES.map(|n| (it, n))) {
            let set = set(Situation::Signatures { count, masks }, family);
            for (place, (mask, fingerprint)) in (0..).zip(signatures(family, count, masks)) {
                let key = signature_key(set, 0, mask, &fingerprint);
                let rule = RuleRef { slot: place, flags: 0 };
                dataplane.set_rule(set, &KernelMatcher::Signature(key), rule)?;
            }
        }
    }
    Ok(())
}

/// Puts the rules about sources of a situation into the kernel, which holds no others meanwhile: they are
/// in tables that grow dearer with all that is in them.
pub fn list(dataplane: &Dataplane, situation: Situation, family: Family) -> Result<()> {
    let set = set(situation, family);
    for (slot, net) in (0..).zip(sources(situation, family)) {
        dataplane.set_rule_expiry(slot, u64::MAX)?;
        // Only an operator has so many rules.
        let rule = RuleRef { slot, flags: RuleRef::BY_OPERATOR };
        dataplane.set_source_rule(set, &net, None, rule)?;
    }
    Ok(())
}

/// Takes them out again.
pub fn unlist(dataplane: &Dataplane, situation: Situation, family: Family) -> Result<()> {
    let set = set(situation, family);
    (0..)
        .zip(sources(situation, family))
        .try_for_each(|(slot, net)| Ok(dataplane.remove_source_rule(set, &net, None, slot)?))
}

/// Prefixes that the rules of a situation match.
fn sources(situation: Situation, family: Family) -> Vec<IpNet> {
    match situation {
        Situation::Listed(count) => {
            addresses(family, count).into_iter().map(|it| one_client(family, it)).collect()
        }
        Situation::Unlisted(count) => {
            (0..count).map(|number| one_client(family, other(family, number))).collect()
        }
        Situation::Nets(count) => nets(family, count),
        _ => Vec::new(),
    }
}

/// A rule about one client.
fn one_client(family: Family, address: IpAddr) -> IpNet {
    let length = if family == Family::V4 { 32 } else { 64 };
    IpNet::new_assert(address, length).trunc()
}

/// A list of `count`: the one source, all that are drawn when it is measured, and hosts that send nothing.
pub fn addresses(family: Family, count: u32) -> Vec<IpAddr> {
    senders(family, count).take(count as usize).collect()
}

/// Networks of all lengths, around the same hosts; where one holds two of them it counts once.
fn nets(family: Family, count: u32) -> Vec<IpNet> {
    let lengths = match family {
        Family::V4 => 16..=28_u8,
        Family::V6 => 32..=56,
    };
    let hosts = senders(family, count).zip(lengths.cycle());
    let mut seen = BTreeSet::new();
    hosts
        .map(|(host, length)| IpNet::new_assert(host, length).trunc())
        .filter(|net| seen.insert(*net))
        .take(count as usize)
        .collect()
}

/// The one source, all that are drawn from a list of `count`, and hosts that send nothing, without end.
fn senders(family: Family, count: u32) -> impl Iterator<Item = IpAddr> {
    let drawn_from = match among(count) {
        Sources::One => 0,
        Sources::Among { bits } => 1 << bits,
    };
    let drawn = (0..drawn_from).map(move |number| drawn(family, number));
    let others = (0..).map(move |number| other(family, number));
    [source(family)].into_iter().chain(drawn).chain(others)
}

/// A host that sends nothing. They lie far apart, each in a network of its own.
pub fn other(family: Family, number: u32) -> IpAddr {
    // Odd, so that no two are the same.
    let apart = number.wrapping_mul(0x9e37_79b1);
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a00_0000 | apart & 0xff_ffff).into(),
        Family::V6 => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(apart) << 80).into(),
    }
}

/// The mask of a signature.
const fn mask(number: u32, masks: Masks) -> Mask {
    match masks {
        Masks::One => ONE_MASK,
        Masks::NoWindow => NO_WINDOW,
        Masks::All => Mask::ALL[number as usize % Mask::ALL.len()],
    }
}

/// `count` signatures, one of them that of the flood's SYN. Random sources change the IP identification of
/// IPv4, so it is not under the mask that compares that.
fn signatures(family: Family, count: u32, masks: Masks) -> Vec<(Mask, Fingerprint)> {
    let v6 = family == Family::V6;
    let fixed_fingerprint = Fingerprint {
        window: FIXED_WINDOW,
        wscale: 255,
        ttl: 64,
        quirks: if v6 { quirk::IPV6 } else { 0 },
        ..Fingerprint::default()
    };
    let hit = (count - 1).min(Mask::Shape.code().into());
    let signature = |number| {
        // No SYN is like the others under any mask: that many options are not in one.
        let options = if number == hit { 0 } else { u64::MAX - u64::from(number) };
        (mask(number, masks), Fingerprint { options, ..fixed_fingerprint })
    };
    (0..count).map(signature).collect()
}
