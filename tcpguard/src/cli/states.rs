//! `tcpguard states`

use tcpguard_host::states::{gather, judge};
use tcpguard_host::time::Time;

use super::args::StatesArgs;
use super::session::Session;
use crate::config::{self, Overrides, StateLimits};
use crate::text;

pub(super) fn run(args: &StatesArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let mut facts = gather(Time(jiff::Timestamp::now()), args.queues)?;
    let limits = match config::load(args.config.as_deref(), Overrides::default()) {
        Ok(config) => config.states,
        Err(error) if args.config.is_some() => return Err(error.into()),
        // An operator in this situation has enough to repair; mistakes in the file are another question.
        Err(_) => {
            facts.unread.push("limits of your own: tcpguard config check".to_owned());
            StateLimits::default()
        }
    };
    let report = judge(&facts, &limits.into());
    if session.json {
        return session.print_document(&report);
    }
    session.render(|out, view| text::states(out, &report, view))
}
