//! The audit log: a line for every request for a change, with its sender and its outcome.

use std::fs;

use log::Level;
use tcpguard_host::stderr;

use crate::control::{Peer, RefusalKind, Request, Response};

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

/// The line as `name=value` pairs. The credentials are the kernel's, not the client's word.
fn line(
    peer: Peer,
    login: Option<u32>,
    users: &str,
    request: &Request,
    response: &Response,
) -> String {
    let pid = peer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    let named = |key: &str, uid: u32| {
        let name = name(uid, users).map_or_else(String::new, |name| format!(" {key}={name}"));
        format!("{uid}{name}")
    };
    let user = named("user", peer.uid);
    let login = match login {
        Some(uid) if uid != peer.uid => format!(" login_uid={}", named("login", uid)),
        _ => String::new(),
    };
    let result = match response {
        Response::Refused(refusal) if refusal.kind == RefusalKind::Unstored => {
            format!("ok, not saved error=\"{}\"", quoted(&refusal.message))
        }
        Response::Refused(refusal) => format!("refused error=\"{}\"", quoted(&refusal.message)),
        _ => "ok".to_owned(),
    };
    let request = quoted(&request.in_brief());
    format!("audit: uid={user} pid={pid}{login} request=\"{request}\" result={result}")
}

/// Text for a value in quotation marks.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The name of a user in this text of /etc/passwd.
fn name(uid: u32, users: &str) -> Option<&str> {
    users.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::ModeShown;
    use tcpguard_engine::Mode;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";

    #[test]
    fn a_line_states_the_caller_the_request_and_its_result() {
        let request = Request::SetMode { mode: Mode::Off, for_s: None, rollback_after_s: None };
        let (mode, was) = (Mode::Off, Some(Mode::Enforce));
        let done = Response::Mode(ModeShown { mode, was, ends: None });
        let refused = Response::refused(RefusalKind::Failed, "no space", "df -h");
        let unstored = Response::refused(RefusalKind::Unstored, "no space", "df -h");
        for (uid, pid, login, response, expected) in [
            (
                0,
                Some(77),
                None,
                &done,
                "audit: uid=0 user=root pid=77 request=\"mode off\" result=ok",
            ),
            (
                0,
                Some(77),
                Some(0),
                &done,
                "audit: uid=0 user=root pid=77 request=\"mode off\" result=ok",
            ),
            (
                0,
                Some(77),
                Some(1000),
                &done,
                "audit: uid=0 user=root pid=77 login_uid=1000 login=alice request=\"mode off\" result=ok",
            ),
            (
                1001,
                None,
                Some(1001),
                &refused,
                "audit: uid=1001 pid=unknown request=\"mode off\" result=refused error=\"no space\"",
            ),
            (
                0,
                Some(77),
                None,
                &unstored,
                "audit: uid=0 user=root pid=77 request=\"mode off\" result=ok, not saved error=\"no space\"",
            ),
        ] {
            let peer = Peer { uid, pid };
            assert_eq!(line(peer, login, USERS, &request, response), expected);
        }
    }
}
