//! State in the kernel that an agent of another version left: its links are taken over, a second agent finds
//! it and refuses to start, and `detach` removes it. Needs root and `TCPGUARD_BIN`.

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use tcpguard_kit::daemon::agent::{self, Agent, Mode, cli};
use tcpguard_kit::daemon::pins::{PIN_DIR, pins, pretend_layout};
use tcpguard_kit::net::lab::{INTERFACE, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;

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
    assert!(!pins(&lab.edge).unwrap().iter().any(|pin| pin.contains("spare")));
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
