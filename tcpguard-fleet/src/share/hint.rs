//! Hints to the agent: signatures that other hosts have evidence about.

use std::time::Duration;

use tcpguard_engine::{IncidentClass, SharedSignature};

use crate::document::Id;

/// A signature that other hosts have evidence about. It is no verdict: without evidence of this host's own the agent
/// drops nothing because of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// Local port of the floods.
    pub port: u16,
    /// Name of the signature.
    pub id: Id,
    /// The signature.
    pub signature: SharedSignature,
    /// Class that most of the hosts report.
    pub class: IncidentClass,
    /// Number of hosts that report it, at most one of each site where the fleet has several sites, and at most
    /// [`super::MAX_REPORTERS`]. Hosts where clients have the signature do not count.
    pub reporters: u16,
    /// Median of the shares of attack indicators that hold at these hosts, 0 to 1; the lower of two.
    pub confidence: f64,
    /// Time for which it is valid, unless it is given again.
    pub ttl: Duration,
}

impl Hint {
    /// Returns whether the agent should have it again, where it has `given`: its weight differs.
    pub(super) fn differs_from(&self, given: &Self) -> bool {
        self.class != given.class
            || self.reporters.min(2) != given.reporters.min(2)
            || (self.confidence - given.confidence).abs() > 0.1
    }
}
