//! Floods of one source, live: they are answered as long as they can be, and a rule of the agent's own lets
//! retransmitted SYNs through. And the rules that an operator makes by hand. Needs root and `TCPGUARD_BIN`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape, Sources};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// One address sends 5,000 or 100,000 SYN/s with the fingerprint of clients. The SYNs do not reveal their
/// sender, so they are answered with cookies, others are served, and there is no rule.
fn one_source_is_answered(family: Family, source: IpAddr, rate: u32) {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let likeness = Likeness::capture(&lab, family).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, family.service(), 50).unwrap();
    sleep(SECOND);
    let (shape, sources) = (Shape::Copy(likeness), Sources::One(source));
    let flood = Flood { shape, sources, rate, ..Flood::random(family.service(), 8 * SECOND) };
    let report = flood.start(&lab).unwrap().wait().unwrap();
    let status = agent.status().unwrap();
    let attempts = load.finish().unwrap();
    let incidents = status.incidents();
    let answered = status.total("cookies_sent");
    println!("{family:?}: {} SYNs sent, {answered} answered", report.sent);
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0].class(), "single_source");
    assert_eq!(status.rules_in_kernel(), Some(0));
    assert_eq!(status.reason("drop_source"), 0);
    control.assert_served(&attempts);
}

#[test]
fn one_source_is_answered_ipv4() {
    one_source_is_answered(Family::V4, Ipv4Addr::new(198, 51, 100, 77).into(), 5_000);
}

#[test]
#[ignore = "long form: cargo xtask test --full"]
fn one_source_is_answered_ipv6() {
    let source = Ipv6Addr::new(0x2001, 0xdb8, 7, 7, 0, 0, 0, 7);
    one_source_is_answered(Family::V6, source.into(), 5_000);
}

#[test]
fn a_hundred_thousand_a_second_of_one_source_are_answered() {
    one_source_is_answered(Family::V4, Ipv4Addr::new(198, 51, 100, 77).into(), 100_000);
}

/// If no reply is sent (no cookies of any kind, a full queue), the source is dropped, and others are
/// served. A client that has that address and connects gets in with its first retransmission.
fn one_source_is_blocked(family: Family, rate: u32) {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    // As on a host that drops unsolicited replies.
    let quiet = "table inet quiet { chain out { type filter hook output priority 0; policy accept; \
                 tcp flags & rst == rst drop; }; }";
    lab.client.write("/run/quiet.nft", quiet).unwrap();
    lab.client.exec("nft -f /run/quiet.nft").unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = |rate, home| {
        let visitors = Visitors { rate, home, patience: PATIENCE };
        Load::of(&lab.client, family.service(), visitors).unwrap()
    };
    let others = load(50, Home::ValidatedClients);
    sleep(2 * SECOND);
    let (shape, sources) = (Shape::Linux, Sources::One(family.client()));
    let flood = Flood { shape, sources, rate, ..Flood::random(family.service(), 60 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    let blocked = |status: &Status| status.rules().iter().any(|rule| rule.kind() == "source");
    let status = agent.wait_until("a rule against the source", TIMEOUT, blocked).unwrap();
    let incidents = status.incidents();
    assert_eq!(incidents[0].class(), "single_source", "{incidents:#?}");
    sleep(SECOND);
    let from = boot_ns();
    let new_client = load(2, Home::One);
    sleep(3 * SECOND);
    let to = boot_ns();
    let new_client = new_client.finish().unwrap();
    let others = others.finish().unwrap().begun(from, to);
    flood.stop().unwrap();
    let status = agent.status().unwrap();
    println!(
        "{family:?}: {} dropped, {} let through; the new client: {}",
        status.reason("drop_source"),
        status.reason("syn_retransmitted"),
        new_client.summary(),
    );
    assert!(status.reason("drop_source") > 0 && status.reason("syn_retransmitted") > 0);
    assert_eq!(new_client.0[0].took.map(|took| took.as_secs()), Some(1), "{:?}", new_client.0[0]);
    control.assert_served(&others);
}

#[test]
fn one_source_is_blocked_where_no_cookie_can_be_sent_ipv4() {
    one_source_is_blocked(Family::V4, 5_000);
}

#[test]
#[ignore = "long form: cargo xtask test --full"]
fn one_source_is_blocked_where_no_cookie_can_be_sent_ipv6() {
    one_source_is_blocked(Family::V6, 5_000);
}

#[test]
#[ignore = "long form: cargo xtask test --full"]
fn a_hundred_thousand_a_second_of_one_source_are_dropped_where_nothing_can_be_answered() {
    one_source_is_blocked(Family::V4, 100_000);
}

/// One source floods a host on which nothing answers, and is blocked; then random sources go on. The source's rule
/// goes, and no other source is blocked.
#[test]
fn when_spoofed_sources_take_over_from_one_no_source_stays_blocked() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let service = Family::V4.service();
    let load = Load::start(&lab.client, service, 50).unwrap();
    sleep(2 * SECOND);
    let forbid = ["mitigation", &format!(":{PORT}"), "cookies", "off", "--for", "5m"];
    assert!(cli(&lab.edge, &forbid).unwrap().status.success());
    let flood = |sources, lasts: u32| {
        let flood =
            Flood { shape: Shape::Linux, sources, ..Flood::random(service, lasts * SECOND) };
        Flood { rate: 5_000, ..flood }.start(&lab).unwrap()
    };
    let first = flood(Sources::One([198, 51, 100, 77].into()), 60);
    let of_sources = |status: &Status| {
        let rules = status.rules();
        rules
            .iter()
            .filter(|rule| rule.kind() == "source")
            .map(|r| r.matches().to_owned())
            .collect()
    };
    let blocked = |status: &Status| !Vec::<String>::is_empty(&of_sources(status));
    agent.wait_until("a rule against the source", TIMEOUT, blocked).unwrap();
    first.stop().unwrap();
    let second = flood(Sources::Random, 20);
    let mut seen = BTreeSet::new();
    // Half as long again as failed handshakes are looked back at (`EVIDENCE_WINDOW`).
    for _ in 0..24 {
        seen.extend(of_sources(&agent.status().unwrap()));
        sleep(SECOND / 2);
    }
    let status = agent.status().unwrap();
    println!("blocked at any time: {seen:?}; {}", load.finish().unwrap().summary());
    second.stop().unwrap();
    assert_eq!(seen.len(), 1, "none of the random sources: {seen:?}");
    assert!(!blocked(&status), "the first source is still blocked: {:?}", of_sources(&status));
}

/// A block by hand holds for a client that was served before, and ends when it is taken back.
#[test]
fn an_operators_block_holds_until_it_is_removed() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 20).unwrap();
    sleep(SECOND);
    let net = format!("{}/32", Family::V4.client());
    for refused in [&["block", &net][..], &["block", &net, "--dry-run"]] {
        let refused = cli(&lab.edge, refused).unwrap();
        assert_eq!(refused.status.code(), Some(1), "it is a client");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("would cut off 1 validated client (1 connected"), "{said}");
    }
    let explained = cli(&lab.edge, &["explain", &net]).unwrap();
    let said = String::from_utf8_lossy(&explained.stderr).into_owned();
    assert!(!said.contains("tcpguard block"), "no advice to block a client: {said}");
    let forced = ["block", &net, "--reason", "test", "--force", "--rollback-after", "never"];
    let block = cli(&lab.edge, &forced).unwrap();
    assert!(block.status.success(), "{}", String::from_utf8_lossy(&block.stderr));
    let blocked_at = boot_ns();
    sleep(SECOND);
    let blocked_until = boot_ns();
    assert_eq!(agent.status().unwrap().rules_in_kernel(), Some(1));
    let unblock = cli(&lab.edge, &["unblock", &net]).unwrap();
    assert!(unblock.status.success(), "{}", String::from_utf8_lossy(&unblock.stderr));
    sleep(SECOND / 10);
    let free_at = boot_ns();
    sleep(2 * SECOND);
    let free_until = boot_ns();
    sleep(SECOND);
    let status = agent.status().unwrap();
    assert_eq!(status.rules_in_kernel(), Some(0));
    assert!(status.reason("drop_source") > 0);
    let attempts = load.finish().unwrap();
    let shut_out = attempts.begun(blocked_at, blocked_until);
    assert!(shut_out.share_within(SECOND / 2) < 0.05, "{}", shut_out.summary());
    control.assert_served(&attempts.begun(free_at, free_until));
}

