//! Floods spread over many listeners, and decoys, live: the flood that matters is found and dropped, at one
//! listener or at all. And a network that has one client and sends a flood. Needs root, `TCPGUARD_BIN` and
//! nft.

use std::net::{SocketAddr, TcpListener};
use std::thread::sleep;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_goals::size;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::status::{Incident, Rule, Status};
use tcpguard_kit::daemon::truth::{STOPPED, alerted_of_a_flood};
use tcpguard_kit::measure::clock::{TIMEOUT, between, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors, resident};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape, Sources};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// The first of the decoys' ports.
const DECOYS: u16 = 1_000;
/// Decoys, as many as are judged together.
const FEW_DECOYS: usize = 8;
const CLIENTS: u32 = 50;
/// Longest duration of a flood, which is stopped before.
const LASTS: Duration = Duration::from_secs(90);

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.edge(), port)
}

fn lab(syncookies: u8) -> Lab {
    Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap()
}

/// Listeners without any client, at each of these.
fn decoys(lab: &Lab, at: impl Iterator<Item = SocketAddr> + Send) -> Vec<TcpListener> {
    lab.edge.run(|| Ok(at.map(|at| TcpListener::bind(at).unwrap()).collect())).unwrap()
}

fn validated_clients(lab: &Lab) -> Load {
    let visitors = Visitors { rate: CLIENTS, home: Home::ValidatedClients, patience: PATIENCE };
    Load::of(&lab.client, at(PORT), visitors).unwrap()
}

fn signatures(status: &Status) -> Vec<Rule> {
    status.rules().into_iter().filter(|rule| rule.kind() == "signature").collect()
}

/// Returns whether the rule is one for every listener.
fn is_shared(rule: &Rule) -> bool {
    rule.matches().ends_with(" to every listener")
}

/// A flood of some decoys is one incident. Then the service is flooded, with another tool and without any cookies.
fn decoys_do_not_hide_the_service(control: &Control, syncookies: u8) {
    let lab = lab(syncookies);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _decoys = decoys(&lab, (DECOYS..DECOYS + FEW_DECOYS as u16).map(at));
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let clients = validated_clients(&lab);
    sleep(3 * SECOND);
    let bait = Flood {
        rate: 20 * FEW_DECOYS as u32,
        ports: FEW_DECOYS as u16,
        ..Flood::random(at(DECOYS), LASTS)
    };
    let bait = bait.start(&lab).unwrap();
    let found = |status: &Status| status.incidents().len() == 1;
    agent.wait_until("an incident of the decoys", TIMEOUT, found).unwrap();
    let flood =
        Flood { shape: Shape::RandomWindowMss, rate: 2_000, ..Flood::random(at(PORT), LASTS) };
    let flood = flood.start(&lab).unwrap();
    // The rule applies to every listener if it is made before the service has a slot for an incident of its own.
    let at_service =
        |rule: &Rule| is_shared(rule) || rule.matches().ends_with(&format!(" to :{PORT}"));
    let stopped = |status: &Status| signatures(status).iter().any(at_service);
    agent.wait_until("a rule for the service", TIMEOUT, stopped).unwrap();
    sleep(SECOND);
    let from = boot_ns();
    // The few SYNs to the decoys may well reach the stack.
    let (kept, status) = alerted_of_a_flood(&agent, 5).unwrap();
    let to = boot_ns();
    flood.stop().unwrap();
    bait.stop().unwrap();
    let clients = clients.finish().unwrap().begun(from, to);
    println!(
        "tcp_syncookies {syncookies}: {} attacks, {:.0} % kept from the stack; {}",
        status.incidents().len(),
        100.0 * kept,
        clients.summary()
    );
    let incidents = status.incidents();
    let own =
        incidents.iter().find(|attack| attack.port() == PORT).expect("an incident of its own");
    assert_eq!(own.class(), "random_spoofed", "{}", own.summary());
    assert!(own.dropped() > 5_000, "{} of {}", own.dropped(), own.syns());
    assert_eq!(incidents.len(), 2, "that of the service, and that of the decoys");
    control.assert_served(&clients);
}

#[test]
fn decoys_do_not_hide_the_service_that_is_flooded() {
    let control = Control::start().unwrap();
    side_by_side(2, size(vec![0], vec![0, 1]), |syncookies| {
        decoys_do_not_hide_the_service(&control, syncookies)
    });
}

