//! `tcpguard states`

use super::args::StatesArgs;
use super::session::Session;
use crate::checkup::states::{Limits, gather, judge};
use crate::render;
use crate::status::Time;

pub(super) fn run(args: &StatesArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let facts = gather(Time(jiff::Timestamp::now()), args.queues)?;
    let report = judge(&facts, &Limits::default());
    if session.json {
        return session.print_document(&report);
    }
    session.render(|out, view| render::states(out, &report, view))
}
