//! The engine's state as reports for people.

use ipnet::IpNet;

use super::Engine;
use super::upkeep::{acting_since, active_rules};
use crate::rules::Entry;
use crate::watch::Watch;
use crate::{
    IncidentClass, IncidentReport, ListenerId, ListenerReport, ListenerState, Mode, Report, Rule,
    RuleReport, Timestamp,
};

impl Engine {
    /// Everything that is known at `now`. Rates are those of the last sample.
    pub fn report(&self, now: Timestamp) -> Report {
        let mut open: Vec<IncidentReport> =
            self.watches.keys().filter_map(|id| self.incident_report(*id, None)).collect();
        open.extend(self.host_reports().chain(self.rolled_report(None)));
        // Until their listeners are known.
        open.extend(self.left_open.iter().cloned());
        open.sort_by_key(|incident| incident.id);
        Report {
            mode: self.mode,
            incidents: open,
            past: self.past.iter().cloned().collect(),
            listeners: self.watches.values().map(|watch| self.listener_report(watch)).collect(),
            rules: self
                .book
                .iter()
                .filter(|entry| entry.rule.expires > now)
                .map(|entry| self.rule_report(entry))
                .collect(),
            allowed: self.exempt.allowed().cloned().collect(),
            sample_shift: self.sample_shift,
        }
    }

    /// Whether nothing is the matter: no incident is open, no listener is suspected or under pressure.
    pub fn is_at_rest(&self) -> bool {
        let calm = |watch: &Watch| {
            watch.incident.is_none()
                && !watch.is_suspicious()
                && !watch.overloaded(self.settings.of(watch.listener))
        };
        self.watches.values().all(calm)
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
        self.book.iter().map(|entry| &entry.rule).filter(move |rule| rule.expires > now)
    }

    /// The open incident of a listener; with an end, as it was then.
    pub(super) fn incident_report(
        &self,
        id: ListenerId,
        ended: Option<Timestamp>,
    ) -> Option<IncidentReport> {
        let watch = self.watches.get(&id)?;
        let incident = watch.incident.as_deref()?;
        let rules = active_rules(watch, &self.book).map(|entry| self.rule_report(entry));
        Some(incident.report(rules.collect(), ended))
    }

    pub(super) fn rule_report(&self, entry: &Entry) -> RuleReport {
        entry.report(|id| self.watches.get(&id).map(|watch| watch.listener))
    }

    fn listener_report(&self, watch: &Watch) -> ListenerReport {
        let (completed_rate, dropped_rate, cookie_rate) = watch.other_rates();
        let settings = self.settings.of(watch.listener);
        let (ruled, stepped) = acting_since(watch, &self.book);
        let acting = ruled.max(stepped).filter(|_| self.mode == Mode::Enforce);
        let keeps_away = acting
            .is_some_and(|newest| !watch.is_overrun(self.now, newest.max(self.enforced), settings));
        let overloaded = watch.overloaded(settings)
            || watch
                .incident
                .as_deref()
                .is_some_and(|incident| incident.class() == IncidentClass::ListenerOverload);
        let state = match watch.class() {
            // Whatever else holds, clients are lost there, and no rule helps.
            _ if overloaded => ListenerState::Overloaded,
            Some(_) if keeps_away => ListenerState::Protected,
            Some(class) if !class.is_pressure() => ListenerState::Attacked,
            _ if watch.is_suspicious() || watch.is_evaded() => ListenerState::Suspect,
            _ if watch.is_queue_full(self.now, settings) => ListenerState::Suspect,
            _ => ListenerState::Ok,
        };
        ListenerReport {
            id: watch.id,
            listener: watch.listener,
            kind: watch.kind,
            counters: *watch.counters(),
            queues: watch.queues,
            syn_rate: watch.syn_rate(),
            completed_rate,
            dropped_rate,
            cookie_rate,
            reaching_rate: watch.reaching_rate(),
            completions: watch.completions(),
            state,
            egress: watch.egress(),
            steps: watch.ladder.report(self.now).collect(),
        }
    }

    pub(super) fn report_of(&self, id: ListenerId) -> Option<ListenerReport> {
        self.watches.get(&id).map(|watch| self.listener_report(watch))
    }
}
