//! `cargo xtask demo --fleet`: three protected hosts, a message bus and two BGP routers, in about two minutes.
//!
//! One host is attacked. The others learn of it and are ready before their turn, an operator's rule reaches all of
//! them, and the routers receive a route and lose it. Everything happens between network namespaces that vanish with
//! this process, also after Ctrl-C. Each claim is checked; the exit code is not 0 when one does not hold.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tcpguard_fleet_kit::documents::{self, Operator};
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::process::{self, Part, Process};
use tcpguard_fleet_kit::router::{Prefixes, Router};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::write_secret;
use tcpguard_kit::claims::{self, Claims, scene};
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{after, between, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::{Flood, RunningFlood};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs per second of the floods, of a flood that a router limits, and packets per second from which a host asks.
const RATE: u32 = 20_000;
const TRICKLE: u32 = 100;
const PRESSURE: u32 = 15_000;
const LONGEST_FLOOD: Duration = Duration::from_secs(60);
const CLIENTS_PER_SECOND: u32 = 50;
/// Time of all scenes.
const LIMIT: Duration = Duration::from_secs(180);
/// Numbers of the machines. The first hosts are the protected ones.
const HOSTS: [u8; 3] = [2, 3, 4];
const COLLECTOR: u8 = 5;
const OPERATOR: u8 = 6;
const CONTROLLERS: [(u8, &str); 2] = [(7, "gobgp"), (8, "exabgp")];
/// Addresses of the hosts of a lab.
const PREFIXES: Prefixes = Prefixes { v4: "10.77.0.0/24", v6: "fd77::/64" };

fn main() -> ExitCode {
    claims::outcome(play())
}

/// A host with a service, its clients and its attacker.
struct Protected {
    lab: Lab,
    _server: Server,
}

impl Protected {
    fn new(fleet: &Fleet, number: u8) -> Result<Self> {
        let lab = Lab::new(LabOptions::default())?;
        fleet.admit(&lab.edge, number, Role::Host)?;
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        Ok(Self { lab, _server })
    }

    fn agent(&self) -> Result<Agent<'_>> {
        let config = "[fleet]\nlisten = true\ngroup = \"root\"\n";
        Agent::start_with(&self.lab.edge, Mode::Enforce, config, &[])
    }

    fn flood(&self, rate: u32) -> Result<RunningFlood> {
        let flood = Flood { rate, ..Flood::random(Family::V4.service(), LONGEST_FLOOD) };
        flood.start(&self.lab)
    }
}

