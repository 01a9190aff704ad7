//! A configuration file as it was written: an absent key is `None`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;
use tcpguard_engine::{Mode, thresholds};
use tcpguard_host::firewall::FirewallChoice;
use toml::de::DeTable;

pub use super::blocks::{InterfaceBlock, ListenerBlock};
pub use super::reader::Written;
use super::reader::{Section, Source};
pub use super::value::Amount;
use super::value::{self, BEYOND_BOUNDS, COOKIE_BACKENDS, COOKIE_FIREWALL, MODES, XDP_MODES};
use super::{BeyondBounds, CookieChoice, Problem, Spot, StateLimits};
use crate::bpf::XdpMode;

/// The sections in which there are thresholds.
const THRESHOLD_SECTIONS: [&str; 2] = ["detection", "policy"];

/// Every key of the file. Their meaning and defaults: `packaging/tcpguard.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Key `mode`
    pub mode: Option<Written<Mode>>,
    /// Key `interfaces.names`
    pub interfaces: Option<Written<Vec<String>>>,
    /// Key `interfaces.xdp_mode`
    pub xdp_mode: Option<Written<XdpMode>>,
    /// Thresholds by their field of [`tcpguard_engine::Settings`].
    pub thresholds: BTreeMap<&'static str, Written<Amount>>,
    /// Key `policy.drop_illegal_flags`
    pub drop_illegal_flags: Option<Written<bool>>,
    /// Key `policy.drop_out_of_state`
    pub drop_out_of_state: Option<Written<bool>>,
    /// Key `policy.beyond_bounds`
    pub beyond_bounds: Option<Written<BeyondBounds>>,
    /// Key `cookies.backend`
    pub cookie_backend: Option<Written<CookieChoice>>,
    /// Key `cookies.firewall`
    pub cookie_firewall: Option<Written<FirewallChoice>>,
    /// Key `cookies.mark`
    pub cookie_mark: Option<Written<u64>>,
    /// Key `cookies.replies_per_network`
    pub replies_per_network: Option<Written<u64>>,
    /// Key `cookies.replies_total`
    pub replies_total: Option<Written<u64>>,
    /// Key `protect.prefixes`
    pub protect_prefixes: Option<Written<Vec<IpNet>>>,
    /// Key `protect.ssh_ports`
    pub ssh_ports: Option<Written<Vec<u16>>>,
    /// Key `listeners.ignore_ports`
    pub ignore_ports: Option<Written<Vec<u16>>>,
    /// Limits of `tcpguard states`, by their names under `states`.
    pub states: BTreeMap<&'static str, Written<u64>>,
    /// Key `control.group`
    pub group: Option<Written<String>>,
    /// Key `metrics.listen`
    pub metrics_listen: Option<Written<SocketAddr>>,
    /// Key `fleet.listen`
    pub fleet_listen: Option<Written<bool>>,
    /// Key `fleet.group`
    pub fleet_group: Option<Written<String>>,
    /// Tables `[[interface]]`
    pub interface: Vec<InterfaceBlock>,
    /// Tables `[[listener]]`
    pub listener: Vec<ListenerBlock>,
    /// Position of each key that has a value, under its name with its section.
    pub written: BTreeMap<String, Spot>,
}

impl File {
    /// Adds a file that was read after this one: its values replace the previous ones, key by key. A list
    /// is one value.
    pub fn merge(&mut self, later: Self) {
        // Without `..`: a new key does not compile until it is handled here.
        let Self {
            mode,
            interfaces,
            xdp_mode,
            thresholds,
            drop_illegal_flags,
            drop_out_of_state,
            beyond_bounds,
            cookie_backend,
            cookie_firewall,
            cookie_mark,
            replies_per_network,
            replies_total,
            protect_prefixes,
            ssh_ports,
            ignore_ports,
            states,
            group,
            metrics_listen,
            fleet_listen,
            fleet_group,
            interface,
            listener,
            written,
        } = later;
        replace(&mut self.mode, mode);
        replace(&mut self.interfaces, interfaces);
        replace(&mut self.xdp_mode, xdp_mode);
        self.thresholds.extend(thresholds);
        replace(&mut self.drop_illegal_flags, drop_illegal_flags);
        replace(&mut self.drop_out_of_state, drop_out_of_state);
        replace(&mut self.beyond_bounds, beyond_bounds);
        replace(&mut self.cookie_backend, cookie_backend);
        replace(&mut self.cookie_firewall, cookie_firewall);
        replace(&mut self.cookie_mark, cookie_mark);
        replace(&mut self.replies_per_network, replies_per_network);
        replace(&mut self.replies_total, replies_total);
        replace(&mut self.protect_prefixes, protect_prefixes);
        replace(&mut self.ssh_ports, ssh_ports);
        replace(&mut self.ignore_ports, ignore_ports);
        self.states.extend(states);
        replace(&mut self.group, group);
        replace(&mut self.metrics_listen, metrics_listen);
        replace(&mut self.fleet_listen, fleet_listen);
        replace(&mut self.fleet_group, fleet_group);
        InterfaceBlock::merge(&mut self.interface, interface);
        ListenerBlock::merge(&mut self.listener, listener);
        self.written.extend(written);
    }
}

