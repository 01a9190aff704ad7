//! The keys of a configuration file, with their meaning or the reason of their refusal.

use std::path::Path;
use std::time::Duration;

use tcpguard::bpf::XdpMode;
use tcpguard::config::keys::{PACKAGED as SHIPPED, sections};
use tcpguard::config::{
    self, BeyondBounds, Config, CookieChoice, ModeSource, Overrides, StateLimits,
};
use tcpguard_engine::{
    Constant, Mitigation, Mode, Place, Settings, Threshold, all_constants, thresholds,
};
use tcpguard_host::firewall::FirewallChoice;
use tcpguard_host::hint::Hint as _;

fn parse(text: &str) -> Result<Config, config::ConfigError> {
    config::parse(Path::new("guard.toml"), text, Overrides::default())
}

/// The errors of a file, each without the path in front.
fn errors(text: &str) -> Vec<String> {
    let error = parse(text).expect_err(text);
    assert_eq!(error.hint(), "edit guard.toml, then: tcpguard config check guard.toml");
    let line = |line: &str| line.strip_prefix("guard.toml:").expect(line).to_owned();
    error.to_string().lines().map(line).collect()
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.interfaces.names, [""; 0]);
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.mode_source, ModeSource::File);
    assert_eq!(config.interfaces.xdp_mode, XdpMode::Auto);
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.protect.ssh_ports, [22]);
    assert!(config.protect.prefixes.is_empty() && config.listeners.ignore_ports.is_empty());
    assert!(config.interface.is_empty() && config.listener.is_empty());
    assert_eq!(config.states, StateLimits::default());
    assert!(!config.policy.drop_illegal_flags && !config.policy.drop_out_of_state);
    assert_eq!(config.policy.beyond_bounds, BeyondBounds::Auto);
    assert_eq!(
        (config.cookies.replies_per_network, config.cookies.replies_total),
        (4096, 15_000_000)
    );
    assert_eq!((config.cookies.firewall, config.cookies.mark), (FirewallChoice::Refuse, 0));
    assert_eq!(config.control.group, None);
    assert_eq!(config.runtime_dir, Path::new("/run/tcpguard"));
}

#[test]
fn the_shipped_file_changes_nothing() {
    assert_eq!(parse(SHIPPED).unwrap(), parse("").unwrap());
}

/// Returns whether a line of the shipped file is a key or the head of a block, both commented out.
fn is_key(line: &str) -> bool {
    line.starts_with('#') && !line.starts_with("# ") && line != "#"
}

/// The text of the shipped file with these lines uncommented.
fn uncommented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<_> = lines.map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    lines.join("\n")
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let everywhere = || SHIPPED.lines().take_while(|line| !line.starts_with("#[["));
    let shown: Vec<_> = everywhere()
        .filter(|line| is_key(line))
        .map(|line| line[1..].split_once(" = ").expect(line).0.to_owned())
        .collect();
    let settings = config::show::settings(&parse("").unwrap());
    let known: Vec<_> =
        settings.iter().map(|setting| setting.key.rsplit('.').next().unwrap()).collect();
    assert_eq!(shown, known);
    let fields = serde_json::to_value(parse("").unwrap()).unwrap();
    for (section, keys) in fields.as_object().unwrap() {
        for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
            let name = format!("{section}.{key}");
            assert!(settings.iter().any(|setting| setting.key == name), "{name} is not explained");
        }
    }
    let mut shown = parse(&uncommented(everywhere())).unwrap();
    assert_eq!(shown.control.group.take().as_deref(), Some("adm"), "a key without a default");
    let listen = shown.metrics.listen.take().map(|address| address.to_string());
    assert_eq!(listen.as_deref(), Some("127.0.0.1:9469"), "another one");
    let open = (shown.states.established_warning.take(), shown.states.established_critical.take());
    assert_eq!(open, (Some(50_000), Some(80_000)), "the other ones");
    assert_eq!(shown, parse("").unwrap());
}