/// Plays all scenes.
fn play() -> Result<Claims> {
    agent::binary()?;
    process::binary()?;
    let (begun, mut claims) = (Instant::now(), Claims::default());

    scene("The stage");
    println!(
        "Three hosts with a TCP server at port {PORT} and backlog 128; a message bus (NATS) with TLS; two \
         routers (BIRD), with a controller each, by GoBGP and by ExaBGP; a collector. Each is a network \
         namespace of its own; nothing leaves this machine."
    );
    let fleet = Fleet::new()?;
    let hosts = HOSTS.map(|number| Protected::new(&fleet, number));
    let hosts = hosts.into_iter().collect::<Result<Vec<_>>>()?;
    let agents = hosts.iter().map(Protected::agent).collect::<Result<Vec<_>>>()?;
    let place = fleet.machine(COLLECTOR, Role::Collector)?;
    let collector = Process::start(&place, Part::Collector, &fleet.config(COLLECTOR, ""))?;
    let sites = CONTROLLERS.map(|(number, _)| fleet.machine(number, Role::Controller));
    let sites = sites.into_iter().collect::<Result<Vec<_>>>()?;
    let mut routers = Vec::new();
    let mut controllers = Vec::new();
    for ((number, speaker), site) in CONTROLLERS.iter().zip(&sites) {
        let router = Router::start(site, *number, PREFIXES)?;
        controllers.push(controller(&fleet, site, *number, &router, speaker)?);
        routers.push(router);
    }
    let operator = Operator::new(7);
    let mut edges = Vec::new();
    for (number, host) in HOSTS.iter().zip(&hosts) {
        // All hosts have the same address here, and one of them is the routers'.
        let relief = match *number == HOSTS[0] {
            true => {
                format!("[edge]\nrelief = true\npps = {PRESSURE}\nport_rate_bytes_per_s = 50000\n")
            }
            false => String::new(),
        };
        let config = fleet.config(*number, &format!("{}{relief}", operator.role()));
        edges.push(Process::start(&host.lab.edge, Part::Edge, &config)?);
    }
    for edge in &edges {
        edge.wait_until("bus and agent", 10 * SECOND, |state| {
            state["bus"]["connected"] == true && state["edge"]["agent"] == true
        })?;
    }
    let all =
        collector.wait_until("all hosts", 20 * SECOND, |state| state["summary"]["hosts"] == 3);
    claims.check(all.is_ok(), "the collector knows all three hosts");
    let sessions = routers.iter().all(|router| router.wait_for_session(20 * SECOND).is_ok());
    claims.check(sessions, "both routers have a BGP session, and no route");
    show_fleet(&place)?;

    scene("The first host is attacked: 20,000 SYN/s from random addresses");
    let clients = hosts
        .iter()
        .map(|host| Load::start(&host.lab.client, Family::V4.service(), CLIENTS_PER_SECOND))
        .collect::<Result<Vec<_>>>()?;
    sleep(4 * SECOND);
    let flood = hosts[0].flood(RATE)?;
    let own = agents[0].wait_for_rule(10 * SECOND)?;
    let ruled = own.rules().iter().map(|rule| rule.created()).min().context("a rule")?;
    let took = between(flood.started(), ruled);
    claims.check(took <= 2 * SECOND, &format!("the first host drops the flood after {took:.1?}"));
    for (number, agent) in agents.iter().enumerate().skip(1) {
        let armed = agent.wait_until("cookies ahead of a flood", 10 * SECOND, is_armed)?;
        let took = between(ruled, boot_ns());
        claims.check(
            took <= 3 * SECOND,
            &format!("host {} is ready {took:.1?} after that, before its turn", number + 1),
        );
        claims.check(armed.incidents().is_empty(), "a hint is no incident there");
        claims.check(armed.rules().is_empty(), "a hint drops nothing there");
    }

    scene("The first host asks its routers: more than 15,000 packets a second arrive");
    for (router, (_, speaker)) in routers.iter().zip(CONTROLLERS) {
        let received = router.wait_for_routes(1, 20 * SECOND).is_ok();
        claims.check(received, &format!("the router of {speaker} has received a route"));
        for rule in router.rules(Family::V4)? {
            println!("  {rule}");
            claims.check(
                rule.contains("dst 10.77.0.1/32;") && rule.contains("dport 443;"),
                "it is for one port of one address",
            );
        }
    }
    println!("  BIRD filters no packets: the attacker now sends as few as the rule lets pass.");
    let first = flood.stop()?;
    let trickle = hosts[0].flood(TRICKLE)?;
    let held = edges[0].wait_until("relief with effect", 20 * SECOND, |state| {
        state["edge"]["relief"]["phase"] == "held"
    });
    claims.check(held.is_ok(), "the host sees that its load has fallen, and keeps the route");

    scene("The second host's turn");
    let second = hosts[1].flood(RATE)?;
    sleep(6 * SECOND);
    let status = agents[1].status()?;
    claims.check(status.state() == "attack_mitigated", "its flood is mitigated");
    let report = second.stop()?;
    let attempts = clients[1].so_far().begun(report.started, report.ended);
    println!("  clients of the second host: {}", attempts.summary());
    claims.check(
        attempts.share_within(SECOND) >= 0.99,
        "99 % of its clients get their answer within a second, from the first SYN of the flood on",
    );
    let attempts = clients[0].so_far().begun(after(ruled, 2 * SECOND), first.ended);
    claims.check(attempts.share_within(SECOND) >= 0.99, "so do those of the first host");
    let state = collector.status()?;
    let incidents = state["incidents"].as_array().map_or(0, Vec::len);
    let members = state["incidents"][0]["members"].as_array().map_or(0, Vec::len);
    claims.check(
        incidents == 1 && members == 2,
        &format!("for the fleet it is one incident of two hosts ({incidents}, {members})"),
    );
    show_fleet(&place)?;

    scene("An operator blocks a prefix at all hosts");
    let desk = fleet.machine(OPERATOR, Role::Operator)?;
    write_secret(&desk, "/run/ops.key", &operator.key_file())?;
    let section = "[operator]\nrole = \"ops\"\nkey = \"/run/ops.key\"\n";
    desk.write(process::CONFIG, &fleet.config(OPERATOR, section))?;
    let block = ["block", "203.0.113.0/24", "--for", "10m", "--reason", "abuse report 4711"];
    operate(&desk, &block)?;
    let reached = hosts.iter().filter(|host| has_rule(&host.lab.edge)).count();
    claims.check(reached == 3, &format!("{reached} of 3 hosts have the rule, by its name"));

    scene("The controller with GoBGP is killed (kill -9)");
    controllers[0].kill();
    let killed = Instant::now();
    let gone = routers[0].wait_for_routes(0, 10 * SECOND).is_ok();
    let took = killed.elapsed();
    claims.check(
        gone && took <= SECOND,
        &format!("its router has lost the route after {took:.2?}: the speaker died with it"),
    );
    claims.check(routers[1].routes()? == 1, "the other router keeps its own");
    controllers[0].start_again()?;
    let again = routers[0].wait_for_routes(1, 20 * SECOND).is_ok();
    claims.check(again, "the controller is back, and the route too");

    scene("The first host's process ends: nothing asks for the routes any longer");
    edges[0].kill();
    let ended = Instant::now();
    let lost = routers.iter().all(|router| router.wait_for_routes(0, 45 * SECOND).is_ok());
    let took = ended.elapsed();
    claims.check(
        lost,
        &format!("both routers have lost the route after {:.0} s", took.as_secs_f64()),
    );
    let status = agents[0].status()?;
    claims.check(
        status.document()["fleet"]["connected"] == false && status.heartbeat_age() <= SECOND,
        "the agent goes on without its fleet process",
    );
    trickle.stop()?;
    for load in clients {
        load.finish()?;
    }
    let took = begun.elapsed();
    claims.check(took <= LIMIT, &format!("all of this took {:.0} s", took.as_secs_f64()));
    Ok(claims)
}

