//! `tcpguard listeners`

use std::time::{Duration, Instant};

use tcpguard_host::listeners::{Earlier, ListenerFacts, gather, judge};
use tcpguard_host::time::Time;

use super::args::ListenersArgs;
use super::session::Session;
use crate::text;

pub(super) fn run(args: &ListenersArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let mut earlier = None;
    loop {
        let looked = Instant::now();
        let facts = ListenerFacts { earlier, ..gather(Time(jiff::Timestamp::now()))? };
        let report = judge(&facts);
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
