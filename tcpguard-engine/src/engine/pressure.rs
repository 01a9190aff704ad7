//! Incidents of pressure by real clients, and those that concern no listener.

use std::time::Duration;

use super::Engine;
use super::host::News;
use super::listeners::{CLEAN_LIMIT, CLEANED_AT_ONCE};
use super::monitor::ListenerMonitor;
use super::pace::due;
use crate::incident::{EndReason, Event, IncidentReport};
use crate::input::{ListenerId, POLL, Timestamp};
use crate::listener::PressureKind;
use crate::mitigation::CleanUp;
use crate::output::Command;
use crate::policy::clean_age;

/// An entry of which no SYN is recorded is given so long where all are: a record is there before the stack has the SYN,
/// so that a second is enough for the agent to ask for it.
const RECORDED: Duration = Duration::from_secs(1);

impl Engine {
    /// Opens and refines the incidents of listeners under pressure. Their end is that of all others.
    pub(super) fn follow_pressure(&mut self, now: Timestamp) {
        let strained: Vec<(ListenerId, PressureKind)> = self
            .listeners
            .monitors
            .values()
            .filter(|monitor| monitor.suspect.is_none() && !monitor.handshakes_failed())
            .filter_map(|monitor| Some((monitor.id, monitor.pressure_kind()?)))
            .collect();
        for (id, pressure_kind) in strained {
            let assessment = self.listeners.assess_pressure(id, pressure_kind);
            if let Some(incident) =
                self.listeners.monitors.get_mut(&id).and_then(|w| w.incident.as_deref_mut())
            {
                // A flash crowd may fill the accept queue. A queue that drains makes no flash crowd of an incident.
                if pressure_kind == PressureKind::Overload
                    || incident.class() == pressure_kind.class()
                {
                    incident.refine(now, &assessment);
                }
                continue;
            }
            let place = self.free_place();
            let Some(monitor) = self.listeners.monitors.get(&id) else { continue };
            let (settings, evidence) = (&self.mandate.settings.common, &assessment.evidence);
            let number = place.unwrap_or_default();
            let opening =
                monitor.opening_of_pressure(now, number, pressure_kind, evidence, settings);
            match place {
                Some(_) => self.open(now, id, opening, &assessment),
                None => self.roll_up(now, id, None, opening, &assessment),
            }
        }
    }

    /// Reports the listeners with a full accept queue beside a flood, for which they have their incident.
    pub(super) fn report_overload(&mut self, now: Timestamp) {
        let overloaded: Vec<(ListenerId, Event)> = self
            .listeners
            .monitors
            .values_mut()
            .filter_map(|monitor| monitor.takes_overload().then_some(&*monitor))
            .map(|monitor| {
                let event = Event::ListenerOverloaded {
                    listener: monitor.listener,
                    accept_queue: monitor.queues.map(|queues| queues.accept),
                    accept_limit: monitor.queues.map(|queues| queues.backlog),
                };
                (monitor.id, event)
            })
            .collect();
        for (id, event) in overloaded {
            self.alert_at(now, id, event);
        }
    }

    /// Opens, refines and ends the incidents that concern the whole host.
    pub(super) fn follow_host(&mut self, now: Timestamp) {
        let quiet = self.mandate.settings.common.quiet;
        for report in self.host.end_quiet(now, quiet) {
            self.archive.close(
                report,
                EndReason::Quiet { for_s: quiet.as_secs() },
                &mut self.outbox,
            );
        }
        for finding in self.host.findings(now, self.mandate.mode, &self.mandate.settings.common) {
            let number = match self.host.is_open(finding.class()) {
                true => None,
                false => Some(self.archive.next_number()),
            };
            match self.host.take(now, finding, number) {
                News::Opened(report) => self.alert_with(*report, None),
                News::Changed(report) => {
                    let class = report.class;
                    self.alert_with(*report, Some(class));
                }
                News::None => {}
            }
        }
        self.outbox.extend(self.host.orders());
        self.clean_evaded(now);
    }

