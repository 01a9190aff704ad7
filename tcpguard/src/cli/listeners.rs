//! `tcpguard listeners`

use std::time::{Duration, Instant};

use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::listeners::{Earlier, ListenerFacts, ListenersReport, gather, judge};
use tcpguard_host::obstacle::Obstacle;
use tcpguard_host::time::Time;

use super::args::ListenersArgs;
use super::session::Session;
use super::status::fetch;
use crate::documents::NOTHING_LISTENS;
use crate::text;

/// Adds the obstacles to SYN cookies and the lacking sockets that an agent knows, if one answers. What the sockets show as
/// well is said once.
fn ask_agent(report: &mut ListenersReport, session: &Session<'_>) {
    let Ok(status) = fetch(session) else { return };
    let adds = |code| code == NOTHING_LISTENS || Obstacle::CODES.contains(&code);
    let known = status.health.iter().filter(|one| adds(&one.code));
    let known: Vec<Finding> = known.cloned().collect();
    report.findings.retain(|one| !known.iter().any(|other| other.code == one.code));
    report.findings.extend(known);
    worst_first(&mut report.findings);
}

pub(super) fn run(args: &ListenersArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let mut earlier = None;
    loop {
        let looked = Instant::now();
        let facts = ListenerFacts { earlier, ..gather(Time(jiff::Timestamp::now()))? };
        let mut report = judge(&facts);
        ask_agent(&mut report, session);
        let next = args.watch.map(|seconds| (seconds, Earlier::new(&facts, Duration::ZERO)));
        // Of ten thousand sockets they take as much memory as the page about them.
        drop(facts);
        match session.json {
            true => session.print_document(&report)?,
            false => session.render(|out, view| text::listeners(out, &report, view, args.all))?,
        }
        let Some((seconds, seen)) = next else { return Ok(()) };
        std::thread::sleep(Duration::from_secs(seconds));
        earlier = Some(Earlier { ago: looked.elapsed(), ..seen });
        if !session.json {
            session.begin_again()?;
        }
    }
}
