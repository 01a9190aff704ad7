//! `tcpguard listeners`

use std::time::{Duration, Instant};

use super::session::Session;
use crate::checkup::listeners::{Earlier, ListenerFacts, gather, judge};
use crate::render;
use crate::status::Time;

/// `tcpguard listeners`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ListenersArgs {
    /// Every listener, not only the most interesting
    #[arg(long)]
    pub all: bool,
    /// Again and again, every SEC seconds, with drops per second
    #[arg(long, value_name = "SEC", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
}

const EXAMPLES: &str = "\
Needs no running tcpguard. Processes of other users are shown to root only.

Examples:
  sudo tcpguard listeners                         # whose queues are full, and what limits them?
  tcpguard listeners --watch=5                    # does a listener still drop clients?
  tcpguard listeners --json | jq '.listeners[] | select(.accept.waiting > .accept.limit)'";

pub(super) fn run(args: &ListenersArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let mut looked = Instant::now();
    let mut facts = look()?;
    show(&facts, args, session)?;
    while let Some(seconds) = args.watch {
        std::thread::sleep(Duration::from_secs(seconds));
        let earlier = Some(Earlier::new(&facts, looked.elapsed()));
        looked = Instant::now();
        facts = ListenerFacts { earlier, ..look()? };
        if !session.json {
            // Home and clear on a terminal; elsewhere an empty line between two reports.
            session.print(if session.terminal { "\x1b[H\x1b[2J" } else { "\n" })?;
        }
        show(&facts, args, session)?;
    }
    Ok(())
}

fn look() -> anyhow::Result<ListenerFacts> {
    Ok(gather(Time(jiff::Timestamp::now()))?)
}

fn show(
    facts: &ListenerFacts,
    args: &ListenersArgs,
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let report = judge(facts);
    if session.json {
        return session.print_document(&report);
    }
    session.render(|out, view| render::listeners(out, &report, view, args.all))
}
