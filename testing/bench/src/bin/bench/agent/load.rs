//! CPU time and memory of an agent that has nothing to do, and of one in the greatest flood.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::measure::peak::{Footprint, forget_peak, resident};
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::traffic::flood::Shape;
use tcpguard_kit::traffic::likeness::Likeness;

use super::calls::{self, Calls};
use super::maps::Maps;
use super::process::Watch;
use super::stage::Stage;
use super::{MIB, Options};
use crate::samples::Samples;

/// By then rules and mitigations are in force, and an idle agent has forgotten its start.
const SETTLE: Duration = Duration::from_secs(4);
/// The longest that the calls may take after the window, so that the flood outlasts them.
const CALLS: Duration = Duration::from_secs(60);

/// The load on the host under test.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Situation {
    Idle,
    /// No options, one TTL, random sources: a signature recognises it.
    Fixed,
    /// Copies of a client's own SYN: only cookies remain.
    Mimic,
}

impl Situation {
    const ALL: [Self; 3] = [Self::Idle, Self::Fixed, Self::Mimic];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fixed => "fixed-fingerprint flood at maximum",
            Self::Mimic => "mimicking flood at maximum",
        }
    }
}

/// The cost of an agent in one situation.
#[derive(Clone, Debug, Serialize)]
pub struct LoadCost {
    pub situation: Situation,
    /// % of one core.
    pub cpu: Samples,
    /// Memory at the end of the window, in MiB (`VmRSS`).
    pub resident: Samples,
    /// The most at once in the window, in MiB (`VmHWM`).
    pub peak: Samples,
    /// Packets that the host took from its interface, per second.
    pub taken: Samples,
    /// Made after the window: they would be on the agent's account.
    pub calls: Vec<Calls>,
}

impl LoadCost {
    /// All situations, not measured yet.
    pub fn all() -> Vec<Self> {
        let cost = |situation| Self {
            situation,
            cpu: Samples::default(),
            resident: Samples::default(),
            peak: Samples::default(),
            taken: Samples::default(),
            calls: Calls::all(),
        };
        Situation::ALL.map(cost).into()
    }

    /// One more round of it. Returns the maps of the agent, which are the same in all.
    pub fn round(&mut self, options: &Options) -> Result<Maps> {
        let (window, times) = (options.load_window(), options.calls());
        let stage = Stage::new()?;
        let host = &stage.lab.edge;
        let shape = match self.situation {
            Situation::Idle => None,
            Situation::Fixed => Some(Shape::Bare),
            Situation::Mimic => Some(Shape::Copy(Likeness::capture(&stage.lab, Family::V4)?)),
        };
        let agent = Agent::start(host, Mode::Enforce)?;
        let flood = shape
            .map(|shape| stage.flood_at_maximum(shape, SETTLE + window + CALLS))
            .transpose()?;
        sleep(SETTLE);
        let pid = agent.pid();
        forget_peak(pid)?;
        let receiver = stage.lab.receiver.as_ref().context("the lab is measured")?;
        let (before, watch) = (receiver.read(host)?, Watch::start(pid)?);
        sleep(window);
        let (percent, packets) = (watch.percent()?, receiver.read(host)?.since(&before).packets);
        self.taken.push(packets as f64 / watch.elapsed().as_secs_f64());
        self.cpu.push(percent);
        self.resident.push(resident(pid)? as f64 / MIB);
        self.peak.push(Footprint::of(pid)?.resident as f64 / MIB);
        if let Some(flood) = &flood {
            flood.goes_on()?;
        }
        calls::time(&mut self.calls, host, times)?;
        if let Some(flood) = flood {
            flood.stop()?;
        }
        Maps::of(pid)
    }
}
