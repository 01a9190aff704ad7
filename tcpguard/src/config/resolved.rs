//! The configuration in force: file, defaults and command line combined.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use log::LevelFilter;
use tcpguard_engine::{Listener, Mode, Place, Settings, SettingsError, Tuning, threshold};
use tcpguard_host::firewall::FirewallChoice;

use super::blocks::ListenerConfig;
use super::file::{Amount, File, ListenerBlock, Written};
use super::{
    DEFAULT_FLEET_GROUP, DEFAULT_PIN_DIR, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, Problem,
    StateLimits, value,
};
use crate::bpf::XdpMode;

/// Configuration of `tcpguard run`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The main file that was read; `None` when there is none.
    pub path: Option<PathBuf>,
    /// Interfaces to protect, in the operator's order, none twice. May be empty in a valid file;
    /// `tcpguard run` refuses that.
    pub interfaces: Vec<String>,
    /// Mode in which the XDP program is attached to them.
    pub xdp_mode: XdpMode,
    /// Mode of each interface for which the file sets one; empty where the command line sets one for all.
    pub interface_modes: BTreeMap<String, XdpMode>,
    /// Name of the next program of each interface for which the file names one.
    pub next_programs: BTreeMap<String, String>,
    /// The mode to start in.
    pub mode: Mode,
    /// Source of `mode`: a mode set by `tcpguard mode` before gives way only to the command line.
    pub mode_source: ModeSource,
    /// Thresholds of the detector.
    pub settings: Settings,
    /// True if segments with flag combinations that no TCP sends are dropped, in enforce mode.
    pub drop_illegal_flags: bool,
    /// True if out-of-state segments are dropped, in enforce mode and while they are searched for.
    pub drop_out_of_state: bool,
    /// Treatment of frames with headers beyond the parser's bounds.
    pub beyond_bounds: BeyondBounds,
    /// The maker of cookies.
    pub cookie_backend: CookieChoice,
    /// Treatment of a host packet filter that does not suit cookies.
    pub cookie_firewall: FirewallChoice,
    /// Bits that mark the segments that bring back a cookie; 0: none.
    pub cookie_mark: u32,
    /// SYNs a second that are answered with cookies to one network (IPv4 /24, IPv6 /48).
    pub replies_per_network: u64,
    /// SYNs a second that are answered with cookies in all.
    pub replies_total: u64,
    /// Prefixes whose SYNs no source or signature rule may drop.
    pub protect_prefixes: Vec<IpNet>,
    /// Local ports whose connected peers are protected like `protect_prefixes`.
    pub ssh_ports: Vec<u16>,
    /// Ports on which listeners are not monitored.
    pub ignore_ports: Vec<u16>,
    /// The settings that differ at some listeners, none of which is there twice.
    pub listeners: Vec<ListenerConfig>,
    /// Limits of `tcpguard states`.
    pub states: StateLimits,
    /// Unix group (name or number) that may read the status; `None`: root only.
    pub group: Option<String>,
    /// Loopback address on which metrics are served over TCP; `None`: on none.
    pub metrics_listen: Option<SocketAddr>,
    /// True if the fleet process may connect.
    pub fleet_listen: bool,
    /// Unix group (name or number) of the socket for it.
    pub fleet_group: String,
    /// Directory of the sockets.
    pub runtime_dir: PathBuf,
    /// Directory of the state that must survive a restart.
    pub state_dir: PathBuf,
    /// Directory on a bpffs in which links are pinned.
    pub pin_dir: PathBuf,
    /// Level of the log lines of the BPF programs that are printed.
    pub bpf_log: LevelFilter,
}

impl Config {
    /// Returns the mode in which the XDP program is attached to an interface.
    pub fn xdp_mode_of(&self, interface: &str) -> XdpMode {
        self.interface_modes.get(interface).copied().unwrap_or(self.xdp_mode)
    }

    /// The thresholds, and what differs at some listeners.
    pub fn tuning(&self) -> Tuning {
        let overrides = ListenerConfig::overrides(&self.listeners);
        Tuning { common: self.settings.clone(), overrides }
    }

    /// Returns whether a listener is not monitored.
    pub fn ignores(&self, listener: &Listener) -> bool {
        let said = |addr| {
            let at = Place { addr, port: listener.port };
            self.listeners.iter().find(|own| own.at == at)?.ignore
        };
        let said = said(Some(listener.addr)).or_else(|| said(None));
        said.unwrap_or_else(|| self.ignore_ports.contains(&listener.port))
    }
}

/// Treatment of a frame with headers beyond the parser's bounds. Frames are dropped only in enforce mode,
/// and each is counted by the bound.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BeyondBounds {
    /// First fragments that end before the TCP flags are dropped, because no stack sends them. The other
    /// frames, except those with too many VLAN tags, are dropped while a flood of SYNs that complete no
    /// handshake arrives in them.
    #[default]
    Auto,
    Pass,
    /// The frame is dropped.
    Drop,
}

