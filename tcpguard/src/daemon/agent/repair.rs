//! Changes that other processes made in the kernel: their detection, repair and alerts.

use tcpguard_engine::{Severity, Timestamp};

use super::Agent;
use crate::bpf::{HeldLink, KernelError};
use crate::daemon::executor::audit::Outcome;

/// Most changes that are named in one alert.
const NAMED: usize = 4;

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
            let message = in_words(&std::mem::take(&mut self.repaired));
            self.raise_own(Severity::Warning, "drift_repaired", message);
        }
        match (failed, self.drift_since) {
            (Some(why), None) => {
                self.drift_since = Some(now);
                let message = format!(
                    "rules in the kernel differ from those of the agent, and the repair failed ({why}). If \
                     this continues: systemctl restart tcpguard"
                );
                self.raise_own(Severity::Warning, "rule_drift", message);
            }
            (None, Some(_)) => {
                self.drift_since = None;
                let message = "rules in the kernel are complete again; see: tcpguard rules list";
                self.raise_own(Severity::Notice, "rule_drift_over", message.to_owned());
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
            self.repaired.push("the configuration record was changed".to_owned());
        }
        Ok(())
    }

    /// Ensures that the programs have the listeners and the exempt prefixes. A repair that fails now is tried again.
    pub(super) fn repair_listeners(&mut self) {
        match self.executor.listeners.repair_all(&mut self.executor.dataplane) {
            Ok(0) => {}
            Ok(count) => self.repaired.push(format!("{count} entries of listeners were changed")),
            Err(error) => log::error!("{error}"),
        }
        if self.exemptions.take_repaired() {
            self.repaired.push("the exempt prefixes were changed".to_owned());
        }
    }

    /// Ensures that packets are counted where they should be, and that the hooks that belong to no interface's XDP
    /// program are still attached: the program that accepts cookies, and the tracepoint.
    pub(super) fn repair_hooks(&mut self) {
        match self.interfaces.repair_slots(&self.executor.dataplane) {
            Ok(false) => {}
            Ok(true) => self.repaired.push("counters of interfaces were redirected".to_owned()),
            Err(error) => log::error!("{error}"),
        }
        self.repaired.extend(self.mitigations.cookies.take_repaired());
        // If the operator has detached all programs, the pins are gone as well.
        let tracepoint = self.tracepoint.as_ref().filter(|_| !self.interfaces.all_detached());
        match tracepoint.map(HeldLink::keep_pinned) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => self.repaired.push("the tracepoint's pin was gone".to_owned()),
            Some(Err(error)) => log::error!("{error}"),
        }
    }
}

/// The repairs, in one line.
fn in_words(repaired: &[String]) -> String {
    let named = repaired.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = match repaired.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "BPF state modified by another process and repaired: {named}{more}; find processes with \
         access: tcpguard doctor"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_names_four_changes_and_counts_the_rest() {
        let all: Vec<String> = (1..=6).map(|number| format!("rule {number} was gone")).collect();
        let one = in_words(&all[..1]);
        assert!(one.contains(": rule 1 was gone; "), "{one}");
        let six = in_words(&all);
        assert!(six.contains("rule 4 was gone and 2 more; "), "{six}");
        assert!(!six.contains("rule 5"), "{six}");
    }
}
