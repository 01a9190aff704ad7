//! The files that an earlier agent left on the disk, read as a start reads them: for tests of the effect
//! of damaged files.

use std::path::Path;

use tcpguard_common::abi::maps;
use tcpguard_engine::{Engine, ListenerId, Mode, Settings};
use tcpguard_host::time::Clock;

use super::store::state::{InKernel, State, reconcile};
use super::store::{alerts, incidents, kept_timelines};
use crate::config::{Config, DEFAULT_PATH, Overrides};
use crate::daemon::configuration::kept_config::KeptConfig;
use crate::daemon::mitigations::syncookies;
use crate::documents::selftest::{Host, SelfTest};
use crate::selftest;

/// The content that was understood.
#[derive(Debug)]
pub struct Stored {
    /// An engine that has taken over the state that a start gives it, after a boot.
    pub engine: Engine,
    /// True if there was a state.
    pub state: bool,
    /// The configuration that a start with mistakes would take.
    pub config: Option<Config>,
    /// Number of past incidents.
    pub incidents: usize,
    pub alerts: usize,
    /// Number of timelines of incidents.
    pub timelines: usize,
    /// The value of a sysctl that is to be given back.
    pub lent: Option<u64>,
    /// Result of the self-test of SYN cookies.
    pub selftest: Option<SelfTest>,
}

impl Stored {
    /// Reads everything in the state directory `dir` of `host`. Content that cannot be understood is set
    /// aside there.
    ///
    /// # Panics
    /// When the default settings contradict each other.
    pub fn read(dir: &Path, clock: &Clock, host: &Host) -> Self {
        let state = State::load(dir).ok();
        // Regardless of the capacity of the agent that wrote it.
        let settings = Settings { rules: maps::MAX_RULES, ..Settings::default() };
        let room = settings.rules;
        let mut engine = Engine::new(settings, Mode::Observe).expect("the defaults agree");
        let here = |_: &_| Some(ListenerId(0));
        let kernel = InKernel { counting: None, rules: Vec::new(), room };
        let rules = reconcile(clock, "", state.as_ref(), kernel, |_| None, here);
        if let Some(state) = &state {
            state.hand_to(&mut engine, clock, "");
        }
        engine.adopt(clock.now, rules.kept.into_iter().chain(rules.lost).collect());
        engine.revert(clock.now, rules.reverted);
        Self {
            engine,
            state: state.is_some(),
            config: KeptConfig::load(dir, Path::new(DEFAULT_PATH))
                .and_then(|kept| kept.sources().resolve(Overrides::default()).ok())
                .map(|loaded| loaded.config),
            incidents: incidents::load(dir).len(),
            alerts: alerts::load(dir).len(),
            timelines: kept_timelines::load(&dir.join(kept_timelines::DIRECTORY)).len(),
            lent: syncookies::lent_from(dir),
            selftest: selftest::load(dir, host),
        }
    }
}
