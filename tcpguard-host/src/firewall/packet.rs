//! The known bits of a client's packet at netfilter, and the results of conditions for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::judge::Way;
use crate::linux::netfilter::{Condition, Element, Family, SetName, Source, Test};

/// States as `ct state` numbers them, include/uapi/linux/netfilter/nf_conntrack_common.h.
pub(super) const INVALID: u32 = 1;
pub(super) const NEW: u32 = 8;
const TCP: u8 = 6;
/// Bytes of an interface's name.
const NAME_LEN: usize = 16;
/// Offsets of the destination address in the IP header.
const TO_V4: u32 = 16;
const TO_V6: u32 = 24;

/// A packet of a client. Its source address and port are unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The flags of its TCP header.
    pub(super) flags: u8,
    /// Its state in conntrack.
    pub(super) state: u32,
    pub(super) port: u16,
    /// The addresses to which it may be sent; none: unknown.
    pub(super) to: &'a [IpAddr],
    /// Interface by which it came; `None`: unknown.
    pub(super) way: Option<&'a Way>,
    /// Bits of its mark that are known, and their values.
    pub(super) mark: (u32, u32),
}

/// Eight bits: their values, and the mask of those that are known.
#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    value: u8,
    known: u8,
}

impl Bits {
    const fn of(value: u8) -> Self {
        Self { value, known: u8::MAX }
    }
}

/// Result of a condition, or of all conditions of a rule, for a packet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Holds {
    /// The packet does not meet the condition.
    No,
    /// The result depends on something unknown.
    Maybe,
    /// The packet meets the condition.
    Yes,
}

/// Result of a rule for a packet, and its causes: the elements of maps that hold, and the keys for which that
/// is unknown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    pub(super) holds: Holds,
    pub(super) hits: Vec<Hit>,
}

/// The cause of an outcome.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Hit {
    /// The element of this number.
    Element(String, usize),
    /// This key could not be checked: the set was not read, or the test is unknown.
    Unread(Vec<u8>),
}

