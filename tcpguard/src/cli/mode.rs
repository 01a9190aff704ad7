//! `tcpguard mode`

use super::args::ModeArgs;
use super::error::CliError;
use super::exit::Exit;
use super::session::Session;
use crate::control::proto::check_terms;
use crate::control::{Request, Response};
use crate::documents::ModeShown;
use crate::text;
use tcpguard_engine::Mode;

pub(super) fn run(args: &ModeArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let shown = session.client.ask(request(args)?, Response::try_as_mode)?;
    if session.json {
        return session.print_document(&shown);
    }
    let ModeShown { mode, was, ends } = shown;
    let name = mode.name();
    session.print(&match was {
        Some(was) => format!("mode {name} (was {})\n", was.name()),
        None => format!("{name}\n"),
    })?;
    if was.is_some() {
        session.say(consequence(mode));
    }
    match &ends {
        Some(ends) => session.say(&text::mode_end(mode, ends, &session.view)),
        None if args.lasts.or(args.rollback_after).is_some() => session.say(&format!(
            "the mode was {0} already, so it does not revert; see: tcpguard mode",
            mode.name()
        )),
        None => {}
    }
    Ok(())
}

fn request(args: &ModeArgs) -> Result<Request, CliError> {
    let Some(mode) = args.mode else { return Ok(Request::Mode) };
    let [for_s, rollback_after_s] =
        [args.lasts, args.rollback_after].map(|time| time.map(|time| time.as_secs()));
    check_terms(for_s, rollback_after_s)
        .map_err(|error| CliError::with_exit(Exit::Invalid, &error))?;
    Ok(Request::SetMode { mode, for_s, rollback_after_s })
}

const fn consequence(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "rules drop now; watch their effect: tcpguard status --watch",
        Mode::Observe => "rules only count now; see what they would drop: tcpguard status",
        Mode::Off => "rules are not matched now; to count again: tcpguard mode observe",
    }
}
