//! `tcpguard mode`

use std::time::Duration;

use super::args::ModeArgs;
use super::duration;
use super::exit::CliError;
use super::session::Session;
use super::status::foreign;
use crate::config::mode_name;
use crate::control::proto::check_terms;
use crate::control::{Request, Response};
use crate::render;
use crate::status::Mode;

/// For how long a mode is set.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Terms {
    /// Go back to the mode before after this time, such as 90s, 10m or 1h30m
    #[arg(long = "for", value_name = "TIME", requires = "mode", value_parser = duration::parse)]
    lasts: Option<Duration>,
    /// Go back after this time unless `tcpguard mode MODE --yes` comes before, also if the agent is
    /// killed or the host starts again
    #[arg(long, value_name = "TIME", requires = "mode", value_parser = duration::parse)]
    confirm: Option<Duration>,
    /// Let the mode stay that was set with --confirm
    #[arg(long, requires = "mode", conflicts_with_all = ["lasts", "confirm"])]
    yes: bool,
}

/// The end of the help.
pub(super) const EXAMPLES: &str = "\
What comes back is the mode that was set last without --for and --confirm.

Examples:
  tcpguard mode                                   # which one holds, and for how long
  tcpguard mode enforce --confirm 60s             # back to observe unless confirmed
  tcpguard mode enforce --yes                     # it may stay
  tcpguard mode observe --for 10m                 # drop nothing for ten minutes";

pub(super) fn run(args: &ModeArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let (mode, ends) = match session.client.call(request(args)?)? {
        Response::Mode { mode, ends } => {
            if session.json {
                return session.print_json(&serde_json::json!({ "mode": mode, "ends": ends }));
            }
            session.print(&format!("{}\n", mode_name(mode.into())))?;
            (mode, ends)
        }
        Response::ModeSet { was, mode, ends } => {
            if session.json {
                let json = serde_json::json!({ "mode": mode, "was": was, "ends": ends });
                return session.print_json(&json);
            }
            let (new, old) = (mode_name(mode.into()), mode_name(was.into()));
            match args.terms.yes {
                true => session.print(&format!("mode {new} confirmed\n"))?,
                false => session.print(&format!("mode {new} (was {old})\n"))?,
            }
            session.say(consequence(mode));
            (mode, ends)
        }
        other => return Err(foreign(&other).into()),
    };
    match &ends {
        Some(ends) => session.say(&render::mode_end(mode, ends, &session.view)),
        None if args.terms.lasts.or(args.terms.confirm).is_some() => session.say(&format!(
            "the mode was {0} before, so it stays; see when one goes back: tcpguard mode",
            mode_name(mode.into())
        )),
        None => {}
    }
    Ok(())
}

fn request(args: &ModeArgs) -> Result<Request, CliError> {
    let Terms { lasts, confirm, yes } = args.terms;
    let Some(mode) = args.mode.map(Mode::from) else { return Ok(Request::Mode) };
    let [for_s, confirm_s] = [lasts, confirm].map(|time| time.map(|time| time.as_secs()));
    match (for_s.or(confirm_s), yes) {
        (Some(_), _) => {
            check_terms(for_s, confirm_s).map_err(CliError::Usage)?;
            Ok(Request::SetModeFor { mode, for_s, confirm_s })
        }
        (None, true) => Ok(Request::ConfirmMode { mode }),
        (None, false) => Ok(Request::SetMode { mode }),
    }
}

const fn consequence(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "rules drop from now on; watch what they do: tcpguard status --watch",
        Mode::Observe => "rules only count from now on; see what they would drop: tcpguard status",
        Mode::Off => "nothing is matched from now on; switch on again: tcpguard mode observe",
    }
}
