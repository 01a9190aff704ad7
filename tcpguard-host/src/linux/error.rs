//! Errors of queries about the host, and of changes to it.

use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;

use crate::hint::Hint;

/// Failure of a query or of a change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket could be opened.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused a request, or the request could not be exchanged.
    #[error("cannot {what}: {source}")]
    Refused {
        /// The operation, as a verb phrase.
        what: &'static str,
        source: io::Error,
    },
    /// The right to do it is missing.
    #[error("cannot {what}: permission denied")]
    NotPermitted {
        /// The operation, as a verb phrase.
        what: &'static str,
    },
    /// The kernel has not answered within [`super::ANSWER_TIMEOUT`].
    #[error("cannot {what}: no answer from the kernel within {}s", super::ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// The operation, as a verb phrase.
        what: &'static str,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot {what}: malformed answer from the kernel: {detail}")]
    Garbled {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// Description of the defect.
        detail: DecodeError,
    },
    /// A list changed each time while it was being read.
    #[error("cannot {what}: the list changed during each attempt to read it")]
    Unstable {
        /// The operation, as a verb phrase.
        what: &'static str,
    },
    /// The kernel cannot list TCP sockets.
    #[error("the kernel cannot list TCP sockets (no CONFIG_INET_DIAG)")]
    NoSockDiag,
    /// The kernel cannot remove sockets.
    #[error(
        "kernel without CONFIG_INET_DIAG_DESTROY: half-open entries of a flood stay until they time out"
    )]
    NoSockDestroy,
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        source: io::Error,
    },
    /// A file does not have the form it is known to have.
    #[error("cannot parse {}: {detail}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Description of the defect.
        detail: String,
    },
    /// There is no interface of that name.
    #[error("no interface {name} (this host has: {existing})")]
    NoInterface {
        /// The name that was asked for.
        name: String,
        /// The names that exist, separated by ", ".
        existing: String,
    },
}

impl Error {
    /// The OS error behind it, where there is one.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::Open(source)
            | Self::Refused { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> String {
        match self {
            Self::Open(_) => "systemctl edit tcpguard ([Service] RestrictAddressFamilies=AF_UNIX \
                              AF_NETLINK)"
                .to_owned(),
            Self::Refused { .. } => "tcpguard doctor".to_owned(),
            Self::NotPermitted { .. } => {
                "use sudo, or give the service CAP_NET_ADMIN: systemctl edit tcpguard".to_owned()
            }
            Self::NoAnswer { .. } => "journalctl -k".to_owned(),
            Self::Garbled { .. } => "sudo tcpguard doctor".to_owned(),
            Self::Unstable { .. } => "try again later; changes: ip monitor link".to_owned(),
            Self::NoSockDiag => "modprobe tcp_diag".to_owned(),
            Self::NoSockDestroy => "sysctl -w net.ipv4.tcp_synack_retries=3".to_owned(),
            Self::Read { path, .. } | Self::Write { path, .. } | Self::Malformed { path, .. } => {
                format!("ls -l {}", path.display())
            }
            Self::NoInterface { .. } => "ip link".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        let what = "read it";
        let source = || io::Error::from_raw_os_error(libc::EIO);
        let path = || PathBuf::from("/proc/net/netstat");
        for error in [
            Error::Open(source()),
            Error::Refused { what, source: source() },
            Error::NotPermitted { what },
            Error::NoAnswer { what },
            Error::Garbled { what, detail: "a word of 3 bytes".to_owned().into() },
            Error::Unstable { what },
            Error::NoSockDiag,
            Error::NoSockDestroy,
            Error::Read { path: path(), source: source() },
            Error::Write { path: path(), source: source() },
            Error::Malformed { path: path(), detail: "a line without a number".to_owned() },
            Error::NoInterface { name: "eth9".to_owned(), existing: "lo, eth0".to_owned() },
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                Error::Open(_)
                | Error::Refused { .. }
                | Error::NotPermitted { .. }
                | Error::NoAnswer { .. }
                | Error::Garbled { .. }
                | Error::Unstable { .. }
                | Error::NoSockDiag
                | Error::NoSockDestroy
                | Error::Read { .. }
                | Error::Write { .. }
                | Error::Malformed { .. }
                | Error::NoInterface { .. } => {}
            }
        }
    }
}
