//! Relief upstream: a router receives routes from GoBGP and from ExaBGP, and loses them when their time has come,
//! whatever ends it.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_fleet::document::ReliefRoute;
use tcpguard_fleet_kit::client::Client;
use tcpguard_fleet_kit::documents::{self, PORT, Peer, blackhole, flowspec, link};
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::process::{Part, Process};
use tcpguard_fleet_kit::router::{Prefixes, Router};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::stand_in::StandIn;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::net::netns::Netns;

use crate::support::{SECOND, SOON, attack, connected, publish};

/// Numbers of the machines.
const HOST: u8 = 2;
const OTHER: u8 = 3;
const CONTROLLER: u8 = 7;
/// The speakers under test.
const SPEAKERS: [&str; 2] = ["gobgp", "exabgp"];
/// Prefixes of the hosts, for the router and for the controller.
const PREFIXES: Prefixes = Prefixes { v4: "192.0.2.0/24", v6: "2001:db8::/32" };
/// Longest time from the end of the controller to that of its routes.
const GONE_WITHIN: Duration = SECOND;
/// Time for the start of a speaker and its session, and for a change of a route a second.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(45);

/// A router, its controller's machine, and a host that asks for routes.
struct Scene {
    fleet: Fleet,
    machine: Netns,
    router: Router,
}

impl Scene {
    fn new() -> Self {
        let fleet = Fleet::new().unwrap();
        let machine = fleet.machine(CONTROLLER, Role::Controller).unwrap();
        let router = Router::start(&machine, 1, PREFIXES).unwrap();
        Self { fleet, machine, router }
    }

    /// The controller with this speaker. `more` are keys of `[relief]`.
    fn controller(&self, speaker: &str, more: &str) -> Process<'_> {
        let (v4, v6) = (PREFIXES.v4, PREFIXES.v6);
        let hosts: String = [HOST, OTHER]
            .map(|number| {
                let host = documents::name(number);
                format!("[[relief_host]]\nhost = \"{host}\"\nprefixes = [\"{v4}\", \"{v6}\"]\n")
            })
            .concat();
        let relief = self.router.relief(speaker);
        let config = self.fleet.config(CONTROLLER, &format!("{relief}{more}{hosts}"));
        let controller = Process::start(&self.machine, Part::Controller, &config).unwrap();
        controller.wait_until("the bus", SOON, |state| state["bus"]["connected"] == true).unwrap();
        controller
    }
}

/// A host that asks for routes for as long as it is asked to.
struct Asking {
    _machine: Netns,
    client: Client,
    peer: Peer,
}

impl Asking {
    fn new(fleet: &Fleet, number: u8) -> Self {
        let (_machine, client, peer) = fleet.peer(number).unwrap();
        Self { _machine, client, peer }
    }

    fn ask(&mut self, wanted: &[ReliefRoute]) {
        for sent in self.peer.relief(wanted).unwrap() {
            publish(&mut self.client, &sent);
        }
    }

    /// Repeats the request until `look` is true.
    fn ask_until(&mut self, wanted: &[ReliefRoute], limit: Duration, look: impl Fn() -> bool) {
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        while !look() {
            assert!(begun.elapsed() < limit, "not within {limit:?}");
            if asked.is_none_or(|at| at.elapsed() >= 5 * SECOND) {
                self.ask(wanted);
                asked = Some(Instant::now());
            }
            sleep(SECOND / 5);
        }
    }
}

/// One route of each kind in each family.
fn one_of_each() -> Vec<ReliefRoute> {
    vec![
        flowspec("192.0.2.10/32", 40).unwrap(),
        rule("2001:db8::10/128", 22, Some(60)),
        blackhole("192.0.2.11/32").unwrap(),
        blackhole("2001:db8::11/128").unwrap(),
    ]
}

fn rule(destination: &str, port: u16, length: Option<u16>) -> ReliefRoute {
    ReliefRoute::Flowspec {
        destination: destination.parse().unwrap(),
        port,
        length: length.map(|length| [length, length]),
        rate_bytes_per_s: Some(12_500),
    }
}

fn has_routes(router: &Router, routes: usize) -> bool {
    router.routes().unwrap() == routes
}

