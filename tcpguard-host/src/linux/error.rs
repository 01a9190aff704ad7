//! Errors of queries about the host, and of changes to it.

use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;

/// A question to the kernel that was not answered. Each message names the situation and the way on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket could be opened.
    #[error(
        "cannot open a netlink socket: {0}; let the service use AF_NETLINK, with \
         RestrictAddressFamilies=AF_UNIX AF_NETLINK: systemctl edit tcpguard"
    )]
    Open(#[source] io::Error),
    /// The kernel refused a request, or the request could not be exchanged.
    #[error("cannot {what}: {source}; see: tcpguard doctor")]
    Refused {
        /// The operation, as a verb phrase.
        what: &'static str,
        source: io::Error,
    },
    /// The right to do it is missing.
    #[error(
        "cannot {what}: permission denied; use sudo, or give the service CAP_NET_ADMIN: systemctl edit \
         tcpguard"
    )]
    NotPermitted {
        /// The operation, as a verb phrase.
        what: &'static str,
    },
    /// The kernel has not answered within [`super::ANSWER_TIMEOUT`].
    #[error(
        "cannot {what}: no answer of the kernel for {}s; see: journalctl -k",
        super::ANSWER_TIMEOUT.as_secs()
    )]
    NoAnswer {
        /// The operation, as a verb phrase.
        what: &'static str,
    },
    /// The kernel's answer makes no sense.
    #[error(
        "cannot {what}: the kernel's answer is garbled: {detail}; collect what helps to find out why: \
         tcpguard doctor --bundle FILE"
    )]
    Garbled {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// Description of the defect.
        detail: DecodeError,
    },
    /// A list changed each time while it was being read.
    #[error(
        "cannot {what}: it changed each time while it was being read; try again when it is calmer: \
         ip monitor link"
    )]
    Unstable {
        /// The operation, as a verb phrase.
        what: &'static str,
    },
    /// The kernel cannot list TCP sockets.
    #[error(
        "the kernel cannot list TCP sockets; use one with CONFIG_INET_DIAG, or load the module: \
         modprobe tcp_diag"
    )]
    NoSockDiag,
    /// The kernel cannot remove sockets.
    #[error(
        "kernel without CONFIG_INET_DIAG_DESTROY: half-open entries of a flood stay until they \
         time out; to shorten that: sysctl -w net.ipv4.tcp_synack_retries=3"
    )]
    NoSockDestroy,
    /// The kernel does not distinguish namespaces by cookie.
    #[error("this kernel has no SO_NETNS_COOKIE (Linux 5.14 or later required); see: uname -r")]
    NoNetnsCookie,
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
    #[error("cannot understand {}: {detail}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Description of the defect.
        detail: String,
    },
    /// There is no interface of that name.
    #[error("there is no interface {name}; this host has: {existing}; see more of them: ip link")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_says_how_to_go_on() {
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
            Error::NoNetnsCookie,
            Error::Read { path: path(), source: source() },
            Error::Write { path: path(), source: source() },
            Error::Malformed { path: path(), detail: "a line without a number".to_owned() },
            Error::NoInterface { name: "eth9".to_owned(), existing: "lo, eth0".to_owned() },
        ] {
            assert!(hint_check::is_named(&error.to_string()), "{error}");
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
                | Error::NoNetnsCookie
                | Error::Read { .. }
                | Error::Write { .. }
                | Error::Malformed { .. }
                | Error::NoInterface { .. } => {}
            }
        }
    }
}
