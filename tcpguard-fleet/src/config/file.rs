//! The text of the file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::reader::{NOT_TOML, Reader, Section};
use super::{
    Bus, Config, DEFAULT_AGENT_SOCKET, Edge, Hook, Operator, Problem, Relief, Speaker, SpeakerKind,
    value,
};
use crate::bus::Credentials;
use crate::document::Label;
use crate::relief::choice::Policy;
use crate::relief::controller::bounds::{self, BlackholeTerms};
use crate::relief::edge;
use crate::relief::flowspec::{Action, HIGHEST_RATE, LOWEST_RATE};
use crate::relief::route::Community;
use crate::relief::speaker::peering::Peering;
use crate::trust::{MAX_RULE_TIME, PublicKey, Role, Roles};

/// Kinds of speakers by name, with the paths of their packages.
const SPEAKERS: [(&str, (SpeakerKind, &str)); 2] = [
    ("gobgp", (SpeakerKind::GoBgp, "/usr/bin/gobgpd")),
    ("exabgp", (SpeakerKind::ExaBgp, "/usr/sbin/exabgp")),
];
/// Rules that a role may make, by name.
const MAY: [(&str, May); 2] = [("block", May::Block), ("allow", May::Allow)];
/// Rates of a rule, in bytes per second.
const RATES: RangeInclusive<u32> = LOWEST_RATE..=HIGHEST_RATE;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum May {
    Block,
    Allow,
}

/// Reads the `text` of the file at `path`.
///
/// # Errors
/// All of its mistakes.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let reader = Reader::new(path, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        reader.note(offset, format!("{NOT_TOML}{message}"));
    }
    let broken = reader.lines();
    let config = read(reader.root(table.get_ref()));
    let problems = reader.into_problems(&broken);
    match problems.is_empty() {
        true => Ok(config),
        false => Err(problems),
    }
}

fn read(mut root: Section<'_>) -> Config {
    let config = Config {
        host: root.value("host", value::parsed),
        site: root.value("site", value::parsed),
        bus: read_bus(root.section("bus")),
        agent: read_agent(root.section("agent")),
        roles: read_roles(root.blocks("role")),
        operator: read_operator(root.section("operator")),
        hooks: root.blocks("hook").into_iter().filter_map(read_hook).collect(),
        edge: read_edge(root.section("edge")),
        relief: {
            let hosts = root.blocks("relief_host");
            read_relief(root.section("relief"), hosts)
        },
    };
    root.finish();
    config
}

fn read_bus(mut bus: Section<'_>) -> Bus {
    let servers = bus.list("servers", server).unwrap_or_default();
    let file = bus.value("credentials", value::path);
    let certificate = bus.value("certificate", value::path);
    let key = bus.value("key", value::path);
    let authorities = bus.value("authorities", value::path);
    let credentials = match (file, certificate, key) {
        (None, None, None) => Credentials::None,
        (Some(file), None, None) => Credentials::File(file),
        (None, Some(certificate), Some(key)) => Credentials::Certificate { certificate, key },
        _ => {
            bus.note("[bus] has either credentials, or certificate and key; remove the others");
            Credentials::None
        }
    };
    bus.finish();
    Bus { servers, credentials, authorities }
}

/// The address of a server.
fn server(value: &DeValue<'_>) -> Result<String, String> {
    let text = value::text(value)?;
    let known = ["tls://", "nats://"].iter().any(|scheme| text.starts_with(scheme));
    match known && !text.contains('@') {
        true => Ok(text),
        false => {
            Err(format!("\"{text}\" is not a server, such as \"tls://nats.example.net:4222\""))
        }
    }
}

fn read_agent(mut agent: Section<'_>) -> PathBuf {
    let socket = agent.value("socket", value::path);
    agent.finish();
    socket.unwrap_or_else(|| DEFAULT_AGENT_SOCKET.into())
}

fn read_roles(blocks: Vec<Section<'_>>) -> Roles {
    let mut roles = BTreeMap::new();
    for mut block in blocks {
        let name = block.required("name", "\"ops\"", value::parsed::<Label>);
        let keys = block.list("keys", value::parsed::<PublicKey>).unwrap_or_default();
        if keys.is_empty() {
            block.note("a role needs keys; write keys = [\"…\"], from: tcpguard-fleet key");
        }
        let may = block.list("may", |value| value::choice(value, &MAY));
        let widest_v4 = block.value("widest_ipv4", |value| value::whole(value, 0..=32_u8));
        let widest_v6 = block.value("widest_ipv6", |value| value::whole(value, 0..=128_u8));
        let most = MAX_RULE_TIME.as_secs() / 3600;
        let longest_h = block.value("longest_h", |value| value::integer(value, 1..=most));
        let role = Role::new(keys);
        let may = may.unwrap_or_else(|| vec![May::Block, May::Allow]);
        let role = Role {
            block: may.contains(&May::Block),
            allow: may.contains(&May::Allow),
            widest_v4: widest_v4.unwrap_or(role.widest_v4),
            widest_v6: widest_v6.unwrap_or(role.widest_v6),
            longest: longest_h.map_or(role.longest, |hours| Duration::from_secs(3600 * hours)),
            ..role
        };
        if let Some(name) = name
            && let Some(before) = roles.insert(name.clone(), role)
        {
            block.note(format!(
                "the role {name} is listed twice; write all of its keys in one [[role]]"
            ));
            roles.insert(name, before);
        }
        block.finish();
    }
    Roles(roles)
}

