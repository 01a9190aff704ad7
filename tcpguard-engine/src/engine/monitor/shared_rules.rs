//! Exclusion of a listener whose own clients the rules for every listener would drop.

use super::ListenerMonitor;
use crate::mitigation::MitigationReason;
use crate::rules::{COMPLETED_MIN, COMPLETED_WINDOW};

/// Effect of the rules for every listener on one of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Shared {
    /// The rules act on it as on any other.
    #[default]
    Alike,
    /// The rules drop the SYNs of its clients.
    Harmful,
    /// The rules do not apply to it.
    Exempting,
    /// Nor here, by its configuration.
    Barred,
}

impl Shared {
    pub fn is_exempt(self) -> bool {
        matches!(self, Self::Exempting | Self::Barred)
    }
}

impl ListenerMonitor {
    /// Returns whether new clients in number have completed a handshake here after a signature rule had dropped their first
    /// SYN, and made more than this `share` of the SYNs that rules match here. Each costs an attacker a handshake
    /// from a real address.
    pub fn loses_clients(&self, share: f64) -> bool {
        let sums = self.window.last(COMPLETED_WINDOW);
        let all = sums.matched + sums.let_through;
        sums.let_through >= COMPLETED_MIN && sums.let_through as f64 > share * all as f64
    }

    /// The reason for cookies where clients have a signature that is dropped everywhere.
    pub fn resembles_the_flood(&self) -> Option<MitigationReason> {
        let resembles = matches!(self.shared, Shared::Harmful | Shared::Exempting);
        resembles.then_some(MitigationReason::ClientsMatchSharedRule)
    }
}
