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
    /// The rules that are there no longer, or would not be.
    removed: Vec<Rule>,
    /// Whether nothing was done.
    dry_run: bool,
}

pub(super) fn run(args: &UnblockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let dry_run = args.dry_run;
    let request = match (args.prefix, args.origin.map(Into::into), dry_run) {
        (Some(prefix), None, false) => Request::Unblock { prefix },
        (None, None, false) => Request::UnblockAll,
        (prefix, origin, dry_run) => Request::UnblockSome { prefix, origin, dry_run },
    };
    let removed = match session.client.call(request)? {
        Response::Unblocked { rules } => rules,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        let schema = Unblocked::ID;
        return session.print_document(&Unblocked { schema, removed, dry_run });
    }
    session.render(|out, _| render::removed(out, &removed, dry_run))?;
    if dry_run {
        session.say("nothing was changed; do it: the same command without --dry-run");
    } else if removed.iter().any(|rule| rule.origin == "incident") {
        session.say(
            "rules of an attack that goes on come back; to stop dropping: tcpguard mode observe",
        );
    }
    Ok(())
}
