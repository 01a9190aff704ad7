//! Alerts as structured journal entries, in journald's native protocol.
//!
//! Format: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. An entry is one datagram, or a sealed
//! memory file where it is too long for one. It is sent without blocking: neither an attack nor a
//! journal that hangs may stop the agent.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};
use tcpguard_engine::{Mode, Severity};
use tcpguard_host::escape;

use super::Alert;
use super::events::message_id;
use crate::documents::AlertEvent;

/// Path at which journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Sender of entries to journald.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    /// Path at which journald listens. The socket is not connected to it, so that a journald that starts
    /// again is reached without a word.
    path: PathBuf,
    lost: u64,
}

impl Journal {
    /// The journal at `path`, normally [`SOCKET`].
    ///
    /// # Errors
    ///
    /// There is none: then stderr is where alerts go.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), lost: 0 })
    }

    /// Sends one alert, raised in `mode`, or counts it as lost.
    pub fn send(&mut self, alert: &Alert, mode: Mode) {
        if self.try_send(&entry(alert, mode, self.lost)).is_err() {
            self.lost += 1;
        }
    }

    /// Alerts that the journal did not take.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn try_send(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, &self.path) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.send_file(entry),
            sent => sent.map(drop),
        }
    }

    /// Hands over a memory file. journald takes only one that is sealed against changes.
    fn send_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("tcpguard-journal-entry", flags)?);
        file.write_all(entry)?;
        let sealed = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, sealed)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let journald = SocketAddrUnix::new(&*self.path)?;
        let nothing = [IoSlice::new(&[])];
        sendmsg_addr(&self.socket, &journald, &nothing, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Returns the syslog priority: 2 is critical, 4 warning, 5 notice.
const fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "2",
        Severity::Warning => "4",
        Severity::Notice => "5",
    }
}

fn entry(alert: &Alert, mode: Mode, lost: u64) -> Vec<u8> {
    let mut entry = Vec::new();
    field(&mut entry, "MESSAGE", &escape::escaped_lines(&alert.message));
    field(&mut entry, "PRIORITY", priority(alert.severity));
    field(&mut entry, "SYSLOG_IDENTIFIER", "tcpguard");
    if let Some(id) = message_id(alert.event.name()) {
        field(&mut entry, "MESSAGE_ID", id);
    }
    field(&mut entry, "TCPGUARD_EVENT", alert.event.name());
    field(&mut entry, "TCPGUARD_SEVERITY", alert.severity_name());
    field(&mut entry, "TCPGUARD_MODE", mode.name());
    match &alert.event {
        AlertEvent::Engine(event) => {
            if let Some(prefix) = event.prefix() {
                field(&mut entry, "TCPGUARD_PREFIX", &prefix.to_string());
            }
        }
        AlertEvent::Agent(event) => {
            for interface in event.interfaces() {
                field(&mut entry, "TCPGUARD_IFACE", interface);
            }
        }
        AlertEvent::Unknown { .. } => {}
    }
    if let Some(incident) = &alert.incident {
        let evidence = &incident.evidence;
        field(&mut entry, "TCPGUARD_INCIDENT_ID", &incident.id.to_string());
        field(&mut entry, "TCPGUARD_CLASS", incident.class.name());
        let about = incident.listener;
        if about.port != 0 || !about.addr.is_unspecified() {
            field(&mut entry, "TCPGUARD_DST", &about.addr.to_string());
        }
        if about.port != 0 {
            field(&mut entry, "TCPGUARD_PORT", &about.port.to_string());
        }
        field(&mut entry, "TCPGUARD_SYN_PPS", &format!("{:.0}", incident.syn_rate));
        // 0 stands for an unknown rate.
        let baseline = incident.record.at_alarm.as_ref().map(|it| it.statistics.baseline_syn_rate);
        if let Some(baseline) = baseline.filter(|rate| *rate > 0.0) {
            field(&mut entry, "TCPGUARD_BASELINE_PPS", &format!("{baseline:.0}"));
        }
        field(&mut entry, "TCPGUARD_SOURCES_EST", &evidence.sources_estimate.to_string());
        field(&mut entry, "TCPGUARD_DROPPED", &incident.counts.dropped.to_string());
        if let Some(ended) = incident.ended {
            let lasted = ended.since(incident.started).as_secs();
            field(&mut entry, "TCPGUARD_DURATION_S", &lasted.to_string());
        }
        for rule in &incident.rules {
            field(&mut entry, "TCPGUARD_RULE", &rule.0.to_string());
        }
    }
    if lost > 0 {
        field(&mut entry, "TCPGUARD_LOST", &lost.to_string());
    }
    entry
}

