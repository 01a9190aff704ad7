//! Listeners that the rules for every listener spare.
//!
//! Such a rule concerns listeners at which nothing is the matter, and whose clients may look like what it drops.
//! New clients who complete a handshake after their SYN was dropped say so, listener by listener. Where they do,
//! cookies are to answer, and the listener is spared as soon as these do, or if hardly anything but clients is
//! dropped there. The rule goes on everywhere else, whether or not others can have cookies.

use super::Engine;
use crate::rules::MOSTLY;
use crate::watch::Shared;
use crate::{Command, ListenerId, Mode, Timestamp};

impl Engine {
    /// Spares the listeners whose clients the rules for every listener hit, and no longer those at which handshakes
    /// fail and no cookies answer.
    pub(super) fn spare_listeners(&mut self, now: Timestamp) {
        let enforced = self.mode == Mode::Enforce;
        let mut rules = self.book.signatures_of(ListenerId::HOST).filter(|_| enforced).peekable();
        let acts = rules.peek().is_some();
        let hits_clients = rules.any(|entry| entry.hits_clients(now, &self.settings.common));
        let mut changed = Vec::new();
        for watch in self.watches.values_mut() {
            let settings = self.settings.of(watch.listener);
            // A rule of its own tells by itself whom it hits.
            let hurts = || {
                hits_clients
                    && self.book.signatures_of(watch.id).next().is_none()
                    && watch.loses_clients(settings.completed_share, settings)
            };
            let is_answered = || watch.is_answered(now, self.saturated, settings);
            let shared = match watch.shared {
                _ if !acts => Shared::Alike,
                Shared::Sparing if is_answered() || !watch.handshakes_failed() => Shared::Sparing,
                _ if !hurts() => Shared::Alike,
                _ if is_answered() || watch.loses_clients(MOSTLY, settings) => Shared::Sparing,
                _ => Shared::Hurting,
            };
            let spared = shared == Shared::Sparing;
            if spared != (watch.shared == Shared::Sparing) {
                changed.push((watch.id, watch.listener, spared));
            }
            watch.shared = shared;
        }
        for (listener, at, spared) in changed {
            self.commands.push_back(Command::SpareListener { listener, spared });
            if let Some(rolled) = self.rolled.as_mut().filter(|_| spared) {
                let why = "its clients look like what they drop";
                let text = format!("{at} is spared the rules for every listener: {why}");
                rolled.incident.note(now, text);
            }
        }
    }
}
