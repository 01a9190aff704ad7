//! The sampled flows, listener by listener. There may be 65,536 of them at every poll, so the work for each
//! is small.

use std::time::Duration;

use super::Engine;
use super::upkeep::{CALM, due};
use crate::watch::Watch;
use crate::{Flows, KnownClients, ListenerId, Timestamp};

impl Engine {
    /// Takes over the sampled flows of all listeners, as asked for by
    /// [`crate::Command::InspectFlows`].
    ///
    /// Those of listeners with nothing the matter are looked at every five seconds only, however often
    /// others need a look: there is nothing urgent to be learned from them, unless nothing has been
    /// learned yet.
    pub fn handle_flows(&mut self, now: Timestamp, flows: &Flows, known: &dyn KnownClients) {
        let all = due(now, self.surveyed, CALM, self.settings.common.poll);
        let urgent = |watch: &&Watch| {
            watch.is_suspicious() || watch.is_strange(self.settings.of(watch.listener))
        };
        let looked_at = self.watches.values().filter(|watch| all || urgent(watch));
        let looked_at: Vec<ListenerId> = looked_at.map(|watch| watch.id).collect();
        if all {
            self.surveyed = now;
            let calm = self.watches.values();
            let calm = calm.filter(|watch| watch.incident.is_none() && !watch.is_suspicious());
            let calm = calm
                .flat_map(|watch| watch.flows(flows).map(move |flow| (flow, watch.listener.port)));
            self.host.inspect(now, calm, &self.settings.common);
            let learns = |watch: &&Watch| watch.learns(self.settings.of(watch.listener));
            let learned = self.watches.values().filter(learns);
            self.networks.learn(now, learned.flat_map(|watch| watch.flows(flows)));
        }
        let mut together = Vec::new();
        for id in looked_at {
            let flows = self.watches[&id].flows(flows);
            let Some(mut look) = self.look(now, id, flows) else { continue };
            if !self.is_thin(&look) && !self.is_rolled(id) {
                let own = self.assess(id, &look.cohort, Some(known));
                if own.class.is_flood() {
                    if let Some(judged) = self.conclude(now, &look, own, None, known) {
                        self.act(now, &look, judged, known);
                    }
                    if !self.is_rolled(id) {
                        continue;
                    }
                } else {
                    // It may be a part of one.
                    look.own = Some(own);
                }
            }
            together.push(look);
        }
        self.judge_together(now, &together, known);
        self.ask_for_routes(now, flows);
        // SYNs that rules drop need no cookies.
        self.carry_out_plan(now);
        self.follow_steps(now, Duration::ZERO);
        self.tell_news(now);
        self.ask_for_headers();
    }
}
