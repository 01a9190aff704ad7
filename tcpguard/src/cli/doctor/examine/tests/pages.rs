//! Tests of the pages that `tcpguard doctor` prints.

use super::*;
use crate::text::{self, View};

fn view(utf8: bool) -> View {
    View { utf8, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

/// Returns facts in which much is wrong at once.
fn broken() -> Facts {
    let mut facts = healthy();
    facts.of_host.pins.filesystem = Filesystem::Bpf { read_only: true };
    stop(&mut facts, Agent::NotRunning);
    facts.of_host.service.unit =
        unit(&[("RestrictAddressFamilies", "AF_UNIX"), ("DropInPaths", "/e/x.conf")]);
    facts.of_host.kernel.features[1].support = Support::Missing;
    facts.of_host.listeners = Ok(vec![
        Finding::warning("small_backlog", "0.0.0.0:443: a backlog of 5 limits both queues")
            .about("0.0.0.0:443")
            .hint("raise the backlog argument of its listen(2) (now 5; net.core.somaxconn allows 128)"),
    ]);
    facts.of_host.tune = judged(
        &facts.of_host.host,
        &[("net.ipv4.tcp_syncookies", "0"), ("net.core.somaxconn", "128")],
        "net.ipv4.tcp_tw_recycle = 1\n",
    );
    link(&mut facts).mtu = 9000;
    link(&mut facts).xdp = Some(XdpFeatures { basic: true, takes: true, large_packets: false });
    link(&mut facts).programs = Ok(vec![foreign(Hook::XdpNative, Some("xdp_dispatcher"))]);
    facts.of_host.config = ConfigFacts::Invalid {
        path: "/etc/tcpguard/tcpguard.toml".into(),
        problems: vec![
            "line 3: mode: \"odd\" is not a mode; one of observe, enforce, off".to_owned(),
        ],
    };
    facts
}

fn page(facts: &Facts) -> String {
    let mut page = String::new();
    text::doctor(&mut page, &examine(facts, false, now()), &view(true)).expect("a page");
    page
}

fn assert_expected(name: &str, found: &str) {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/expected/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).expect("the page");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} differs; found:\n{found}\nexpected:\n{expected}");
}

#[test]
fn each_scene_has_its_page() {
    assert_expected("doctor-healthy", &page(&healthy()));
    assert_expected("doctor-broken", &page(&broken()));
}

#[test]
fn pages_fit_a_terminal_with_and_without_utf8_and_end_with_the_next_command() {
    for facts in [healthy(), broken()] {
        let page = page(&facts);
        for line in page.lines() {
            let command = line.trim_start().starts_with('→');
            assert!(command || line.chars().count() <= 100, "{line}");
        }
        let view = view(false);
        let ascii = view.encode(&page);
        assert!(ascii.is_ascii() && !ascii.contains('?'), "{ascii}");
        let end: Vec<&str> = page.lines().rev().take(2).collect();
        assert!(end.join(" ").contains("tcpguard "), "{end:?}");
    }
}
