//! The programs in the kernel, and where they are attached.

use tcpguard_host::hint::Hint as _;

use super::interfaces::Interfaces;
use crate::bpf::{Dataplane, HeldLink, Object};
use crate::documents::Drift;

/// The loaded object, and its links.
pub struct Programs {
    pub object: Object,
    pub interfaces: Interfaces,
    /// The link at the tracepoint; `None`: completions are seen in a sample only.
    pub tracepoint: Option<HeldLink>,
}

impl Programs {
    /// Ensures that packets are counted where they should be, and that the tracepoint is still pinned.
    pub fn repair(&mut self, dataplane: &Dataplane) -> Vec<Drift> {
        let mut repaired = Vec::new();
        match self.interfaces.repair_slots(dataplane) {
            Ok(false) => {}
            Ok(true) => repaired.push(Drift::InterfaceSlots),
            Err(error) => {
                log::error!("counter slots of interfaces not repaired: {}", error.with_hint());
            }
        }
        // If the operator has detached all programs, the pins are gone as well.
        let tracepoint = self.tracepoint.as_ref().filter(|_| !self.interfaces.all_detached());
        match tracepoint.map(HeldLink::keep_pinned) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => repaired.push(Drift::TracepointPin),
            Some(Err(error)) => log::error!("tracepoint not pinned: {}", error.with_hint()),
        }
        repaired
    }
}
