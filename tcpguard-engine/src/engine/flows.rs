//! The sampled flows, listener by listener. There may be 65,536 of them at every poll, so the work for each
//! is small.

use std::time::Duration;

use super::Engine;
use super::monitor::ListenerMonitor;
use super::upkeep::{CALM, due};
use crate::input::{Flows, ListenerId, POLL, Timestamp, ValidatedClients};

impl Engine {
    /// Takes over the sampled flows of all listeners, as asked for by
    /// [`crate::Command::InspectFlows`].
    ///
    /// Those of listeners with nothing the matter are looked at every five seconds only, however often
    /// others need a look: there is nothing urgent to be learned from them, unless nothing has been
    /// learned yet.
    pub fn handle_flows(
        &mut self,
        now: Timestamp,
        flows: &Flows,
        validated: &dyn ValidatedClients,
    ) {
        let all = due(now, self.surveyed, CALM, POLL);
        let urgent = |monitor: &&ListenerMonitor| monitor.is_suspicious() || monitor.needs_rtt();
        let looked_at = self.monitors.values().filter(|monitor| all || urgent(monitor));
        let looked_at: Vec<ListenerId> = looked_at.map(|monitor| monitor.id).collect();
        if all {
            self.surveyed = now;
            // Of a source that goes on, also what it tried where nothing has happened since.
            let calm = self.monitors.all();
            let calm =
                calm.filter(|monitor| monitor.incident.is_none() && !monitor.is_suspicious());
            let calm = calm.flat_map(|monitor| {
                monitor.flows(flows).map(move |flow| (flow, monitor.listener.port))
            });
            self.host.inspect(now, calm);
            self.count_hinted(now, flows);
            let learns = |monitor: &&ListenerMonitor| monitor.learns();
            let learned = self.monitors.values().filter(learns);
            self.networks.learn(now, learned.flat_map(|monitor| monitor.flows(flows)));
        }
        let mut together = Vec::new();
        for id in looked_at {
            let flows = self.monitors[&id].flows(flows);
            let Some(mut inspection) = self.inspect(now, id, flows) else { continue };
            if !self.is_thin(&inspection) && !self.is_rolled(id) {
                let own = self.assess(id, &inspection.cohort, Some(validated));
                if own.class.is_flood() {
                    if let Some(judged) = self.conclude(now, &inspection, own, None, validated) {
                        self.act(now, &inspection, judged, validated);
                    }
                    if !self.is_rolled(id) {
                        continue;
                    }
                } else {
                    // It may be a part of one.
                    inspection.own = Some(own);
                }
            }
            together.push(inspection);
        }
        self.judge_together(now, &together, validated);
        self.ask_for_routes(now, flows);
        // SYNs that rules drop need no cookies.
        self.carry_out_plan(now);
        self.poll_mitigations(now, Duration::ZERO);
        self.alert_news(now);
        self.ask_for_headers();
    }
}
