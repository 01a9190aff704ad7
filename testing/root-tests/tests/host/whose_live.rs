//! The owner of a service: containers, guests and redirected ports, on a host whose own socket listens at the same port.
//! Needs root, `TCPGUARD_BIN` and nft.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, boot_ns};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::lab_filter::STEERED_PORT;
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients.
const CLIENTS: u32 = 50;
/// SYNs per second of a flood of copies.
const COPIES: u32 = 5_000;
/// SYNs per second of a flood of a closed port.
const REFUSED: u32 = 20_000;
/// Longest duration of a flood, which is stopped before.
const LASTS: Duration = Duration::from_secs(60);

/// Name of the host's end of the guest's cable.
const PORT_OF_GUEST: &str = "guest0";

fn guest(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 88, 0, 2].into(),
        Family::V6 => [0xfd88, 0, 0, 0, 0, 0, 0, 2].into(),
    }
}

/// A guest that is routed behind the edge, to which the client has a way.
fn add_guest(lab: &Lab) -> Netns {
    let guest = Netns::new("guest").unwrap();
    let cable =
        format!("link add {PORT_OF_GUEST} type veth peer name {INTERFACE} netns {}", guest.path());
    lab.edge
        .ip(&[
            &cable,
            &format!("address add 10.88.0.1/24 dev {PORT_OF_GUEST}"),
            &format!("address add fd88::1/64 dev {PORT_OF_GUEST} nodad"),
            &format!("link set {PORT_OF_GUEST} up"),
        ])
        .unwrap();
    guest
        .ip(&[
            &format!("address add 10.88.0.2/24 dev {INTERFACE}"),
            &format!("address add fd88::2/64 dev {INTERFACE} nodad"),
            &format!("link set {INTERFACE} up"),
            "route add default via 10.88.0.1",
            "route add default via fd88::1",
        ])
        .unwrap();
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        lab.edge.sysctl(key, "1").unwrap();
    }
    for family in Family::BOTH {
        let way = format!("route add {} via {}", self::guest(family), family.edge());
        lab.client.ip(&[&way]).unwrap();
    }
    guest
}

/// The row of the listener at an address and port.
fn row(status: &Status, addr: IpAddr, port: u16) -> Option<&Value> {
    let mut rows = status.document()["listeners"].as_array()?.iter();
    rows.find(|row| row["addr"] == addr.to_string() && row["port"] == port)
}

fn count(status: &Status, addr: IpAddr, port: u16, counter: &str) -> u64 {
    row(status, addr, port).map_or(0, |row| row["totals"][counter].as_u64().unwrap())
}

fn is_forwarded(status: &Status, addr: IpAddr) -> bool {
    row(status, addr, PORT).is_some_and(|row| row["kind"] == "forwarded")
}

/// Has clients of `port` get to the service.
fn redirect(lab: &Lab, port: u16) {
    let rules = format!(
        "table ip nat {{\n chain pre {{\n  type nat hook prerouting priority -100\n  \
         tcp dport {port} redirect to :{PORT}\n }}\n}}\n"
    );
    lab.edge.write("/run/rules.nft", &rules).unwrap();
    lab.edge.exec("nft -f /run/rules.nft").unwrap();
}

/// Port that is redirected.
const REDIRECTED: u16 = 8443;

/// The address of a dual-stack socket.
const ANY: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

#[test]
fn a_published_port_is_the_containers_though_a_process_of_the_host_listens_there() {
    for family in Family::BOTH {
        let control = Control::start().unwrap();
        let lab = Lab::new(LabOptions::default()).unwrap();
        let container = add_guest(&lab);
        let (ip, to) = match family {
            Family::V4 => ("ip", guest(family).to_string()),
            Family::V6 => ("ip6", format!("[{}]", guest(family))),
        };
        let rules = format!(
            "table {ip} nat {{\n chain pre {{\n  type nat hook prerouting priority -100\n  \
             iifname {INTERFACE} tcp dport {PORT} dnat to {to}:{PORT}\n }}\n}}\n"
        );
        lab.edge.write("/run/rules.nft", &rules).unwrap();
        lab.edge.exec("nft -f /run/rules.nft").unwrap();
        let start = |host| Server::start(host, PORT, Behaviour::Answer).unwrap();
        let (stand_in, _server) = (start(&lab.edge), start(&container));
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let service = family.service();
        let likeness = Likeness::capture(&lab, family).unwrap();
        let load = Load::start(&lab.client, service, CLIENTS).unwrap();
        agent.wait_until("it", TIMEOUT, |status| is_forwarded(status, service.ip())).unwrap();
        let syns = |status: &Status| count(status, service.ip(), PORT, "syn");
        let calm = agent.wait_until("clients", TIMEOUT, |status| syns(status) >= 100).unwrap();
        let completed = count(&calm, service.ip(), PORT, "acknowledged");
        assert!(completed * 10 >= syns(&calm) * 9, "{completed} of {}", syns(&calm));

        let shape = Shape::Copy(likeness);
        let copies = Flood { shape, rate: COPIES, ..Flood::random(service, LASTS) };
        let flood = copies.start(&lab).unwrap();
        let begun = flood.started();
        let enough = syns(&calm) + 8 * u64::from(COPIES);
        let status = agent.wait_until("the flood", TIMEOUT, |it| syns(it) >= enough).unwrap();
        let flood = flood.stop().unwrap();
        let attempts = load.finish().unwrap().begun(begun, flood.ended);
        println!("{family:?}: {}", attempts.summary());
        control.assert_served(&attempts);
        assert_eq!(status.rules().len(), 0, "the clients' fingerprint is theirs");
        assert_eq!(stand_in.served(), 0);
        assert_eq!(count(&status, ANY, PORT, "established"), 0);
    }
}

