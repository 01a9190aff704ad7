//! The reasons for which a mitigation is not started.

use tcpguard_engine::Setback;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux;
use tcpguard_host::obstacle::Obstacle;

use super::syncookies::LeaseError;
use crate::bpf::{KernelError, SelfTestError};

/// Reason for which a mitigation cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The listener is gone.
    #[error("nothing listens there now. See: tcpguard status --listeners")]
    Gone,
    /// The obstacle to it.
    #[error("{0}")]
    Obstacle(Obstacle),
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
    /// Returns the reason for which it was not started, and the remedy where that is known.
    pub fn setback(&self) -> Setback {
        match self {
            Self::Obstacle(obstacle) => obstacle.setback(),
            other => Setback {
                error: other.to_string(),
                remedy: None,
                soon: matches!(other, Self::Busy),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_refusal_says_how_to_go_on() {
        for refusal in [
            Refusal::Gone,
            Refusal::Obstacle(Obstacle::NotLocal),
            Refusal::Busy,
            Refusal::Test(SelfTestError::NoRecord),
            Refusal::Lease(LeaseError::Forbidden),
            Refusal::Host(linux::Error::NoSockDiag),
            Refusal::Kernel(KernelError::Mismatch("no map sources".to_owned())),
        ] {
            assert!(hint_check::is_named(&refusal.to_string()), "{refusal}");
            // Every one there is stands above.
            match refusal {
                Refusal::Gone
                | Refusal::Obstacle(_)
                | Refusal::Busy
                | Refusal::Test(_)
                | Refusal::Lease(_)
                | Refusal::Host(_)
                | Refusal::Kernel(_) => {}
            }
        }
    }
}
