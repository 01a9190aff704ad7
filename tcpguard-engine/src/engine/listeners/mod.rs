//! The listeners, their incidents, and what is known of their clients. It is changed here and by the engine, which asks
//! for the changes that rules and commands bring about.

mod clean_up;
mod headers;
pub(crate) mod inspection;
mod rollup;
mod routes;
mod ruled;
mod together;

pub(super) use clean_up::{CLEAN_LIMIT, CLEANED_AT_ONCE};
pub(super) use inspection::{GATHERING, Inspection, patience};
pub(super) use rollup::{Member, RollUp};
pub(super) use ruled::{acting_since, active_rules};
pub(super) use together::{Pool, TOGETHER, most_of};

use std::collections::BTreeMap;
use std::time::Duration;

use self::together::AllClients;

use super::host::Passing;
use super::mandate::Mandate;
use super::monitor::{ALERT_WINDOW, ListenerMonitor};
use super::monitors::Monitors;
use super::outbox::Outbox;
use super::stack::Stack;
use crate::incident::{Event, Incident};
use crate::input::{
    Listener, ListenerId, ListenerSample, Matcher, Mitigation, Mode, Sample, Timestamp,
};
use crate::listener::{Learned, LearnedError, LearnedListener, Networks, Refusals, Suspect};
use crate::output::Command;
use crate::rules::{Entry, RemovalReason, RuleReport, Wanted};
use crate::settings::Tuned;

/// All listeners as of the last sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners {
    pub monitors: Monitors,
    /// Those that are reported together.
    pub rolled: Option<RollUp>,
    /// Time of the last sample.
    pub now: Timestamp,
    /// True if only one direction of the traffic is visible.
    pub one_sided: bool,
    pub all_clients: AllClients,
    pub networks: Networks,
    /// State that an earlier run learned, of listeners not seen yet, and how long ago.
    restored: BTreeMap<Listener, (LearnedListener, Duration)>,
    /// Mitigations of an earlier run, until their listeners are known: since when, listener, mitigation, rate.
    pub inherited: Vec<(Timestamp, ListenerId, Mitigation, u32)>,
    /// Handshakes a second that complete at listeners after a signature rule has let their retransmitted SYNs
    /// pass; no entry where none do.
    completing: BTreeMap<Listener, f64>,
}

