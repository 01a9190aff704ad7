//! Changes that other processes made in the kernel: their detection, repair and alerts.

use tcpguard_engine::Timestamp;
use tcpguard_host::hint::Hint as _;

use super::Agent;
use crate::bpf::{HeldLink, KernelError};
use crate::daemon::executor::audit::Outcome;
use crate::documents::{AgentEvent, Drift};

impl Agent {
    /// The next step of the audit of the rules. Repairs, there and elsewhere, are reported once a round.
    pub(super) fn audit(&mut self, now: Timestamp) {
        let Some(outcome) = self.audit.advance(now, &mut self.executor) else { return };
        let Outcome { repaired, failed, counted } = outcome;
        self.repaired.extend(repaired);
        if let Some(counted) = counted {
            self.rules_in_kernel = Some(counted);
        }
        if !self.repaired.is_empty() {
            let drifts = std::mem::take(&mut self.repaired);
            self.raise_own(AgentEvent::repaired(drifts));
        }
        match (failed, self.drift_since) {
            (Some((drift, error)), None) => {
                self.drift_since = Some(now);
                self.raise_own(AgentEvent::RuleDrift { drift, error });
            }
            (None, Some(_)) => {
                self.drift_since = None;
                self.raise_own(AgentEvent::RuleDriftOver);
            }
            _ => {}
        }
    }

    /// Counts the rules in the kernel.
    pub(super) fn count_rules(&mut self) -> Result<(), KernelError> {
        self.count_rules = false;
        let set = self.executor.config.rule_set;
        self.rules_in_kernel = Some(self.executor.dataplane.rule_count(set)?);
        Ok(())
    }

    /// Ensures that the programs have their configuration.
    pub(super) fn repair_config(&mut self) -> Result<(), KernelError> {
        if self.executor.repair_config()? {
            self.repaired.push(Drift::Configuration);
        }
        Ok(())
    }

    /// Ensures that the programs have the listeners and the exempt prefixes. A repair that fails now is tried again.
    pub(super) fn repair_listeners(&mut self) {
        match self.executor.listeners.repair_all(&mut self.executor.dataplane) {
            Ok(0) => {}
            Ok(count) => self.repaired.push(Drift::Listeners { entries: count as u64 }),
            Err(error) => {
                log::error!("listeners in the kernel not repaired: {}", error.with_hint());
            }
        }
        if self.exemptions.take_repaired() {
            self.repaired.push(Drift::ExemptPrefixes);
        }
    }

    /// Ensures that packets are counted where they should be, and that the hooks that belong to no interface's XDP
    /// program are still attached: the program that accepts cookies, and the tracepoint.
    pub(super) fn repair_hooks(&mut self) {
        match self.interfaces.repair_slots(&self.executor.dataplane) {
            Ok(false) => {}
            Ok(true) => self.repaired.push(Drift::InterfaceSlots),
            Err(error) => {
                log::error!("counter slots of interfaces not repaired: {}", error.with_hint());
            }
        }
        self.repaired.extend(self.mitigations.cookies.take_repaired());
        // If the operator has detached all programs, the pins are gone as well.
        let tracepoint = self.tracepoint.as_ref().filter(|_| !self.interfaces.all_detached());
        match tracepoint.map(HeldLink::keep_pinned) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => self.repaired.push(Drift::TracepointPin),
            Some(Err(error)) => log::error!("tracepoint not pinned: {}", error.with_hint()),
        }
    }
}
