//! Rules end when they are to, whatever the clocks of the agent's own namespace show. Needs root and
//! `TCPGUARD_BIN`.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const LIFE: Duration = Duration::from_secs(5);

/// The programs have the host's boot clock, and the agent one that is a day ahead.
#[test]
fn a_rule_ends_in_the_kernel_when_it_is_to_also_if_the_agent_is_in_a_time_namespace() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start_ahead(&lab.edge, Mode::Enforce, 100_000).unwrap();
    let connects = || {
        let service = Family::V4.service();
        lab.client
            .run(|| Ok(TcpStream::connect_timeout(&service, Duration::from_secs(2)).is_ok()))
            .unwrap()
    };
    assert!(connects());
    let client = Family::V4.client().to_string();
    let begun = Instant::now();
    let life = format!("{}s", LIFE.as_secs());
    let output = cli(&lab.edge, &["block", &client, "--for", &life, "--force"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!connects(), "it is blocked");
    // No agent is left to remove it from the kernel.
    agent.kill().unwrap();
    sleep((LIFE + Duration::from_secs(1)).saturating_sub(begun.elapsed()));
    assert!(connects(), "it has ended");
}
