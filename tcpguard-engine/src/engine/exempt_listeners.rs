//! Listeners that are exempt from the rules for every listener.
//!
//! Such a rule also applies to listeners without any trouble, and their clients may have the fingerprint that
//! it drops. New clients that complete a handshake after their SYN was dropped are the evidence, listener by
//! listener. At such a listener cookies are to answer. The listener is exempt as soon as they do, or if
//! hardly any SYNs but those of clients are dropped there. The rule goes on everywhere else, whether or not
//! others can have cookies.

use super::Engine;
use super::monitor::Shared;
use crate::incident::Event;
use crate::input::{ListenerId, Mode, Timestamp};
use crate::output::Command;
use crate::rules::{COMPLETED_SHARE, MOSTLY};

impl Engine {
    /// Exempts the listeners of which the rules for every listener hit clients, and ends the exemption where
    /// handshakes fail and no cookies answer.
    pub(super) fn exempt_listeners(&mut self, now: Timestamp) {
        let enforced = self.mode == Mode::Enforce;
        let mut rules =
            self.rule_table.signatures_of(ListenerId::HOST).filter(|_| enforced).peekable();
        let acts = rules.peek().is_some();
        let hits_clients = rules.any(|entry| entry.hits_clients(now));
        let mut changed = Vec::new();
        for monitor in self.monitors.values_mut() {
            // A listener's own rule shows by itself which clients it hits.
            let is_harmful = || {
                hits_clients
                    && self.rule_table.signatures_of(monitor.id).next().is_none()
                    && monitor.loses_clients(COMPLETED_SHARE)
            };
            let is_answered = || monitor.is_answered(now);
            let shared = match monitor.shared {
                _ if !acts => Shared::Alike,
                Shared::Exempting if is_answered() || !monitor.handshakes_failed() => {
                    Shared::Exempting
                }
                _ if !is_harmful() => Shared::Alike,
                _ if is_answered() || monitor.loses_clients(MOSTLY) => Shared::Exempting,
                _ => Shared::Harmful,
            };
            let exempt = shared == Shared::Exempting;
            if exempt != (monitor.shared == Shared::Exempting) {
                changed.push((monitor.id, monitor.listener, exempt));
            }
            monitor.shared = shared;
        }
        for (id, listener, exempt) in changed {
            self.commands.push_back(Command::ExemptListener { listener: id, exempt });
            if let Some(rolled) = self.rolled.as_mut().filter(|_| exempt) {
                rolled.incident.note(now, Event::ListenerExempted { listener });
            }
        }
    }
}
