//! Floods to whose sources the SYN-ACKs leave by an unattached interface, although those to clients leave by
//! an attached one: from a container network behind a bridge, and from a link wider than its hosts. Needs
//! root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tcpguard_goals::size;
use tcpguard_host::linux::SockDiag;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::{Incident, Status};
use tcpguard_kit::daemon::truth::{STOPPED, alerted_of_a_flood};
use tcpguard_kit::measure::clock::{TIMEOUT, after, between, boot_ns};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape, Sources};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs of the flood per second.
const FLOOD: u32 = 2_000;
/// New connections per second of the real clients.
const CLIENTS: u32 = 50;
/// A backlog so small that the queue takes more handshakes of the flood than twice their SYN-ACKs of five seconds.
const FEW: u32 = 8;
/// Longest duration of a flood, which is stopped before.
const LASTS: Duration = Duration::from_secs(60);

/// A network that the host does not answer as it answers clients.
#[derive(Clone, Copy, Debug)]
enum Odd {
    /// Behind a bridge that is not attached, from where nothing is expected by the attached interface.
    Bridge,
    /// On the attached link, where no host has the addresses. The host checks reverse paths.
    Link,
}

impl Odd {
    fn net(self, family: Family) -> IpNet {
        let text = match (self, family) {
            (Self::Bridge, _) => family.containers(),
            (Self::Link, Family::V4) => "10.9.64.0/18",
            (Self::Link, Family::V6) => "fd09::/32",
        };
        text.parse().unwrap()
    }

    fn lab(self, syncookies: u8) -> Lab {
        let lab = Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap();
        match self {
            Self::Bridge => lab.add_container_network().unwrap(),
            Self::Link => {
                let address = format!("address add 10.9.64.1/18 dev {INTERFACE}");
                let route = format!("route add fd09::/32 dev {INTERFACE}");
                lab.edge.ip(&[&address, &route]).unwrap();
                lab.edge.sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
            }
        }
        lab
    }

    fn flood(self, family: Family) -> Flood {
        let sources = Sources::Net(self.net(family));
        Flood { rate: FLOOD, sources, ..Flood::random(family.service(), LASTS) }
    }
}

fn half_open(lab: &Lab) -> u64 {
    lab.edge.run(|| Ok(SockDiag::open()?.half_open(None)?.len() as u64)).unwrap()
}

/// Verdict by counts alone: the queue has taken more handshakes than SYN-ACKs were seen. The listener's
/// SYN-ACKs are therefore assumed to leave unseen, and no rule is made there.
#[derive(Debug)]
struct Naive {
    half_open: u64,
    syn_acks: u64,
}

impl Naive {
    fn now(lab: &Lab, agent: &Agent<'_>) -> Self {
        let syn_acks = agent.status().unwrap().listener_total(PORT, "syn_ack");
        Self { half_open: half_open(lab), syn_acks }
    }

    /// The most that the queue has grown within this time, and whether that is the verdict.
    fn judge(&self, lab: &Lab, agent: &Agent<'_>, within: Duration) -> bool {
        let begun = Instant::now();
        let mut most = 0;
        while begun.elapsed() < within {
            most = most.max(half_open(lab));
            sleep(Duration::from_millis(20));
        }
        let grown = most.saturating_sub(self.half_open);
        let answers = agent.status().unwrap().listener_total(PORT, "syn_ack") - self.syn_acks;
        let unseen = grown >= 32_u64.max(2 * answers);
        println!("  naive: {grown} more half-open, {answers} SYN-ACKs seen; unseen: {unseen}");
        unseen
    }
}

fn is_alerted_unseen(status: &Status) -> bool {
    status.health().iter().any(|(code, _)| code == "egress_unseen")
}

/// A fixed-fingerprint flood, dropped as if all sources were alike. Among few clients, and without cookies, counts
/// alone say that replies leave unseen.
fn fixed_fingerprint(control: &Control, odd: Odd, family: Family, syncookies: u8, clients: u32) {
    println!("{odd:?} {family:?}, {clients} clients/s, tcp_syncookies {syncookies}");
    // Long enough for some hundred clients after the rule.
    let observed = if clients == FEW { 12 * SECOND } else { 4 * SECOND };
    let lab = odd.lab(syncookies);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    // If cookies started first, tokens of the stack's buckets would do the rule's work.
    agent.wait_until("the listener", TIMEOUT, |status| status.follows(PORT)).unwrap();
    let order = cli(&lab.edge, &["mitigation", ":443", "cookies", "off", "--for", "10m"]).unwrap();
    assert!(order.status.success(), "{order:?}");
    let load = Load::start(&lab.client, family.service(), clients).unwrap();
    sleep(SECOND);
    let naive = Naive::now(&lab, &agent);
    sleep(5 * SECOND);
    let flood = odd.flood(family).start(&lab).unwrap();
    let unseen = naive.judge(&lab, &agent, SECOND / 2);
    let status = agent.wait_for_rule(TIMEOUT).unwrap();
    let ruled = status.rules().iter().map(|rule| rule.created()).min().unwrap();
    println!("  a rule after {:.2?}", between(flood.started(), ruled));
    assert!(unseen || clients != FEW, "the naive variant must fail");
    sleep(observed);
    let (looked, status) = (boot_ns(), agent.status().unwrap());
    let flood = flood.stop().unwrap();
    let attempts = load.finish().unwrap();

    let incidents = status.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    println!("  {}", incidents[0].summary());
    assert_eq!(incidents[0].class(), "random_spoofed");
    assert!(!incidents[0].actions().contains(&"rule_advised"), "{incidents:#?}");
    assert!(!is_alerted_unseen(&status), "{:?}", status.health());
    assert_eq!(status.state(), STOPPED, "{incidents:#?}");
    assert!(status.rules().iter().all(|rule| rule.kind() == "signature"));
    let dropped = status.reason("drop_signature");
    let came = between(ruled, looked).as_secs_f64() * f64::from(FLOOD);
    assert!(dropped as f64 >= 0.8 * came, "{dropped} of {came} since the rule");
    control.assert_served(&attempts.begun(after(ruled, SECOND), flood.ended));
}

