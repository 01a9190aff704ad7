//! Draws the keys of SYN cookies, and replaces each when its time is over.
//!
//! Keys live in the kernel alone, so that a restart makes no cookie void that is out.

use std::fs::File;
use std::io::{self, Read};

use tcpguard_common::abi::{CookieKey, CookieKeys};
use tcpguard_common::cookie;
use tcpguard_engine::Timestamp;

use crate::kernel::{Dataplane, KernelError};

/// Where the programs find the keys.
pub trait KeyRing {
    /// All-zero before they are drawn.
    fn read(&self) -> Result<CookieKeys, KernelError>;
    /// Replaces them; those that stay the same are not disturbed.
    fn write(&self, keys: &CookieKeys) -> Result<(), KernelError>;
}

impl KeyRing for Dataplane {
    fn read(&self) -> Result<CookieKeys, KernelError> {
        self.cookie_keys()
    }

    fn write(&self, keys: &CookieKeys) -> Result<(), KernelError> {
        self.set_cookie_keys(keys)
    }
}

/// When a key was last replaced.
#[derive(Debug, Default)]
pub struct CookieKeeper {
    slot: Option<u64>,
}

impl CookieKeeper {
    /// Once in each time slot replaces the key that is out of use; draws all where there are none.
    ///
    /// # Errors
    /// When the kernel refuses, or has no random numbers. The next call tries again.
    pub fn tend(&mut self, now: Timestamp, ring: &impl KeyRing) -> anyhow::Result<()> {
        let tick = cookie::ticks(now.as_nanos());
        let slot = cookie::slot(tick);
        if self.slot == Some(slot) {
            return Ok(());
        }
        let mut keys = ring.read()?;
        if keys.drawn == 0 {
            for key in &mut keys.keys {
                *key = random_key()?;
            }
            keys.timestamp_offset = random::<4>().map(u32::from_ne_bytes)?;
            keys.drawn = 1;
        } else {
            keys.keys[CookieKeys::spare(tick)] = random_key()?;
        }
        ring.write(&keys)?;
        self.slot = Some(slot);
        Ok(())
    }
}

fn random_key() -> io::Result<CookieKey> {
    let word = || random::<8>().map(u64::from_ne_bytes);
    Ok(CookieKey([word()?, word()?]))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tcpguard_common::abi::{Addr, FlowKey};
    use tcpguard_common::cookie::{Choice, Handshake, Offer, SLOT_TICKS, check, make, ticks};

    use super::*;

    impl KeyRing for Cell<CookieKeys> {
        fn read(&self) -> Result<CookieKeys, KernelError> {
            Ok(self.get())
        }

        fn write(&self, keys: &CookieKeys) -> Result<(), KernelError> {
            self.set(*keys);
            Ok(())
        }
    }

    /// A poll.
    const STEP: Duration = Duration::from_millis(250);

    #[test]
    fn keys_are_drawn_once_and_then_replaced_one_by_one() {
        let ring = Cell::new(CookieKeys::NONE);
        let mut keeper = CookieKeeper::default();
        let mut now = Timestamp::from_millis(1_000_000);
        keeper.tend(now, &ring).unwrap();
        let first = ring.get();
        assert_eq!(first.drawn, 1);
        let mut distinct = first.keys.map(|key| key.0).to_vec();
        distinct.dedup();
        assert!(distinct.len() == 4 && !distinct.contains(&[0; 2]), "{distinct:?}");
        let mut changes = 0;
        let slot = Duration::from_nanos(SLOT_TICKS << 20);
        let end = now + slot * 4;
        while now < end {
            let before = ring.get();
            now = now + STEP;
            keeper.tend(now, &ring).unwrap();
            let after = ring.get();
            let changed = before.keys.iter().zip(after.keys).filter(|(old, new)| *old != new);
            let changed = changed.count();
            assert!(changed <= 1, "{changed} keys at once");
            assert_eq!(after.timestamp_offset, first.timestamp_offset);
            changes += changed;
        }
        assert_eq!(changes, 4, "each key once in four slots");
        assert!(first.keys.iter().zip(ring.get().keys).all(|(old, new)| *old != new));
    }

    /// A restart takes over what the earlier agent has drawn: no cookie is void before its time.
    #[test]
    fn no_cookie_is_void_before_its_time_whoever_tends_the_keys() {
        let ring = Cell::new(CookieKeys::NONE);
        let flow = FlowKey {
            client: Addr::from_v4([203, 0, 113, 9]),
            server: Addr::from_v4([192, 0, 2, 1]),
            client_port: [200, 1],
            server_port: [1, 187],
        };
        let handshake = Handshake { flow: &flow, client_isn: 7 };
        let choice = Choice::new(&Offer::new(1460, 0, 0), false);
        let slot = Duration::from_nanos(SLOT_TICKS << 20);
        let mut now = Timestamp::from_millis(1_000_000);
        let mut out = Vec::new();
        for poll in 0..800 {
            let mut keeper = CookieKeeper::default();
            keeper.tend(now, &ring).unwrap();
            if poll < 400 {
                out.push((now, make(&ring.get(), &handshake, ticks(now.as_nanos()), &choice)));
            }
            for (made, cookie) in &out {
                let tick = ticks(now.as_nanos());
                let good = check(&ring.get(), &handshake, tick, cookie.isn, None).is_some();
                assert!(good || now.since(*made) >= slot, "made at {made:?}, now {now:?}");
                assert!(!good || now.since(*made) <= slot * 2, "made at {made:?}, now {now:?}");
            }
            now = now + STEP;
        }
    }
}
