//! Requests of the control socket, and their responses.

use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::linux::boot_time;
use tcpguard_host::time::Time;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::start::STATE_LOST;
use super::{Agent, clock};
use crate::control::proto::Change;
use crate::control::{Peer, RefusalKind, Request, Response, response};
use crate::daemon::hint::logged;
use crate::daemon::mode_clock::Terms;
use crate::daemon::store::writer::Unwritten;
use crate::documents::{AgentEvent, AlertPage, Detached, Listener, Ordered};

/// A response waits no longer for the disk: the client waits five seconds for all of it.
const DISK_LIMIT: Duration = Duration::from_secs(2);
/// The rules of a set replace those of another when the disk has both, or after so long: polls wait for it.
const STAGING_LIMIT: Duration = Duration::from_millis(500);
/// Time by which each rule, which takes 300 bytes, extends `STAGING_LIMIT`.
const STAGING_RULE: Duration = Duration::from_micros(5);

/// A response, and its time.
#[derive(Debug)]
pub enum PendingResponse {
    AtOnce(Response),
    /// Sent once the change is on the disk: a change that was reported to an operator as done must not be lost.
    OnceWritten(Response, Written),
}

/// Result of a write.
pub(super) type Written = oneshot::Receiver<Result<(), Unwritten>>;

impl PendingResponse {
    /// The answer, when it is time. Without the disk's word in time it says that.
    pub async fn when_due(self) -> Response {
        let (response, written) = match self {
            Self::AtOnce(response) => return response,
            Self::OnceWritten(response, written) => (response, written),
        };
        match timeout(DISK_LIMIT, written).await.ok().and_then(Result::ok) {
            Some(Ok(())) => response,
            Some(Err(why)) => not_stored(&why),
            None => not_stored(&Unwritten::Slow { waited: DISK_LIMIT }),
        }
    }
}

impl From<Response> for PendingResponse {
    fn from(response: Response) -> Self {
        Self::AtOnce(response)
    }
}

impl Agent {
    /// Answers a request of the control socket.
    pub fn respond(&mut self, request: &Request, peer: Peer) -> PendingResponse {
        let now = boot_time();
        // First, so that no response mentions or builds upon a mode that has expired.
        if let Err(error) = self.expire_mode(now) {
            log::error!("mode not reverted: {}", logged(&error));
        }
        let (mut change, dry_run) = match request {
            Request::Detach { interfaces } => return self.detach(interfaces, peer).into(),
            Request::SetMode { mode, for_s: None, rollback_after_s: None } => {
                (Change::SetMode { mode: *mode }, false)
            }
            Request::SetMode { mode, for_s, rollback_after_s } => {
                let lasts = for_s.map(Duration::from_secs);
                let confirm_within = rollback_after_s.map(Duration::from_secs);
                let terms = Terms { lasts, confirm_within };
                return self.set_mode_for(now, *mode, terms, peer);
            }
            Request::Confirm { net } => return self.confirm(now, *net, peer),
            Request::CapturedSyns { after } => return self.captured(now, *after).into(),
            Request::Change { change, dry_run } => (change.clone(), *dry_run),
            _ => return self.read(request).into(),
        };
        if let Change::Block { net, clients, .. } = &mut change {
            *clients = self.executor.clients_within(net);
        }
        let result = if dry_run {
            self.engine.clone().handle_request(now, peer.uid, change)
        } else {
            let before = request.replaces_rules().then(|| self.state());
            let result = self.engine.handle_request(now, peer.uid, change);
            if let (Some(before), Ok(_)) = (before, &result) {
                // Whichever of the two sets the next agent finds in the kernel, it finds its reasons
                // on the disk.
                let after = self.state();
                let rules = before.rules.len() + after.rules.len();
                let limit = STAGING_LIMIT + STAGING_RULE * rules as u32;
                // If that fails, the response reports the result of the later write.
                let _ = self.records.writer.write_and_wait(before.staging(after.rules), limit);
            }
            result
        };
        if let (Request::SetMode { mode, .. }, Ok(_)) = (request, &result) {
            // One from the file or the command line does not survive a restart.
            self.mode_clock.settle(*mode);
            self.health.retain(|finding| finding.code != STATE_LOST);
        }
        self.carry_out(now);
        if let Request::Change { change: Change::OrderMitigation { listener, .. }, .. } = request
            && result.is_ok()
        {
            // The kernel may have refused it since.
            if let Some(listener) = self.engine.listener(listener) {
                let listener = Listener::build(&listener, clock());
                return Response::MitigationOrdered(Box::new(Ordered { listener })).into();
            }
        }
        if let Some(why) = self.unreplaced.take() {
            self.records.unstored = true;
            let message = format!("rules not replaced, the previous ones stay: {why}");
            return Response::refused(RefusalKind::Failed, message, "tcpguard doctor").into();
        }
        let written = (!dry_run && result.is_ok()).then(|| self.written());
        let response = response(request, result, clock());
        match written {
            Some(written) => PendingResponse::OnceWritten(response, written),
            None => response.into(),
        }
    }

    /// Hands the state to the writer. Returns the receiver of the result.
    pub(super) fn written(&mut self) -> Written {
        let (sender, written) = oneshot::channel();
        let state = self.state();
        self.records.writer.write_then(state, |result| {
            // A client that has stopped waiting needs no result.
            let _ = sender.send(result);
        });
        written
    }

    /// Carries out the decisions, and checks that the kernel did so.
    pub(super) fn carry_out(&mut self, now: Timestamp) {
        if let Err(error) = self.act(now).and_then(|()| Ok(self.repairs.count(&self.executor)?)) {
            log::error!("change not carried out in full: {}", logged(&error));
        }
    }

    fn detach(&mut self, interfaces: &[String], peer: Peer) -> Response {
        let bare = self.programs.interfaces.detach(interfaces, &self.executor.dataplane);
        self.mitigations.cookies.detach(|ifindex| bare.iter().any(|one| one.index == ifindex));
        let detached: Vec<String> = bare.into_iter().map(|interface| interface.name).collect();
        if !detached.is_empty() {
            let (uid, interfaces) = (peer.uid, detached.clone());
            self.raise_own(AgentEvent::FilterDetached { uid, interfaces });
        }
        Response::Detached(Detached { detached })
    }

    pub(in crate::daemon) fn alerts_since(&self, seq: u64) -> Response {
        let history = self.records.alerts.history();
        Response::Alerts(AlertPage {
            run: self.readings.started_at.as_nanos() / 1_000_000,
            first: history.first(),
            last: history.last(),
            now: Time(clock().wall),
            alerts: history.since(seq),
        })
    }
}

/// The requested change is in force, but not saved.
fn not_stored(why: &Unwritten) -> Response {
    let message =
        format!("applied, but not saved: {why}; a restart before the next attempt loses it");
    Response::refused(RefusalKind::Unstored, message, "df -h")
}
