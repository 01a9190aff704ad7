//! Two hosts: the one learns the other's signature and an operator's rule, and is ready before its turn.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tcpguard_engine::FleetMessage;
use tcpguard_fleet_kit::documents::{self, Operator, PORT};
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::process::{self, Part, Process};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::stand_in::StandIn;
use tcpguard_fleet_kit::write_secret;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::measure::clock::{between, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

use crate::support::{LEARNED_WITHIN, SECOND, SOON, attack, calm, connected, is_hint};

/// Numbers of the machines.
const FIRST: u8 = 2;
const SECOND_HOST: u8 = 3;
const COLLECTOR: u8 = 5;
const OPERATOR: u8 = 6;
/// SYNs per second of the floods.
const RATE: u32 = 5_000;

#[test]
fn an_edge_learns_anothers_signature_within_two_seconds() {
    let fleet = Fleet::new().unwrap();
    let machines = [FIRST, SECOND_HOST].map(|number| fleet.machine(number, Role::Host).unwrap());
    let agents = machines.each_ref().map(|machine| StandIn::start(machine, &[PORT]).unwrap());
    let edge = |place: usize, number| {
        Process::start(&machines[place], Part::Edge, &fleet.config(number, "")).unwrap()
    };
    let edges = [edge(0, FIRST), edge(1, SECOND_HOST)];
    edges.iter().for_each(connected);
    let mut times: Vec<Duration> = (0..5)
        .map(|round| {
            let window = 512 + round;
            let begun = boot_ns();
            attack(&agents[0], window);
            let learned = agents[1].wait_for("the hint", SOON, |it| is_hint(it, window)).unwrap();
            between(begun, learned)
        })
        .collect();
    times.sort();
    println!("  learned after {times:.0?}");
    assert!(times[2] <= LEARNED_WITHIN, "{times:?}");
    // No host hints at its own evidence.
    assert!(agents[0].messages().is_empty(), "{:?}", agents[0].messages());
}

/// The output of a command of an operator, who may.
fn operate(desk: &Netns, arguments: &[&str]) -> Result<String> {
    let output = process::cli(desk, arguments)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_operators_rule_reaches_every_host_that_knows_the_role() {
    let fleet = Fleet::new().unwrap();
    let machines = [FIRST, SECOND_HOST].map(|number| fleet.machine(number, Role::Host).unwrap());
    let agents = machines.each_ref().map(|machine| StandIn::start(machine, &[PORT]).unwrap());
    let operator = Operator::new(7);
    let knows = fleet.config(FIRST, &operator.role());
    let knowing = Process::start(&machines[0], Part::Edge, &knows).unwrap();
    let without = fleet.config(SECOND_HOST, "");
    let ignorant = Process::start(&machines[1], Part::Edge, &without).unwrap();
    [&knowing, &ignorant].into_iter().for_each(connected);
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    write_secret(&desk, "/run/ops.key", &operator.key_file()).unwrap();
    let section = "[operator]\nrole = \"ops\"\nkey = \"/run/ops.key\"\n";
    desk.write(process::CONFIG, &fleet.config(OPERATOR, section)).unwrap();

    let prefix = "203.0.113.0/24";
    let said =
        operate(&desk, &["block", prefix, "--for", "10m", "--reason", "abuse 4711"]).unwrap();
    assert!(said.contains("fleet:ops/"), "{said}");
    let is_rule = |message: &FleetMessage| match message {
        FleetMessage::Rule(rule) => {
            rule.net.to_string() == prefix && rule.reason.contains("abuse 4711")
        }
        _ => false,
    };
    agents[0].wait_for("the rule", LEARNED_WITHIN, is_rule).unwrap();
    let rules = knowing.status().unwrap()["edge"]["rules"].clone();
    assert!(rules[0]["name"].as_str().is_some_and(|name| said.contains(name)), "{rules}");

    operate(&desk, &["unblock", prefix]).unwrap();
    let is_end = |message: &FleetMessage| matches!(message, FleetMessage::RuleGone(_));
    agents[0].wait_for("its end", LEARNED_WITHIN, is_end).unwrap();
    // Each host decides for itself whom it believes.
    assert!(agents[1].messages().is_empty(), "{:?}", agents[1].messages());
    assert_eq!(ignorant.status().unwrap()["edge"]["rules"], Value::Array(Vec::new()));
}

/// The state of the fleet with so many members in its first open incident.
fn with_members(state: &Value, members: usize) -> bool {
    let incident = &state["incidents"][0];
    incident["members"].as_array().map(Vec::len) == Some(members)
}

#[test]
fn one_signature_at_many_hosts_is_one_incident_of_the_fleet() {
    let fleet = Fleet::new().unwrap();
    let machines = [FIRST, SECOND_HOST].map(|number| fleet.machine(number, Role::Host).unwrap());
    let agents = machines.each_ref().map(|machine| StandIn::start(machine, &[PORT]).unwrap());
    let place = fleet.machine(COLLECTOR, Role::Collector).unwrap();
    let collector = Process::start(&place, Part::Collector, &fleet.config(COLLECTOR, "")).unwrap();
    let edge = |place: usize, number| {
        Process::start(&machines[place], Part::Edge, &fleet.config(number, "")).unwrap()
    };
    let edges = [edge(0, FIRST), edge(1, SECOND_HOST)];
    edges.iter().for_each(connected);
    attack(&agents[0], 512);
    collector.wait_until("the incident", SOON, |state| with_members(state, 1)).unwrap();
    let incident = documents::incident(9, "198.51.100.10", 512).unwrap();
    agents[1].report(|report| report.incidents = vec![incident]);
    let state =
        collector.wait_until("both hosts in it", SOON, |state| with_members(state, 2)).unwrap();
    assert_eq!(state["incidents"].as_array().map(Vec::len), Some(1), "{state:#}");
    assert_eq!(state["schema"], "tcpguard.fleet.status/1");
    collector.wait_until("the hosts", 30 * SECOND, |state| state["summary"]["hosts"] == 2).unwrap();
    let page = operate(&place, &["status"]).unwrap();
    assert!(page.contains(&documents::name(FIRST)), "{page}");

    agents.iter().for_each(calm);
    let is_over = |state: &Value| state["incidents"][0]["open"] == 0;
    collector.wait_until("its end at both hosts", SOON, is_over).unwrap();
    let is_past = |state: &Value| {
        state["incidents"].as_array().is_some_and(Vec::is_empty)
            && state["past_incidents"].as_array().map(Vec::len) == Some(1)
    };
    // Another one within a minute would be the same.
    collector.wait_until("its end", 60 * SECOND + SOON, is_past).unwrap();
}

/// A host under test with a real agent, its clients, and its place in the fleet.
struct Protected {
    lab: Lab,
    _server: Server,
}

impl Protected {
    fn new(fleet: &Fleet, number: u8) -> Self {
        let lab = Lab::new(LabOptions::default()).unwrap();
        fleet.admit(&lab.edge, number, Role::Host).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        Self { lab, _server }
    }

    fn agent(&self) -> Agent<'_> {
        let config = "[fleet]\nlisten = true\ngroup = \"root\"\n";
        Agent::start_with(&self.lab.edge, Mode::Enforce, config, &[]).unwrap()
    }
}

fn flood(lab: &Lab, time: Duration) -> tcpguard_kit::traffic::flood::RunningFlood {
    let flood = Flood { rate: RATE, ..Flood::random(Family::V4.service(), time) };
    flood.start(lab).unwrap()
}

/// Real agents: the flood of the first host arms the second. Its own flood then finds cookies, and costs no client.
#[test]
fn a_host_is_ready_before_its_turn() {
    let control = Control::start().unwrap();
    let fleet = Fleet::new().unwrap();
    let first = Protected::new(&fleet, FIRST);
    let second = Protected::new(&fleet, SECOND_HOST);
    let (attacked, next) = (first.agent(), second.agent());
    let mut edges = [
        Process::start(&first.lab.edge, Part::Edge, &fleet.config(FIRST, "")).unwrap(),
        Process::start(&second.lab.edge, Part::Edge, &fleet.config(SECOND_HOST, "")).unwrap(),
    ];
    edges.iter().for_each(connected);
    let clients = Load::start(&second.lab.client, Family::V4.service(), 50).unwrap();
    sleep(3 * SECOND);

    let begun = flood(&first.lab, 20 * SECOND);
    attacked.wait_for_rule(SOON).unwrap();
    let armed = next
        .wait_until("a hint at the second host", SOON, |status| {
            status.document()["fleet"]["hints"].as_u64() >= Some(1)
                && status.mitigation("cookies") == Some("active")
        })
        .unwrap();
    println!("  armed {:.1?} after the first SYN elsewhere", between(begun.started(), boot_ns()));
    assert!(armed.incidents().is_empty(), "a hint is no incident");
    assert!(armed.rules().is_empty(), "a hint drops nothing");
    begun.stop().unwrap();

    let own = flood(&second.lab, 8 * SECOND);
    next.wait_for_rule(SOON).unwrap();
    // Its process dies in the flood, and the agent goes on without it.
    edges.iter_mut().for_each(Process::kill);
    own.nears_its_end();
    let status = next.status().unwrap();
    assert_eq!(status.state(), "attack_mitigated");
    let report = own.stop().unwrap();
    let attempts = clients.finish().unwrap().begun(report.started, report.ended);
    control.assert_served(&attempts);
}
