//! Incidents that are no SYN flood from random sources, live: each gets its class, and rules only where they
//! help. Needs root, `TCPGUARD_BIN` and nft.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::service::deferring;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, boot_ns};
use tcpguard_kit::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape, Sources};
use tcpguard_kit::traffic::health::{Checked, Checks, HealthChecks, Look};
use tcpguard_kit::traffic::random::Random;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Sends segments from the attacker's interface, `rate` a second for `duration`.
fn send(
    lab: &Lab,
    rate: u32,
    duration: Duration,
    mut next: impl FnMut(&mut Random) -> Segment + Send,
) {
    const TICKS: u32 = 100;
    lab.attacker
        .run(|| {
            let socket = PacketSocket::send_only(INTERFACE)?;
            let mut random = Random::new(1);
            for _ in 0..(duration.as_secs_f64() * f64::from(TICKS)) as u32 {
                for _ in 0..rate / TICKS {
                    let segment =
                        Segment { src_mac: ATTACKER_MAC, dst_mac: EDGE_MAC, ..next(&mut random) };
                    socket.send(&segment.to_frame())?;
                }
                sleep(SECOND / TICKS);
            }
            Ok(())
        })
        .unwrap();
}

/// An address of the global unicast space that belongs to no host of the lab.
fn random_address(random: &mut Random) -> IpAddr {
    Ipv4Addr::from_bits(random.between(0x1700_0000, 0xb000_0000) as u32).into()
}

/// The one open incident is of this class, and no rule came of it.
fn assert_only_reported(status: &Status, class: &str) {
    let incidents = status.incidents();
    let kinds: Vec<&str> = incidents.iter().map(|attack| attack.class()).collect();
    assert_eq!(kinds, [class], "{incidents:#?}");
    println!("  {}", incidents[0].summary());
    assert_eq!(status.rules_in_kernel(), Some(0));
    assert_eq!(status.total("drop_total"), 0);
}

#[test]
fn a_scan_of_closed_ports_is_reported_and_no_source_is_blocked() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let (edge, scanner) = (Family::V4.edge(), IpAddr::from([198, 51, 100, 9]));
    let mut port = 1000;
    send(&lab, 200, SECOND, |_| {
        port += 1;
        Segment::new(SocketAddr::new(scanner, 4000), SocketAddr::new(edge, port), flags::SYN)
    });
    sleep(SECOND);
    assert_only_reported(&agent.status().unwrap(), "scan");
}

#[test]
fn unsolicited_replies_are_reflection() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let edge = Family::V4.edge();
    send(&lab, 5_000, 3 * SECOND, |random| {
        let from = SocketAddr::new(random_address(random), 443);
        let to = SocketAddr::new(edge, random.between(1024, 65_535) as u16);
        let mut segment = Segment::new(from, to, flags::SYN | flags::ACK);
        (segment.seq, segment.ack) = (random.bits() as u32, random.bits() as u32);
        segment
    });
    assert_only_reported(&agent.status().unwrap(), "reflection");
}

/// The same segments arrive at a proxy, but it asked for them.
#[test]
fn a_busy_proxy_is_no_victim_of_reflection() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _upstream = Server::start(&lab.client, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let upstream = SocketAddr::new(Family::V4.client(), PORT);
    let proxy = Load::start(&lab.edge, upstream, 1_000).unwrap();
    sleep(6 * SECOND);
    let status = agent.status().unwrap();
    let connected = proxy.finish().unwrap();
    println!("  {}", connected.summary());
    assert!(connected.0.len() > 3_000, "it is busy: {}", connected.summary());
    assert!(status.incidents().is_empty() && status.past_incidents().is_empty());
    assert_eq!(status.total("drop_total"), 0);
}

#[test]
fn a_service_that_accepts_no_connection_is_overloaded_and_not_under_attack() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Hang).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 200).unwrap();
    let is_alerted = |status: &Status| !status.incidents().is_empty();
    agent.wait_until("it is reported", TIMEOUT, is_alerted).unwrap();
    sleep(2 * SECOND);
    assert_only_reported(&agent.status().unwrap(), "listener_overload");
    load.finish().unwrap();
}

