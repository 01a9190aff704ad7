//! A fleet process that an attacker has taken over, at the socket of a real agent: it costs no poll and little memory,
//! and drops nothing of a client. Needs `TCPGUARD_BIN`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_engine::{FleetAction, FleetMessage, FleetName, FleetRule, Hint, Ports};
use tcpguard_kit::daemon::agent::{Agent, Mode, RUNTIME_DIR};
use tcpguard_kit::daemon::heartbeat::Heartbeat;
use tcpguard_kit::fleet::documents::{PORT, signature};
use tcpguard_kit::fleet::stand_in::SOCKET;
use tcpguard_kit::measure::peak::{Footprint, forget_peak};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::server::{Behaviour, Server};

use crate::support::SECOND;

/// Permitted delay of a poll, compared with peace, for all but one in a hundred.
const LATE: Duration = Duration::from_millis(50);
/// Memory that the process may cost the agent, in bytes.
const MEMORY: u64 = 4 << 20;
/// Connections at once.
const CONNECTIONS: usize = 4;

/// Messages of a process that wants to do harm: hints about every signature, rules against every client, and garbage.
fn hostile(number: u64) -> Vec<u8> {
    let hint = FleetMessage::Hint(Hint {
        port: PORT,
        signature: signature(number as u16),
        reporters: u16::MAX,
        ttl_s: 60,
    });
    let rule = FleetMessage::Rule(FleetRule {
        name: FleetName { role: "ops".to_owned(), serial: number },
        action: FleetAction::Block,
        net: "10.78.0.0/16".parse().unwrap(),
        ports: Ports::EVERY,
        lifetime_s: u64::MAX,
        reason: "x".repeat(200),
    });
    let mut line = match number % 4 {
        0 | 1 => serde_json::to_vec(&hint).unwrap(),
        2 => serde_json::to_vec(&rule).unwrap(),
        _ => vec![b'{'; 3000],
    };
    line.push(b'\n');
    line
}

/// Sends until it is stopped. The agent may close the connection: then there is another.
fn besiege(host: &Netns, stop: &AtomicBool) {
    let path = Path::new(RUNTIME_DIR).join(SOCKET);
    let connect = || host.run(|| Ok(UnixStream::connect(&path)?));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = connect() else {
            sleep(SECOND / 20);
            continue;
        };
        // Without a limit, one whose lines are not read would never see the end.
        stream.set_write_timeout(Some(SECOND / 5)).unwrap();
        while !stop.load(Ordering::Relaxed) && stream.write_all(&hostile(number)).is_ok() {
            number += 1;
        }
    }
}

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
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let config = "[fleet]\nlisten = true\ngroup = \"root\"\n";
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, config, &[]).unwrap();
    let clients = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(3 * SECOND);
    let calm = p99(&lab.edge);
    forget_peak(agent.pid()).unwrap();
    let before = Footprint::of(agent.pid()).unwrap().own();

    let stop = AtomicBool::new(false);
    let disturbed = std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| besiege(&lab.edge, &stop));
        }
        let begun = Instant::now();
        let disturbed = p99(&lab.edge);
        sleep((5 * SECOND).saturating_sub(begun.elapsed()));
        stop.store(true, Ordering::Relaxed);
        disturbed
    });
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
    let attempts = clients.finish().unwrap();
    println!("  {}", attempts.summary());
    assert!(attempts.share_within(SECOND) >= 0.99, "{}", attempts.summary());
}