#[test]
fn the_blocks_of_the_shipped_file_can_be_used_as_they_stand() {
    let mut config = parse(&uncommented(SHIPPED.lines())).unwrap();
    assert_eq!(config.xdp_mode_of("eth1"), XdpMode::Generic);
    assert_eq!(config.xdp_mode_of("eth0"), XdpMode::Auto);
    assert_eq!(config.next_programs().get("eth1").map(String::as_str), Some("balancer"));
    let own = config.listener.pop().expect("one");
    assert_eq!((own.at.to_string().as_str(), own.mode), (":443", Some(Mode::Observe)));
    assert_eq!(own.ignore, Some(false));
    // But for the mode nothing is different.
    assert!(
        own.mitigations().len() == Mitigation::ALL.len()
            && own.mitigations().values().all(|allowed| *allowed),
        "{own:?}"
    );
}

#[test]
fn every_key_has_its_meaning() {
    let config = parse(
        r#"
        mode = "enforce"
        [interfaces]
        names = ["eth0", "eth1", "eth0"]
        xdp_mode = "native"
        [detection]
        fast_min = 1_000
        clear_s = 60
        [policy]
        rule_ttl_max_s = 120
        drop_illegal_flags = true
        drop_out_of_state = true
        beyond_bounds = "drop"
        [cookies]
        backend = "kernel"
        firewall = "allow"
        mark = 0x1000_0000
        replies_per_network = 1000
        replies_total = 5_000_000
        [protect]
        prefixes = ["192.0.2.0/24", "2001:db8::1"]
        ssh_ports = [22, 2222]
        [listeners]
        ignore_ports = [9100]
        [states]
        syn_recv = 30
        established_warning = 6_000
        established_critical = 8_000
        [control]
        group = "adm"
        [metrics]
        listen = "[::1]:9469"
        [fleet]
        listen = true
        group = "adm"
        [[interface]]
        name = "eth1"
        xdp_mode = "generic"
        [[listener]]
        at = ":443"
        ignore = false
        mode = "observe"
        signature = false
        source = false
        cookies = false
        budget = false
        out_of_state = false
        "#,
    )
    .unwrap();
    assert_eq!(config.interfaces.names, ["eth0", "eth1"], "none twice");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.interfaces.xdp_mode, XdpMode::Native);
    let expected = Settings {
        fast_failures: 1000,
        quiet: Duration::from_secs(60),
        rule_ttl_max: Duration::from_secs(120),
        ..Settings::default()
    };
    assert_eq!(config.settings, expected);
    assert!(config.policy.drop_illegal_flags && config.policy.drop_out_of_state);
    assert_eq!(config.policy.beyond_bounds, BeyondBounds::Drop);
    assert_eq!(config.cookies.backend, CookieChoice::Kernel);
    assert_eq!(
        (config.cookies.replies_per_network, config.cookies.replies_total),
        (1000, 5_000_000)
    );
    assert_eq!(
        (config.cookies.firewall, config.cookies.mark),
        (FirewallChoice::Allow, 0x1000_0000)
    );
    let prefixes: Vec<_> = config.protect.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["192.0.2.0/24", "2001:db8::1/128"]);
    assert_eq!(config.protect.ssh_ports, [22, 2222]);
    assert_eq!(config.listeners.ignore_ports, [9100]);
    assert_eq!(config.control.group.as_deref(), Some("adm"));
    assert_eq!(config.metrics.listen, Some("[::1]:9469".parse().unwrap()));
    assert_eq!((config.fleet.listen, config.fleet.group.as_str()), (true, "adm"));
    let (established_warning, established_critical) = (Some(6000), Some(8000));
    let states = StateLimits { syn_recv: 30, established_warning, established_critical };
    assert_eq!(config.states, states);
    assert_eq!(config.xdp_mode_of("eth0"), XdpMode::Native);
    assert_eq!(config.xdp_mode_of("eth1"), XdpMode::Generic);
    let own = config.tuning().overrides.pop().expect("one");
    assert_eq!((own.at, own.mode), (Place { addr: None, port: 443 }, Some(Mode::Observe)));
    assert_eq!(own.barred, Mitigation::ALL);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = Overrides {
        interfaces: vec!["lo".to_owned()],
        mode: Some(Mode::Off),
        xdp_mode: Some(XdpMode::Generic),
        runtime_dir: Some("/tmp/run".into()),
        ..Overrides::default()
    };
    let text = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\nxdp_mode = \"native\"\n\
                [[interface]]\nname = \"lo\"\nxdp_mode = \"native\"\nnext_program = \"mine_2\"";
    let config = config::parse(Path::new("guard.toml"), text, overrides).unwrap();
    assert_eq!(config.interfaces.names, ["lo"]);
    assert_eq!((config.mode, config.mode_source), (Mode::Off, ModeSource::CommandLine));
    assert_eq!(config.xdp_mode_of("lo"), XdpMode::Generic);
    assert_eq!(config.next_programs().get("lo").map(String::as_str), Some("mine_2"));
    assert_eq!(config.runtime_dir, Path::new("/tmp/run"));
}

