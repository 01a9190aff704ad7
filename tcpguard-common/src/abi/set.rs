//! Sets: the parts of the tables of bounded size that every packet may fill.

use super::{Addr, Flow, FlowKey, SourceCounters};

/// Slots of a set.
pub const WAYS: usize = 16;

/// One set of a table. A key with a hash that chooses this set has one of its slots, or none. Searching
/// a set reads the tags, and one key at most.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Set<K, V> {
    /// Bits of the hash of each slot's key; 0: the slot is empty.
    pub tags: [u32; WAYS],
    /// A bit for each slot that was used since all of them had been.
    pub used: u64,
    /// Keys of the slots.
    pub keys: [K; WAYS],
    /// Values of the slots.
    pub values: [V; WAYS],
}

/// Element of `FLOWS`: sampled connection attempts.
pub type FlowSet = Set<FlowKey, Flow>;
/// Element of `SOURCES`: sources that never completed a handshake.
pub type SourceSet = Set<Addr, SourceCounters>;

impl<K: Copy, V: Copy> Set<K, V> {
    /// The entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (K, V)> {
        // By reference: a set has kilobytes, and of the thousands in a table most may be empty.
        let places = self.tags.iter().zip(self.keys.iter().zip(&self.values));
        places.filter(|(tag, _)| **tag != 0).map(|(_, (key, value))| (*key, *value))
    }
}
