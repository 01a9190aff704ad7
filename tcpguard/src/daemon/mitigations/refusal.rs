//! The reasons for which a mitigation is not started.

use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux;

use super::obstacles::Obstacle;
use super::syncookies::LeaseError;
use crate::bpf::{KernelError, SelfTestError};

/// Reason for which a mitigation cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Only the kernel makes cookies here.
    #[error("{0}. After the correction: systemctl restart tcpguard")]
    NoBackend(String),
    /// The listener is gone.
    #[error("nothing listens there now. See: tcpguard status --listeners")]
    Gone,
    /// The obstacle to it.
    #[error("{0}")]
    Obstacle(Obstacle),
    /// Some of the services that reply there are not of this host.
    #[error(
        "a forwarded or translated service replies at the same address and port, and its connections \
         must not get SYN cookies. See: tcpguard status --listeners"
    )]
    Shared,
    /// The sockets of a VRF are not found by the addresses and ports of their packets alone.
    #[error(
        "{interface} is a port of a VRF: its sockets cannot be found by the packets, so no connection there \
         may get SYN cookies. See: ip -details link show dev {interface}"
    )]
    Vrf { interface: String },
    /// Cookies might never get to the program that checks them.
    #[error(
        "another tc program runs before tcpguard's at the ingress of {interface}, {program}: if it ends \
         the chain, no SYN cookie is validated. Find its owner: bpftool net show dev {interface}"
    )]
    Behind {
        interface: String,
        /// The other program, in words.
        program: String,
    },
    /// Many are taken at once.
    #[error(
        "the limit of mitigations that start in one poll is reached. See: tcpguard status --listeners"
    )]
    Busy,
    /// The test run failed.
    #[error(transparent)]
    Test(#[from] SelfTestError),
    /// The sysctl cannot be borrowed.
    #[error("{}", .0.with_hint())]
    Lease(#[from] LeaseError),
    /// The host does not say how it is set up.
    #[error("{}", .0.with_hint())]
    Host(#[from] linux::Error),
    #[error("{}", .0.with_hint())]
    Kernel(#[from] KernelError),
}

impl Refusal {
    /// Returns whether it may be gone in a second.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Obstacle(Obstacle::NeverAnswered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_refusal_says_how_to_go_on() {
        for refusal in [
            Refusal::NoBackend("this kernel is too old".to_owned()),
            Refusal::Gone,
            Refusal::Obstacle(Obstacle::Mptcp),
            Refusal::Shared,
            Refusal::Vrf { interface: "eth0".to_owned() },
            Refusal::Busy,
            Refusal::Behind { interface: "eth0".to_owned(), program: "other (id 7)".to_owned() },
            Refusal::Test(SelfTestError::NoRecord),
            Refusal::Lease(LeaseError::Forbidden),
            Refusal::Host(linux::Error::NoSockDiag),
            Refusal::Kernel(KernelError::Mismatch("no map sources".to_owned())),
        ] {
            assert!(hint_check::is_named(&refusal.to_string()), "{refusal}");
            // Every one there is stands above.
            match refusal {
                Refusal::NoBackend(_)
                | Refusal::Gone
                | Refusal::Obstacle(_)
                | Refusal::Shared
                | Refusal::Vrf { .. }
                | Refusal::Busy
                | Refusal::Behind { .. }
                | Refusal::Test(_)
                | Refusal::Lease(_)
                | Refusal::Host(_)
                | Refusal::Kernel(_) => {}
            }
        }
    }
}
