//! A hasher for keys that nobody chooses to collide: quick, and the same on every run.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::random::mix;

/// A map whose order must never matter.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Spreads the bits of what is written.
#[derive(Clone, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = mix(self.0 ^ bits);
    }

    fn write_u128(&mut self, bits: u128) {
        self.write_u64(bits as u64);
        self.write_u64((bits >> 64) as u64);
    }
}
