//! A fleet process that an attacker has taken over, at the socket of a real agent: it costs no poll and little memory,
//! and drops nothing of a client. Needs `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_fleet_kit::documents::PORT;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::heartbeat::Heartbeat;
use tcpguard_kit::daemon::siege::{LISTENING, Siege};
use tcpguard_kit::measure::peak::{Footprint, forget_peak};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::server::{Behaviour, Server};

use crate::support::SECOND;

/// Permitted delay of a poll, compared with peace, for all but one in a hundred.
const LATE: Duration = Duration::from_millis(50);
/// Memory that the process may cost the agent, in bytes.
const MEMORY: u64 = 4 << 20;
/// Connections at once.
const CONNECTIONS: usize = 4;

/// The age of the last poll that all but one in a hundred moments do not exceed.
fn p99(host: &Netns) -> Duration {
    let heartbeat = Heartbeat::open(host).unwrap();
    let mut ages: Vec<Duration> = (0..200)
        .map(|_| {
            sleep(Duration::from_millis(13));
            heartbeat.age().unwrap()
        })
        .collect();
    ages.sort();
    ages[(ages.len() - 1) * 99 / 100]
}

#[test]
fn a_hostile_fleet_process_costs_no_poll_and_no_client() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, LISTENING, &[]).unwrap();
    let clients = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(3 * SECOND);
    let calm = p99(&lab.edge);
    forget_peak(agent.pid()).unwrap();
    let before = Footprint::of(agent.pid()).unwrap().own();

    let clients_net = "10.78.0.0/16".parse().unwrap();
    let siege = Siege::lay(&lab.edge, CONNECTIONS, Duration::ZERO, clients_net).unwrap();
    let begun = Instant::now();
    let disturbed = p99(&lab.edge);
    sleep((5 * SECOND).saturating_sub(begun.elapsed()));
    drop(siege);
    let grown = Footprint::of(agent.pid()).unwrap().own().saturating_sub(before);
    println!("  polls {calm:.1?} old in peace, {disturbed:.1?} in the siege, {grown} bytes more");
    assert!(disturbed.saturating_sub(calm) <= LATE, "{calm:?}, {disturbed:?}");
    assert!(grown <= MEMORY, "{grown} bytes more");

    let status = agent.status().unwrap();
    let fleet = &status.document()["fleet"];
    assert!(fleet["dropped"].as_u64() > Some(0), "{fleet:#}");
    assert!(fleet["refused"]["malformed"].as_u64() > Some(0), "{fleet:#}");
    assert!(status.rules().is_empty(), "no rule against clients of the last ten minutes");
    assert!(status.incidents().is_empty(), "hints are no incident");
    control.assert_served(&clients.finish().unwrap());
}
