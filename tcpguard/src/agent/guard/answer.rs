//! What the control socket asks for.

use std::time::Duration;

use tcpguard_engine::{Severity, Timestamp};

use super::{Guard, STORE_LIMIT, clock};
use crate::agent::confirm::Terms;
use crate::agent::writer::Unwritten;
use crate::control::{Peer, RefusalKind, Request, Response, engine_request, response};
use crate::host::boot_time;
use crate::status::{Listener, Time};

impl Guard {
    /// Answers a request of the control socket.
    pub fn answer(&mut self, request: &Request, peer: Peer) -> Response {
        let now = boot_time();
        // First, so that nothing is told of or built upon a mode whose time is over.
        if let Err(error) = self.expire_mode(now) {
            log::error!("{error:#}");
        }
        match request {
            Request::Detach { interfaces } => return self.detach(interfaces, peer),
            Request::SetModeFor { mode, for_s, confirm_s } => {
                let lasts = for_s.map(Duration::from_secs);
                let terms = Terms { lasts, word_within: confirm_s.map(Duration::from_secs) };
                return self.set_mode_for(now, (*mode).into(), terms, peer);
            }
            Request::ConfirmMode { mode } => {
                return self.confirm_mode(now, (*mode).into(), peer);
            }
            Request::AlertsSince { seq } => return self.alerts_since(*seq),
            Request::ExplainPort { prefix, port } => {
                return Response::Explained(Box::new(self.explain(prefix, Some(*port))));
            }
            _ => {}
        }
        let Some(asked) = engine_request(request, peer.uid) else {
            return self.read(request);
        };
        let dry_run = request.is_dry_run();
        let result = if dry_run {
            self.engine.clone().handle_request(now, asked)
        } else {
            let before = request.replaces_rules().then(|| self.state(now));
            let result = self.engine.handle_request(now, asked);
            if let (Some(before), Ok(_)) = (before, &result) {
                // Whichever of the two sets the next agent finds in the kernel, it finds its reasons
                // on the disk.
                let after = self.state(now);
                // If it cannot be, the answer says so of what comes after.
                let _ = self.writer.write_and_wait(before.staging(after.rules), STORE_LIMIT);
            }
            result
        };
        if let (Request::SetMode { mode }, Ok(_)) = (request, &result) {
            // One from the file or the command line does not survive a restart.
            self.set_mode = Some((*mode).into());
            self.mode_clock.settle();
        }
        self.carry_out(now);
        if let (Request::OrderStep { listener, .. }, Ok(_)) = (request, &result) {
            // The kernel may have refused it since.
            if let Some(listener) = self.engine.listener(listener) {
                return Response::StepOrdered(Box::new(Listener::build(&listener, clock())));
            }
        }
        if let Some(why) = self.unreplaced.take() {
            self.unstored = true;
            return Response::refused(RefusalKind::Failed, not_replaced(&why));
        }
        if !dry_run && result.is_ok() {
            let state = self.state(now);
            if let Err(why) = self.writer.write_and_wait(state, STORE_LIMIT) {
                return not_stored(&why);
            }
        }
        response(request, result, clock())
    }

    /// Does what was decided, and looks whether the kernel did it.
    pub(super) fn carry_out(&mut self, now: Timestamp) {
        if let Err(error) = self.act(now).and_then(|()| Ok(self.count_rules()?)) {
            log::error!("{error:#}");
        }
    }

    fn detach(&mut self, interfaces: &[String], peer: Peer) -> Response {
        let bare = self.interfaces.detach(interfaces);
        self.steps.cookies.take_off(|ifindex| bare.iter().any(|one| one.index == ifindex));
        let detached: Vec<String> = bare.into_iter().map(|interface| interface.name).collect();
        if !detached.is_empty() {
            let names = detached.join(", ");
            let message = format!(
                "uid {} took the filter off {names}; put it on again: systemctl restart tcpguard",
                peer.uid
            );
            let all = detached.clone();
            self.tell_of_interfaces(Severity::Warning, "filter_detached", message, all);
        }
        Response::Detached { interfaces: detached }
    }

    fn alerts_since(&self, seq: u64) -> Response {
        let history = self.alerts.history();
        Response::AlertsSince {
            run: self.started_at.as_nanos() / 1_000_000,
            first: history.first(),
            last: history.last(),
            now: Time(clock().wall),
            alerts: history.since(seq),
        }
    }
}

/// What was asked for holds, and may be forgotten.
pub(super) fn not_stored(why: &Unwritten) -> Response {
    let message = format!(
        "it is done, but may be forgotten when the agent starts again: {why}; it is written by itself as \
         soon as that can be: df -h"
    );
    Response::refused(RefusalKind::Unstored, message)
}

fn not_replaced(why: &str) -> String {
    format!("the kernel did not take the rules, and those of before are still there: {why}")
}
