//! `tcpguard confirm`

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_engine::Mode;

use super::args::ConfirmArgs;
use super::session::Session;
use super::status::foreign;
use crate::cli::documents::Printed;
use crate::control::{Request, Response};
use crate::documents::{ModeRevert, Rule};
use crate::text;

/// Output of `tcpguard confirm --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Confirmed {
    /// Name and version of this document: `tcpguard.confirm/1`.
    schema: &'static str,
    /// The mode that was confirmed; `null` where it was not pending confirmation.
    mode: Option<Mode>,
    /// Reversion of that mode which is still to come (`--for`); `null` when the mode stays.
    ends: Option<ModeRevert>,
    /// Rules that were confirmed, and stay until they expire.
    rules: Vec<Rule>,
}

pub(super) fn run(args: &ConfirmArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let (mode, ends, rules) = match session.client.call(Request::Confirm { net: args.prefix })? {
        Response::Confirmed { mode, ends, rules } => (mode, ends, rules),
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        let schema = Confirmed::ID;
        return session.print_document(&Confirmed { schema, mode, ends, rules });
    }
    if let Some(mode) = mode {
        session.print(&format!("confirmed mode {}\n", mode.name()))?;
    }
    session.render(|out, view| text::confirmed(out, &rules, view))?;
    if let (Some(mode), Some(ends)) = (mode, &ends) {
        session.say(&text::mode_end(mode, ends, &session.view));
    }
    Ok(())
}
