//! Headers of SYNs for the incidents that lack some, and for an operator who records them.

use std::collections::BTreeMap;

use super::Engine;
use crate::input::{ListenerId, POLL, SynHeader};
use crate::output::Command;

/// Headers that one poll is to find for an incident. They are to be of several moments.
const A_POLL: f64 = 4.0;
/// Headers of all listeners together that one poll is to find at least for an operator. Up to twice as many are read of
/// one CPU.
const OF_ALL: f64 = 16.0;

impl Engine {
    /// Takes over headers of SYNs that arrived since the last poll, each with the listener that it
    /// was for, as asked for by [`Command::SampleSyns`].
    pub fn handle_headers(&mut self, headers: impl IntoIterator<Item = (ListenerId, SynHeader)>) {
        for (id, header) in headers {
            if let Some(incident) = self.incident_at(id)
                && header.at >= incident.started()
            {
                incident.record().keep_header(header);
            }
        }
    }

    /// Has headers of the SYNs to every listener kept, or only for incidents again.
    pub const fn sample_all(&mut self, all: bool) {
        self.sample_all = all;
    }

    /// Has headers kept for the incidents that lack some, and for no others, unless those of all are wanted.
    pub(super) fn ask_for_headers(&mut self) {
        let wanted =
            if self.sample_all { self.shares_of_all() } else { self.shares_for_incidents() };
        let over = self.sampled.keys().filter(|id| !wanted.contains_key(id));
        let over = over.map(|id| Command::SampleSyns { listener: *id, shift: None });
        let changed = wanted.iter().filter(|(id, shift)| self.sampled.get(id) != Some(shift));
        let changed =
            changed.map(|(id, shift)| Command::SampleSyns { listener: *id, shift: Some(*shift) });
        self.commands.extend(over.chain(changed));
        self.sampled = wanted;
    }

    /// One share for every listener with SYNs, so that the sample stands for all of them alike.
    fn shares_of_all(&self) -> BTreeMap<ListenerId, u8> {
        let rates = self.monitors.values().map(|monitor| (monitor.id, monitor.syn_rate()));
        let busy: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
        let rate: f64 = busy.iter().map(|(_, rate)| rate).sum();
        let shift = shift(rate * POLL.as_secs_f64(), OF_ALL);
        busy.into_iter().map(|(id, _)| (id, shift)).collect()
    }

    fn shares_for_incidents(&mut self) -> BTreeMap<ListenerId, u8> {
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
