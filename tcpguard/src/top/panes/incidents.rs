//! Open and past incidents.

use jiff::SignedDuration;
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;
use tcpguard_host::units::{percent, short, span};

use super::Note;
use crate::documents::{Incident, place};
use crate::text::{
    Tone, View, action, class, event_line, heading, mitigation, severity_word, syn_rate, title,
};
use crate::top::list::{Cell, Column, Row};
use crate::top::snapshot::Snapshot;

pub(super) const COLUMNS: [Column; 8] = [
    Column::number("ID", 6),
    Column::text("STATE", 6),
    Column::text("SEVERITY", 8),
    Column::text("SINCE", 8),
    Column::number("LASTED", 8),
    Column::number("PEAK/s", 8),
    Column::number("STOPPED", 8),
    Column::text("WHAT", 20).growing(),
];

pub(super) fn rows(snapshot: &Snapshot, view: &View) -> Vec<Row> {
    let all = snapshot.status.incidents.iter().chain(&snapshot.status.past_incidents);
    all.map(|attack| row(attack, snapshot.status.generated_at, view)).collect()
}

fn row(attack: &Incident, now: Time, view: &View) -> Row {
    let tone = match attack.severity {
        Severity::Critical => Tone::Bad,
        Severity::Warning => Tone::Warning,
        Severity::Notice => Tone::Plain,
    };
    let state = match attack.ended_at {
        Some(_) => Cell::text("ended"),
        None => Cell::text("OPEN").toned(tone),
    };
    let lasted = attack.ended_at.unwrap_or(now).0.duration_since(attack.since.0);
    let lasted = lasted.max(SignedDuration::ZERO).unsigned_abs();
    let stopped = attack.dropped + attack.cookies_sent;
    let stopped = (attack.syns > 0).then(|| (stopped as f64 / attack.syns as f64).min(1.0));
    let what = class(attack.class);
    Row {
        key: attack.id.to_string(),
        cells: vec![
            Cell::number(Some(attack.id as f64), |_| format!("#{}", attack.id)),
            state,
            Cell::text(severity_word(attack.severity)).ranked(f64::from(attack.severity as u8)),
            Cell::text(view.time(attack.since)).ranked(attack.since.0.as_millisecond() as f64),
            Cell::number(Some(lasted.as_secs_f64()), |_| span(lasted)),
            Cell::number(Some(attack.peak_syn_pps), short),
            Cell::number(stopped, percent),
            Cell::text(format!("{what} at {}", place(attack.dst, attack.port))),
        ],
    }
}

pub(super) fn notes(snapshot: &Snapshot, key: Option<&str>, view: &View) -> Vec<Note> {
    let mut all = snapshot.status.incidents.iter().chain(&snapshot.status.past_incidents);
    let Some(attack) = all.find(|attack| Some(attack.id.to_string().as_str()) == key) else {
        return Vec::new();
    };
    let mut notes = vec![Note::new(heading(attack), title(attack))];
    notes.extend(advice(attack, view));
    notes.push(Note::new("Mitigation", mitigation(attack)));
    notes.push(Note::new("SYN rate", syn_rate(attack)));
    let last = attack.actions.last();
    notes.extend(last.map(|action| Note::new("Done", event_line(&action.action))));
    notes
}

/// The advice about an incident.
pub(super) fn advice(attack: &Incident, view: &View) -> Option<Note> {
    attack.advice.as_ref()?;
    Some(Note::new("Action", action(attack, &|time| view.time(time))).toned(Tone::Warning))
}
