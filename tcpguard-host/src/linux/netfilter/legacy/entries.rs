//! Parser of the tables that the kernel returns: `struct ipt_getinfo`, then entries of
//! `struct ipt_entry` or `struct ip6t_entry`, with the matches and the target of
//! include/uapi/linux/netfilter/x_tables.h.
//!
//! An entry that makes no sense ends the table. Nothing here panics, whatever the bytes are.

use std::collections::{BTreeMap, BTreeSet};

use super::super::parse::{name, unknown};
use super::super::xt::{self, short};
use super::super::{
    Chain, Condition, Effect, Family, Hook, MOST_RULES, Rule, Source, Test, Verdict,
};

/// The chains that packets enter, by their numbers (`NF_INET_…`).
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// Bytes of an interface's name.
const INTERFACE_LEN: usize = 16;
/// Bytes of `struct xt_entry_match` and `struct xt_entry_target` before their data: the size, the name
/// and the revision.
const EXTENSION_LEN: usize = 32;
const NAME: std::ops::Range<usize> = 2..31;
const REVISION: usize = 31;
/// Bytes of the packet counters.
const COUNTERS_LEN: usize = 16;
/// Bits for the inverted conditions of a rule: `IPT_INV_…`, `IP6T_INV_…`.
const IN_INVERTED: u8 = 0x01;
const SOURCE_INVERTED: u8 = 0x08;
const DESTINATION_INVERTED: u8 = 0x10;
const PROTOCOL_INVERTED: u8 = 0x40;

/// Offsets of the fields of an entry, on 64-bit machines.
struct Layout {
    /// Bytes of an address. Source, destination and their masks are first.
    address: usize,
    /// Offset of the source in the IP header.
    source: u32,
    /// The names of the interfaces, in and out, then their masks.
    interfaces: usize,
    protocol: usize,
    flags: usize,
    inverted: usize,
    /// The flag of a jump that does not return.
    goto: u8,
    /// The flag of a condition on fragments, or on the traffic class.
    other: u8,
    /// The offset of the target, then that of the next entry.
    target: usize,
    /// Offset of the matches; the packet counters are before them.
    len: usize,
}

const IPV4: Layout = Layout {
    address: 4,
    source: 12,
    interfaces: 16,
    protocol: 80,
    flags: 82,
    inverted: 83,
    goto: 0x02,
    other: 0x01,
    target: 88,
    len: 112,
};
const IPV6: Layout = Layout {
    address: 16,
    source: 8,
    interfaces: 64,
    protocol: 128,
    flags: 131,
    inverted: 132,
    goto: 0x04,
    other: 0x02,
    target: 140,
    len: 168,
};

/// The sizes of a table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Info {
    /// The offset of the first entry for each hook; `None`: the table is not at it.
    pub hooks: [Option<u32>; HOOKS.len()],
    pub rules: usize,
    /// Bytes of the entries.
    pub size: usize,
}

/// An entry, and its offset.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    at: usize,
    /// Bytes of the entry, more than [`Layout::len`].
    bytes: &'a [u8],
    /// Offset of the target.
    target: usize,
}

/// Target of an entry, `struct xt_entry_target`.
enum Target<'a> {
    /// The standard target: a verdict if negative, or the offset of an entry.
    Standard(i32),
    /// The head of a user's chain, with its name, or the end of the table.
    Error(String),
    /// An extension, by its name, and its data.
    Extension(String, &'a [u8]),
}

/// The answer to `IPT_SO_GET_INFO`.
pub fn info(answer: &[u8]) -> Option<Info> {
    let word = |at: usize| Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let valid = word(32)?;
    let mut hooks = [None; HOOKS.len()];
    for (number, hook) in hooks.iter_mut().enumerate() {
        let first = word(36 + 4 * number)?;
        *hook = (valid & 1 << number != 0).then_some(first);
    }
    Some(Info { hooks, rules: word(76)? as usize, size: word(80)? as usize })
}

