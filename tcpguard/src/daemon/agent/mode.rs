//! The mode for a while: set, confirmed, and taken back.

use std::time::Duration;

use tcpguard_engine::{Mode, Severity, Timestamp};
use tcpguard_host::time::Clock;
use tcpguard_host::units::span;

use super::respond::{PendingResponse, Written};
use super::{Agent, clock};
use crate::config::mode_name;
use crate::control::{Peer, RefusalKind, Response};
use crate::daemon::requests::confirm::{ConfirmError, Lapsed, Pending, Terms};
use crate::documents::ModeRevert;
use crate::text::User;

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

    /// Says that the mode has gone back.
    pub(in crate::daemon) fn alert_lapse(&mut self, lapsed: &Lapsed) {
        let (mode, revert_to) = (mode_name(lapsed.mode), mode_name(lapsed.revert_to));
        let (severity, message) = if lapsed.unconfirmed {
            let message = format!(
                "mode reverted to {revert_to}: {mode} was not confirmed in time. Retry: tcpguard mode {mode} --confirm 60s"
            );
            (Severity::Warning, message)
        } else {
            (
                Severity::Notice,
                format!(
                    "mode reverted to {revert_to}: the time of {mode} is over. Set it permanently: tcpguard mode {mode}"
                ),
            )
        };
        self.raise_own(severity, "mode_reverted", message);
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
        let (user, to) = (User(peer.uid), mode_name(mode));
        let did = if was != mode {
            Some(format!("{user} changed the mode from {} to {to}", mode_name(was)))
        } else {
            self.mode_clock.pending().map(|_| format!("{user} keeps mode {to}"))
        };
        let written = did.map(|did| self.alert_mode(now, "mode_changed", did));
        let ends = self.mode_reverts(clock());
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
        let did = format!("{} confirmed mode {}", User(peer.uid), mode_name(mode));
        let written = self.alert_mode(now, "mode_confirmed", did);
        let ends = self.mode_reverts(clock());
        let response = Response::ModeSet { was: mode, mode, ends };
        PendingResponse::OnceWritten(response, written)
    }

    /// Carries out a change of the mode, has it written, and reports it.
    fn alert_mode(&mut self, now: Timestamp, event: &str, did: String) -> Written {
        self.carry_out(now);
        let written = self.written(now);
        let message = match self.mode_clock.pending() {
            Some(pending) => {
                let mode = mode_name(pending.mode);
                let word = if pending.confirm_by.is_some() { " --yes" } else { "" };
                let back = back(pending, now);
                format!("{did}; it reverts {back}; keep it: tcpguard mode {mode}{word}")
            }
            None => did,
        };
        self.raise_own(Severity::Notice, event, message);
        written
    }
}

/// The mode to which it reverts, and the time: `to observe in 10m`.
fn back(pending: &Pending, now: Timestamp) -> String {
    // A mode requested for a minute is reported as a minute.
    let left =
        |at: Timestamp| span(Duration::from_secs(at.since(now).as_millis().div_ceil(1000) as u64));
    let until = pending.until.map(|at| format!("in {}", left(at)));
    let confirm_by = pending.confirm_by.map(|at| format!("in {} unless it is confirmed", left(at)));
    let ends: Vec<String> = until.into_iter().chain(confirm_by).collect();
    format!("to {} {}", mode_name(pending.revert_to), ends.join(", and "))
}

/// Returns the reason for which a confirmation changes nothing, with advice. `holds` is the mode now.
fn refusal(why: &ConfirmError, holds: Mode, asked: Mode, now: Timestamp) -> String {
    let (holds, asked) = (mode_name(holds), mode_name(asked));
    match why {
        ConfirmError::NothingPending => format!(
            "no mode is pending confirmation, and the mode is {holds}; set one: tcpguard mode {asked}"
        ),
        ConfirmError::Other(_) => {
            format!("the mode is {holds}, not {asked}; confirm it: tcpguard mode {holds} --yes")
        }
        ConfirmError::NotAsked(pending) => format!(
            "mode {holds} needs no confirmation; it reverts {}; keep it: tcpguard mode {holds}",
            back(pending, now)
        ),
        ConfirmError::TooLate(lapsed) => format!(
            "too late: mode {asked} was not confirmed in time and reverted to {holds} {} ago; retry: \
             tcpguard mode {asked} --confirm 60s",
            span(now.since(lapsed.at))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    fn pending(confirm_by: Option<u64>, until: Option<u64>) -> Pending {
        let (mode, revert_to) = (Mode::Enforce, Mode::Observe);
        Pending { mode, revert_to, confirm_by: confirm_by.map(at), until: until.map(at) }
    }

    #[test]
    fn the_journal_says_when_the_mode_reverts() {
        for (confirm_by, until, words) in [
            (Some(160), None, "to observe in 1m unless it is confirmed"),
            (None, Some(700), "to observe in 10m"),
            (Some(160), Some(700), "to observe in 10m, and in 1m unless it is confirmed"),
        ] {
            let now = at(100) + Duration::from_millis(7);
            assert_eq!(back(&pending(confirm_by, until), now), words);
        }
    }

    #[test]
    fn a_confirmation_of_nothing_is_refused_with_the_next_command() {
        let lapsed =
            Lapsed { mode: Mode::Enforce, revert_to: Mode::Observe, at: at(88), unconfirmed: true };
        for (why, holds, asked, way_out) in [
            (
                ConfirmError::NothingPending,
                Mode::Off,
                Mode::Enforce,
                "set one: tcpguard mode enforce",
            ),
            (
                ConfirmError::Other(pending(Some(160), None)),
                Mode::Enforce,
                Mode::Off,
                "not off; confirm it: tcpguard mode enforce --yes",
            ),
            (
                ConfirmError::NotAsked(pending(None, Some(700))),
                Mode::Enforce,
                Mode::Enforce,
                "it reverts to observe in 10m; keep it: tcpguard mode enforce",
            ),
            (
                ConfirmError::TooLate(lapsed),
                Mode::Observe,
                Mode::Enforce,
                "reverted to observe 12s ago; retry: tcpguard mode enforce --confirm 60s",
            ),
        ] {
            let said = refusal(&why, holds, asked, at(100));
            assert!(said.ends_with(way_out), "{said}");
        }
    }
}
