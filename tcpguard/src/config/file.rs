//! The configuration file as it was written: what is absent is `None`.

use ipnet::IpNet;
use tcpguard_engine::Mode;
use toml::de::DeTable;

pub use super::reader::Written;
use super::reader::{Section, line_of};
use super::value::{self, COOKIE_BACKENDS, MODES, XDP_MODES};
use super::{CookieChoice, Problem, XdpMode};

/// Every key of the file. Their meaning and defaults: `packaging/tcpguard.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// `mode`
    pub mode: Option<Written<Mode>>,
    /// `interfaces.names`
    pub interfaces: Option<Written<Vec<String>>>,
    /// `interfaces.xdp_mode`
    pub xdp_mode: Option<Written<XdpMode>>,
    /// `[detection]`
    pub detection: DetectionFile,
    /// `policy.drop_illegal_flags`
    pub drop_illegal_flags: Option<Written<bool>>,
    /// `policy.drop_strays`
    pub drop_strays: Option<Written<bool>>,
    /// `cookies.backend`
    pub cookie_backend: Option<Written<CookieChoice>>,
    /// `cookies.answers_per_network`
    pub answers_per_network: Option<Written<u64>>,
    /// `cookies.answers_total`
    pub answers_total: Option<Written<u64>>,
    /// `protect.prefixes`
    pub protect_prefixes: Option<Written<Vec<IpNet>>>,
    /// `protect.ssh_ports`
    pub ssh_ports: Option<Written<Vec<u16>>>,
    /// `listeners.ignore_ports`
    pub ignore_ports: Option<Written<Vec<u16>>>,
    /// `control.group`
    pub group: Option<Written<String>>,
}

/// The keys of `[detection]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectionFile {
    /// `poll_ms`
    pub poll_ms: Option<Written<u64>>,
    /// `fast_min`
    pub fast_min: Option<Written<u64>>,
    /// `fast_ratio`
    pub fast_ratio: Option<Written<f64>>,
    /// `occupancy_on`
    pub occupancy_on: Option<Written<f64>>,
    /// `occupancy_off`
    pub occupancy_off: Option<Written<f64>>,
    /// `clear_s`
    pub clear_s: Option<Written<u64>>,
    /// `armed_s`
    pub armed_s: Option<Written<u64>>,
}

/// Reads a file; the problems are empty when it is valid.
pub fn parse(text: &str) -> (File, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| Problem {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            text: format!("not TOML: {}", error.message().lines().collect::<Vec<_>>().join(", ")),
        })
        .collect();
    let broken: Vec<usize> = problems.iter().map(|problem| problem.line).collect();

    let mut found = Vec::new();
    let file = read(text, table.get_ref(), &mut found);
    // What the parser made of a line that is not TOML says nothing about the operator's intent.
    found.retain(|problem| !broken.contains(&problem.line));
    problems.append(&mut found);
    (file, problems)
}

fn read(text: &str, table: &DeTable<'_>, problems: &mut Vec<Problem>) -> File {
    let mut root = Section::root(text, table);
    let mode = root.value("mode", problems, |value| value::choice(value, &MODES));

    let mut interfaces = root.section("interfaces", problems);
    let names = interfaces.list("names", problems, value::interface);
    let xdp_mode = interfaces.value("xdp_mode", problems, |value| value::choice(value, &XDP_MODES));
    interfaces.finish(problems);

    let mut section = root.section("detection", problems);
    let detection = DetectionFile {
        poll_ms: section.value("poll_ms", problems, |value| value::integer(value, 50, 1_000)),
        fast_min: section.value("fast_min", problems, |value| value::integer(value, 8, 1_000_000)),
        fast_ratio: section.value("fast_ratio", problems, |value| value::share(value, 0.1, 1.0)),
        occupancy_on: section
            .value("occupancy_on", problems, |value| value::share(value, 0.01, 1.0)),
        occupancy_off: section
            .value("occupancy_off", problems, |value| value::share(value, 0.0, 1.0)),
        clear_s: section.value("clear_s", problems, |value| value::integer(value, 5, 3_600)),
        armed_s: section.value("armed_s", problems, |value| value::integer(value, 0, 86_400)),
    };
    section.finish(problems);

    let mut policy = root.section("policy", problems);
    let drop_illegal_flags = policy.value("drop_illegal_flags", problems, value::boolean);
    let drop_strays = policy.value("drop_strays", problems, value::boolean);
    policy.finish(problems);

    let mut cookies = root.section("cookies", problems);
    let cookie_backend =
        cookies.value("backend", problems, |value| value::choice(value, &COOKIE_BACKENDS));
    let answers_per_network =
        cookies.value("answers_per_network", problems, |value| value::integer(value, 1, 1_000_000));
    let answers_total =
        cookies.value("answers_total", problems, |value| value::integer(value, 1_000, 100_000_000));
    cookies.finish(problems);

    let mut protect = root.section("protect", problems);
    let protect_prefixes = protect.list("prefixes", problems, value::prefix);
    let ssh_ports = protect.list("ssh_ports", problems, value::port);
    protect.finish(problems);

    let mut listeners = root.section("listeners", problems);
    let ignore_ports = listeners.list("ignore_ports", problems, value::port);
    listeners.finish(problems);

    let mut control = root.section("control", problems);
    let group = control.value("group", problems, value::group);
    control.finish(problems);

    root.finish(problems);
    File {
        mode,
        interfaces: names,
        xdp_mode,
        detection,
        drop_illegal_flags,
        drop_strays,
        cookie_backend,
        answers_per_network,
        answers_total,
        protect_prefixes,
        ssh_ports,
        ignore_ports,
        group,
    }
}
