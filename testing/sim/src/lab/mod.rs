//! Traffic, kernel and engine together.

mod agent;
mod ask;
mod play;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{
    self as engine, Engine, IncidentReport, Listener, Mitigation, Mode, Override, RemovalReason,
    Rule, Settings, Timestamp, Tuning,
};

use self::play::{Checker, Event, Group, Wave};
use crate::calendar::Calendar;
use crate::kernel::{Kernel, Key, Server};
use crate::population::Population;
use crate::ticks::{Tap, Tick};
use crate::traffic::{Clients, Flood, HealthChecks};

/// Traffic is played in steps of this length, ms.
const STEP_MILLIS: u64 = 2;
const STEP: f64 = STEP_MILLIS as f64 / 1000.0;
/// Steps in a poll.
const POLL_STEPS: u64 = super::POLL.as_millis() as u64 / STEP_MILLIS;
/// Steps after which the kernel looks at its timers: 50 ms.
const TICK_STEPS: u64 = 25;

/// An alert and its time.
#[derive(Clone, Debug)]
pub struct RaisedAlert {
    /// Time of the alert, s.
    pub at: f64,
    /// The event.
    pub event: engine::Event,
    /// The incident it belongs to.
    pub incident: Option<IncidentReport>,
}

/// Fate of the legitimate clients that began since the tally was last cleared. Clients that vanish or reset by
/// themselves ([`crate::Natural`], [`Clients::lost`]) make no attempts, but their SYNs count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Clients that wanted to connect.
    pub attempts: u64,
    /// Of these, those that did.
    pub connected: u64,
    /// Of these, those that did within a second.
    pub connected_1s: u64,
    /// SYNs of clients that reached the host, repetitions included.
    pub syns: u64,
    /// Of these, those that the XDP program dropped.
    pub dropped: u64,
    /// Of these SYNs, those that a rule drops, or in observe mode would.
    pub matched: u64,
    /// SYNs of clients that had completed a handshake before.
    pub validated_syns: u64,
    /// Of these, those that the XDP program dropped.
    pub validated_dropped: u64,
}

/// Result of one client's connection attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    to: usize,
    group: usize,
    started: f64,
    connected: Option<f64>,
}

/// Time that the engine takes by a clock.
#[derive(Clone, Debug)]
pub struct Meter {
    pub clock: fn() -> Duration,
    /// Its time in each poll, questions answered included.
    pub polls: Vec<Duration>,
}

/// A host, its agent, and its traffic. A clone goes on from the same moment, by itself.
#[derive(Clone)]
pub struct Lab {
    pub kernel: Kernel,
    /// The engine of its agent.
    pub engine: Engine,
    /// Every alert so far, or since [`Lab::drain_alerts`].
    pub alerts: Vec<RaisedAlert>,
    /// Every rule ever installed, and the time of that, s.
    pub installed: Vec<(f64, Rule)>,
    /// Every removal: its time (s), the rule, and the reason.
    pub removed: Vec<(f64, Rule, RemovalReason)>,
    /// The protected prefixes given to the engine.
    pub protected: Vec<(IpNet, String)>,
    /// Time in which polls do not happen, s.
    pub deaf: Option<(f64, f64)>,
    /// True if the kernel refuses rules.
    pub refuse_rules: bool,
    /// Mitigations that cannot be started.
    pub refuse_mitigations: Vec<Mitigation>,
    /// Every mitigation that was ever started, and the time of that, s.
    pub mitigations: Vec<(f64, Mitigation)>,
    pub meter: Option<Meter>,
    tuning: Tuning,
    seed: u64,
    groups: Vec<Group>,
    waves: Vec<Wave>,
    checkers: Vec<Checker>,
    /// Clients that floods copy.
    population: Option<Arc<Population>>,
    events: Calendar<Event>,
    step: u64,
    keys: Key,
    /// Every attempt, where that is wanted.
    attempts: Option<Vec<Attempt>>,
    attempted: u64,
    tally: Tally,
    /// Time since which the tally counts, s.
    tallied: f64,
    tap: Tap,
}

impl Lab {
    /// A host with the default settings that remembers every attempt to connect, for
    /// [`Lab::connected`].
    pub fn new(mode: Mode) -> Self {
        let lab = Self::seeded(Settings::default(), mode, 1);
        Self { attempts: Some(Vec::new()), ..lab }
    }

