//! `tcpguard unblock`

use serde::Serialize;

use super::args::UnblockArgs;
use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::documents::Printed;
use crate::render;
use crate::status::Rule;

/// What `tcpguard unblock --json` and `tcpguard rules flush --json` print.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Unblocked {
    /// Name and version of this document: `tcpguard.unblock/1`.
    schema: &'static str,
    /// The rules that are there no longer.
    removed: Vec<Rule>,
}

pub(super) fn run(args: &UnblockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = match args.prefix {
        Some(prefix) => Request::Unblock { prefix },
        None => Request::UnblockAll,
    };
    let removed = match session.client.call(request)? {
        Response::Unblocked { rules } => rules,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&Unblocked { schema: Unblocked::ID, removed });
    }
    session.render(|out, _| render::removed(out, &removed))?;
    if removed.iter().any(|rule| rule.origin == "incident") {
        session.say(
            "rules of an attack that goes on come back; to stop dropping: tcpguard mode observe",
        );
    }
    Ok(())
}
