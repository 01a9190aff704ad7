//! The counters of all listeners, read together at each poll. Only listeners with counters that have changed are looked
//! into further.

use std::collections::BTreeSet;

use tcpguard_common::abi::ListenerCounters;
use tcpguard_engine::ListenerId;

use crate::bpf::KernelError;
use crate::daemon::executor::Executor;

/// The counters as they were read last.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Counters {
    /// By the listener's slot.
    last: Vec<ListenerCounters>,
    /// Listeners with counters that had changed then. They are looked into once more: what other tables count may
    /// follow a moment later.
    changed: BTreeSet<ListenerId>,
}

impl Counters {
    /// Reads all, and has the listeners that have changed looked into.
    ///
    /// # Errors
    /// When the kernel refuses; then the next call makes up for it.
    pub fn read(&mut self, executor: &mut Executor) -> Result<(), KernelError> {
        let Executor { listeners, dataplane, .. } = executor;
        listeners.touched.append(&mut self.changed);
        let slots = listeners.slots();
        self.last.resize(slots, ListenerCounters::default());
        dataplane.each_listener_counters(slots, |slot, counters| {
            if let Some(last) = self.last.get_mut(slot as usize)
                && *last != counters
            {
                *last = counters;
                self.changed.extend(listeners.at_slot(slot));
            }
        })?;
        listeners.touched.extend(&self.changed);
        Ok(())
    }

    /// Listeners with counters that changed between the last two readings.
    pub fn changed(&self) -> &BTreeSet<ListenerId> {
        &self.changed
    }

    /// The counters of the listener in a slot.
    pub fn of(&self, slot: u32) -> ListenerCounters {
        self.last.get(slot as usize).copied().unwrap_or_default()
    }
}