/// File, and its errors in the order of their positions.
const MISTAKES: &[(&str, &[&str])] = &[
    (
        "mode = \"on\"",
        &["1:8: mode: unknown value `on`, expected one of `off`, `observe`, `enforce`"],
    ),
    ("mode = true", &["1:8: mode: not one of the names in quotes"]),
    ("mod = \"off\"", &["1:1: unknown key mod; did you mean mode?"]),
    (
        "[detection]\nclear = 60",
        &["2:1: unknown key detection.clear; did you mean detection.clear_s?"],
    ),
    ("[listeners]\ncolour = 1", &["2:1: unknown key listeners.colour; known here: ignore_ports"]),
    (
        "[detection]\nrules = 3\nquiet = 3",
        &[
            "2:1: unknown key detection.rules; did you mean policy.rules?",
            "3:1: unknown key detection.quiet; did you mean detection.clear_s?",
        ],
    ),
    ("zzz = 1", &["1:1: unknown key zzz; every key is explained by: tcpguard config init -"]),
    ("[detecton]\nclear_s = 1", &["1:2: unknown key detecton; did you mean detection?"]),
    ("detection = 3", &["1:13: detection is a section; write [detection] on a line of its own"]),
    (
        "[detection]\nclear_s = 4",
        &[
            "2:11: detection.clear_s: 4 does not fit; write a whole number of seconds from 5 to 3600",
        ],
    ),
    (
        "[detection]\nclear_s = -1",
        &[
            "2:11: detection.clear_s: -1 does not fit; write a whole number of seconds from 5 to 3600",
        ],
    ),
    (
        "[detection]\nclear_s = 99999999999999999999",
        &[
            "2:11: detection.clear_s: invalid type: integer `99999999999999999999` as i128, expected a number",
        ],
    ),
    (
        "[detection]\nclear_s = \"30\"",
        &["2:11: detection.clear_s: invalid type: string \"30\", expected a number"],
    ),
    (
        "[detection]\nfailure_floor = 75000",
        &[
            "2:17: detection.failure_floor: 75000 does not fit; write a number per second from 0.1 to 10000",
        ],
    ),
    (
        "[detection]\nfailure_floor = nan",
        &["2:17: detection.failure_floor: invalid value: floating point `NaN`, expected a number"],
    ),
    (
        "[detection]\nfast_min = 1\nfailure_floor = 0\n[policy]\nrules = 9",
        &[
            "2:12: detection.fast_min: 1 does not fit; write a whole number from 8 to 1000000",
            "3:17: detection.failure_floor: 0 does not fit; write a number per second from 0.1 to 10000",
            "5:9: policy.rules: 9 does not fit; write a whole number from 2048 to 131072",
        ],
    ),
    (
        "[policy]\ndrop_illegal_flags = \"yes\"",
        &["2:22: policy.drop_illegal_flags: invalid type: string \"yes\", expected a boolean"],
    ),
    (
        "[interfaces]\nnames = \"eth0\"",
        &["2:9: interfaces.names: invalid type: string \"eth0\", expected a list in [ … ]"],
    ),
    (
        "[interfaces]\nnames = [\n  \"eth0\",\n  \"a/b\",\n  \"\",\n  \"sixteen-bytes-xx\",\n  7,\n]",
        &[
            "4:3: interfaces.names: \"a/b\" is not an interface name; `ip -br link` lists them",
            "5:3: interfaces.names: \"\" is not an interface name; `ip -br link` lists them",
            "6:3: interfaces.names: \"sixteen-bytes-xx\" is not an interface name; `ip -br link` lists them",
            "7:3: interfaces.names: invalid type: integer `7`, expected a string",
        ],
    ),
    (
        "[protect]\nprefixes = [\"10.0.0.1/8\", \"ten\"]",
        &[
            "2:13: protect.prefixes: 10.0.0.1/8 has bits set right of the prefix; write 10.0.0.0/8 or 10.0.0.1",
            "2:27: protect.prefixes: \"ten\" is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::1",
        ],
    ),
    (
        "[protect]\nssh_ports = [0]",
        &[
            "2:14: protect.ssh_ports: invalid value: integer `0`, expected a whole number from 1 to 65535",
        ],
    ),
    (
        "[control]\ngroup = \"\"",
        &["2:9: control.group: \"\" is not a group; write the name of one, such as \"adm\""],
    ),
    (
        "[metrics]\nlisten = \"0.0.0.0:9469\"",
        &[
            "2:10: metrics.listen: \"0.0.0.0:9469\" is no loopback address with a port; write one such as \
           \"127.0.0.1:9469\" or \"[::1]:9469\"",
        ],
    ),
    (
        "[metrics]\nlisten = \"127.0.0.1:0\"",
        &[
            "2:10: metrics.listen: \"127.0.0.1:0\" is no loopback address with a port; write one such as \
           \"127.0.0.1:9469\" or \"[::1]:9469\"",
        ],
    ),
    ("mode = \"off\"\nmode = \"observe\"", &["2:1: not TOML: duplicate key"]),
    ("[policy", &["1:8: not TOML: unclosed table, expected `]`"]),
    // A file that is not TOML has one mistake, on the line where it begins.
    (
        "[detection]\nclear_s = 1\nmode = observe\n",
        &["3:8: not TOML: string values must be quoted, expected literal string"],
    ),
    (
        "# first\n[interfaces]\nnames = [\"eth0\"\n\n[detection]\nclear_s = 60\nfast_min = 99\n",
        &[
            "3:1: not TOML: a bracket or quotation mark that opens here is not closed (line 5: missing comma between array elements, expected `,`)",
        ],
    ),
    (
        "[[listeners]]",
        &[
            "1:1: listeners is a section; write [listeners] on a line of its own, or [[listener]] for one",
        ],
    ),
    (
        "[listener]\nat = \":1\"",
        &["1:1: listener is one of several; write [[listener]] on a line of its own"],
    ),
    (
        "listener = [3]",
        &["1:13: listener is one of several; write [[listener]] on a line of its own"],
    ),
    (
        "\n  [[listener]]\nmode = \"on\"\n[[interface]]",
        &[
            "2:3: [[listener]] needs the key at; write at = \":443\"",
            "3:8: listener.mode: unknown value `on`, expected one of `off`, `observe`, `enforce`",
            "4:1: [[interface]] needs the key name; write name = \"eth0\"",
        ],
    ),
    (
        "[[interface]]\nname = \"eth0\"\nnext_program = \"/sys/fs/bpf/balancer\"\n\
         [[interface]]\nname = \"eth1\"\nnext_program = 42",
        &[
            "3:16: interface[\"eth0\"].next_program: \"/sys/fs/bpf/balancer\" is no name of letters, digits, - and _; write \"balancer\" for the program that is pinned at /sys/fs/bpf/tcpguard/next/balancer",
            "6:16: interface[\"eth1\"].next_program: invalid type: integer `42`, expected a string",
        ],
    ),
    (
        "[[listener]]\nat = \"443\"\n[[listener]]\nat = \":0\"\n[[listener]]\nat = \"[::]:443\"",
        &[
            "2:6: listener[\"443\"].at: \"443\" is no address with a port; write one such as \":443\", \"203.0.113.10:443\" or \"[2001:db8::1]:443\"",
            "4:6: listener[\":0\"].at: \":0\" is no address with a port; write one such as \":443\", \"203.0.113.10:443\" or \"[2001:db8::1]:443\"",
            "6:6: listener[\"[::]:443\"].at: \"[::]:443\" is written \":443\", which is every listener on the port",
        ],
    ),
    (
        "[[listener]]\nat = \":443\"\ncookie = false\nfast_min = 9\ncookies = 1",
        &[
            "3:1: unknown key listener[\":443\"].cookie; did you mean listener[\":443\"].cookies?",
            "4:1: unknown key listener[\":443\"].fast_min; did you mean detection.fast_min?",
            "5:11: listener[\":443\"].cookies: invalid type: integer `1`, expected a boolean",
        ],
    ),
    (
        "[[listener]]\nat = \":443\"\n\n[[listener]]\nat = \":443\"\n\n[[listener]]\nat = \"192.0.2.1:443\"",
        &["5:6: listener[\":443\"] stands on line 2 already; put both together"],
    ),
    (
        "[states]\nestablished_warning = 900\nestablished_critical = 800\nsyn_recv = 0",
        &[
            "2:23: states.established_warning (900) must be at most states.established_critical (800), or nothing is ever a mere warning",
            "4:12: states.syn_recv: invalid value: integer `0`, expected a whole number from 1 to 100000000",
        ],
    ),
];