/// The chains of a table, from the answer to `IPT_SO_GET_ENTRIES`.
pub fn chains(family: Family, table: &str, info: &Info, bytes: &[u8]) -> Vec<Chain> {
    let layout = Layout::of(family);
    let entries = layout.entries(bytes);
    // Where chains begin; a chain ends where the next one, or its head, begins.
    let (mut starts, mut bounds) = (Vec::new(), BTreeSet::new());
    for (number, first) in (0..).zip(info.hooks) {
        if let Some(first) = first {
            let hook = Hook { number, devices: Vec::new() };
            starts.push((first as usize, HOOKS[number as usize].to_owned(), Some(hook)));
        }
    }
    let mut names = BTreeMap::new();
    for entry in &entries {
        if let Some(Target::Error(name)) = entry.target() {
            let first = entry.at + entry.bytes.len();
            bounds.insert(entry.at);
            names.insert(first, name.clone());
            starts.push((first, name, None));
        }
    }
    bounds.extend(starts.iter().map(|(first, ..)| *first));
    let mut found = Vec::new();
    for (first, name, hook) in starts {
        // The end of the table has no entry behind it.
        let Ok(begin) = entries.binary_search_by_key(&first, |entry| entry.at) else { continue };
        let bound = bounds.range(first + 1..).next();
        let end =
            bound.map_or(entries.len(), |bound| entries.partition_point(|entry| entry.at < *bound));
        let numbered = entries[begin..end].iter().zip(begin as u64..);
        let mut rules: Vec<Rule> =
            numbered.map(|(entry, number)| layout.rule(entry, number, &names)).collect();
        if rules.last().is_some_and(ends_chain) {
            rules.pop();
        }
        let table = table.to_owned();
        let nat = hook.is_some() && table == "nat";
        found.push(Chain { family, table, name, hook, nat, legacy: true, rules });
    }
    found
}

/// Returns whether it is the rule that iptables puts at the end of each chain: the policy, or a return.
fn ends_chain(rule: &Rule) -> bool {
    let ends = matches!(
        rule.effects[..],
        [Effect::Verdict(Verdict::Accept | Verdict::Drop | Verdict::Return)]
    );
    ends && rule.conditions.is_empty()
}

/// Sets the packet counters to 0.
pub(super) fn clear_counters(family: Family, bytes: &mut [u8]) {
    let layout = Layout::of(family);
    let offsets: Vec<usize> = layout.entries(bytes).iter().map(|entry| entry.at).collect();
    for offset in offsets {
        bytes[offset + layout.len - COUNTERS_LEN..][..COUNTERS_LEN].fill(0);
    }
}