#[track_caller]
fn shows_one_of_each(router: &Router) {
    let [rules4, rules6] = Family::BOTH.map(|family| router.rules(family).unwrap());
    for part in ["dst 192.0.2.10/32;", "proto 6;", "dport 443;", "length 40;", "tcp flags 0x2/0x2"]
    {
        assert!(rules4[0].contains(part), "{part}: {rules4:?}");
    }
    for part in ["dst 2001:db8::10/128;", "dport 22;", "length 60;"] {
        assert!(rules6[0].contains(part), "{part}: {rules6:?}");
    }
    let rate = format!("0x{:x}", 12_500_f32.to_bits());
    for family in Family::BOTH {
        let shown = router.rules_in_full(family).unwrap();
        assert!(shown.contains(&rate), "the rate is {rate}: {shown}");
    }
    let blackholes: Vec<IpAddr> =
        Family::BOTH.iter().flat_map(|family| router.blackholes(*family).unwrap()).collect();
    let expected: [IpAddr; 2] = ["192.0.2.11", "2001:db8::11"].map(|it| it.parse().unwrap());
    assert_eq!(blackholes, expected);
}

/// The whole life of a speaker's routes.
fn routes_come_and_go(speaker: &str) {
    let scene = Scene::new();
    let router = &scene.router;
    let mut host = Asking::new(&scene.fleet, HOST);
    let mut controller = scene.controller(speaker, "");
    let wanted = one_of_each();
    host.ask_until(&wanted, ANNOUNCED_WITHIN, || has_routes(router, 4));
    shows_one_of_each(router);
    controller
        .wait_until("its own state", SOON, |state| state["controller"]["table"] == 4)
        .unwrap();

    println!("  {speaker}: released");
    host.ask(&[]);
    router.wait_for_routes(0, ANNOUNCED_WITHIN).unwrap();
    assert!(router.is_established().unwrap(), "the session outlives its routes");

    println!("  {speaker}: killed");
    host.ask_until(&wanted, ANNOUNCED_WITHIN, || has_routes(router, 4));
    controller.kill();
    let killed = Instant::now();
    router.wait_for_routes(0, 20 * SECOND).unwrap();
    let gone = killed.elapsed();
    println!("  {speaker}: routes gone {gone:.2?} after the kill");
    assert!(gone <= GONE_WITHIN, "{gone:?}");

    println!("  {speaker}: started again");
    controller.start_again().unwrap();
    host.ask_until(&wanted, ANNOUNCED_WITHIN, || has_routes(router, 4));
}

#[test]
fn routes_of_gobgp_come_and_go_with_what_is_asked() {
    routes_come_and_go("gobgp");
}

#[test]
fn routes_of_exabgp_come_and_go_with_what_is_asked() {
    routes_come_and_go("exabgp");
}

/// The speaker of PyPI on this machine, as keys of `[relief]`. Debian's is the default.
fn exabgp_5(machine: &Netns) -> String {
    let modules =
        std::env::var("TCPGUARD_EXABGP").expect("`cargo xtask test` sets TCPGUARD_EXABGP");
    let (program, run) = ("/run/exabgp", format!("PYTHONPATH={modules} exec {modules}/bin/exabgp"));
    machine.write(program, &format!("#!/bin/sh\n{run} \"$@\"\n")).unwrap();
    machine.exec(&format!("chmod 755 {program}")).unwrap();
    assert!(machine.exec(&format!("{program} version")).unwrap().contains("ExaBGP : 5."));
    format!("program = \"{program}\"\n")
}

/// A route of BIRD's list, and the time since which it is there, in ms of the day. BIRD computes the time from two
/// clocks, so that one reply may differ from the next by a millisecond.
fn route_and_time(line: &str) -> (String, i64) {
    let (route, rest) = line.split_once("[speaker ").expect("a route of the speaker");
    let time = rest.split(' ').next().unwrap_or_default();
    let units = [3_600_000, 60_000, 1_000, 1];
    let parts = time.split([':', '.']).map(|part| part.parse::<i64>().expect("a time"));
    (route.to_owned(), parts.zip(units).map(|(part, unit)| part * unit).sum())
}

