//! `tcpguard check`

use tcpguard_host::hint::Hint as _;

use super::args::CheckArgs;
use super::exit::Exit;
use super::session::Session;
use super::status::fetch;
use crate::control::ClientError;
use crate::documents::monitoring::{Level, Report, judge};
use crate::text;

pub(super) fn run(args: &CheckArgs, session: &mut Session<'_>) -> Exit {
    let report = match fetch(session) {
        Ok(status) => {
            let situation = text::headline(&status).1.into_owned();
            judge(&status, situation, &args.warn, &args.crit)
        }
        Err(error) => Report::without_answer(unanswered(&error), error.with_hint()),
    };
    let printed = match (session.quiet, session.json) {
        (true, _) => Ok(()),
        (false, true) => session.print_document(&report),
        (false, false) => session.render(|out, _| text::check(out, &report)),
    };
    match printed {
        Err(error) if Exit::of(&error) != Exit::Done => {
            session.complain(&error);
            Exit::from(Level::Unknown)
        }
        _ => Exit::from(report.level),
    }
}

/// The level when an agent did not respond. A dead one is critical rather than unknown: nothing protects the
/// host.
const fn unanswered(error: &ClientError) -> Level {
    match error {
        ClientError::NotRunning { .. } | ClientError::Broken { .. } => Level::Critical,
        _ => Level::Unknown,
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
