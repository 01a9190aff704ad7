//! The agent's cost of a poll, by the data that it has to read.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;
use tcpguard_common::abi::maps::MAX_LISTENERS;
use tcpguard_engine::POLL;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::peak::{Footprint, forget_peak};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

use super::process::Watch;
use super::sockets::{self, Crowd};
use super::{MIB, Options};
use crate::samples::Samples;

/// Time after which a start is over, and so is the question how it went.
const SETTLE: Duration = Duration::from_secs(2);
/// Time in which the flood turns its tables over, at [`FOLLOWED`] SYNs a second.
const FILL: Duration = Duration::from_secs(6);
/// SYNs a second that are few enough to be followed each (`docs/evidence/performance.md`), from one source each.
const FOLLOWED: u32 = 19_000;
/// Share above which a table of sets is full: some of them are before others.
const FULL: f64 = 0.9;
/// Limit of the time in which a crowd of peers connects: a machine that takes longer has a smaller
/// crowd.
const GATHER: Duration = Duration::from_secs(60);

/// The data that a poll reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// A number of listening sockets.
    Listeners(u16),
    /// Tables of followed flows and of sources in a flood in which every SYN is followed.
    FullTables,
    /// One listening socket, and a number of connections.
    Established(u32),
}

/// The cost of a poll in one case.
#[derive(Clone, Debug, Serialize)]
pub struct PollCost {
    pub case: Case,
    /// CPU time of a poll in ms, with its share of the work of every second and every five.
    pub cpu: Samples,
    /// The most memory at once in the window, in MiB (`VmHWM`).
    pub peak: Samples,
    /// The extent to which the case was reached: listeners tracked, share of the table of sources
    /// in use, connections established.
    pub found: Samples,
}

impl PollCost {
    /// Returns all cases, not measured yet.
    pub fn all(options: &Options) -> Vec<Self> {
        let listeners = [1, 1000, MAX_LISTENERS as u16].map(Case::Listeners);
        let cases = listeners.into_iter().chain([Case::FullTables]);
        let cost = |case| Self {
            case,
            cpu: Samples::default(),
            peak: Samples::default(),
            found: Samples::default(),
        };
        cases
            .chain(options.established().iter().copied().map(Case::Established))
            .map(cost)
            .collect()
    }

    /// Returns the case as tables name it.
    pub fn title(&self) -> String {
        match self.case {
            Case::Listeners(1) => "1 listener".to_owned(),
            Case::Listeners(count) => format!("{count} listeners"),
            Case::FullTables => format!("1 listener, {FOLLOWED} SYN/s tracked"),
            Case::Established(count) => format!("1 listener, {count} connections"),
        }
    }

    /// The extent to which the case was reached, in words.
    pub fn remark(&self) -> String {
        let Some(found) = self.found.median() else { return String::new() };
        match self.case {
            Case::Listeners(_) => format!("{found:.0} followed"),
            Case::FullTables => format!("table of sources {:.0} % full", 100.0 * found),
            Case::Established(_) => format!("{found:.0} established"),
        }
    }

    /// Measures one more round of the case.
    pub fn round(&mut self, options: &Options) -> Result<()> {
        let lab = Lab::new(LabOptions::default())?;
        let window = options.poll_window();
        match self.case {
            Case::Listeners(count) => {
                let _listeners = sockets::listeners(&lab.edge, count)?;
                let agent = Agent::start(&lab.edge, Mode::Enforce)?;
                // One slot is for the agent's self-test of SYN cookies.
                let places = usize::from(count).min(MAX_LISTENERS as usize - 1);
                let status = agent.wait_until(
                    "all listeners are followed",
                    Duration::from_secs(10),
                    |status| followed(status) >= places,
                )?;
                self.found.push(followed(&status) as f64);
                sleep(SETTLE);
                self.watch(&agent, window)?;
            }
            Case::FullTables => {
                let _server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
                // A rule would keep the SYNs after it out of the tables.
                let agent = Agent::start(&lab.edge, Mode::Observe)?;
                let time = FILL + window + SETTLE;
                let flood = Flood::random(Family::V4.service(), time);
                let flood = Flood { rate: FOLLOWED, ..flood }.start(&lab)?;
                sleep(FILL);
                self.watch(&agent, window)?;
                let share = fill(agent.status()?.document(), "SOURCES").unwrap_or(0.0);
                ensure!(share > FULL, "the table of sources is {:.0} % full", 100.0 * share);
                self.found.push(share);
                flood.stop()?;
            }
            Case::Established(count) => {
                let crowd = Crowd::gather(&lab, count, GATHER)?;
                self.found.push(f64::from(crowd.established));
                let agent = Agent::start(&lab.edge, Mode::Enforce)?;
                sleep(SETTLE);
                self.watch(&agent, window)?;
            }
        }
        Ok(())
    }

    /// Measures the CPU time of a poll, by the agent's CPU time in a window in which it does nothing
    /// else, and its memory.
    fn watch(&mut self, agent: &Agent<'_>, window: Duration) -> Result<()> {
        forget_peak(agent.pid())?;
        let watch = Watch::start(agent.pid())?;
        sleep(window);
        let polls = watch.elapsed().as_secs_f64() / POLL.as_secs_f64();
        self.cpu.push(watch.cpu()?.as_secs_f64() * 1e3 / polls);
        self.peak.push(Footprint::of(agent.pid())?.resident as f64 / MIB);
        Ok(())
    }
}

fn followed(status: &Status) -> usize {
    status.document()["listeners"].as_array().map_or(0, Vec::len)
}

/// Returns the fill of a table by the status, 0 to 1.
fn fill(status: &Value, table: &str) -> Option<f64> {
    let mut maps = status["maps"].as_array()?.iter();
    maps.find(|map| map["name"] == table)?["fill_ratio"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_table_is_read_from_the_status() {
        let maps = r#"{"maps":[{"name":"RULES","fill_ratio":0.1},
            {"name":"SOURCES","fill_ratio":0.5},{"name":"CLIENTS","fill_ratio":null}]}"#;
        let status = serde_json::from_str(maps).unwrap();
        assert_eq!(fill(&status, "SOURCES"), Some(0.5));
        assert_eq!((fill(&status, "CLIENTS"), fill(&status, "FLOWS")), (None, None));
    }
}
