//! The mode for a while: set, confirmed, and taken back.

use std::time::Duration;

use tcpguard_engine::{Event, Mode, Severity, Timestamp};
use tcpguard_host::time::Clock;
use tcpguard_host::units::span;

use super::respond::{PendingResponse, Written};
use super::{Agent, clock};
use crate::config::mode_name;
use crate::control::{Peer, RefusalKind, Response};
use crate::daemon::requests::confirm::{ConfirmError, Lapsed, Terms};
use crate::documents::{AgentEvent, ModeRevert};
use crate::telemetry::Alert;

impl Agent {
    /// The automatic end of the mode, for people and programs.
    pub(in crate::daemon) fn mode_reverts(&self, clock: Clock) -> Option<ModeRevert> {
        self.mode_clock.pending().map(|pending| pending.document(clock))
    }

    /// Reverts a mode that has expired.
    pub(super) fn expire_mode(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if let Some(lapsed) = self.mode_clock.expire(now) {
            self.engine.change_mode(now, lapsed.revert_to);
            self.unstored = true;
            self.alert_lapse(&lapsed);
            self.act(now)?;
        }
        Ok(())
    }

    /// Reports that the mode has reverted.
    pub(in crate::daemon) fn alert_lapse(&mut self, lapsed: &Lapsed) {
        self.raise_own(AgentEvent::ModeReverted {
            from: lapsed.mode,
            to: lapsed.revert_to,
            unconfirmed: lapsed.unconfirmed,
        });
    }

    /// Sets the mode on these terms.
    pub(super) fn set_mode_for(
        &mut self,
        now: Timestamp,
        mode: Mode,
        terms: Terms,
        peer: Peer,
    ) -> PendingResponse {
        let was = self.engine.change_mode(now, mode);
        self.mode_clock.set(now, mode, terms, was);
        let ends = self.mode_reverts(clock());
        let (uid, from, to) = (peer.uid, was, mode);
        let alert = match ends.clone() {
            Some(ends) => Some(Alert::own(AgentEvent::ModeChanged { uid, from, to, ends })),
            None if was != mode => {
                let event = Event::ModeChanged { uid: Some(uid), from, to };
                Some(Alert::of(Severity::Notice, event, None))
            }
            None => None,
        };
        let written = alert.map(|alert| self.alert_mode(now, &alert));
        let response = Response::ModeSet { was, mode, ends };
        match written {
            Some(written) => PendingResponse::OnceWritten(response, written),
            None => response.into(),
        }
    }

    /// Lets the mode stay that waits for an operator's word.
    pub(super) fn confirm_mode(
        &mut self,
        now: Timestamp,
        mode: Mode,
        peer: Peer,
    ) -> PendingResponse {
        match self.mode_clock.confirm(mode) {
            Ok(Some(_)) => {}
            Ok(None) => self.set_mode = Some(mode),
            Err(why) => {
                let message = refusal(&why, self.engine.mode(), mode, now);
                return Response::refused(RefusalKind::NotFound, message).into();
            }
        }
        let ends = self.mode_reverts(clock());
        let event = AgentEvent::ModeConfirmed { uid: peer.uid, mode, ends: ends.clone() };
        let written = self.alert_mode(now, &Alert::own(event));
        let response = Response::ModeSet { was: mode, mode, ends };
        PendingResponse::OnceWritten(response, written)
    }

    /// Carries out a change of the mode, has it written, and reports it.
    fn alert_mode(&mut self, now: Timestamp, alert: &Alert) -> Written {
        self.carry_out(now);
        let written = self.written(now);
        self.raise(alert);
        written
    }
}

/// Returns the reason for which a confirmation changes nothing, with advice. `holds` is the mode now.
fn refusal(why: &ConfirmError, holds: Mode, asked: Mode, now: Timestamp) -> String {
    let (holds, asked) = (mode_name(holds), mode_name(asked));
    match why {
        ConfirmError::NothingPending => format!(
            "no mode waits for a word, and the mode is {holds}; to set one: tcpguard mode {asked}"
        ),
        ConfirmError::Other(_) => {
            format!("the mode is {holds}, not {asked}; to let it stay: tcpguard mode {holds} --yes")
        }
        ConfirmError::NotAsked(pending) => format!(
            "mode {holds} waits for no word: it goes back to {} in {}; to let it stay for good: \
             tcpguard mode {holds}",
            mode_name(pending.revert_to),
            // A mode requested for a minute is reported as a minute.
            span(Duration::from_secs(pending.ends().since(now).as_millis().div_ceil(1000) as u64))
        ),
        ConfirmError::TooLate(lapsed) => format!(
            "too late: nobody confirmed mode {asked} in time, and it went back to {holds} {} ago; to \
             try it once more: tcpguard mode {asked} --confirm 60s",
            span(now.since(lapsed.at))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::requests::confirm::Pending;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    fn pending(confirm_by: Option<u64>, until: Option<u64>) -> Pending {
        let (mode, revert_to) = (Mode::Enforce, Mode::Observe);
        Pending { mode, revert_to, confirm_by: confirm_by.map(at), until: until.map(at) }
    }

    #[test]
    fn a_word_for_nothing_is_answered_with_what_to_do() {
        let lapsed =
            Lapsed { mode: Mode::Enforce, revert_to: Mode::Observe, at: at(88), unconfirmed: true };
        for (why, holds, asked, way_out) in [
            (
                ConfirmError::NothingPending,
                Mode::Off,
                Mode::Enforce,
                "to set one: tcpguard mode enforce",
            ),
            (
                ConfirmError::Other(pending(Some(160), None)),
                Mode::Enforce,
                Mode::Off,
                "not off; to let it stay: tcpguard mode enforce --yes",
            ),
            (
                ConfirmError::NotAsked(pending(None, Some(700))),
                Mode::Enforce,
                Mode::Enforce,
                "it goes back to observe in 10m; to let it stay for good: tcpguard mode enforce",
            ),
            (
                ConfirmError::TooLate(lapsed),
                Mode::Observe,
                Mode::Enforce,
                "it went back to observe 12s ago; to try it once more: tcpguard mode enforce \
                 --confirm 60s",
            ),
        ] {
            let said = refusal(&why, holds, asked, at(100));
            assert!(said.ends_with(way_out), "{said}");
        }
    }
}
