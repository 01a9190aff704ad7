//! Memory of earlier attacks: signatures that rules may ask for again.

use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::ListenerMonitor;
use crate::input::{Matcher, Mitigation, Timestamp, constants};

constants! {
    /// Time after an incident in which its return is detected at the first bad poll, and its signature
    /// dropped again at once.
    pub(crate) const ALERT_WINDOW: Duration = 600 Seconds in 0..=86_400,
        "Weighed against attackers that return within minutes, and against trusting an old \
         signature for long.";
}

/// The time after an attack.
#[derive(Clone, Debug)]
pub(crate) struct AlertWindow {
    pub until: Timestamp,
    /// Signatures of rules that stopped it without harm to clients.
    pub signatures: Vec<(Mask, Fingerprint)>,
}

impl ListenerMonitor {
    /// After an attack: be quicker for a while.
    pub fn arm(&mut self, until: Timestamp, signatures: Vec<(Mask, Fingerprint)>) {
        self.alert_window = Some(Box::new(AlertWindow { until, signatures }));
    }

    /// Allows requests, if the evidence calls for them, for the rules that an operator removed, of one
    /// mitigation or of any. Their signatures are remembered as those of an attack that ended. Meanwhile SYNs
    /// may be dropped because they are too many. These never get a reply and would give no new evidence.
    pub fn take_up(&mut self, until: Timestamp, mitigation: Option<Mitigation>) {
        let Some(incident) = &mut self.incident else { return };
        let signature = |matcher| match matcher {
            Matcher::Signature { mask, fingerprint, .. } => Some((mask, fingerprint)),
            Matcher::Source(..) => None,
        };
        let signatures: Vec<_> =
            incident.take_up(mitigation).into_iter().filter_map(signature).collect();
        if !signatures.is_empty() {
            let alert_window = self
                .alert_window
                .get_or_insert_with(|| Box::new(AlertWindow { until, signatures: Vec::new() }));
            alert_window.signatures.extend(signatures);
        }
    }
}
