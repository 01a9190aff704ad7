//! The sampled flows of one inspection, as small as they can be held: a flood leaves 65,536 of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::time::Duration;

use tcpguard_common::abi::Fingerprint;

use super::sample::{Flow, FlowState, ListenerId};
use super::time::Timestamp;

/// Sampled flows, by listener. The times from the SYN to the SYN-ACK and to the end are kept to the microsecond.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    by_listener: BTreeMap<ListenerId, Vec<Packed>>,
    /// Local addresses, each once, and the position of each.
    servers: Vec<IpAddr>,
    places: BTreeMap<IpAddr, u32>,
    /// Position of the local address of the last flow.
    latest: u32,
}

/// A [`Flow`] without the fields that many flows have in common.
#[derive(Clone, Copy, Debug)]
struct Packed {
    syn_at: Timestamp,
    fingerprint: Fingerprint,
    /// Time from the SYN to the SYN-ACK.
    syn_ack: Option<Micros>,
    done: Option<Micros>,
    /// Position of the local address in the list.
    server: u32,
    client: IpAddr,
    state: FlowState,
    syn_retransmits: u8,
    sample_shift: u8,
}

/// A time in µs, stored plus one, 71 minutes at most.
#[derive(Clone, Copy, Debug)]
struct Micros(NonZero<u32>);

impl Micros {
    fn between(from: Timestamp, to: Timestamp) -> Self {
        let micros = u32::try_from(to.since(from).as_micros()).unwrap_or(u32::MAX);
        Self(NonZero::<u32>::MIN.saturating_add(micros))
    }

    fn after(self, from: Timestamp) -> Timestamp {
        from + Duration::from_micros(u64::from(self.0.get() - 1))
    }
}

impl Flows {
    /// The flows at a listener, in the order in which they arrived. `settled` gives the state that a flow's
    /// state counts as there, see `ListenerMonitor::flows`.
    pub(crate) fn of(
        &self,
        listener: ListenerId,
        settled: impl Fn(FlowState) -> FlowState + Clone,
    ) -> impl Iterator<Item = Flow> + Clone {
        let flows = self.by_listener.get(&listener).into_iter().flatten();
        flows.map(move |flow| Flow {
            listener,
            client: flow.client,
            server: self.servers[flow.server as usize],
            syn_at: flow.syn_at,
            syn_ack_at: flow.syn_ack.map(|after| after.after(flow.syn_at)),
            done_at: flow.done.map(|after| after.after(flow.syn_at)),
            state: settled(flow.state),
            syn_retransmits: flow.syn_retransmits,
            sample_shift: flow.sample_shift,
            fingerprint: flow.fingerprint,
        })
    }

    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.by_listener.values().map(Vec::len).sum()
    }

    /// Returns whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.by_listener.is_empty()
    }

    fn add(&mut self, flow: &Flow) {
        // Most have the local address of the previous one.
        if self.servers.get(self.latest as usize) != Some(&flow.server) {
            self.latest = *self.places.entry(flow.server).or_insert_with(|| {
                self.servers.push(flow.server);
                self.servers.len() as u32 - 1
            });
        }
        let after = |at: Option<Timestamp>| at.map(|at| Micros::between(flow.syn_at, at));
        self.by_listener.entry(flow.listener).or_default().push(Packed {
            syn_at: flow.syn_at,
            fingerprint: flow.fingerprint,
            syn_ack: after(flow.syn_ack_at),
            done: after(flow.done_at),
            server: self.latest,
            client: flow.client,
            state: flow.state,
            syn_retransmits: flow.syn_retransmits,
            sample_shift: flow.sample_shift,
        });
    }
}

impl Extend<Flow> for Flows {
    fn extend<T: IntoIterator<Item = Flow>>(&mut self, flows: T) {
        flows.into_iter().for_each(|flow| self.add(&flow));
    }
}

impl FromIterator<Flow> for Flows {
    fn from_iter<T: IntoIterator<Item = Flow>>(flows: T) -> Self {
        let mut all = Self::default();
        all.extend(flows);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN_AT: Timestamp = Timestamp::from_nanos(5_000_000_123);

    fn flow(listener: u32, server: u8) -> Flow {
        Flow {
            listener: ListenerId(listener),
            client: [192, 0, 2, 1].into(),
            server: [203, 0, 113, server].into(),
            syn_at: SYN_AT,
            syn_ack_at: None,
            done_at: None,
            state: FlowState::Syn,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    #[test]
    fn a_full_table_of_the_kernel_takes_four_mebibytes() {
        assert_eq!(size_of::<Packed>(), 64);
    }

    #[test]
    fn each_listener_has_its_own_flows_in_the_order_in_which_they_came() {
        let flows: Flows =
            [(7, 1), (3, 2), (7, 3), (7, 1)].map(|(id, at)| flow(id, at)).into_iter().collect();
        let servers = |id| {
            flows.of(ListenerId(id), |state| state).map(|flow| flow.server).collect::<Vec<_>>()
        };
        assert_eq!(servers(7), [1, 3, 1].map(|at| IpAddr::from([203, 0, 113, at])));
        assert_eq!(servers(3), [IpAddr::from([203, 0, 113, 2])]);
        assert!(servers(4).is_empty());
        assert_eq!(flows.len(), 4);
    }

    #[test]
    fn a_flow_is_restored_but_for_parts_of_a_microsecond() {
        let after = |nanos| Some(SYN_AT + Duration::from_nanos(nanos));
        let original = Flow {
            client: "2001:db8::7".parse().unwrap(),
            syn_ack_at: after(0),
            done_at: after(90_000_999),
            state: FlowState::Completed,
            syn_retransmits: 3,
            sample_shift: 9,
            fingerprint: Fingerprint { window: 512, ttl: 64, ..Fingerprint::default() },
            ..flow(1, 9)
        };
        let flows: Flows = [original].into_iter().collect();
        let back = flows.of(ListenerId(1), |state| state).next().unwrap();
        assert_eq!(back, Flow { done_at: after(90_000_000), ..original });
        let late = Flow { done_at: after(u64::MAX / 4), ..original };
        let flows: Flows = [late].into_iter().collect();
        let hours =
            flows.of(ListenerId(1), |state| state).next().unwrap().done_at.unwrap().since(SYN_AT);
        assert_eq!(hours.as_secs() / 60, 71, "the most that is distinguished");
    }
}
