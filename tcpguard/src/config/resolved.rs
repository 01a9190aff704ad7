//! The configuration in force: files, defaults and command line combined.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use log::LevelFilter;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{Listener, Mode, Place, Settings, Tuning, thresholds};
use tcpguard_host::toml_file::{Problem, Sections, Spot};
use tcpguard_host::toml_value::Form as _;

use super::keys;
use super::sections::{
    Control, Cookies, Detection, Fleet, InterfaceConfig, Interfaces, ListenerConfig, Listeners,
    Metrics, Policy, Protect, StateLimits,
};
use super::value::ListenerPlace;
use super::{DEFAULT_PIN_DIR, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR};
use crate::bpf::XdpMode;

/// Configuration of `tcpguard run`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The mode to start in.
    pub mode: Mode,
    pub interfaces: Interfaces,
    pub detection: Detection,
    pub policy: Policy,
    pub cookies: Cookies,
    pub protect: Protect,
    pub listeners: Listeners,
    pub states: StateLimits,
    pub control: Control,
    pub metrics: Metrics,
    pub fleet: Fleet,
    /// The settings that differ at some interfaces, none of which is there twice.
    pub interface: Vec<InterfaceConfig>,
    /// The settings that differ at some listeners, none of which is there twice.
    pub listener: Vec<ListenerConfig>,
    /// Thresholds of the detector.
    #[serde(skip)]
    pub settings: Settings,
    /// The main file that was read; `None` when there is none.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// Source of `mode`: a mode set by `tcpguard mode` before gives way only to the command line.
    #[serde(skip)]
    pub mode_source: ModeSource,
    /// Directory of the sockets.
    #[serde(skip)]
    pub runtime_dir: PathBuf,
    /// Directory of the state that must survive a restart.
    #[serde(skip)]
    pub state_dir: PathBuf,
    /// Directory on a bpffs in which links are pinned.
    #[serde(skip)]
    pub pin_dir: PathBuf,
    /// Level of the log lines of the BPF programs that are printed.
    #[serde(skip)]
    pub bpf_log: LevelFilter,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            interfaces: Interfaces::default(),
            detection: Detection::default(),
            policy: Policy::default(),
            cookies: Cookies::default(),
            protect: Protect::default(),
            listeners: Listeners::default(),
            states: StateLimits::default(),
            control: Control::default(),
            metrics: Metrics::default(),
            fleet: Fleet::default(),
            interface: Vec::new(),
            listener: Vec::new(),
            settings: Settings::default(),
            path: None,
            mode_source: ModeSource::File,
            runtime_dir: DEFAULT_RUNTIME_DIR.into(),
            state_dir: DEFAULT_STATE_DIR.into(),
            pin_dir: DEFAULT_PIN_DIR.into(),
            bpf_log: LevelFilter::Off,
        }
    }
}

impl Sections for Config {
    const NAMED: &'static [(&'static str, &'static str, &'static str)] =
        &[("interface", "name", "\"eth0\""), ("listener", "at", "\":443\"")];
    const EXPLAINED: &'static str = "every key is explained by: tcpguard config init -";

    fn comparable(kind: &str, name: &str) -> String {
        let place = ListenerPlace::read(name).ok().filter(|_| kind == "listener");
        place.map_or_else(|| name.to_owned(), |place| place.to_string())
    }

    /// Text appended to a file belongs to its last section.
    fn elsewhere(key: &str) -> Option<String> {
        let meant = keys::keys().find(|known| known.is_called(key))?.full_name();
        Some(match meant.contains('.') {
            true => format!("did you mean {meant}?"),
            false => format!("{meant} belongs above the first [section]"),
        })
    }
}

impl Config {
    /// Returns the mode in which the XDP program is attached to an interface.
    pub fn xdp_mode_of(&self, interface: &str) -> XdpMode {
        let own = self.interface.iter().find(|own| own.name == interface);
        own.and_then(|own| own.xdp_mode).unwrap_or(self.interfaces.xdp_mode)
    }

