//! The engine's state as reports for people.

use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use super::monitor::ListenerMonitor;
use super::upkeep::{acting_since, active_rules};
use crate::incident::{IncidentReport, QuietReport};
use crate::input::{ListenerId, Mode, Rule, Timestamp};
use crate::output::{ListenerReport, ListenerState, Report};
use crate::rules::{Entry, RuleReport};

/// Time without a sign of a flood after which it has stopped, as far as is known.
const STOPPED: Duration = Duration::from_secs(5);

impl Engine {
    /// Everything that is known at `now`. Rates are those of the last sample.
    pub fn report(&self, now: Timestamp) -> Report {
        let reports =
            self.monitors.values().filter_map(|monitor| self.incident_report(monitor.id, None));
        let mut open: Vec<IncidentReport> = reports.collect();
        open.extend(self.host_reports().chain(self.rolled_report(None)));
        // Until their listeners are known.
        open.extend(self.left_open.iter().cloned());
        open.sort_by_key(|incident| incident.id);
        Report {
            mode: self.mode,
            incidents: open,
            past: self.past.iter().cloned().collect(),
            listeners: self.monitors.all().map(|monitor| self.listener_report(monitor)).collect(),
            rules: self
                .rule_table
                .iter()
                .filter(|entry| entry.rule.expires > now)
                .map(|entry| self.rule_report(entry))
                .collect(),
            allowed: self.exempt.allowed().cloned().collect(),
            sample_shift: self.sample_shift,
        }
    }

    /// The listeners where anything happens, or did a moment ago.
    pub fn followed(&self) -> impl Iterator<Item = ListenerId> {
        self.monitors.values().map(|monitor| monitor.id)
    }

    /// Returns whether nothing is the matter: no incident is open, no listener is suspected or under pressure.
    pub fn is_at_rest(&self) -> bool {
        let calm = |monitor: &ListenerMonitor| {
            monitor.incident.is_none() && !monitor.is_suspicious() && !monitor.overloaded()
        };
        self.monitors.values().all(calm)
            && self.host.incidents().next().is_none()
            && self.rolled.is_none()
            && self.left_open.is_empty()
    }

    /// The first protected or allowed prefix that has an address in common with `net`, and why no
    /// automatic rule may touch it.
    pub fn exemption(&self, net: &IpNet) -> Option<(IpNet, String)> {
        self.exempt.touched_by(net)
    }

    /// Every rule that is wanted in the kernel at `now`.
    pub fn rules(&self, now: Timestamp) -> impl Iterator<Item = &Rule> {
        self.rule_table.iter().map(|entry| &entry.rule).filter(move |rule| rule.expires > now)
    }

    /// The open incident of a listener; with an end, as it was then.
    pub(super) fn incident_report(
        &self,
        id: ListenerId,
        ended: Option<Timestamp>,
    ) -> Option<IncidentReport> {
        let monitor = self.monitors.get(&id)?;
        let incident = monitor.incident.as_deref()?;
        let rules = active_rules(monitor, &self.rule_table).map(|entry| self.rule_report(entry));
        let report = incident.report(rules.collect(), ended);
        let quiet = self.quiet(monitor.over_for(self.now)).filter(|_| ended.is_none());
        Some(IncidentReport { quiet, ..report })
    }

    /// The report of an open incident of which nothing was seen for so long.
    pub(super) fn quiet(&self, lasts: Duration) -> Option<QuietReport> {
        let since = self.now - lasts;
        let ends = since + self.settings.common.quiet;
        (lasts >= STOPPED).then_some(QuietReport { since, ends })
    }

    pub(super) fn rule_report(&self, entry: &Entry) -> RuleReport {
        entry.report(|id| self.monitors.get(&id).map(|monitor| monitor.listener))
    }

    fn listener_report(&self, monitor: &ListenerMonitor) -> ListenerReport {
        let (dropped_rate, cookie_rate) = monitor.stopped_rates();
        let settings = &self.settings.common;
        let (ruled, stepped) = acting_since(monitor, &self.rule_table);
        let acting = ruled.max(stepped).filter(|_| self.mode == Mode::Enforce);
        let keeps_away = acting.is_some_and(|newest| {
            !monitor.is_overrun(self.now, newest.max(self.enforced), settings)
        });
        let state = match monitor.class() {
            // Whatever else holds, clients are lost there, and no rule helps.
            _ if monitor.overloaded() => ListenerState::Overloaded,
            Some(_) if keeps_away => ListenerState::Mitigating,
            Some(class) if class.is_flood() => ListenerState::Attacked,
            Some(class) if !class.is_pressure() => ListenerState::Failing,
            _ if monitor.is_suspicious() || monitor.is_evaded() => ListenerState::Suspect,
            _ if monitor.is_queue_full(self.now) => ListenerState::Suspect,
            _ => ListenerState::Ok,
        };
        ListenerReport {
            id: monitor.id,
            listener: monitor.listener,
            kind: monitor.kind,
            counters: *monitor.counters(),
            queues: monitor.queues,
            syn_rate: monitor.syn_rate(),
            dropped_rate,
            cookie_rate,
            reaching_rate: monitor.reaching_rate(),
            completions: monitor.completions(self.now),
            state,
            egress: monitor.egress(),
            mitigations: monitor.ladder.report(self.now).collect(),
        }
    }

    pub(super) fn report_of(&self, id: ListenerId) -> Option<ListenerReport> {
        self.monitors.get(&id).map(|monitor| self.listener_report(monitor))
    }
}