/// Among few clients, and among many with and without the kernel's cookies: each once, and in the full size in both
/// families.
fn fixed_fingerprint_each(odd: Odd) {
    let control = Control::start().unwrap();
    let each = [(0, FEW), (0, CLIENTS), (1, CLIENTS)];
    let of = |family: usize| {
        each.iter()
            .enumerate()
            .map(move |(number, case)| (Family::BOTH[(family + number) % 2], *case))
    };
    side_by_side(3, (0..size(1, 2)).flat_map(of), |(family, (syncookies, clients))| {
        fixed_fingerprint(&control, odd, family, syncookies, clients);
    });
}

#[test]
fn a_flood_from_a_container_network_is_dropped() {
    fixed_fingerprint_each(Odd::Bridge);
}

#[test]
fn a_flood_from_neighbours_that_do_not_exist_is_dropped() {
    fixed_fingerprint_each(Odd::Link);
}

/// A flood that nothing but its routes distinguishes from clients.
fn copies(odd: Odd, likeness: Likeness, family: Family) -> Flood {
    Flood { shape: Shape::Copy(likeness), ..odd.flood(family) }
}

#[test]
fn copies_from_there_are_kept_from_the_stack_and_clients_get_in() {
    let (control, family) = (Control::start().unwrap(), Family::V4);
    side_by_side(2, [Odd::Bridge, Odd::Link], |odd| {
        println!("{odd:?}");
        let lab = odd.lab(1);
        let likeness = Likeness::capture(&lab, family).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
        sleep(3 * SECOND);
        let naive = Naive::now(&lab, &agent);
        let flood = copies(odd, likeness, family).start(&lab).unwrap();
        naive.judge(&lab, &agent, SECOND / 2);
        let armed = |status: &Status| status.mitigation("cookies") == Some("active");
        agent.wait_until("cookies", TIMEOUT, armed).unwrap();
        let (since, before) = (boot_ns(), flood.sent());
        println!("  cookies after {:.2?}", between(flood.started(), since));
        sleep(6 * SECOND);
        let status = agent.status().unwrap();
        let flood = flood.stop().unwrap();
        let attempts = load.finish().unwrap();
        assert!(!is_alerted_unseen(&status), "{:?}", status.health());
        assert_eq!(status.state(), STOPPED, "{:#?}", status.incidents());
        assert!(status.rules().is_empty(), "clients look like it: {:#?}", status.rules());
        let sent = status.listener_total(PORT, "cookies_sent");
        let came = flood.sent - before;
        // Replies to them leave by the bridge, or not at all, because no neighbour has the address. So these SYNs take
        // tokens of the stack's buckets, and the others are dropped.
        assert!(sent * 2 < came, "{sent} of {came}");
        control.assert_served(&attempts.begun(after(since, SECOND), flood.ended));
    });
}

/// Nothing that may be dropped distinguishes them from clients, and the kernel takes no cookie.
#[test]
fn where_no_cookie_is_taken_copies_from_there_are_reported_truly() {
    let family = Family::V4;
    side_by_side(2, [Odd::Bridge, Odd::Link], |odd| {
        println!("{odd:?}");
        let lab = odd.lab(0);
        let likeness = Likeness::capture(&lab, family).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
        sleep(3 * SECOND);
        let flood = copies(odd, likeness, family).start(&lab).unwrap();
        let named = |status: &Status| status.incidents().iter().any(Incident::is_flood);
        agent.wait_until("it is named", TIMEOUT, named).unwrap();
        let since = boot_ns();
        let (kept, status) = alerted_of_a_flood(&agent, 5).unwrap();
        let until = boot_ns();
        flood.stop().unwrap();
        let attempts = load.finish().unwrap().begun(since, until);
        println!("  {:.0} % kept from the stack; {}", 100.0 * kept, attempts.summary());
        assert!(status.incidents().iter().any(Incident::is_flood), "{:#?}", status.incidents());
        assert!(!is_alerted_unseen(&status), "{:?}", status.health());
        assert!(status.rules().is_empty(), "clients look like it: {:#?}", status.rules());
    });
}

#[test]
fn what_the_host_drops_for_its_source_is_no_flood() {
    let (control, lab) = (Control::start().unwrap(), Odd::Bridge.lab(0));
    lab.edge.sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    sleep(6 * SECOND);
    let flood = Flood { duration: 10 * SECOND, ..Odd::Bridge.flood(Family::V4) };
    let flood = flood.start(&lab).unwrap().wait().unwrap();
    let status = agent.status().unwrap();
    assert!(status.listener_total(PORT, "syn") >= flood.sent, "it has arrived");
    assert!(status.incidents().is_empty(), "{:#?}", status.incidents());
    assert!(!is_alerted_unseen(&status), "{:?}", status.health());
    control.assert_served(&load.finish().unwrap());
}
