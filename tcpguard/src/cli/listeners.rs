//! `tcpguard listeners`

use std::time::{Duration, Instant};

use super::args::ListenersArgs;
use super::session::Session;
use crate::checkup::listeners::{Earlier, ListenerFacts, gather, judge};
use crate::render;
use crate::status::Time;

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
            session.begin_again()?;
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
