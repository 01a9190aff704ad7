//! State in the kernel that an agent of another version left: its links are taken over, a second agent finds
//! it and refuses to start, and `detach` removes it. Needs root and `TCPGUARD_BIN`.

use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use tcpguard_kit::daemon::agent::{self, Agent, Mode, cli};
use tcpguard_kit::daemon::pins::{PIN_DIR, pins, pretend_layout};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// Time that the agent waits before it detaches programs for which it has no use.
const HANDOVER_GRACE: Duration = Duration::from_secs(10);

/// Programs that see the interface's outgoing packets.
fn egress_programs(host: &Netns) -> usize {
    let query = || Ok(SchedClassifier::query_tcx(INTERFACE, TcAttachType::Egress)?.1.len());
    host.run(query).unwrap()
}

/// Kernel id of the link at XDP.
fn xdp_link(agent: &Agent<'_>) -> u64 {
    let status = agent.status().unwrap();
    status.document()["interfaces"][0]["link_id"].as_u64().expect("attached")
}

/// The directories of layouts in which something is pinned.
fn layouts_in_use(host: &Netns) -> Vec<String> {
    let mut names: Vec<String> =
        pins(host).unwrap().iter().map(|pin| pin.split('/').next().unwrap().to_owned()).collect();
    names.retain(|name| name.starts_with('v'));
    names.dedup();
    names
}

#[test]
fn links_of_another_layout_are_taken_over_and_nothing_else_of_it_stays() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let (link, own) = (xdp_link(&agent), layouts_in_use(&lab.edge));
    for step in [-1, 1] {
        agent.stop().unwrap();
        pretend_layout(&lab.edge, step).unwrap();
        assert_ne!(layouts_in_use(&lab.edge), own);
        agent.start_again(Mode::Enforce).unwrap();
        assert_eq!(xdp_link(&agent), link, "the same link: it was never off");
        assert_eq!(egress_programs(&lab.edge), 1, "nothing is counted twice");
        assert_eq!(layouts_in_use(&lab.edge), own, "{:?}", pins(&lab.edge).unwrap());
        assert_eq!(agent.status().unwrap().state(), "protecting");
    }
}

/// An interface that the new version is not configured for: its program would run without any use.
#[test]
fn a_program_that_another_layout_left_elsewhere_is_detached() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.edge.ip(&["link add spare type veth peer name spare-peer", "link set spare up"]).unwrap();
    let with_spare = ["-i", "spare"];
    let mut agent = Agent::start_with(&lab.edge, Mode::Enforce, "", &with_spare).unwrap();
    agent.stop().unwrap();
    pretend_layout(&lab.edge, -1).unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    let begun = Instant::now();
    let left = || pins(&lab.edge).unwrap().iter().any(|pin| pin.contains("spare"));
    assert!(left(), "not before cookies that are on their way are back");
    while left() {
        assert!(begun.elapsed() < 2 * HANDOVER_GRACE, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!lab.edge.exec("ip link show dev spare").unwrap().contains("xdp"));
    assert!(
        agent.log().contains("programs of another version detached from spare"),
        "{}",
        agent.log()
    );
}

/// Wherever its sockets are: two versions would fight over the same links.
#[test]
fn an_agent_of_another_layout_keeps_a_second_one_off() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    for step in [-1, 2] {
        pretend_layout(&lab.edge, step).unwrap();
        let said = agent::refused_second(&lab.edge).unwrap();
        assert!(said.contains("another tcpguard agent"), "{said}");
        lab.edge.exec(&format!("find {PIN_DIR} -depth -type d -empty -delete")).unwrap();
    }
    assert_eq!(agent.status().unwrap().state(), "observing");
}

/// A pin that is no longer a link is no reason to leave the others on.
#[test]
fn detach_removes_what_it_can_and_names_the_rest() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    agent.stop().unwrap();
    pretend_layout(&lab.edge, -1).unwrap();
    let layout = format!("{PIN_DIR}/{}", layouts_in_use(&lab.edge)[0]);
    let broken = format!("{layout}/links/1-aaa");
    lab.edge
        .exec(&format!("bpftool map create {broken} type array key 4 value 4 entries 1 name none"))
        .unwrap();
    let output = cli(&lab.edge, &["detach", "--all"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&broken) && said.contains("bpftool link detach pinned"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("detached {INTERFACE}\n"));
    assert!(!lab.edge.exec(&format!("ip link show dev {INTERFACE}")).unwrap().contains("xdp"));
    assert_eq!(egress_programs(&lab.edge), 0);
    lab.edge.exec(&format!("rm {broken}")).unwrap();
    assert!(cli(&lab.edge, &["detach", "--all"]).unwrap().status.success());
    assert_eq!(pins(&lab.edge).unwrap(), [""; 0]);
}

/// A BPF file system refuses names with a dot, and such interfaces have one.
#[test]
fn an_interface_of_a_vlan_is_protected() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.edge.ip(&["link add eth0.5 type veth peer name far", "link set eth0.5 up"]).unwrap();
    let mut agent = Agent::start_with(&lab.edge, Mode::Enforce, "", &["-i", "eth0.5"]).unwrap();
    agent.stop().unwrap();
    let output = cli(&lab.edge, &["detach", "-i", "eth0.5"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "detached eth0.5\n", "{said}");
}

/// A lab with a service for which XDP sends cookies by an operator's order, and its agent.
fn armed(lab: &Lab) -> Agent<'_> {
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    load.finish().unwrap();
    cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "10m"]).unwrap();
    let limit = Duration::from_secs(2);
    agent.wait_until("cookies", limit, |now| now.mitigation("cookies") == Some("active")).unwrap();
    agent
}

/// Pin of the handover record that an agent leaves to the next one.
fn record(host: &Netns) -> String {
    let found = pins(host).unwrap();
    format!("{PIN_DIR}/{}", found.iter().find(|pin| pin.starts_with("handover-")).expect("left"))
}

/// An agent of a version that leaves no record was there in between: the record of the earlier agent is
/// outdated.
#[test]
fn a_record_counts_only_while_the_xdp_program_of_its_writer_is_attached() {
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = armed(&lab);
    let maps = format!("find {PIN_DIR} -path */maps/* -delete");
    agent.stop().unwrap();
    lab.edge.exec(&maps).unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    assert_eq!(agent.status().unwrap().mitigation("cookies"), Some("active"), "its own links hang");

    agent.stop().unwrap();
    pretend_layout(&lab.edge, -1).unwrap();
    assert!(!record(&lab.edge).is_empty());
    agent.start_again(Mode::Enforce).unwrap();
    assert_eq!(agent.status().unwrap().mitigation("cookies"), None, "{}", agent.log());
}

/// The start goes on, and the log names the state that is missing.
#[test]
fn a_record_that_cannot_be_understood_is_named_and_replaced() {
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = armed(&lab);
    agent.stop().unwrap();
    let record = record(&lab.edge);
    lab.edge.exec(&format!("rm {record}")).unwrap();
    let maps = format!("find {PIN_DIR} -path */maps/* -delete");
    lab.edge.exec(&maps).unwrap();
    let kind = "type array key 4 value 64 entries 1 name none";
    lab.edge.exec(&format!("bpftool map create {record} {kind}")).unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    assert_eq!(agent.status().unwrap().mitigation("cookies"), None);
    let why = "handover record unusable: its first line does not say what it is";
    assert!(agent.log().contains(why), "{}", agent.log());
    let size = lab.edge.exec(&format!("bpftool map show pinned {record}")).unwrap();
    assert!(size.contains("handover") && !size.contains("value 64B"), "{size}");
}
