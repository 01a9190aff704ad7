//! The engine's state as reports for people.

use ipnet::IpNet;

use super::Engine;
use super::listeners::acting_since;
use super::monitor::ListenerMonitor;
use crate::incident::IncidentReport;
use crate::input::{Listener, ListenerId, Rule, Timestamp};
use crate::output::{ListenerReport, ListenerState, Report, SharedEvidence};

impl Engine {
    /// Everything that is known at `now`. Rates are those of the last sample.
    pub fn report(&self, now: Timestamp) -> Report {
        let reports = self
            .listeners
            .monitors
            .values()
            .filter_map(|monitor| self.incident_report(monitor.id, None));
        let mut open: Vec<IncidentReport> = reports.collect();
        open.extend(self.host_reports().chain(self.listeners.rolled_report(None, &self.rules)));
        // Until their listeners are known.
        open.extend(self.archive.left_open.iter().cloned());
        open.sort_by_key(|incident| incident.id);
        Report {
            mode: self.mandate.mode,
            incidents: open,
            past: self.archive.past.iter().cloned().collect(),
            listeners: self
                .listeners
                .monitors
                .all()
                .map(|monitor| self.listener_report(monitor))
                .collect(),
            rules: self
                .rules
                .table
                .iter()
                .filter(|entry| entry.rule.expires > now)
                .map(|entry| self.listeners.rule_report(now, entry))
                .collect(),
            allowed: self.rules.exempt.allowed().cloned().collect(),
            sample_shift: self.stack.sample_shift,
        }
    }

    /// The listeners where anything happens, or did a moment ago.
    pub fn followed(&self) -> impl Iterator<Item = ListenerId> {
        self.listeners.monitors.values().map(|monitor| monitor.id)
    }

    /// Returns whether clients try to connect to a listener as they normally do, and none succeeds. One at rest has
    /// no SYNs.
    pub fn is_wanted(&self, id: ListenerId) -> bool {
        self.listeners.monitors.values().any(|monitor| monitor.id == id && monitor.is_wanted())
    }

    /// Returns whether nothing is the matter: no incident is open, no listener is suspected or under pressure.
    pub fn is_at_rest(&self) -> bool {
        let calm = |monitor: &ListenerMonitor| {
            monitor.incident.is_none() && !monitor.is_suspicious() && !monitor.overloaded()
        };
        self.listeners.monitors.values().all(calm)
            && self.host.incidents().next().is_none()
            && self.listeners.rolled.is_none()
            && self.archive.left_open.is_empty()
    }

    /// The first protected or allowed prefix that contains `net`, else that has an address in common with it, and why no
    /// automatic rule may touch it.
    pub fn exemption(&self, net: &IpNet) -> Option<(IpNet, String)> {
        self.rules.exempt.covering(net).or_else(|| self.rules.exempt.touched_by(net))
    }

    /// Returns whether `net` has an address in common with a protected prefix.
    pub fn is_protected(&self, net: &IpNet) -> bool {
        self.rules.exempt.is_protected(net)
    }

    /// Every rule that is wanted in the kernel at `now`.
    pub fn rules(&self, now: Timestamp) -> impl Iterator<Item = &Rule> {
        self.rules.table.iter().map(|entry| &entry.rule).filter(move |rule| rule.expires > now)
    }

    /// One listener, as [`Engine::report`] says it.
    pub fn listener(&self, listener: &Listener) -> Option<ListenerReport> {
        let mut all = self.listeners.monitors.all();
        all.find(|one| one.listener == *listener).map(|one| self.listener_report(one))
    }

    /// The open incidents, as other hosts of the fleet may learn of them, oldest first.
    pub fn shared_evidence(&self, now: Timestamp) -> Vec<SharedEvidence> {
        let own = self.listeners.monitors.values().filter_map(|monitor| {
            let incident = monitor.incident.as_deref()?;
            Some(self.rules.evidence_of(now, incident, [monitor].into_iter()))
        });
        let of_host = self
            .host
            .incidents()
            .map(|incident| self.rules.evidence_of(now, incident, [].into_iter()));
        let rolled = self.listeners.rolled.iter().map(|rolled| {
            let failing = rolled.failing().filter_map(|id| self.listeners.monitors.get(&id));
            self.rules.evidence_of(now, &rolled.incident, failing)
        });
        let mut all: Vec<SharedEvidence> = own.chain(of_host).chain(rolled).collect();
        all.sort_by_key(|evidence| evidence.incident);
        all
    }

    fn listener_report(&self, monitor: &ListenerMonitor) -> ListenerReport {
        let (dropped_rate, cookie_rate) = monitor.stopped_rates();
        let (now, settings) = (self.listeners.now, &self.mandate.settings.common);
        let (ruled, stepped) = acting_since(monitor, &self.rules.table);
        let acting = ruled.max(stepped).filter(|_| self.mandate.enforces());
        let keeps_away = acting.is_some_and(|newest| {
            !monitor.is_overrun(now, newest.max(self.mandate.enforced), settings)
        });
        let goes_on = self.mandate.quiet(now, monitor.over_for(now)).is_none();
        let state = match monitor.class() {
            // Whatever else holds, clients are lost there, and no rule helps.
            _ if monitor.overloaded() => ListenerState::Overloaded,
            Some(_) if keeps_away => ListenerState::Mitigating,
            Some(class) if class.is_flood() && goes_on => ListenerState::Attacked,
            Some(class) if !class.is_pressure() && !class.is_flood() => ListenerState::Failing,
            _ if monitor.is_suspicious() || monitor.is_evaded() => ListenerState::Suspect,
            _ if monitor.is_queue_full(now) => ListenerState::Suspect,
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
            completions: monitor.completions(now),
            failing_rate: monitor.failing_rate(now),
            with_others: monitor.rolled.is_some(),
            state,
            egress: monitor.egress(),
            mitigations: monitor.ladder.report(now).collect(),
        }
    }
}
