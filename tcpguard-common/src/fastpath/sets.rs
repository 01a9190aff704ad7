//! Tables of sets, which forget entries that were not used lately.
//!
//! The kernel's LRU hashes do the same, but an insertion takes a lock, moves an element between lists
//! that all CPUs share, and costs several hundred ns when each packet brings another source; and beside
//! each element stand 64 bytes of lists and buckets. Here the keyed hash of a packet chooses a set of
//! 16 slots, and a few cache lines of that set decide which entry it finds or replaces.
//!
//! A set forgets by one bit for each slot ("bit-PLRU"; Al-Zoubi, Milenkovic and Milenkovic,
//! "Performance evaluation of cache replacement policies", 2004). A use sets the bit, a new entry takes
//! the first slot without it, and the use that would leave none clears it in all others.
//!
//! Of half as many flows as there are slots one in a thousand finds its set full, and replaces another.
//! When 20,000 flows a second turn the table over, all are remembered for a second, nearly all for two,
//! and three of five for three.
//!
//! CPUs that write one set at once may mix two entries, lose one, or make one twice: a flow of the
//! sample or a source's count is wrong or lost, as is the unused half of a double entry. No client is
//! validated by such an entry. A client is validated by the acknowledged number of the SYN-ACK, which
//! stands there [`bound`] to its own flow. In another flow's entry it is a number that no SYN-ACK had.

use super::Tables;
use super::distinct::first_bit;
use crate::abi::{Addr, Flow, FlowKey, Set, SourceCounters, WAYS};

/// A bit for each slot.
const ALL: u64 = (1 << WAYS) - 1;

/// The key of a slot.
pub trait Key: Copy {
    /// 0 if both are the same.
    fn difference(&self, other: &Self) -> u32;
}

impl Key for Addr {
    #[inline(always)]
    fn difference(&self, other: &Self) -> u32 {
        let ([a, b, c, d], [e, f, g, h]) = (self.words(), other.words());
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)
    }
}

impl Key for FlowKey {
    #[inline(always)]
    fn difference(&self, other: &Self) -> u32 {
        let ports = |key: &Self| {
            let ([a, b], [c, d]) = (key.client_port, key.server_port);
            u32::from_ne_bytes([a, b, c, d])
        };
        self.client.difference(&other.client)
            | self.server.difference(&other.server)
            | (ports(self) ^ ports(other))
    }
}

/// The set that a hash chooses, to be taken modulo their number: its highest bits, because the lowest
/// choose the sample.
#[inline(always)]
pub const fn index(hash: u64) -> u64 {
    hash >> 48
}

/// The bits of a hash that distinguish keys within a set.
#[inline(always)]
pub const fn tag(hash: u64) -> u32 {
    let tag = (hash >> 16) as u32;
    if tag == 0 { 1 } else { tag }
}

/// A sequence number as an entry with this hash holds it, and back: worth nothing in any other. The
/// hash is as secret as its key.
#[inline(always)]
pub const fn bound(hash: u64, number: u32) -> u32 {
    number ^ tag(hash)
}

/// The number of the first of these slots.
#[inline(always)]
fn first<T: Tables>(places: u64) -> usize {
    T::opaque(u64::from(first_bit(places as u32)) - 1) as usize & (WAYS - 1)
}

/// The slot of a key in its set.
///
/// Tags are compared without a branch: which one is the same cannot be predicted, and the verifier would
/// follow each way. For the same reason the compiler must not know that a difference has 32 bits, or
/// that the slot is one of 16.
#[inline(always)]
fn place_of<T: Tables, K: Key, V>(set: &Set<K, V>, tag: u32, key: &K) -> Option<usize> {
    let (mut same, mut place) = (0, 0);
    while place < WAYS {
        // Less by one, only zero has the highest bit.
        let difference = T::opaque(u64::from(set.tags[place] ^ tag));
        same |= difference.wrapping_sub(1) >> 63 << place;
        place += 1;
    }
    if same == 0 {
        return None;
    }
    // Of two keys with the same tag, as in one set of 2^25, the second is not found and is inserted
    // again.
    let place = first::<T>(same);
    (set.keys[place].difference(key) == 0).then_some(place)
}