/// Twenty times as many real clients from one moment to the next.
#[test]
fn a_flash_crowd_is_served_and_is_no_attack() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let normal = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(5 * SECOND);
    let flash_crowd = Load::start(&lab.client, Family::V4.service(), 1_000).unwrap();
    sleep(5 * SECOND);
    let status = agent.status().unwrap();
    for load in [normal, flash_crowd] {
        control.assert_served(&load.finish().unwrap());
    }
    let incidents = status.incidents();
    assert!(incidents.iter().all(|attack| attack.class() == "flash_crowd"), "{incidents:#?}");
    assert_eq!(status.total("drop_total"), 0);
}

/// A pool of connections that a proxy opens ahead, to a service that takes none before the client has sent data.
#[test]
fn idle_connections_to_a_service_that_waits_for_data_are_no_attack() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _service = deferring(&lab.edge, PORT, 1024, 30).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    sleep(SECOND);
    let open = || -> anyhow::Result<Vec<TcpStream>> {
        (0..200).map(|_| Ok(TcpStream::connect(Family::V4.service())?)).collect()
    };
    let idle = lab.client.run(open).unwrap();
    sleep(8 * SECOND);
    let status = agent.status().unwrap();
    let completed = status.listener_total(PORT, "established");
    assert_eq!((idle.len(), completed), (200, 0), "the kernel waits for their data");
    assert!(status.incidents().is_empty(), "{:?}", status.incidents());
    assert!(status.past_incidents().is_empty(), "{:?}", status.past_incidents());
}

/// Returns whether this indicator holds.
fn speaks_for_an_attack(status: &Status, indicator: &str) -> bool {
    let all = status.document()["incidents"][0]["evidence"]["indicators"].as_array();
    all.into_iter().flatten().any(|found| found["name"] == indicator && found["holds"] == true)
}

/// The path back to these `clients` breaks. Their applications give up before their kernel sends a SYN again, and
/// open another connection.
fn validated_clients_that_fail_are_no_attackers(home: Home, clients: IpNet) {
    /// A kernel waits for a second (RFC 6298 §2.1).
    const IMPATIENT: Duration = Duration::from_millis(300);
    let lab = Lab::new(LabOptions::default()).unwrap();
    // There is room for all handshakes that they leave half-open.
    let _server = Server::with_backlog(&lab.edge, PORT, Behaviour::Answer, 4096).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let visitors = |rate, home, patience| {
        Load::of(&lab.client, Family::V4.service(), Visitors { rate, home, patience }).unwrap()
    };
    let others = visitors(20, Home::NewClients, PATIENCE);
    let _known = visitors(40, home, IMPATIENT);
    let is_normal = |status: &Status| status.document()["clients"]["ratio"].as_f64() > Some(0.95);
    agent.wait_until("the baseline is known", TIMEOUT, is_normal).unwrap();

    let from = boot_ns();
    let broken = format!(
        "table ip broken {{ chain incoming {{ type filter hook prerouting priority raw; policy accept; \
         ip daddr {clients} drop; }}; }}"
    );
    lab.client.write("/run/broken.nft", &broken).unwrap();
    lab.client.exec("nft -f /run/broken.nft").unwrap();
    // Each tries three times as often.
    let _again = visitors(80, home, IMPATIENT);
    let are_silent = |status: &Status| speaks_for_an_attack(status, "no_retransmission");
    agent.wait_until("it is known that no SYN is repeated", TIMEOUT, are_silent).unwrap();
    // A second inspection with this result would change the verdict. The report waits for two seconds.
    sleep(SECOND);
    let is_reported = |status: &Status| status.alerts("handshakes_degraded") > 0;
    let status = agent.wait_until("the report", TIMEOUT, is_reported).unwrap();
    let explained = cli(&lab.edge, &["explain", "1", "--json"]).unwrap();
    let others = others.finish().unwrap().begun(from, boot_ns());

    assert_only_reported(&status, "handshake_degraded");
    let reported = ["handshakes_degraded", "attack_started"].map(|event| status.alerts(event));
    assert_eq!(reported, [1, 0]);
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    let lines = explained["record"]["lines"].as_array().expect("a verdict");
    println!("  {lines:?}; others: {}", others.summary());
    // The naive way asks no further than whether enough indicators hold.
    let indicators = ["few_sources", "no_retransmission"];
    assert!(indicators.iter().all(|name| speaks_for_an_attack(&status, name)), "{lines:?}");
    assert!(lines[0]["question"] == "few_indicators" && lines[0]["holds"] == false, "{lines:?}");
    let decided = lines.last().expect("a line that fits");
    assert_eq!(decided["question"], "validated_clients", "{lines:?}");
    assert!(others.share_within(PATIENCE) >= 0.99, "{}", others.summary());
}

