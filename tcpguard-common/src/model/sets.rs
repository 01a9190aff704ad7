//! A table of sets: the counterpart of the programs' array of them.

extern crate std;

use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use crate::abi::Set;

/// `SETS` sets, a power of two, of which each is made when it is asked for.
#[derive(Clone, Debug)]
pub struct Sets<K, V, const SETS: usize>(Vec<Option<Box<Set<K, V>>>>);

impl<K, V, const SETS: usize> Default for Sets<K, V, SETS> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + Default, V: Copy + Default, const SETS: usize> Sets<K, V, SETS> {
    /// One of them; `index` is taken modulo their number.
    pub fn set(&mut self, index: u64) -> &mut Set<K, V> {
        if self.0.is_empty() {
            self.0.resize(SETS, None);
        }
        self.0[index as usize & (SETS - 1)].get_or_insert_default()
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> {
        self.0.iter().flatten().flat_map(|set| set.entries())
    }
}

/// The other side of a comparison: a table of the kernel, read in order.
impl<K, V, const SETS: usize> PartialEq<Sets<K, V, SETS>> for BTreeMap<K, V>
where
    K: Copy + Default + Ord,
    V: Copy + Default + PartialEq,
{
    fn eq(&self, other: &Sets<K, V, SETS>) -> bool {
        let other: Self = other.iter().collect();
        *self == other
    }
}
