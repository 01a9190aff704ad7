//! Notifications to the service manager: readiness, reloads, the end, and that the process still works.
//!
//! Protocol: sd_notify(3), sd_watchdog_enabled(3). Nothing here blocks: a service manager that does not
//! read costs a line in the log. Without a service manager nothing is sent.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tcpguard_engine::Timestamp;

/// The line to the service manager.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
    status: String,
}

/// The service manager's watchdog, and the time of the last report to it.
#[derive(Debug)]
struct Watchdog {
    /// Without a word for this long the service manager replaces the process.
    limit: Duration,
    fed: Option<Timestamp>,
}

impl Notifier {
    /// Creates a notifier from the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. `poll` is the
    /// time between two signs of life of the process.
    pub fn from_environment(poll: Duration) -> Self {
        let watchdog = watchdog_limit(
            env::var("WATCHDOG_USEC").ok().as_deref(),
            env::var("WATCHDOG_PID").ok().as_deref(),
            std::process::id(),
        );
        if let Some(limit) = watchdog.filter(|limit| *limit < poll * 2) {
            log::warn!(
                "WatchdogSec={limit:?} too short for two polls of {poll:?}: systemd will restart a \
                 healthy process. Raise it: systemctl edit UNIT"
            );
        }
        Self::new(env::var_os("NOTIFY_SOCKET").as_deref(), watchdog)
    }

    fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let manager = socket.and_then(|name| match open(name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!("cannot reach the service manager at {}: {error}", name.display());
                None
            }
        });
        let watchdog = watchdog.map(|limit| Watchdog { limit, fed: None });
        Self { manager, watchdog, status: String::new() }
    }

    /// The process does its work, or does it again after a reload.
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The line that `systemctl status` shows, when it has changed.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.send(&format!("STATUS={}", one_line(status)));
        }
    }

    /// A new configuration is being read; [`Self::ready`] follows.
    pub fn reloading(&self) {
        // `Type=notify-reload` (systemd 253) wants to know when; others ignore it.
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The process ends on purpose.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// A poll has succeeded at `now`. It is reported four times within the watchdog's limit, so that the process survives
    /// a message that is lost and a poll that is late.
    pub fn alive(&mut self, now: Timestamp) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_due(now)) {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            let first = message.lines().next().unwrap_or_default();
            log::warn!("{first} not delivered to the service manager: {error}");
        }
    }
}

impl Watchdog {
    fn is_due(&mut self, now: Timestamp) -> bool {
        let due = self.fed.is_none_or(|fed| now.since(fed) >= self.limit / 4);
        if due {
            self.fed = Some(now);
        }
        due
    }
}

/// The limit of the watchdog, if it is meant for this process.
fn watchdog_limit(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let limit = microseconds?.parse().ok().filter(|limit| *limit > 0).map(Duration::from_micros);
    limit.filter(|_| ours)
}

/// A path, or after an `@` a name in the abstract namespace.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// A line break would begin another assignment.
fn one_line(status: &str) -> String {
    status.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the service manager.
    fn manager(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (dir, socket, Notifier::new(Some(path.as_os_str()), watchdog))
    }

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap())
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    #[test]
    fn a_life_is_reported_in_the_managers_words() {
        let (_dir, socket, mut notifier) = manager(None);
        notifier.ready("running on eth0");
        assert_eq!(heard(&socket).unwrap(), "READY=1\nSTATUS=running on eth0");
        notifier.status("running on eth0");
        assert_eq!(heard(&socket), None, "nothing has changed");
        notifier.status("running\non eth1");
        assert_eq!(heard(&socket).unwrap(), "STATUS=running on eth1");
        notifier.reloading();
        let reloading = heard(&socket).unwrap();
        let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(since_boot.parse::<u64>().unwrap() > 0);
        notifier.stopping();
        assert_eq!(heard(&socket).unwrap(), "STOPPING=1\nSTATUS=stopping");
        notifier.alive(at(0));
        assert_eq!(heard(&socket), None, "no watchdog was asked for");
    }

    #[test]
    fn the_watchdog_hears_within_half_its_limit() {
        let limit = Duration::from_secs(3);
        let (_dir, socket, mut notifier) = manager(Some(limit));
        let mut last = 0;
        for now in (0..20_000).step_by(250) {
            notifier.alive(at(now));
            if let Some(message) = heard(&socket) {
                assert_eq!(message, "WATCHDOG=1");
                last = now;
            }
            assert!(now - last <= 1_500, "silent for {} ms", now - last);
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let limit = Some(Duration::from_secs(3));
        for (microseconds, pid, expected) in [
            (Some("3000000"), None, limit),
            (Some("3000000"), Some("42"), limit),
            (Some("3000000"), Some("43"), None),
            (Some("3000000"), Some(""), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, Some("42"), None),
        ] {
            assert_eq!(watchdog_limit(microseconds, pid, 42), expected, "{microseconds:?} {pid:?}");
        }
    }

    #[test]
    fn the_manager_may_listen_at_an_abstract_name() {
        let name = format!("tcpguard-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), None);
        notifier.ready("x");
        assert_eq!(heard(&socket).unwrap(), "READY=1\nSTATUS=x");
    }

    #[test]
    fn a_manager_that_does_not_read_stops_nothing() {
        let (_dir, _never_read, mut notifier) = manager(Some(Duration::from_nanos(1)));
        for now in 1..10_000 {
            notifier.alive(at(now));
        }
    }
}
