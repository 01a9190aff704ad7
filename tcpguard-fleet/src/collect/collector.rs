//! The collector: the fleet as one picture, from the documents of its hosts.

use std::collections::VecDeque;

use tcpguard_engine::Timestamp;
use tcpguard_host::time::{Clock, Time};

use super::event::FleetEvent;
use super::health::{self, Facts};
use super::hosts::Hosts;
use super::incidents::Incidents;
use super::routes::Routes;
use super::status::FleetStatus;
use crate::document::{Document, Subject};
use crate::trust::{Admission, Bounds, Reason, Refusals};

/// Events that wait to be taken out. When a network fails all hosts become silent at once.
const MAX_EVENTS: usize = 1024;

/// The collector. It has no clock and no connection: documents come with their time, and events are taken out by
/// [`Self::next_event`] after each call.
///
/// It keeps nothing over a restart: within 40 s every host has reported itself, and every incident itself too.
#[derive(Clone, Debug)]
pub struct Collector {
    began: Timestamp,
    admission: Admission,
    hosts: Hosts,
    incidents: Incidents,
    routes: Routes,
    events: VecDeque<FleetEvent>,
    /// Events that were dropped because too many waited.
    lost_events: u64,
}

impl Collector {
    /// Patterns of the subjects to which it listens.
    pub const SUBSCRIPTIONS: [&str; 4] =
        [Subject::ALL_HOSTS, Subject::ALL_INCIDENTS, Subject::ALL_RELIEF, Subject::ALL_ANNOUNCED];

