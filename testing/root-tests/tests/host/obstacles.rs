//! Obstacles to SYN cookies, live: each is reported in calm with its remedy, and by *Action* in a flood. Needs root and
//! `TCPGUARD_BIN`.

use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, after, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// Clients a second.
const CLIENTS: u32 = 50;
/// SYNs a second of the flood, which copy those of clients.
const RATE: u32 = 10_000;
const SYNCOOKIES: &str = "sysctl -w net.ipv4.tcp_syncookies=1";

/// The words of each page about obstacles, without line breaks.
fn pages(lab: &Lab) -> Vec<(&'static str, String)> {
    let verbs: [(&str, &[&str]); 3] =
        [("status", &["status", "--full"]), ("doctor", &["doctor"]), ("listeners", &["listeners"])];
    let page = |(verb, line): (&'static str, &[&str])| {
        let output = cli(&lab.edge, line).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (verb, text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    verbs.map(page).into()
}

#[track_caller]
fn assert_on_each_page(lab: &Lab, words: &str) {
    for (verb, page) in pages(lab) {
        assert!(page.contains(words), "{verb} without {words:?}:\n{page}");
    }
}

fn reports(status: &Status, code: &str) -> bool {
    status.health().iter().any(|(found, _)| found == code)
}

/// A flood of SYNs that copy those of clients.
fn copies(likeness: Likeness, duration: Duration) -> Flood {
    let flood = Flood::random(Family::V4.service(), duration);
    Flood { shape: Shape::Copy(likeness), rate: RATE, ..flood }
}

#[test]
fn a_listener_with_mptcp_is_found_in_calm_and_served_by_cookies_of_the_helper() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.edge.sysctl("net.mptcp.enabled", "1").unwrap();
    let _server = Server::of_mptcp(&lab.edge, PORT).unwrap();
    let likeness = Likeness::capture(&lab, Family::V4).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let clients = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    agent.wait_until("a baseline", TIMEOUT, Status::knows_baseline).unwrap();
    agent.wait_until("the obstacle", TIMEOUT, |status| reports(status, "mptcp")).unwrap();
    for words in ["uses MPTCP", "GODEBUG=multipathtcp=0", "net.mptcp.enabled=0"] {
        assert_on_each_page(&lab, words);
    }
    let flood = copies(likeness, 12 * SECOND).start(&lab).unwrap();
    let begun = after(boot_ns(), 2 * SECOND);
    let flood = flood.wait().unwrap();
    let status = agent.status().unwrap();
    let attempts = clients.finish().unwrap().begun(begun, flood.ended);
    println!("  {}", attempts.summary());
    let sent = status.listener_total(PORT, "cookies_sent");
    assert!(sent * 2 > flood.sent, "{sent} cookies for {} SYNs", flood.sent);
    let served = attempts.share_within(SECOND);
    assert!(served >= 0.98, "{served} of {}", attempts.summary());
}

#[test]
fn tcp_syncookies_2_is_named_in_calm_and_alerted_once_in_a_flood_without_cookies() {
    let lab = Lab::new(LabOptions { syncookies: 2, ..LabOptions::default() }).unwrap();
    // The kernel makes no cookie for a SYN that reuses a connection in TIME_WAIT. Its SYN-ACK would be a model, and
    // the obstacle would end.
    lab.edge.sysctl("net.ipv4.tcp_max_tw_buckets", "0").unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let likeness = Likeness::capture(&lab, Family::V4).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let clients = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    agent.wait_until("a baseline", TIMEOUT, Status::knows_baseline).unwrap();
    agent.wait_until("the obstacle", TIMEOUT, |status| reports(status, "syncookies")).unwrap();
    assert_on_each_page(&lab, SYNCOOKIES);
    let flood = copies(likeness, 40 * SECOND).start(&lab).unwrap();
    let tried = |status: &Status| status.alerts("mitigation_failed") > 0;
    agent.wait_until("an attempt", TIMEOUT, tried).unwrap();
    let enough = 8 * u64::from(RATE);
    let syns = |status: &Status| status.listener_total(PORT, "syn") >= enough;
    let status = agent.wait_until("the flood", TIMEOUT, syns).unwrap();
    let page = agent.status_text().unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!page.contains("check that it listens"), "{page}");
    assert!(page.contains(&format!("Action sudo {SYNCOOKIES}")), "{page}");
    assert_eq!(status.alerts("mitigation_failed"), 1, "{:?}", agent.alerts().unwrap());
    flood.stop().unwrap();
    clients.finish().unwrap();
}
