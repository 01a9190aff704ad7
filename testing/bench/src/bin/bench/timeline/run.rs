//! One defence, from before the flood's first SYN until after its last one.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use tcpguard_engine::Settings;
use tcpguard_kit::daemon::agent::Agent;
use tcpguard_kit::daemon::alerts::Alert;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::wall_ahead_ns;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::net::ring::Ring;
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::flood::{Flood, FloodReport};

use super::course::{Course, Moments, Slot, full_success};
use crate::e2e::arm::Arm;
use crate::e2e::attack::{Kind, Rate};
use crate::e2e::run::{STEPS, Setting, Stage};

/// Rate under which clients have to be answered (`e2e`). At maximum the ring is full, and its losses decide when
/// clients are served.
pub const RATE: Rate = Rate::Paced(500_000);
/// Connections per second: a hundred to a slot, and enough for full success in 2.5 s.
pub const CLIENTS: u32 = 400;
/// Clients come so long before the first slot. An agent has mostly run for longer than a few seconds, and has
/// learned its baseline.
const LEAD: Duration = Duration::from_secs(8);
/// Time that a release may take beyond the configured quiet time.
const GRACE: Duration = Duration::from_secs(15);
/// Time by which an agent has put its rules or mitigations in force.
pub const ARMED: Duration = Duration::from_secs(2);
/// Two clocks cannot be read at one moment; this far apart they have not been set.
const READ: i128 = 10_000_000;

/// Times of a run, whole slots each.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub before: Duration,
    pub flood: Duration,
    pub after: Duration,
}

/// Returns the time for which everything must be quiet before the agent withdraws rules and stops mitigations,
/// by default.
pub fn hold() -> Duration {
    Settings::default().quiet
}

/// Runs `arm` under `kind`. If `to_release`, waits until the agent has removed all rules and mitigations.
///
/// # Errors
/// When the lab fails, the defence cannot be had here, the agent does not release in time, or the clock was
/// set during the run.
pub fn run(
    round: usize,
    (kind, arm): (Kind, Arm),
    timing: &Timing,
    to_release: bool,
) -> Result<Course> {
    let family = Family::V4;
    let stage = Stage::new(&Setting::near(family), arm.syncookies())?;
    let lab = &stage.lab;
    let flood = kind.flood(lab, family, RATE)?;
    let flood = Flood { duration: timing.flood, ..flood };
    let seconds = (LEAD + timing.before + timing.flood + timing.after).as_secs() as u32 + 2;
    let defence = arm.defend(lab, family, CLIENTS * seconds)?;
    let ahead = wall_ahead_ns();
    let visitors = Visitors { rate: CLIENTS, home: Home::NewClients, patience: PATIENCE };
    let clients = Load::of(&lab.client, family.service(), visitors)?;
    sleep(LEAD + timing.before);
    let flood = flood.start(lab)?;
    sleep(ARMED);
    let armed = Ring::read(lab)?;
    let flood = flood.wait()?;
    let ring = Ring::read(lab)?;
    sleep(timing.after);
    let attempts = clients.finish()?;
    let alerted = match defence.agent() {
        Some(agent) => moments(agent, &flood, stopped_by(kind), to_release)?,
        None => Moments::default(),
    };
    let drift = wall_ahead_ns() - ahead;
    ensure!(
        drift.abs() < READ,
        "the time of day was set by {} ms meanwhile, and the agent's timestamps depend on it: prevent \
         that, and measure again",
        drift / 1_000_000
    );
    Ok(Course {
        round,
        offered: flood.rate(),
        ring_full: ring.since(&armed).lost_share(),
        slots: Slot::all(&attempts, flood.started, timing.before, timing.flood + timing.after),
        full_success: full_success(&attempts, &flood),
        alerted,
    })
}

/// Returns whether `alert` says that the end of a flood is in the kernel by a rule.
fn installs_rule(alert: &Alert) -> bool {
    alert.event == "rule_installed"
}

/// Returns whether `alert` says that SYN cookies answer. They may start before the attack is detected, so the
/// alert may be about no attack.
fn starts_cookies(alert: &Alert) -> bool {
    alert.event == "mitigation_started" && alert.mitigation.as_deref() == Some("cookies")
}

/// Returns the alerts that say that the end of a flood of `kind` is in the kernel. There is no rule against
/// copies of clients' SYNs.
const fn stopped_by(kind: Kind) -> fn(&Alert) -> bool {
    match kind {
        Kind::Mimic | Kind::MimicPulses | Kind::Mixed => starts_cookies,
        _ => installs_rule,
    }
}

fn moments(
    agent: &Agent<'_>,
    flood: &FloodReport,
    arms: fn(&Alert) -> bool,
    to_release: bool,
) -> Result<Moments> {
    if to_release {
        agent.wait_until("all rules and steps are taken back", hold() + GRACE, is_released)?;
    }
    Ok(Moments::of(&agent.alerts()?, flood, arms, to_release))
}

fn is_released(status: &Status) -> bool {
    let taken = |mitigation: &&str| status.mitigation(mitigation) == Some("active");
    let rules = !status.rules().is_empty() || status.rules_in_kernel() != Some(0);
    status.incidents().is_empty() && !rules && !STEPS.iter().any(taken)
}
