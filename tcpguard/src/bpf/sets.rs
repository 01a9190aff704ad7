//! Tables of sets ([`tcpguard_common::fastpath::sets`]), presented as tables of their entries.

use tcpguard_common::abi::{Set, WAYS};
use tcpguard_common::fastpath::sets::{Key, index, tag};

use super::Result;
use super::table::{BATCH, Plain, Position, Table};

/// A table of `number` sets, a power of two.
#[derive(Debug)]
pub struct Sets<K, V> {
    sets: Table<u32, Set<K, V>>,
    number: u32,
}

impl<K: Key + Default, V: Copy + Default> Sets<K, V>
where
    Set<K, V>: Plain,
{
    pub(super) const fn new(sets: Table<u32, Set<K, V>>, number: u32) -> Self {
        Self { sets, number }
    }

    /// The set of a key with this hash, and where it stands.
    fn set_of(&self, hash: u64) -> Result<(u32, Set<K, V>)> {
        let at = index(hash) as u32 & (self.number - 1);
        Ok((at, self.sets.get(&at)?.unwrap_or_default()))
    }

    /// The value of `key`, given its hash.
    pub fn get(&self, hash: u64, key: &K) -> Result<Option<V>> {
        let (_, set) = self.set_of(hash)?;
        Ok(place(&set, hash, key).map(|place| set.values[place]))
    }

    /// Empties the slot of `key`. The set is written as it was read. Changes that packets make to it
    /// within these microseconds are lost, as when two CPUs write it at once.
    pub fn remove(&self, hash: u64, key: &K) -> Result<()> {
        let (at, mut set) = self.set_of(hash)?;
        let Some(place) = place(&set, hash, key) else { return Ok(()) };
        set.tags[place] = 0;
        set.used &= !(1 << place);
        set.keys[place] = K::default();
        set.values[place] = V::default();
        self.sets.set(&at, &set)
    }

    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut position = Position::default();
        while self.batch(&mut position, |key, value| entries.push((key, value)))? {}
        Ok(entries)
    }

    /// The entries of the next sets from `position` on, [`BATCH`] at most. Returns whether there are
    /// more sets.
    pub fn batch(&self, position: &mut Position, mut each: impl FnMut(K, V)) -> Result<bool> {
        self.sets.batch_of(BATCH / WAYS, position, |_, set| {
            set.entries().for_each(|(key, value)| each(key, value));
        })
    }
}

fn place<K: Key, V>(set: &Set<K, V>, hash: u64, key: &K) -> Option<usize> {
    (0..WAYS).find(|at| set.tags[*at] == tag(hash) && set.keys[*at].difference(key) == 0)
}
