//! The sampled connection attempts.

use std::time::Duration;

use tcpguard_common::abi::maps;
use tcpguard_engine::{Flow, Timestamp};

use super::Key;
use crate::hash::Map;

/// Largest number of flows that are remembered, as in the kernel.
const MAX_FLOWS: usize = maps::MAX_FLOWS as usize;
/// Age up to which flows are remembered. Older ones are not needed: a half-open handshake lives for 63 s.
const FOLLOWED: Duration = Duration::from_secs(75);

/// A SYN by its sequence number, and the time of its first arrival.
#[derive(Clone, Copy)]
pub(super) struct Numbered {
    pub seq: u64,
    pub since: Timestamp,
}

/// Flows in the order in which they began, found by their addresses and ports.
#[derive(Clone, Default)]
pub(super) struct Flows {
    flows: Vec<Flow>,
    /// Key and latest SYN of each flow.
    names: Vec<(Key, Numbered)>,
    /// Flows before this position are forgotten.
    first: usize,
    /// Number of flows that have been removed from the front of both lists.
    removed: usize,
    /// Positions of the flows, as if none had been removed.
    places: Map<Key, usize>,
}

impl Flows {
    /// All that are remembered.
    pub fn all(&self) -> &[Flow] {
        &self.flows[self.first..]
    }

    pub fn get(&self, key: Key) -> Option<&Flow> {
        self.places.get(&key).map(|place| &self.flows[place - self.removed])
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Flow> {
        self.places.get(&key).map(|place| &mut self.flows[place - self.removed])
    }

    /// Returns a flow and its latest SYN, both to be replaced by another.
    pub fn named_mut(&mut self, key: Key) -> Option<(&mut Flow, &mut Numbered)> {
        let place = self.places.get(&key)? - self.removed;
        Some((&mut self.flows[place], &mut self.names[place].1))
    }

    /// Remembers one that is not known yet.
    pub fn push(&mut self, key: Key, syn: Numbered, flow: Flow) {
        if self.all().len() == MAX_FLOWS {
            self.pop();
        }
        self.places.insert(key, self.removed + self.flows.len());
        self.flows.push(flow);
        self.names.push((key, syn));
    }

    /// Forgets those that began too long ago.
    pub fn prune(&mut self, now: Timestamp) {
        while self.all().first().is_some_and(|flow| now.since(flow.syn_at) > FOLLOWED) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        self.places.remove(&self.names[self.first].0);
        self.first += 1;
        // Moving the remaining entries costs no more than the forgotten ones did.
        if self.first * 2 >= self.flows.len() {
            self.flows.drain(..self.first);
            self.names.drain(..self.first);
            self.removed += self.first;
            self.first = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Fingerprint;
    use tcpguard_engine::{FlowState, ListenerId};

    use super::*;

    fn flow(millis: u64) -> Flow {
        Flow {
            listener: ListenerId(0),
            client: [192, 0, 2, 1].into(),
            server: [192, 0, 2, 2].into(),
            syn_at: Timestamp::from_millis(millis),
            syn_ack_at: None,
            done_at: None,
            state: FlowState::Syn,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    fn numbered(seq: u64) -> Numbered {
        Numbered { seq, since: Timestamp::default() }
    }

    #[test]
    fn flows_are_found_by_name_until_they_are_too_old() {
        let mut flows = Flows::default();
        for second in 0..1000 {
            flows.push(second + 7000, numbered(second), flow(second * 1000));
            flows.prune(Timestamp::from_millis(second * 1000));
            let oldest = second.saturating_sub(75);
            assert_eq!(flows.all().len() as u64, second - oldest + 1);
            assert!(flows.all().is_sorted_by_key(|flow| flow.syn_at));
            for known in oldest..=second {
                let found = flows.get(known + 7000).map(|flow| flow.syn_at);
                assert_eq!(found, Some(Timestamp::from_millis(known * 1000)));
                let named = flows.named_mut(known + 7000).map(|(_, syn)| syn.seq);
                assert_eq!(named, Some(known));
            }
            assert!(oldest == 0 || flows.get(oldest + 6999).is_none());
        }
    }

    #[test]
    fn there_is_room_for_as_many_as_in_the_kernel() {
        let mut flows = Flows::default();
        for key in 0..200_000 {
            flows.push(key, numbered(key), flow(1));
            assert!(flows.all().len() <= MAX_FLOWS);
        }
        assert_eq!(flows.all().len(), MAX_FLOWS);
        assert!(flows.get(200_000 - MAX_FLOWS as u64).is_some());
        assert!(flows.get(199_999 - MAX_FLOWS as u64).is_none());
    }
}
