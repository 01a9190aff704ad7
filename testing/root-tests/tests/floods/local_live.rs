//! Traffic of the host to itself, and traffic of interfaces that are not attached, is no evidence: it neither
//! hides a flood nor makes clients. Needs root and `TCPGUARD_BIN`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use tcpguard_goals::{Goal, Row, size, when};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::armed::PATIENCE;
use tcpguard_kit::measure::tcp_counters::tcp_counter;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{self, Home, Load, Visitors};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// Time from the first SYN of a flood within which it is found.
const FOUND: Duration = Duration::from_secs(5);
/// Share of completed handshakes below which an alarm is raised: three quarters of the attempts fail.
const ALARM_BELOW: f64 = 0.25;

fn connect_to(host: &Netns, service: SocketAddr, times: u32) {
    let connect = || -> Result<()> {
        for _ in 0..times {
            TcpStream::connect_timeout(&service, PATIENCE)?;
        }
        Ok(())
    };
    host.run(connect).unwrap();
}

fn is_validated(lab: &Lab, client: &str) -> bool {
    let explained = cli(&lab.edge, &["explain", client, "--json"]).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    document["completed_at"].is_string()
}

/// Connections of a host with itself until dropped.
struct Chatter(Arc<AtomicBool>);

impl Chatter {
    /// Starts `rate` connections a second.
    fn start(host: &Netns, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let talk = move || -> Result<()> {
            let begun = Instant::now();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // Each from another source, as clients of a proxy are.
                let to = Ipv4Addr::new(127, 1, (number >> 8) as u8, number as u8);
                let _ = TcpStream::connect_timeout(&SocketAddr::new(to.into(), PORT), SECOND);
                sleep((SECOND * number / rate).saturating_sub(begun.elapsed()));
            }
            Ok(())
        };
        drop(host.spawn("chatter", talk).unwrap());
        Self(stop)
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A flood beside a host that connects to itself.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `net.ipv4.tcp_syncookies` of the host.
    syncookies: u8,
    /// SYNs of the flood per second.
    flood: u32,
    /// Connections of the host with itself per second.
    local: u32,
    /// Duration of the flood, in s.
    lasts_s: u32,
}

/// The first flood is to be found. The others also outlast the 30 s after which an attack that seems to be
/// over is closed.
const CASES: [Case; 6] = [
    Case { syncookies: 1, flood: 600, local: 800, lasts_s: 8 },
    Case { syncookies: 0, flood: 600, local: 800, lasts_s: 36 },
    Case { syncookies: 1, flood: 300, local: 400, lasts_s: 36 },
    Case { syncookies: 0, flood: 300, local: 1_200, lasts_s: 36 },
    Case { syncookies: 1, flood: 2_000, local: 2_400, lasts_s: 36 },
    Case { syncookies: 0, flood: 2_000, local: 1_600, lasts_s: 36 },
];

/// Reports of tcpguard about a flood.
struct Reported {
    /// Time from its first SYN until it was found; `None` if that was not within [`FOUND`].
    found: Option<Duration>,
    /// True if it is the one attack that is open in its last second, and none is over.
    goes_on: bool,
    /// Share of attempts that complete a handshake, where every completion of the kernel counts.
    naive_share: f64,
}

impl Case {
    fn reported(self) -> Reported {
        let options = LabOptions { syncookies: self.syncookies, ..LabOptions::default() };
        let lab = Lab::new(options).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let _chatter = Chatter::start(&lab.edge, self.local);
        // A validated client, and new clients.
        let loads = [Home::One, Home::NewClients].map(|home| {
            let visitors = Visitors { rate: 5, home, patience: clients::PATIENCE };
            Load::of(&lab.client, Family::V4.service(), visitors).unwrap()
        });
        sleep(3 * SECOND);
        let flood = Flood::random(Family::V4.service(), SECOND * self.lasts_s);
        let flood = Flood { rate: self.flood, ..flood }.start(&lab).unwrap();
        let begun = Instant::now();
        let found =
            agent.wait_until("the flood is found", FOUND, |status| !status.incidents().is_empty());
        let found = found.is_ok().then(|| begun.elapsed());
        while flood.sent() < u64::from(self.flood * (self.lasts_s - 1)) {
            flood.goes_on().unwrap();
            sleep(SECOND / 2);
        }
        let status = agent.status().unwrap();
        let (incidents, past) = (status.incidents(), status.past_incidents());
        println!("{self:?}: found {}", when(found, FOUND));
        let goes_on = incidents.len() == 1 && past.is_empty();
        if !goes_on {
            println!("  open: {incidents:#?}, over: {past:#?}\n{}", agent.log());
        }
        assert!(incidents.iter().all(|one| one.class() == "random_spoofed"), "{incidents:#?}");
        let completed = status.listener_total(PORT, "established");
        let [known, new_clients] = loads.map(|load| load.finish().unwrap());
        println!("  {completed} completed; the validated client: {}", known.summary());
        println!("  new clients: {}", new_clients.summary());
        let attempts = known.0.len() + new_clients.0.len();
        assert!(completed <= attempts as u64 + 10, "{completed}: the clients' own");
        let all = tcp_counter(&lab.edge, "PassiveOpens").unwrap();
        let share = all as f64 / (all + flood.sent()) as f64;
        println!(
            "  with those of the host with itself: {all}, {:.0} % of the attempts",
            100.0 * share
        );
        flood.stop().unwrap();
        Reported { found, goes_on, naive_share: share }
    }
}