#[test]
fn every_mistake_is_named_with_its_place_and_the_way_out() {
    let others = MISTAKES.iter().filter(|(text, expected)| errors(text) != *expected);
    let others: Vec<_> = others.map(|(text, _)| (text, errors(text))).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// Two lines that give `key` of a section the value `text`.
fn file_with(key: &str, text: &str) -> String {
    let (section, key) = key.split_once('.').expect(key);
    format!("[{section}]\n{key} = {text}\n")
}

/// A value within the range that is not the default.
fn another(threshold: &Threshold) -> f64 {
    let default = threshold.get(&Settings::default());
    let within = |part: f64| {
        let value = threshold.least + part * (threshold.most - threshold.least);
        if threshold.unit.is_whole() { value.round() } else { value }
    };
    [0.5, 0.25].map(within).into_iter().find(|value| *value != default).expect(threshold.name)
}

fn written(threshold: &Threshold, value: f64) -> String {
    if threshold.unit.is_whole() { value.to_string() } else { format!("{value:?}") }
}

#[test]
fn every_threshold_is_read_from_its_key_and_shown_under_it() {
    for threshold in thresholds() {
        let Some(key) = threshold.key else { continue };
        let value = another(threshold);
        let text = written(threshold, value);
        let mut expected = Settings::default();
        threshold.set(&mut expected, value);
        assert_ne!(expected, Settings::default(), "{key}");
        let config = parse(&file_with(key, &text)).unwrap();
        assert_eq!(config.settings, expected, "{key}");
        let shown = config::show::settings(&config);
        let changed: Vec<_> = shown
            .iter()
            .filter(|setting| !setting.is_default)
            .map(|setting| (setting.key.as_str(), setting.value.to_string()))
            .collect();
        assert_eq!(changed, [(key, text)]);
    }
}

#[test]
fn every_threshold_out_of_range_is_named_with_its_place_and_what_it_must_be() {
    for threshold in thresholds() {
        let Some(key) = threshold.key else { continue };
        let step = if threshold.unit.is_whole() { 1.0 } else { 0.001 };
        let beyond = [threshold.least - step, threshold.most + step];
        let wrong = beyond.map(|value| written(threshold, value));
        let column = key.rsplit('.').next().map_or(0, str::len) + " = ".len() + 1;
        for text in wrong {
            let must_be = threshold.must_be();
            assert_eq!(
                errors(&file_with(key, &text)),
                [format!("2:{column}: {key}: {text} does not fit; write {must_be}")]
            );
        }
    }
}

/// Compares `text` with the file, which is at `path` from the root of the repository. After a change:
/// `UPDATE_EXPECTED=1 cargo test -p tcpguard --test config`, and read the difference.
fn is_the_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == text, "{} is not up to date: UPDATE_EXPECTED=1", path.display());
}

