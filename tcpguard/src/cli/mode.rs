//! `tcpguard mode`

use serde::Serialize;

use super::args::ModeArgs;
use super::session::Session;
use super::status::foreign;
use crate::config::mode_name;
use crate::control::{Request, Response};
use crate::documents::Printed;
use crate::status::Mode;

/// What `tcpguard mode --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ModeShown {
    /// Name and version of this document: `tcpguard.mode/1`.
    schema: &'static str,
    /// The mode that holds.
    mode: Mode,
    /// The mode before; only where it was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<Mode>,
}

pub(super) fn run(args: &ModeArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = match args.mode {
        Some(mode) => Request::SetMode { mode: mode.into() },
        None => Request::Mode,
    };
    let (mode, was) = match session.client.call(request)? {
        Response::Mode { mode } => (mode, None),
        Response::ModeSet { was, mode } => (mode, Some(was)),
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&ModeShown { schema: ModeShown::ID, mode, was });
    }
    let name = mode_name(mode.into());
    session.print(&match was {
        Some(was) => format!("mode {name} (was {})\n", mode_name(was.into())),
        None => format!("{name}\n"),
    })?;
    if let Some(mode) = args.mode {
        session.say(consequence(mode.into()));
    }
    Ok(())
}

const fn consequence(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "rules drop from now on; watch what they do: tcpguard status --watch",
        Mode::Observe => "rules only count from now on; see what they would drop: tcpguard status",
        Mode::Off => "nothing is matched from now on; switch on again: tcpguard mode observe",
    }
}
