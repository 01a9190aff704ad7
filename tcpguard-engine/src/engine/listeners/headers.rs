//! The SYN headers that are wanted of listeners: a share of their SYNs.

use std::collections::BTreeMap;

use super::Listeners;
use crate::input::{ListenerId, POLL};

/// Headers that one poll is to find for an incident. They are to be of several moments.
const A_POLL: f64 = 4.0;
/// Headers of all listeners together that one poll is to find at least for an operator. Up to twice as many are read of
/// one CPU.
const OF_ALL: f64 = 16.0;

impl Listeners {
    /// One share for every listener with SYNs, so that the sample stands for all of them alike.
    pub fn shares_of_all(&self) -> BTreeMap<ListenerId, u8> {
        let rates = self.monitors.values().map(|monitor| (monitor.id, monitor.syn_rate()));
        let busy: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
        let rate: f64 = busy.iter().map(|(_, rate)| rate).sum();
        let shift = shift(rate * POLL.as_secs_f64(), OF_ALL);
        busy.into_iter().map(|(id, _)| (id, shift)).collect()
    }

    pub fn shares_for_incidents(&mut self) -> BTreeMap<ListenerId, u8> {
        let poll = POLL.as_secs_f64();
        let mut wanted: BTreeMap<ListenerId, u8> = self
            .monitors
            .values_mut()
            .filter_map(|monitor| {
                let syns = monitor.syn_rate() * poll;
                let lacks = monitor.incident.as_deref_mut()?.record().lacks_headers();
                lacks.then_some((monitor.id, shift(syns, A_POLL)))
            })
            .collect();
        // Of the listeners that are reported together the busiest suffices.
        if let Some(rolled) = &mut self.rolled
            && rolled.incident.record().lacks_headers()
        {
            let combined = rolled.failing().filter_map(|id| self.monitors.get(&id));
            let rates = combined.map(|monitor| (monitor.id, monitor.syn_rate()));
            let busiest = rates.max_by(|(_, one), (_, other)| one.total_cmp(other));
            wanted.extend(busiest.map(|(id, rate)| (id, shift(rate * poll, A_POLL))));
        }
        wanted
    }
}

/// Of how many SYNs, as a power of two, one is kept when so many arrive in a poll and `found` are to be found at least.
fn shift(syns: f64, found: f64) -> u8 {
    (syns / found).max(1.0).log2() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_finds_four_to_eight() {
        for syns in [8.0, 100.0, 25_000.0, 1e6] {
            let found = syns / f64::from(1_u32 << shift(syns, A_POLL));
            assert!((4.0..8.0).contains(&found), "{syns}: {found}");
        }
        assert_eq!(shift(3.0, A_POLL), 0, "all of a few");
        assert_eq!(shift(0.0, A_POLL), 0);
    }
}
