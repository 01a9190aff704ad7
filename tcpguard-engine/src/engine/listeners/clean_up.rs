//! Removal of a flood's half-open entries from the queues of listeners.

use super::{Listeners, acting_since, active_rules};
use crate::engine::mandate::Mandate;
use crate::engine::monitor::ListenerMonitor;
use crate::engine::outbox::Outbox;
use crate::engine::pace::{BUSY, URGENT, due};
use crate::engine::rule_book::{RuleBook, signature};
use crate::input::{ListenerId, Mitigation, POLL, Timestamp};
use crate::mitigation::CleanUp;
use crate::output::Command;
use crate::policy::clean_age;

/// Half-open entries removed at a time: each costs a message to the kernel.
pub const CLEAN_LIMIT: u32 = 4096;
/// Listeners of which the queues are cleaned up in a poll: each costs a walk over the host's sockets.
pub const CLEANED_AT_ONCE: usize = 64;

impl Listeners {
    /// Has the half-open entries removed that keep clients out of the queues of local listeners, for another
    /// minute: those that a flood left before a rule or a mitigation acted on it, and old ones in a queue that
    /// turns clients away.
    pub fn clean_half_open(&mut self, rules: &RuleBook, mandate: &Mandate, outbox: &mut Outbox) {
        let now = self.now;
        if !mandate.enforces() {
            return;
        }
        let mut waiting: Vec<(Timestamp, ListenerId)> = self
            .monitors
            .values()
            .filter(|monitor| self.is_to_be_cleaned(now, monitor, rules, mandate))
            .map(|monitor| (monitor.cleaned, monitor.id))
            .collect();
        waiting.sort_unstable();
        for (_, listener) in waiting.into_iter().take(CLEANED_AT_ONCE) {
            let Some(monitor) = self.monitors.get_mut(&listener) else { continue };
            let (ruled, stepped) = acting_since(monitor, &rules.table);
            // A SYN that a rule has let pass since may be a client's, also while a mitigation is active.
            let acting = ruled.or(stepped).map(|since| since.max(mandate.enforced));
            let answered_before = acting.unwrap_or_default();
            // Under a budget the flood's few first SYNs would take half of the queue in the end.
            let scarce = monitor.turns_clients_away(now) || monitor.ladder.has(Mitigation::Budget);
            let all_before = match scarce {
                true => now,
                false => stepped.map_or(Timestamp::default(), |_| answered_before),
            };
            let rules = || active_rules(monitor, &rules.table);
            let sources = rules().filter_map(|entry| entry.rule.matcher.prefix());
            let clean_up = CleanUp {
                signatures: rules().filter_map(signature).collect(),
                sources: sources.collect(),
                answered_before,
                older_than: clean_age(monitor.rtt()),
                all_before,
            };
            let limit = CLEAN_LIMIT;
            outbox.push(Command::CleanHalfOpen { listener, clean_up, limit });
            monitor.cleaned = now;
        }
    }

    /// Returns whether it is time to remove the entries that keep clients out of a listener's queue.
    pub fn is_to_be_cleaned(
        &self,
        now: Timestamp,
        monitor: &ListenerMonitor,
        rules: &RuleBook,
        mandate: &Mandate,
    ) -> bool {
        if !monitor.queues_here() {
            return false;
        }
        let (ruled, stepped) = acting_since(monitor, &rules.table);
        let Some(newest) = ruled.max(stepped).filter(|_| monitor.class().is_some()) else {
            return monitor.turns_clients_away(now) && due(now, monitor.cleaned, BUSY, POLL);
        };
        let since = newest.max(mandate.enforced);
        let empty = monitor.half_open().is_some_and(|(half_open, _)| half_open == 0)
            && monitor.counted > since;
        let pace = if now.since(since) < URGENT { POLL } else { BUSY };
        !empty && due(now, monitor.cleaned, pace, POLL)
    }
}
