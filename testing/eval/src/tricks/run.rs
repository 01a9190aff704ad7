//! One row played, and the alerts of its run.

use tcpguard_engine::{IncidentClass, IncidentReport, ListenerId, Report};
use tcpguard_sim::{RaisedAlert, seconds};

use super::scene::Scene;
use super::{Expected, Row};
use crate::mixes::Cast;
use crate::stage::LISTENER;

/// Time after its first SYN from which a flood is fought, s.
const SETTLED: f64 = 5.0;
/// Time for which the run goes on after the trouble, s: the end of the trouble must not be classified as an attack.
const AFTER: f64 = 5.0;

/// Result of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// SYNs a second of the trouble.
    pub rate: f64,
    /// Classes of the alerts, each once, in the order in which they came. With clients all of them count, with a flood
    /// those since it began.
    pub alerted: Vec<IncidentClass>,
    /// Time from the first SYN to the first right class, s.
    pub named: Option<f64>,
    /// Class of most of the SYNs in open incidents at the flood's end.
    pub called: Option<IncidentClass>,
    /// True if an incident was open at the end of the trouble.
    pub is_open: bool,
    /// True if a flood was reported before the trouble began.
    pub early: bool,
    /// Share of the clients connected within a second; `None` if none came.
    pub served: Option<f64>,
    /// Rules that were made.
    pub rules: usize,
    /// SYNs of clients that a rule dropped.
    pub hit: u64,
}

pub(super) fn play(row: &Row, cast: &Cast) -> Run {
    let Scene { mut lab, time, rate, victim, stalls } = row.scene(cast);
    lab.run_until(time.start);
    if stalls {
        lab.kernel.set_accepting(LISTENER, false);
    }
    lab.run_until((time.start + SETTLED).min(time.end));
    let hit = lab.tally().matched;
    lab.clear_tally();
    lab.run_until(time.end);
    let tally = lab.tally();
    let report = lab.report();
    let called = called(&report, time.start, victim);
    let is_open = !report.incidents.is_empty();
    if stalls {
        lab.kernel.set_accepting(LISTENER, true);
    }
    lab.run_until(time.end + AFTER);
    let words = Words::of(&lab.alerts, victim);
    let (since, classes) = match row.expected {
        Expected::Flood(classes, _) => (time.start, classes),
        Expected::Only(_) => (0.0, &[][..]),
    };
    Run {
        rate,
        alerted: words.classes(since),
        named: words
            .first(time.start, |class| classes.contains(&class))
            .map(|named| named - time.start),
        called,
        is_open,
        early: victim.is_none()
            && words.first(0.0, IncidentClass::is_flood).is_some_and(|at| at < time.start),
        served: (tally.attempts > 0).then(|| tally.connected_1s as f64 / tally.attempts as f64),
        rules: lab.installed.len(),
        hit: hit + lab.tally().matched,
    }
}

/// Classes that incidents were given, with their times.
struct Words(Vec<(f64, IncidentClass)>);

impl Words {
    /// Those of all incidents, or of one listener and of the host.
    fn of(alerted: &[RaisedAlert], victim: Option<ListenerId>) -> Self {
        let word = |alerted: &RaisedAlert| {
            let incident = alerted.incident.as_ref()?;
            let counts = incident.ended.is_none() && concerns(incident, victim);
            counts.then_some((alerted.at, incident.class))
        };
        Self(alerted.iter().filter_map(word).collect())
    }

    fn since(&self, from: f64) -> impl Iterator<Item = (f64, IncidentClass)> {
        self.0.iter().copied().filter(move |(at, _)| *at >= from)
    }

