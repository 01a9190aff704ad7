//! `tcpguard reload`

use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let (applied, waiting) = match session.client.call(Request::Reload)? {
        Response::Reloaded { applied, waiting } => (applied, waiting),
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_json(&serde_json::json!({ "applied": applied, "waiting": waiting }));
    }
    let done = match applied.as_slice() {
        [] => "nothing changed\n".to_owned(),
        keys => format!("applied {}\n", keys.join(", ")),
    };
    session.print(&done)?;
    if !waiting.is_empty() {
        let keys = waiting.join(", ");
        session.say(&format!("only a restart applies {keys}: systemctl restart tcpguard"));
    }
    Ok(())
}
