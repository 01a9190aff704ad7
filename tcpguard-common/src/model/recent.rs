//! A map of bounded size that forgets its least recently used entries: the counterpart of the
//! kernel's LRU hash in the model.

extern crate std;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::mem;

/// Holds at most `SIZE` entries, among them the half of `SIZE` used last: entries live in two
/// generations, and when the younger one is full the older one is forgotten. Up to half of `SIZE`
/// entries nothing is ever lost. The kernel's LRU lists forget less regularly; only the bound
/// matters.
#[derive(Clone, Debug)]
pub struct Recent<K, V, const SIZE: usize> {
    young: HashMap<K, V, Keyed>,
    old: HashMap<K, V, Keyed>,
}

impl<K, V, const SIZE: usize> Default for Recent<K, V, SIZE> {
    fn default() -> Self {
        let keyed = Keyed::default();
        Self { young: HashMap::with_hasher(keyed), old: HashMap::with_hasher(keyed) }
    }
}

impl<K: Copy + Eq + Hash, V, const SIZE: usize> Recent<K, V, SIZE> {
    /// The value of `key`, which counts as a use.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.add(*key, value);
        }
        self.young.get_mut(key)
    }

    /// The value of `key`, which does not count as a use.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.add(key, value);
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, key: K, value: V) {
        if self.young.len() >= SIZE / 2 && !self.young.contains_key(&key) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }
}

/// The other side of a comparison: a table of the kernel, read in order.
impl<K, V, const SIZE: usize> PartialEq<Recent<K, V, SIZE>> for BTreeMap<K, V>
where
    K: Copy + Hash + Ord,
    V: PartialEq,
{
    fn eq(&self, other: &Recent<K, V, SIZE>) -> bool {
        self.len() == other.len() && other.iter().all(|(key, value)| self.get(key) == Some(value))
    }
}

/// A key for hashing, drawn at random for each table: the author of a capture must not be able to
/// put all its addresses into one chain.
#[derive(Clone, Copy, Debug)]
struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        // Odd, so that multiplying by it loses nothing.
        Self(RandomState::new().hash_one(0) | 1)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded { sum: self.0, key: self.0 }
    }
}

/// Multiplies and folds word by word, as wyhash does (Wang Yi): a third of the time of the standard
/// library's hash for keys of a few words.
struct Folded {
    sum: u64,
    key: u64,
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_ne_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.sum.rotate_left(23) ^ word) * u128::from(self.key);
        self.sum = product as u64 ^ (product >> 64) as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Recent<u32, u32, 200>;

    #[test]
    fn up_to_half_its_size_it_forgets_nothing() {
        let mut recent = Small::default();
        for round in 0..3 {
            for key in 0..100 {
                recent.insert(key, key + round);
            }
        }
        let all: BTreeMap<u32, u32> = (0..100).map(|key| (key, key + 2)).collect();
        assert!(all == recent);
        assert_eq!(recent.len(), 100);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut recent = Small::default();
        recent.insert(u32::MAX, 7);
        for key in 0..100_000 {
            recent.insert(key, key);
            if key % 50 == 0 {
                assert_eq!(recent.get_mut(&u32::MAX), Some(&mut 7), "after {key}");
            }
            assert!(recent.len() <= 200, "after {key}");
        }
        assert_eq!(recent.peek(&99_999), Some(&99_999));
        assert_eq!(recent.peek(&0), None);
        for key in 99_900..100_000 {
            assert_eq!(recent.remove(&key), Some(key), "the last hundred are there");
            assert_eq!(recent.peek(&key), None, "{key} stands in one generation only");
        }
    }

    #[test]
    fn keys_that_differ_in_few_bits_spread() {
        let keyed = Keyed::default();
        let mut cells = [0u32; 256];
        for key in 0..65_536u64 {
            cells[keyed.hash_one([key as u32, 0, 0, 0]) as usize & 255] += 1;
        }
        // Mean 256, standard deviation 16: ten of those in either direction.
        assert!(cells.iter().all(|n| (96..=416).contains(n)), "{cells:?}");
    }
}
