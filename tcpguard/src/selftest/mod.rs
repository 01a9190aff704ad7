//! Trial of the ways to answer SYNs with cookies on this host, by real connections.
//!
//! Two temporary network namespaces and a cable between them, with this host's TCP sysctls at the
//! server's end. The programs are loaded there with maps of their own, and clients with and without
//! timestamps connect and transfer data through each back end. No packet leaves the host, and nothing
//! of it has a name: however the probe ends, nothing is left behind. The host's packet filter does not
//! apply there: it is read beside the trial, for NAT.
//!
//! The result depends on the kernel, on the BPF objects and on the sysctls, and on nothing else that
//! changes between two starts. So it is kept for these three.

mod backends;
mod connection;
mod stage;
mod store;

use std::thread;
use std::time::{Duration, Instant};

use tcpguard_host::firewall::nat;
use tcpguard_host::hint::Hint;
use tcpguard_host::linux::netfilter::Netfilter;
use tcpguard_host::linux::{self, Sysctls};

use crate::bpf::objects_digest;
use crate::documents::selftest::{Host, SelfTest};

pub use store::{load, may_be_seen, store};

/// Time after which no further connection is tried.
const LIMIT: Duration = Duration::from_secs(6);
/// Longest time for one step of a connection. The peer is this host itself, but a lost SYN is only
/// retransmitted after a second.
const PATIENCE: Duration = Duration::from_millis(1200);

/// Reason why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum SelftestFailure {
    /// The temporary namespaces could not be made: in most cases root is missing.
    #[error("cannot create temporary network namespaces: {0}")]
    Namespace(std::io::Error),
    /// Two namespaces are there and cannot talk, even without any cookie.
    #[error("no connection between the temporary network namespaces: {0}")]
    Silent(String),
    /// The host could not be asked or changed.
    #[error(transparent)]
    Host(#[from] linux::Error),
}

impl Hint for SelftestFailure {
    fn hint(&self) -> String {
        match self {
            Self::Namespace(_) => "sudo tcpguard doctor --selftest".to_owned(),
            Self::Silent(_) => "journalctl -k".to_owned(),
            Self::Host(error) => error.hint(),
        }
    }
}

impl Host {
    /// This host, with the properties that decide which back ends work.
    pub fn running() -> Result<Self, linux::Error> {
        Ok(Self {
            kernel: linux::kernel_release()?,
            objects: format!("{:016x}", objects_digest()),
            sysctls: stage::sysctls()?,
        })
    }
}

/// Tries every back end; takes two seconds, one of them until the kernel has noticed the cable, and
/// a few where something does not work. Needs root (`CAP_SYS_ADMIN` for the namespaces).
///
/// # Errors
/// When nothing could be tried. A back end that does not work is no error.
pub fn run() -> Result<SelfTest, SelftestFailure> {
    let host = Host::running()?;
    let begun = Instant::now();
    let deadline = begun + LIMIT;
    // Entering a namespace changes a thread for good.
    let results = thread::scope(|scope| {
        let selftest = scope.spawn(|| backends::try_all(&host, deadline));
        selftest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let rules = Netfilter::default().read(&Sysctls::default())?;
    let nat = nat(&rules).map(|nat| nat.why());
    Ok(SelfTest { host, took_ms, results, nat })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        for error in [
            SelftestFailure::Namespace(io::Error::from_raw_os_error(libc::EPERM)),
            SelftestFailure::Silent("the handshake failed: timed out".to_owned()),
            SelftestFailure::Host(linux::Error::NoSockDiag),
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                SelftestFailure::Namespace(_)
                | SelftestFailure::Silent(_)
                | SelftestFailure::Host(_) => {}
            }
        }
    }
}
