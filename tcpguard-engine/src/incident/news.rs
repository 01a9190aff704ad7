//! Alerts about an open incident: whether one is due, and how the last one described it.

use std::time::Duration;

use super::Incident;
use crate::evidence::IncidentClass;
use crate::input::Timestamp;

/// Alerts about actions for an incident are at least this far apart: the actions against a flood that changes
/// its tools change every few seconds. An alert about another class or size is sent at once.
const NOTIFY_EVERY: Duration = Duration::from_secs(60);
/// Handshakes that begin to fail are reported after this long: a flood fails in the same way before its sources are known,
/// and is recognised in this time (docs/evidence/detection.md).
const SURE_AFTER: Duration = Duration::from_secs(2);
/// An alert about a rate that has grown by this factor is sent at once.
const NOTIFY_GROWTH: f64 = 4.0;

/// State of the incident in its last alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notified {
    /// True while the opening is still to be reported.
    pub unreported: bool,
    pub at: Timestamp,
    pub class: IncidentClass,
    pub rate: f64,
    pub actions: usize,
}

impl Incident {
    /// Marks all actions so far as reported: each was reported when it was done.
    pub fn note_actions_notified(&mut self) {
        self.notified.actions = self.actions.len();
    }

    /// Returns whether the alert about its opening waits, because a flood would contradict it a moment later.
    pub fn withholds_opening(&mut self) -> bool {
        self.notified.unreported = self.class == IncidentClass::HandshakeDegraded;
        self.notified.unreported
    }

    /// Has its opening reported with the next news.
    pub fn report_later(&mut self) {
        self.notified.unreported = true;
    }

    /// Returns whether no alert about its opening was sent.
    pub fn is_unreported(&self) -> bool {
        self.notified.unreported
    }

    /// Returns whether no alert about its opening was sent. From now on it counts as sent.
    pub fn takes_unreported(&mut self) -> bool {
        std::mem::take(&mut self.notified.unreported)
    }

    /// Returns whether an alert is due now. If so, it counts as sent, and the class of the previous alert is
    /// returned, `None` where it is the first.
    pub fn news(&mut self, now: Timestamp) -> Option<Option<IncidentClass>> {
        let syn_rate = self.rate;
        let is_first = self.notified.unreported;
        let is_doubtful = self.class == IncidentClass::HandshakeDegraded
            && now.since(self.notified.at) < SURE_AFTER;
        if is_first && is_doubtful {
            return None;
        }
        let before = self.notified.class;
        let reclassified = is_first || self.class != before;
        let grown = syn_rate >= NOTIFY_GROWTH * self.notified.rate.max(1.0);
        let acted = self.actions.len() > self.notified.actions;
        let news = reclassified || grown || (acted && now.since(self.notified.at) >= NOTIFY_EVERY);
        if news {
            self.notified = Notified {
                unreported: false,
                at: now,
                class: self.class,
                rate: syn_rate,
                actions: self.actions.len(),
            };
        }
        news.then_some((!is_first).then_some(before))
    }
}
