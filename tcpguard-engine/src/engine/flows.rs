//! The sampled flows, listener by listener. There may be 65,536 of them at every poll, so that what is
//! done for each is little.

use std::time::Duration;

use super::Engine;
use super::upkeep::{CALM, due};
use crate::watch::Watch;
use crate::{Flow, KnownClients, ListenerId, Timestamp};

/// Listeners told apart at first sight: as many as the data path has places for, whose numbers in
/// these bits are all different.
const PLACES: usize = 4096;

impl Engine {
    /// Takes over the sampled flows of all listeners, as asked for by
    /// [`crate::Command::InspectFlows`].
    ///
    /// Those of listeners with nothing the matter are looked at every five seconds only, however often
    /// others need a look: there is nothing urgent to be learned from them, unless nothing has been
    /// learned yet.
    pub fn handle_flows(&mut self, now: Timestamp, flows: &[Flow], known: &dyn KnownClients) {
        let all = due(now, self.surveyed, CALM, self.settings.common.poll);
        let urgent = |watch: &&Watch| {
            watch.is_suspicious() || watch.is_strange(self.settings.of(watch.listener))
        };
        let looked_at = self.watches.values().filter(|watch| all || urgent(watch));
        let parts = Parts::of(looked_at.map(|watch| watch.id).collect(), flows);
        if all {
            self.surveyed = now;
            let calm = parts.ids.iter().zip(&parts.flows).filter_map(|(id, flows)| {
                let watch = self.watches.get(id)?;
                let calm = watch.incident.is_none() && !watch.is_suspicious();
                calm.then_some((flows, watch.listener.port))
            });
            let calm = calm.flat_map(|(flows, port)| flows.iter().map(move |flow| (*flow, port)));
            self.host.inspect(now, calm, &self.settings.common);
            let learns = |id| {
                let watch = self.watches.get(id);
                watch.is_some_and(|watch| watch.learns(self.settings.of(watch.listener)))
            };
            let learned = parts.ids.iter().zip(&parts.flows).filter(|(id, _)| learns(*id));
            self.networks.learn(now, learned.flat_map(|(_, flows)| flows.iter().copied()));
        }
        for (id, flows) in parts.ids.into_iter().zip(parts.flows) {
            self.inspect(now, id, &flows, known);
        }
        self.follow_steps(now, Duration::ZERO);
        self.carry_out_plan(now);
        self.tell_news(now);
        self.ask_for_headers();
    }
}

/// Flows by listener, in the order in which they came.
struct Parts<'a> {
    /// Sorted.
    ids: Vec<ListenerId>,
    /// In the order of these.
    flows: Vec<Vec<&'a Flow>>,
}

impl<'a> Parts<'a> {
    /// The flows of these listeners, which are sorted.
    fn of(ids: Vec<ListenerId>, flows: &'a [Flow]) -> Self {
        let mut places = vec![usize::MAX; PLACES];
        for (place, id) in ids.iter().enumerate() {
            places[bits(*id)] = place;
        }
        let mut parts = vec![Vec::new(); ids.len()];
        for flow in flows {
            let id = flow.listener;
            let place = places[bits(id)];
            let place = match ids.get(place) {
                None => continue,
                Some(first) if *first == id => Ok(place),
                Some(_) => ids.binary_search(&id),
            };
            if let Ok(place) = place {
                parts[place].push(flow);
            }
        }
        Self { ids, flows: parts }
    }
}

const fn bits(id: ListenerId) -> usize {
    id.0 as usize % PLACES
}

#[cfg(test)]
mod tests {
    use tcpguard_common::fastpath::Fingerprint;

    use super::*;
    use crate::FlowState;

    fn flow(listener: u32, client_port: u16) -> Flow {
        Flow {
            listener: ListenerId(listener),
            client: [192, 0, 2, 1].into(),
            client_port,
            server: [203, 0, 113, 10].into(),
            syn_at: Timestamp::default(),
            syn_ack_at: None,
            done_at: None,
            state: FlowState::Syn,
            syn_retransmits: 0,
            weight: 1,
            fingerprint: Fingerprint::default(),
        }
    }

    #[test]
    fn each_listener_gets_its_own_flows_in_order_and_others_are_left_out() {
        let ids = [3, 7, 3 + PLACES as u32].map(ListenerId);
        let listeners = [7, 3, 3 + PLACES as u32, 9, 7, 7 + PLACES as u32, 3];
        let flows: Vec<Flow> = (0..).zip(listeners).map(|(port, id)| flow(id, port)).collect();
        let parts = Parts::of(ids.to_vec(), &flows);
        let ports = |flows: &[&Flow]| flows.iter().map(|flow| flow.client_port).collect::<Vec<_>>();
        let ports: Vec<Vec<u16>> = parts.flows.iter().map(|flows| ports(flows)).collect();
        assert_eq!(ports, [vec![1, 6], vec![0, 4], vec![2]]);
    }
}