    /// A collector that begins to listen now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            began: now,
            admission: Admission::new(None, Bounds::COLLECTOR),
            hosts: Hosts::default(),
            incidents: Incidents::default(),
            routes: Routes::default(),
            events: VecDeque::new(),
            lost_events: 0,
        }
    }

    /// Takes a document that the bus delivered.
    ///
    /// # Errors
    /// The reason for which it is refused, which is counted.
    pub fn handle_document(
        &mut self,
        clock: Clock,
        subject: &str,
        bytes: &[u8],
    ) -> Result<(), Reason> {
        let Some((_, document)) = self.admission.admit(clock, subject, bytes)? else {
            return Ok(());
        };
        let now = clock.now;
        match document {
            Document::Host(report) => {
                let event = self.hosts.take(now, report);
                self.note(event);
            }
            Document::Incident(incident) => {
                let events = self.incidents.take(now, incident);
                self.note(events);
            }
            Document::Announced(announced) => self.routes.take(now, announced),
            Document::Relief(relief) => self.routes.ask(now, &relief),
            // For edges.
            Document::Signature(_) | Document::Rule(_) => {}
        }
        Ok(())
    }

    /// Ends all that was not repeated. It is to be called every second.
    pub fn handle_time(&mut self, clock: Clock) {
        let silent = self.hosts.expire(clock.now);
        self.note(silent);
        let ended = self.incidents.expire(clock);
        self.note(ended);
        self.routes.expire(clock.now);
        self.admission.forget_silent(clock.now);
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<FleetEvent> {
        self.events.pop_front()
    }

    /// Number of events that were dropped because too many waited.
    pub const fn lost_events(&self) -> u64 {
        self.lost_events
    }

    /// Refused documents of all senders.
    pub const fn refused(&self) -> &Refusals {
        self.admission.refused()
    }

    /// The fleet now.
    pub fn status(&self, clock: Clock) -> FleetStatus {
        let (summary, hosts) = (self.hosts.summary(), self.hosts.list(clock, &self.admission));
        let health = health::judge(&Facts {
            hosts: &hosts,
            refused: self.admission.refused(),
            muted: self.admission.muted(clock.now).collect(),
            unanswered: self.routes.unanswered().collect(),
        });
        let refused = self.admission.refused().iter();
        FleetStatus {
            schema: FleetStatus::SCHEMA.to_owned(),
            generated_at: Time(clock.wall),
            listening_s: clock.now.since(self.began).as_secs(),
            summary,
            health,
            incidents: self.incidents.list(clock),
            past_incidents: self.incidents.past(),
            routes: self.routes.list(),
            hosts,
            refused: refused.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        }
    }

    fn note(&mut self, events: impl IntoIterator<Item = FleetEvent>) {
        self.events.extend(events);
        let excess = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..excess);
        self.lost_events += excess as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::document::tests::{AT, envelope, evidence, facts, heartbeat, host, time};
    use crate::document::{Envelope, Host, Incident, Signature};

    fn clock(seconds: u64) -> Clock {
        let passed = Duration::from_secs(seconds);
        let wall = time(AT).0.checked_add(passed).expect("a time");
        Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
    }

    fn at(seconds: u64, number: u32, seq: u64) -> Envelope {
        Envelope { at: Time(clock(seconds).wall), ttl_s: 90, ..envelope(number, seq) }
    }

    fn take(collector: &mut Collector, seconds: u64, document: Document) {
        let subject = Subject::of(&document).expect("a subject").to_string();
        let bytes = document.to_json().expect("JSON");
        collector.handle_document(clock(seconds), &subject, &bytes).expect("taken");
    }

    fn report(seconds: u64, number: u32, seq: u64) -> Document {
        let host = heartbeat(at(seconds, number, seq));
        Document::Host(Host { hostname: format!("web{number}"), ..host })
    }

    fn events(collector: &mut Collector) -> Vec<&'static str> {
        std::iter::from_fn(|| collector.next_event()).map(|event| event.name()).collect()
    }

    #[test]
    fn the_fleet_is_one_picture() {
        let mut collector = Collector::new(clock(0).now);
        for number in 1..=3 {
            take(&mut collector, 5, report(5, number, 1));
            let (envelope, facts) = (at(5, number, 2), facts(1, "192.0.2.10/32"));
            take(&mut collector, 5, Document::Incident(Incident { envelope, facts }));
        }
        let signature = Signature { envelope: at(5, 1, 3), evidence: evidence(443, 512) };
        take(&mut collector, 5, Document::Signature(signature));
        collector.handle_time(clock(6));
        assert_eq!(events(&mut collector), ["fleet_incident_started"]);

        let status = collector.status(clock(6));
        assert_eq!((status.schema.as_str(), status.listening_s), (FleetStatus::SCHEMA, 6));
        assert_eq!((status.hosts.len(), status.summary.hosts), (3, 3));
        assert_eq!((status.incidents.len(), status.incidents[0].parts), (1, 3));
        assert!(status.health.is_empty(), "{:?}", status.health);
        assert_eq!(status.hosts[0].skew_ms, Some(0));
        let json = serde_json::to_string(&status).expect("JSON");
        assert_eq!(serde_json::from_str::<FleetStatus>(&json).expect("the same"), status);
    }

    #[test]
    fn a_silent_fleet_is_reported_and_forgets_its_incidents() {
        let mut collector = Collector::new(clock(0).now);
        take(&mut collector, 0, report(0, 1, 1));
        let (envelope, facts) = (at(0, 1, 2), facts(1, "192.0.2.10/32"));
        take(&mut collector, 0, Document::Incident(Incident { envelope, facts }));
        for second in 0..200 {
            collector.handle_time(clock(second));
        }
        let expected = ["fleet_incident_started", "fleet_host_silent", "fleet_incident_ended"];
        assert_eq!(events(&mut collector), expected);
        let status = collector.status(clock(200));
        assert_eq!((status.summary.silent, status.past_incidents.len()), (1, 1));
        assert_eq!(status.health[0].code, "fleet_silent");
        take(&mut collector, 200, report(200, 1, 3));
        assert_eq!(events(&mut collector), ["fleet_host_returned"]);
    }

    #[test]
    fn refused_documents_are_counted_by_reason_and_host() {
        let mut collector = Collector::new(clock(0).now);
        take(&mut collector, 0, report(0, 7, 1));
        let subject = Subject::Host(host(7)).to_string();
        let refused = collector.handle_document(clock(0), &subject, b"garbage");
        assert_eq!(refused, Err(Reason::Malformed));
        let status = collector.status(clock(0));
        assert_eq!(status.refused, BTreeMap::from([("malformed".to_owned(), 1)]));
        assert_eq!(status.hosts[0].refused, 1);
    }

    #[test]
    fn events_are_bounded_when_all_hosts_become_silent() {
        let mut collector = Collector::new(clock(0).now);
        for number in 0..2000 {
            take(&mut collector, 0, report(0, number, 1));
        }
        collector.handle_time(clock(100));
        assert_eq!(events(&mut collector).len(), MAX_EVENTS);
        assert_eq!(collector.lost_events(), 2000 - MAX_EVENTS as u64);
    }

    #[test]
    fn the_status_has_a_schema() {
        let schema = serde_json::to_string(&schemars::schema_for!(FleetStatus)).expect("JSON");
        assert!(schema.contains("past_incidents"));
    }
}
