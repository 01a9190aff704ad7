//! `tcpguard check`

use super::exit::Exit;
use super::session::Session;
use super::status::fetch;
use crate::monitoring::{Level, Report, Threshold, judge};
use crate::render;

/// `tcpguard check`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Warn when a number is outside of its range; may be repeated
    #[arg(long, value_name = "NAME=RANGE")]
    pub warn: Vec<Threshold>,
    /// Raise an alarm when a number is outside of its range; may be repeated
    #[arg(long, value_name = "NAME=RANGE")]
    pub crit: Vec<Threshold>,
}

const EXAMPLES: &str = "\
Names: syn_pps, drop_pps, half_open (%), handshake_ok (%), rules, attacks.
Ranges as monitoring plugins have them: 10 is 0 to 10, 10: is 10 and more, ~:10 is 10 and less,
10:20, and @10:20 is everything else.
Exit codes: 0 OK, 1 WARNING (elevated, degraded, off, an attack that is stopped), 2 CRITICAL (an
attack that nothing stops, filter or rules gone), 3 UNKNOWN (not running, denied, usage).

Examples:
  tcpguard check
  tcpguard check --warn half_open=50 --crit half_open=90 --crit handshake_ok=80:
  tcpguard check --quiet                          # the exit code alone";

pub(super) fn run(args: &CheckArgs, session: &mut Session<'_>) -> Exit {
    let report = match fetch(session) {
        Ok(status) => judge(&status, &args.warn, &args.crit),
        Err(error) => Report::unknown(error.to_string()),
    };
    let printed = match (session.quiet, session.json) {
        (true, _) => Ok(()),
        (false, true) => session.print_document(&report),
        (false, false) => session.render(|out, _| render::check(out, &report)),
    };
    match printed {
        Err(error) if Exit::of(&error) != Exit::Done => {
            session.complain(&error);
            Exit::from(Level::Unknown)
        }
        _ => Exit::from(report.level),
    }
}

impl From<Level> for Exit {
    fn from(level: Level) -> Self {
        match level {
            Level::Ok => Self::Done,
            Level::Warning => Self::Warning,
            Level::Critical => Self::Critical,
            Level::Unknown => Self::Unknown,
        }
    }
}
