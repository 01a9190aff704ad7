//! A host with replies that leave by an interface that is not attached: a flood is found by its SYNs and by
//! the handshakes that the kernel completes, and rules are only advised. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{BACK_INTERFACE, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients.
const CLIENTS: u32 = 100;
/// SYNs of the flood per second.
const FLOOD: u32 = 5_000;

fn lab(syncookies: u8) -> Lab {
    Lab::new(LabOptions { syncookies, asymmetric: true, ..LabOptions::default() }).unwrap()
}

fn is_alerted(status: &Status) -> bool {
    status.health().iter().any(|(code, text)| code == "egress_unseen" && text.contains(":443"))
}

/// One incident, no rule, and the advice to make one.
fn assert_only_advised(status: &Status) {
    let incidents = status.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    println!("  {}", incidents[0].summary());
    assert_eq!(incidents[0].class(), "random_spoofed");
    assert!(incidents[0].replies_unseen(), "{incidents:#?}");
    let actions = incidents[0].actions();
    assert!(actions.contains(&"rule_advised"), "{actions:#?}");
    assert_eq!(status.rules_in_kernel(), Some(0));
    assert_eq!(status.reason("drop_signature") + status.reason("drop_source"), 0);
}

#[test]
fn a_flood_is_detected_where_replies_are_unseen_and_nothing_is_dropped() {
    let (control, lab) = (Control::start().unwrap(), lab(1));
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let family = Family::V4;
    let before = agent.status().unwrap();
    let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
    let status = agent.wait_until("unseen answers", TIMEOUT, is_alerted).unwrap();
    assert_eq!(status.listener_total(PORT, "syn_ack"), 0, "none leaves by {INTERFACE}");
    sleep(5 * SECOND);
    let calm = agent.status().unwrap();
    assert!(
        calm.incidents().is_empty() && calm.past_incidents().is_empty(),
        "{:#?}",
        calm.incidents()
    );

    let flood = Flood { rate: FLOOD, ..Flood::random(family.service(), 6 * SECOND) };
    let flood = flood.start(&lab).unwrap().wait().unwrap();
    let status = agent.status().unwrap();
    let attempts = load.finish().unwrap();
    assert_only_advised(&status);
    let attack = &status.incidents()[0];
    assert!(attack.syns() * 2 >= flood.sent, "{} of {}", attack.syns(), flood.sent);
    // The kernel's own cookies serve the clients. The agent kept no client away.
    control.assert_served(&attempts);

    let connected = attempts.0.iter().filter(|attempt| attempt.connected.is_some()).count() as u64;
    let status = agent
        .wait_until("every client is counted", TIMEOUT, |status| {
            let grown =
                |of: &str| status.listener_total(PORT, of) - before.listener_total(PORT, of);
            grown("established") >= connected
        })
        .unwrap();
    let established = status.listener_total(PORT, "established");
    assert!(established.abs_diff(connected) <= connected / 200, "{established}, {connected}");
    // So are the flows of the sample, on the kernel's word.
    let acknowledged = status.listener_total(PORT, "acknowledged");
    assert!(acknowledged * 10 >= connected * 9, "{acknowledged} of {connected}");
    let sent = lab.edge.interface_counter(BACK_INTERFACE, "tx_packets").unwrap();
    assert!(sent >= connected, "they were answered by {BACK_INTERFACE}");
}

#[test]
fn a_flood_from_the_first_second_on_is_found_where_answers_are_unseen() {
    side_by_side(2, [1, 0], |syncookies| {
        let lab = lab(syncookies);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let flood = Flood { rate: FLOOD, ..Flood::random(Family::V4.service(), 100 * SECOND) };
        let flood = flood.start(&lab).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let advised = |status: &Status| {
            let incidents = status.incidents();
            incidents.iter().any(|attack| attack.actions().contains(&"rule_advised"))
        };
        agent.wait_until("advice", TIMEOUT, advised).unwrap();
        if syncookies == 0 {
            // The full queue replies to no SYN until the SYN rate limit relieves it of the flood. Then
            // clients that connect are the proof.
            let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
            agent.wait_until("clients to prove it", TIMEOUT, is_alerted).unwrap();
            load.finish().unwrap();
        }
        let status = agent.wait_until("unseen answers", TIMEOUT, is_alerted).unwrap();
        flood.stop().unwrap();
        println!("tcp_syncookies {syncookies}");
        assert_only_advised(&status);
    });
}

#[test]
fn a_port_behind_a_firewall_is_no_host_whose_answers_are_unseen() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    // Packets that arrive go nowhere.
    let rules = ["rule add pref 9 table local", "rule del pref 0"];
    lab.edge.ip(&rules).unwrap();
    lab.edge.ip(&[&format!("rule add pref 1 iif {INTERFACE} blackhole")]).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let flood = Flood { rate: FLOOD, ..Flood::random(Family::V4.service(), 4 * SECOND) };
    flood.start(&lab).unwrap().wait().unwrap();
    let status = agent.status().unwrap();
    assert!(status.listener_total(PORT, "syn") >= u64::from(FLOOD), "it has arrived");
    assert!(!is_alerted(&status), "{:?}", status.health());
    assert!(status.incidents().is_empty(), "{:#?}", status.incidents());
}
