//! Floods from the spoofed address of a host that the attacked host cannot do without: this victim is not blocked,
//! its connections lose nothing, and others get in. Likewise floods from the spoofed address of a new client, or of
//! its network: the client gets in. Needs root, `TCPGUARD_BIN` and nft.

mod new_clients;
mod resolver;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::Value;
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::source_rules::SourceRules;
use tcpguard_kit::daemon::status::{Incident, Status};
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::lab::{CLIENT_MAC, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::Mac;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors, resident};
use tcpguard_kit::traffic::flood::{Flood, Sources};
use tcpguard_kit::traffic::server::{Behaviour, Server};
use tcpguard_kit::traffic::transfer::{Direction, Order, Transfer};

const SECOND: Duration = Duration::from_secs(1);
/// Port of the administrators' sessions.
const SSH: u16 = 22;
/// SYNs a second of one address.
const RATE: u32 = 5_000;
/// SYNs a second of a subnet. Its 256 addresses have more than [`NAIVE_LIMIT`] each.
const SUBNET_RATE: u32 = 30_000;
const FLOOD: Duration = Duration::from_secs(6);
/// SYNs a second for which the naive variant shuts a source out, as long as floods have their full rate.
const NAIVE_LIMIT: u32 = 100;
/// Clients a second, of each kind.
const CLIENTS: u32 = 50;
/// Share of them that must be answered within a second.
const SERVED: f64 = 0.999;
/// Share of all frames that the wire may lose before they reach the XDP program. Where it loses more, the machine
/// does not carry the flood, and a slower one is tried.
const LOST: f64 = 0.001;
/// Divisors of the rates. The least is taken with which the machine carries the flood. Beside other tests that is
/// hardly ever one of the first two.
fn slower() -> [u32; 3] {
    size([4, 8, 16], [1, 2, 4])
}
/// Interval between two readings of the blocked sources.
const LOOK: Duration = Duration::from_millis(100);
/// Least number of readings in a flood: half of those that there should be, since a busy machine may take longer
/// for one.
const LOOKS: u64 = FLOOD.as_millis() as u64 / LOOK.as_millis() as u64 / 2;
/// Bytes a second of a session in either direction: 2 MB a minute, as of an operator at work.
const PACE: u64 = 33_000;
/// Time for which a session sends: until after the flood, which begins some three seconds later.
const SESSION: Duration = Duration::from_secs(13);

/// Owner of the spoofed addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victim {
    Gateway,
    /// An administrator with an SSH session.
    Admin,
    /// The attacked host itself.
    Own,
    /// One of the machines of a CDN, from which many clients come. It is not in the configuration.
    Cdn,
    /// The resolver of resolv.conf.
    Resolver,
}

/// Fields that vary from SYN to SYN.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    /// Nothing: one address, one port.
    Fixed,
    Ports,
    /// Port and address, of the 256 around the victim's.
    Subnet,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    victim: Victim,
    pattern: Pattern,
    family: Family,
}

impl Case {
    /// Each victim, pattern and family with each other.
    const COUNT: u64 = 30;

    /// Two in a row have two victims, two patterns and both families.
    fn nth(number: u64) -> Self {
        const VICTIMS: [Victim; 5] =
            [Victim::Gateway, Victim::Admin, Victim::Own, Victim::Cdn, Victim::Resolver];
        const PATTERNS: [Pattern; 3] = [Pattern::Fixed, Pattern::Ports, Pattern::Subnet];
        let of = |count: usize| (number % count as u64) as usize;
        Self { victim: VICTIMS[of(5)], pattern: PATTERNS[of(3)], family: Family::BOTH[of(2)] }
    }

    fn address(self) -> IpAddr {
        let v4 = self.family == Family::V4;
        match self.victim {
            Victim::Gateway => if v4 { "10.77.0.254" } else { "fd77::fe" }.parse().unwrap(),
            Victim::Admin => self.family.client(),
            Victim::Own => self.family.edge(),
            Victim::Cdn => resident(cdn(self.family), 7),
            Victim::Resolver => resolver(self.family),
        }
    }