/// Every explanation is above its key, with the range, and no line is too long to be read.
#[test]
fn the_shipped_file_explains_every_threshold_as_the_engine_does() {
    let keys: Vec<_> = sections().into_iter().flat_map(|section| section.keys).collect();
    for threshold in thresholds() {
        let Some((_, name)) = threshold.key.and_then(|key| key.split_once('.')) else { continue };
        let explained = keys.iter().find(|key| key.name == name).expect(name);
        let most = threshold.in_words(threshold.most);
        let range = format!(" ({} to {most})", threshold.least);
        assert_eq!(explained.doc.replace('\n', " "), threshold.doc.to_owned() + &range, "{name}");
    }
    assert!(keys.iter().all(|key| !key.doc.is_empty()), "{keys:#?}");
    assert!(SHIPPED.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn the_page_of_thresholds_lists_them_all() {
    is_the_file("docs/evidence/thresholds.md", &page_of_thresholds());
}

fn page_of_thresholds() -> String {
    let mut page = "\
# Thresholds

Every threshold of the detector, with the reason for its value. [detection.md](detection.md) explains how
they work together. *Weighed against* names the two mistakes between which a value lies. The page is written
from the source (`UPDATE_EXPECTED=1 cargo test -p tcpguard --test config`).

## Keys

Settings of the whole host, in the section before the dot of the key. No host needs other values, and each row
names the case in which one helps. Without a key, only tests set the field.

| field | default | range | effect | reason for the value | key |
|---|---|---|---|---|---|
"
    .to_owned();
    for threshold in thresholds() {
        let default = threshold.in_words(threshold.get(&Settings::default()));
        let range = format!("{} to {}", threshold.least, threshold.in_words(threshold.most));
        let Threshold { name, doc, source, .. } = threshold;
        let key = threshold.key.map_or_else(String::new, |key| format!("`{key}`"));
        page += &format!("| `{name}` | {default} | {range} | {doc} | {source} | {key} |\n");
    }
    page += "\n## Constants\n\nThe same on every host. The headings are files below \
             `tcpguard-engine/src`, which also have the range of each.\n";
    for (file, constants) in all_constants() {
        page += &format!(
            "\n### {file}\n\n| constant | value | effect | reason for the value |\n|---|---|---|---|\n"
        );
        for Constant { name, value, unit, doc, source } in constants {
            let (value, doc) = (unit.in_words(*value), doc.trim());
            page += &format!("| `{name}` | {value} | {doc} | {source} |\n");
        }
    }
    page
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_when_it_was_named() {
    let error = config::load(Some(Path::new("/nonexistent/x.toml")), Overrides::default());
    assert_eq!(
        error.unwrap_err().to_string(),
        "cannot read the configuration /nonexistent/x.toml: No such file or directory (os error 2)"
    );
}
