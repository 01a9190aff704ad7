//! `tcpguard reload`: the agent reads its configuration again.

use schemars::JsonSchema;
use serde::Serialize;

use super::session::Session;
use super::status::foreign;
use crate::cli::documents::Printed;
use crate::control::{Request, Response};
use crate::text;

/// Document that `tcpguard reload --json` prints.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Reloaded {
    /// Name and version of this document: `tcpguard.reload/1`.
    schema: &'static str,
    /// Configuration keys with new values that are in effect from now on.
    applied: Vec<String>,
    /// Configuration keys with new values that take effect only after a restart of the agent.
    waiting: Vec<String>,
}

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let (applied, waiting) = match session.client.call(Request::Reload)? {
        Response::Reloaded { applied, waiting } => (applied, waiting),
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&Reloaded { schema: Reloaded::ID, applied, waiting });
    }
    let done = match applied.as_slice() {
        [] => "nothing changed\n".to_owned(),
        keys => format!("applied {}\n", keys.join(", ")),
    };
    session.print(&done)?;
    if let Some((text, hint)) = text::keys_that_wait(&waiting, usize::MAX) {
        session.warn(&text, hint);
    }
    // The configuration names a pin. The kernel may refuse the program, or to hand packets on at all.
    if applied.iter().any(|key| key == "interface.next_program")
        && let Response::Status(status) = session.client.call(Request::Status)?
    {
        for finding in status.health.iter().filter(|finding| finding.code == "next_program") {
            session.warn(&finding.text, finding.hint.as_deref().unwrap_or_default());
        }
    }
    Ok(())
}
