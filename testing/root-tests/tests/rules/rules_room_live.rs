//! Capacity for more rules than by default. A list that an agent with the default capacity refuses is
//! imported, drops, and outlives a restart with another capacity. Needs root and `TCPGUARD_BIN`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_common::abi::maps;
use tcpguard_kit::daemon::agent::{Agent, CONFIG, Mode, cli};
use tcpguard_kit::daemon::pins::pins;
use tcpguard_kit::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions};
use tcpguard_kit::net::packet::{Segment, flags};
use tcpguard_kit::net::raw::PacketSocket;

const FILE: &str = "/run/list.rules";
const RULES: u32 = 20_000;
/// Port at which nothing listens: there is no flood, and so no rule but those imported.
const CLOSED: u16 = 9;
/// Number of frames sent at once. So few are never lost on the way.
const HANDFUL: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);
/// Number of rules that get a SYN each: so many spread over the list, and so many from its beginning.
const ASKED: u32 = 1500;
const LIMIT: Duration = Duration::from_secs(60);

/// Prefix of rule `n`: mostly one address, else an IPv6 /64, a longer prefix beneath one, or an IPv4 /28.
fn prefix(n: u32) -> String {
    match n % 10 {
        0 => format!("{}/64", v6(n, 0)),
        1 => format!("{}/127", v6(n - 1, 0x18)),
        2 => format!("{}/28", v4(n, 0)),
        _ => v4(n, 5).to_string(),
    }
}

/// Returns an address that rule `n` matches.
fn member(n: u32) -> IpAddr {
    match n % 10 {
        0 => v6(n, 7).into(),
        1 => v6(n - 1, 0x19).into(),
        _ => v4(n, 5).into(),
    }
}

/// Returns an address beside it, which no rule matches.
fn new_client(n: u32) -> IpAddr {
    match n % 10 {
        0 | 1 => v6(n, 1 << 64).into(),
        2 => v4(n - 1, 0).into(),
        _ => v4(n, 4).into(),
    }
}

fn v4(n: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x6440_0000 + n * 16 + host)
}

fn v6(n: u32, rest: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n) << 65 | rest)
}

fn configuration(rules: u32) -> String {
    format!("[policy]\nrules = {rules}\n")
}

fn stage() -> Lab {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let line =
        |n| format!("{{\"prefix\":\"{}\",\"for_s\":3600,\"reason\":\"a list\"}}\n", prefix(n));
    lab.edge.write(FILE, &(0..RULES).map(line).collect::<String>()).unwrap();
    lab
}

/// Returns whether the list is imported, and the output.
fn import(lab: &Lab) -> (bool, String) {
    let begun = Instant::now();
    let output = cli(&lab.edge, &["rules", "import", "--replace", FILE]).unwrap();
    println!("imported, or refused, in {:.2?}", begun.elapsed());
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Returns the number of SYNs from these sources that a rule on sources drops.
fn dropped(lab: &Lab, agent: &Agent<'_>, sources: impl Iterator<Item = IpAddr>) -> u64 {
    let frame = |source: IpAddr| {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let to = SocketAddr::new(family.edge(), CLOSED);
        let mut syn = Segment::new(SocketAddr::new(source, 40_000), to, flags::SYN);
        (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
        syn.to_frame()
    };
    let frames: Vec<Vec<u8>> = sources.map(frame).collect();
    let before = agent.status().unwrap().reason("drop_source");
    let send = || {
        let socket = PacketSocket::send_only(INTERFACE)?;
        for mut handful in frames.chunks(HANDFUL) {
            while !handful.is_empty() {
                handful = &handful[socket.send_batch(handful)?..];
            }
            sleep(PAUSE);
        }
        Ok(())
    };
    lab.attacker.run(send).unwrap();
    // The status shows the counts of the last poll.
    sleep(Duration::from_secs(1));
    agent.status().unwrap().reason("drop_source") - before
}

/// Returns the capacity for rules and the number of slots in use, as the status shows them.
fn room(agent: &Agent<'_>) -> (u64, u64) {
    let status = agent.status().unwrap();
    let maps = status.document()["maps"].as_array().unwrap();
    let rules = maps.iter().find(|map| map["name"] == "RULES").unwrap();
    (rules["max_entries"].as_u64().unwrap(), rules["entries"].as_u64().unwrap())
}

/// The agent has looked at all of its rules and found them in the kernel, and nothing else.
fn all_are_there(agent: &Agent<'_>, rules: u32) {
    let there = |status: &tcpguard_kit::daemon::status::Status| {
        status.rules_in_kernel() == Some(rules.into())
    };
    let status = agent.wait_until("its rules in the kernel", LIMIT, there).unwrap();
    assert_eq!(status.alerts("drift_repaired"), 0, "{}", agent.log());
}

/// Directories of layouts in which maps are pinned.
fn layouts(lab: &Lab) -> Vec<String> {
    let pins = pins(&lab.edge).unwrap();
    let mut layouts: Vec<String> = pins
        .iter()
        .filter(|pin| pin.contains("/maps/"))
        .map(|pin| pin.split('-').next().unwrap().to_owned())
        .collect();
    layouts.dedup();
    layouts
}

#[test]
fn rules_beyond_the_default_capacity_drop_and_outlive_a_restart_with_another() {
    let lab = stage();
    let mut agent =
        Agent::start_with(&lab.edge, Mode::Enforce, &configuration(40_000), &[]).unwrap();
    let own = layouts(&lab);
    let (imported, said) = import(&lab);
    assert!(imported, "{said}");
    assert_eq!(room(&agent), (40_000, RULES.into()));
    all_are_there(&agent, RULES);
    let some = || (0..RULES).step_by((RULES / ASKED) as usize).chain(0..ASKED);
    assert_eq!(dropped(&lab, &agent, some().map(member)), some().count() as u64);
    assert_eq!(dropped(&lab, &agent, some().map(new_client)), 0);

    lab.edge.write(CONFIG, &configuration(50_000)).unwrap();
    let reloaded = cli(&lab.edge, &["reload"]).unwrap();
    let said = String::from_utf8(reloaded.stderr).unwrap();
    assert!(said.contains("restart") && said.contains("policy.rules"), "{said}");
    assert_eq!(room(&agent), (40_000, RULES.into()));

    agent.stop().unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    assert_eq!(room(&agent), (50_000, RULES.into()));
    assert_ne!(layouts(&lab), own, "maps of its own, and only those");
    assert_eq!(layouts(&lab).len(), 1);
    all_are_there(&agent, RULES);
    assert_eq!(dropped(&lab, &agent, some().map(member)), some().count() as u64);

    // With less room than there are rules the first are kept, and it is said.
    agent.stop().unwrap();
    lab.edge.write(CONFIG, "").unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    assert_eq!(room(&agent), (maps::RULES.into(), maps::RULES.into()));
    let log = agent.log();
    assert!(log.contains("rules not restored") && log.contains("policy.rules"), "{log}");
    all_are_there(&agent, maps::RULES);
}

/// The naive variant of the other test: the default capacity.
#[test]
fn the_default_capacity_refuses_more_and_says_what_would_help() {
    let lab = stage();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let (imported, said) = import(&lab);
    assert!(!imported && said.contains("policy.rules"), "{said}");
    assert_eq!(room(&agent), (maps::RULES.into(), 0));
    assert_eq!(dropped(&lab, &agent, (0..100).map(member)), 0);
}