#[test]
fn g20_connections_of_the_host_with_itself_hide_no_flood() {
    let row = Row::new(Goal::G20).named("local");
    let reported = side_by_side(2, &CASES[..size(2, 6)], |case| case.reported());
    let n = reported.len() as u64;
    let slowest =
        reported.iter().try_fold(Duration::ZERO, |most, reported| Some(most.max(reported.found?)));
    let ongoing = reported.iter().filter(|reported| reported.goes_on).count();
    let shares = reported.iter().map(|reported| reported.naive_share);
    let least = shares.clone().fold(1.0, f64::min);
    let hidden = shares.filter(|share| *share > ALARM_BELOW).count();
    row.result(
        n,
        format!(
            "floods beside connections of the host with itself: the slowest found {}, {ongoing} one \
             attack until their end",
            when(slowest, FOUND)
        ),
        slowest.is_some() && ongoing == reported.len(),
    )
    .naive(
        n,
        format!(
            "floods: {hidden} hidden where every completion of the kernel counts, at \
             least {:.0} % of the attempts (an alarm is raised below {:.0} %)",
            100.0 * least,
            100.0 * ALARM_BELOW
        ),
        hidden == reported.len(),
    )
    .finish();
}

/// A user of the host connects with the highest speed: no client is forgotten for it, and the agent has no work.
#[test]
fn sixty_thousand_connections_of_the_host_with_itself_cost_no_client_and_no_cpu() {
    const CONNECTIONS: u32 = 60_000;
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    connect_to(&lab.client, Family::V4.service(), 5);
    sleep(SECOND);
    let (taken, begun) = (agent.cpu_time().unwrap(), Instant::now());
    let connect = || -> Result<()> {
        for number in 0..CONNECTIONS {
            let to = Ipv4Addr::new(127, 2, (number >> 8) as u8, number as u8);
            TcpStream::connect_timeout(&SocketAddr::new(to.into(), PORT), PATIENCE)?;
        }
        Ok(())
    };
    lab.edge.run(connect).unwrap();
    let share = (agent.cpu_time().unwrap() - taken).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("{CONNECTIONS} in {:.1?}: {:.0} % of a CPU", begun.elapsed(), 100.0 * share);
    sleep(SECOND);
    let status = agent.status().unwrap();
    assert_eq!(status.listener_total(PORT, "established"), 5);
    assert!(is_validated(&lab, "10.78.0.2"));
    assert!(status.incidents().is_empty(), "{:?}", status.incidents());
    assert!(share < 0.2, "{share}");
}

#[test]
fn only_handshakes_by_an_attached_interface_count_and_validate() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    // A neighbour behind an interface that is not attached, and a VLAN above the attached one.
    let side = Netns::new("side").unwrap();
    let there = format!("link add side0 type veth peer name side1 netns {}", side.path());
    lab.edge.ip(&[&there, "address add 10.76.0.1/24 dev side0", "link set side0 up"]).unwrap();
    side.ip(&["address add 10.76.0.2/24 dev side1", "link set side1 up"]).unwrap();
    // A container on a bridge of the host's.
    let container = Netns::new("container").unwrap();
    let port = format!("link add port0 type veth peer name port1 netns {}", container.path());
    let bridge = lab.edge.ip(&["link add bridge0 type bridge"]);
    if bridge.is_ok() {
        lab.edge
            .ip(&[
                &port,
                "link set port0 master bridge0 up",
                "address add 10.74.0.1/24 dev bridge0",
                "link set bridge0 up",
            ])
            .unwrap();
        container.ip(&["address add 10.74.0.2/24 dev port1", "link set port1 up"]).unwrap();
    }
    let vlan = [(&lab.edge, 1), (&lab.client, 2)].map(|(host, number)| {
        let other = 3 - number;
        host.ip(&[
            &format!("link add link {INTERFACE} name {INTERFACE}.7 type vlan id 7"),
            &format!("address add 10.75.0.{number}/24 dev {INTERFACE}.7"),
            &format!("link set {INTERFACE}.7 up"),
            &format!(
                "neighbour add 10.75.0.{other} dev {INTERFACE}.7 lladdr 02:00:00:00:00:0{other} \
                 nud permanent"
            ),
        ])
    });
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let at = |addr: IpAddr| SocketAddr::new(addr, PORT);
    let v4 = |a, b, c, d| at(Ipv4Addr::new(a, b, c, d).into());
    let counted = |settled: u64| {
        sleep(SECOND);
        let status = agent.status().unwrap();
        let of = |counter| status.listener_total(PORT, counter);
        assert_eq!(of("established"), settled, "of {} SYNs", of("syn"));
    };

    for family in Family::BOTH {
        connect_to(&lab.client, family.service(), 5);
    }
    counted(10);
    let mut clients = 10;
    match vlan {
        [Ok(()), Ok(())] => {
            connect_to(&lab.client, v4(10, 75, 0, 1), 5);
            clients += 5;
        }
        failed => println!("this kernel makes no VLAN: {failed:?}"),
    }
    counted(clients);
    connect_to(&side, v4(10, 76, 0, 1), 5);
    match bridge {
        Ok(()) => connect_to(&container, v4(10, 74, 0, 1), 5),
        failed => println!("this kernel makes no bridge: {failed:?}"),
    }
    connect_to(&lab.edge, v4(127, 0, 0, 1), 5);
    connect_to(&lab.edge, at(Ipv6Addr::LOCALHOST.into()), 5);
    connect_to(&lab.edge, v4(10, 76, 0, 1), 5);
    for family in Family::BOTH {
        connect_to(&lab.edge, family.service(), 5);
    }
    counted(clients);
    for (client, expected) in
        [("10.78.0.2", true), ("10.76.0.2", false), ("10.74.0.2", false), ("127.0.0.1", false)]
    {
        assert_eq!(is_validated(&lab, client), expected, "{client}");
    }
}
