//! `tcpguard unblock`

use super::args::UnblockArgs;
use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::render;

pub(super) fn run(args: &UnblockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = match args.prefix {
        Some(prefix) => Request::Unblock { prefix },
        None => Request::UnblockAll,
    };
    let rules = match session.client.call(request)? {
        Response::Unblocked { rules } => rules,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_json(&serde_json::json!({ "removed": rules }));
    }
    session.render(|out, _| render::removed(out, &rules))?;
    if rules.iter().any(|rule| rule.origin == "incident") {
        session.say(
            "rules of an attack that goes on come back; to stop dropping: tcpguard mode observe",
        );
    }
    Ok(())
}
