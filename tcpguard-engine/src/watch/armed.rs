//! What is remembered of the attacks before: signatures that rules may ask for again.

use tcpguard_common::fastpath::{Fingerprint, Mask};

use super::Watch;
use crate::ladder::Step;
use crate::{Matcher, Timestamp};

/// The time after an attack.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    pub until: Timestamp,
    /// Signatures that stopped it without hurting anyone.
    pub signatures: Vec<(Mask, Fingerprint)>,
}

impl Watch {
    /// After an attack: be quicker for a while.
    pub fn arm(&mut self, until: Timestamp, signatures: Vec<(Mask, Fingerprint)>) {
        self.armed = Some(Box::new(Armed { until, signatures }));
    }

    /// May ask again, if the evidence does, for the rules that an operator removed, of one step or of any.
    /// Their signatures are remembered as those of an attack that ended: what is dropped for its number
    /// meanwhile is never answered, and would give no evidence anew.
    pub fn take_up(&mut self, until: Timestamp, step: Option<Step>) {
        let Some(incident) = &mut self.incident else { return };
        let signature = |matcher| match matcher {
            Matcher::Signature { mask, fingerprint, .. } => Some((mask, fingerprint)),
            Matcher::Source(..) => None,
        };
        let signatures: Vec<_> = incident.take_up(step).into_iter().filter_map(signature).collect();
        if !signatures.is_empty() {
            let armed =
                self.armed.get_or_insert_with(|| Box::new(Armed { until, signatures: Vec::new() }));
            armed.signatures.extend(signatures);
        }
    }
}
