//! Adoption of an earlier run's state: the rules in the kernel, and the learned state. Also the engine's part
//! when the kernel refuses a rule.

use std::time::Duration;

use super::Engine;
use super::monitor::ListenerMonitor;
use crate::evidence::Severity;
use crate::incident::{EndReason, Event, IncidentReport, NamedRule, Target};
use crate::input::{ListenerId, Matcher, Mitigation, Mode, Origin, Rule, RuleId, Timestamp};
use crate::listener::{Learned, LearnedError, Networks};
use crate::mitigation::HeldBack;
use crate::output::Command;
use crate::rules::{RULE_TTL, RemovalReason};

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
                self.incidents = self.incidents.max(incident);
            }
            let exempt = match (&rule.matcher, &rule.origin) {
                (Matcher::Source(net, _), Origin::Incident(_) | Origin::Fleet(_)) => {
                    self.exempt.touched_by(net)
                }
                _ => None,
            };
            let refused = match exempt {
                Some((_, what)) => Some((rule, RemovalReason::Exempt { what })),
                None => {
                    let adopted = self.rule_table.adopt(now, rule);
                    adopted.err().map(|rule| (*rule, RemovalReason::NotAdopted))
                }
            };
            if let Some((rule, why)) = refused {
                self.commands.push_back(Command::RemoveRule { rule, why });
            }
        }
    }

    /// Leaves closed incidents to the caller, which receives each with its full report:
    /// [`crate::Report::past`] is empty from now on.
    pub fn leave_past(&mut self) {
        self.keeps_past = false;
        self.past.clear();
    }

    /// Numbers new incidents from after `last` on: those up to it are on record from earlier runs.
    pub fn number_after(&mut self, last: u64) {
        self.incidents = self.incidents.max(last);
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
                    self.end_left_open(report, EndReason::AgentRestarted);
                    continue;
                }
                ListenerId::HOST => numbers.push(report.id),
                _ => {
                    numbers.push(report.id);
                    self.left_open.push(report);
                }
            }
        }
        numbers
    }

    /// Ends the incidents of an earlier run whose listeners have gone.
    pub(super) fn end_gone(&mut self) {
        for report in std::mem::take(&mut self.left_open) {
            self.end_left_open(report, EndReason::ListenerGone);
        }
    }

    /// Ends an incident of an earlier run with its last known state.
    fn end_left_open(&mut self, report: IncidentReport, why: EndReason) {
        let looked = report.record.at_last.map_or(report.detected, |moment| moment.at);
        let report = IncidentReport { ended: Some(looked.max(report.detected)), ..report };
        self.alert_end(&report, why);
        self.keep(report);
    }

    /// The incident of a listener that an earlier run left open goes on, with the rules that were made for
    /// it and are still there.
    pub(super) fn go_on(&mut self, now: Timestamp, monitor: &mut ListenerMonitor) {
        let here = |incident: &IncidentReport| incident.listener == monitor.listener;
        let Some(place) = self.left_open.iter().position(here) else { return };
        let report = self.left_open.remove(place);
        monitor.resume(now, &report);
        let Some(incident) = &mut monitor.incident else { return };
        let ttl = RULE_TTL;
        for entry in self.rule_table.orphans().filter(|entry| entry.incident() == Some(report.id)) {
            incident.want(entry.rule.matcher, entry.rule.reason.clone(), ttl);
        }
    }

    /// Says that the kernel did not take rule `id`, of which nothing is left there. An automatic rule
    /// is tried again after ten seconds; an operator's is gone.
    pub fn rule_failed(&mut self, now: Timestamp, id: RuleId, error: &str) {
        let Some(entry) = self.rule_table.remove(id) else { return };
        let event = Event::RuleFailed {
            rule: Some(NamedRule { id, target: Target::of(&entry.rule.matcher) }),
            error: error.to_owned(),
            retry_s: entry.incident().map(|_| AGAIN.as_secs()),
        };
        for incident in self.open_incidents_mut() {
            if incident.wants(&entry.rule.matcher) {
                incident.postpone(&entry.rule.matcher, now + AGAIN);
                incident.note(now, event.clone());
            }
        }
        self.alert_rule(Severity::Warning, event, entry.incident());
        if let Some(before) =
            entry.rule.confirmation.and_then(|confirmation| confirmation.to_restore(now))
        {
            self.put_back(now, before);
        }
    }

    /// The learned state of the listeners, for [`Engine::restore`] of a later run.
    pub fn learned(&self) -> Learned {
        let listeners = self.monitors.all().map(|monitor| monitor.learned(self.now));
        Learned::of(listeners, self.networks.learned())
    }

    /// Takes over the state that an earlier run learned `age` ago. Listeners get their part when they are
    /// first seen, those that are monitored already at once.
    ///
    /// # Errors
    /// When it is of another version or holds a value that cannot have been learned; then nothing is taken
    /// over. Networks are taken over or not by themselves.
    pub fn restore(&mut self, mut learned: Learned, age: Duration) -> Result<(), LearnedError> {
        let networks = learned.networks.take();
        let listeners = learned.validate()?;
        self.restored = listeners.map(|listener| (listener.listener, (listener, age))).collect();
        self.monitors.wake();
        for monitor in self.monitors.values_mut() {
            if let Some((learned, age)) = self.restored.remove(&monitor.listener) {
                monitor.restore(self.now, &learned, age);
            }
        }
        if let Some(networks) = networks {
            let known = Networks::known(&networks, age);
            self.networks = known.map_err(|what| LearnedError::Networks { what })?;
        }
        Ok(())
    }

    /// Sets the secret that no outsider may guess. Networks of clients are hashed with it, unless those that
    /// an earlier run learned are taken over. The networks learned so far are forgotten.
    pub fn set_secret(&mut self, secret: [u64; 2]) {
        self.networks.set_key(secret);
    }

    /// The incident of a listener under attack takes over the signature rules of an earlier run.
    pub(super) fn hand_over(&mut self, id: ListenerId) {
        let ttl = RULE_TTL;
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let Some(incident) = monitor.incident.as_deref_mut().filter(|open| open.class().is_flood())
        else {
            return;
        };
        for entry in self.rule_table.orphans() {
            let matcher = entry.rule.matcher;
            let here = matches!(matcher, Matcher::Signature { listener, .. } if listener == id);
            if here && !incident.wants(&matcher) && !incident.has_refused(self.now, &matcher) {
                incident.want(matcher, entry.rule.reason.clone(), ttl);
            }
        }
    }

    /// The rules of an earlier run become those of the incidents that ask for them. No incident asks for them
    /// in mode off, nor for those of a listener at which rules are held back or forbidden.
    pub(super) fn reclaim_orphans(&mut self) {
        let held_back = |by| RemovalReason::HeldBack { by };
        let unwanted = |matcher: &Matcher| match matcher {
            _ if self.mode == Mode::Off => Some(held_back(HeldBack::AgentOff)),
            Matcher::Signature { listener: ListenerId::HOST, .. } => {
                self.no_shared_rules().map(held_back)
            }
            Matcher::Signature { listener, .. } => {
                let monitor = self.monitors.get(listener)?;
                let forbidden = monitor.ladder.bars(Mitigation::Signature);
                let held_back = self.held_back(monitor.listener).map(held_back);
                held_back.or(forbidden.then_some(RemovalReason::Forbidden))
            }
            Matcher::Source(..) => None,
        };
        let orphans = self.rule_table.orphans().map(|entry| entry.rule.matcher);
        let orphans: Vec<(Matcher, RemovalReason)> =
            orphans.filter_map(|matcher| Some((matcher, unwanted(&matcher)?))).collect();
        for (matcher, why) in orphans {
            self.rule_table.disown(&matcher);
            self.removal_reasons.insert(matcher, why);
        }
        let own = self.monitors.values().filter_map(|monitor| monitor.incident.as_deref());
        let incidents = own.chain(self.rolled.as_ref().map(|rolled| &rolled.incident));
        let wanted = incidents.flat_map(|incident| incident.wanted());
        self.rule_table.reclaim_orphans(wanted.map(|wanted| (&wanted.matcher, wanted.incident)));
    }
}
