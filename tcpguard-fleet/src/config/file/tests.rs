//! Tests of the reader: every key, every mistake, and the files that are shipped.

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
        ("[relief]\nblackhole_next_hops = [\"10.0.0.1\", \"10.0.0.2\"]\n", "at most one address"),
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
    let page = include_str!("../../../../docs/fleet.md");
    let samples = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let own = samples.filter(|sample| !sample.contains("listen = true"));
    let configs: Vec<Config> = own.map(parsed).collect();
    let has = |test: fn(&Config) -> bool| {
        configs.iter().any(|config| test(config) && config.bus("a1b2c3d4").is_ok())
    };
    assert!(has(|config| !config.roles.0.is_empty()), "a host");
    assert!(has(|config| config.operator.role.is_some() && config.operator.key.is_some()));
    assert!(has(|config| config.relief.as_ref().is_some_and(|relief| relief.speaker.is_some())));
    assert!(configs.iter().any(|config| config.edge.is_some()));
}

/// The packaged file shows every key with its default or an example.
#[test]
fn the_packaged_file_is_valid_as_it_is_and_with_every_key() {
    let packaged = include_str!("../../../../packaging/fleet.toml");
    parsed(packaged);
    let is_key = |line: &str| {
        line.strip_prefix('#').is_some_and(|rest| {
            rest.starts_with('[') || rest.starts_with(|letter: char| letter.is_ascii_lowercase())
        })
    };
    let with_keys: Vec<&str> =
        packaged.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    let config = parsed(&with_keys.join("\n"));
    assert!(config.edge.is_some() && config.relief.is_some());
    assert_eq!((config.hooks.len(), config.roles.0.len()), (2, 1));
}