    /// Has half-open entries of SYNs that tcpguard could not read removed, once it drops such frames. In a
    /// full queue they would keep clients out for another minute.
    fn clean_evaded(&mut self, now: Timestamp) {
        if !self.mandate.enforces() || !self.host.drops_beyond() {
            return;
        }
        let is_full = |monitor: &&ListenerMonitor| {
            monitor.queues_here()
                && monitor.is_queue_full(now)
                && due(now, monitor.cleaned, POLL * 2, POLL)
        };
        let full = self.listeners.monitors.values().filter(is_full).map(|monitor| monitor.id);
        for listener in full.take(CLEANED_AT_ONCE).collect::<Vec<_>>() {
            let Some(monitor) = self.listeners.monitors.get_mut(&listener) else { continue };
            let clean_up = CleanUp {
                signatures: Vec::new(),
                sources: Vec::new(),
                answered_before: now,
                older_than: unread_age(monitor, self.stack.sample_shift),
                all_before: Timestamp::default(),
            };
            let limit = CLEAN_LIMIT;
            self.outbox.push(Command::CleanHalfOpen { listener, clean_up, limit });
            monitor.cleaned = now;
        }
    }

    /// The open incidents that concern the whole host.
    pub(super) fn host_reports(&self) -> impl Iterator<Item = IncidentReport> {
        self.host.seen().map(|(incident, seen)| IncidentReport {
            quiet: self.mandate.quiet(self.listeners.now, self.listeners.now.since(seen)),
            ..incident.report(Vec::new(), None)
        })
    }
}

/// The age from which a half-open entry without a record is of a SYN that could not be read. Where every SYN that was
/// read is recorded, that is known soon. It is not where the agent tracks a sample of `1 / 2^sample_shift`, nor where
/// many are dropped or answered, so that CPUs track fewer by themselves
/// ([`tcpguard_common::abi::Pace`]): there a client must have had time for its handshake.
fn unread_age(monitor: &ListenerMonitor, sample_shift: u8) -> Duration {
    let age = clean_age(monitor.rtt());
    let lately = monitor.window.last(age);
    let thinned = monitor.ladder.keeps_syns_away() || lately.cookies_sent + lately.dropped > 0;
    if sample_shift == 0 && !thinned { RECORDED } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Listener, ListenerCounters, ListenerKind, ListenerSample, Mitigation};
    use crate::listener::Tick;

    /// The naive way asks the sample alone, and resets distant clients of which the SYN was not recorded.
    #[test]
    fn where_a_mitigation_thins_the_record_a_client_has_time_for_its_handshake() {
        let (poll, now) = (POLL, Timestamp::from_millis(10_000));
        let sample = ListenerSample {
            id: ListenerId(0),
            listener: Listener { addr: [203, 0, 113, 10].into(), port: 443 },
            kind: ListenerKind::Local,
            counters: ListenerCounters::default(),
            queues: None,
            distinct_sources: 0,
        };
        let monitor = ListenerMonitor::new(&sample);
        let age = unread_age;
        assert_eq!([0, 1].map(|shift| age(&monitor, shift)), [RECORDED, Duration::from_secs(3)]);
        let mut stepped = monitor.clone();
        stepped.ladder.adopt(now, Mitigation::Cookies, 0, Duration::from_secs(30));
        assert_eq!(age(&stepped, 0), Duration::from_secs(3));
        // It was left a moment ago.
        for (cookies_sent, dropped) in [(100, 0), (0, 100)] {
            let mut left = monitor.clone();
            let tick = Tick { end: now, span: poll, cookies_sent, dropped, ..Tick::default() };
            left.window.push(tick);
            assert_eq!(age(&left, 0), Duration::from_secs(3));
            for later in 1..=12 {
                let end = now + poll * later;
                left.window.push(Tick { end, span: poll, syns: 1, ..Tick::default() });
            }
            assert_eq!(age(&left, 0), RECORDED);
        }
    }
}