fn read_operator(mut operator: Section<'_>) -> Operator {
    let role = operator.value("role", value::parsed);
    let key = operator.value("key", value::path);
    operator.finish();
    Operator { role, key }
}

fn read_hook(mut hook: Section<'_>) -> Option<Hook> {
    let command = hook.list("command", value::text);
    let url = hook.value("url", value::text);
    let key = hook.value("key", value::path);
    let token = hook.value("token", value::path);
    let authorities = hook.value("authorities", value::path);
    let of_url = key.is_some() || token.is_some() || authorities.is_some();
    let read = match (command, url) {
        (Some(command), None) if !of_url => {
            if !command.first().is_some_and(|program| program.starts_with('/')) {
                hook.note(
                    "hook.command: write it as a list: [\"/usr/local/bin/notify\", \"--quiet\"]",
                );
            }
            Some(Hook::Command(command))
        }
        (None, Some(url)) => Some(Hook::Webhook { url, key, token, authorities }),
        _ => {
            hook.note("[[hook]] has either command, or url with key, token and authorities");
            None
        }
    };
    hook.finish();
    read
}

fn read_edge(mut section: Section<'_>) -> Option<Edge> {
    let default = edge::Settings::default();
    let is_on = section.value("relief", value::boolean).unwrap_or_default();
    let share = |value: &DeValue<'_>| value::number(value, 0.001..=1.0);
    let link_share = section.value("link_share", share);
    let loss_share = section.value("loss_share", share);
    let pps = section.value("pps", |value| value::number(value, 1.0..=1e12));
    let clear = section.value("clear_syn_pps", |value| value::number(value, 1.0..=1e9));
    let may_widen = section.value("widen", value::boolean);
    let or_none = |value: &DeValue<'_>| match value::integer(value, 0..=0) {
        Ok(_) => Ok(None),
        Err(_) => value::whole(value, RATES).map(Some).map_err(|why| format!("{why}, or 0")),
    };
    let rate = section.value("rate_bytes_per_s", or_none);
    let port_rate = section.value("port_rate_bytes_per_s", or_none);
    let spare = section.list("blackhole", value::prefix).unwrap_or_default();
    let link = section.value("link_mbit", |value| value::integer(value, 1..=10_000_000));
    section.finish();
    let policy = Policy {
        action: rate.map_or(default.policy.action, |rate| Action::with_rate(rate.unwrap_or(0))),
        port_rate: port_rate.flatten(),
        blackhole: !spare.is_empty(),
    };
    let settings = edge::Settings {
        link_share: link_share.unwrap_or(default.link_share),
        loss_share: loss_share.unwrap_or(default.loss_share),
        pps,
        clear_syn_pps: clear.unwrap_or(default.clear_syn_pps),
        may_widen: may_widen.unwrap_or(default.may_widen),
        policy,
    };
    let link_bps = link.map(|megabits| megabits as f64 * 1e6);
    is_on.then_some(Edge { settings, spare, link_bps })
}

fn read_relief(mut section: Section<'_>, hosts: Vec<Section<'_>>) -> Option<Relief> {
    let is_written = section.is_written();
    if !is_written {
        for host in &hosts {
            host.note("[[relief_host]] is for a controller; write [relief] too");
        }
    }
    let default = bounds::Settings::default();
    let credentials = section.value("credentials", value::path);
    let protected = section.list("protected", value::prefix).unwrap_or_default();
    let port = |value: &DeValue<'_>| value::whole(value, 1..=u16::MAX);
    let bus_ports = section.list("bus_ports", port);
    let flowspec = section.value("flowspec", |value| value::integer(value, 0..=1000));
    let blackholes = section.value("blackholes", |value| value::integer(value, 0..=1000));
    let on_silence = section.value("on_silence_s", |value| value::integer(value, 1..=3600));
    let dry_run = section.value("dry_run", value::boolean).unwrap_or(true);
    let bounds = bounds::Settings {
        hosts: read_relief_hosts(hosts),
        protected,
        bus_ports: bus_ports.unwrap_or(default.bus_ports),
        blackhole: read_blackhole(&mut section),
        flowspec: flowspec.map_or(default.flowspec, |number| number as usize),
        blackholes: blackholes.map_or(default.blackholes, |number| number as usize),
        on_silence: on_silence.map(Duration::from_secs),
        dry_run,
    };
    let speaker = read_speaker(&mut section, dry_run);
    section.finish();
    is_written.then_some(Relief { credentials, bounds, speaker })
}

