//! The text of the file: each section as a struct of its keys, and the meaning of the keys together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use tcpguard_host::toml_file::{self, File, Problem, Sections};
use tcpguard_host::toml_value::{Parsed, Prefix, list, some, some_whole};
use toml::Spanned;

use super::value::{
    AbsolutePath, Address, CommunityForm, Server, Text, rate, share, some_list, some_number,
    some_ports,
};
use super::{
    Bus, Config, DEFAULT_AGENT_SOCKET, Edge, Hook, Operator, Relief, Speaker, SpeakerKind,
};
use crate::bus::Credentials;
use crate::document::{HostId, Label};
use crate::relief::choice::Policy;
use crate::relief::controller::bounds::{self, BlackholeTerms};
use crate::relief::edge;
use crate::relief::flowspec::Action;
use crate::relief::route::Community;
use crate::relief::speaker::peering::Peering;
use crate::trust::{MAX_RULE_TIME, PublicKey, Role, Roles};

const MOST_HOURS: u64 = MAX_RULE_TIME.as_secs() / 3600;
const MOST_AS: u64 = u32::MAX as u64;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    #[serde(deserialize_with = "some::<Parsed<HostId>, _>")]
    host: Option<HostId>,
    #[serde(deserialize_with = "some::<Parsed<Label>, _>")]
    site: Option<Label>,
    bus: Option<Spanned<BusKeys>>,
    agent: AgentKeys,
    role: Vec<Spanned<RoleKeys>>,
    operator: Operator,
    hook: Vec<Spanned<HookKeys>>,
    edge: EdgeKeys,
    relief: Option<Spanned<ReliefKeys>>,
    relief_host: Vec<Spanned<HostKeys>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BusKeys {
    #[serde(deserialize_with = "list::<Server, _>")]
    servers: Vec<String>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    credentials: Option<PathBuf>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    certificate: Option<PathBuf>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    key: Option<PathBuf>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    authorities: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AgentKeys {
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    socket: Option<PathBuf>,
}

/// A rule that a role may make.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum May {
    Block,
    Allow,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RoleKeys {
    #[serde(deserialize_with = "some::<Parsed<Label>, _>")]
    name: Option<Label>,
    #[serde(deserialize_with = "list::<Parsed<PublicKey>, _>")]
    keys: Vec<PublicKey>,
    may: Option<Vec<May>>,
    #[serde(deserialize_with = "some_whole::<u8, 0, 32, _>")]
    widest_ipv4: Option<u8>,
    #[serde(deserialize_with = "some_whole::<u8, 0, 128, _>")]
    widest_ipv6: Option<u8>,
    #[serde(deserialize_with = "some_whole::<u64, 1, MOST_HOURS, _>")]
    longest_h: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HookKeys {
    #[serde(deserialize_with = "some_list::<Text, _>")]
    command: Option<Vec<String>>,
    #[serde(deserialize_with = "some::<Text, _>")]
    url: Option<String>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    key: Option<PathBuf>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    token: Option<PathBuf>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    authorities: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EdgeKeys {
    relief: bool,
    #[serde(deserialize_with = "share")]
    link_share: Option<f64>,
    #[serde(deserialize_with = "share")]
    loss_share: Option<f64>,
    #[serde(deserialize_with = "some_number::<1, 1_000_000_000_000, _>")]
    pps: Option<f64>,
    #[serde(deserialize_with = "some_number::<1, 1_000_000_000, _>")]
    clear_syn_pps: Option<f64>,
    widen: Option<bool>,
    #[serde(deserialize_with = "rate")]
    rate_bytes_per_s: Option<u32>,
    #[serde(deserialize_with = "rate")]
    port_rate_bytes_per_s: Option<u32>,
    #[serde(deserialize_with = "list::<Prefix, _>")]
    blackhole: Vec<IpNet>,
    #[serde(deserialize_with = "some_whole::<u64, 1, 10_000_000, _>")]
    link_mbit: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReliefKeys {
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    credentials: Option<PathBuf>,
    #[serde(deserialize_with = "list::<Prefix, _>")]
    protected: Vec<IpNet>,
    #[serde(deserialize_with = "some_ports")]
    bus_ports: Option<Vec<u16>>,
    #[serde(deserialize_with = "some_whole::<usize, 0, 1000, _>")]
    flowspec: Option<usize>,
    #[serde(deserialize_with = "some_whole::<usize, 0, 1000, _>")]
    blackholes: Option<usize>,
    #[serde(deserialize_with = "some_whole::<u64, 1, 3600, _>")]
    on_silence_s: Option<u64>,
    dry_run: Option<bool>,
    #[serde(deserialize_with = "some_list::<CommunityForm, _>")]
    blackhole_communities: Option<Vec<Community>>,
    #[serde(deserialize_with = "list::<Address, _>")]
    blackhole_next_hops: Vec<IpAddr>,
    speaker: Option<SpeakerKind>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    program: Option<PathBuf>,
    #[serde(deserialize_with = "some_whole::<u32, 1, MOST_AS, _>")]
    local_as: Option<u32>,
    router_id: Option<Ipv4Addr>,
    #[serde(deserialize_with = "some::<Address, _>")]
    local_address: Option<IpAddr>,
    #[serde(deserialize_with = "some_whole::<u32, 1, MOST_AS, _>")]
    peer_as: Option<u32>,
    #[serde(deserialize_with = "some::<Address, _>")]
    neighbor: Option<IpAddr>,
    #[serde(deserialize_with = "some_whole::<u8, 1, 255, _>")]
    multihop: Option<u8>,
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    password: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostKeys {
    #[serde(deserialize_with = "some::<Parsed<HostId>, _>")]
    host: Option<HostId>,
    #[serde(deserialize_with = "list::<Prefix, _>")]
    prefixes: Vec<IpNet>,
}

impl Sections for Keys {
    const NAMED: &'static [(&'static str, &'static str, &'static str)] = &[
        ("role", "name", "\"ops\""),
        ("relief_host", "host", "\"a1b2c3d4\", from: tcpguard-fleet name"),
    ];
    const EXPLAINED: &'static str = "every key is explained in the packaged fleet.toml";
}

/// Reads the `text` of the file at `path`.
///
/// # Errors
/// All of its mistakes.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let mut file = toml_file::read::<Keys>(path, text);
    let keys: Keys = file.keys();
    let relief_at = keys.relief.as_ref().map(|relief| relief.span().start);
    if let (None, Some(host)) = (relief_at, keys.relief_host.first()) {
        file.note(host.span().start, "[[relief_host]] is for a controller; write [relief] too");
    }
    let hosts = relief_hosts(&mut file, keys.relief_host);
    let config = Config {
        host: keys.host,
        site: keys.site,
        bus: keys.bus.map(|bus| read_bus(&mut file, bus)).unwrap_or_default(),
        agent: keys.agent.socket.unwrap_or_else(|| DEFAULT_AGENT_SOCKET.into()),
        roles: read_roles(&mut file, keys.role),
        operator: keys.operator,
        hooks: keys.hook.into_iter().filter_map(|hook| read_hook(&mut file, hook)).collect(),
        edge: read_edge(keys.edge),
        relief: keys.relief.map(|relief| read_relief(&mut file, relief, hosts)),
    };
    let mut problems = file.problems;
    problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
    match problems.is_empty() {
        true => Ok(config),
        false => Err(problems),
    }
}

fn read_bus(file: &mut File<'_>, bus: Spanned<BusKeys>) -> Bus {
    let start = bus.span().start;
    let BusKeys { servers, credentials, certificate, key, authorities } = bus.into_inner();
    let credentials = match (credentials, certificate, key) {
        (None, None, None) => Credentials::None,
        (Some(file), None, None) => Credentials::File(file),
        (None, Some(certificate), Some(key)) => Credentials::Certificate { certificate, key },
        _ => {
            let text = "[bus] has either credentials, or certificate and key; remove the others";
            file.note(start, text);
            Credentials::None
        }
    };
    Bus { servers, credentials, authorities }
}

fn read_roles(file: &mut File<'_>, blocks: Vec<Spanned<RoleKeys>>) -> Roles {
    let mut roles = BTreeMap::new();
    for block in blocks {
        let start = block.span().start;
        let keys = block.into_inner();
        if keys.keys.is_empty() {
            let text = "a role needs keys; write keys = [\"…\"], from: tcpguard-fleet key";
            file.note(start, text);
        }
        let role = Role::new(keys.keys);
        let may = |rule| keys.may.as_ref().is_none_or(|may| may.contains(&rule));
        let longest = keys.longest_h.map(|hours| Duration::from_secs(3600 * hours));
        let role = Role {
            block: may(May::Block),
            allow: may(May::Allow),
            widest_v4: keys.widest_ipv4.unwrap_or(role.widest_v4),
            widest_v6: keys.widest_ipv6.unwrap_or(role.widest_v6),
            longest: longest.unwrap_or(role.longest),
            ..role
        };
        roles.extend(keys.name.map(|name| (name, role)));
    }
    Roles(roles)
}

fn read_hook(file: &mut File<'_>, hook: Spanned<HookKeys>) -> Option<Hook> {
    let start = hook.span().start;
    let HookKeys { command, url, key, token, authorities } = hook.into_inner();
    let of_url = key.is_some() || token.is_some() || authorities.is_some();
    match (command, url) {
        (Some(command), None) if !of_url => {
            if !command.first().is_some_and(|program| program.starts_with('/')) {
                let text =
                    "hook.command: write it as a list: [\"/usr/local/bin/notify\", \"--quiet\"]";
                file.note(start, text);
            }
            Some(Hook::Command(command))
        }
        (None, Some(url)) => Some(Hook::Webhook { url, key, token, authorities }),
        _ => {
            let text = "[[hook]] has either command, or url with key, token and authorities";
            file.note(start, text);
            None
        }
    }
}

fn read_edge(keys: EdgeKeys) -> Option<Edge> {
    let default = edge::Settings::default();
    let policy = Policy {
        action: keys.rate_bytes_per_s.map_or(default.policy.action, Action::with_rate),
        port_rate: keys.port_rate_bytes_per_s.filter(|rate| *rate != 0),
        blackhole: !keys.blackhole.is_empty(),
    };
    let settings = edge::Settings {
        link_share: keys.link_share.unwrap_or(default.link_share),
        loss_share: keys.loss_share.unwrap_or(default.loss_share),
        pps: keys.pps,
        clear_syn_pps: keys.clear_syn_pps.unwrap_or(default.clear_syn_pps),
        may_widen: keys.widen.unwrap_or(default.may_widen),
        policy,
    };
    let link_bps = keys.link_mbit.map(|megabits| megabits as f64 * 1e6);
    keys.relief.then_some(Edge { settings, spare: keys.blackhole, link_bps })
}

fn read_relief(
    file: &mut File<'_>,
    relief: Spanned<ReliefKeys>,
    hosts: BTreeMap<HostId, Vec<IpNet>>,
) -> Relief {
    let start = relief.span().start;
    let keys = relief.into_inner();
    let default = bounds::Settings::default();
    let dry_run = keys.dry_run.unwrap_or(true);
    let speaker = read_speaker(file, start, &keys);
    let bounds = bounds::Settings {
        hosts,
        blackhole: read_blackhole(file, start, &keys),
        protected: keys.protected,
        bus_ports: keys.bus_ports.unwrap_or(default.bus_ports),
        flowspec: keys.flowspec.unwrap_or(default.flowspec),
        blackholes: keys.blackholes.unwrap_or(default.blackholes),
        on_silence: keys.on_silence_s.map(Duration::from_secs),
        dry_run,
    };
    Relief { credentials: keys.credentials, bounds, speaker }
}

fn relief_hosts(
    file: &mut File<'_>,
    blocks: Vec<Spanned<HostKeys>>,
) -> BTreeMap<HostId, Vec<IpNet>> {
    let mut hosts = BTreeMap::new();
    for block in blocks {
        let start = block.span().start;
        let HostKeys { host, prefixes } = block.into_inner();
        if prefixes.is_empty() {
            let text = "a host needs prefixes: routes are announced for its own addresses only";
            file.note(start, text);
        }
        hosts.extend(host.map(|host| (host, prefixes)));
    }
    hosts
}

fn read_blackhole(file: &mut File<'_>, start: usize, keys: &ReliefKeys) -> Option<BlackholeTerms> {
    let communities = keys.blackhole_communities.clone();
    let mut terms = BlackholeTerms {
        next_hop_ipv4: None,
        next_hop_ipv6: None,
        communities: communities.unwrap_or_else(|| vec![Community::BLACKHOLE]),
    };
    for next_hop in &keys.blackhole_next_hops {
        let is_second = match next_hop {
            IpAddr::V4(address) => terms.next_hop_ipv4.replace(*address).is_some(),
            IpAddr::V6(address) => terms.next_hop_ipv6.replace(*address).is_some(),
        };
        if is_second {
            file.note(start, "relief.blackhole_next_hops has at most one address of each family");
        }
    }
    (!keys.blackhole_next_hops.is_empty()).then_some(terms)
}

fn read_speaker(file: &mut File<'_>, start: usize, keys: &ReliefKeys) -> Option<Speaker> {
    let Some(kind) = keys.speaker else {
        if keys.dry_run == Some(false) {
            let text = "[relief] announces nothing without a speaker; write speaker = \"gobgp\"";
            file.note(start, text);
        }
        return None;
    };
    let missing = [
        ("local_as", keys.local_as.is_none()),
        ("router_id", keys.router_id.is_none()),
        ("local_address", keys.local_address.is_none()),
        ("peer_as", keys.peer_as.is_none()),
        ("neighbor", keys.neighbor.is_none()),
    ];
    let missing: Vec<_> =
        missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(key, _)| key).collect();
    if !missing.is_empty() {
        let text = format!("[relief] needs for its speaker: {}", missing.join(", "));
        file.note(start, text);
    }
    let peering = Peering {
        local_as: keys.local_as?,
        router_id: keys.router_id?,
        local_address: keys.local_address?,
        peer_as: keys.peer_as?,
        neighbor: keys.neighbor?,
        multihop: keys.multihop,
        password: None,
    };
    if peering.local_address.is_ipv4() != peering.neighbor.is_ipv4() {
        let text = "relief.local_address and relief.neighbor are of different address families";
        file.note(start, text);
    }
    let program = keys.program.clone().unwrap_or_else(|| kind.program().into());
    Some(Speaker { kind, program, peering, password: keys.password.clone() })
}

#[cfg(test)]
mod tests;
