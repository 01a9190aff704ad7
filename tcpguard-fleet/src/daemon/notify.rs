//! Notifications to the service manager: readiness, the end, and that the process still works (sd_notify(3)).
//!
//! Nothing here blocks. Without a service manager nothing is sent.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The line to the service manager.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    status: String,
}

impl Notifier {
    /// The service manager of the environment (`NOTIFY_SOCKET`).
    pub fn from_environment() -> Self {
        Self::new(env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn new(socket: Option<&OsStr>) -> Self {
        let manager = socket.and_then(|name| match open(name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!("cannot reach the service manager at {}: {error}", name.display());
                None
            }
        });
        Self { manager, status: String::new() }
    }

    /// The process does its work.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The process works: the watchdog, and the line that `systemctl status` shows, when it has changed.
    pub fn alive(&mut self, status: &str) {
        if self.status == status {
            return self.send("WATCHDOG=1");
        }
        status.clone_into(&mut self.status);
        self.send(&format!("WATCHDOG=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// The process ends on purpose.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            log::debug!("service manager not notified: {error}");
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_of_readiness_and_of_a_new_status() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        let mut notifier = Notifier::new(Some(path.as_os_str()));
        notifier.ready();
        notifier.alive("one\nline");
        notifier.alive("one\nline");
        notifier.stopping();
        for expected in ["READY=1", "WATCHDOG=1\nSTATUS=one line", "WATCHDOG=1", "STOPPING=1"] {
            let mut message = [0; 100];
            let length = manager.recv(&mut message).expect("a message");
            assert_eq!(String::from_utf8_lossy(&message[..length]), expected);
        }
        Notifier::new(None).ready();
    }
}