fn read_relief_hosts(
    blocks: Vec<Section<'_>>,
) -> BTreeMap<crate::document::HostId, Vec<ipnet::IpNet>> {
    let mut hosts = BTreeMap::new();
    for mut block in blocks {
        let host = block.required("host", "\"a1b2c3d4\", from: tcpguard-fleet name", value::parsed);
        let prefixes = block.list("prefixes", value::prefix).unwrap_or_default();
        if prefixes.is_empty() {
            block.note("a host needs prefixes: routes are announced for its own addresses only");
        }
        if let Some(host) = host {
            hosts.entry(host).or_insert_with(Vec::new).extend(prefixes);
        }
        block.finish();
    }
    hosts
}

fn read_blackhole(section: &mut Section<'_>) -> Option<BlackholeTerms> {
    let communities = section.list("blackhole_communities", community);
    let next_hops = section.list("blackhole_next_hops", value::address).unwrap_or_default();
    let mut terms = BlackholeTerms {
        next_hop_ipv4: None,
        next_hop_ipv6: None,
        communities: communities.unwrap_or_else(|| vec![Community::BLACKHOLE]),
    };
    for next_hop in &next_hops {
        let is_second = match next_hop {
            IpAddr::V4(address) => terms.next_hop_ipv4.replace(*address).is_some(),
            IpAddr::V6(address) => terms.next_hop_ipv6.replace(*address).is_some(),
        };
        if is_second {
            section.note("relief.blackhole_next_hops has at most one address of each family");
        }
    }
    (!next_hops.is_empty()).then_some(terms)
}

/// A community of BGP.
fn community(value: &DeValue<'_>) -> Result<Community, String> {
    let text = value::text(value)?;
    text.parse().map_err(|_| format!("\"{text}\" is not a community, such as \"65535:666\""))
}

fn read_speaker(section: &mut Section<'_>, dry_run: bool) -> Option<Speaker> {
    let number = |value: &DeValue<'_>| value::whole(value, 1..=u32::MAX);
    let kind = section.value("speaker", |value| value::choice(value, &SPEAKERS));
    let program = section.value("program", value::path);
    let local_as = section.value("local_as", number);
    let router_id = section.value("router_id", value::parsed);
    let local_address = section.value("local_address", value::address);
    let peer_as = section.value("peer_as", number);
    let neighbor = section.value("neighbor", value::address);
    let multihop = section.value("multihop", |value| value::whole(value, 1..=255_u8));
    let password = section.value("password", value::path);
    let Some((kind, default)) = kind else {
        if !dry_run {
            section.note("[relief] announces nothing without a speaker; write speaker = \"gobgp\"");
        }
        return None;
    };
    let missing = [
        ("local_as", local_as.is_none()),
        ("router_id", router_id.is_none()),
        ("local_address", local_address.is_none()),
        ("peer_as", peer_as.is_none()),
        ("neighbor", neighbor.is_none()),
    ];
    let missing: Vec<_> =
        missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(key, _)| key).collect();
    if !missing.is_empty() {
        section.note(format!("[relief] needs for its speaker: {}", missing.join(", ")));
    }
    let peering = Peering {
        local_as: local_as?,
        router_id: router_id?,
        local_address: local_address?,
        peer_as: peer_as?,
        neighbor: neighbor?,
        multihop,
        password: None,
    };
    if peering.local_address.is_ipv4() != peering.neighbor.is_ipv4() {
        section.note("relief.local_address and relief.neighbor are of different address families");
    }
    let program = program.unwrap_or_else(|| default.into());
    Some(Speaker { kind, program, peering, password })
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
            ("[[role]]\nkeys = []\n", "[role] needs the key name"),
            ("[[role]]\nname = \"ops\"\n", "a role needs keys"),
            ("[[role]]\nname = \"ops\"\nkeys = [\"d75a\"]\n", "64 lower-case hexadecimal digits"),
            ("[role]\nname = \"ops\"\n", "write [[role]]"),
            ("[[hook]]\n", "either command, or url"),
            ("[[hook]]\ncommand = [\"notify\"]\n", "write it as a list"),
            ("[edge]\nlink_share = 90\n", "write a number from 0.001 to 1"),
            (
                "[edge]\nport_rate_bytes_per_s = 8000\n",
                "8000 does not fit; write a whole number from 9000 to 16777216, or 0",
            ),
            ("[relief]\ndry_run = false\n", "without a speaker"),
            (
                "[relief]\nspeaker = \"gobgp\"\npeer_as = 1\n",
                "local_as, router_id, local_address, neighbor",
            ),
            ("[relief]\nspeaker = \"frr\"\n", "write one of \"gobgp\", \"exabgp\""),
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
        assert!(mistakes(&format!("{role}{role}"))[0].contains("is listed twice"));
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