    fn classes(&self, from: f64) -> Vec<IncidentClass> {
        let mut classes = Vec::new();
        for (_, class) in self.since(from) {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }

    fn first(&self, from: f64, is_it: impl Fn(IncidentClass) -> bool) -> Option<f64> {
        self.since(from).find(|(_, class)| is_it(*class)).map(|(at, _)| at)
    }
}

fn concerns(incident: &IncidentReport, victim: Option<ListenerId>) -> bool {
    victim.is_none_or(|victim| [victim, ListenerId::HOST].contains(&incident.listener_id))
}

/// Class of most of the SYNs in open incidents. Where none is open, it is the class of the last incident that ended
/// since then. For a victim its own incident counts, and the host's only where it has none.
fn called(report: &Report, since: f64, victim: Option<ListenerId>) -> Option<IncidentClass> {
    let open = || report.incidents.iter().filter(move |incident| concerns(incident, victim));
    if let Some(own) = open().find(|incident| Some(incident.listener_id) == victim) {
        return Some(own.class);
    }
    let syns = |class: IncidentClass| -> u64 {
        open().filter(|incident| incident.class == class).map(|incident| incident.counts.syns).sum()
    };
    let most = open().map(|incident| incident.class).max_by_key(|class| syns(*class));
    let ended = |incident: &&IncidentReport| {
        concerns(incident, victim) && incident.ended.is_some_and(|ended| seconds(ended) >= since)
    };
    most.or_else(|| report.past.iter().find(ended).map(|incident| incident.class))
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{Event, IncidentCounts, IncidentFacts, Mode, Settings};
    use tcpguard_sim::{Clients, Flood, Lab, Server};

    use super::*;
    use IncidentClass::{FewSource, HandshakeDegraded, RandomSpoofed};

    /// An incident of a real run, so that whatever a report holds is there.
    fn incident() -> IncidentReport {
        let mut lab = Lab::seeded(Settings::default(), Mode::Observe, 1)
            .listener(Server::default())
            .clients(Clients::steady(20.0))
            .flood(Flood::random(2000.0, 10.0..14.0));
        lab.run_until(14.0);
        lab.incident()
    }

    fn alerted(at: f64, incident: &IncidentReport, class: IncidentClass) -> RaisedAlert {
        let incident = IncidentReport { class, ..incident.clone() };
        let facts = Box::new(IncidentFacts::of(&incident, Mode::Observe));
        let event = Event::AttackStarted(facts);
        RaisedAlert { at, event, incident: Some(incident) }
    }

    #[test]
    fn alerted_classes_are_listed_once_in_order_and_ends_do_not_count() {
        let incident = incident();
        let end = IncidentReport { ended: Some(incident.detected), ..incident.clone() };
        let words = Words::of(
            &[
                alerted(5.0, &incident, FewSource),
                alerted(10.5, &incident, HandshakeDegraded),
                alerted(11.5, &incident, RandomSpoofed),
                alerted(12.0, &incident, HandshakeDegraded),
                alerted(13.0, &end, FewSource),
            ],
            None,
        );
        assert_eq!(words.classes(10.0), [HandshakeDegraded, RandomSpoofed]);
        assert_eq!(words.first(10.0, IncidentClass::is_flood), Some(11.5));
        assert_eq!(words.first(0.0, IncidentClass::is_flood), Some(5.0));
    }

    #[test]
    fn what_most_of_the_syns_are_called_is_what_it_was_called() {
        let any = incident();
        let one = |listener: u32, syns, class| IncidentReport {
            listener_id: ListenerId(listener),
            counts: IncidentCounts { syns, ..any.counts },
            class,
            ..any.clone()
        };
        let report = Report {
            incidents: vec![
                one(1, 600, HandshakeDegraded),
                one(2, 400, RandomSpoofed),
                one(3, 300, RandomSpoofed),
                one(ListenerId::HOST.0, 500, HandshakeDegraded),
            ],
            ..Report::default()
        };
        assert_eq!(called(&report, 0.0, None), Some(HandshakeDegraded));
        let without = Report { incidents: report.incidents[..3].to_vec(), ..report.clone() };
        assert_eq!(called(&without, 0.0, None), Some(RandomSpoofed));
        let victim = |listener: u32| called(&report, 0.0, Some(ListenerId(listener)));
        assert_eq!(victim(2), Some(RandomSpoofed), "its own");
        assert_eq!(victim(7), Some(HandshakeDegraded), "the host's");
        assert_eq!(called(&without, 0.0, Some(ListenerId(7))), None);
    }
}