impl Listeners {
    /// The open incidents of listeners, and the one of those that are reported together.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        let own = self.monitors.values().filter_map(|monitor| monitor.incident.as_deref());
        own.chain(self.rolled.as_ref().map(|rolled| &rolled.incident))
    }

    /// Returns the same incidents, to be changed.
    pub fn open_incidents_mut(&mut self) -> impl Iterator<Item = &mut Incident> {
        let own = self.monitors.values_mut().filter_map(|monitor| monitor.incident.as_deref_mut());
        own.chain(self.rolled.as_mut().map(|rolled| &mut rolled.incident))
    }

    pub fn open_incident(&mut self, id: u64) -> Option<&mut Incident> {
        self.open_incidents_mut().find(|open| open.id() == id)
    }

    /// The incident in which a listener is reported.
    pub fn incident_at(&mut self, id: ListenerId) -> Option<&mut Incident> {
        let monitor = self.monitors.get_mut(&id)?;
        match monitor.rolled {
            Some(_) => self.rolled.as_mut().map(|rolled| &mut rolled.incident),
            None => monitor.incident.as_deref_mut(),
        }
    }

    pub fn note(&mut self, now: Timestamp, incident: u64, event: Event) {
        if let Some(incident) = self.open_incident(incident) {
            incident.note(now, event);
        }
    }

    pub fn note_at(&mut self, now: Timestamp, id: ListenerId, event: Event) {
        if let Some(incident) = self.incident_at(id) {
            incident.note(now, event);
            incident.note_actions_notified();
        }
    }

    /// Ends the requests of all incidents for this rule until `until`.
    pub fn postpone(&mut self, matcher: &Matcher, until: Timestamp, why: &RemovalReason) {
        for incident in self.open_incidents_mut() {
            if incident.wants(matcher) {
                incident.forget(matcher, why.clone());
                incident.postpone(matcher, until);
            }
        }
    }

    /// Returns whether a listener is reported together with others, because its handshakes fail.
    pub fn is_rolled(&self, id: ListenerId) -> bool {
        self.monitors.get(&id).is_some_and(|monitor| monitor.rolled.is_some())
    }

    /// Rules that incidents want, by incident.
    pub fn wanted(&self, mandate: &Mandate) -> Vec<Wanted> {
        if mandate.mode == Mode::Off {
            return Vec::new();
        }
        let mut incidents: Vec<&Incident> = self.open_incidents().collect();
        incidents.sort_by_key(|incident| incident.id());
        incidents.into_iter().flat_map(Incident::wanted).cloned().collect()
    }

    /// Incidents ask again for the rules that an operator removed, if the evidence does.
    pub fn take_up_removed(&mut self, now: Timestamp) {
        let until = now + ALERT_WINDOW;
        self.monitors.values_mut().for_each(|monitor| monitor.take_up(until, None));
        if let Some(rolled) = &mut self.rolled {
            rolled.incident.take_up(None);
        }
    }

    /// SYNs of the last poll that the stack answered although the XDP program could not read them, or that took the
    /// queue slots of those that it could; some of the frames that were `passing`.
    pub fn evading(&self, elapsed: Duration, passing: Passing) -> u64 {
        if passing.lately == 0 {
            return 0;
        }
        let of = |monitor: &ListenerMonitor| monitor.evading(self.now, elapsed, passing.routed);
        self.monitors.values().map(of).sum()
    }

    /// Cookies that the kernel has sent since the last poll, beyond the SYN-ACKs that were seen.
    pub fn unseen_cookies(&self, sample: &Sample, stack: &Stack) -> u64 {
        let cookies = sample.tcp_ext.syncookies_sent.saturating_sub(stack.tcp_ext.syncookies_sent);
        let seen = sample.listeners.iter().filter_map(|listener| {
            let before = self.monitors.get(&listener.id)?.counters().syn_ack;
            Some(listener.counters.syn_ack.saturating_sub(before))
        });
        cookies.saturating_sub(seen.sum())
    }

    /// The SYNs that full SYN queues have dropped since the last poll, and the listeners to which they may
    /// belong.
    pub fn refusals(
        &self,
        sample: &Sample,
        readings: &[ListenerSample],
        stack: &Stack,
        mandate: &Mandate,
    ) -> Refusals {
        let suspects: Vec<Suspect> = readings
            .iter()
            .filter_map(|listener| {
                let (monitor, queues) = (self.monitors.get(&listener.id)?, listener.queues?);
                let half_open = queues.half_open.or_else(|| monitor.half_open_lately(sample.at));
                let unanswered = monitor.unanswered(listener, mandate.mode, sample.one_sided);
                Some(Suspect { id: listener.id, queues, half_open, unanswered })
            })
            .collect();
        Refusals::of(&stack.tcp_ext, &sample.tcp_ext, &suspects)
    }

    /// The learned state of the listeners, for a later run.
    pub fn learned(&self) -> Learned {
        let listeners = self.monitors.all().map(|monitor| monitor.learned(self.now));
        Learned::of(listeners, self.networks.learned())
    }

    /// Takes over the state that an earlier run learned `age` ago.
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

    /// Gives the mitigations of an earlier run to their listeners.
    pub fn resume_mitigations(&mut self, mandate: &Mandate, outbox: &mut Outbox) {
        for (at, id, mitigation, rate) in std::mem::take(&mut self.inherited) {
            match self.monitors.get_mut(&id) {
                Some(monitor) => {
                    monitor.ladder.adopt(at, mitigation, rate, mandate.settings.common.quiet)
                }
                None => outbox.push(Command::StopMitigation { listener: id, mitigation }),
            }
        }
    }

    /// A listener that is monitored from now on, with what an earlier run learned of it.
    pub fn new_monitor(&mut self, listener: &ListenerSample, settings: &Tuned) -> ListenerMonitor {
        let mut monitor = ListenerMonitor::new(listener);
        monitor.ladder.bar(settings.barred(listener.listener));
        if let Some((learned, age)) = self.restored.remove(&listener.listener) {
            monitor.restore(self.now, &learned, age);
        }
        monitor
    }

    /// Handshakes a second that complete at a listener after a signature rule has let their retransmitted SYNs pass.
    pub fn completing(&self, listener: &Listener) -> f64 {
        self.completing.get(listener).copied().unwrap_or_default()
    }

    pub fn rule_report(&self, now: Timestamp, entry: &Entry) -> RuleReport {
        entry.report(now, |id| self.monitors.get(&id).map(|monitor| monitor.listener))
    }
}
