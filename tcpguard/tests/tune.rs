//! `tcpguard tune` as people and programs see it.
//!
//! The expected pages are `tests/expected/tune-*.txt`; after a wanted change write them anew with
//! `UPDATE_EXPECTED=1 cargo test -p tcpguard --test tune` and read the difference.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tcpguard::text::{self, View};
use tcpguard_host::time::Time;
use tcpguard_host::tune::change::{self, Change, Changed, Outcome};
use tcpguard_host::tune::facts::{Conntrack, Lent};
use tcpguard_host::tune::{
    Device, HostFacts, Listening, Load, Span, Tune, Values, judge, sysctl_files,
};
use tcpguard_support::schema::{assert_documented, assert_formed};

fn view(utf8: bool) -> View {
    View { utf8, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn assert_expected(name: &str, found: &str) {
    let path = repository(&format!("tcpguard/tests/expected/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} differs; found:\n{found}\nexpected:\n{expected}",
        path.display()
    );
}

fn page(tune: &Tune) -> String {
    let mut page = String::new();
    text::tune(&mut page, tune, &view(true)).unwrap();
    page
}

fn values(changed: &[(&str, &str)]) -> Values {
    let common = [
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_max_syn_backlog", "256"),
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.tcp_synack_retries", "5"),
        ("net.ipv4.tcp_abort_on_overflow", "0"),
        ("net.ipv4.tcp_timestamps", "1"),
        ("net.ipv4.tcp_sack", "1"),
        ("net.ipv4.tcp_window_scaling", "1"),
        ("net.ipv4.tcp_syn_retries", "6"),
        ("net.ipv4.tcp_fin_timeout", "60"),
        ("net.ipv4.tcp_keepalive_time", "7200"),
        ("net.ipv4.tcp_keepalive_intvl", "75"),
        ("net.ipv4.tcp_keepalive_probes", "9"),
        ("net.ipv4.tcp_tw_reuse", "2"),
        ("net.ipv4.tcp_max_tw_buckets", "16384"),
        ("net.ipv4.tcp_orphan_retries", "0"),
        ("net.ipv4.tcp_max_orphans", "16384"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.core.netdev_max_backlog", "1000"),
        ("net.core.netdev_budget", "300"),
        ("net.ipv4.conf.all.rp_filter", "2"),
    ];
    let all = common.iter().chain(changed);
    let sysctls = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Values { sysctls, files: Vec::new() }
}

fn host() -> HostFacts {
    HostFacts {
        kernel: "6.18.1".to_owned(),
        memory: 4 << 30,
        page: 4096,
        cpus: 4,
        hash_entries: 32_768,
        syncookies: Some(1),
        somaxconn: Some(4096),
        load: Load { max_orphans: 16_384, ..Load::default() },
        default_routes: 1,
        ..HostFacts::default()
    }
}

fn calm() -> Tune {
    judge(&host(), &values(&[]), now())
}

/// A loaded host with settings copied from recipes.
fn crowded() -> Tune {
    let changed = [
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.core.somaxconn", "128"),
        ("net.ipv4.tcp_tw_reuse", "1"),
        ("net.ipv4.tcp_max_tw_buckets", "5000"),
        ("net.ipv4.tcp_fin_timeout", "10"),
        ("net.netfilter.nf_conntrack_max", "65536"),
        ("net.netfilter.nf_conntrack_tcp_loose", "0"),
    ];
    let mut values = values(&changed);
    values.files = sysctl_files::parse(
        Path::new("/etc/sysctl.d/99-web.conf"),
        "# found in a forum\nnet.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_tw_reuse = 1\n",
    );
    let load = Load {
        listen_overflows: 812,
        queue_full_drops: 40_000,
        time_wait: 4_990,
        time_wait_overflows: 17,
        received: 19_000_000,
        backlog_drops: 3_100,
        squeezed: 42,
        ..host().load
    };
    let host = HostFacts {
        load,
        listeners: vec![Listening { at: "0.0.0.0:443".parse().unwrap(), backlog: 128 }],
        devices: vec![Device {
            name: "eth0".to_owned(),
            driver: None,
            rx_ring: Some(Span { now: 256, max: 4096 }),
            queues: Some(Span { now: 1, max: 8 }),
            lost: Some(9_120),
            rps: Some(false),
        }],
        conntrack: Some(Conntrack { count: 61_000, buckets: 65_536 }),
        ..host()
    };
    judge(&host, &values, now())
}

/// The agent has changed a sysctl for a time.
fn borrowed() -> Tune {
    let host = HostFacts { syncookies: Some(2), lent: Some(Lent::From(1)), ..host() };
    judge(&host, &values(&[("net.ipv4.tcp_syncookies", "2")]), now())
}

fn now() -> Time {
    Time("2026-01-02T03:04:05Z".parse().unwrap())
}

fn scenes() -> [(&'static str, Tune); 3] {
    [("tune-calm", calm()), ("tune-crowded", crowded()), ("tune-borrowed", borrowed())]
}

#[test]
fn each_scene_has_its_page() {
    for (name, tune) in scenes() {
        assert_expected(name, &page(&tune));
    }
}

#[test]
fn only_commands_are_wider_than_100_columns() {
    for (name, tune) in scenes() {
        for line in page(&tune).lines() {
            let command = line.starts_with("  Do ") || line.starts_with("  Undo ");
            assert!(command || line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

#[test]
fn without_utf8_the_page_is_ascii() {
    for (name, tune) in scenes() {
        let page = page(&tune);
        let view = view(false);
        let ascii = view.encode(&page);
        assert!(ascii.is_ascii() && !ascii.contains('?'), "{name}: {ascii}");
    }
}

#[test]
fn every_page_ends_with_the_next_command() {
    for (name, tune) in scenes() {
        let page = page(&tune);
        let end = page.lines().rev().take(2).collect::<Vec<_>>().join(" ");
        assert!(end.contains("tcpguard tune"), "{name}: {end}");
    }
}

#[test]
fn the_file_for_sysctl_d_is_as_expected() {
    assert_expected("tune-sysctl", &change::file(&change::wanted(&crowded())));
    let nothing = change::file(&change::wanted(&calm()));
    assert!(nothing.lines().all(|line| line.starts_with('#')), "{nothing}");
}

#[test]
fn changes_are_reported_with_their_outcome() {
    let change = |name: &str, outcome, note: Option<&str>| Change {
        name: name.to_owned(),
        before: "128".to_owned(),
        to: "4096".to_owned(),
        outcome,
        note: note.map(str::to_owned),
    };
    let changed = Changed {
        changes: vec![
            change("net.core.somaxconn", Outcome::Changed, None),
            change("net.core.netdev_budget", Outcome::Unchanged, None),
            change("net.ipv4.tcp_sack", Outcome::LeftAlone, Some("it was changed since")),
            change("net.ipv4.tcp_fin_timeout", Outcome::Failed, Some("cannot write it")),
        ],
    };
    let mut text = String::new();
    text::tuned(&mut text, &changed, &view(true)).unwrap();
    assert_expected("tuned", &text);
    assert_formed("tuned", &serde_json::to_value(&changed).unwrap());
}

#[test]
fn the_document_is_what_the_schema_says() {
    for (_, tune) in scenes() {
        let document = serde_json::to_value(&tune).unwrap();
        assert_formed("tune", &document);
        let back: Tune = serde_json::from_value(document).unwrap();
        assert_eq!(back, tune);
    }
}

fn tcpguard(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
    command.args(args).env("LC_ALL", "C.UTF-8");
    command.args(["--runtime-dir", "/nonexistent/tcpguard"]).output().unwrap()
}

#[test]
fn this_host_is_judged_without_an_agent_and_without_a_change() {
    let output = tcpguard(&["tune", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_documented("tune", &document);
    let output = tcpguard(&["tune", "--sysctl"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("# Written by `tcpguard tune --sysctl`"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/etc/sysctl.d/90-tcpguard.conf"), "{said}");
}

#[test]
fn what_contradicts_itself_is_a_usage_error() {
    for line in [
        &["tune", "--apply", "--undo"][..],
        &["tune", "--sysctl", "--apply"],
        &["tune", "--sysctl", "--undo"],
        &["tune", "--sysctl", "--json"],
        &["tune", "extra"],
    ] {
        let output = tcpguard(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(output.stdout.is_empty(), "{line:?}");
        assert!(!output.stderr.is_empty(), "{line:?}");
    }
}