fn replace<T>(value: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *value = later;
    }
}

/// Reads the `text` of the file `path`; the problems are empty when it is valid.
pub fn parse(path: &Path, text: &str) -> (File, Vec<Problem>) {
    let source = Source::new(path, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| Problem {
            at: source.spot(error.span().map_or(0, |span| span.start)),
            text: format!("not TOML: {}", error.message().lines().collect::<Vec<_>>().join(", ")),
        })
        .collect();
    let broken: Vec<usize> = problems.iter().map(|problem| problem.at.line).collect();

    let mut found = Vec::new();
    let mut file = read(&source, table.get_ref(), &mut found);
    file.written = source.into_written();
    // The parser's reading of a line that is not TOML says nothing about the operator's intent.
    found.retain(|problem| !broken.contains(&problem.at.line));
    problems.append(&mut found);
    (file, problems)
}

fn read(source: &Source<'_>, table: &DeTable<'_>, problems: &mut Vec<Problem>) -> File {
    let mut root = Section::root(source, table);
    let mode = root.value("mode", problems, |value| value::choice(value, &MODES));

    let mut interfaces = root.section("interfaces", problems);
    let names = interfaces.list("names", problems, value::interface);
    let xdp_mode = interfaces.value("xdp_mode", problems, |value| value::choice(value, &XDP_MODES));
    interfaces.finish(problems);

    let mut amounts = BTreeMap::new();
    let (mut drop_illegal_flags, mut drop_out_of_state, mut beyond_bounds) = (None, None, None);
    for name in THRESHOLD_SECTIONS {
        let mut section = root.section(name, problems);
        if name == "policy" {
            drop_illegal_flags = section.value("drop_illegal_flags", problems, value::boolean);
            drop_out_of_state = section.value("drop_out_of_state", problems, value::boolean);
            beyond_bounds = section
                .value("beyond_bounds", problems, |value| value::choice(value, &BEYOND_BOUNDS));
        }
        for threshold in thresholds() {
            let Some((of, key)) = threshold.key.and_then(|key| key.split_once('.')) else {
                continue;
            };
            if of == name {
                let amount = section.value(key, problems, |value| value::amount(value, threshold));
                amounts.extend(amount.map(|amount| (threshold.name, amount)));
            }
        }
        section.finish(problems);
    }

    let mut cookies = root.section("cookies", problems);
    let cookie_backend =
        cookies.value("backend", problems, |value| value::choice(value, &COOKIE_BACKENDS));
    let cookie_firewall =
        cookies.value("firewall", problems, |value| value::choice(value, &COOKIE_FIREWALL));
    let cookie_mark =
        cookies.value("mark", problems, |value| value::integer(value, 0..=u32::MAX.into()));
    let replies_per_network = cookies
        .value("replies_per_network", problems, |value| value::integer(value, 1..=1_000_000));
    let replies_total = cookies
        .value("replies_total", problems, |value| value::integer(value, 1_000..=100_000_000));
    cookies.finish(problems);

    let mut protect = root.section("protect", problems);
    let protect_prefixes = protect.list("prefixes", problems, value::prefix);
    let ssh_ports = protect.list("ssh_ports", problems, value::port);
    protect.finish(problems);

    let mut listeners = root.section("listeners", problems);
    let ignore_ports = listeners.list("ignore_ports", problems, value::port);
    listeners.finish(problems);

    let mut limits = root.section("states", problems);
    let mut states = BTreeMap::new();
    for limit in StateLimits::NAMES {
        let written = limits.value(limit, problems, |value| value::integer(value, 1..=100_000_000));
        states.extend(written.map(|written| (limit, written)));
    }
    limits.finish(problems);

    let mut control = root.section("control", problems);
    let group = control.value("group", problems, value::group);
    control.finish(problems);

    let mut metrics = root.section("metrics", problems);
    let metrics_listen = metrics.value("listen", problems, value::loopback);
    metrics.finish(problems);

    let mut fleet = root.section("fleet", problems);
    let fleet_listen = fleet.value("listen", problems, value::boolean);
    let fleet_group = fleet.value("group", problems, value::group);
    fleet.finish(problems);

    let interface = InterfaceBlock::read_all(&mut root, problems);
    let listener = ListenerBlock::read_all(&mut root, problems);
    root.finish(problems);
    File {
        mode,
        interfaces: names,
        xdp_mode,
        thresholds: amounts,
        drop_illegal_flags,
        drop_out_of_state,
        beyond_bounds,
        cookie_backend,
        cookie_firewall,
        cookie_mark,
        replies_per_network,
        replies_total,
        protect_prefixes,
        ssh_ports,
        ignore_ports,
        states,
        group,
        metrics_listen,
        fleet_listen,
        fleet_group,
        interface,
        listener,
        written: BTreeMap::new(),
    }
}
