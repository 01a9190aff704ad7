//! Secrets from the kernel's random numbers that no outside party may guess.

use std::io;

use tcpguard_common::abi::{CookieKey, CookieSecret, HashKey};
use tcpguard_host::random::words;

/// A key for the hashes of the data path's tables.
pub fn hash_key() -> io::Result<HashKey> {
    Ok(HashKey(words()?))
}

/// The key with which the networks of clients are hashed.
pub fn network_secret() -> io::Result<[u64; 2]> {
    words()
}

/// The secret for cookies after `before`, which lives in the kernel alone. An existing secret is kept, so
/// that a restart does not invalidate cookies in flight; without one, a new secret is drawn.
pub fn cookie_secret(before: CookieSecret) -> io::Result<CookieSecret> {
    if before.drawn != 0 {
        return Ok(before);
    }
    let [low, high, offset] = words()?;
    Ok(CookieSecret { key: CookieKey([low, high]), timestamp_offset: offset as u32, drawn: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_hosts_hash_networks_alike() {
        assert_ne!(network_secret().unwrap(), network_secret().unwrap());
    }

    #[test]
    fn a_secret_is_drawn_once_and_then_kept() {
        let first = cookie_secret(CookieSecret::NONE).unwrap();
        assert_eq!(first.drawn, 1);
        let CookieKey([low, high]) = first.key;
        assert!(low != 0 && high != 0 && low != high, "{first:?}");
        assert_eq!(cookie_secret(first).unwrap(), first);
        assert_ne!(cookie_secret(CookieSecret::NONE).unwrap(), first);
    }
}
