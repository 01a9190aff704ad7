//! SYN floods of ports at which nothing listens: the host's own stack refuses a few, and the others do not
//! take its time. Needs root and `TCPGUARD_BIN`.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::daemon::truth::{NOT_STOPPED, STOPPED};
use tcpguard_kit::measure::clock::{TIMEOUT, between, boot_ns};
use tcpguard_kit::measure::tcp_counters::tcp_counter;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Sources};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
const CLOSED: u16 = 9;
/// New connections per second of the real clients.
const CLIENTS: u32 = 50;
/// SYNs per second of a flood.
const FLOOD: u32 = 20_000;
/// SYNs per second that are no flood (`detection.closed_port_rate` is 10,000).
const SCAN: u32 = 2_000;
/// Longest duration of a flood, which is stopped before.
const LASTS: Duration = Duration::from_secs(60);
/// Resets per second during a flood (`CLOSED_PORT_RESETS`).
const RESETS: u64 = 200;

fn closed() -> SocketAddr {
    SocketAddr::new(Family::V4.edge(), CLOSED)
}

fn resets(lab: &Lab) -> u64 {
    tcp_counter(&lab.edge, "OutRsts").unwrap()
}

fn is_alerted(status: &Status) -> bool {
    status.incidents().iter().any(|attack| attack.class() == "closed_ports")
}

/// Returns whether one of three connections is refused, rather than left to wait.
fn is_refused(lab: &Lab) -> bool {
    let attempt = || Ok(TcpStream::connect_timeout(&closed(), SECOND / 2));
    let mut attempts = (0..3).map(|_| lab.client.run(attempt).unwrap());
    attempts.any(|tried| tried.is_err_and(|it| it.kind() == ErrorKind::ConnectionRefused))
}

/// The stack refuses a few, and clients get in.
fn is_dropped(control: &Control, lab: &Lab, sources: Sources) {
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    sleep(2 * SECOND);
    let flood = Flood { rate: FLOOD, sources, ..Flood::random(closed(), LASTS) };
    let flood = flood.start(lab).unwrap();
    let begun = flood.started();
    agent.wait_until("the incident", TIMEOUT, is_alerted).unwrap();
    sleep(SECOND);
    let (before, since) = (resets(lab), boot_ns());
    sleep(2 * SECOND);
    let (refused, took) = (resets(lab) - before, between(since, boot_ns()));
    assert!(is_refused(lab), "a client that completed handshakes is refused as ever");
    let status = agent.status().unwrap();
    let check = cli(&lab.edge, &["check"]).unwrap();
    let flood = flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(begun, flood.ended);

    let dropped = status.reason("drop_closed_port");
    println!("{refused} resets in {took:.1?}, {dropped} dropped so far");
    assert!(refused <= RESETS * (took.as_secs() + 1), "{refused} in {took:?}");
    assert!(refused >= RESETS / 4, "some are: {refused}");
    assert!(dropped > u64::from(FLOOD), "{dropped}");
    assert_eq!(status.incidents().len(), 1, "{:#?}", status.incidents());
    assert_eq!(status.state(), STOPPED);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    control.assert_served(&attempts);
}

fn lab(syncookies: u8) -> Lab {
    Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap()
}

#[test]
fn of_a_flood_of_closed_ports_a_few_are_refused_and_clients_get_in() {
    let control = Control::start().unwrap();
    for syncookies in [0, 1] {
        is_dropped(&control, &lab(syncookies), Sources::Random);
    }
}

/// From a container's network: the resets go to its bridge, where no program sees them.
#[test]
fn a_flood_whose_resets_leave_unseen_is_dropped_as_well() {
    let control = Control::start().unwrap();
    for syncookies in [0, 1] {
        let lab = lab(syncookies);
        lab.add_container_network().unwrap();
        is_dropped(&control, &lab, Sources::Net(Family::V4.containers().parse().unwrap()));
    }
}

#[test]
fn in_observe_mode_a_flood_of_closed_ports_is_reported_and_every_syn_refused() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let flood = Flood { rate: FLOOD, ..Flood::random(closed(), LASTS) }.start(&lab).unwrap();
    agent.wait_until("the incident", TIMEOUT, is_alerted).unwrap();
    sleep(SECOND);
    let before = resets(&lab);
    sleep(SECOND);
    let refused = resets(&lab) - before;
    let status = agent.status().unwrap();
    let check = cli(&lab.edge, &["check"]).unwrap();
    flood.stop().unwrap();

    println!("{refused} resets in a second");
    assert!(refused > u64::from(FLOOD) / 4, "{refused}");
    assert_eq!(status.reason("drop_closed_port"), 0);
    let attack = &status.incidents()[0];
    assert!(attack.matched() > u64::from(FLOOD) / 4 && attack.dropped() == 0, "{attack:?}");
    assert_eq!(status.state(), NOT_STOPPED);
    assert_eq!(check.status.code(), Some(2), "{check:?}");
}

#[test]
fn a_scan_is_refused_port_by_port() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let before = resets(&lab);
    let flood = Flood { rate: SCAN, ..Flood::random(closed(), 3 * SECOND) };
    let sent = flood.start(&lab).unwrap().wait().unwrap().sent;
    sleep(SECOND);
    let (status, refused) = (agent.status().unwrap(), resets(&lab) - before);
    assert!(refused * 100 >= sent * 99, "{refused} of {sent}");
    assert!(!is_alerted(&status), "{:#?}", status.incidents());
    assert_eq!(status.reason("drop_closed_port"), 0);
}
