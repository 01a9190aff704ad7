//! The audit log: a line for every request for a change, with its sender and its outcome.

use std::fs;

use log::Level;

use super::stderr;
use crate::control::{Peer, Request, Response};

/// The login of a process that no login began.
const NO_LOGIN: u32 = u32::MAX;

/// Writes the line, whatever log level is set for the agent.
pub(crate) fn audit(peer: Peer, request: &Request, response: &Response) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    // The client waits for the answer. The user that called sudo is in no environment that could be
    // believed.
    let login = peer.pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/loginuid")).ok());
    let login = login.and_then(|login| login.trim().parse().ok()).filter(|uid| *uid != NO_LOGIN);
    stderr::write(Level::Info, &line(peer, login, &users, request, response));
}

/// The credentials are the kernel's, not the client's word.
fn line(
    peer: Peer,
    login: Option<u32>,
    users: &str,
    request: &Request,
    response: &Response,
) -> String {
    let pid = peer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    let login = match login {
        Some(uid) if uid != peer.uid => format!(", logged in as {}", name(uid, users)),
        _ => String::new(),
    };
    let outcome = match response {
        Response::Refused(refusal) => format!("refused: {}", refusal.message),
        _ => "done".to_owned(),
    };
    format!("{} (pid {pid}{login}): {}: {outcome}", name(peer.uid, users), request.in_brief())
}

/// The name of a user in this text of /etc/passwd; `uid 1000` where it has none.
fn name(uid: u32, users: &str) -> String {
    let mut lines = users.lines().map(|line| line.split(':'));
    let found = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RefusalKind;
    use tcpguard_engine::Mode;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";

    #[test]
    fn a_line_states_the_caller_the_request_and_its_result() {
        let request = Request::SetMode { mode: Mode::Off, for_s: None, confirm_s: None };
        let done = Response::ModeSet { was: Mode::Enforce, mode: Mode::Off, ends: None };
        let refused = Response::refused(RefusalKind::Failed, "the kernel did not take it");
        for (uid, pid, login, response, expected) in [
            (0, Some(77), None, &done, "root (pid 77): mode off: done"),
            (0, Some(77), Some(0), &done, "root (pid 77): mode off: done"),
            (0, Some(77), Some(1000), &done, "root (pid 77, logged in as alice): mode off: done"),
            (
                1001,
                None,
                Some(1001),
                &refused,
                "uid 1001 (pid unknown): mode off: refused: the kernel did not take it",
            ),
        ] {
            let peer = Peer { uid, pid };
            assert_eq!(line(peer, login, USERS, &request, response), expected);
        }
    }
}
