//! The half-open handshakes removed from SYN queues, for the log: in a flood there are some each second.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_engine::{ListenerId, Timestamp};

/// Time between two lines about a listener.
const PAUSE: Duration = Duration::from_secs(60);

/// Removals by listener.
#[derive(Debug, Default)]
pub struct Removals(BTreeMap<ListenerId, Removed>);

#[derive(Debug)]
struct Removed {
    logged: Timestamp,
    /// Handshakes removed since then.
    since: u64,
}

impl Removals {
    /// Adds handshakes removed at `now`. Returns the number to log: the first at once, later ones in a sum.
    pub fn add(&mut self, now: Timestamp, listener: ListenerId, removed: u64) -> Option<u64> {
        self.0.retain(|_, entry| now.since(entry.logged) <= 2 * PAUSE);
        if removed == 0 {
            return None;
        }
        let Some(entry) = self.0.get_mut(&listener) else {
            self.0.insert(listener, Removed { logged: now, since: 0 });
            return Some(removed);
        };
        entry.since += removed;
        if now.since(entry.logged) < PAUSE {
            return None;
        }
        entry.logged = now;
        Some(std::mem::take(&mut entry.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_minute_for_each_listener() {
        let mut removals = Removals::default();
        let at = |seconds| Timestamp::default() + Duration::from_secs(seconds);
        let (one, other) = (ListenerId(1), ListenerId(2));
        assert_eq!(removals.add(at(0), one, 129), Some(129));
        assert_eq!(removals.add(at(1), other, 5), Some(5));
        let lines: Vec<u64> = (1..=120).filter_map(|t| removals.add(at(t), one, 2)).collect();
        assert_eq!(lines, [120, 120]);
        assert_eq!(removals.add(at(121), one, 0), None);
        assert_eq!(removals.add(at(500), one, 7), Some(7), "the next flood");
    }
}
