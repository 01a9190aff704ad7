//! The state that the loop owns, and its work on it. Synchronous: a poll is some dozens of system
//! calls.

mod act;
mod capture;
mod exchange;
mod explain;
mod facts;
mod limited;
mod mode;
mod poll;
mod refused;
mod reload;
mod repair;
mod respond;
mod start;

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{Engine, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::linux::boot_time;
use tcpguard_host::time::Clock;

use self::capture::Capture;
use self::refused::Outages;
pub use self::respond::PendingResponse;
use super::configuration::Configuration;
use super::executor::client_filter::ClientFilter;
use super::executor::repairs::Repairs;
use super::executor::{Executor, Exemptions, Removals};
use super::fleet::Exchange;
use super::listeners::Selection;
use super::mitigations::Mitigations;
use super::mode_clock::{ModeClock, PendingMode};
use super::programs::Programs;
use super::reading::Readings;
use super::reading::pace::Pace;
use super::store::records::Records;
use super::store::state::State;
use super::ways_back::WaysBack;
use crate::config::Config;
use crate::documents::AgentEvent;
use crate::telemetry::Alert;
use crate::text;

/// Rules stop dropping when the agent has not been heard of for this long.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);

/// The agent. Each part owns its state and changes it by itself.
pub struct Agent {
    configuration: Configuration,
    engine: Engine,
    executor: Executor,
    mode_clock: ModeClock,
    programs: Programs,
    mitigations: Mitigations,
    selection: Selection,
    /// Pace at which the listening sockets are read.
    listening: Pace,
    exemptions: Exemptions,
    client_filter: ClientFilter,
    removals: Removals,
    ways_back: WaysBack,
    outages: Outages,
    readings: Readings,
    repairs: Repairs,
    records: Records,
    /// Findings of the start.
    pub(super) health: Vec<Finding>,
    capture: Capture,
    /// Exchange with the fleet process; `None` where it may not connect.
    pub(super) fleet: Option<Exchange>,
    /// End of the time in which the host may have connections that are older than the tables.
    preexisting_until: Timestamp,
    last_second: Option<Timestamp>,
    last_slow: Option<Timestamp>,
    /// Error with which the kernel refused the rules that an operator asked for just now.
    unreplaced: Option<String>,
}

impl Agent {
    /// The line at the start.
    pub fn started(&self) -> String {
        let listeners = self.executor.listeners.iter().count();
        text::started(&self.programs.interfaces.in_words(), self.engine.mode(), listeners)
    }

    /// The line at the end.
    pub fn stopped(&self) -> String {
        let attached = match self.programs.interfaces.all_detached() {
            true => String::new(),
            false => self.programs.interfaces.in_words(),
        };
        text::stopped(&attached, HEARTBEAT_LIMIT)
    }

    /// Reports interfaces that appeared, disappeared or changed.
    pub fn check_interfaces(&mut self) {
        let places = self.programs.interfaces.names().count();
        for event in
            self.programs.interfaces.check(&mut self.programs.object, &self.executor.dataplane)
        {
            self.raise_own(event);
        }
        if self.programs.interfaces.names().count() < places {
            // The counters are remembered by position.
            self.readings.snapshots.clear();
        }
    }

    /// The line that `systemctl status` shows.
    pub fn in_brief(&self) -> String {
        let names: Vec<&str> = self.programs.interfaces.names().collect();
        text::running_on(&names.join(", "), self.engine.mode())
    }

    /// Hands the state, the alerts and the incidents to their writers before the agent ends.
    pub fn keep_records(&mut self) {
        let state = self.state();
        self.records.keep(state, &self.engine, clock());
    }

    /// Raises an alert of the agent's own.
    fn raise_own(&mut self, event: AgentEvent) {
        self.raise(&Alert::own(event));
    }

    fn raise(&mut self, alert: &Alert) {
        self.records.raise(alert, self.engine.mode(), clock());
    }

    fn state(&mut self) -> State {
        let clock = clock();
        let pending = self.mode_clock.pending();
        let mut state = self.records.state(&self.engine, &clock);
        state.mode = self.mode_clock.set_for_good;
        state.pending_mode = pending.map(|pending| PendingMode::of(pending, &clock));
        state.rule_set = self.executor.config.rule_set;
        state
    }
}

/// Reads the protected set and exempts it. Returns its prefixes, each with what it is.
fn protect(
    now: Timestamp,
    config: &Config,
    readings: &mut Readings,
    exemptions: &mut Exemptions,
    executor: &mut Executor,
) -> anyhow::Result<Vec<(IpNet, String)>> {
    let protected = readings.host.protected(now, &mut readings.sockets, config);
    let Executor { listeners, dataplane, .. } = executor;
    exemptions.protect(&protected, dataplane)?;
    listeners.own_known = readings.host.knows_own_addresses(&protected);
    listeners.write(dataplane)?;
    Ok(protected.into_iter().map(|one| (one.net, one.what)).collect())
}

fn clock() -> Clock {
    Clock { now: boot_time(), wall: jiff::Timestamp::now() }
}