/// Targets of a flood that is spread over many listeners.
#[derive(Clone, Copy, Debug)]
enum Over {
    /// Ports of one address.
    Ports,
    /// The same port at each address of a network.
    Addresses,
}

impl Over {
    const PORTS: u16 = 200;
    /// SYNs a second at each listener.
    const EACH: u32 = 10;

    fn net() -> IpNet {
        "10.9.8.0/24".parse().unwrap()
    }

    fn listeners(self) -> u32 {
        match self {
            Self::Ports => Self::PORTS.into(),
            Self::Addresses => 256,
        }
    }

    /// Opens the same number of listeners without any client.
    fn decoys(self, lab: &Lab) -> Vec<TcpListener> {
        match self {
            Self::Ports => decoys(lab, (DECOYS..DECOYS + Self::PORTS).map(at)),
            Self::Addresses => {
                let net = Self::net();
                lab.edge.ip(&[&format!("route add local {net} dev lo")]).unwrap();
                let address = |number: u32| resident(net, number as u16);
                let all = (0..self.listeners()).map(address);
                decoys(lab, all.map(|address| SocketAddr::new(address, DECOYS)))
            }
        }
    }

    fn flood(self, shape: Shape) -> Flood {
        let (target, ports, across) = match self {
            Self::Ports => (at(DECOYS), Self::PORTS, None),
            Self::Addresses => {
                let net = Self::net();
                (SocketAddr::new(net.network(), DECOYS), 1, Some(net))
            }
        };
        let rate = Self::EACH * self.listeners();
        Flood { shape, rate, ports, across, ..Flood::random(target, LASTS) }
    }
}

/// The incident that covers several listeners together.
fn alerted_together(status: &Status) -> Incident {
    let mut incidents = status.incidents().into_iter();
    incidents.find(|attack| attack.port() == 0).expect("the incident of several")
}

/// Ten SYN/s at each listener say little there.
fn a_carpet_is_dropped_by_one_rule(control: &Control, over: Over, syncookies: u8) {
    let lab = lab(syncookies);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _decoys = over.decoys(&lab);
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let clients = validated_clients(&lab);
    sleep(3 * SECOND);
    let carpet = over.flood(Shape::Bare);
    let rate = carpet.rate;
    let carpet = carpet.start(&lab).unwrap();
    let shared = |status: &Status| signatures(status).iter().any(is_shared);
    agent.wait_until("a rule for every listener", TIMEOUT, shared).unwrap();
    sleep(SECOND);
    let (from, before) = (boot_ns(), agent.status().unwrap().reason("drop_signature"));
    let (_, status) = alerted_of_a_flood(&agent, 5).unwrap();
    let to = boot_ns();
    carpet.stop().unwrap();
    let clients = clients.finish().unwrap().begun(from, to);
    let dropped = status.reason("drop_signature") - before;
    let all = alerted_together(&status);
    println!(
        "{over:?}, tcp_syncookies {syncookies}: {dropped} dropped in 5 s; {}; {}",
        all.summary(),
        clients.summary()
    );
    assert_eq!(all.class(), "random_spoofed");
    assert!(all.listeners() > u64::from(over.listeners()) / 2, "{}", all.summary());
    let critical = status.document()["alerts_24h"]["critical"].as_u64().unwrap();
    assert!(critical <= 3, "one flood is no alert for each listener: {critical}");
    assert!(10 * dropped > 9 * 5 * u64::from(rate), "{dropped}");
    assert_eq!(status.state(), STOPPED, "{:#?}", status.incidents());
    assert!(status.rules().iter().all(|rule| rule.kind() == "signature"));
    control.assert_served(&clients);
}

#[test]
fn a_carpet_is_dropped_at_every_port_by_one_rule() {
    let control = Control::start().unwrap();
    side_by_side(2, size(vec![0], vec![0, 1]), |syncookies| {
        a_carpet_is_dropped_by_one_rule(&control, Over::Ports, syncookies);
    });
}

#[test]
fn a_carpet_is_dropped_at_every_address_by_one_rule() {
    let control = Control::start().unwrap();
    side_by_side(2, size(vec![1], vec![0, 1]), |syncookies| {
        a_carpet_is_dropped_by_one_rule(&control, Over::Addresses, syncookies);
    });
}