/// Few sources at one distance, none of which retransmits a SYN. A detector that judges by that alone, as the
/// agent once did, reports a flood from few sources. But these sources completed handshakes a moment ago.
/// They come no more often than clients without a reply do, and their handshakes are missing.
#[test]
fn validated_clients_that_do_not_retransmit_get_no_rule() {
    // The addresses of `VALIDATED_CLIENTS` are the last 64 of the new clients' range.
    let validated_clients = IpNet::new(Family::V4.new_client(u16::MAX), 26).unwrap().trunc();
    validated_clients_that_fail_are_no_attackers(Home::ValidatedClients, validated_clients);
}

/// Like the previous test, with a carrier's customers: this once raised the alarm of a single source.
#[test]
fn validated_clients_behind_one_address_that_do_not_retransmit_get_no_rule() {
    validated_clients_that_fail_are_no_attackers(Home::One, Family::V4.client().into());
}

/// Half-open checks by balancers of one network, and the flood beside them.
#[derive(Clone, Copy, Debug)]
struct Case {
    look: Look,
    flood: Option<Shape>,
    balancers: u8,
    /// Checks a second of each balancer.
    each: u32,
    syncookies: u8,
}

/// SYNs a second of the flood.
const FLOOD: u32 = 5_000;
/// Share of the checks that must be answered, and of the clients that must be within a second.
const SERVED: f64 = 0.99;
/// Half-open handshakes a second for which the naive variant shuts a source out.
const NAIVE_LIMIT: u32 = 8;

impl Case {
    /// Fingerprints and floods, each with both kinds of balancers, with and without cookies of the kernel.
    const COUNT: usize = 12;

    /// Three in a row have no flood, a bare flood, and bare checks in another flood.
    fn nth(number: usize) -> Self {
        let (look, flood) = [
            (Look::Linux, None),
            (Look::Linux, Some(Shape::Bare)),
            (Look::Bare, Some(Shape::RandomWindowMss)),
        ][number % 3];
        let (balancers, each) = [(4, 30), (10, 4)][number / 3 % 2];
        Self { look, flood, balancers, each, syncookies: (number / 6) as u8 }
    }

    fn checks(self) -> Checks {
        let (balancers, look) = (self.balancers, self.look);
        Checks { balancers, look, ..Checks::at(u32::from(balancers) * self.each) }
    }

    /// Checks of other balancers, with SYNs exactly like the flood's.
    fn alike(self) -> Option<Checks> {
        let alike = Checks { first: 101, look: Look::Bare, ..self.checks() };
        (self.flood == Some(Shape::Bare)).then_some(alike)
    }

    /// Connections a second of the validated client, and as many of new clients. In a flood both make 200
    /// handshakes in two seconds. From these a signature that no client has is known.
    fn clients(self) -> u32 {
        if self.flood.is_some() { 50 } else { 5 }
    }

    /// Returns the time for which checks and clients are observed.
    fn span(self) -> Duration {
        let seconds = if self.flood.is_some() { size(4, 8) } else { size(6, 25) };
        SECOND * seconds
    }
}

/// Results of checks and clients. In a flood they count from a second after its rule.
struct Seen {
    checked: Checked,
    /// Results of the checks with exactly the fingerprint of the flood.
    alike: Option<Checked>,
    /// The validated client, and new clients.
    clients: [Attempts; 2],
    harm: Harm,
}

/// Rules and drops that hit sources.
#[derive(Clone, Copy, Debug, Default)]
struct Harm {
    rules: u64,
    dropped: u64,
}

