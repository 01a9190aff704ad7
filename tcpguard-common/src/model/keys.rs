//! Keys made from seeds, for repeatable runs.

use crate::abi::{CookieKey, CookieSecret, HashKey};

/// A key made from a seed (SplitMix64, Steele et al., 2014), for repeatable runs. The agent draws
/// its own.
pub const fn hash_key(seed: u64) -> HashKey {
    let mut key = [0; 10];
    let mut at = 0;
    while at < key.len() {
        let mut word = seed.wrapping_add((at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        key[at] = word ^ word >> 31;
        at += 1;
    }
    HashKey(key)
}

/// A secret for cookies made from a seed; see [`hash_key`].
pub const fn cookie_secret(seed: u64) -> CookieSecret {
    let HashKey(words) = hash_key(!seed);
    let key = CookieKey([words[0], words[1]]);
    CookieSecret { key, timestamp_offset: words[8] as u32, drawn: 1 }
}
