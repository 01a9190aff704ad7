//! `tcpguard check`

use super::args::CheckArgs;
use super::exit::Exit;
use super::session::Session;
use super::status::fetch;
use crate::monitoring::{Level, Report, judge};
use crate::render;

pub(super) fn run(args: &CheckArgs, session: &mut Session<'_>) -> Exit {
    let report = match fetch(session) {
        Ok(status) => judge(&status, &args.warn, &args.crit),
        Err(error) => Report::without_answer(&error),
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
