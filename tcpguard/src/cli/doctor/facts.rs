//! The facts that `tcpguard doctor` judges: those about the host, and those about the agent.

use tcpguard_host::doctor;

use crate::bpf::{Layout, Usage};
use crate::documents::Status;

#[derive(Clone, Debug)]
pub struct Facts {
    pub of_host: doctor::Facts,
    pub agent: Agent,
    /// Result of the last self-test of SYN cookies.
    pub selftest: SelfTested,
    /// The map layouts in the directory of the pins, and the state of the pins of each.
    pub layouts: Vec<(Layout, Usage)>,
    /// Cookie of this network namespace; `None` where it cannot be read.
    pub netns: Option<u64>,
}

/// State of the agent.
#[derive(Clone, Debug)]
pub enum Agent {
    Running(Box<Status>),
    /// No process listens on the socket.
    NotRunning,
    /// This user may not ask it.
    Denied(String),
    /// The agent does not answer, or with something else.
    Silent(String),
}

/// Result of the self-test of SYN cookies on this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SelfTested {
    /// Tried on this kernel with these programs and sysctls: the best, in words.
    Known {
        /// `None`: none works.
        best: Option<String>,
    },
    /// Not tried, or not since something changed that it depends on.
    Stale,
    /// The result is not for everybody's eyes.
    Hidden,
}
