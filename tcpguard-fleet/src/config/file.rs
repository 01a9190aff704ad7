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
mod tests {
    use super::*;

    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn parsed(text: &str) -> Config {
        parse(Path::new("fleet.toml"), text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// The mistakes, each on a line.
    fn mistakes(text: &str) -> Vec<String> {
        let problems = parse(Path::new("fleet.toml"), text).expect_err("mistakes");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_has_its_meaning() {
        let config = parsed(&format!(
            r#"
            host = "a1b2c3d4"
            site = "fra"
            [bus]
            servers = ["tls://nats.example.net:4222"]
            credentials = "/etc/tcpguard/fleet.creds"
            authorities = "/etc/tcpguard/ca.pem"
            [agent]
            socket = "/run/other.sock"
            [[role]]
            name = "ops"
            keys = ["{KEY}"]
            may = ["block"]
            widest_ipv4 = 24
            widest_ipv6 = 48
            longest_h = 48
            [operator]
            role = "ops"
            key = "/root/ops.key"
            [[hook]]
            command = ["/usr/local/bin/notify", "--quiet"]
            [[hook]]
            url = "https://example.org/hook"
            key = "/etc/tcpguard/hook.key"
            [edge]
            relief = true
            link_share = 0.8
            loss_share = 0.02
            pps = 1_000_000
            clear_syn_pps = 100
            widen = true
            rate_bytes_per_s = 0
            port_rate_bytes_per_s = 50_000
            blackhole = ["192.0.2.11"]
            link_mbit = 10_000
            [relief]
            dry_run = false
            speaker = "exabgp"
            local_as = 65001
            router_id = "10.99.0.1"
            local_address = "10.99.0.1"
            peer_as = 65000
            neighbor = "10.99.0.2"
            multihop = 2
            password = "/etc/tcpguard/bgp.password"
            credentials = "/etc/tcpguard/relief.creds"
            protected = ["192.0.2.1"]
            bus_ports = [4222]
            flowspec = 10
            blackholes = 2
            blackhole_communities = ["65535:666", "65001:666"]
            blackhole_next_hops = ["10.99.0.1"]
            on_silence_s = 120
            [[relief_host]]
            host = "a1b2c3d4"
            prefixes = ["192.0.2.0/24"]
            "#
        ));
        assert_eq!(config.host.as_ref().map(ToString::to_string).as_deref(), Some("a1b2c3d4"));
        let bus = config.bus("a1b2c3d4").expect("a bus");
        assert_eq!(bus.credentials, Credentials::File("/etc/tcpguard/fleet.creds".into()));
        assert_eq!(config.agent, Path::new("/run/other.sock"));
        let role = config.roles.0.values().next().expect("a role");
        assert!(role.block && !role.allow);
        assert_eq!((role.widest_v4, role.widest_v6, role.longest.as_secs()), (24, 48, 172_800));
        assert_eq!(config.operator.key.as_deref(), Some(Path::new("/root/ops.key")));
        assert_eq!(config.hooks.len(), 2);
        let edge = config.edge.expect("an edge");
        assert!(edge.is_spare([192, 0, 2, 11].into()) && !edge.is_spare([192, 0, 2, 10].into()));
        assert_eq!(edge.link_bps, Some(1e10));
        let policy = Policy { action: Action::Discard, port_rate: Some(50_000), blackhole: true };
        let expected = edge::Settings {
            link_share: 0.8,
            loss_share: 0.02,
            pps: Some(1e6),
            clear_syn_pps: 100.0,
            may_widen: true,
            policy,
        };
        assert_eq!(edge.settings, expected);
        let relief = config.relief.expect("a controller");
        assert_eq!(relief.credentials, Some("/etc/tcpguard/relief.creds".into()));
        assert_eq!((relief.bounds.flowspec, relief.bounds.blackholes), (10, 2));
        assert_eq!(relief.bounds.on_silence, Some(Duration::from_secs(120)));
        assert!(!relief.bounds.dry_run);
        let terms = relief.bounds.blackhole.expect("blackholes");
        assert_eq!((terms.communities.len(), terms.next_hop_ipv6), (2, None));
        assert_eq!(relief.bounds.hosts.len(), 1);
        let speaker = relief.speaker.expect("a speaker");
        assert_eq!(
            (speaker.kind, speaker.program.as_path()),
            (SpeakerKind::ExaBgp, Path::new("/usr/sbin/exabgp"))
        );
        assert_eq!((speaker.peering.peer_as, speaker.peering.multihop), (65000, Some(2)));
    }

    #[test]
    fn an_empty_file_shares_nothing_and_asks_for_nothing() {
        let config = parsed("");
        assert!(config.edge.is_none() && config.relief.is_none() && config.hooks.is_empty());
        assert_eq!(config.agent, Path::new(DEFAULT_AGENT_SOCKET));
        let failure = config.bus("a1b2c3d4").expect_err("no server");
        assert!(failure.hint.contains("/etc/tcpguard/fleet.toml"), "{failure}");
        assert!(parsed("[relief]\n").relief.expect("a controller").bounds.dry_run);
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        assert_eq!(
            mistakes("host = \"web1\"\n[bus]\nserver = []\ncredentials = \"x\"\n[egde]\n"),
            [
                "fleet.toml:1:8: host: \"web1\" is not a host id: 8 to 64 lower-case hexadecimal digits",
                "fleet.toml:3:1: unknown key bus.server; did you mean bus.servers?",
                "fleet.toml:4:15: bus.credentials: \"x\" is not an absolute path, such as \"/etc/…\"",
                "fleet.toml:5:2: unknown key egde; did you mean edge?",
            ]
        );
        for (text, why) in [
            ("[bus]\nservers = [\"nats.example.net\"]\n", "is not a server"),
            ("[bus]\nservers = [\"tls://user:word@x:4222\"]\n", "is not a server"),
            ("[bus]\nservers = [\"wss://nats.example.net\"]\n", "is not a server"),
            ("[bus]\ncertificate = \"/a\"\n", "either credentials, or certificate and key"),
            ("[[role]]\nkeys = []\n", "[[role]] needs the key name"),
            ("[[role]]\nname = \"ops\"\n", "a role needs keys"),
            ("[[role]]\nname = \"ops\"\nkeys = [\"d75a\"]\n", "64 lower-case hexadecimal digits"),
            ("[role]\nname = \"ops\"\n", "write [[role]]"),
            ("[[hook]]\n", "either command, or url"),
            ("[[hook]]\ncommand = [\"notify\"]\n", "write it as a list"),
            ("[edge]\nlink_share = 90\n", "a number from 0.001 to 1"),
            (
                "[edge]\nport_rate_bytes_per_s = 8000\n",
                "8000 does not fit; write a whole number from 9000 to 16777216, or 0",
            ),
            ("[relief]\ndry_run = false\n", "without a speaker"),
            (
                "[relief]\nspeaker = \"gobgp\"\npeer_as = 1\n",
                "local_as, router_id, local_address, neighbor",
            ),
            ("[relief]\nspeaker = \"frr\"\n", "expected `gobgp` or `exabgp`"),
            ("[relief]\nblackhole_communities = [\"666\"]\n", "is not a community"),
            (
                "[relief]\nblackhole_next_hops = [\"10.0.0.1\", \"10.0.0.2\"]\n",
                "at most one address",
            ),
            (
                "[[relief_host]]\nhost = \"a1b2c3d4\"\nprefixes = [\"192.0.2.0/24\"]\n",
                "write [relief] too",
            ),
            ("[[relief_host]]\nhost = \"a1b2c3d4\"\n[relief]\n", "a host needs prefixes"),
            ("site = fra\n", "not TOML: "),
        ] {
            let mistakes = mistakes(text);
            assert!(mistakes.iter().any(|mistake| mistake.contains(why)), "{mistakes:?}");
        }
        let role = format!("[[role]]\nname = \"ops\"\nkeys = [\"{KEY}\"]\n");
        assert!(mistakes(&format!("{role}{role}"))[0].contains("put both together"));
    }

    /// The samples of the documentation, each of which is a whole file of a machine or a part of one.
    #[test]
    fn the_samples_of_the_documentation_are_valid() {
        let page = include_str!("../../../docs/fleet.md");
        let samples = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let own = samples.filter(|sample| !sample.contains("listen = true"));
        let configs: Vec<Config> = own.map(parsed).collect();
        let has = |test: fn(&Config) -> bool| {
            configs.iter().any(|config| test(config) && config.bus("a1b2c3d4").is_ok())
        };
        assert!(has(|config| !config.roles.0.is_empty()), "a host");
        assert!(has(|config| config.operator.role.is_some() && config.operator.key.is_some()));
        assert!(has(|config| config
            .relief
            .as_ref()
            .is_some_and(|relief| relief.speaker.is_some())));
        assert!(configs.iter().any(|config| config.edge.is_some()));
    }

    /// The packaged file shows every key with its default or an example.
    #[test]
    fn the_packaged_file_is_valid_as_it_is_and_with_every_key() {
        let packaged = include_str!("../../../packaging/fleet.toml");
        parsed(packaged);
        let is_key = |line: &str| {
            line.strip_prefix('#').is_some_and(|rest| {
                rest.starts_with('[')
                    || rest.starts_with(|letter: char| letter.is_ascii_lowercase())
            })
        };
        let with_keys: Vec<&str> =
            packaged.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
        let config = parsed(&with_keys.join("\n"));
        assert!(config.edge.is_some() && config.relief.is_some());
        assert_eq!((config.hooks.len(), config.roles.0.len()), (2, 1));
    }
}
