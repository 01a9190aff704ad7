//! SYNs that the XDP program cannot read, or cannot answer with a cookie: fragments, and SYNs to more own addresses
//! than it has records of. The stack can, and would. Needs root and `TCPGUARD_BIN`.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::{Incident, Status};
use tcpguard_kit::daemon::truth::{NOT_STOPPED, STOPPED, alerted_of_a_flood};
use tcpguard_kit::measure::clock::{TIMEOUT, boot_ns};
use tcpguard_kit::net::lab::{BACKLOG, Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients.
const CLIENTS: u32 = 50;
/// Frames per second: half as many SYNs where each comes in two.
const FRAMES: u32 = 8_000;
/// SYNs per second that are counted: only the first of two fragments is read.
const SYNS: u32 = FRAMES / 2;
/// Longest duration of a flood, which is stopped before.
const LASTS: Duration = Duration::from_secs(60);

fn lab(syncookies: u8) -> Lab {
    Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap()
}

fn service() -> SocketAddr {
    Family::V4.service()
}

fn flood_of(shape: Shape) -> Flood {
    Flood { shape, rate: FRAMES, ..Flood::random(service(), LASTS) }
}

fn evasion(status: &Status) -> Option<Incident> {
    status.incidents().into_iter().find(|attack| attack.class() == "evasion")
}

/// The value of this key in the listener's line of the status.
fn of_listener<'a>(status: &'a Status, key: &str) -> &'a Value {
    let listeners = status.document()["listeners"].as_array().unwrap();
    let listener = listeners.iter().find(|listener| listener["port"] == PORT).unwrap();
    &listener[key]
}

