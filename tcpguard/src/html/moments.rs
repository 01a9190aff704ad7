//! The events of an incident, in order of time.

use tcpguard_host::time::Time;

use crate::documents::FullIncident;
use crate::text::{class, event_line};

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

/// The events of the incident, in order of time.
pub(super) fn moments(full: &FullIncident) -> Vec<Moment> {
    let FullIncident { incident, record, .. } = full;
    let begins = match incident.class.is_flood() && !incident.class.is_of_host() {
        true => "handshakes begin to fail",
        false => "start",
    };
    let first = &record.first;
    let moment = |at, text: String| Moment { at, text };
    let mut moments = vec![
        moment(incident.since, begins.to_owned()),
        moment(incident.detected_at, format!("alarm by the {} signal", incident.signal.name())),
        moment(first.at, format!("first class: {}", class(first.class))),
    ];
    let left_out = incident.actions.len().saturating_sub(2 * LISTED);
    for (number, action) in incident.actions.iter().enumerate() {
        if number < LISTED || number >= LISTED + left_out {
            moments.push(moment(action.at, event_line(&action.action)));
        }
    }
    moments.extend(incident.ended_at.map(|at| moment(at, "end".to_owned())));
    moments.sort_by_key(|moment| moment.at);
    moments
}
