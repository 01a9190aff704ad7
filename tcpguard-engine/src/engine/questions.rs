//! Questions of the engine to the kernel, as often as the situation needs them: the length of queues, flows, and headers
//! of SYNs for the incidents that lack some, and for an operator who records them.

use std::collections::BTreeMap;

use super::listeners::Listeners;
use super::monitor::ListenerMonitor;
use super::outbox::Outbox;
use super::pace::{BUSY, CALM, due, pace};
use crate::input::{ListenerId, POLL, Timestamp};
use crate::listener::Sampling;
use crate::output::Command;

/// The last questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    sampling: Sampling,
    /// True if queues dropped SYNs that a count would attribute to their listeners.
    pub uncounted: bool,
    /// True if SYN headers of all listeners are wanted.
    pub sample_all: bool,
    /// Listeners of which SYN headers are kept, each with the share `n`: one SYN in `2^n`.
    sampled: BTreeMap<ListenerId, u8>,
    pub inspected: Timestamp,
    /// Time at which the flows of all listeners were last inspected.
    pub surveyed: Timestamp,
    counted: Timestamp,
}

impl Questions {
    /// Has headers kept for the incidents that lack some, and for no others, unless those of all are wanted.
    pub fn ask_for_headers(&mut self, listeners: &mut Listeners, outbox: &mut Outbox) {
        let wanted = if self.sample_all {
            listeners.shares_of_all()
        } else {
            listeners.shares_for_incidents()
        };
        let over = self.sampled.keys().filter(|id| !wanted.contains_key(id));
        let over = over.map(|id| Command::SampleSyns { listener: *id, shift: None });
        let changed = wanted.iter().filter(|(id, shift)| self.sampled.get(id) != Some(shift));
        let changed =
            changed.map(|(id, shift)| Command::SampleSyns { listener: *id, shift: Some(*shift) });
        outbox.extend(over.chain(changed));
        self.sampled = wanted;
    }

    /// Tracks as many flows as can be tracked.
    pub fn adapt_sampling(
        &mut self,
        now: Timestamp,
        syn_rate: f64,
        shift: u8,
        outbox: &mut Outbox,
    ) {
        if let Some(shift) = self.sampling.poll(now, syn_rate, shift) {
            outbox.once(Command::SetSampling { shift });
        }
    }

    /// Asks for the length of SYN queues.
    pub fn ask_for_counts(&mut self, now: Timestamp, listeners: &Listeners, outbox: &mut Outbox) {
        let local = listeners.monitors.values().filter(|monitor| monitor.queues_here());
        let rests = due(now, self.counted, CALM, POLL)
            && listeners.monitors.any_rests(ListenerMonitor::queues_here);
        let resting = rests.then_some(CALM);
        let pace = |monitor: &ListenerMonitor| match monitor.asks_for_count() {
            true => BUSY.min(pace(now, monitor)),
            false => pace(now, monitor),
        };
        let Some(pace) = local.map(pace).chain(resting).min() else { return };
        let pace = if self.uncounted { POLL } else { pace };
        if due(now, self.counted, pace, POLL) {
            self.counted = now;
            outbox.once(Command::CountHalfOpen);
        }
    }

    /// Asks for the sampled flows.
    pub fn ask_for_flows(&mut self, now: Timestamp, listeners: &Listeners, outbox: &mut Outbox) {
        let pace = |monitor: &ListenerMonitor| match monitor.asks_for_routes(now) {
            true => POLL,
            false => pace(now, monitor),
        };
        let resting = listeners.monitors.any_rests(|_| true).then_some(CALM);
        let paces = listeners.monitors.values().map(pace).chain(resting);
        let Some(pace) = paces.min() else { return };
        if due(now, self.inspected, pace, POLL) {
            self.inspected = now;
            outbox.once(Command::InspectFlows);
        }
    }
}