/// Exit code and output of `tcpguard check`.
fn check(lab: &Lab) -> (Option<i32>, String) {
    let output = cli(&lab.edge, &["check"]).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// First fragments of eight bytes: their SYNs filled the queue, and clients and status knew nothing of it.
#[test]
fn fragments_that_no_stack_sends_reach_no_stack_in_enforce_mode() {
    let control = Control::start().unwrap();
    side_by_side(2, [0, 1], |syncookies| {
        let lab = lab(syncookies);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let load = Load::start(&lab.client, service(), CLIENTS).unwrap();
        sleep(2 * SECOND);
        let flood = flood_of(Shape::Fragments).start(&lab).unwrap();
        let begun = flood.started();
        agent.wait_until("the incident", TIMEOUT, |status| evasion(status).is_some()).unwrap();
        sleep(2 * SECOND);
        let status = agent.status().unwrap();
        let (code, printed) = check(&lab);
        let flood = flood.stop().unwrap();
        let attempts = load.finish().unwrap();
        let attempts = attempts.begun(begun, flood.ended);

        let dropped = status.reason("drop_beyond_bounds");
        println!("tcp_syncookies {syncookies}: {dropped} dropped\n  {printed}");
        assert_eq!(status.reason("fragment_short"), 0, "none passed");
        assert!(dropped > u64::from(SYNS), "{dropped}");
        assert_eq!(status.incidents().len(), 1, "{:#?}", status.incidents());
        assert_eq!(status.state(), STOPPED);
        assert_eq!(code, Some(1), "a warning: {printed}");
        let half_open = of_listener(&status, "half_open").as_u64().unwrap_or(0);
        assert!(half_open < BACKLOG as u64 / 2, "{half_open}");
        control.assert_served(&attempts);
    });
}

/// If nothing may be dropped, neither the status nor `tcpguard check` reports that all is well.
#[test]
fn fragments_that_reach_the_stack_are_an_attack_that_nothing_stops() {
    let cases = [(Mode::Observe, ""), (Mode::Enforce, "[policy]\nbeyond_bounds = \"pass\"\n")];
    side_by_side(2, cases, |(mode, config)| {
        let lab = lab(1);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start_with(&lab.edge, mode, config, &[]).unwrap();
        let load = Load::start(&lab.client, service(), CLIENTS).unwrap();
        sleep(2 * SECOND);
        let flood = flood_of(Shape::Fragments).start(&lab).unwrap();
        agent.wait_until("the incident", TIMEOUT, |status| evasion(status).is_some()).unwrap();
        let suspected = |status: &Status| {
            of_listener(status, "state") == "suspect"
                && status.reason("fragment_short") > u64::from(SYNS) / 2
        };
        agent.wait_until("its listener is named", TIMEOUT, suspected).unwrap();
        let status = agent.status().unwrap();
        let (code, printed) = check(&lab);
        flood.stop().unwrap();
        load.finish().unwrap();

        println!("{mode}: {printed}");
        assert_eq!(status.reason("drop_beyond_bounds"), 0);
        assert_eq!(status.state(), NOT_STOPPED);
        assert_eq!(code, Some(2), "critical: {printed}");
        let attack = evasion(&status).unwrap();
        let expected = match mode {
            Mode::Enforce => "tcpguard reload",
            _ => "tcpguard mode enforce --rollback-after 60s",
        };
        assert_eq!(attack.advised_command(), Some(expected));
    });
}

/// Clients with the fingerprint of whole first fragments, or those that a signature distinguishes.
#[derive(Clone, Copy, Debug)]
enum Clients {
    Alike,
    Apart,
}

/// A lab with such clients. Linux derives the window scale from the largest receive buffer, and the default
/// of that differs between versions.
fn lab_with(clients: Clients, syncookies: u8) -> Lab {
    let lab = lab(syncookies);
    let most = match clients {
        // A window scale of 7, as that of `Shape::WholeFragments`.
        Clients::Alike => 6 << 20,
        // Of 10.
        Clients::Apart => 32 << 20,
    };
    lab.client.sysctl("net.ipv4.tcp_rmem", &format!("4096 131072 {most}")).unwrap();
    lab
}

/// First fragments with the whole header have the fingerprint of any SYN, but their SYN-ACK would have to wait for
/// the rest. No rule helps against SYNs with the clients' fingerprint. An operator orders cookies before they come.
#[test]
fn in_cookie_mode_whole_first_fragments_are_limited_to_what_the_queue_holds() {
    const MEASURED: u32 = 4;
    let (control, lab) = (Control::start().unwrap(), lab_with(Clients::Alike, 1));
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, service(), CLIENTS).unwrap();
    sleep(2 * SECOND);
    let order = cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "1m"]).unwrap();
    assert!(order.status.success(), "{order:?}");
    sleep(SECOND);
    let flood = flood_of(Shape::WholeFragments).start(&lab).unwrap();
    let armed = |status: &Status| status.mitigation("cookies") == Some("active");
    agent.wait_until("cookies", TIMEOUT, armed).unwrap();
    sleep(SECOND);
    let (before, since) = (agent.status().unwrap(), boot_ns());
    sleep(MEASURED * SECOND);
    let (status, until) = (agent.status().unwrap(), boot_ns());
    flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(since, until);

    assert!(armed(&status), "{:?}", status.mitigation_reason("cookies"));
    assert!(status.rules().is_empty(), "clients look like it: {:#?}", status.rules());
    let grown = |of: fn(&Status) -> u64| of(&status) - of(&before);
    let answered = grown(|status| status.listener_total(PORT, "syn_ack"));
    let dropped = grown(|status| status.total("drop_total"));
    println!("{dropped} dropped, the stack answered {answered}; {}", attempts.summary());
    assert!(3 * dropped > 2 * u64::from(SYNS * MEASURED), "{dropped}");
    // A quarter of the queue in three seconds, retransmissions for the handshakes that stay half-open, and
    // the clients' handshakes.
    assert!(answered < 1000, "{answered} reached the stack");
    // SYNs that an operator keeps from the stack need not become an incident.
    assert_ne!(status.state(), NOT_STOPPED, "{:#?}", status.incidents());
    assert_eq!(of_listener(&status, "state"), "mitigating", "{:#?}", status.incidents());
    control.assert_served(&attempts);
}

