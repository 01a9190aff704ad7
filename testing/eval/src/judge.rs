//! Verdict on a run: the alerts and alarms of each detector, their times, and whether they were right.
//!
//! Our detector is judged by its alerts alone, the others by the times at which they are alarmed. Internal state counts
//! for neither.

use tcpguard_engine::IncidentClass;
use tcpguard_sim::RaisedAlert;

/// Alarms less than this far apart are one event, whichever detector raises them, s.
pub const APART: f64 = 30.0;

/// An alert about an incident, as far as it is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alert {
    /// Time of the alert, s.
    pub at: f64,
    /// Number of the incident.
    pub incident: u64,
    /// Class that the alert gave.
    pub class: IncidentClass,
    /// True if it reports the end of the incident.
    pub ended: bool,
}

impl Alert {
    /// An alert of the simulated agent; `None` for an alert that is about no incident.
    pub fn new(raised: &RaisedAlert) -> Option<Self> {
        let incident = raised.incident.as_ref()?;
        Some(Self {
            at: raised.at,
            incident: incident.id,
            class: incident.class,
            ended: incident.ended.is_some(),
        })
    }

    /// Returns whether it says that handshakes fail, for whatever reason.
    fn is_failure(&self) -> bool {
        self.class.is_flood() || self.class == IncidentClass::HandshakeDegraded
    }
}

/// Times of the first and last SYN of a flood, s.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    pub from: f64,
    pub until: f64,
}

/// Our detector's result for a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Time from the first SYN to the first alert that says that handshakes fail, s.
    pub alerted: Option<f64>,
    /// Time from the first SYN to the first alert that calls it a flood, s.
    pub named: Option<f64>,
    /// Time from the last SYN to the end of the last incident that called it a flood, s; negative where it was given up
    /// before.
    pub released: Option<f64>,
    /// Incidents that called it a flood.
    pub floods: usize,
}

/// Judges the alerts of a run with one flood.
pub fn judge(truth: Truth, alerts: &[Alert]) -> Outcome {
    let before = |alert: &Alert| {
        alerts.iter().any(|other| other.incident == alert.incident && other.at < truth.from)
    };
    let about: Vec<&Alert> =
        alerts.iter().filter(|alert| alert.at >= truth.from && !before(alert)).collect();
    let first = |is_it: fn(&Alert) -> bool| about.iter().copied().find(|alert| is_it(alert));
    let alerted = first(|alert| alert.is_failure() && !alert.ended);
    let mut floods: Vec<u64> = about
        .iter()
        .filter(|alert| alert.class.is_flood() && !alert.ended)
        .map(|alert| alert.incident)
        .collect();
    floods.dedup();
    let end =
        about.iter().rev().find(|alert| alert.ended && floods.last() == Some(&alert.incident));
    Outcome {
        alerted: alerted.map(|alert| alert.at - truth.from),
        named: first(|alert| alert.class.is_flood() && !alert.ended)
            .map(|alert| alert.at - truth.from),
        released: end.map(|alert| alert.at - truth.until),
        floods: floods.len(),
    }
}

/// A time in which a detector is alarmed, s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Start of the alarm.
    pub from: f64,
    /// End of the alarm; infinite while it lasts.
    pub until: f64,
}

