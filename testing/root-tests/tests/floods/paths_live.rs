//! Handshakes that fail without an attack, live: a path that is slow and loses packets, and balancers that
//! reset their own SYNs. Neither is a flood, although a comparison of SYNs with connections would say so. A
//! flood in the same setup is found. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::delay::Delay;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::health::HealthChecks;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// Time for which the trouble is observed.
const TROUBLE: Duration = Duration::from_secs(12);
/// SYNs of the flood per second.
const FLOOD: u32 = 2_000;
/// Share of SYN-ACKs without a connection from which a detector that counts retransmissions and reset
/// handshakes reports a flood: tcpguard's own limit for failed handshakes (`scattered_share`).
const NAIVE: f64 = 0.25;

/// Clients, and whatever `trouble` adds to them, are called no flood; then a flood comes and is found.
fn no_flood_until_there_is_one<T>(
    client_delay: Option<Delay>,
    clients: u32,
    trouble: impl FnOnce(&Lab) -> T,
) {
    let lab = Lab::new(LabOptions { client_delay, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let service = Family::V4.service();
    let visitors = Visitors { rate: clients, home: Home::Anywhere(1), patience: PATIENCE };
    let load = Load::of(&lab.client, service, visitors).unwrap();
    let trouble = trouble(&lab);
    sleep(TROUBLE);
    let status = agent.status().unwrap();
    let of = |counter| status.listener_total(PORT, counter) as f64;
    let answered = of("syn_ack") + of("cookies_sent");
    let unfinished = 1.0 - of("established") / answered;
    println!(
        "  {} SYNs, {answered} answered, {} connections; reported: {:?}",
        of("syn"),
        of("established"),
        status.incidents().iter().map(|attack| attack.summary()).collect::<Vec<_>>()
    );
    assert!(unfinished >= NAIVE, "a count of answers finds nothing wrong: {unfinished:.2}");
    assert_eq!(status.alerts("attack_started"), 0, "{:#?}", status.incidents());
    assert!(status.rules().is_empty(), "{:#?}", status.rules());
    assert_eq!(status.total("drop_total"), 0);

    let flood = Flood { rate: FLOOD, ..Flood::random(service, 60 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    let reported =
        |status: &tcpguard_kit::daemon::status::Status| status.alerts("attack_started") == 1;
    agent.wait_until("the flood is reported", TIMEOUT, reported).unwrap();
    flood.stop().unwrap();
    drop(trouble);
    drop(load);
}

#[test]
fn a_slow_path_that_loses_packets_is_no_flood() {
    let (mean, jitter) = (Duration::from_millis(300), Duration::from_millis(50));
    no_flood_until_there_is_one(Some(Delay { mean, jitter, loss: 0.25 }), 50, |_| ());
}

#[test]
fn balancers_that_reset_their_handshakes_are_no_flood() {
    no_flood_until_there_is_one(None, 50, |lab| {
        HealthChecks::start(lab, Family::V4.service(), 25).unwrap()
    });
}