fn have_stayed(before: &[(String, i64)], after: &[(String, i64)]) -> bool {
    let same = |((route, since), (other, since_then)): (&(String, i64), &(String, i64))| {
        route == other && (since - since_then).abs() < 100
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

/// ExaBGP 5 replies `=https` where 4.2 replies `=443`.
#[test]
fn routes_of_exabgp_5_are_announced_kept_and_withdrawn() {
    let mut scene = Scene::new();
    let mut host = Asking::new(&scene.fleet, HOST);
    let mut wanted = one_of_each();
    wanted.push(rule("192.0.2.10/32", 80, Some(40)));
    {
        let router = &scene.router;
        let controller = scene.controller("exabgp", &exabgp_5(&scene.machine));
        host.ask_until(&wanted, ANNOUNCED_WITHIN, || has_routes(router, 5));
        shows_one_of_each(router);

        let shown = || -> Vec<(String, i64)> {
            let rules = Family::BOTH.map(|family| router.rules_in_full(family).unwrap()).concat();
            rules.lines().filter(|line| line.contains("dport")).map(route_and_time).collect()
        };
        let announced = shown();
        for _ in 0..3 {
            sleep(4 * SECOND);
            host.ask(&wanted);
        }
        assert!(have_stayed(&announced, &shown()), "a route came and went: {announced:?}");
        let answers = answers(&controller.status().unwrap(), HOST);
        assert!(answers.iter().all(|(state, _)| state == "announced"), "{answers:?}");

        // The first of them is for port 443.
        host.ask_until(&wanted[1..], ANNOUNCED_WITHIN, || has_routes(router, 4));
        let mut left = announced;
        left.retain(|(route, _)| !route.contains("dport 443;"));
        assert!(have_stayed(&left, &shown()), "the withdrawal of a route leaves the others");
        host.ask_until(&[], ANNOUNCED_WITHIN, || has_routes(router, 0));
        assert!(router.is_established().unwrap());
    }

    // GoBGP as the router shows the same routes.
    scene.router.become_gobgp().unwrap();
    let shown = shown_by(&scene, &mut host, &wanted, Router::gobgp_routes, &["*>"]);
    for port in ["10/32][protocol: ==tcp][destination-port: ==443]", "==80]", "==22]"] {
        assert!(shown.contains(port), "{port}: {shown}");
    }
    assert_eq!(shown.matches("[tcp-flags: =S&!A]").count(), 3, "{shown}");
    assert_eq!(shown.matches("Communities: blackhole").count(), 2, "{shown}");

    // So does FRR, which installs no rule.
    scene.router.become_frr().unwrap();
    let heads = ["*>", "flowspec entry:"];
    let shown = shown_by(&scene, &mut host, &wanted, Router::frr_routes, &heads);
    for rule in ["Port = 443", "Port = 80", "Port = 22", "Address 2001:db8::10/128"] {
        assert!(shown.contains(rule), "{rule}: {shown}");
    }
    assert_eq!(shown.matches("FS:rate 12500.000000").count(), 3, "{shown}");
    assert_eq!(shown.matches("not installed in PBR").count(), 3, "{shown}");
}

/// Has ExaBGP 5 announce routes to the router that took BIRD's place, and withdraw them. Returns them as the router showed
/// them. `heads`: words that it shows once for each route.
fn shown_by(
    scene: &Scene,
    host: &mut Asking,
    wanted: &[ReliefRoute],
    routes: fn(&Router) -> anyhow::Result<String>,
    heads: &[&str],
) -> String {
    let _controller = scene.controller("exabgp", &exabgp_5(&scene.machine));
    let routes = || routes(&scene.router).unwrap();
    let count = || -> usize {
        let shown = routes();
        heads.iter().map(|head| shown.matches(head).count()).sum()
    };
    host.ask_until(wanted, ANNOUNCED_WITHIN, || count() == wanted.len());
    let shown = routes();
    host.ask_until(&[], ANNOUNCED_WITHIN, || count() == 0);
    shown
}

/// Without a parent to die with, a speaker keeps its routes: the kill above proves something.
#[test]
fn a_speaker_that_outlives_its_controller_keeps_its_routes() {
    let scene = Scene::new();
    let router = &scene.router;
    let (own, other) = (router.speaker(), router.address());
    let families: String = ["ipv4-unicast", "ipv4-flowspec"]
        .map(|name| {
            format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n")
        })
        .concat();
    let config = format!(
        "[global.config]\nas = 65001\nrouter-id = \"{own}\"\nport = -1\n[[neighbors]]\n\
         [neighbors.config]\nneighbor-address = \"{other}\"\npeer-as = 65000\n{families}"
    );
    scene.machine.write("/run/alone.toml", &config).unwrap();
    let mut speaker = scene.machine.command("gobgpd").unwrap();
    let api = "unix:///run/alone.sock";
    speaker.args(["-f", "/run/alone.toml", "--api-hosts", api, "--pprof-disable"]);
    let mut speaker = speaker.stdout(std::process::Stdio::null()).spawn().unwrap();
    router.wait_for_session(ANNOUNCED_WITHIN).unwrap();
    // The client that announces ends at once.
    let add = "rib -a ipv4-flowspec add match destination 192.0.2.10/32 protocol tcp \
               destination-port ==443 then discard";
    scene.machine.exec(&format!("gobgp --target {api} global {add}")).unwrap();
    router.wait_for_routes(1, SOON).unwrap();
    sleep(3 * SECOND);
    assert!(has_routes(router, 1), "the end of a client withdraws nothing");
    speaker.kill().unwrap();
    speaker.wait().unwrap();
    router.wait_for_routes(0, GONE_WITHIN).unwrap();
}

/// The state and the reason of each route of a host, as the controller reports them.
fn answers(state: &Value, number: u8) -> Vec<(String, String)> {
    let host = documents::name(number);
    let routes = state["controller"]["hosts"][&host].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    routes.iter().map(|route| (text(&route["state"]), text(&route["reason"]))).collect()
}

/// Caps, protected prefixes and the bus hold against a host that asks for everything.
#[test]
fn bounds_hold() {
    let scene = Scene::new();
    let router = &scene.router;
    let more = "protected = [\"192.0.2.1\", \"2001:db8::1\"]\nflowspec = 10\nblackholes = 2\n";
    let controller = scene.controller("gobgp", more);
    let mut host = Asking::new(&scene.fleet, HOST);
    let mut other = Asking::new(&scene.fleet, OTHER);
    let mut wanted: Vec<ReliefRoute> =
        (40..52).map(|length| flowspec("192.0.2.10/32", length).unwrap()).collect();
    wanted.extend((11..14).map(|last| blackhole(&format!("192.0.2.{last}/32")).unwrap()));
    wanted.push(flowspec("192.0.2.1/32", 40).unwrap());
    wanted.push(blackhole("2001:db8::1/128").unwrap());
    wanted.push(flowspec("8.8.8.8/32", 40).unwrap());
    for (port, destination) in [(179, "192.0.2.10/32"), (4222, "192.0.2.10/32")] {
        wanted.push(rule(destination, port, None));
    }
    // Eight rules and two blackholes of one host, and ten rules in all.
    host.ask_until(&wanted, ANNOUNCED_WITHIN, || has_routes(router, 10));
    let of_other: Vec<ReliefRoute> =
        (40..44).map(|length| flowspec("192.0.2.20/32", length).unwrap()).collect();
    host.ask(&wanted);
    other.ask_until(&of_other, ANNOUNCED_WITHIN, || has_routes(router, 12));
    // A second for each change: no further one comes.
    for _ in 0..5 {
        sleep(SECOND);
        host.ask(&wanted);
        other.ask(&of_other);
        assert!(has_routes(router, 12));
    }
    let shown: String =
        Family::BOTH.iter().flat_map(|family| router.rules(*family).unwrap()).collect();
    for address in ["192.0.2.1/32", "8.8.8.8", "dport 179", "dport 4222"] {
        assert!(!shown.contains(address), "{address}: {shown}");
    }
    let state = controller.status().unwrap();
    let reasons: Vec<String> = [HOST, OTHER]
        .iter()
        .flat_map(|number| answers(&state, *number))
        .filter(|(state, _)| state == "refused")
        .map(|(_, reason)| reason)
        .collect();
    for reason in [
        "this host has as many routes as it may",
        "there are as many routes as there may be",
        "192.0.2.1 is protected",
        "2001:db8::1 is protected",
        "8.8.8.8 is not an address of this host",
        "port 179 is that of BGP",
        "port 4222 is that of the message bus",
    ] {
        assert!(reasons.iter().any(|found| found == reason), "{reason}: {reasons:#?}");
    }
}

#[test]
fn a_dry_run_announces_nothing_and_reports_what_it_would() {
    let scene = Scene::new();
    let dry = scene.router.relief("gobgp").replace("dry_run = false", "dry_run = true");
    let host = documents::name(HOST);
    let (v4, v6) = (PREFIXES.v4, PREFIXES.v6);
    let more =
        format!("{dry}[[relief_host]]\nhost = \"{host}\"\nprefixes = [\"{v4}\", \"{v6}\"]\n");
    let config = scene.fleet.config(CONTROLLER, &more);
    let controller = Process::start(&scene.machine, Part::Controller, &config).unwrap();
    let mut host = Asking::new(&scene.fleet, HOST);
    let wanted = one_of_each();
    host.ask_until(&wanted, ANNOUNCED_WITHIN, || {
        let answers = answers(&controller.status().unwrap(), HOST);
        answers.len() == 4 && answers.iter().all(|(state, _)| state == "dry_run")
    });
    assert!(!scene.router.is_established().unwrap(), "there is no session");
    assert!(has_routes(&scene.router, 0));
}

/// A router that hangs loses the session, and has its routes again when it is back.
#[test]
fn routes_are_announced_again_after_the_router_was_gone() {
    for speaker in SPEAKERS {
        let scene = Scene::new();
        let mut host = Asking::new(&scene.fleet, HOST);
        let controller = scene.controller(speaker, "");
        let wanted = one_of_each();
        host.ask_until(&wanted, ANNOUNCED_WITHIN, || has_routes(&scene.router, 4));
        scene.router.pause().unwrap();
        host.ask_until(&wanted, 20 * SECOND, || {
            controller.status().unwrap()["controller"]["established"] == false
        });
        scene.router.resume().unwrap();
        host.ask_until(&wanted, 2 * ANNOUNCED_WITHIN, || {
            scene.router.is_established().unwrap() && has_routes(&scene.router, 4)
        });
    }
}

/// The whole way: a host under pressure asks by itself, the router receives the route, and loses it with the host.
#[test]
fn a_host_under_pressure_gets_its_route() {
    let scene = Scene::new();
    let router = &scene.router;
    let _controller = scene.controller("gobgp", "");
    let machine = scene.fleet.machine(HOST, Role::Host).unwrap();
    // After a restart, a host takes over routes to its own addresses only.
    machine.ip(&["link set lo up", "address add 192.0.2.10/32 dev lo"]).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let config = scene.fleet.config(HOST, "[edge]\nrelief = true\nlink_mbit = 100\n");
    let mut edge = Process::start(&machine, Part::Edge, &config).unwrap();
    connected(&edge);
    attack(&agent, 512);
    sleep(5 * SECOND);
    assert!(has_routes(router, 0), "an attack without pressure asks for nothing");
    // 200,000 frames of 512 bits are more than 90 % of the link.
    agent.report(|report| report.links = vec![link(200_000.0)]);
    router.wait_for_routes(1, ANNOUNCED_WITHIN).unwrap();
    let rules = router.rules(Family::V4).unwrap();
    assert!(rules[0].contains("dst 192.0.2.10/32;"), "{rules:?}");
    assert!(rules[0].contains("length 40;"), "{rules:?}");
    // The router limits the flood: a trickle is left.
    agent.report(|report| report.links = vec![link(1_000.0)]);
    let is_held = |state: &Value| state["edge"]["relief"]["phase"] == "held";
    edge.wait_until("relief with effect", 20 * SECOND, is_held).unwrap();

    // A restart of the host's process keeps the route.
    edge.kill();
    edge.start_again().unwrap();
    edge.wait_until("the route is taken over", 25 * SECOND, is_held).unwrap();
    assert!(has_routes(router, 1));

    edge.kill();
    router.wait_for_routes(0, 45 * SECOND).unwrap();
}