/// Appends `NAME=value`, or with a newline in the value: `NAME`, its length as 64 bits little-endian, and the
/// value, so that nothing in a value can pass for a field.
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
    use std::io::{Read, Seek};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use tcpguard_engine::Event;

    use super::*;
    use crate::documents::AgentEvent;

    /// A stand-in for journald.
    fn journald() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path).unwrap();
        (dir, socket, journal)
    }

    fn alert(message: &str) -> Alert {
        Alert {
            severity: Severity::Critical,
            event: AlertEvent::Unknown { event: "attack_started".to_owned() },
            message: message.to_owned(),
            incident: None,
        }
    }

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut datagram = vec![0; 4096];
        let length = socket.recv(&mut datagram).unwrap();
        datagram.truncate(length);
        datagram
    }

    #[test]
    fn an_alert_arrives_with_its_fields() {
        let (_dir, socket, mut journal) = journald();
        journal.send(&alert("flood on :443"), Mode::Enforce);
        assert_eq!(
            String::from_utf8(received(&socket)).unwrap(),
            "MESSAGE=flood on :443\n\
             PRIORITY=2\n\
             SYSLOG_IDENTIFIER=tcpguard\n\
             MESSAGE_ID=2c148cbf00504400bdd7c0796b76735d\n\
             TCPGUARD_EVENT=attack_started\n\
             TCPGUARD_SEVERITY=critical\n\
             TCPGUARD_MODE=enforce\n"
        );
    }

    #[test]
    fn what_an_alert_is_about_has_fields_of_its_own() {
        let (_dir, socket, mut journal) = journald();
        let net = "203.0.113.0/24".parse().unwrap();
        let interfaces = vec!["eth0".to_owned(), "eth1".to_owned()];
        for (alert, about) in [
            (
                Alert::of(Event::AllowRemoved { net, uid: None, fleet: None }, None),
                "TCPGUARD_PREFIX=203.0.113.0/24\n",
            ),
            (
                Alert::own(AgentEvent::FilterDetached { uid: 0, interfaces }),
                "TCPGUARD_IFACE=eth0\nTCPGUARD_IFACE=eth1\n",
            ),
        ] {
            journal.send(&alert, Mode::Enforce);
            let text = String::from_utf8(received(&socket)).unwrap();
            assert!(text.ends_with(&format!("TCPGUARD_MODE=enforce\n{about}")), "{text}");
        }
    }

    #[test]
    fn a_newline_cannot_forge_a_field() {
        let (_dir, socket, mut journal) = journald();
        journal.send(&alert("x\nPRIORITY=7"), Mode::Observe);
        let injected = b"MESSAGE\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=7\nPRIORITY=2\n";
        assert!(received(&socket).starts_with(injected));
    }

    #[test]
    fn what_turns_the_direction_of_a_message_is_escaped() {
        let (_dir, socket, mut journal) = journald();
        journal.send(&alert("for \u{202e}eman\u{2069}"), Mode::Observe);
        let entry = String::from_utf8(received(&socket)).unwrap();
        assert!(entry.starts_with("MESSAGE=for \\u{202e}eman\\u{2069}\n"), "{entry}");
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_handed_over_as_a_sealed_file() {
        let (_dir, socket, mut journal) = journald();
        let long = "x".repeat(1 << 20);
        journal.send(&alert(&long), Mode::Observe);
        assert_eq!(journal.lost(), 0);

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&socket, &mut [], &mut control, RecvFlags::empty()).unwrap();
        let descriptors = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let mut file = File::from(descriptors.expect("a descriptor"));
        file.rewind().unwrap();
        let mut entry = String::new();
        file.read_to_string(&mut entry).unwrap();
        assert!(entry.starts_with("MESSAGE=xxx") && entry.len() > long.len());
        assert!(file.write_all(b"y").is_err() && file.set_len(0).is_err(), "not sealed");
    }

    #[test]
    fn a_full_journal_costs_alerts_but_never_time_and_hears_of_it_later() {
        let (_dir, socket, mut journal) = journald();
        for _ in 0..10_000 {
            journal.send(&alert("flood"), Mode::Observe);
        }
        // How many fit depends on net.unix.max_dgram_qlen; that most do not, does not.
        let lost = journal.lost();
        assert!((5_000..10_000).contains(&lost), "{lost} lost");

        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 4096]).is_ok() {}
        journal.send(&alert("flood"), Mode::Observe);
        let entry = String::from_utf8(received(&socket)).unwrap();
        assert!(entry.ends_with(&format!("TCPGUARD_LOST={lost}\n")), "{entry}");
    }

    #[test]
    fn a_journal_that_starts_again_is_reached_again() {
        let (dir, socket, mut journal) = journald();
        drop(socket);
        journal.send(&alert("no listener"), Mode::Observe);
        assert_eq!(journal.lost(), 1);
        let path = dir.path().join("socket");
        std::fs::remove_file(&path).unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        journal.send(&alert("again"), Mode::Observe);
        assert_eq!(journal.lost(), 1);
        assert!(received(&socket).starts_with(b"MESSAGE=again\n"));
    }
}
