//! The half-open handshakes removed from SYN queues, for the log: in a flood there are some each second, at each of its
//! listeners.

use std::time::Duration;

use tcpguard_engine::{ListenerId, Timestamp};

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// Removals since the last line.
#[derive(Debug, Default)]
pub struct Removals {
    /// Times of the last line and of the last removal.
    logged: Option<(Timestamp, Timestamp)>,
    sum: Removed,
}

/// Handshakes that were removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    pub count: u64,
    /// The listener of the first; `None` before it.
    listener: Option<ListenerId>,
    /// True if some were of another listener.
    pub of_others: bool,
}

impl Removals {
    /// Adds handshakes removed at `now`. Returns those to log: the first at once, later ones in a sum.
    pub fn add(&mut self, now: Timestamp, listener: ListenerId, removed: u64) -> Option<Removed> {
        if removed == 0 {
            return None;
        }
        let sum = &mut self.sum;
        sum.count += removed;
        sum.of_others |= *sum.listener.get_or_insert(listener) != listener;
        let (logged, last) = self.logged.unwrap_or_default();
        let is_new = self.logged.is_none() || now.since(last) > PAUSE;
        let is_due = is_new || now.since(logged) >= PAUSE;
        self.logged = Some((if is_due { now } else { logged }, now));
        is_due.then(|| std::mem::take(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_minute_for_all_listeners() {
        let mut removals = Removals::default();
        let at = |seconds| Timestamp::default() + Duration::from_secs(seconds);
        let (one, other) = (ListenerId(1), ListenerId(2));
        let of_one = |count| Removed { count, listener: Some(one), of_others: false };
        assert_eq!(removals.add(at(0), one, 129), Some(of_one(129)));
        let lines: Vec<Removed> = (1..=120).filter_map(|t| removals.add(at(t), one, 2)).collect();
        assert_eq!(lines, [of_one(120), of_one(120)]);
        assert_eq!(removals.add(at(121), one, 0), None);
        assert_eq!(removals.add(at(122), other, 5), None);
        let lines: Vec<Removed> = (123..200).filter_map(|t| removals.add(at(t), one, 1)).collect();
        let both = Removed { count: 63, listener: Some(other), of_others: true };
        assert_eq!(lines, [both]);
        assert_eq!(removals.add(at(500), one, 7).map(|it| it.count), Some(26), "the next flood");
    }
}
