//! Headers of SYNs for the incidents that lack some.

use std::collections::BTreeMap;

use super::Engine;
use crate::input::{ListenerId, POLL, SynHeader};
use crate::output::Command;

/// Headers that one poll is to find for an incident. They are to be of several moments.
const A_POLL: f64 = 4.0;

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

    /// Has headers kept for the incidents that lack some, and for no others.
    pub(super) fn ask_for_headers(&mut self) {
        let poll = POLL.as_secs_f64();
        let mut wanted: BTreeMap<ListenerId, u8> = self
            .monitors
            .values_mut()
            .filter_map(|monitor| {
                let syns = monitor.syn_rate() * poll;
                let lacks = monitor.incident.as_deref_mut()?.record().lacks_headers();
                lacks.then_some((monitor.id, shift(syns)))
            })
            .collect();
        // Of the listeners that are reported together the busiest suffices.
        if let Some(rolled) = &mut self.rolled
            && rolled.incident.record().lacks_headers()
        {
            let combined = rolled.failing().filter_map(|id| self.monitors.get(&id));
            let rates = combined.map(|monitor| (monitor.id, monitor.syn_rate()));
            let busiest = rates.max_by(|(_, one), (_, other)| one.total_cmp(other));
            wanted.extend(busiest.map(|(id, rate)| (id, shift(rate * poll))));
        }
        let over = self.sampled.keys().filter(|id| !wanted.contains_key(id));
        let over = over.map(|id| Command::SampleSyns { listener: *id, shift: None });
        let changed = wanted.iter().filter(|(id, shift)| self.sampled.get(id) != Some(shift));
        let changed =
            changed.map(|(id, shift)| Command::SampleSyns { listener: *id, shift: Some(*shift) });
        self.commands.extend(over.chain(changed));
        self.sampled = wanted;
    }
}

/// Of how many SYNs, as a power of two, one is kept when so many arrive in a poll.
fn shift(syns: f64) -> u8 {
    (syns / A_POLL).max(1.0).log2() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_finds_four_to_eight() {
        for syns in [8.0, 100.0, 25_000.0, 1e6] {
            let found = syns / f64::from(1_u32 << shift(syns));
            assert!((4.0..8.0).contains(&found), "{syns}: {found}");
        }
        assert_eq!(shift(3.0), 0, "all of a few");
        assert_eq!(shift(0.0), 0);
    }
}