#[test]
fn a_guest_at_the_port_of_the_hosts_socket_and_what_is_in_transit_are_no_matter_of_that() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let behind = add_guest(&lab);
    let start = |host| Server::start(host, PORT, Behaviour::Answer).unwrap();
    let (_own, at_guest) = (start(&lab.edge), start(&behind));
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let guest = SocketAddr::new(guest(Family::V4), PORT);
    let own = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    let through = Load::start(&lab.client, guest, CLIENTS).unwrap();
    agent.wait_until("the guest", TIMEOUT, |status| is_forwarded(status, guest.ip())).unwrap();
    let syns = |status: &Status| count(status, ANY, PORT, "syn");
    let used = |status: &Status| syns(status) >= 2 * u64::from(CLIENTS);
    let before = agent.wait_until("the host's own", TIMEOUT, used).unwrap();
    // In transit to the port of the host's socket: no host has this address.
    let absent = SocketAddr::from(([10, 88, 0, 99], PORT));
    let flood = Flood { rate: COPIES, ..Flood::random(absent, LASTS) }.start(&lab).unwrap();
    let seen = |status: &Status| status.reason("no_listener") - before.reason("no_listener");
    let enough = 6 * u64::from(COPIES);
    let status = agent.wait_until("the flood", TIMEOUT, |it| seen(it) >= enough).unwrap();
    flood.stop().unwrap();
    let (own, through) = (own.finish().unwrap(), through.finish().unwrap());
    println!("own: {}; through: {}", own.summary(), through.summary());
    for attempts in [&own, &through] {
        assert!(attempts.share_within(SECOND) >= 0.95, "{}", attempts.summary());
    }
    assert_eq!(at_guest.served(), through.within(TIMEOUT) as u64);
    let syns = syns(&status) - syns(&before);
    assert!(syns <= 20 * u64::from(CLIENTS), "{syns} SYNs are counted at the host's own");
    assert_eq!(status.incidents().len(), 0, "{:#?}", status.incidents());
    assert_eq!((status.total("drop_total"), status.rules().len()), (0, 0));
}

#[test]
fn an_address_that_comes_is_the_listeners_within_a_second() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    agent.wait_until("the listener", TIMEOUT, |status| status.follows(PORT)).unwrap();
    let came = SocketAddr::from(([10, 77, 0, 201], PORT));
    lab.client.ip(&[&format!("route add {} via {}", came.ip(), Family::V4.edge())]).unwrap();
    lab.edge.ip(&[&format!("address add {}/32 dev {INTERFACE}", came.ip())]).unwrap();
    let load = Load::start(&lab.client, came, CLIENTS).unwrap();
    // The promise: half a second for the clients, and one for the agent.
    sleep(SECOND * 3 / 2);
    let before = agent.status().unwrap();
    let begun = Instant::now();
    let more = |status: &Status| count(status, ANY, PORT, "syn") > count(&before, ANY, PORT, "syn");
    let is_over = |status: &Status| begun.elapsed() >= SECOND && more(status);
    let status = agent.wait_until("a second of SYNs", TIMEOUT, is_over).unwrap();
    assert_eq!(load.finish().unwrap().share_within(SECOND), 1.0);
    let [syns, completed] = ["syn", "established"]
        .map(|of| count(&status, ANY, PORT, of) - count(&before, ANY, PORT, of));
    assert!(syns.min(completed) >= u64::from(CLIENTS) * 4 / 5, "{completed} of {syns}");
    assert_eq!(row(&status, came.ip(), PORT), None);
}

