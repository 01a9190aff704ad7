//! Report pages with plots: an attack, or the findings of a replay, in words and plots on one page
//! that needs no network.
//!
//! A page is a pure function of the documents that the agent and a replay make ([`Story`]), so it
//! can be drawn again from these. It holds neither scripts nor anything to fetch, and its security
//! policy forbids both. All input from outside is plain text in it (`markup`).

mod blocks;
mod chapter;
mod markup;
mod moments;
mod page;
mod panels;
mod plot;
mod rates;
mod times;

use jiff::tz::TimeZone;
use tcpguard_host::time::Time;

use crate::documents::FullIncident;
use crate::documents::replay::Replay;
use crate::documents::timeline::Timeline;
use crate::replay::Outcome;
use times::Times;

/// The content of a page.
#[derive(Clone, Debug)]
pub struct Story {
    /// The capture, if it is about one.
    capture: Option<Replay>,
    chapters: Vec<Chapter>,
    times: Times,
    /// Host of the attack; `None` for a capture.
    host: Option<Host>,
}

/// The host that an attack was on, as it was when the page was made.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub interfaces: Vec<String>,
    pub mode: &'static str,
    pub kernel: String,
    /// The version of the agent.
    pub version: String,
}

/// One attack, or another incident.
#[derive(Clone, Debug)]
struct Chapter {
    full: FullIncident,
    /// The counters over time, or the reason why they are missing.
    line: Result<Timeline, String>,
}

impl Chapter {
    fn new(full: FullIncident, line: Result<Timeline, String>) -> Self {
        Self { full, line: line.map(|line| rates::smoothed(&line)) }
    }
}

impl Story {
    /// The story of an attack, with its times in `zone`. `line` holds the counters over time, or
    /// the reason in words why they are missing.
    pub fn of_attack(full: FullIncident, line: Result<Timeline, String>, zone: TimeZone) -> Self {
        let chapters = vec![Chapter::new(full, line)];
        Self { capture: None, chapters, times: Times::Clock(zone), host: None }
    }

    /// The same with the host that it is about.
    pub fn on(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// The findings in a capture. Times count from the first packet on.
    pub fn of_capture(outcome: &Outcome) -> Self {
        let chapters = outcome.in_full().map(|(full, line)| {
            let left_out =
                || "Only of the first incidents of a capture plots are drawn.".to_owned();
            Chapter::new(full, line.ok_or_else(left_out))
        });
        Self {
            chapters: chapters.collect(),
            times: Times::After(Time(outcome.began())),
            capture: Some(outcome.replay.clone()),
            host: None,
        }
    }
}

/// The page of `story`, as HTML.
pub fn page(story: &Story) -> String {
    let mut out = String::new();
    // A string takes whatever is written.
    let _ = page::write(&mut out, story);
    out
}
