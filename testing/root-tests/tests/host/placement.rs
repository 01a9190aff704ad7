//! Agents on the wrong interface, on two interfaces of one stack, on others than before, and on one whose driver
//! refuses. Needs root and `TCPGUARD_BIN`.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::pins::pins;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::net::foreign::{ForeignXdp, Verdict};
use tcpguard_kit::net::lab::PORT;
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// The agent checks its interfaces at least once a second.
const LOOKED: Duration = Duration::from_secs(3);

fn finding(status: &Status, code: &str) -> Option<String> {
    status.health().into_iter().find(|(of, _)| of == code).map(|(_, text)| text)
}

/// Clients of eth1 connect, and the agent is on eth0.
#[test]
fn an_agent_on_the_wrong_interface_says_so_and_is_critical() {
    let host = Netns::new("edge").unwrap();
    let client = Netns::new("client").unwrap();
    host.ip(&[
        "link add eth0 type veth peer name wire0",
        "link set eth0 up",
        "link set wire0 up",
        &format!("link add eth1 type veth peer name eth0 netns {}", client.path()),
        "link set eth1 up",
        "address add 10.9.1.1/24 dev eth1",
    ])
    .unwrap();
    client.ip(&["link set eth0 up", "address add 10.9.1.2/24 dev eth0"]).unwrap();
    let _server = Server::start(&host, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&host, Mode::Observe).unwrap();
    // Its first polls: what came before them is not its to judge.
    sleep(Duration::from_secs(1));
    let connect = |times: usize| {
        let service = SocketAddr::from(([10, 9, 1, 1], PORT));
        client
            .run(|| (0..times).try_for_each(|_| Ok(TcpStream::connect(service).map(drop)?)))
            .unwrap();
    };
    connect(10);
    sleep(Duration::from_secs(1));
    assert_eq!(finding(&agent.status().unwrap(), "ingress_unseen"), None, "too few to tell");
    connect(40);
    let unseen = |status: &Status| finding(status, "ingress_unseen").is_some();
    agent.wait_until("the finding", LOOKED, unseen).unwrap();
    let text = finding(&agent.status().unwrap(), "ingress_unseen").unwrap();
    assert!(text.contains("eth0: no SYN seen") && text.contains("by eth1"), "{text}");
    let check = cli(&host, &["check"]).unwrap();
    let line = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.code() == Some(2) && line.contains("no SYN seen"), "{line}");
}

/// Either order, and an interface that appears later.
#[test]
fn two_interfaces_of_one_stack_are_not_both_attached() {
    let host = Netns::new("edge").unwrap();
    host.ip(&["link add eth0 type veth peer name wire0", "link set eth0 up", "link set wire0 up"])
        .unwrap();
    let agent = Agent::start_with(&host, Mode::Observe, "", &["-i", "br0"]).unwrap();
    // It gets its name when it has its port.
    host.ip(&[
        "link add new type bridge",
        "link set eth0 master new",
        "link set new name br0",
        "link set br0 up",
    ])
    .unwrap();
    let is_refused = |_: &Status| agent.log().contains("br0 and eth0 are of one stack");
    agent.wait_until("the refusal", LOOKED, is_refused).unwrap();
    assert!(finding(&agent.status().unwrap(), "detached").is_some_and(|text| text.contains("br0")));
    drop(agent);
    for [first, second] in [["eth0", "br0"], ["br0", "eth0"]] {
        let started = cli(&host, &["run", "-i", first, "-i", second]).unwrap();
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(!started.status.success() && said.contains("are of one stack"), "{said}");
    }
}

/// The kernel's number says only that something is not possible.
#[test]
fn a_driver_that_refuses_native_mode_is_quoted() {
    let host = Netns::new("edge").unwrap();
    host.ip(&[
        "link add eth0 numrxqueues 1 type veth peer name wire0 numtxqueues 4 numrxqueues 4",
        "link set eth0 up",
        "link set wire0 up",
    ])
    .unwrap();
    host.exec("ethtool -L wire0 rx 4 tx 4").unwrap();
    let _asked = ForeignXdp::attach(&host, "wire0", Verdict::Pass).unwrap();
    let agent = Agent::start(&host, Mode::Observe).unwrap();
    let text = finding(&agent.status().unwrap(), "xdp_generic").unwrap();
    assert!(text.contains("rx queues not less than peer tx queues"), "{text}");
}