/// The resets of the host, and the replies of the service, leave by an interface that is not attached.
#[test]
fn clients_of_a_redirected_port_get_in_while_another_port_is_flooded_and_replies_leave_unseen() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { asymmetric: true, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    redirect(&lab, REDIRECTED);
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let service = SocketAddr::new(Family::V4.edge(), REDIRECTED);
    // No validated ones, which are exempt.
    let visitors = Visitors { rate: CLIENTS, home: Home::NewClients, patience: PATIENCE };
    let load = Load::of(&lab.client, service, visitors).unwrap();
    let seen = |status: &Status| status.reason("no_listener") >= 2 * u64::from(CLIENTS);
    agent.wait_until("clients", TIMEOUT, seen).unwrap();
    let closed = SocketAddr::new(Family::V4.edge(), 9);
    let flood = Flood { rate: REFUSED, ..Flood::random(closed, LASTS) }.start(&lab).unwrap();
    let wait_for = |dropped: u32| {
        let is_dropped = |status: &Status| status.reason("drop_closed_port") > dropped.into();
        agent.wait_until("the flood is dropped", TIMEOUT, is_dropped).unwrap();
    };
    wait_for(REFUSED);
    let begun = boot_ns();
    wait_for(6 * REFUSED);
    let flood = flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(begun, flood.ended);
    println!("{}", attempts.summary());
    control.assert_served(&attempts);
}

/// No cookies: the flood's half-open handshakes wait in the queue of the socket, and clients use another port.
#[test]
fn a_redirected_port_has_one_row_with_the_queue_of_its_socket() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    redirect(&lab, REDIRECTED);
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let service = SocketAddr::new(Family::V4.edge(), REDIRECTED);
    let load = Load::start(&lab.client, service, CLIENTS).unwrap();
    let queue = |status: &Status| row(status, service.ip(), REDIRECTED)?["half_open"].as_u64();
    let alone = |status: &Status| queue(status).is_some() && row(status, ANY, PORT).is_none();
    agent.wait_until("one row", TIMEOUT, alone).unwrap();
    let flood = Flood { rate: COPIES, ..Flood::random(service, LASTS) }.start(&lab).unwrap();
    let is_dropped = |status: &Status| status.total("drop_total") >= 4 * u64::from(COPIES);
    agent.wait_until("the flood is dropped", TIMEOUT, is_dropped).unwrap();
    let cleaned = |status: &Status| queue(status).is_some_and(|half_open| half_open < 64);
    agent.wait_until("room in the queue", TIMEOUT, cleaned).unwrap();
    let begun = boot_ns();
    let enough = |status: &Status| status.total("drop_total") >= 12 * u64::from(COPIES);
    let status = agent.wait_until("more of the flood", TIMEOUT, enough).unwrap();
    let flood = flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(begun, flood.ended);
    println!("{}", attempts.summary());
    assert!(attempts.share_within(SECOND) >= 0.95, "{}", attempts.summary());
    assert_eq!(status.incidents().len(), 1, "{:#?}", status.incidents());
    assert_eq!(row(&status, ANY, PORT), None);
}

/// The socket has clients of its own port, too.
#[test]
fn a_handshake_counts_at_the_port_that_its_client_uses() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    redirect(&lab, REDIRECTED);
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let service = SocketAddr::new(Family::V4.edge(), REDIRECTED);
    let _translated = Load::start(&lab.client, service, 3 * CLIENTS).unwrap();
    let _own = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    let rate =
        |status: &Status, addr, port| row(status, addr, port)?["clients"]["completed_pps"].as_f64();
    let least = 2.0 * f64::from(CLIENTS);
    let seen = |it: &Status| rate(it, service.ip(), REDIRECTED).is_some_and(|rate| rate > least);
    agent.wait_until("the translated clients", TIMEOUT, seen).unwrap();
    // The mean rate is over 8 s.
    sleep(9 * SECOND);
    let own = rate(&agent.status().unwrap(), ANY, PORT).unwrap();
    assert!((own / f64::from(CLIENTS) - 1.0).abs() < 0.3, "{own} handshakes/s");
}

/// A socket at another port serves this one, by sk_lookup. No cookies: the flood's half-open handshakes are removed from
/// the queue of that socket.
#[test]
fn clients_of_a_steered_port_get_in_through_a_flood() {
    for family in Family::BOTH {
        let control = Control::start().unwrap();
        let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
        let server = Server::steered(&lab.edge, PORT).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let service = SocketAddr::new(family.edge(), STEERED_PORT);
        let load = Load::start(&lab.client, service, CLIENTS).unwrap();
        let syns = |status: &Status| count(status, service.ip(), STEERED_PORT, "syn");
        let calm = agent.wait_until("clients", TIMEOUT, |status| syns(status) >= 100).unwrap();
        assert_eq!(row(&calm, service.ip(), STEERED_PORT).unwrap()["kind"], "local");
        let flood = Flood { rate: COPIES, ..Flood::random(service, LASTS) }.start(&lab).unwrap();
        let dropped = |status: &Status| status.total("drop_total");
        let enough = 4 * u64::from(COPIES);
        agent.wait_until("a rule", TIMEOUT, |status| dropped(status) >= enough).unwrap();
        let begun = boot_ns();
        agent.wait_until("the flood", TIMEOUT, |it| dropped(it) >= 3 * enough).unwrap();
        let flood = flood.stop().unwrap();
        let attempts = load.finish().unwrap().begun(begun, flood.ended);
        println!("{family:?}: {}", attempts.summary());
        control.assert_served(&attempts);
        assert!(server.served() > 0);
    }
}
