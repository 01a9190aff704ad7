//! What is written in a configuration file, and what it means or why it is refused.

use std::path::Path;
use std::time::Duration;

use tcpguard::config::{self, Config, CookieChoice, Detection, ModeSource, Overrides, XdpMode};
use tcpguard_engine::Mode;

const SHIPPED: &str = include_str!("../../packaging/tcpguard.toml");

fn parse(text: &str) -> Result<Config, config::ConfigError> {
    config::parse(Path::new("guard.toml"), text, Overrides::default())
}

/// The errors of a file, each without the path in front; the closing advice is checked and cut off.
fn errors(text: &str) -> Vec<String> {
    let message = parse(text).expect_err(text).to_string();
    let (mistakes, advice) = message.rsplit_once('\n').unwrap();
    let mistakes: Vec<String> = mistakes
        .lines()
        .map(|line| line.strip_prefix("guard.toml:").expect(line).to_owned())
        .collect();
    let noun = if mistakes.len() == 1 { "mistake" } else { "mistakes" };
    assert_eq!(
        advice,
        format!(
            "{} {noun}, nothing was applied; edit the file, then: tcpguard config check guard.toml",
            mistakes.len()
        )
    );
    mistakes
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.interfaces, [""; 0]);
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.mode_source, ModeSource::File);
    assert_eq!(config.xdp_mode, XdpMode::Auto);
    assert_eq!(config.detection, Detection::default());
    assert_eq!(config.ssh_ports, [22]);
    assert!(config.protect_prefixes.is_empty() && config.ignore_ports.is_empty());
    assert!(!config.drop_illegal_flags && !config.drop_strays);
    assert_eq!((config.answers_per_network, config.answers_total), (256, 2_000_000));
    assert_eq!(config.group, None);
    assert_eq!(config.runtime_dir, Path::new("/run/tcpguard"));
}

#[test]
fn the_shipped_file_changes_nothing() {
    assert_eq!(parse(SHIPPED).unwrap(), parse("").unwrap());
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let keys = SHIPPED.lines().filter(is_key).count();
    assert_eq!(keys, 19, "a key was added or removed: adapt the shipped file and this number");
    let written: Vec<_> =
        SHIPPED.lines().map(|line| if is_key(&line) { &line[1..] } else { line }).collect();
    let mut shown = parse(&written.join("\n")).unwrap();
    assert_eq!(shown.group.take().as_deref(), Some("adm"), "the one key without a default");
    assert_eq!(shown, parse("").unwrap());
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
        poll_ms = 100
        fast_min = 1_000
        fast_ratio = 0.9
        occupancy_on = 0.5
        occupancy_off = 0.4
        clear_s = 60
        armed_s = 0
        [policy]
        drop_illegal_flags = true
        drop_strays = true
        [cookies]
        backend = "kernel"
        answers_per_network = 1000
        answers_total = 5_000_000
        [protect]
        prefixes = ["192.0.2.0/24", "2001:db8::1"]
        ssh_ports = [22, 2222]
        [listeners]
        ignore_ports = [9100]
        [control]
        group = "adm"
        "#,
    )
    .unwrap();
    assert_eq!(config.interfaces, ["eth0", "eth1"], "none twice");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.xdp_mode, XdpMode::Native);
    assert_eq!(
        config.detection,
        Detection {
            poll: Duration::from_millis(100),
            fast_min: 1000,
            fast_ratio: 0.9,
            occupancy_on: 0.5,
            occupancy_off: 0.4,
            clear: Duration::from_secs(60),
            armed: Duration::ZERO,
        }
    );
    assert!(config.drop_illegal_flags && config.drop_strays);
    assert_eq!(config.cookie_backend, CookieChoice::Kernel);
    assert_eq!((config.answers_per_network, config.answers_total), (1000, 5_000_000));
    let prefixes: Vec<_> = config.protect_prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["192.0.2.0/24", "2001:db8::1/128"]);
    assert_eq!(config.ssh_ports, [22, 2222]);
    assert_eq!(config.ignore_ports, [9100]);
    assert_eq!(config.group.as_deref(), Some("adm"));
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
    let text = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\nxdp_mode = \"native\"";
    let config = config::parse(Path::new("guard.toml"), text, overrides).unwrap();
    assert_eq!(config.interfaces, ["lo"]);
    assert_eq!((config.mode, config.mode_source), (Mode::Off, ModeSource::CommandLine));
    assert_eq!(config.xdp_mode, XdpMode::Generic);
    assert_eq!(config.runtime_dir, Path::new("/tmp/run"));
}

