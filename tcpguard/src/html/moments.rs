//! The events of an incident, in order of time.

use tcpguard_engine::{Event, Mode};
use tcpguard_host::time::Time;

use super::panels;
use crate::documents::FullIncident;
use crate::documents::timeline::Timeline;
use crate::text::{class, event_line, signal};

/// Actions of which each is an event of its own: so many of the first, and as many of the last.
const LISTED: usize = 4;

/// An event.
#[derive(Debug)]
pub(super) struct Moment {
    /// Time of the event.
    pub at: Time,
    /// Description of the event.
    pub text: String,
}

/// A time with one mode of operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct InMode {
    /// Start of the time.
    pub from: Time,
    /// End of the time.
    pub to: Time,
    /// The mode.
    pub mode: Mode,
}

/// The modes of operation along a timeline, in order of time.
pub(super) fn modes(line: &Timeline) -> Vec<InMode> {
    let mut modes: Vec<InMode> = Vec::new();
    let mut from = line.began;
    for point in &line.points {
        let to = panels::moment(line, point.at_ms);
        match modes.last_mut() {
            Some(last) if last.mode == point.mode => last.to = to,
            _ => modes.push(InMode { from, to, mode: point.mode }),
        }
        from = to;
    }
    modes
}

/// The events of the incident, in order of time.
pub(super) fn moments(full: &FullIncident) -> Vec<Moment> {
    let FullIncident { incident, record, .. } = full;
    let begins = match incident.class.is_flood() && !incident.class.is_of_host() {
        true => "handshakes begin to fail",
        false => "start",
    };
    let first = &record.first;
    let moment = |at, text: String| Moment { at, text };
    let alarm = format!("alarm by {}", signal(incident.signal, first.class));
    let mut moments = vec![moment(incident.since, begins.to_owned())];
    if first.at == incident.detected_at {
        moments.push(moment(first.at, format!("{alarm}: {}", class(first.class))));
    } else {
        moments.push(moment(incident.detected_at, alarm));
        moments.push(moment(first.at, format!("first class: {}", class(first.class))));
    }
    let left_out = incident.actions.len().saturating_sub(2 * LISTED);
    for (number, action) in incident.actions.iter().enumerate() {
        let changes_mode = matches!(action.action, Event::ModeChanged { .. });
        if changes_mode || number < LISTED || number >= LISTED + left_out {
            moments.push(moment(action.at, event_line(&action.action)));
        }
    }
    moments.extend(incident.last_seen().map(|at| moment(at, "last seen".to_owned())));
    moments.sort_by_key(|moment| moment.at);
    moments
}
