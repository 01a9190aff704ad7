//! The lists: their columns, and their rows made from a status. Nothing here knows of a terminal.

use std::net::SocketAddr;
use std::time::Duration;

use tcpguard_engine::Mode;
use tcpguard_host::units::{percent, short, span};

use crate::documents::{AlertEntry, Incident, Listener, Rule, Status};
use crate::text::{self, Tone, View, between, severity_tone};

/// Fill of a queue that is worth a look, as a share of its limit.
const FILLING: f64 = 0.5;
/// Fill of a queue at which the next burst may turn clients away, as a share of its limit.
const FULL: f64 = 0.9;

/// A list of the screen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pane {
    Listeners,
    /// Open and past incidents.
    Incidents,
    Rules,
    Alerts,
}

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// Columns of the terminal. The column of a listener and the last one of the other lists grow.
    pub width: u16,
    /// True if its cells end at its right side, as numbers do.
    pub right: bool,
    /// Narrowest pane in which the column is shown.
    pub from: u16,
}

/// A row of a list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Identity of the row, the same in every picture: the number of its subject.
    pub key: u64,
    /// A cell for each column, with the meaning of its colour.
    pub cells: Vec<(String, Tone)>,
}

const fn words(name: &'static str, width: u16) -> Column {
    Column { name, width, right: false, from: 0 }
}

const fn number(name: &'static str, width: u16) -> Column {
    Column { name, width, right: true, from: 0 }
}

impl Pane {
    /// All panes, in their order on the screen.
    pub const ALL: [Self; 4] = [Self::Listeners, Self::Incidents, Self::Rules, Self::Alerts];

    /// Its position among them.
    pub const fn place(self) -> usize {
        self as usize
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Listeners => "Listeners",
            Self::Incidents => "Incidents",
            Self::Rules => "Rules",
            Self::Alerts => "Alerts",
        }
    }

    /// The columns of its list.
    pub fn columns(self, mode: Mode) -> Vec<Column> {
        match self {
            Self::Listeners => vec![
                words("LISTENER", 16),
                number("SYN/s", 7),
                number(if mode == Mode::Enforce { "DROP/s" } else { "MATCH/s" }, 7),
                number("HALF-OPEN", 11),
                number("ACCEPT-Q", 11),
                number("CLIENTS/s", 9),
                Column { from: 96, ..number("BASELINE", 9) },
                words("STATE", 10),
            ],
            Self::Incidents => vec![
                number("ID", 5),
                words("STATE", 5),
                words("SEVERITY", 8),
                words("SINCE", 8),
                number("LASTED", 7),
                number("PEAK/s", 7),
                number("STOPPED", 7),
                words("INCIDENT", 20),
            ],
            Self::Rules => vec![
                number("RULE", 5),
                words("KIND", 9),
                number("HITS", 7),
                number("PASSED", 7),
                number("EXPIRES", 7),
                words("ORIGIN", 8),
                words("MATCHES", 20),
            ],
            Self::Alerts => vec![words("TIME", 8), words("SEVERITY", 8), words("ALERT", 20)],
        }
    }

    /// Returns the number of rows of its list.
    pub fn count(self, status: &Status) -> usize {
        match self {
            Self::Listeners => status.listeners.len(),
            Self::Incidents => status.incidents.len() + status.past_incidents.len(),
            Self::Rules => status.rules.list.len(),
            Self::Alerts => status.alerts.len(),
        }
    }

    /// The rows of its list: the worst or the newest first.
    pub fn rows(self, status: &Status, view: &View) -> Vec<Row> {
        match self {
            Self::Listeners => {
                text::worst_first(&status.listeners).into_iter().map(listener).collect()
            }
            Self::Incidents => {
                let all = status.incidents.iter().rev().chain(&status.past_incidents);
                all.map(|it| incident(it, status, view)).collect()
            }
            Self::Rules => status.rules.list.iter().rev().map(rule).collect(),
            Self::Alerts => status.alerts.iter().rev().map(|it| alert(it, view)).collect(),
        }
    }

    /// Returns the reason why its list is empty, with a hint.
    pub const fn empty(self) -> &'static str {
        match self {
            Self::Listeners => "nothing listens on this host; see: ss -lnt",
            Self::Incidents => "no incident; older ones: journalctl -u tcpguard",
            Self::Rules => "no rules; make one: tcpguard block PREFIX",
            Self::Alerts => "no alert in the last 24 hours; older ones: tcpguard events",
        }
    }
}

fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

fn listener(listener: &Listener) -> Row {
    let clients = &listener.clients;
    let dropping = if listener.dropped_pps > 0.0 { Tone::Warning } else { Tone::Plain };
    let (state, tone) = text::listener_state(listener.state);
    Row {
        key: listener.id.into(),
        cells: vec![
            plain(SocketAddr::new(listener.addr, listener.port).to_string()),
            plain(short(listener.syn_pps)),
            (short(listener.dropped_pps), dropping),
            queue(listener.half_open, listener.half_open_limit),
            queue(listener.accept_queue, listener.accept_limit),
            (short(clients.completed_pps), text::clients_tone(clients)),
            plain(clients.baseline_pps.map_or_else(|| "-".to_owned(), short)),
            (state.to_owned(), tone),
        ],
    }
}

fn queue(count: Option<u32>, limit: Option<u32>) -> (String, Tone) {
    let share = count.zip(limit).map(|(count, limit)| f64::from(count) / f64::from(limit.max(1)));
    let tone = match share {
        Some(share) if share >= FULL => Tone::Bad,
        Some(share) if share >= FILLING => Tone::Warning,
        _ => Tone::Plain,
    };
    (text::queue(count, limit), tone)
}

fn incident(incident: &Incident, status: &Status, view: &View) -> Row {
    let tone = severity_tone(incident.severity);
    let state =
        if incident.ended_at.is_none() { ("OPEN".to_owned(), tone) } else { plain("ended") };
    let lasted = between(incident.since, incident.ended_at.unwrap_or(status.generated_at));
    let stopped = (incident.counts.dropped + incident.counts.cookies_sent) as f64
        / incident.counts.syns.max(1) as f64;
    let subject = format!("{}, {}", text::class(incident.class), incident.place());
    Row {
        key: incident.id,
        cells: vec![
            plain(format!("#{}", incident.id)),
            state,
            plain(incident.severity.name()),
            plain(view.time(incident.since)),
            plain(span(lasted)),
            plain(short(incident.peak_syn_pps)),
            plain(percent(stopped.min(1.0))),
            plain(subject),
        ],
    }
}

fn rule(rule: &Rule) -> Row {
    let origin = rule.incident.map_or_else(|| rule.origin.to_string(), |id| format!("#{id}"));
    Row {
        key: rule.id.0.into(),
        cells: vec![
            plain(rule.id.to_string()),
            plain(rule.kind.name()),
            plain(short(rule.hits as f64)),
            plain(short(rule.accepted_retransmits as f64)),
            plain(span(Duration::from_secs(rule.expires_in_s))),
            plain(origin),
            plain(rule.subject()),
        ],
    }
}

fn alert(alert: &AlertEntry, view: &View) -> Row {
    Row {
        key: alert.seq,
        cells: vec![
            plain(view.time(alert.at)),
            (alert.severity.name().to_owned(), severity_tone(alert.severity)),
            plain(&alert.message),
        ],
    }
}
