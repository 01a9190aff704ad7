//! The sources with the most SYNs.

use tcpguard_host::units::{percent, short};

use super::Note;
use crate::documents::{Incident, Source};
use crate::text::Tone;
use crate::top::list::{Cell, Column, Row};
use crate::top::snapshot::Snapshot;

pub(super) const COLUMNS: [Column; 8] = [
    Column::text("SOURCE", 20).growing(),
    Column::number("SYN/s", 7),
    Column::number("SYN", 7),
    Column::number("SYN-ACK", 8),
    Column::number("ACK", 7),
    Column::number("RST", 7),
    Column::number("DONE", 7),
    Column::text("KNOWN", 6),
];
pub(super) const FIRST_SORT: usize = 1;

pub(super) fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let row = |source: &Source| {
        let count = |count: u64| Cell::number(Some(count as f64), short);
        let known = if source.validated {
            Cell::text("client").toned(Tone::Good)
        } else {
            Cell::text("no")
        };
        Row {
            key: source.addr.to_string(),
            cells: vec![
                Cell::text(source.addr.to_string()),
                Cell::number(snapshot.sources.rate(&source.addr), short),
                count(source.syn),
                count(source.syn_ack),
                count(source.ack),
                count(source.rst),
                count(source.completed),
                known,
            ],
        }
    };
    snapshot.status.sources.iter().map(row).collect()
}

pub(super) fn notes(snapshot: &Snapshot, key: Option<&str>) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(source) = key {
        let client = snapshot
            .status
            .sources
            .iter()
            .any(|one| one.validated && one.addr.to_string() == source);
        // To drop a client is no advice.
        let drop = match client {
            true => "it is a validated client".to_owned(),
            false => format!("drop: tcpguard block {source}"),
        };
        notes.push(Note::new("Source", format!("what decides: tcpguard explain {source}; {drop}")));
    }
    match snapshot.status.sampling.one_in {
        1 => notes.push(Note::new("Counted", "every flow; an IPv6 source is its /64")),
        many => {
            let text =
                format!("one flow in {many}, and estimated from it; an IPv6 source is its /64");
            notes.push(Note::new("Counted", text));
        }
    }
    notes.extend(snapshot.status.incidents.iter().map(spread));
    notes
}

/// From how many sources an attack comes.
fn spread(attack: &Incident) -> Note {
    let evidence = &attack.evidence;
    let top: Vec<_> = evidence
        .top_sources
        .iter()
        .take(2)
        .map(|top| format!("{} {}", top.addr, percent(top.share)))
        .chain(
            evidence
                .top_networks
                .iter()
                .take(2)
                .map(|top| format!("{} {}", top.net, percent(top.share))),
        )
        .collect();
    let text = format!(
        "#{} comes from {} sources, {:.2} SYNs each, {} of them seen once; most from {}",
        attack.id,
        short(attack.evidence.sources_estimate as f64),
        evidence.syns_per_source,
        percent(evidence.singleton_share),
        if top.is_empty() { "nowhere".to_owned() } else { top.join(", ") },
    );
    Note::new("Attack", text)
}