/// The times in which a detector was alarmed.
#[derive(Clone, Debug, Default)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// The times in which incidents were called floods.
    pub fn of_floods(alerts: &[Alert]) -> Self {
        let mut spans = Self::default();
        let mut open: Vec<u64> = Vec::new();
        for alert in alerts {
            open.retain(|&incident| incident != alert.incident);
            if alert.class.is_flood() && !alert.ended {
                open.push(alert.incident);
            }
            spans.note(alert.at, !open.is_empty());
        }
        spans
    }

    /// Records whether the detector is alarmed at `at`, which is later than before.
    pub fn note(&mut self, at: f64, alarmed: bool) {
        let last = self.0.last_mut().filter(|span| span.until.is_infinite());
        match last {
            Some(span) if !alarmed => span.until = at,
            None if alarmed => self.0.push(Span { from: at, until: f64::INFINITY }),
            _ => {}
        }
    }

    /// Returns the time of the first alarm that was raised at `from` or later. An alarm that was raised before says
    /// nothing about a flood that began at `from`.
    pub fn first_since(&self, from: f64) -> Option<f64> {
        self.0.iter().map(|span| span.from).find(|&raised| raised >= from)
    }

    /// Returns the number of events from `from` on: alarms less than [`APART`] s apart are one.
    pub fn events(&self, from: f64) -> u64 {
        let spans: Vec<&Span> = self.0.iter().filter(|span| span.from >= from).collect();
        let apart = spans.windows(2).filter(|two| two[1].from - two[0].until >= APART).count();
        (apart + usize::from(!spans.is_empty())) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IncidentClass::{FlashCrowd, HandshakeDegraded, RandomSpoofed, SingleSource};

    const FLOOD: Truth = Truth { from: 100.0, until: 160.0 };

    fn alert(at: f64, incident: u64, class: IncidentClass) -> Alert {
        Alert { at, incident, class, ended: false }
    }

    fn end(at: f64, incident: u64, class: IncidentClass) -> Alert {
        Alert { ended: true, ..alert(at, incident, class) }
    }

    #[test]
    fn a_flood_that_is_named_at_once_and_released_in_time() {
        let story = [alert(100.75, 1, RandomSpoofed), end(190.5, 1, RandomSpoofed)];
        let outcome = judge(FLOOD, &story);
        let expected =
            Outcome { alerted: Some(0.75), named: Some(0.75), released: Some(30.5), floods: 1 };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn a_late_alert_counts_from_the_first_syn() {
        let outcome = judge(FLOOD, &[alert(131.0, 1, RandomSpoofed)]);
        assert_eq!(outcome.alerted, Some(31.0));
        assert_eq!(outcome.released, None, "it goes on for ever");
    }

    #[test]
    fn a_flood_first_called_a_broken_path_is_alerted_before_it_is_named() {
        let story = [alert(101.0, 1, HandshakeDegraded), alert(102.5, 1, SingleSource)];
        let outcome = judge(FLOOD, &story);
        assert_eq!((outcome.alerted, outcome.named), (Some(1.0), Some(2.5)));
    }

    #[test]
    fn an_alert_about_a_flash_crowd_is_none_about_a_flood() {
        assert_eq!(judge(FLOOD, &[alert(101.0, 1, FlashCrowd)]), Outcome::default());
    }

    #[test]
    fn an_alert_before_the_flood_is_not_about_it() {
        let story = [alert(90.0, 1, RandomSpoofed), alert(101.0, 1, RandomSpoofed)];
        assert_eq!(judge(FLOOD, &story), Outcome::default());
    }

    #[test]
    fn a_flood_that_is_given_up_and_reported_again_flaps() {
        let story = [
            alert(101.0, 1, RandomSpoofed),
            end(131.0, 1, RandomSpoofed),
            alert(140.0, 2, RandomSpoofed),
            end(191.0, 2, RandomSpoofed),
        ];
        let outcome = judge(FLOOD, &story);
        assert_eq!((outcome.floods, outcome.released), (2, Some(31.0)));
    }

    #[test]
    fn a_false_positive_is_one_event_however_it_flickers() {
        let story = [
            alert(10.0, 1, HandshakeDegraded),
            alert(12.0, 1, SingleSource),
            alert(14.0, 1, HandshakeDegraded),
            alert(20.0, 2, RandomSpoofed),
            end(50.0, 2, RandomSpoofed),
            alert(90.0, 3, RandomSpoofed),
        ];
        assert_eq!(Spans::of_floods(&story).events(0.0), 2);
        assert_eq!(Spans::of_floods(&story[..1]).events(0.0), 0, "a broken path is no flood");
    }

    #[test]
    fn an_alarm_that_stood_before_the_flood_did_not_find_it() {
        let mut spans = Spans::default();
        for (at, alarmed) in [(90.0, true), (105.0, false), (140.0, true)] {
            spans.note(at, alarmed);
        }
        assert_eq!(spans.first_since(100.0), Some(140.0));
        assert_eq!((spans.events(0.0), spans.events(100.0)), (2, 1));
    }
}
