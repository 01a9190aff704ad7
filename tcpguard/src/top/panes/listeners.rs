//! The listeners: arriving SYNs, fill of their queues, and active mitigations.

use std::net::SocketAddr;

use tcpguard_engine::ListenerKind;
use tcpguard_host::units::{percent, short, whole};

use super::Note;
use crate::documents::Listener;
use crate::text::{self, Tone, View};
use crate::top::list::{Cell, Column, Row};
use crate::top::snapshot::{Snapshot, half_open_share};

/// Fill of a queue that is worth a look, as a share of its limit.
const FILLING: f64 = 0.5;
/// Fill of a queue at which the next burst may turn clients away, as a share of its limit.
const FULL: f64 = 0.9;

pub(super) const COLUMNS: [Column; 10] = [
    Column::text("LISTENER", 18).growing(),
    Column::number("SYN/s", 7),
    Column::number("DROP/s", 7),
    Column::number("COOKIE/s", 9).from(110),
    Column::number("HALF-OPEN", 11),
    Column::number("ACCEPT-Q", 11),
    Column::number("CLIENTS/s", 9),
    Column::number("BASELINE", 8).from(100),
    Column::text("KIND", 9).from(120),
    Column::text("STATE", 10),
];
pub(super) const FIRST_SORT: usize = 1;

pub(super) fn rows(snapshot: &Snapshot) -> Vec<Row> {
    snapshot.status.listeners.iter().map(row).collect()
}

fn row(listener: &Listener) -> Row {
    let rate = |value| Cell::number(Some(value), short);
    let (state, tone) = text::listener_state(listener.state);
    let dropping = if listener.dropped_pps > 0.0 { Tone::Warning } else { Tone::Plain };
    Row {
        key: listener.id.to_string(),
        cells: vec![
            Cell::text(name(listener)),
            rate(listener.syn_pps),
            rate(listener.dropped_pps).toned(dropping),
            rate(listener.cookies_pps),
            queue(listener.half_open, listener.half_open_limit),
            queue(listener.accept_queue, listener.accept_limit),
            rate(listener.clients.completed_pps).toned(text::clients_tone(&listener.clients)),
            Cell::number(listener.clients.baseline_pps, short),
            Cell::text(match listener.kind {
                ListenerKind::Local => "local",
                ListenerKind::Forwarded => "forwarded",
            }),
            Cell::text(state).toned(tone),
        ],
    }
}

fn name(listener: &Listener) -> String {
    SocketAddr::new(listener.addr, listener.port).to_string()
}

/// Returns the cell of a queue: its length and its limit, sorted by its fill.
fn queue(count: Option<u32>, limit: Option<u32>) -> Cell {
    let word = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    let share = count.zip(limit).map(|(count, limit)| f64::from(count) / f64::from(limit.max(1)));
    let tone = match share {
        Some(share) if share >= FULL => Tone::Bad,
        Some(share) if share >= FILLING => Tone::Warning,
        _ => Tone::Plain,
    };
    Cell::number(share, |_| format!("{}/{}", word(count), word(limit))).toned(tone)
}

pub(super) fn notes(snapshot: &Snapshot, key: Option<&str>, view: &View) -> Vec<Note> {
    let listeners = &snapshot.status.listeners;
    let Some(listener) = listeners.iter().find(|it| Some(it.id.to_string().as_str()) == key) else {
        return Vec::new();
    };
    let totals = &listener.totals;
    let half_open = half_open_share(listener).map_or("-".to_owned(), percent);
    let mut mitigations = String::new();
    // A string takes whatever is written.
    let _ = text::mitigations(&mut mitigations, listener, view);
    let headings = std::iter::once("Steps").chain(std::iter::repeat(""));
    let mitigations =
        headings.zip(mitigations.lines()).map(|(heading, line)| Note::new(heading, line));
    let now = format!(
        "{}, {} cookies/s, SYN queue {half_open} full",
        text::clients(&listener.clients, None),
        short(listener.cookies_pps)
    );
    let so_far = format!(
        "{} SYNs, {} dropped by source, {} by signature, {} as too many, {} cookies sent, {} good \
         ones back, {} passed when retransmitted",
        whole(totals.syn),
        whole(totals.dropped_source),
        whole(totals.dropped_signature),
        whole(totals.limited),
        whole(totals.cookies_sent),
        whole(totals.cookies_redeemed),
        whole(totals.accepted_retransmits),
    );
    mitigations.chain([Note::new("Now", now), Note::new("So far", so_far)]).collect()
}
