//! Adoption of an earlier run's state: the rules in the kernel, and the learned state. Also the engine's part
//! when the kernel refuses a rule.

use std::time::Duration;

use super::Engine;
use crate::incident::{EndReason, Event, IncidentReport, NamedRule, Target};
use crate::input::{ListenerId, Matcher, Mitigation, Origin, Rule, RuleId, Timestamp};
use crate::listener::{Learned, LearnedError};
use crate::output::Command;
use crate::rules::RemovalReason;

/// A rule that the kernel did not take is tried again after this long.
const AGAIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Takes over the rules that are in the kernel from an earlier run, so that a restart opens no gap. To be
    /// called before the first sample and after [`Engine::set_protected`].
    ///
    /// An automatic rule goes on until its end, is renewed while it hits, and becomes the rule of the next
    /// incident that asks for it. A rule that cannot be kept (it has ended, its slot or its matcher is there
    /// twice, its source is exempt now) is taken out by [`Command::RemoveRule`].
    pub fn adopt(&mut self, now: Timestamp, rules: Vec<Rule>) {
        for rule in rules {
            if let Origin::Incident(incident) = rule.origin {
                // New incidents must not be taken for those of an earlier run.
                self.archive.number_after(incident);
            }
            let exempt = match (&rule.matcher, &rule.origin) {
                (Matcher::Source(net, _), Origin::Incident(_) | Origin::Fleet(_)) => {
                    self.rules.exempt.touched_by(net)
                }
                _ => None,
            };
            let refused = match exempt {
                Some((_, what)) => Some((rule, RemovalReason::Exempt { what })),
                None => {
                    let adopted = self.rules.table.adopt(now, rule);
                    adopted.err().map(|rule| (*rule, RemovalReason::NotAdopted))
                }
            };
            if let Some((rule, why)) = refused {
                self.outbox.push(Command::RemoveRule { rule, why });
            }
        }
    }

    /// Takes over incidents that an earlier run left open a moment ago, so that an attack that goes on has
    /// one number and is reported once. To be called after [`Engine::adopt`] and before the first sample,
    /// which brings the listeners of the incidents. Returns the numbers of those that go on if their listener
    /// is there. That of listeners that were reported together ends, as they are reported anew.
    pub fn resume(&mut self, now: Timestamp, incidents: Vec<IncidentReport>) -> Vec<u64> {
        let mut numbers = Vec::new();
        for report in incidents.into_iter().filter(|incident| incident.ended.is_none()) {
            self.number_after(report.id);
            match report.listener_id {
                ListenerId::HOST if !self.host.resume(now, &report) => {
                    self.archive.end_left_open(report, EndReason::AgentRestarted, &mut self.outbox);
                    continue;
                }
                ListenerId::HOST => numbers.push(report.id),
                _ => {
                    numbers.push(report.id);
                    self.archive.left_open.push(report);
                }
            }
        }
        numbers
    }

    /// Says that the kernel did not take rule `id`, of which nothing is left there. An automatic rule
    /// is tried again after ten seconds; an operator's is gone.
    pub fn rule_failed(&mut self, now: Timestamp, id: RuleId, error: &str) {
        let Some(entry) = self.rules.table.remove(id) else { return };
        let event = Event::RuleFailed {
            rule: Some(NamedRule { id, target: Target::of(&entry.rule.matcher) }),
            error: error.to_owned(),
            retry_s: entry.incident().map(|_| AGAIN.as_secs()),
        };
        for incident in self.listeners.open_incidents_mut() {
            if incident.wants(&entry.rule.matcher) {
                incident.postpone(&entry.rule.matcher, now + AGAIN);
                incident.note(now, event.clone());
            }
        }
        self.alert_rule(event, entry.incident());
        if let Some(before) =
            entry.rule.confirmation.and_then(|confirmation| confirmation.to_restore(now))
        {
            self.rules.put_back(now, before, &mut self.outbox);
        }
    }

    /// Takes over a mitigation that an earlier run left in the kernel, so that a restart under attack opens no gap.
    /// Called after the first sample's listeners are known.
    pub fn adopt_mitigation(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        rate: u32,
    ) {
        self.listeners.inherited.push((now, id, mitigation, rate));
    }

    /// Reports operators' rules that were not confirmed in time, which ended while there was no agent, and
    /// restores the rules that they had replaced. To be called after [`Engine::adopt`].
    pub fn revert(&mut self, now: Timestamp, rules: Vec<Rule>) {
        for rule in rules {
            self.rules.reverted(now, rule, &mut self.outbox);
        }
    }

    /// Leaves closed incidents to the caller, which receives each with its full report:
    /// [`crate::Report::past`] is empty from now on.
    pub fn leave_past(&mut self) {
        self.archive.leave_past();
    }

    /// Numbers new incidents from after `last` on: those up to it are on record from earlier runs.
    pub fn number_after(&mut self, last: u64) {
        self.archive.number_after(last);
    }

    /// The learned state of the listeners, for [`Engine::restore`] of a later run.
    pub fn learned(&self) -> Learned {
        self.listeners.learned()
    }

    /// Takes over the state that an earlier run learned `age` ago. Listeners get their part when they are
    /// first seen, those that are monitored already at once.
    ///
    /// # Errors
    /// When it is of another version or holds a value that cannot have been learned; then nothing is taken
    /// over. Networks are taken over or not by themselves.
    pub fn restore(&mut self, learned: Learned, age: Duration) -> Result<(), LearnedError> {
        self.listeners.restore(learned, age)
    }

    /// Sets the secret that no outsider may guess. Networks of clients are hashed with it, unless those that
    /// an earlier run learned are taken over. The networks learned so far are forgotten.
    pub fn set_secret(&mut self, secret: [u64; 2]) {
        self.listeners.networks.set_key(secret);
    }
}
