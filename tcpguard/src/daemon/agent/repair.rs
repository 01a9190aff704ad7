//! Changes that other processes made in the kernel: their detection, repair and alerts.

use tcpguard_host::hint::Hint as _;

use super::Agent;
use crate::bpf::KernelError;
use crate::documents::Drift;

impl Agent {
    /// Ensures that the programs have their configuration.
    pub(super) fn repair_config(&mut self) -> Result<(), KernelError> {
        if self.executor.repair_config()? {
            self.repairs.found.push(Drift::Configuration);
        }
        Ok(())
    }

    /// Ensures that the programs have the listeners and the exempt prefixes. A repair that fails now is tried again.
    pub(super) fn repair_listeners(&mut self) {
        match self.executor.listeners.repair_all(&mut self.executor.dataplane) {
            Ok(0) => {}
            Ok(count) => self.repairs.found.push(Drift::Listeners { entries: count as u64 }),
            Err(error) => {
                log::error!("listeners in the kernel not repaired: {}", error.with_hint());
            }
        }
        if self.exemptions.take_repaired() {
            self.repairs.found.push(Drift::ExemptPrefixes);
        }
    }

    /// Ensures that the hooks are there: the counters' slots, the program that accepts cookies, and the tracepoint.
    pub(super) fn repair_hooks(&mut self) {
        self.repairs.found.extend(self.programs.repair(&self.executor.dataplane));
        self.repairs.found.extend(self.mitigations.cookies.take_repaired());
    }
}
