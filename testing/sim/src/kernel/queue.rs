//! The SYN queue of a listening socket.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_engine::Timestamp;

use super::Key;
use crate::hash::Map;

/// Retransmission times of a SYN-ACK, in s after the first one; at the last time the entry ends instead
/// (`tcp_synack_retries` = 5).
const TIMES: [u64; 6] = [1, 3, 7, 15, 31, 63];

/// An entry of a SYN queue.
#[derive(Clone)]
pub(crate) struct HalfOpen {
    pub client: IpAddr,
    pub since: Timestamp,
    /// True if its SYN-ACK was sent once only.
    young: bool,
}

/// Half-open handshakes and their timers.
#[derive(Clone, Default)]
pub(super) struct Queue {
    entries: Map<Key, HalfOpen>,
    /// Number of young entries.
    young: usize,
    /// For each of [`TIMES`], the entries in the order in which they are due, each with its beginning. All wait equally
    /// long, so that the first to come is the first to go.
    timers: [VecDeque<(Timestamp, Key)>; TIMES.len()],
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn contains(&self, key: Key) -> bool {
        self.entries.contains_key(&key)
    }

    /// The client of a handshake.
    pub fn client(&self, key: Key) -> Option<IpAddr> {
        self.entries.get(&key).map(|entry| entry.client)
    }

    pub fn insert(&mut self, now: Timestamp, key: Key, client: IpAddr) {
        self.remove(key);
        self.entries.insert(key, HalfOpen { client, since: now, young: true });
        self.young += 1;
        self.timers[0].push_back((now, key));
    }

    pub fn remove(&mut self, key: Key) -> bool {
        let removed = self.entries.remove(&key);
        self.young -= usize::from(removed.as_ref().is_some_and(|entry| entry.young));
        removed.is_some()
    }

    /// Returns the number of times that a SYN-ACK of a queue with this limit is retransmitted. A queue that is more
    /// than half full keeps the other half for young entries, and ends the others early (`reqsk_timer_handler`,
    /// net/ipv4/inet_connection_sock.c).
    fn repetitions(&self, limit: usize) -> usize {
        let mut repetitions = TIMES.len() - 1;
        if self.len() * 2 > limit.max(8) {
            let mut young = self.young * 2;
            while repetitions > 2 && self.len() >= young {
                repetitions -= 1;
                young *= 2;
            }
        }
        repetitions
    }

    /// Ends the entries that are due to end, of a queue with this limit. Returns the entries with a SYN-ACK to
    /// retransmit, each as often as it is retransmitted.
    pub fn tick(&mut self, now: Timestamp, limit: usize) -> Vec<Key> {
        let mut repeated = Vec::new();
        for (index, after) in TIMES.into_iter().enumerate() {
            while let Some((since, key)) = self.timers[index].front().copied()
                && now.since(since) >= Duration::from_secs(after)
            {
                self.timers[index].pop_front();
                // Another handshake may go by the same name.
                let repetitions = self.repetitions(limit);
                let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.since == since)
                else {
                    continue;
                };
                if index >= repetitions {
                    self.remove(key);
                } else {
                    self.young -= usize::from(std::mem::take(&mut entry.young));
                    self.timers[index + 1].push_back((since, key));
                    repeated.push(key);
                }
            }
        }
        repeated
    }

    /// Removes the entries that `is_floods` names, at most `limit`, the oldest first.
    pub fn clean(&mut self, is_floods: impl Fn(Key, &HalfOpen) -> bool, limit: usize) {
        let named = self.entries.iter().filter(|(key, entry)| is_floods(**key, entry));
        let mut named: Vec<(Timestamp, Key)> =
            named.map(|(key, entry)| (entry.since, *key)).collect();
        named.sort_unstable();
        for (_, key) in named.into_iter().take(limit) {
            self.remove(key);
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
            repeated.extend(queue.tick(now, 4096).iter().map(|_| second));
            assert_eq!(queue.contains(1), second < 63);
        }
        assert_eq!(repeated, [1, 3, 7, 15, 31]);
    }

    /// Spoofed SYNs arrive evenly, and none completes.
    #[test]
    fn a_queue_that_is_more_than_half_full_holds_eight_seconds_of_them() {
        for (rate, least, most) in [(30, 63 * 30, 63 * 30), (100, 2048, 2060), (340, 2600, 2900)] {
            let mut queue = Queue::default();
            for millis in 0..120_000 {
                let now = Timestamp::from_millis(millis);
                queue.tick(now, 4096);
                if millis * rate / 1000 != (millis + 1) * rate / 1000 && queue.len() < 4096 {
                    queue.insert(now, millis, [192, 0, 2, 1].into());
                }
            }
            assert!((least..=most).contains(&queue.len()), "{rate}: {}", queue.len());
        }
    }

    #[test]
    fn a_new_handshake_by_an_old_name_has_timers_of_its_own() {
        let mut queue = Queue::default();
        let at = |millis| Timestamp::from_millis(millis);
        queue.insert(at(0), 1, [192, 0, 2, 1].into());
        assert!(queue.remove(1));
        queue.insert(at(600), 1, [192, 0, 2, 1].into());
        assert!(queue.tick(at(1000), 4096).is_empty());
        assert_eq!(queue.tick(at(1600), 4096), [1]);
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