impl Layout {
    fn of(family: Family) -> &'static Self {
        if family == Family::IPV6 { &IPV6 } else { &IPV4 }
    }

    /// The entries up to the first that makes no sense.
    fn entries<'a>(&self, bytes: &'a [u8]) -> Vec<Entry<'a>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while found.len() < MOST_RULES
            && let Some(entry) = self.entry(bytes, at)
        {
            at += entry.bytes.len();
            found.push(entry);
        }
        found
    }

    fn entry<'a>(&self, bytes: &'a [u8], at: usize) -> Option<Entry<'a>> {
        let rest = bytes.get(at..)?;
        let target = usize::from(short(rest, self.target)?);
        let next = usize::from(short(rest, self.target + 2)?);
        let makes_sense = self.len <= target && target < next;
        makes_sense.then_some(Entry { at, bytes: rest.get(..next)?, target })
    }

    fn rule(&self, entry: &Entry<'_>, number: u64, names: &BTreeMap<usize, String>) -> Rule {
        let mut rule = Rule { handle: number, ..Rule::default() };
        self.header(entry.bytes, &mut rule);
        self.matches(entry, &mut rule);
        let goes = entry.bytes[self.flags] & self.goto != 0;
        let effect = match entry.target() {
            Some(Target::Standard(verdict)) => match usize::try_from(verdict) {
                // A rule without a target.
                Ok(to) if to == entry.at + entry.bytes.len() => Effect::Harmless,
                Ok(to) => {
                    let chain = names.get(&to).cloned().unwrap_or_else(|| format!("@{to}"));
                    let jump = if goes { Verdict::Goto } else { Verdict::Jump };
                    Effect::Verdict(jump(chain))
                }
                Err(_) => verdict_of(verdict),
            },
            Some(Target::Extension(name, data)) => {
                xt::target(&name, data, &mut rule);
                return rule;
            }
            Some(Target::Error(_)) | None => Effect::Decides("error".to_owned()),
        };
        rule.effects.push(effect);
        rule
    }

    /// Reads `struct ipt_ip` or `struct ip6t_ip6` into the rule.
    fn header(&self, bytes: &[u8], rule: &mut Rule) {
        let is_inverted = |bit: u8| bytes[self.inverted] & bit != 0;
        let test = |value: &[u8], bit: u8| match is_inverted(bit) {
            true => Test::Unequal(value.to_vec()),
            false => Test::Equal(value.to_vec()),
        };
        let len = self.address;
        for (place, bit) in [SOURCE_INVERTED, DESTINATION_INVERTED].into_iter().enumerate() {
            let (address, mask) =
                (&bytes[place * len..][..len], &bytes[(place + 2) * len..][..len]);
            if mask.iter().any(|byte| *byte != 0) {
                let offset = self.source + (place * len) as u32;
                let source = Source::Network { offset, len: len as u32 };
                let all = mask.iter().all(|byte| *byte == u8::MAX);
                let (mask, xor) =
                    if all { (vec![], vec![]) } else { (mask.to_vec(), vec![0; len]) };
                rule.conditions.push(Condition { source, mask, xor, test: test(address, bit) });
            }
        }
        let name =
            |place: usize| &bytes[self.interfaces + place * INTERFACE_LEN..][..INTERFACE_LEN];
        let compared = name(2).iter().take_while(|byte| **byte != 0).count();
        if compared > 0 {
            let test = test(&name(0)[..compared], IN_INVERTED);
            rule.conditions.push(plain(Source::InName, test));
        }
        if name(3).iter().any(|byte| *byte != 0) {
            rule.conditions.push(unknown("oifname"));
        }
        match short(bytes, self.protocol).map(u8::try_from) {
            Some(Ok(0)) => {}
            Some(Ok(protocol)) => {
                let test = test(&[protocol], PROTOCOL_INVERTED);
                rule.conditions.push(plain(Source::L4Proto, test));
            }
            _ => rule.conditions.push(unknown("protocol")),
        }
        if bytes[self.flags] & self.other != 0 {
            rule.conditions.push(unknown("ip header"));
        }
    }

    /// Reads every `struct xt_entry_match` into the rule.
    fn matches(&self, entry: &Entry<'_>, rule: &mut Rule) {
        let mut rest = &entry.bytes[self.len..entry.target];
        while !rest.is_empty() {
            let size = short(rest, 0).map_or(0, usize::from);
            let one = rest.get(..size).filter(|one| one.len() >= EXTENSION_LEN);
            let Some(one) = one else {
                rule.conditions.push(unknown("match"));
                return;
            };
            let (called, revision) = (name(&one[NAME]), u32::from(one[REVISION]));
            xt::matched(&called, revision, &one[EXTENSION_LEN..], rule);
            rest = &rest[size..];
        }
    }
}

impl<'a> Entry<'a> {
    fn target(&self) -> Option<Target<'a>> {
        let target = self.bytes.get(self.target..)?;
        let data = target.get(EXTENSION_LEN..)?;
        let called = name(&target[NAME]);
        Some(match &called[..] {
            "" => Target::Standard(i32::from_ne_bytes(*data.first_chunk()?)),
            "ERROR" => Target::Error(name(data)),
            _ => Target::Extension(called, data),
        })
    }
}

fn plain(source: Source, test: Test) -> Condition {
    Condition { source, mask: Vec::new(), xor: Vec::new(), test }
}

/// Reads a negative verdict: `-NF_… - 1`, and `XT_RETURN`.
fn verdict_of(code: i32) -> Effect {
    match code {
        -1 => Effect::Verdict(Verdict::Drop),
        -2 => Effect::Verdict(Verdict::Accept),
        -4 => Effect::Verdict(Verdict::Queue),
        -5 => Effect::Verdict(Verdict::Return),
        _ => Effect::Decides("verdict".to_owned()),
    }
}