/// File, and its errors in the order of the lines.
const MISTAKES: &[(&str, &[&str])] = &[
    (
        "mode = \"on\"",
        &["1: mode: \"on\" is not known; write one of \"observe\", \"enforce\", \"off\""],
    ),
    (
        "mode = true",
        &["1: mode: true is not known; write one of \"observe\", \"enforce\", \"off\""],
    ),
    ("mod = \"off\"", &["1: unknown key mod; did you mean mode?"]),
    (
        "[detection]\npol_ms = 100",
        &["2: unknown key detection.pol_ms; did you mean detection.poll_ms?"],
    ),
    ("[listeners]\ncolour = 1", &["2: unknown key listeners.colour; known here: ignore_ports"]),
    ("[detecton]\npoll_ms = 1", &["1: unknown key detecton; did you mean detection?"]),
    ("detection = 3", &["1: detection is a section; write [detection] on a line of its own"]),
    (
        "[detection]\npoll_ms = 5",
        &["2: detection.poll_ms: 5 does not fit; write a whole number from 50 to 1000"],
    ),
    (
        "[detection]\npoll_ms = -1",
        &["2: detection.poll_ms: -1 does not fit; write a whole number from 50 to 1000"],
    ),
    (
        "[detection]\npoll_ms = 99999999999999999999",
        &[
            "2: detection.poll_ms: 99999999999999999999 does not fit; write a whole number from 50 to 1000",
        ],
    ),
    (
        "[detection]\npoll_ms = \"250\"",
        &["2: detection.poll_ms: \"250\" does not fit; write a whole number from 50 to 1000"],
    ),
    (
        "[detection]\nfast_ratio = 75",
        &["2: detection.fast_ratio: 75 does not fit; write a share from 0.1 to 1"],
    ),
    (
        "[detection]\nfast_ratio = nan",
        &["2: detection.fast_ratio: nan does not fit; write a share from 0.1 to 1"],
    ),
    (
        "[detection]\noccupancy_on = 0.2\noccupancy_off = 0.3",
        &[
            "3: detection.occupancy_off (0.3) must be below detection.occupancy_on (0.2), or the alarm flaps",
        ],
    ),
    (
        "[detection]\noccupancy_on = 0.1",
        &[
            "2: detection.occupancy_off (0.12) must be below detection.occupancy_on (0.1), or the alarm flaps",
        ],
    ),
    (
        "[policy]\ndrop_illegal_flags = \"yes\"",
        &["2: policy.drop_illegal_flags: \"yes\" is neither true nor false; write one of them"],
    ),
    (
        "[interfaces]\nnames = \"eth0\"",
        &["2: interfaces.names: not a list; write [ … ] around the value"],
    ),
    (
        "[interfaces]\nnames = [\n  \"eth0\",\n  \"a/b\",\n  \"\",\n  \"sixteen-bytes-xx\",\n  7,\n]",
        &[
            "4: interfaces.names: \"a/b\" is not an interface name; `ip -br link` lists them",
            "5: interfaces.names: \"\" is not an interface name; `ip -br link` lists them",
            "6: interfaces.names: \"sixteen-bytes-xx\" is not an interface name; `ip -br link` lists them",
            "7: interfaces.names: 7 is not an interface name; `ip -br link` lists them",
        ],
    ),
    (
        "[protect]\nprefixes = [\"10.0.0.1/8\", \"ten\"]",
        &[
            "2: protect.prefixes: 10.0.0.1/8 has bits set right of the prefix; write 10.0.0.0/8 or 10.0.0.1",
            "2: protect.prefixes: \"ten\" is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::1",
        ],
    ),
    (
        "[protect]\nssh_ports = [0]",
        &["2: protect.ssh_ports: 0 does not fit; write a whole number from 1 to 65535"],
    ),
    (
        "[control]\ngroup = \"\"",
        &["2: control.group: \"\" is not a group; write the name of one, such as \"adm\""],
    ),
    ("mode = \"off\"\nmode = \"observe\"", &["2: not TOML: duplicate key"]),
    ("[policy", &["1: not TOML: unclosed table, expected `]`"]),
    // A line that is not TOML hides no other mistake.
    (
        "mode = observe\n[detection]\nfast_min = 1\n[contrl]",
        &[
            "1: not TOML: string values must be quoted, expected literal string",
            "3: detection.fast_min: 1 does not fit; write a whole number from 8 to 1000000",
            "4: unknown key contrl; did you mean control?",
        ],
    ),
];

#[test]
fn every_mistake_is_named_with_its_line_and_the_way_out() {
    for (text, expected) in MISTAKES {
        assert_eq!(errors(text), *expected, "in the file:\n{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_when_it_was_named() {
    let error = config::load(Some(Path::new("/nonexistent/x.toml")), Overrides::default());
    assert_eq!(
        error.unwrap_err().to_string(),
        "cannot read the configuration /nonexistent/x.toml: No such file or directory (os error 2); \
         name another file with -c"
    );
}
