//! SYNs that spoof the host's resolver, which no source rule may match: they are dropped beyond the budget, and by their
//! signature, all the same.

use std::thread::sleep;

use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::measure::clock::{after, boot_ns};
use tcpguard_kit::net::lab::{Family, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Sources};
use tcpguard_kit::traffic::server::{Behaviour, Server};

use super::new_clients::silence;
use super::{CLIENTS, SECOND, resolver, stage_with};

/// SYNs a second: more than the queue can hold.
const RATE: u32 = 1_500;

/// Without SYN cookies, so that what is exempt fills the queue.
#[test]
fn a_flood_spoofing_the_resolver_keeps_no_client_out() {
    let control = Control::start().unwrap();
    let lab = stage_with(LabOptions { syncookies: 0, ..LabOptions::default() });
    silence(&lab);
    let service = Family::V4.service();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let visitors = Visitors { rate: CLIENTS, home: Home::ValidatedClients, patience: PATIENCE };
    let load = Load::of(&lab.client, service, visitors).unwrap();
    sleep(3 * SECOND);
    let sources = Sources::One(resolver(Family::V4));
    let flood = Flood { sources, rate: RATE, ..Flood::random(service, 18 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    // The verdict, and the time in which the queue is cleared.
    let since = after(boot_ns(), 8 * SECOND);
    let flood = flood.wait().unwrap();
    let status = agent.status().unwrap();
    let attempts = load.finish().unwrap().begun(since, flood.ended);
    println!("  {}", attempts.summary());
    control.assert_served(&attempts);
    let dropped = status.reason("drop_signature") + status.reason("drop_budget");
    assert!(dropped * 2 > flood.sent, "{dropped} of {} SYNs dropped", flood.sent);
}
