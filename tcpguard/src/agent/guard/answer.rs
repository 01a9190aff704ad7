//! What the control socket asks for.

use std::time::Duration;

use tcpguard_engine::Severity;

use super::{Guard, clock};
use crate::control::{Peer, RefusalKind, Request, Response, engine_request, response};
use crate::host::{self, boot_time};
use crate::status::Listener;

/// An answer waits no longer for the disk: polls wait for it.
const STORE_LIMIT: Duration = Duration::from_millis(500);

impl Guard {
    /// Answers a request of the control socket.
    pub fn answer(&mut self, request: &Request, peer: Peer) -> Response {
        let now = boot_time();
        if let Request::Detach { interfaces } = request {
            let before = self.interfaces.guarded();
            let detached = self.interfaces.detach(interfaces);
            let gone = |one: &&host::Interface| detached.contains(&one.name);
            let gone: Vec<u32> = before.iter().filter(gone).map(|one| one.index).collect();
            self.steps.cookies.take_off(|ifindex| gone.contains(&ifindex));
            if !detached.is_empty() {
                let names = detached.join(", ");
                let message = format!("uid {} took the filter off {names}", peer.uid);
                let all = detached.clone();
                self.tell_of_interfaces(Severity::Warning, "filter_detached", message, all);
            }
            return Response::Detached { interfaces: detached };
        }
        let Some(asked) = engine_request(request, peer.uid) else {
            return self.read(request);
        };
        let dry_run = matches!(
            request,
            Request::Block { dry_run: true, .. } | Request::ImportRules { dry_run: true, .. }
        );
        let result = if dry_run {
            self.engine.clone().handle_request(now, asked)
        } else {
            let pid = peer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            log::info!("uid {} (pid {pid}): {}", peer.uid, request.in_brief());
            let before = request.replaces_rules().then(|| self.state(now));
            let result = self.engine.handle_request(now, asked);
            if let (Some(before), Ok(_)) = (before, &result) {
                // Whichever of the two sets the next agent finds in the kernel, it finds its reasons
                // on the disk.
                let after = self.state(now);
                self.writer.write_and_wait(before.staging(after.rules), STORE_LIMIT);
            }
            result
        };
        if let (Request::SetMode { mode }, Ok(_)) = (request, &result) {
            // One from the file or the command line does not survive a restart.
            self.set_mode = Some((*mode).into());
        }
        if let Err(error) = self.act(now).and_then(|()| self.compare_rules(now)) {
            log::error!("{error:#}");
        }
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
            self.writer.write_and_wait(state, STORE_LIMIT);
        }
        response(request, result, clock())
    }
}

fn not_replaced(why: &str) -> String {
    format!(
        "the kernel did not take the rules ({why}), and those of before are still there; try again"
    )
}
