//! `tcpguard mode`

use super::args::ModeArgs;
use super::session::Session;
use super::status::foreign;
use crate::config::mode_name;
use crate::control::{Request, Response};
use crate::status::Mode;

pub(super) fn run(args: &ModeArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = match args.mode {
        Some(mode) => Request::SetMode { mode: mode.into() },
        None => Request::Mode,
    };
    match session.client.call(request)? {
        Response::Mode { mode } => {
            if session.json {
                return session.print_json(&serde_json::json!({ "mode": mode }));
            }
            session.print(&format!("{}\n", mode_name(mode.into())))?;
        }
        Response::ModeSet { was, mode } => {
            if session.json {
                return session.print_json(&serde_json::json!({ "mode": mode, "was": was }));
            }
            let (mode, was) = (mode_name(mode.into()), mode_name(was.into()));
            session.print(&format!("mode {mode} (was {was})\n"))?;
        }
        other => return Err(foreign(&other).into()),
    }
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