    /// Returns the flood, at a rate that is divided by `slower`.
    fn flood(self, slower: u32) -> Flood {
        let address = self.address();
        let sources = match (self.pattern, address) {
            // No client's own: those are above.
            (Pattern::Fixed, _) => Sources::Socket(SocketAddr::new(address, 1_023)),
            (Pattern::Ports, _) => Sources::One(address),
            (Pattern::Subnet, IpAddr::V4(_)) => Sources::Net(IpNet::new(address, 24).unwrap()),
            (Pattern::Subnet, IpAddr::V6(_)) => Sources::Net(IpNet::new(address, 120).unwrap()),
        };
        let rate = if matches!(self.pattern, Pattern::Subnet) { SUBNET_RATE } else { RATE };
        Flood { sources, rate: rate / slower, ..Flood::random(self.service(), FLOOD) }
    }

    /// Target of the flood: the service that the victim uses, if it is a client.
    fn service(self) -> SocketAddr {
        let port = if self.victim == Victim::Admin { SSH } else { PORT };
        SocketAddr::new(self.family.edge(), port)
    }

    /// Returns whether it comes in the names of all clients in the CDN.
    fn names_clients(self) -> bool {
        matches!((self.victim, self.pattern), (Victim::Cdn, Pattern::Subnet))
    }

    /// Returns whether a host without any defence replies to each of its SYNs, so that a defence has to act. A single
    /// connection gets one reply, the host itself none, and most of a subnet that is on the link has no
    /// neighbour that could get a reply.
    fn is_answered(self) -> bool {
        match self.pattern {
            Pattern::Fixed => false,
            Pattern::Ports => self.victim != Victim::Own,
            Pattern::Subnet => self.victim == Victim::Cdn,
        }
    }

    /// Returns whether there are connections from his address.
    fn connects(self) -> bool {
        matches!(self.victim, Victim::Admin | Victim::Cdn | Victim::Resolver)
    }
}

fn cdn(family: Family) -> IpNet {
    match family {
        Family::V4 => "198.51.100.0/24",
        Family::V6 => "2001:db8:c::/48",
    }
    .parse()
    .unwrap()
}

fn resolver(family: Family) -> IpAddr {
    match family {
        Family::V4 => "10.78.0.53",
        Family::V6 => "fd78::53",
    }
    .parse()
    .unwrap()
}

/// Addresses that no rule may match.
fn protected() -> Vec<IpAddr> {
    let of = |family| {
        [Victim::Gateway, Victim::Admin, Victim::Own, Victim::Resolver]
            .map(|victim| Case { victim, pattern: Pattern::Fixed, family }.address())
    };
    Family::BOTH.into_iter().flat_map(of).collect()
}

/// A host with a resolver, and a CDN in which the clients' machine has all addresses.
fn stage() -> Lab {
    stage_with(LabOptions::default())
}

fn stage_with(options: LabOptions) -> Lab {
    let lab = Lab::new(options).unwrap();
    let mac = in_words(CLIENT_MAC);
    let mut resolv_conf = String::new();
    for family in Family::BOTH {
        let (resolver, cdn, client) = (resolver(family), cdn(family), family.client());
        lab.client
            .ip(&[
                &format!("route add local {cdn} dev lo"),
                &format!("route add local {resolver} dev lo"),
            ])
            .unwrap();
        lab.edge
            .ip(&[
                &format!("route add {cdn} via {client}"),
                &format!("neighbour add {resolver} lladdr {mac} dev {INTERFACE}"),
            ])
            .unwrap();
        resolv_conf += &format!("nameserver {resolver}\n");
    }
    lab.edge.write("/run/resolv.conf", &resolv_conf).unwrap();
    lab.edge.exec("mount --bind /run/resolv.conf /etc/resolv.conf").unwrap();
    lab
}

