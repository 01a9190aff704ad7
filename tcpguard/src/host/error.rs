//! What can go wrong when the host is asked about itself.

use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;

/// A question to the kernel that was not answered. Each message names the situation and, where
/// there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket could be opened.
    #[error(
        "cannot open a netlink socket: {0}. Let this process use AF_NETLINK \
         (systemd: RestrictAddressFamilies=AF_UNIX AF_NETLINK)"
    )]
    Open(#[source] io::Error),
    /// The kernel refused a request, or the request could not be exchanged.
    #[error("cannot {what}: {source}")]
    Refused {
        /// What was asked, as a verb phrase.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The right to do it is missing.
    #[error("cannot {what}: run as root, or with CAP_NET_ADMIN")]
    NotPermitted {
        /// What was asked, as a verb phrase.
        what: &'static str,
    },
    /// The kernel has not answered within [`super::ANSWER_TIMEOUT`].
    #[error("cannot {what}: the kernel has not answered for {} s", super::ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// What was asked, as a verb phrase.
        what: &'static str,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot {what}: the kernel's answer is garbled: {detail}")]
    Garbled {
        /// What was asked, as a verb phrase.
        what: &'static str,
        /// What is wrong with it.
        detail: DecodeError,
    },
    /// A list changed each time while it was being read.
    #[error("cannot {what}: it changed each time while it was being read; try again")]
    Unstable {
        /// What was asked, as a verb phrase.
        what: &'static str,
    },
    /// The kernel cannot list TCP sockets.
    #[error(
        "the kernel cannot list TCP sockets: load the module tcp_diag (modprobe tcp_diag), \
         or use a kernel with CONFIG_INET_DIAG"
    )]
    NoSockDiag,
    /// The kernel cannot remove sockets.
    #[error(
        "kernel without CONFIG_INET_DIAG_DESTROY: half-open entries of a flood stay until they \
         time out (lower net.ipv4.tcp_synack_retries to shorten that)"
    )]
    NoSockDestroy,
    /// The kernel does not tell namespaces apart by cookie.
    #[error("the kernel does not know SO_NETNS_COOKIE; Linux 5.14 or newer is needed")]
    NoNetnsCookie,
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not have the form it is known to have.
    #[error("cannot understand {}: {detail}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no interface of that name.
    #[error("there is no interface {name}; this host has: {existing}")]
    NoInterface {
        /// What was asked for.
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