#[test]
fn what_would_cut_the_host_off_is_refused() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    for net in [Family::V4.edge().to_string(), Family::V6.edge().to_string(), "0.0.0.0/0".into()] {
        let block = cli(&lab.edge, &["block", &net]).unwrap();
        assert_eq!(block.status.code(), Some(1), "{net}");
        let said = String::from_utf8_lossy(&block.stderr);
        assert!(said.contains(&net) && said.contains("--force"), "{said}");
    }
    assert_eq!(agent.status().unwrap().rules_in_kernel(), Some(0));
}

fn printed(lab: &Lab, arguments: &[&str]) -> String {
    let output = cli(&lab.edge, arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A client whose network is blocked from one port gets in at another, also after a restart of the agent. The
/// block is changed without a moment in which there is none.
fn one_port_is_blocked(family: Family) {
    const OTHER: u16 = PORT + 1;
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _servers =
        [PORT, OTHER].map(|port| Server::start(&lab.edge, port, Behaviour::Answer).unwrap());
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let client = family.client().to_string();
    let block = |ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        // It may be a client by then.
        let mut arguments = vec!["block", &client, "--force", "--rollback-after", "never"];
        arguments.extend(ports.iter().flat_map(|port| ["--port", port]));
        printed(&lab, &arguments)
    };
    let explain = |port: u16| printed(&lab, &["explain", &client, "--port", &port.to_string()]);
    let other = SocketAddr::new(family.service().ip(), OTHER);
    let said = block(&[PORT]);
    assert!(said.contains(&format!("to port {PORT} for 1h")), "{said}");

    let from = boot_ns();
    let loads = [family.service(), other].map(|to| Load::start(&lab.client, to, 20).unwrap());
    sleep(SECOND);
    agent.stop().unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    let said = block(&[22, PORT]);
    assert!(said.contains(&format!("to ports 22, {PORT}")), "{said}");
    sleep(SECOND);
    let until = boot_ns();
    assert_eq!(agent.status().unwrap().rules_in_kernel(), Some(1));
    assert!(explain(PORT).contains("drops its SYNs"), "{}", explain(PORT));
    assert!(explain(OTHER).contains("SYNs pass"), "{}", explain(OTHER));

    block(&[OTHER]);
    assert!(explain(PORT).contains("SYNs pass"), "{}", explain(PORT));
    assert!(explain(OTHER).contains("drops its SYNs"), "{}", explain(OTHER));
    let [blocked, free] = loads.map(|load| load.finish().unwrap().begun(from, until));
    assert_eq!(blocked.share_within(SECOND / 2), 0.0, "{}", blocked.summary());
    control.assert_served(&free);
}

#[test]
fn a_block_of_one_port_leaves_the_others_ipv4() {
    one_port_is_blocked(Family::V4);
}

#[test]
#[ignore = "long form: cargo xtask test --full"]
fn a_block_of_one_port_leaves_the_others_ipv6() {
    one_port_is_blocked(Family::V6);
}
