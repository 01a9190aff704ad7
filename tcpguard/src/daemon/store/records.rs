//! The alerts and incidents that an agent keeps, and when they and its state are written.

use std::io::{self, Stderr};
use std::path::Path;
use std::time::Duration;

use tcpguard_engine::{Engine, Mode, Timestamp};
use tcpguard_host::time::Clock;

use super::alerts::AlertFile;
use super::counts::Counts;
use super::incidents::Incidents;
use super::state::{State, StateWriter, store};
use crate::telemetry::{Alert, AlertSink};

/// Learned values are stored this often.
const STORE_PERIOD: Duration = Duration::from_secs(60);

/// State that outlives the agent.
pub struct Records {
    pub alerts: AlertSink<Stderr>,
    alert_file: AlertFile,
    pub counts: Counts,
    /// Past incidents, of earlier runs too.
    pub incidents: Incidents,
    pub writer: StateWriter,
    /// Id of this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Time at which the state was last handed to the writer in a poll.
    stored_at: Timestamp,
    /// True if something has changed since that must not wait.
    pub unstored: bool,
}

impl Records {
    /// Those that earlier agents left in `dir`. Incidents with the numbers `going_on` go on if their listeners are
    /// there.
    pub fn load(dir: &Path, now: Timestamp, boot: String, going_on: Vec<u64>) -> io::Result<Self> {
        let lost = "rules, mode and learned values";
        let (alert_file, history) = AlertFile::load(dir)?;
        Ok(Self {
            alerts: AlertSink::of_host(history),
            alert_file,
            counts: Counts::default(),
            incidents: Incidents::load(dir, going_on)?,
            writer: StateWriter::start("state", dir.to_owned(), store, lost)?,
            boot,
            stored_at: now,
            unstored: true,
        })
    }

    /// Raises an alert in this mode.
    pub fn raise(&mut self, alert: &Alert, mode: Mode, clock: Clock) {
        self.counts.note(alert);
        self.alerts.raise(alert, mode, clock);
    }

    /// Has alerts and incidents written when it is time for it.
    pub fn tend(&mut self, engine: &Engine, clock: Clock) {
        self.incidents.tend(engine, clock);
        self.alert_file.tend(self.alerts.history(), clock.now);
    }

    /// Has everything written before the agent ends.
    pub fn keep(&mut self, state: State, engine: &Engine, clock: Clock) {
        self.writer.write(state);
        self.incidents.keep(engine, clock);
        self.alert_file.keep(self.alerts.history(), clock.now);
    }

    /// Returns whether it is time to store the state: soon after a change, and now and then for the learned values.
    pub fn is_state_due(&self, now: Timestamp) -> bool {
        self.unstored || now.since(self.stored_at) >= STORE_PERIOD
    }

    /// The state as it is to be written.
    pub fn state(&mut self, engine: &Engine, clock: &Clock) -> State {
        (self.stored_at, self.unstored) = (clock.now, false);
        State::of(engine, self.boot.clone(), clock)
    }
}
