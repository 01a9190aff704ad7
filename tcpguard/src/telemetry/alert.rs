//! Alerts: reported to people once, and remembered for the status.

use std::io::{Stderr, Write};
use std::path::{Path, PathBuf};

use tcpguard_engine as engine;
use tcpguard_engine::{IncidentReport, Mode, Severity};
use tcpguard_host::time::{Clock, Time};
use tcpguard_host::{escape, stderr};

use super::{History, Journal, journal};
use crate::documents::{AgentEvent, AlertEntry, AlertEvent};
use crate::text::{agent_event_line, event_line};

/// A message for people; the content of [`tcpguard_engine::Command::Alert`].
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Severity of the event.
    pub severity: Severity,
    /// The event.
    pub event: AlertEvent,
    /// One line in words.
    pub message: String,
    /// The incident it belongs to, as it was then.
    pub incident: Option<Box<IncidentReport>>,
}

impl Alert {
    /// The alert about an event of the engine.
    pub fn of(event: engine::Event, incident: Option<Box<IncidentReport>>) -> Self {
        let (severity, message) = (event.severity(), event_line(&event));
        Self { severity, event: AlertEvent::Engine(Box::new(event)), message, incident }
    }

    /// The alert about an event of the agent itself.
    pub fn own(event: AgentEvent) -> Self {
        let (severity, message) = (event.severity(), agent_event_line(&event));
        Self { severity, event: AlertEvent::Agent(event), message, incident: None }
    }

    /// The severity in JSON and the journal.
    pub fn severity_name(&self) -> &'static str {
        self.severity.name()
    }

    const fn label(&self) -> &'static str {
        match self.severity {
            Severity::Critical => "CRIT",
            Severity::Warning => "WARN",
            Severity::Notice => "NOTE",
        }
    }
}

/// Destinations of alerts: the journal if there is one, a stream of lines, and the memory that `tcpguard
/// status` shows.
pub struct AlertSink<W> {
    /// Path at which the journal listens, if it does.
    socket: PathBuf,
    journal: Option<Journal>,
    lines: Option<W>,
    history: History,
}

impl AlertSink<Stderr> {
    /// The sink of an agent: the host's journal, and stderr unless that leads to the journal too.
    pub fn of_host(history: History) -> Self {
        let mut sink = Self::new(Path::new(journal::SOCKET), std::io::stderr(), history);
        if sink.journal.is_some() && stderr::is_journal() {
            sink.lines = None;
        }
        sink
    }
}

impl<W: Write> AlertSink<W> {
    /// A sink for `lines` and for the journal at `socket` (normally [`super::journal::SOCKET`]), as
    /// soon as journald listens there; it goes on from `history`.
    pub fn new(socket: &Path, lines: W, history: History) -> Self {
        let (socket, journal) = (socket.to_owned(), Journal::open(socket).ok());
        Self { socket, journal, lines: Some(lines), history }
    }

    /// Reports `alert`, which was raised now and in `mode`.
    pub fn raise(&mut self, alert: &Alert, mode: Mode, clock: Clock) {
        if self.journal.is_none() {
            // It may have started since.
            self.journal = Journal::open(&self.socket).ok();
        }
        if let Some(journal) = &mut self.journal {
            journal.send(alert, mode);
        }
        if let Some(lines) = &mut self.lines {
            let time = clock.time_at(clock.now);
            let message = escape::escaped_line(&alert.message);
            // Nothing reads a closed stderr; the journal and the status still have the alert.
            let _ = writeln!(lines, "{time} {} {message}", alert.label());
        }
        self.history.add(AlertEntry {
            seq: 0,
            at: Time(clock.wall),
            severity: alert.severity,
            event: alert.event.clone(),
            message: alert.message.clone(),
            incident: alert.incident.as_ref().map(|incident| incident.id),
        });
    }

    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Alerts that the journal did not take.
    pub fn lost(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::lost)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_engine::Timestamp;

    use super::*;

    fn clock(seconds: u64) -> Clock {
        let start: jiff::Timestamp = "2026-11-20T14:00:00Z".parse().unwrap();
        Clock {
            now: Timestamp::from_millis(seconds * 1000),
            wall: start + Duration::from_secs(seconds),
        }
    }

    fn alert(message: &str) -> Alert {
        Alert {
            severity: Severity::Warning,
            event: AlertEvent::Unknown { event: "rule_withdrawn".to_owned() },
            message: message.to_owned(),
            incident: None,
        }
    }

    #[test]
    fn an_alert_is_one_line_whatever_it_says() {
        let mut lines = Vec::new();
        let mut sink = AlertSink::new(Path::new("/nonexistent"), &mut lines, History::default());
        sink.raise(&alert("rule 7 withdrawn"), Mode::Enforce, clock(11));
        sink.raise(&alert("a\nb\u{1b}[2J"), Mode::Enforce, clock(12));
        assert_eq!(sink.lost(), 0);
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "2026-11-20T14:00:11.000Z WARN rule 7 withdrawn\n\
             2026-11-20T14:00:12.000Z WARN a\\nb\\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_journal_that_starts_after_the_agent_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let mut sink = AlertSink::new(&socket, std::io::sink(), History::default());
        sink.raise(&alert("rule 7 withdrawn"), Mode::Enforce, clock(11));
        let journal = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        journal.set_nonblocking(true).unwrap();
        sink.raise(&alert("rule 8 withdrawn"), Mode::Enforce, clock(12));
        let mut entry = [0; 4096];
        let length = journal.recv(&mut entry).expect("the second alert");
        let entry = String::from_utf8_lossy(&entry[..length]);
        assert!(entry.contains("rule 8 withdrawn"), "{entry}");
    }

    #[test]
    fn an_alert_is_remembered_under_a_number() {
        let (nowhere, lines) = (Path::new("/nonexistent"), std::io::sink());
        let mut sink = AlertSink::new(nowhere, lines, History::default());
        sink.raise(&alert("rule 7 withdrawn"), Mode::Observe, clock(11));
        sink.raise(&alert("rule 8 withdrawn"), Mode::Observe, clock(12));
        let alerts = sink.history().since(1);
        assert_eq!((alerts.len(), alerts[0].seq, &*alerts[0].message), (1, 2, "rule 8 withdrawn"));
        assert_eq!(alerts[0].at.to_string(), "2026-11-20T14:00:12.000Z");
    }
}
