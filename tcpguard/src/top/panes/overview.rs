//! The whole host: whether clients connect, curves of the last minutes, and further notes beside
//! them.

use tcpguard_host::finding::Severity;
use tcpguard_host::units::{percent, short};

use super::Note;
use super::incidents::advice;
use crate::documents::{AttachMode, Interface};
use crate::text::{self, Tone, View, severity_word};
use crate::top::history::Series;
use crate::top::snapshot::{Snapshot, Traffic};

/// Most alerts shown at the end.
const ALERTS_LISTED: usize = 3;
/// A curve that stays below this rate per second is drawn low, so that chance variation does not fill the
/// height.
const LOW: f64 = 10.0;

pub struct Curve {
    /// Name of the plotted quantity.
    pub name: &'static str,
    pub series: fn(&Traffic) -> &Series,
    /// Format of a value.
    pub write: fn(f64) -> String,
    /// The highest value fills the whole height, and no value less than this does.
    pub least_top: f64,
    /// The meaning of its colour.
    pub tone: Tone,
}

/// The curves, from top to bottom.
pub fn curves() -> [Curve; 5] {
    [
        rate("SYN/s", |traffic| &traffic.syns, Tone::Plain),
        rate("dropped/s", |traffic| &traffic.dropped, Tone::Warning),
        rate("completed/s", |traffic| &traffic.completed, Tone::Good),
        rate("cookies/s", |traffic| &traffic.cookies, Tone::Plain),
        Curve {
            name: "half-open",
            series: |traffic| &traffic.half_open,
            write: percent,
            least_top: 1.0,
            tone: Tone::Warning,
        },
    ]
}

const fn rate(name: &'static str, series: fn(&Traffic) -> &Series, tone: Tone) -> Curve {
    Curve { name, series, write: short, least_top: LOW, tone }
}

/// Returns notes on the success of clients. This is above the curves.
pub fn clients(snapshot: &Snapshot) -> Vec<Note> {
    let lines = text::clients_by_listener(&snapshot.status).into_iter();
    lines.map(|(line, tone)| Note::new("Clients", line).toned(tone)).collect()
}

pub(super) fn notes(snapshot: &Snapshot, view: &View) -> Vec<Note> {
    let status = &snapshot.status;
    let mut notes = Vec::new();
    for attack in &status.incidents {
        let tone = if attack.severity == Severity::Critical { Tone::Bad } else { Tone::Warning };
        let severity = severity_word(attack.severity);
        let text = format!("#{} {severity}: {}", attack.id, text::title(attack));
        notes.push(Note::new(text::heading(attack), text).toned(tone));
        notes.extend(advice(attack, view));
    }
    notes.extend(status.interfaces.iter().map(interface));
    notes.extend(status.health.iter().map(|finding| {
        let tone = match finding.severity {
            Severity::Critical => Tone::Bad,
            Severity::Warning => Tone::Warning,
            Severity::Notice => Tone::Plain,
        };
        Note::new("Finding", finding.to_string()).toned(tone)
    }));
    notes.push(Note::new("Kernel", text::kernel_in_words(status)));
    notes.push(Note::new("Rules", text::rules_in_words(status)));
    let latest = status.alerts.iter().rev().take(ALERTS_LISTED);
    notes.extend(latest.map(|alert| {
        let (time, word) = (view.time(alert.at), severity_word(alert.severity));
        Note::new("Alert", format!("{time} {word} {}", alert.message))
    }));
    notes
}

fn interface(interface: &Interface) -> Note {
    let name = &interface.name;
    if !interface.attached {
        return Note::new("Iface", format!("{name} NOT ATTACHED")).toned(Tone::Bad);
    }
    let mode = match interface.mode {
        AttachMode::Native => "native",
        _ => "generic !",
    };
    let rates = interface.rates.as_ref().map_or("no rates yet".to_owned(), |rates| {
        format!(
            "{} packets/s, {} SYN/s, {} passed/s, {} dropped/s",
            short(rates.rx_pps),
            short(rates.syn_pps),
            short(rates.pass_pps),
            short(rates.drop_pps)
        )
    });
    Note::new("Iface", format!("{name} {mode}: {rates}"))
}