/// Mimicking SYNs to many ports, none of which is the service's. Nothing distinguishes them from the SYNs of
/// clients.
#[test]
fn a_mimicking_carpet_is_answered_with_cookies() {
    let control = Control::start().unwrap();
    let (lab, over) = (lab(1), Over::Ports);
    let likeness = Likeness::capture(&lab, Family::V4).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _decoys = over.decoys(&lab);
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let clients = validated_clients(&lab);
    sleep(3 * SECOND);
    let carpet = over.flood(Shape::Copy(likeness)).start(&lab).unwrap();
    let most = 3 * over.listeners() as usize / 4;
    let armed = |status: &Status| status.listeners_with("cookies") >= most;
    agent.wait_until("cookies at most listeners", TIMEOUT, armed).unwrap();
    let from = boot_ns();
    println!("cookies after {:.2?}", between(carpet.started(), from));
    let (kept, status) = alerted_of_a_flood(&agent, 4).unwrap();
    let to = boot_ns();
    carpet.stop().unwrap();
    let clients = clients.finish().unwrap().begun(from, to);
    let all = alerted_together(&status);
    println!("{:.0} % kept from the stack; {}; {}", 100.0 * kept, all.summary(), clients.summary());
    assert!(all.is_flood(), "{}", all.summary());
    assert!(kept >= 0.6, "{kept}");
    assert!(status.rules().is_empty(), "clients look like it: {:#?}", status.rules());
    control.assert_served(&clients);
}

/// A /24 floods from all its addresses with one tool. One of them completed a handshake. Where the kernel takes
/// cookies, these may stop the flood.
fn a_network_is_dropped_by_what_its_syns_look_like(control: &Control, syncookies: u8) {
    let network: IpNet = "10.79.9.0/24".parse().unwrap();
    let lab = lab(syncookies);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    // As on a host that drops unsolicited replies.
    let quiet = "table inet quiet { chain out { type filter hook output priority 0; policy accept; \
                 tcp flags & rst == rst drop; }; }";
    lab.client.write("/run/quiet.nft", quiet).unwrap();
    lab.client.exec("nft -f /run/quiet.nft").unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let clients = validated_clients(&lab);
    let home = Home::Residents(network);
    let visitor = Visitors { rate: 1, home, patience: PATIENCE };
    let visitor = Load::of(&lab.client, at(PORT), visitor).unwrap();
    sleep(SECOND / 2);
    let attempts = visitor.finish().unwrap();
    assert_eq!(attempts.within(PATIENCE), 1, "{}", attempts.summary());
    // So long it takes to know two hundred handshakes of clients.
    sleep(13 * SECOND);
    let sources = Sources::Net(network);
    let flood = Flood { sources, rate: 2_000, ..Flood::random(at(PORT), LASTS) };
    let flood = flood.start(&lab).unwrap();
    let stopped = |status: &Status| {
        !signatures(status).is_empty() || status.mitigation("cookies") == Some("active")
    };
    agent.wait_until("a rule against the tool", TIMEOUT, stopped).unwrap();
    sleep(SECOND);
    let from = boot_ns();
    let (_, status) = alerted_of_a_flood(&agent, 5).unwrap();
    let to = boot_ns();
    flood.stop().unwrap();
    let clients = clients.finish().unwrap().begun(from, to);
    let incidents = status.incidents();
    let rules: Vec<String> = status.rules().iter().map(|rule| rule.matches().to_owned()).collect();
    println!(
        "tcp_syncookies {syncookies}; {}; {rules:?}; {}",
        incidents[0].summary(),
        clients.summary()
    );
    assert_eq!(incidents[0].class(), "few_source");
    assert_eq!(status.state(), STOPPED, "{incidents:#?}");
    assert!(rules.len() <= 2, "{rules:?}");
    control.assert_served(&clients);
}

#[test]
fn one_handshake_does_not_save_the_flood_of_a_network() {
    let control = Control::start().unwrap();
    side_by_side(2, size(vec![0], vec![0, 1]), |syncookies| {
        a_network_is_dropped_by_what_its_syns_look_like(&control, syncookies);
    });
}