/// One rule drops a tool's flood of a service, clients get in, and tcpguard reports the flood truthfully.
fn is_dropped_by_one_rule(lab: &Lab, flood: Flood) {
    let control = Control::start().unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, flood.target, CLIENTS).unwrap();
    sleep(2 * SECOND);
    let flood = flood.start(lab).unwrap();
    agent.wait_for_rule(TIMEOUT).unwrap();
    sleep(SECOND);
    let (before, since) = (agent.status().unwrap(), boot_ns());
    let (kept, status) = alerted_of_a_flood(&agent, 4).unwrap();
    let until = boot_ns();
    flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(since, until);

    let grown = |of: fn(&Status) -> u64| of(&status) - of(&before);
    let dropped = grown(|status| status.reason("drop_signature"));
    let arrived = grown(|status| status.total("syn"));
    println!(
        "the rule dropped {dropped} of {arrived}, {:.0} % kept from the stack; {}",
        100.0 * kept,
        attempts.summary()
    );
    assert!(10 * dropped >= 9 * arrived, "{dropped} of {arrived}");
    assert_eq!(status.rules().len(), 1, "{:#?}", status.rules());
    assert_eq!(status.state(), STOPPED, "{:#?}", status.incidents());
    control.assert_served(&attempts);
}

#[test]
fn whole_first_fragments_of_one_tool_are_dropped_by_a_rule() {
    is_dropped_by_one_rule(&lab_with(Clients::Apart, 1), flood_of(Shape::WholeFragments));
}

#[test]
fn where_no_cookie_is_taken_whole_first_fragments_are_reported_truly() {
    is_dropped_by_one_rule(&lab_with(Clients::Apart, 0), flood_of(Shape::WholeFragments));
}

/// A host that has every address of a network as its own: more than there are records of how they answer.
struct AnyAddress {
    net: IpNet,
    /// Address and port to which clients connect, one of the many.
    service: SocketAddr,
    lab: Lab,
}

impl AnyAddress {
    fn new(syncookies: u8) -> Self {
        let net: IpNet = "10.9.128.0/17".parse().unwrap();
        let lab = lab(syncookies);
        lab.edge.ip(&[&format!("route add local {net} dev lo")]).unwrap();
        lab.client.ip(&[&format!("route add {net} via {}", Family::V4.edge())]).unwrap();
        Self { net, service: SocketAddr::new("10.9.200.1".parse().unwrap(), PORT), lab }
    }

    /// Returns a flood of all addresses.
    fn flood(&self, shape: Shape) -> Flood {
        let flood = Flood::random(self.service, LASTS);
        Flood { shape, rate: FRAMES, across: Some(self.net), ..flood }
    }
}

#[test]
fn a_whole_network_of_own_addresses_is_answered_with_cookies() {
    let (control, host) = (Control::start().unwrap(), AnyAddress::new(1));
    let lab = &host.lab;
    let likeness = Likeness::capture(lab, Family::V4).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, host.service, CLIENTS).unwrap();
    sleep(2 * SECOND);
    let flood = host.flood(Shape::Copy(likeness)).start(lab).unwrap();
    let armed = |status: &Status| status.mitigation("cookies") == Some("active");
    agent.wait_until("cookies", TIMEOUT, armed).unwrap();
    sleep(SECOND);
    let (before, since, sent) = (agent.status().unwrap(), boot_ns(), flood.sent());
    sleep(4 * SECOND);
    let (status, until) = (agent.status().unwrap(), boot_ns());
    let sent = flood.sent() - sent;
    flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(since, until);

    let cookies = |status: &Status| status.listener_total(PORT, "cookies_sent");
    let answered = cookies(&status) - cookies(&before);
    println!("{answered} of {sent} answered with cookies; {}", attempts.summary());
    assert!(2 * answered > sent, "{answered} of {sent}");
    assert_eq!(status.state(), STOPPED, "{:#?}", status.incidents());
    control.assert_served(&attempts);
}

#[test]
fn a_tools_flood_over_a_whole_network_of_own_addresses_is_dropped_by_one_rule() {
    let host = AnyAddress::new(0);
    is_dropped_by_one_rule(&host.lab, host.flood(Shape::Bare));
}
