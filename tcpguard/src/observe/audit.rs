//! Who changed what: a line for every request for a change, whatever came of it.

use log::Level;

use super::stderr;
use crate::control::{Peer, Request, Response};

/// Writes the line, however little else the agent was told to write.
pub(crate) fn audit(peer: Peer, request: &Request, response: &Response) {
    stderr::write(Level::Info, &line(peer, request, response));
}

/// The credentials are the kernel's, not the client's word.
fn line(peer: Peer, request: &Request, response: &Response) -> String {
    let pid = peer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    let outcome = match response {
        Response::Refused(refusal) => format!("refused: {}", refusal.message),
        _ => "done".to_owned(),
    };
    format!("uid {} (pid {pid}): {}: {outcome}", peer.uid, request.in_brief())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RefusalKind;
    use crate::status::Mode;

    #[test]
    fn a_line_says_who_asked_for_what_and_what_came_of_it() {
        let request = Request::SetMode { mode: Mode::Off };
        let done = Response::ModeSet { was: Mode::Enforce, mode: Mode::Off, ends: None };
        let root = Peer { uid: 0, pid: Some(77) };
        let told = line(root, &request, &done);
        assert!(told.starts_with("uid 0 (pid 77): SetMode") && told.ends_with(": done"), "{told}");
        let refused = Response::refused(RefusalKind::Failed, "the kernel did not take it");
        let told = line(Peer { uid: 1000, pid: None }, &request, &refused);
        assert!(told.starts_with("uid 1000 (pid unknown): SetMode"), "{told}");
        assert!(told.ends_with("refused: the kernel did not take it"), "{told}");
    }
}