impl Packet<'_> {
    /// The known bits of a source; empty: none.
    fn bits(&self, source: &Source) -> Vec<Bits> {
        let all = |bytes: &[u8]| bytes.iter().map(|byte| Bits::of(*byte)).collect();
        match source {
            Source::Transport { offset, len } if *len <= 64 => {
                let [high, low] = self.port.to_be_bytes();
                let byte = |at| match at {
                    2 => Bits::of(high),
                    3 => Bits::of(low),
                    13 => Bits::of(self.flags),
                    _ => Bits::default(),
                };
                (0..*len).map(|at| byte(offset.saturating_add(at))).collect()
            }
            // The protocol, of IPv4 and, without extension headers, of IPv6.
            Source::Network { offset: 9 | 6, len: 1 } => vec![Bits::of(TCP)],
            Source::CtState => all(&self.state.to_ne_bytes()),
            Source::Mark | Source::CtMark => {
                let (known, value) = (self.mark.0.to_ne_bytes(), self.mark.1.to_ne_bytes());
                let bits = known.into_iter().zip(value);
                bits.map(|(known, value)| Bits { value, known }).collect()
            }
            Source::InName => self.way.map_or_else(Vec::new, |way| {
                let mut name = way.name.clone().into_bytes();
                name.resize(NAME_LEN, 0);
                all(&name)
            }),
            Source::InIndex => {
                let index = self.way.map(|way| way.index).filter(|index| *index != 0);
                index.map_or_else(Vec::new, |index| all(&index.to_ne_bytes()))
            }
            Source::L4Proto => vec![Bits::of(TCP)],
            _ => Vec::new(),
        }
    }

    /// The known bits of a source, for each address to which the packet may be sent where it is a part of that.
    fn variants(&self, source: &Source) -> Vec<Vec<Bits>> {
        let Source::Network { offset: offset @ (TO_V4 | TO_V6), len } = *source else {
            return vec![self.bits(source)];
        };
        let part = |addr: &IpAddr| {
            let bytes = match addr {
                IpAddr::V4(addr) if offset == TO_V4 => addr.octets().to_vec(),
                IpAddr::V6(addr) if offset == TO_V6 => addr.octets().to_vec(),
                _ => return None,
            };
            Some(bytes.get(..len as usize)?.iter().map(|byte| Bits::of(*byte)).collect())
        };
        let known: Vec<_> = self.to.iter().filter_map(part).collect();
        if known.is_empty() { vec![Vec::new()] } else { known }
    }

    /// Result of a condition of a rule in a table.
    pub(super) fn meets(
        &self,
        condition: &Condition,
        table: (Family, &str),
        sets: &BTreeMap<SetName, Vec<Element>>,
    ) -> Outcome {
        let variants = self.variants(&condition.source).into_iter();
        let mut outcomes = variants.map(|bits| Self::tested(bits, condition, table, sets));
        let first = outcomes.next().unwrap_or(Outcome { holds: Holds::Maybe, hits: Vec::new() });
        outcomes.fold(first, |mut all, one| {
            if all.holds != one.holds {
                all.holds = Holds::Maybe;
            }
            all.hits.extend(one.hits);
            all
        })
    }

    /// Result of a condition for these bits of its source.
    fn tested(
        mut bits: Vec<Bits>,
        condition: &Condition,
        table: (Family, &str),
        sets: &BTreeMap<SetName, Vec<Element>>,
    ) -> Outcome {
        if !condition.mask.is_empty() {
            for (place, bits) in bits.iter_mut().enumerate() {
                let mask = condition.mask.get(place).copied().unwrap_or(0);
                let xor = condition.xor.get(place).copied().unwrap_or(0);
                *bits = Bits { value: bits.value & mask ^ xor, known: bits.known | !mask };
            }
        }
        let plain = |holds| Outcome { holds, hits: Vec::new() };
        let unread = |key| Outcome { holds: Holds::Maybe, hits: vec![Hit::Unread(key)] };
        match &condition.test {
            Test::Equal(data) => plain(equal(&bits, data)),
            Test::Unequal(data) => plain(not(equal(&bits, data))),
            Test::Range { from, to, inverted } => {
                let found = match value(&bits) {
                    Some(value) if *from <= value && value <= *to => Holds::Yes,
                    Some(_) => Holds::No,
                    None => Holds::Maybe,
                };
                plain(if *inverted { not(found) } else { found })
            }
            Test::Set { name, inverted, .. } => {
                let Some(value) = value(&bits) else { return plain(Holds::Maybe) };
                let key = (table.0, table.1.to_owned(), name.clone());
                let Some(elements) = sets.get(&key) else { return unread(value) };
                match within(elements, &value) {
                    Found::Element(_) if *inverted => plain(Holds::No),
                    Found::Element(place) => {
                        let hits = vec![Hit::Element(name.clone(), place)];
                        Outcome { holds: Holds::Yes, hits }
                    }
                    Found::None => plain(if *inverted { Holds::Yes } else { Holds::No }),
                    Found::Unknown => unread(value),
                }
            }
            // Of other bits it may say something else.
            Test::Unknown => value(&bits).map_or_else(|| plain(Holds::Maybe), unread),
        }
    }
}

const fn not(holds: Holds) -> Holds {
    match holds {
        Holds::No => Holds::Yes,
        Holds::Maybe => Holds::Maybe,
        Holds::Yes => Holds::No,
    }
}

/// The bytes, if all of them are known.
fn value(bits: &[Bits]) -> Option<Vec<u8>> {
    let known = !bits.is_empty() && bits.iter().all(|bits| bits.known == u8::MAX);
    known.then(|| bits.iter().map(|bits| bits.value).collect())
}

/// Compares the known bits with `data`, which may be the beginning of a name.
fn equal(bits: &[Bits], data: &[u8]) -> Holds {
    if bits.len() < data.len() || data.is_empty() {
        return Holds::Maybe;
    }
    let pairs = || bits.iter().zip(data);
    if pairs().any(|(bits, byte)| (bits.value ^ byte) & bits.known != 0) {
        return Holds::No;
    }
    if pairs().all(|(bits, _)| bits.known == u8::MAX) { Holds::Yes } else { Holds::Maybe }
}

enum Found {
    Element(usize),
    None,
    Unknown,
}

/// Finds the element that has a key, by itself or by the interval that it begins.
fn within(elements: &[Element], value: &[u8]) -> Found {
    if elements.iter().any(|element| !element.key.is_empty() && element.key.len() != value.len()) {
        return Found::Unknown;
    }
    let exact = |element: &Element| element.key == value && !element.ends;
    if let Some(place) = elements.iter().position(exact) {
        return Found::Element(place);
    }
    if !elements.iter().any(|element| element.ends) {
        return Found::None;
    }
    let below = elements.iter().enumerate().filter(|(_, element)| element.key.as_slice() <= value);
    match below.max_by(|(_, one), (_, other)| one.key.cmp(&other.key)) {
        Some((place, element)) if !element.ends => Found::Element(place),
        _ => Found::None,
    }
}
