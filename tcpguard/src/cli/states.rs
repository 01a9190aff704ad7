//! `tcpguard states`

use super::session::Session;
use crate::checkup::states::{Limits, gather, judge};
use crate::render;
use crate::status::Time;

/// `tcpguard states`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatesArgs {
    /// Also what waits in connections: data that applications have not read, and that clients have
    /// not acknowledged
    #[arg(long)]
    pub queues: bool,
}

const EXAMPLES: &str = "\
Needs no running tcpguard. Processes of other users are shown to root only.

Examples:
  tcpguard states                                 # is any number unusual, is anything used up?
  sudo tcpguard states --queues                   # whose connections are stuck?
  tcpguard states --json | jq '.states[] | select(.state == \"time_wait\")'";

pub(super) fn run(args: &StatesArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let facts = gather(Time(jiff::Timestamp::now()), args.queues)?;
    let report = judge(&facts, &Limits::default());
    if session.json {
        return session.print_document(&report);
    }
    session.render(|out, view| render::states(out, &report, view))
}