impl Harm {
    /// Without a flood no rule and no drop is right.
    fn of(status: &Status, flooded: bool) -> Self {
        if !flooded {
            let rules = status.rules_in_kernel().expect("the rules were counted");
            return Self { rules, dropped: status.total("drop_total") };
        }
        let rules = status.rules();
        let rules = rules.iter().filter(|rule| rule.kind() != "signature").count() as u64;
        Self { rules, dropped: status.reason("drop_source") }
    }
}

fn look_at(case: Case, naive: bool) -> Seen {
    let service = Family::V4.service();
    let options = LabOptions { syncookies: case.syncookies, ..LabOptions::default() };
    let lab = Lab::new(options).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = (!naive).then(|| Agent::start(&lab.edge, Mode::Enforce).unwrap());
    if naive {
        shut_out_by_half_open(&lab.edge);
    }
    let loads = [Home::One, Home::NewClients].map(|home| {
        let visitors = Visitors { rate: case.clients(), home, patience: PATIENCE };
        Load::of(&lab.client, service, visitors).unwrap()
    });
    let checks = HealthChecks::of(&lab, service, case.checks()).unwrap();
    let flood = case.flood.map(|shape| {
        sleep(2 * SECOND);
        let flood = Flood { shape, rate: FLOOD, ..Flood::random(service, 60 * SECOND) };
        flood.start(&lab).unwrap()
    });
    if let (Some(agent), Some(_)) = (&agent, &flood) {
        agent.wait_for_rule(TIMEOUT).unwrap();
        // The next poll frees the queue of the half-open handshakes from before the rule.
        sleep(SECOND);
    }
    let (from, before) = (boot_ns(), checks.so_far());
    let alike = case.alike().map(|alike| HealthChecks::of(&lab, service, alike).unwrap());
    sleep(case.span());
    let to = boot_ns();
    let checked = checks.finish().unwrap().since(before);
    let alike = alike.map(|alike| alike.finish().unwrap());
    let status = agent.as_ref().map(|agent| agent.status().unwrap());
    let clients = loads.map(|load| load.finish().unwrap().begun(from, to));
    if let Some(flood) = flood {
        flood.stop().unwrap();
    }
    let harm = status.as_ref().map(|status| Harm::of(status, case.flood.is_some()));
    let harm = harm.unwrap_or_default();
    println!(
        "  {case:?}, naive: {naive}: {checked:?}, {harm:?}; alike: {alike:?}; the validated client: {}; \
         new clients: {}",
        clients[0].summary(),
        clients[1].summary()
    );
    for attack in status.iter().flat_map(Status::incidents) {
        println!("  {}", attack.summary());
    }
    Seen { checked, alike, clients, harm }
}

/// The naive variant: a packet filter that counts the handshakes that a source resets, and shuts it out.
fn shut_out_by_half_open(host: &Netns) {
    const FILE: &str = "/run/naive.nft";
    let table = format!(
        "table ip naive {{
             set shut_out {{ type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }}
             set taken_back {{ type ipv4_addr; size 65536; flags dynamic; timeout 10s; }}
             chain incoming {{
                 type filter hook prerouting priority raw; policy accept;
                 ip saddr @shut_out drop
                 tcp flags & (fin|syn|rst|ack) == rst \
                     update @taken_back {{ ip saddr limit rate over {NAIVE_LIMIT}/second }} \
                     add @shut_out {{ ip saddr }} drop
             }}
         }}
"
    );
    host.write(FILE, &table).unwrap();
    host.exec(&format!("nft -f {FILE}")).unwrap();
}

fn sum(checked: impl Iterator<Item = Checked>) -> Checked {
    checked.fold(Checked::default(), |sum, next| Checked {
        asked: sum.asked + next.asked,
        answered: sum.answered + next.answered,
    })
}