/// The slot for a key that has none.
#[inline(always)]
fn place_for<T: Tables, K, V>(set: &Set<K, V>) -> usize {
    first::<T>(!set.used & ALL)
}

/// Notes that a slot is used.
#[inline(always)]
fn mark<K, V>(set: &mut Set<K, V>, place: usize) {
    let used = set.used | 1 << place;
    set.used = if used == ALL { 1 << place } else { used };
}

#[inline(always)]
fn find<'a, T: Tables, K: Key, V>(set: &'a mut Set<K, V>, hash: u64, key: &K) -> Option<&'a mut V> {
    let place = place_of::<T, K, V>(set, tag(hash), key)?;
    mark(set, place);
    Some(&mut set.values[place])
}

#[inline(always)]
fn insert<T: Tables, K: Key, V: Copy>(set: &mut Set<K, V>, hash: u64, key: &K, value: &V) {
    let place = place_for::<T, K, V>(set);
    mark(set, place);
    set.keys[place] = *key;
    set.values[place] = *value;
    set.tags[place] = tag(hash);
}

/// A sampled connection attempt, given the hash of its key.
#[inline(always)]
pub(super) fn flow<'a, T: Tables>(
    tables: &'a mut T,
    hash: u64,
    key: &FlowKey,
) -> Option<&'a mut Flow> {
    find::<T, _, _>(tables.flow_set(index(hash))?, hash, key)
}

/// Records one that is not there.
#[inline(always)]
pub(super) fn insert_flow<T: Tables>(tables: &mut T, hash: u64, key: &FlowKey, flow: &Flow) {
    if let Some(set) = tables.flow_set(index(hash)) {
        insert::<T, _, _>(set, hash, key, flow);
    }
}

/// Counters of a source that never completed a handshake, given the hash of its address.
#[inline(always)]
pub(super) fn source<'a, T: Tables>(
    tables: &'a mut T,
    hash: u64,
    addr: &Addr,
) -> Option<&'a mut SourceCounters> {
    find::<T, _, _>(tables.source_set(index(hash))?, hash, addr)
}