    /// A host with traffic that is drawn with this seed. It keeps only sums over its clients, so that it can run for
    /// days.
    ///
    /// # Panics
    /// When the settings contradict themselves.
    pub fn seeded(settings: Settings, mode: Mode, seed: u64) -> Self {
        let tuning = Tuning::from(settings);
        Self {
            kernel: Kernel::default(),
            engine: Engine::new(tuning.clone(), mode).expect("settings that agree"),
            alerts: Vec::new(),
            installed: Vec::new(),
            removed: Vec::new(),
            protected: Vec::new(),
            deaf: None,
            refuse_rules: false,
            refuse_mitigations: Vec::new(),
            mitigations: Vec::new(),
            meter: None,
            tuning,
            seed,
            groups: Vec::new(),
            waves: Vec::new(),
            checkers: Vec::new(),
            population: None,
            events: Calendar::new(),
            step: 0,
            keys: 0,
            attempts: None,
            attempted: 0,
            tally: Tally::default(),
            tallied: 0.0,
            tap: Tap::default(),
        }
    }

    /// Opens a listener; the first is number 0, at port 443, the next one at 444, and so on.
    pub fn listener(mut self, server: Server) -> Self {
        self.kernel.listen(server);
        self
    }

    /// Opens a listener there.
    pub fn listener_at(mut self, at: Listener, server: Server) -> Self {
        self.kernel.listen_at(at, server);
        self
    }

    /// Adds clients. Floods that copy clients copy those of the first population added.
    pub fn clients(mut self, clients: Clients) -> Self {
        if self.population.is_none() {
            self.population.clone_from(&clients.population);
        }
        self.groups.push(Group::new(clients, self.seed, self.groups.len()));
        self
    }

    pub fn flood(mut self, flood: Flood) -> Self {
        self.waves.push(Wave::new(flood, self.seed, self.waves.len()));
        self
    }

    pub fn health_checks(mut self, checks: HealthChecks) -> Self {
        self.checkers.push(Checker::new(checks, self.seed, self.checkers.len()));
        self
    }

    /// Adds an override of the settings at a listener.
    pub fn own(mut self, own: Override) -> Self {
        self.tuning.overrides.push(own);
        self.tune(self.tuning.clone());
        self
    }

    /// Has the engine go on with other settings.
    ///
    /// # Panics
    /// When they contradict themselves.
    pub fn tune(&mut self, tuning: Tuning) {
        self.engine.set_settings(tuning.clone()).expect("settings that agree");
        self.tuning = tuning;
    }

    /// Gives the engine a prefix that it must not touch, and the reason.
    pub fn protect(mut self, net: &str, what: &str) -> Self {
        self.protected.push((net.parse().expect("prefix"), what.to_owned()));
        self.engine.set_protected(self.protected.clone());
        self
    }

    /// Writes down ticks from now on, or no longer.
    pub fn record_ticks(&mut self, on: bool) {
        self.tap.set(on, &self.kernel);
    }

    /// The ticks of a listener since the last call, if they are recorded.
    pub fn drain_ticks(&mut self, listener: usize) -> Vec<Tick> {
        self.tap.drain(listener)
    }

    /// The alerts since the last call.
    pub fn drain_alerts(&mut self) -> Vec<RaisedAlert> {
        std::mem::take(&mut self.alerts)
    }

    /// Plays until `end`, s.
    pub fn run_until(&mut self, end: f64) {
        while (self.step as f64 + 0.5) * STEP < end {
            self.step += 1;
            let t = self.time();
            self.kernel.now = Timestamp::from_millis(self.step * STEP_MILLIS);
            self.play(t);
            if self.step.is_multiple_of(TICK_STEPS) {
                self.kernel.tick();
            }
            if self.step.is_multiple_of(POLL_STEPS) {
                self.tap.poll(t, &self.kernel);
                if !self.deaf.is_some_and(|(from, until)| t > from && t < until) {
                    self.poll();
                }
            }
        }
    }

    /// Returns the present time, s.
    fn time(&self) -> f64 {
        self.step as f64 * STEP
    }
}