fn in_words(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Defence against the floods.
enum Defence<'lab> {
    Agent(Agent<'lab>, Box<SourceRules>),
    /// The naive variant: a source that sends more SYNs a second than a limit is shut out.
    Nft(&'lab Netns),
}

impl<'lab> Defence<'lab> {
    fn agent(host: &'lab Netns) -> Self {
        let agent = Agent::start(host, Mode::Enforce).unwrap();
        Self::Agent(agent, Box::new(SourceRules::open(host).unwrap()))
    }

    fn nft(host: &'lab Netns, limit: u32) -> Self {
        const FILE: &str = "/run/naive.nft";
        let family = |version: &str, ip: &str| {
            format!(
                "set {version} {{ type {version}_addr; size 65536; flags dynamic,timeout; timeout 1m; }}
                 set {version}_rate {{ type {version}_addr; size 65536; flags dynamic; timeout 10s; }}
                 chain {version}_in {{
                     type filter hook prerouting priority raw; policy accept;
                     {ip} saddr @{version} drop
                     tcp flags & (fin|syn|rst|ack) == syn \
                         update @{version}_rate {{ {ip} saddr limit rate over {limit}/second }} \
                         add @{version} {{ {ip} saddr }} drop
                 }}"
            )
        };
        let table = format!(
            "table inet naive {{\n{}\n{}\n}}\n",
            family("ipv4", "ip"),
            family("ipv6", "ip6")
        );
        host.write(FILE, &table).unwrap();
        host.exec(&format!("nft -f {FILE}")).unwrap();
        Self::Nft(host)
    }

    fn status(&self) -> Option<Status> {
        match self {
            Self::Agent(agent, _) => Some(agent.status().unwrap()),
            Self::Nft(_) => None,
        }
    }

    /// Sources that are shut out.
    fn blocked(&self, host: &Netns) -> Vec<IpNet> {
        match self {
            Self::Agent(_, in_kernel) => {
                let output = cli(host, &["rules", "export", "--all", "--json"]).unwrap();
                let document: Value = serde_json::from_slice(&output.stdout).unwrap();
                let rules = document["rules"].as_array().unwrap().iter();
                let reported = rules.map(|rule| rule["prefix"].as_str().unwrap().parse().unwrap());
                // The kernel's rules count whatever the agent reports. One may expire while they are read, so they
                // are read twice at most.
                let there = in_kernel.all().or_else(|_| in_kernel.all()).unwrap();
                reported.chain(there).collect()
            }
            Self::Nft(host) => {
                let set = |version: &str| {
                    let said = host.exec(&format!("nft -j list set inet naive {version}")).unwrap();
                    let document: Value = serde_json::from_str(&said).unwrap();
                    let elements = document["nftables"][1]["set"]["elem"].as_array().cloned();
                    elements.unwrap_or_default().into_iter().map(|element| {
                        let address = element["elem"]["val"].as_str().unwrap_or_default();
                        IpNet::from(address.parse::<IpAddr>().unwrap())
                    })
                };
                set("ipv4").chain(set("ipv6")).collect()
            }
        }
    }
}

/// SYNs that the XDP program dropped, or answered itself.
fn stopped(status: &Status) -> u64 {
    status.total("drop_total") + status.total("cookies_sent")
}

/// Returns whether there is an incident at `port` since then.
fn is_alerted(status: &Status, port: u16, since: u64) -> bool {
    let is_it = |incident: &Incident| incident.port() == port && incident.detected() >= since;
    status.incidents().iter().chain(&status.past_incidents()).any(is_it)
}

/// Effect of a flood from a spoofed address.
struct Seen {
    /// True if the host answers it.
    answered: bool,
    /// True if there was an incident, or tcpguard dropped or answered something.
    acted: bool,
    /// Rules over addresses that are protected, at whatever moment.
    blocked: BTreeSet<IpNet>,
    /// Number of readings in which they were searched for.
    looks: u64,
    /// Sessions, and those that lost a byte or were reset.
    sessions: usize,
    broken: usize,
    /// Attempts of other clients during the flood.
    others: Attempts,
    /// Attempts of clients from the flood's own addresses.
    named: Attempts,
    /// Share of all frames that the wire lost before they reached the XDP program.
    lost: f64,
    /// Divisor of the flood's rate.
    slower: u32,
}

/// The fastest flood that the machine carries.
fn play(case: Case, naive: bool) -> Seen {
    let mut floods = slower().into_iter().map(|slower| play_at(slower, case, naive));
    let carried = floods.find(|seen| seen.lost <= LOST);
    carried.unwrap_or_else(|| panic!("{case:?}: this machine carries none of the floods"))
}

fn play_at(slower: u32, case: Case, naive: bool) -> Seen {
    let lab = stage();
    let _servers =
        [SSH, PORT].map(|port| Server::start(&lab.edge, port, Behaviour::Answer).unwrap());
    let begun = Instant::now();
    let admin = Family::BOTH.map(|family| (family.client(), SocketAddr::new(family.edge(), SSH)));
    let mut sessions = Vec::new();
    for (from, service) in
        admin.into_iter().chain(case.connects().then_some((case.address(), case.service())))
    {
        for direction in [Direction::Pull, Direction::Push] {
            let order = Order { direction, bytes: PACE * SESSION.as_secs(), pace: PACE };
            sessions.push(Transfer::begin_from(&lab.client, from, service, order).unwrap());
        }
    }
    let defence = match naive {
        false => Defence::agent(&lab.edge),
        true => Defence::nft(&lab.edge, NAIVE_LIMIT / slower),
    };
    let [outside, inside] =
        [Home::ValidatedClients, Home::Residents(cdn(case.family))].map(|home| {
            let visitors = Visitors { rate: CLIENTS, home, patience: PATIENCE };
            Load::of(&lab.client, case.service(), visitors).unwrap()
        });
    sleep(2 * SECOND);
    let before = defence.status();
    let (from, lost) = (boot_ns(), lab.lost().unwrap());
    let flood = case.flood(slower).start(&lab).unwrap();
    let (mut next, mut blocked, mut looks) = (Instant::now(), BTreeSet::new(), 0);
    let end = next + FLOOD;
    while next < end {
        blocked.extend(defence.blocked(&lab.edge));
        looks += 1;
        // One that took too long is followed by the next at once, but not by several.
        let now = Instant::now();
        next = (next + LOOK).max(now);
        sleep(next - now);
    }
    let report = flood.wait().unwrap();
    assert!(begun.elapsed() < SESSION, "the sessions are over before the flood is");
    let (to, lost) = (boot_ns(), lab.lost().unwrap() - lost);
    let acted = defence.status().zip(before).is_some_and(|(now, before)| {
        let port = case.service().port();
        let seen = now.listener_total(port, "syn");
        assert!(seen > report.sent / 2, "{case:?}: {seen} of {} SYNs came", report.sent);
        is_alerted(&now, port, from) || stopped(&now) > stopped(&before)
    });
    blocked.retain(|net| protected().iter().any(|address| net.contains(address)));
    let count = sessions.len();
    let ended: Vec<_> = sessions.into_iter().map(Transfer::finish).collect();
    let [mut others, mut named] =
        [outside, inside].map(|load| load.finish().unwrap().begun(from, to));
    if !case.names_clients() {
        others.0.append(&mut named.0);
    }
    let broken: Vec<_> = ended.iter().filter_map(|ended| ended.as_ref().err()).collect();
    println!(
        "{case:?}, naive: {naive}, rate / {slower}: {lost} of {} frames lost, {looks} looks; {}; {}; \
         {blocked:?} blocked, {broken:?}; incident, drops or cookies: {acted}",
        report.sent + lost,
        others.summary(),
        named.summary()
    );
    let lost = lost as f64 / (report.sent + lost) as f64;
    let (sessions, broken, answered) = (count, broken.len(), case.is_answered());
    Seen { answered, acted, blocked, looks, sessions, broken, others, named, lost, slower }
}

struct Sum {
    /// Cases in which the host replies to each SYN.
    answered: usize,
    /// Cases among these in which tcpguard did nothing.
    idle: usize,
    /// Cases among all in which tcpguard did something.
    acted: usize,
    blocked: usize,
    /// The fewest readings in any of them.
    looks: u64,
    sessions: usize,
    broken: usize,
    others: usize,
    late: usize,
    named: usize,
    named_served: usize,
    /// Number of the others that may have lost a frame on the wire: a handshake and its request are three
    /// frames.
    forgiven: f64,
    /// Cases with a slower flood.
    slowed: usize,
}

impl Sum {
    fn of(cases: &[Seen]) -> Self {
        let sum = |of: fn(&Seen) -> usize| cases.iter().map(of).sum();
        Self {
            answered: sum(|case| usize::from(case.answered)),
            idle: sum(|case| usize::from(case.answered && !case.acted)),
            acted: sum(|case| usize::from(case.acted)),
            blocked: sum(|case| case.blocked.len()),
            looks: cases.iter().map(|case| case.looks).min().unwrap_or_default(),
            sessions: sum(|case| case.sessions),
            broken: sum(|case| case.broken),
            others: sum(|case| case.others.0.len()),
            late: sum(|case| case.others.0.len() - case.others.within(SECOND)),
            named: sum(|case| case.named.0.len()),
            named_served: sum(|case| case.named.within(PATIENCE)),
            forgiven: cases.iter().map(|case| 3.0 * case.lost * case.others.0.len() as f64).sum(),
            slowed: sum(|case| usize::from(case.slower > 1)),
        }
    }

    /// Returns whether a protected address is shut out, a session is broken, too few of the others are served, or
    /// most of the clients from the flood's own addresses are not. The latter share a limit with the flood.
    fn harm(&self) -> [bool; 4] {
        let allowed = (1.0 - SERVED) * self.others as f64 + self.forgiven;
        let shut_out = self.named_served * 2 < self.named;
        [self.blocked > 0, self.broken > 0, self.late as f64 > allowed, shut_out]
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "names: {} rules over protected addresses in {} looks or more at each, {} of {} sessions \
             broken, {} of {} others served later than 1 s ({:.1} forgiven to the wire, {} floods slowed \
             down), {} of {} clients served in whose names it came",
            self.blocked,
            self.looks,
            self.broken,
            self.sessions,
            self.late,
            self.others,
            self.forgiven,
            self.slowed,
            self.named_served,
            self.named,
        )
    }
}

#[test]
fn g13_a_flood_spoofing_a_client_blocks_no_client_and_cuts_no_session() {
    let row = Row::new(Goal::G13);
    let (count, naive_count) = (size(2, Case::COUNT), size(1, 9_usize));
    let cases = (0..Case::COUNT).map(|number| Case::nth(seed() * 3 + number));
    let ours = cases.clone().take(count as usize).map(|case| (case, false));
    // Victims that are protected and have sessions.
    let named = |case: &Case| matches!(case.victim, Victim::Admin | Victim::Resolver);
    let naive = cases.filter(named).take(naive_count).map(|case| (case, true));
    // No flood of the short form has the rate of a subnet.
    let mut ours = side_by_side(size(3, 1), ours.chain(naive), |(case, naive)| play(case, naive));
    let naive = ours.split_off(count as usize);

    let [ours, naive] = [ours, naive].map(|cases| Sum::of(&cases));
    let holds = ours.harm() == [false; 4] && ours.looks >= LOOKS && ours.idle == 0;
    let said = format!(
        "{ours}; an incident, drops or cookies in {} cases, in {} of {} whose SYNs the host answers",
        ours.acted,
        ours.answered - ours.idle,
        ours.answered
    );
    row.result(count, said, holds)
        // It shuts out protected addresses, and so breaks their sessions.
        .naive(naive_count as u64, naive.to_string(), naive.harm()[..2] == [true; 2])
        .finish();
}
