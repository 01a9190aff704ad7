//! The rules with their hits, and the signatures of an attack's failed handshakes.

use std::time::Duration;

use tcpguard_engine::Mode;
use tcpguard_host::units::{percent, short, span, whole};

use super::Note;
use crate::documents::{Incident, Rule};
use crate::text::rule_reason;
use crate::top::list::{Cell, Column, Row};
use crate::top::snapshot::Snapshot;

pub(super) const COLUMNS: [Column; 8] = [
    Column::number("RULE", 6),
    Column::text("KIND", 9),
    Column::number("HITS/s", 7),
    Column::number("HITS", 7),
    Column::number("PASSED", 6),
    Column::number("ENDS IN", 8),
    Column::text("FOR", 9),
    Column::text("MATCHES", 20).growing(),
];
pub(super) const FIRST_SORT: usize = 2;

pub(super) fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let row = |rule: &Rule| {
        let ends = span(Duration::from_secs(rule.expires_in_s));
        Row {
            key: rule.id.to_string(),
            cells: vec![
                Cell::number(Some(f64::from(rule.id)), |_| rule.id.to_string()),
                Cell::text(&rule.kind),
                Cell::number(snapshot.rules.rate(&rule.id), short),
                Cell::number(Some(rule.hits as f64), short),
                Cell::number(Some(rule.accepted_retransmits as f64), short),
                Cell::number(Some(rule.expires_in_s as f64), |_| ends),
                Cell::text(owner(rule)),
                Cell::text(rule.subject()),
            ],
        }
    };
    snapshot.status.rules.list.iter().map(row).collect()
}

/// Owner of a rule: an attack, by its number, or an operator.
fn owner(rule: &Rule) -> String {
    rule.incident.map_or_else(|| rule.origin.clone(), |id| format!("#{id}"))
}

pub(super) fn notes(snapshot: &Snapshot, key: Option<&str>) -> Vec<Note> {
    let status = &snapshot.status;
    let mut notes = Vec::new();
    if let Some(rule) = status.rules.list.iter().find(|it| Some(it.id.to_string().as_str()) == key)
    {
        let effect = match status.daemon.mode {
            Mode::Enforce => "drops",
            Mode::Observe | Mode::Off => "would drop (tcpguard mode enforce --rollback-after 60s)",
        };
        let text =
            format!("{} {effect} {}: {}", rule.id, rule.subject(), rule_reason(&rule.reason));
        notes.push(Note::new("Rule", text));
        let text = format!(
            "{} SYNs matched and passed when retransmitted; {} completed a handshake",
            rule.accepted_retransmits, rule.completed
        );
        notes.push(Note::new("Passed", text));
    }
    notes.extend(status.incidents.iter().flat_map(looks));
    notes
}

/// The signatures of an attack's failed handshakes.
fn looks(attack: &Incident) -> impl Iterator<Item = Note> + '_ {
    attack.evidence.signatures.iter().map(|top| {
        let text = format!(
            "{} of #{}: {} ({}); {} of those complete, {} clients are known to look so",
            percent(top.share),
            attack.id,
            top.text,
            top.mask,
            percent(top.completion),
            whole(top.completed),
        );
        Note::new("Looks", text)
    })
}
