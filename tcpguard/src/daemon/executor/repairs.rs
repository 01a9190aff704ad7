//! Differences between the kernel and what is wanted there, until they are repaired and reported.

use tcpguard_engine::Timestamp;

use super::Executor;
use super::audit::{Audit, Outcome};
use crate::bpf::KernelError;
use crate::documents::{AgentEvent, Drift};

/// The audit of the rules, and the repairs.
#[derive(Debug, Default)]
pub struct Repairs {
    audit: Audit,
    /// Rules in the kernel when they were last counted.
    pub in_kernel: Option<u32>,
    /// True if they have changed since.
    pub recount: bool,
    /// Time since which the kernel has differed from the wanted rules without a repair.
    pub drift_since: Option<Timestamp>,
    /// Repairs that have not been reported yet.
    pub found: Vec<Drift>,
}

impl Repairs {
    /// Nothing is known yet.
    pub fn to_count() -> Self {
        Self { recount: true, ..Self::default() }
    }

    /// The next step of the audit of the rules. Returns what is to be reported: repairs, there and elsewhere, once a
    /// round.
    pub fn audit(&mut self, now: Timestamp, executor: &mut Executor) -> Vec<AgentEvent> {
        let Some(outcome) = self.audit.advance(now, executor) else { return Vec::new() };
        let Outcome { repaired, failed, counted } = outcome;
        self.found.extend(repaired);
        self.in_kernel = counted.or(self.in_kernel);
        let mut events = Vec::new();
        if !self.found.is_empty() {
            events.push(AgentEvent::repaired(std::mem::take(&mut self.found)));
        }
        match (failed, self.drift_since) {
            (Some((drift, error)), None) => {
                self.drift_since = Some(now);
                events.push(AgentEvent::RuleDrift { drift, error });
            }
            (None, Some(_)) => {
                self.drift_since = None;
                events.push(AgentEvent::RuleDriftOver);
            }
            _ => {}
        }
        events
    }

    /// Counts the rules in the kernel.
    pub fn count(&mut self, executor: &Executor) -> Result<(), KernelError> {
        self.recount = false;
        self.in_kernel = Some(executor.dataplane.rule_count(executor.config.rule_set)?);
        Ok(())
    }
}
