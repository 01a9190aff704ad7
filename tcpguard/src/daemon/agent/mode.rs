//! Temporary modes, and confirmations.

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{Event, Mode, RequestError, Timestamp};
use tcpguard_host::hint::Failure;
use tcpguard_host::time::Clock;
use tcpguard_host::units::span;

use super::respond::{PendingResponse, Written};
use super::{Agent, clock};
use crate::control::proto::Change;
use crate::control::proto::Refusal;
use crate::control::{Peer, RefusalKind, Request, Response, response};
use crate::daemon::mode_clock::{ConfirmError, Lapsed, Pending, Terms};
use crate::documents::{AgentEvent, Confirmed, ModeRevert, ModeShown};
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
            self.records.unstored = true;
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
                Some(Alert::of(event, None))
            }
            None => None,
        };
        let written = alert.map(|alert| self.alert_mode(now, &alert));
        let response = Response::Mode(ModeShown { mode, was: Some(was), ends });
        match written {
            Some(written) => PendingResponse::OnceWritten(response, written),
            None => response.into(),
        }
    }

    /// Keeps the rules within `net`, or the mode and all rules, that are pending confirmation.
    pub(super) fn confirm(
        &mut self,
        now: Timestamp,
        net: Option<IpNet>,
        peer: Peer,
    ) -> PendingResponse {
        let confirmed = match net {
            None => self.mode_clock.confirm(),
            Some(_) => Err(ConfirmError::NothingPending),
        };
        let change = Change::ConfirmRules { net };
        let rules = self.engine.handle_request(now, peer.uid, change);
        let mode = self.engine.mode();
        let mut written = None;
        match (confirmed, &rules) {
            (Ok(rest), _) => {
                if rest.is_none() {
                    self.mode_clock.set_for_good = Some(mode);
                }
                let ends = self.mode_reverts(clock());
                let event = AgentEvent::ModeConfirmed { uid: peer.uid, mode, ends };
                written = Some(self.alert_mode(now, &Alert::own(event)));
            }
            (Err(why), Err(RequestError::NotPending { net: None })) => {
                let refusal = Refusal::of(RefusalKind::NotFound, unconfirmed(&why, mode, now));
                return Response::Refused(refusal).into();
            }
            (Err(_), Ok(_)) => self.carry_out(now),
            (Err(_), Err(_)) => {}
        }
        let confirmed = written.is_some();
        let rules = match response(&Request::Confirm { net }, rules, clock()) {
            Response::Confirmed(Confirmed { rules, .. }) => rules,
            _ if confirmed => Vec::new(),
            refused => return refused.into(),
        };
        let written = written.unwrap_or_else(|| self.written());
        let ends = if confirmed { self.mode_reverts(clock()) } else { None };
        let confirmed = Confirmed { mode: confirmed.then_some(mode), ends, rules };
        PendingResponse::OnceWritten(Response::Confirmed(confirmed), written)
    }

    /// Carries out a change of the mode, has it written, and reports it.
    fn alert_mode(&mut self, now: Timestamp, alert: &Alert) -> Written {
        self.carry_out(now);
        let written = self.written();
        self.raise(alert);
        written
    }
}

/// The mode to which it reverts, and when: `to observe in 10m`.
fn back(pending: &Pending, now: Timestamp) -> String {
    // A mode requested for a minute is reported as a minute.
    let left =
        |at: Timestamp| span(Duration::from_secs(at.since(now).as_millis().div_ceil(1000) as u64));
    let until = pending.until.map(|at| format!("in {}", left(at)));
    let confirm_by = pending.confirm_by.map(|at| format!("in {} unless confirmed", left(at)));
    let ends: Vec<String> = until.into_iter().chain(confirm_by).collect();
    format!("to {} {}", pending.revert_to.name(), ends.join(", and "))
}

/// Returns the reason for which a confirmation changes nothing. `mode` is the mode now.
fn unconfirmed(why: &ConfirmError, mode: Mode, now: Timestamp) -> Failure {
    let mode = mode.name();
    match why {
        ConfirmError::NothingPending => Failure::new(
            format!("no change is pending confirmation (current mode: {mode})"),
            "tcpguard mode",
        ),
        ConfirmError::NotAsked(pending) => Failure::new(
            format!("mode {mode} (--for) needs no confirmation: it reverts {}", back(pending, now)),
            format!("to keep it: tcpguard mode {mode}"),
        ),
        ConfirmError::TooLate(lapsed) => {
            let (late, revert_to) = (lapsed.mode.name(), lapsed.revert_to.name());
            let ago = span(now.since(lapsed.at));
            Failure::new(
                format!(
                    "mode {late} was not confirmed in time: it reverted to {revert_to} {ago} ago"
                ),
                format!("tcpguard mode {late} --rollback-after 60s"),
            )
        }
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
    fn a_pending_revert_names_the_mode_and_the_time() {
        for (confirm_by, until, words) in [
            (Some(160), None, "to observe in 1m unless confirmed"),
            (None, Some(700), "to observe in 10m"),
            (Some(160), Some(700), "to observe in 10m, and in 1m unless confirmed"),
        ] {
            let now = at(100) + Duration::from_millis(7);
            assert_eq!(back(&pending(confirm_by, until), now), words);
        }
    }

    #[test]
    fn a_confirmation_that_changes_nothing_names_the_next_command() {
        let lapsed =
            Lapsed { mode: Mode::Enforce, revert_to: Mode::Observe, at: at(88), unconfirmed: true };
        for (why, mode, end, hint) in [
            (ConfirmError::NothingPending, Mode::Off, "(current mode: off)", "tcpguard mode"),
            (
                ConfirmError::NotAsked(pending(None, Some(700))),
                Mode::Enforce,
                "it reverts to observe in 10m",
                "to keep it: tcpguard mode enforce",
            ),
            (
                ConfirmError::TooLate(lapsed),
                Mode::Observe,
                "it reverted to observe 12s ago",
                "tcpguard mode enforce --rollback-after 60s",
            ),
        ] {
            let failure = unconfirmed(&why, mode, at(100));
            assert!(failure.message.ends_with(end), "{failure}");
            assert_eq!(failure.hint, hint);
        }
    }
}