/// Interfaces of `host` with an XDP program, as the kernel lists them.
fn with_program(host: &Netns) -> Vec<String> {
    let all = host.exec("ip -o link show").unwrap();
    let lines = all.lines().filter(|line| line.contains(" xdp"));
    let name = |line: &str| line.split([':', '@']).nth(1).unwrap().trim().to_owned();
    let mut names: Vec<String> = lines.map(name).collect();
    names.sort();
    names
}

/// Interfaces of `host` with a pinned link.
fn pinned(host: &Netns) -> Vec<String> {
    let mut names: Vec<String> = pins(host)
        .unwrap()
        .iter()
        .filter(|pin| pin.contains("/links/") || pin.contains("/egress/"))
        .map(|pin| pin.rsplit_once('-').unwrap().1.replace(':', "."))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// After each restart, the programs run on the configured interfaces alone: below, above and beside the earlier ones.
#[test]
fn interfaces_that_are_no_longer_configured_are_detached_at_the_next_start() {
    let host = Netns::new("edge").unwrap();
    host.ip(&[
        "link add eth0 type veth peer name wire0",
        "link add eth1 type veth peer name wire1",
        "link add br0 type bridge",
        "link set eth0 master br0",
        "link set eth0 up",
        "link set eth1 up",
        "link set br0 up",
    ])
    .unwrap();
    let mut agent = Agent::start(&host, Mode::Enforce).unwrap();
    let steps: [&[&str]; 5] = [&["br0"], &["eth0"], &["br0"], &["eth1", "eth0"], &["eth0"]];
    let mut earlier = vec!["eth0".to_owned()];
    for names in steps {
        agent.stop().unwrap();
        assert_eq!(with_program(&host), earlier, "they outlive the agent");
        agent.start_again_on(Mode::Enforce, names).unwrap();
        let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        wanted.sort();
        assert_eq!(with_program(&host), wanted, "{}", agent.log());
        assert_eq!(pinned(&host), wanted);
        assert_eq!(agent.status().unwrap().state(), "protecting");
        earlier = wanted;
    }
    assert!(agent.log().contains("programs of another configuration detached from eth1"));
}

/// The program of the interface that stays is replaced within its link, which is never off.
#[test]
fn an_interface_that_stays_configured_keeps_its_link_and_a_missing_one_its_pin() {
    let host = Netns::new("edge").unwrap();
    let far = Netns::new("far").unwrap();
    host.ip(&[
        "link add eth0 type veth peer name wire0",
        "link add eth1 type veth peer name wire1",
        "link add eth2 type veth peer name wire2",
        "link set eth0 up",
        "link set eth1 up",
        "link set eth2 up",
    ])
    .unwrap();
    let mut agent =
        Agent::start_with(&host, Mode::Enforce, "", &["-i", "eth1", "-i", "eth2"]).unwrap();
    let link = |agent: &Agent<'_>| {
        let status = agent.status().unwrap();
        status.document()["interfaces"][0]["link_id"].as_u64().expect("attached")
    };
    let before = link(&agent);
    agent.stop().unwrap();
    // A later agent finds the first one by its pin.
    host.ip(&["link set eth0 down", "link set eth0 name lan0", "link set lan0 up"]).unwrap();
    host.ip(&[&format!("link set eth1 netns {}", far.path())]).unwrap();
    agent.start_again_on(Mode::Enforce, &["eth0", "eth1"]).unwrap();
    assert_eq!(link(&agent), before, "{}", agent.log());
    assert_eq!(with_program(&host), ["lan0"]);
    assert_eq!(pinned(&host), ["eth0", "eth1"], "one of them is waited for");
}
