//! Sites with servers of their own behind the hub: what the one learns the other has, and each goes on alone.

use std::time::Duration;

use tcpguard_fleet::document::RuleKind;
use tcpguard_fleet_kit::bus::Bus;
use tcpguard_fleet_kit::documents::{Operator, PORT};
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::process::{Part, Process};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::stand_in::StandIn;
use tcpguard_kit::net::netns::Netns;

use crate::support::{
    LEARNED_WITHIN, REPEATED_WITHIN, SECOND, SOON, attack, connected, is_block, is_hint, store,
};

/// Numbers of the sites' servers and of the operator.
const SITES: [u8; 2] = [11, 12];
const OPERATOR: u8 = 6;
/// Hosts: two at the first site, one at the second.
const HOSTS: [(u8, usize); 3] = [(2, 0), (3, 0), (4, 1)];

#[test]
fn sites_share_by_the_hub_and_go_on_without_it() {
    let mut fleet = Fleet::new().unwrap();
    let sites: Vec<Bus> = SITES
        .iter()
        .map(|number| Bus::site(&fleet.network, *number, &fleet.keys, &fleet.bus).unwrap())
        .collect();
    let mut operator = Operator::new(7);
    let machines: Vec<Netns> =
        HOSTS.iter().map(|(number, _)| fleet.machine(*number, Role::Host).unwrap()).collect();
    let agents: Vec<StandIn> =
        machines.iter().map(|machine| StandIn::start(machine, &[PORT]).unwrap()).collect();
    let edges: Vec<Process<'_>> = HOSTS
        .iter()
        .zip(&machines)
        .map(|((number, site), machine)| {
            let name = format!("site{site}");
            let config = fleet.config_at(&sites[*site], *number, &name, &operator.role());
            Process::start(machine, Part::Edge, &config).unwrap()
        })
        .collect();
    edges.iter().for_each(connected);
    let learns = |agent: usize, window, limit: Duration| {
        agents[agent].wait_for("the hint", limit, |message| is_hint(message, window)).unwrap();
    };
    attack(&agents[0], 512);
    learns(1, 512, LEARNED_WITHIN);
    learns(2, 512, LEARNED_WITHIN);
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    let mut client = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let rule = operator.rule(RuleKind::Block, "203.0.113.0/24").unwrap();
    store(&mut client, &rule).unwrap();
    for agent in &agents {
        agent.wait_for("the rule", LEARNED_WITHIN, |it| is_block(it, rule.serial)).unwrap();
    }

    fleet.bus.kill().unwrap();
    attack(&agents[0], 1024);
    learns(1, 1024, LEARNED_WITHIN);
    let elsewhere = agents[2].messages().iter().any(|(_, message)| is_hint(message, 1024));
    assert!(!elsewhere, "the sites are apart");
    for edge in &edges {
        assert_eq!(edge.status().unwrap()["bus"]["connected"], true, "to the server of its site");
    }

    fleet.bus.start().unwrap();
    learns(2, 1024, 5 * SECOND + REPEATED_WITHIN);
    let mut client = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let next = operator.rule(RuleKind::Block, "198.51.100.0/24").unwrap();
    store(&mut client, &next).unwrap();
    agents[2].wait_for("the next rule", SOON, |message| is_block(message, next.serial)).unwrap();
}