/// The maker of cookies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CookieChoice {
    /// The best maker that works on this host.
    #[default]
    Auto,
    /// The XDP program. The kernel by itself where that does not work.
    Own,
    /// The kernel on behalf of the XDP program. The kernel by itself where that does not work.
    KernelHelper,
    /// The kernel by itself.
    Kernel,
}

/// Source of the start mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ModeSource {
    /// `run --mode`: wins over everything.
    CommandLine,
    /// The file, or the default: a mode set by `tcpguard mode` wins.
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

/// Puts `file`, the defaults and `overrides` together.
pub fn resolve(
    file: File,
    path: Option<PathBuf>,
    overrides: Overrides,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let settings = settings(&file.thresholds).unwrap_or_else(|faults| {
        problems.extend(faults);
        Settings::default()
    });
    let states = StateLimits::resolve(&file.states).unwrap_or_else(|fault| {
        problems.push(fault);
        StateLimits::default()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let or_file = |line: Vec<String>, file| {
        if line.is_empty() { value_or(file, line) } else { line }
    };
    let mut interfaces = or_file(overrides.interfaces, file.interfaces);
    let mut seen = std::collections::HashSet::new();
    interfaces.retain(|name| seen.insert(name.clone()));

    let (mut interface_modes, mut next_programs) = (BTreeMap::new(), BTreeMap::new());
    for block in file.interface {
        let name = block.name.value;
        next_programs.extend(block.next_program.map(|next| (name.clone(), next.value)));
        // The command line speaks of all of them.
        let mode = block.xdp_mode.filter(|_| overrides.xdp_mode.is_none());
        interface_modes.extend(mode.map(|mode| (name, mode.value)));
    }

    Ok(Config {
        path,
        interfaces,
        interface_modes,
        next_programs,
        xdp_mode: overrides.xdp_mode.unwrap_or_else(|| value_or(file.xdp_mode, XdpMode::Auto)),
        mode: overrides.mode.unwrap_or_else(|| value_or(file.mode, Mode::Observe)),
        mode_source: match overrides.mode {
            Some(_) => ModeSource::CommandLine,
            None => ModeSource::File,
        },
        settings,
        drop_illegal_flags: value_or(file.drop_illegal_flags, false),
        drop_out_of_state: value_or(file.drop_out_of_state, false),
        beyond_bounds: value_or(file.beyond_bounds, BeyondBounds::Auto),
        cookie_backend: value_or(file.cookie_backend, CookieChoice::Auto),
        cookie_firewall: value_or(file.cookie_firewall, FirewallChoice::Refuse),
        cookie_mark: u32::try_from(value_or(file.cookie_mark, 0)).unwrap_or_default(),
        replies_per_network: value_or(file.replies_per_network, 256),
        replies_total: value_or(file.replies_total, 15_000_000),
        protect_prefixes: value_or(file.protect_prefixes, Vec::new()),
        ssh_ports: value_or(file.ssh_ports, vec![22]),
        ignore_ports: value_or(file.ignore_ports, Vec::new()),
        listeners: file.listener.iter().map(ListenerBlock::resolve).collect(),
        states,
        group: file.group.map(|written| written.value),
        metrics_listen: file.metrics_listen.map(|written| written.value),
        fleet_listen: value_or(file.fleet_listen, false),
        fleet_group: value_or(file.fleet_group, DEFAULT_FLEET_GROUP.to_owned()),
        runtime_dir: overrides.runtime_dir.unwrap_or_else(|| DEFAULT_RUNTIME_DIR.into()),
        state_dir: overrides.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        pin_dir: overrides.pin_dir.unwrap_or_else(|| DEFAULT_PIN_DIR.into()),
        bpf_log: overrides.bpf_log.unwrap_or(LevelFilter::Off),
    })
}

fn value_or<T>(written: Option<Written<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

/// The thresholds, which the engine judges; its faults are reported with line and key.
fn settings(written: &BTreeMap<&'static str, Written<Amount>>) -> Result<Settings, Vec<Problem>> {
    let mut settings = Settings::default();
    for (name, written) in written {
        if let Some(threshold) = threshold(name) {
            threshold.set(&mut settings, written.value.number);
        }
    }
    let faults = settings.faults();
    let problems: Vec<_> = faults.iter().filter_map(|error| problem(error, written)).collect();
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// A fault in the `written` thresholds; `None` where none of them is at fault.
fn problem(
    error: &SettingsError,
    written: &BTreeMap<&'static str, Written<Amount>>,
) -> Option<Problem> {
    let (own, key) = (written.get(error.name)?, threshold(error.name)?.key?);
    let text = format!("{key}: {}", value::does_not_fit(&own.value.text, &error.must_be));
    Some(Problem { at: own.at.clone(), text })
}