/// A controller with this speaker, for the first host.
fn controller<'a>(
    fleet: &Fleet,
    site: &'a Netns,
    number: u8,
    router: &Router,
    speaker: &str,
) -> Result<Process<'a>> {
    let (relief, host) = (router.relief(speaker), documents::name(HOSTS[0]));
    let Prefixes { v4, v6 } = PREFIXES;
    let more =
        format!("{relief}[[relief_host]]\nhost = \"{host}\"\nprefixes = [\"{v4}\", \"{v6}\"]\n");
    Process::start(site, Part::Controller, &fleet.config(number, &more))
}

/// Returns whether an agent has a hint, and sends cookies because of it.
fn is_armed(status: &Status) -> bool {
    let fleet: &Value = &status.document()["fleet"];
    fleet["hints"].as_u64() >= Some(1) && status.mitigation("cookies") == Some("active")
}

/// Returns whether the agent of a host has a rule of the fleet soon.
fn has_rule(host: &Netns) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < 5 * SECOND {
        let listed = agent::cli(host, &["rules", "list", "--origin", "fleet"]);
        if listed.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("fleet:ops/")) {
            return true;
        }
        sleep(SECOND / 5);
    }
    false
}

/// Types a command of the operator.
fn operate(desk: &Netns, arguments: &[&str]) -> Result<()> {
    println!("\n$ tcpguard fleet {}", arguments.join(" "));
    let output = process::cli(desk, arguments)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("  {line}");
    }
    println!();
    Ok(())
}

fn show_fleet(place: &Netns) -> Result<()> {
    operate(place, &["status"])
}