    /// Name of the next program of each interface that has one.
    pub fn next_programs(&self) -> BTreeMap<String, String> {
        let next = |own: &InterfaceConfig| Some((own.name.clone(), own.next_program.clone()?));
        self.interface.iter().filter_map(next).collect()
    }

    /// The thresholds, and what differs at some listeners.
    pub fn tuning(&self) -> Tuning {
        let overrides = ListenerConfig::overrides(&self.listener);
        Tuning { common: self.settings.clone(), overrides }
    }

    /// Returns whether a listener is not monitored.
    pub fn ignores(&self, listener: &Listener) -> bool {
        let said = |addr| {
            let at = Place { addr, port: listener.port };
            self.listener.iter().find(|own| own.at == at)?.ignore
        };
        let said = said(Some(listener.addr)).or_else(|| said(None));
        said.unwrap_or_else(|| self.listeners.ignore_ports.contains(&listener.port))
    }

    /// Puts the command line on top of the files.
    pub(super) fn take(&mut self, overrides: Overrides) {
        if !overrides.interfaces.is_empty() {
            self.interfaces.names = overrides.interfaces;
        }
        let mut seen = HashSet::new();
        self.interfaces.names.retain(|name| seen.insert(name.clone()));
        if let Some(mode) = overrides.xdp_mode {
            self.interfaces.xdp_mode = mode;
            // The command line speaks of all of them.
            self.interface.iter_mut().for_each(|own| own.xdp_mode = None);
        }
        if let Some(mode) = overrides.mode {
            (self.mode, self.mode_source) = (mode, ModeSource::CommandLine);
        }
        let replace = |directory: &mut PathBuf, with: Option<PathBuf>| {
            *directory = with.unwrap_or_else(|| std::mem::take(directory));
        };
        replace(&mut self.runtime_dir, overrides.runtime_dir);
        replace(&mut self.state_dir, overrides.state_dir);
        replace(&mut self.pin_dir, overrides.pin_dir);
        self.bpf_log = overrides.bpf_log.unwrap_or(self.bpf_log);
    }

    /// Takes the thresholds over into the settings, and returns the mistakes between keys.
    pub(super) fn settle(&mut self, written: &BTreeMap<String, Spot>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut fault = |key: &str, text: String| {
            problems.extend(written.get(key).map(|at| Problem { at: at.clone(), text }));
        };
        let values = serde_json::to_value(&*self).unwrap_or_default();
        for threshold in thresholds() {
            let Some(key) = threshold.key else { continue };
            let Some(value) = keys::at(&values, key).as_f64() else { continue };
            let is_whole = value.fract() == 0.0 || !threshold.unit.is_whole();
            match is_whole && threshold.allows(value) {
                true => threshold.set(&mut self.settings, value),
                false => fault(
                    key,
                    format!("{key}: {value} does not fit; write {}", threshold.must_be()),
                ),
            }
        }
        // From here on they are in the settings.
        self.detection = Detection::default();
        (self.policy.rule_ttl_max_s, self.policy.rules) = (None, None);
        let StateLimits { established_warning, established_critical, .. } = self.states;
        if let (Some(warning), Some(critical)) = (established_warning, established_critical)
            && warning > critical
        {
            let text = format!(
                "states.established_warning ({warning}) must be at most \
                 states.established_critical ({critical}), or nothing is ever a mere warning"
            );
            fault("states.established_warning", text);
        }
        problems
    }
}

/// Source of the start mode.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ModeSource {
    /// `run --mode`: wins over everything.
    CommandLine,
    /// The file, or the default: a mode set by `tcpguard mode` wins.
    #[default]
    File,
}

/// Settings from the command line of `tcpguard run` that replace those of the file and the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `-i`; empty: as the file says.
    pub interfaces: Vec<String>,
    /// Value of `--xdp-mode`.
    pub xdp_mode: Option<XdpMode>,
    /// Value of `--mode`.
    pub mode: Option<Mode>,
    /// Value of `--runtime-dir`.
    pub runtime_dir: Option<PathBuf>,
    /// Value of `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// Value of `--pin-dir`.
    pub pin_dir: Option<PathBuf>,
    /// Value of `--bpf-log`.
    pub bpf_log: Option<LevelFilter>,
}
