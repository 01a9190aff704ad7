//! `tcpguard reload`: the agent reads its configuration again.

use super::session::Session;
use crate::control::{Request, Response};
use crate::documents::Reloaded;
use crate::text;

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let reloaded = session.client.ask(Request::Reload, Response::try_as_reloaded)?;
    if session.json {
        return session.print_document(&reloaded);
    }
    let Reloaded { applied, waiting } = reloaded;
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
