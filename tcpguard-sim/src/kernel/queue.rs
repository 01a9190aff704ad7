//! The SYN queue of a listening socket.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_engine::Timestamp;

use super::Key;
use crate::hash::Map;

/// SYN-ACKs are repeated so many seconds after the first; with the last the entry ends
/// (`tcp_synack_retries` = 5).
const TIMES: [u64; 6] = [1, 3, 7, 15, 31, 63];

/// An entry of a SYN queue.
#[derive(Clone)]
pub(crate) struct HalfOpen {
    pub client: IpAddr,
    pub since: Timestamp,
}

/// Half-open handshakes and their timers.
#[derive(Clone, Default)]
pub(super) struct Queue {
    entries: Map<Key, HalfOpen>,
    /// For each of [`TIMES`], whose it is next: the entry and its beginning. All wait equally long,
    /// so that the first to come is the first to go.
    timers: [VecDeque<(Timestamp, Key)>; TIMES.len()],
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn contains(&self, key: Key) -> bool {
        self.entries.contains_key(&key)
    }

    /// Whose handshake that is.
    pub fn client(&self, key: Key) -> Option<IpAddr> {
        self.entries.get(&key).map(|entry| entry.client)
    }

    pub fn insert(&mut self, now: Timestamp, key: Key, client: IpAddr) {
        self.entries.insert(key, HalfOpen { client, since: now });
        self.timers[0].push_back((now, key));
    }

    pub fn remove(&mut self, key: Key) -> bool {
        self.entries.remove(&key).is_some()
    }

    /// Ends the entries that are due to end. The answer names those whose SYN-ACK is repeated, as
    /// often as it is.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Key> {
        let mut repeated = Vec::new();
        for (index, after) in TIMES.into_iter().enumerate() {
            while let Some((since, key)) = self.timers[index].front().copied()
                && now.since(since) >= Duration::from_secs(after)
            {
                self.timers[index].pop_front();
                // Another handshake may go by the same name.
                if self.entries.get(&key).is_none_or(|entry| entry.since != since) {
                    continue;
                }
                if index + 1 == TIMES.len() {
                    self.entries.remove(&key);
                } else {
                    self.timers[index + 1].push_back((since, key));
                    repeated.push(key);
                }
            }
        }
        repeated
    }

    /// Removes what `is_floods` names, at most `limit` entries, the oldest first.
    pub fn clean(&mut self, is_floods: impl Fn(Key, &HalfOpen) -> bool, limit: usize) {
        let named = self.entries.iter().filter(|(key, entry)| is_floods(**key, entry));
        let mut named: Vec<(Timestamp, Key)> =
            named.map(|(key, entry)| (entry.since, *key)).collect();
        named.sort_unstable();
        for (_, key) in named.into_iter().take(limit) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_repeated_five_times_and_then_the_entry_ends() {
        let mut queue = Queue::default();
        let began = Timestamp::from_millis(500);
        queue.insert(began, 1, [192, 0, 2, 1].into());
        let mut repeated = Vec::new();
        for second in 0..70 {
            let now = began + Duration::from_secs(second);
            repeated.extend(queue.tick(now).iter().map(|_| second));
            assert_eq!(queue.contains(1), second < 63);
        }
        assert_eq!(repeated, [1, 3, 7, 15, 31]);
    }

    #[test]
    fn a_new_handshake_by_an_old_name_has_timers_of_its_own() {
        let mut queue = Queue::default();
        let at = |millis| Timestamp::from_millis(millis);
        queue.insert(at(0), 1, [192, 0, 2, 1].into());
        assert!(queue.remove(1));
        queue.insert(at(600), 1, [192, 0, 2, 1].into());
        assert_eq!(queue.tick(at(1000)), []);
        assert_eq!(queue.tick(at(1600)), [1]);
    }

    #[test]
    fn the_oldest_are_removed_first() {
        let mut queue = Queue::default();
        for key in [5, 3, 9, 1] {
            queue.insert(Timestamp::from_millis(100 - key), key, [192, 0, 2, 1].into());
        }
        queue.clean(|key, _| key != 9, 2);
        assert_eq!([1, 3, 5, 9].map(|key| queue.contains(key)), [true, false, false, true]);
    }
}