/// Records one that is not there.
#[inline(always)]
pub(super) fn insert_source<T: Tables>(
    tables: &mut T,
    hash: u64,
    addr: &Addr,
    counters: &SourceCounters,
) {
    if let Some(set) = tables.source_set(index(hash)) {
        insert::<T, _, _>(set, hash, addr, counters);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::abi::SourceSet;
    use crate::abi::maps::{FLOW_SETS, MAX_FLOWS};
    use crate::model::{Model, hash_key};

    const KEY: crate::abi::HashKey = hash_key(1);

    fn addr(number: u32) -> Addr {
        Addr::from_v4(number.to_be_bytes())
    }

    fn counted(syn: u64) -> SourceCounters {
        SourceCounters { syn, ..SourceCounters::default() }
    }

    /// Puts a source into one set under a tag of its own.
    fn put(set: &mut SourceSet, number: u32) {
        let hash = u64::from(number) << 16;
        insert::<Model, _, _>(set, hash, &addr(number), &counted(number.into()));
    }

    fn get(set: &mut SourceSet, number: u32) -> Option<u64> {
        let hash = u64::from(number) << 16;
        find::<Model, _, _>(set, hash, &addr(number)).map(|counters| counters.syn)
    }

    #[test]
    fn sixteen_share_a_set_and_a_new_entry_replaces_one_not_used_lately() {
        for busy in 1..=16 {
            let mut set = SourceSet::default();
            (1..=16).for_each(|number| put(&mut set, number));
            assert!((1..=16).all(|number| get(&mut set, number) == Some(number.into())));
            assert_eq!(get(&mut set, 17), None);
            for number in 17..=1000 {
                assert_eq!(get(&mut set, busy), Some(busy.into()), "in use when {number} comes");
                put(&mut set, number);
                assert_eq!(get(&mut set, number), Some(number.into()));
            }
            assert_eq!(set.entries().count(), WAYS);
            assert_eq!(get(&mut set, 900), None);
        }
    }

    #[test]
    fn the_tag_alone_does_not_make_one_the_other() {
        let mut set = SourceSet::default();
        put(&mut set, 5);
        assert!(find::<Model, _, _>(&mut set, 5 << 16, &addr(6)).is_none());
        assert_eq!(tag(0), 1, "no tag is that of an empty place");
    }

    #[test]
    fn every_place_is_found_by_bits_as_it_is_by_looking() {
        for at in 0..WAYS {
            assert_eq!(first::<Model>(1 << at | 1 << 15), at);
            let mut set = SourceSet::default();
            set.tags[at] = 9;
            set.keys[at] = addr(9);
            assert_eq!(place_of::<Model, _, _>(&set, 9, &addr(9)), Some(at));
            set.used = 0xffff & !(1 << at);
            assert_eq!(place_for::<Model, _, _>(&set), at);
        }
    }

    /// Flows as chosen by an attacker that knows all but the key: one source's ports, or sources in a
    /// row, of which as many are in the sample.
    #[test]
    fn flows_spread_evenly_over_the_sets() {
        const SETS: usize = FLOW_SETS as usize;
        for shift in [0, 6] {
            for ports in [false, true] {
                let mut sets = [0u32; SETS];
                let mut sampled = 0;
                for number in 0.. {
                    let [high, low] = [(number >> 16) as u16, number as u16];
                    let (client, port) = if ports { (high.into(), low) } else { (number, 1024) };
                    let key = FlowKey {
                        client: addr(client),
                        client_port: port.to_be_bytes(),
                        ..FlowKey::default()
                    };
                    let hash = crate::fastpath::hash::flow(&KEY, &key);
                    if !crate::fastpath::hash::sampled(hash, shift) {
                        continue;
                    }
                    sets[index(hash) as usize & (SETS - 1)] += 1;
                    sampled += 1;
                    if sampled == MAX_FLOWS {
                        break;
                    }
                }
                let expected = f64::from(MAX_FLOWS) / SETS as f64;
                let chi: f64 =
                    sets.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
                // 4,095 degrees of freedom: standard deviation 90.5.
                assert!((3600.0..4600.0).contains(&chi), "{shift} {ports}: {chi:.0}");
            }
        }
    }

    /// The chance that a set of mean load 8 gets more than 16 is 0.37 %, and the loss from it 0.08
    /// % (Poisson).
    #[test]
    fn of_half_as_many_flows_as_there_are_places_few_are_lost() {
        let mut model = Model::default();
        let keys: Vec<FlowKey> = (0..MAX_FLOWS / 2)
            .map(|number| FlowKey { client: addr(number), ..FlowKey::default() })
            .collect();
        for key in &keys {
            insert_flow(&mut model, crate::fastpath::hash::flow(&KEY, key), key, &Flow::default());
        }
        let kept = keys
            .iter()
            .filter(|key| flow(&mut model, crate::fastpath::hash::flow(&KEY, key), key).is_some())
            .count();
        let lost = keys.len() - kept;
        assert_eq!(model.flows.iter().count(), kept);
        assert!(lost * 500 < keys.len(), "{lost} of {}", keys.len());
        assert!(index(u64::MAX) >= u64::from(FLOW_SETS) - 1, "every set is chosen");
    }

    proptest::proptest! {
        /// A comparison with a table without bounds, as long as no set is full.
        #[test]
        fn while_no_set_is_full_nothing_is_lost(numbers in proptest::collection::vec(0u32..4000, 1..300)) {
            let mut model = Model::default();
            let mut known = std::collections::BTreeMap::new();
            for (at, number) in numbers.iter().enumerate() {
                let (addr, at) = (addr(*number), at as u64);
                let hash = crate::fastpath::hash::source(&KEY, &addr);
                match source(&mut model, hash, &addr) {
                    Some(counters) => counters.syn += at,
                    None => insert_source(&mut model, hash, &addr, &counted(at)),
                }
                *known.entry(addr).or_insert(0) += at;
            }
            let found: std::collections::BTreeMap<_, _> =
                model.sources.iter().map(|(addr, counters)| (addr, counters.syn)).collect();
            proptest::prop_assert_eq!(found, known);
        }
    }
}
