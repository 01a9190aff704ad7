//! Alerts as structured journal entries, in journald's native protocol.
//!
//! Format: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. An entry is one datagram. It is sent
//! without blocking: an attack must not be able to stop the guard by filling the journal.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::Alert;
use tcpguard_engine::Severity;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Message ids by event, for `journalctl MESSAGE_ID=…` and the message catalog. Never change or
/// reuse one.
pub const MESSAGE_IDS: [(&str, &str); 6] = [
    ("attack_started", "2c148cbf00504400bdd7c0796b76735d"),
    ("attack_updated", "c43dd6257d4d41e4a86cb9b6ad7d8d90"),
    ("attack_ended", "8cab5c467a374584a5eb7da10182c002"),
    ("rule_installed", "93fbec010f434a788a33543e1edb5ee8"),
    ("rule_withdrawn", "169e0f6be4044ac4bb52a3528648a50c"),
    ("mode_changed", "a41937006d354c1e830025aba52e4d67"),
];

/// A connection to journald.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    lost: u64,
}

impl Journal {
    /// Connects to the journal at `path`, normally [`SOCKET`].
    ///
    /// # Errors
    ///
    /// There is none: then stderr is where alerts go.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, lost: 0 })
    }

    /// Sends one alert, or counts it as lost.
    pub fn send(&mut self, alert: &Alert) {
        if self.socket.send(&entry(alert)).is_err() {
            self.lost += 1;
        }
    }

    /// Alerts that the journal did not take.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Syslog priorities: 2 is critical, 4 warning, 5 notice.
const fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "2",
        Severity::Warning => "4",
        Severity::Notice => "5",
    }
}

fn entry(alert: &Alert) -> Vec<u8> {
    let mut entry = Vec::new();
    field(&mut entry, "MESSAGE", &alert.message);
    field(&mut entry, "PRIORITY", priority(alert.severity));
    field(&mut entry, "SYSLOG_IDENTIFIER", "tcpguard");
    if let Some((_, id)) = MESSAGE_IDS.iter().find(|(event, _)| *event == alert.event) {
        field(&mut entry, "MESSAGE_ID", id);
    }
    field(&mut entry, "TCPGUARD_EVENT", &alert.event);
    field(&mut entry, "TCPGUARD_SEVERITY", alert.severity_name());
    if let Some(incident) = &alert.incident {
        let evidence = &incident.evidence;
        field(&mut entry, "TCPGUARD_ALERT_ID", &incident.id.to_string());
        field(&mut entry, "TCPGUARD_CLASS", incident.class.name());
        field(&mut entry, "TCPGUARD_DST", &incident.listener.addr.to_string());
        field(&mut entry, "TCPGUARD_PORT", &incident.listener.port.to_string());
        field(&mut entry, "TCPGUARD_SYN_PPS", &format!("{:.0}", incident.syn_rate));
        field(&mut entry, "TCPGUARD_SOURCES_EST", &evidence.sources_estimate.to_string());
        field(&mut entry, "TCPGUARD_DROPPED", &incident.dropped.to_string());
        if let Some(ended) = incident.ended {
            let lasted = ended.since(incident.started).as_secs();
            field(&mut entry, "TCPGUARD_DURATION_S", &lasted.to_string());
        }
        for rule in &incident.rules {
            field(&mut entry, "TCPGUARD_RULE", &rule.0.to_string());
        }
    }
    entry
}

/// `NAME=value`, or with a newline in the value: `NAME`, its length as 64 bits little-endian, and
/// the value, so that nothing in a value can pass for a field.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for journald.
    fn journald() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        (dir, socket, journal)
    }

    fn alert(message: &str) -> Alert {
        Alert {
            severity: Severity::Critical,
            event: "attack_started".to_owned(),
            message: message.to_owned(),
            incident: None,
        }
    }

    #[test]
    fn an_alert_arrives_with_its_fields() {
        let (_dir, socket, mut journal) = journald();
        journal.send(&alert("flood on :443"));
        let mut datagram = [0; 4096];
        let length = socket.recv(&mut datagram).unwrap();
        assert_eq!(
            std::str::from_utf8(&datagram[..length]).unwrap(),
            "MESSAGE=flood on :443\n\
             PRIORITY=2\n\
             SYSLOG_IDENTIFIER=tcpguard\n\
             MESSAGE_ID=2c148cbf00504400bdd7c0796b76735d\n\
             TCPGUARD_EVENT=attack_started\n\
             TCPGUARD_SEVERITY=critical\n"
        );
    }

    #[test]
    fn a_newline_cannot_forge_a_field() {
        let (_dir, socket, mut journal) = journald();
        journal.send(&alert("x\nPRIORITY=7"));
        let mut datagram = [0; 4096];
        let length = socket.recv(&mut datagram).unwrap();
        assert!(
            datagram[..length]
                .starts_with(b"MESSAGE\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=7\nPRIORITY=2\n")
        );
    }

    #[test]
    fn a_full_journal_costs_alerts_but_never_time() {
        let (_dir, _never_read, mut journal) = journald();
        for _ in 0..10_000 {
            journal.send(&alert("flood"));
        }
        // How many fit depends on net.unix.max_dgram_qlen; that most do not, does not.
        assert!((5_000..10_000).contains(&journal.lost()), "{} lost", journal.lost());
    }

    #[test]
    fn every_event_has_an_id_of_its_own() {
        for (position, (event, id)) in MESSAGE_IDS.iter().enumerate() {
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{event}");
            assert!(
                MESSAGE_IDS[..position].iter().all(|(name, other)| name != event && other != id)
            );
        }
    }
}
