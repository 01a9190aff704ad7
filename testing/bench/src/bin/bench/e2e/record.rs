//! The results of all runs of a defence in one setting.

use std::time::Duration;

use serde::Serialize;
use tcpguard_kit::measure::median;
use tcpguard_kit::traffic::clients::Attempts;

use super::arm::Arm;
use super::conntrack::Conntrack;
use super::run::{Outcome, PATIENCE, Setting};
use crate::samples::Samples;

/// Brackets further apart than this share are marked.
const AGREEMENT: f64 = 0.10;
/// Limits within which clients want their response: before their first retransmission (RFC 6298 §2.1), after
/// it, and after their third, or without linear timeouts their second.
const LIMITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];

/// One run between two of the ideal filter.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Number of the round, from 1.
    pub round: usize,
    /// New clients, each from an address that was never heard of.
    pub new_clients: Clients,
    /// Clients from addresses that had connected before the flood.
    pub validated_clients: Clients,
    /// Share of the bytes on the open connection of a validated client that were retransmitted, in %.
    pub open_lost: f64,
    /// SYNs made per second.
    pub offered: f64,
    /// Frames of the flood per second that found the ring full.
    pub lost: f64,
    /// Packets taken from the ring per second.
    pub taken: f64,
    /// Share of the SYNs that clients sent in the whole run, in %, that never reached the XDP program: they
    /// found the ring full. `None` where tcpguard does not run, so that nothing counted them.
    pub syns_lost: Option<f64>,
    /// Connection tracking of the host under test; `None` where it tracks no connections.
    pub conntrack: Option<Conntrack>,
    /// CPU time in ns; `None` without packets.
    pub ns_per_packet: Option<f64>,
    /// Load of the receiving CPU, 0 to 1.
    pub load: f64,
    /// CPU ns per packet of the ideal filter before and after it.
    pub brackets: Option<[f64; 2]>,
    /// The agent's own name for the situation at the end, if an agent runs.
    pub state: Option<String>,
    /// The mitigations that are active then.
    pub mitigations: Vec<String>,
}

/// The outcome of a window's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Clients {
    pub attempts: usize,
    pub within_1s: usize,
    pub within_3s: usize,
    pub within_7s: usize,
    /// Times until half of the clients and 99 % had an open connection, in ms, failures counted as
    /// [`PATIENCE`]; `None` without attempts.
    pub connect_ms: Option<[f64; 2]>,
}

/// All runs of a defence in one setting.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub arm: Arm,
    pub setting: Setting,
    /// Runs that it is to have.
    pub rounds: usize,
    /// True if a target is judged by it.
    pub is_judged: bool,
    pub runs: Vec<Run>,
    /// Runs that were made once more, since they were marked.
    pub repeated: usize,
    /// Runs that the lab broke off.
    pub failed: usize,
    /// Reason why there are no runs.
    pub unavailable: Option<String>,
}

impl Clients {
    pub fn of(attempts: &Attempts) -> Self {
        let ms = |share| attempts.connect_quantile(share, PATIENCE).map(|t| t.as_secs_f64() * 1e3);
        Self {
            attempts: attempts.0.len(),
            within_1s: attempts.within(LIMITS[0]),
            within_3s: attempts.within(LIMITS[1]),
            within_7s: attempts.within(LIMITS[2]),
            connect_ms: ms(0.5).zip(ms(0.99)).map(<[f64; 2]>::from),
        }
    }

    /// Returns all clients of several runs; their times to connect are the medians of the runs'.
    pub fn pooled<'a>(runs: impl Iterator<Item = &'a Self>) -> Self {
        let (mut all, mut times) = (Self::default(), [Vec::new(), Vec::new()]);
        for clients in runs {
            all.attempts += clients.attempts;
            all.within_1s += clients.within_1s;
            all.within_3s += clients.within_3s;
            all.within_7s += clients.within_7s;
            for (times, ms) in times.iter_mut().zip(clients.connect_ms.into_iter().flatten()) {
                times.push(ms);
            }
        }
        all.connect_ms = (!times[0].is_empty()).then(|| times.map(median));
        all
    }

    /// Returns a summary in one line.
    pub fn summary(&self) -> String {
        self.percent().map_or("none".to_owned(), |[soon, late, last]| {
            format!(
                "{} clients, {soon:.1} % within 1 s, {late:.1} % within 3 s, {last:.1} % within 7 s",
                self.attempts
            )
        })
    }

    /// Numbers that had their response within 1, 3 and 7 s.
    pub const fn counts(&self) -> [usize; 3] {
        [self.within_1s, self.within_3s, self.within_7s]
    }

    /// % that had their response within 1, 3 and 7 s; `None` without attempts.
    pub fn percent(&self) -> Option<[f64; 3]> {
        let percent = |count| 100.0 * count as f64 / self.attempts as f64;
        (self.attempts > 0).then(|| self.counts().map(percent))
    }
}

impl Run {
    pub fn new(round: usize, outcome: &Outcome, brackets: Option<[f64; 2]>) -> Self {
        let (cost, time) = (outcome.load.cost, outcome.load.time);
        Self {
            round,
            new_clients: Clients::of(&outcome.new_clients),
            validated_clients: Clients::of(&outcome.validated_clients),
            open_lost: 100.0 * outcome.open_lost,
            offered: outcome.offered,
            lost: outcome.load.lost_rate(),
            taken: outcome.load.rate(),
            syns_lost: outcome.syns_lost.map(|share| 100.0 * share),
            conntrack: outcome.conntrack,
            ns_per_packet: (cost.packets > 0).then(|| cost.ns_per_packet()),
            load: cost.load(time),
            brackets,
            state: outcome.state.clone(),
            mitigations: outcome.mitigations.clone(),
        }
    }

    /// Returns the share of the lesser by which the ideal filters around it differ; zero without any.
    pub fn disagreement(&self) -> f64 {
        self.brackets.map_or(0.0, |[before, after]| (before - after).abs() / before.min(after))
    }

    /// Returns whether the machine was in another mood before than after it.
    pub fn is_marked(&self) -> bool {
        self.disagreement() > AGREEMENT
    }

    /// The cost of a packet as a multiple of the cost of the ideal filter around it.
    pub fn times_drop(&self) -> Option<f64> {
        let [before, after] = self.brackets?;
        Some(self.ns_per_packet? / ((before + after) / 2.0))
    }
}

impl Record {
    pub fn new(arm: Arm, setting: Setting, rounds: usize) -> Self {
        Self {
            arm,
            setting,
            rounds,
            is_judged: false,
            runs: Vec::new(),
            repeated: 0,
            failed: 0,
            unavailable: None,
        }
    }

    /// Returns the new clients of all runs.
    pub fn new_clients(&self) -> Clients {
        Clients::pooled(self.runs.iter().map(|run| &run.new_clients))
    }

    /// Returns the clients of all runs from addresses that had connected before the flood.
    pub fn validated_clients(&self) -> Clients {
        Clients::pooled(self.runs.iter().map(|run| &run.validated_clients))
    }

    /// A value of its runs.
    pub fn samples(&self, of: impl Fn(&Run) -> Option<f64>) -> Samples {
        self.runs.iter().filter_map(of).collect()
    }

    /// Runs with a flood well below its rate.
    pub fn too_slow(&self) -> usize {
        self.runs.iter().filter(|run| self.setting.is_missed_by(run.offered)).count()
    }

    /// Runs with brackets that do not agree.
    pub fn marked(&self) -> usize {
        self.runs.iter().filter(|run| run.is_marked()).count()
    }
}