/// The balancers reset the reply to each of their SYNs. Checks with exactly the fingerprint of a flood are measured
/// without a required share: nothing distinguishes a SYN that is sent once from the flood's.
#[test]
fn g21_half_open_health_checks_are_never_dropped() {
    let row = Row::new(Goal::G21).named("checks");
    let count = size(3, Case::COUNT);
    let cases = (0..count).map(|number| (number, false)).chain([(0, true)]);
    let mut seen = side_by_side(2, cases, |(number, naive)| look_at(Case::nth(number), naive));
    let naive = seen.pop().expect("the naive variant").checked;

    let least = |share: fn(&Seen) -> f64| seen.iter().map(share).fold(1.0, f64::min);
    let answered = least(|case| case.checked.share());
    let known = least(|case| case.clients[0].share_within(SECOND));
    let new_clients = least(|case| case.clients[1].share_within(SECOND));
    let rules: u64 = seen.iter().map(|case| case.harm.rules).sum();
    let dropped: u64 = seen.iter().map(|case| case.harm.dropped).sum();
    let all = sum(seen.iter().map(|case| case.checked));
    let alike = sum(seen.iter().filter_map(|case| case.alike));
    let said = format!(
        "kinds of half-open checks, beside floods and without: {} of {} answered, at least {:.1} % of each; \
         {rules} rules and {dropped} drops against their sources; at least {:.1} % of the validated clients and \
         {:.1} % of new clients served within 1 s. Not held to: of checks that look exactly like the flood {} of \
         {} answered",
        all.answered,
        all.asked,
        100.0 * answered,
        100.0 * known,
        100.0 * new_clients,
        alike.answered,
        alike.asked,
    );
    let served = f64::min(known, new_clients);
    let holds = answered >= SERVED && served >= SERVED && (rules, dropped) == (0, 0);
    row.result(count as u64, said, holds)
        .naive(
            1,
            format!("kind: {} of {} answered", naive.answered, naive.asked),
            naive.share() < 0.5,
        )
        .finish();
}

/// Their SYNs are bare and have one fingerprint, so that a rule may drop them by signature instead of by source.
#[test]
fn a_few_sources_are_named_and_dropped_and_clients_are_served() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(SECOND);
    let floods: Vec<_> = (1..=6u8)
        .map(|host| {
            let sources = Sources::One([192, 0, 2 + host, 7].into());
            let flood =
                Flood { sources, rate: 500, ..Flood::random(Family::V4.service(), 5 * SECOND) };
            flood.start(&lab).unwrap()
        })
        .collect();
    for flood in floods {
        flood.wait().unwrap();
    }
    let status = agent.status().unwrap();
    let incidents = status.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    println!("  {}", incidents[0].summary());
    assert_eq!(incidents[0].class(), "few_source");
    assert!(status.total("drop_total") > 7_500, "most of 15,000: {}", status.total("drop_total"));
    control.assert_served(&load.finish().unwrap());
}

/// Addresses, sequence numbers and options differ from SYN to SYN: a reconstruction could not know
/// them.
#[test]
fn the_headers_on_record_are_those_of_syns_that_came() {
    const ETHERNET: usize = 14;
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let to = SocketAddr::new(Family::V4.edge(), PORT);
    let mut sent = BTreeSet::new();
    send(&lab, 2_000, 4 * SECOND, |random| {
        let from = SocketAddr::new(random_address(random), random.between(1024, 65_535) as u16);
        let mut syn = Segment::new(from, to, flags::SYN);
        syn.seq = random.bits() as u32;
        syn.options = linux_syn_options(1460, random.bits() as u32);
        sent.insert(hex(&syn.to_frame()[ETHERNET..]));
        syn
    });
    let explained = cli(&lab.edge, &["explain", "1", "--json"]).unwrap();
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    let headers = explained["record"]["syn_headers"].as_array().expect("headers");
    println!("  {} headers, the first {}", headers.len(), headers[0]);
    assert_eq!(headers.len(), 16, "{explained:#}");
    let known = headers.iter().map(|header| header["hex"].as_str().unwrap());
    let known: BTreeSet<&str> = known.collect();
    assert_eq!(known.len(), 16, "each is another SYN");
    assert!(known.iter().all(|header| sent.contains(*header)), "{known:?}");
    let moments: BTreeSet<_> = headers.iter().map(|header| header["at"].as_str()).collect();
    assert!(moments.len() > 1, "{moments:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
