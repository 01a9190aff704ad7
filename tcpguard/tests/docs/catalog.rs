//! The message catalog as `journalctl -x` shows it, and the page of the journal, which lists its events.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;

use tcpguard::documents::AlertEvent;
use tcpguard::telemetry::events::{EventDescriptor, descriptors};
use tcpguard::telemetry::{Alert, AlertSink, History};
use tcpguard_engine::{IncidentClass, IncidentReport, Listener, Mode, Severity};

use super::pages::root;
use super::support::{clock, flooded};

const CATALOG: &str = include_str!("../../../packaging/tcpguard.catalog");

/// The fields of a journal entry, none of which has several lines.
fn fields(entry: &str) -> Vec<(&str, &str)> {
    entry.lines().filter_map(|line| line.split_once('=')).collect()
}

/// The explanation of an entry. systemd puts the bare name of a field that the entry does not have
/// (`lookup_field`, src/libsystemd/sd-journal/sd-journal.c).
fn explanation(fields: &[(&str, &str)]) -> String {
    let value =
        |name| fields.iter().find(|(field, _)| *field == name).map_or(name, |found| found.1);
    let (_, rest) = CATALOG.split_once(&format!("-- {}\n", value("MESSAGE_ID"))).unwrap();
    let parts = rest.split("\n-- ").next().unwrap().split('@').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { value(part) } else { part }).collect()
}

/// Incidents of each class, at a listener, at a port, at an address, and of the whole host.
fn incidents() -> Vec<IncidentReport> {
    let (report, _) = flooded(Mode::Observe);
    let targets = ["192.0.2.1", "0.0.0.0"].map(|addr| addr.parse().unwrap());
    let targets = targets.into_iter().flat_map(|addr| [443, 0].map(|port| Listener { addr, port }));
    let of = |listener| {
        let report = &report.incidents[0];
        IncidentClass::ALL.map(|class| IncidentReport { class, listener, ..report.clone() })
    };
    targets.flat_map(of).collect()
}

#[test]
fn no_explanation_in_the_journal_has_the_name_of_a_field() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let journald = UnixDatagram::bind(&socket).unwrap();
    let mut sink = AlertSink::new(&socket, std::io::sink(), History::default());
    let incidents: Vec<_> = incidents().into_iter().map(Box::new).collect();
    for event in descriptors().filter(|event| event.message_id.is_some()) {
        let event = event.name;
        // The engine raises these with their incident, and all others also without one.
        let of_incident = ["attack_", "handshakes_", "incident_"];
        let without = !of_incident.iter().any(|prefix| event.starts_with(prefix));
        for incident in incidents.iter().cloned().map(Some).chain(without.then_some(None)) {
            let alert = Alert {
                severity: Severity::Critical,
                event: AlertEvent::Unknown { event: event.to_owned() },
                message: "a flood".to_owned(),
                incident,
            };
            sink.raise(&alert, Mode::Observe, clock());
            let mut entry = [0; 4096];
            let length = journald.recv(&mut entry).unwrap();
            let text = explanation(&fields(str::from_utf8(&entry[..length]).unwrap()));
            assert!(text.starts_with("Subject: "), "{event}: {text}");
            assert!(!text.contains("TCPGUARD_"), "{event}: {text}");
        }
    }
}

/// A page with these rows in the table with this head.
fn with_rows(page: &str, head: &str, events: &[EventDescriptor]) -> String {
    let (before, table) = page.split_once(head).expect(head);
    let (rule, rest) = table.split_once('\n').unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let rows = events.iter().map(|EventDescriptor { name, when, message_id }| {
        let id = message_id.map_or_else(String::new, |id| format!(" `{id}` |"));
        format!("| `{name}` |{id} {when} |\n")
    });
    format!("{before}{head}{rule}\n{}\n{after}", rows.collect::<String>())
}

/// After a change of the catalog: `UPDATE_EXPECTED=1 cargo nextest run -p tcpguard --test docs`.
#[test]
fn the_schema_the_catalog_and_the_page_of_the_journal_list_the_same_events() {
    let schema = fs::read_to_string(root().join("docs/schema/tcpguard.json")).unwrap();
    let names = schema.split(r#""event": {"const":""#).skip(1);
    let of_types: BTreeSet<&str> = names.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(descriptors().map(|event| event.name).collect::<BTreeSet<_>>(), of_types);

    let path = root().join("docs/journal.md");
    let found = fs::read_to_string(&path).unwrap();
    let (alerts, actions): (Vec<_>, Vec<_>) =
        descriptors().partition(|event| event.message_id.is_some());
    let page = with_rows(&found, "| `TCPGUARD_EVENT` | `MESSAGE_ID` | when |\n", &alerts);
    let page = with_rows(&page, "| `event` | when |\n", &actions);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &page).unwrap();
    } else {
        assert!(found == page, "{} is not up to date: UPDATE_EXPECTED=1", path.display());
    }
}
