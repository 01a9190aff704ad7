//! `tcpguard detach` takes both programs off and they stay off, with an agent and without. Needs root
//! and `TCPGUARD_BIN`.

use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::net::lab::{INTERFACE, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;

/// The agent checks its interfaces each second. For this time the programs must stay off.
const STAYS_OFF: Duration = Duration::from_secs(3);

/// The program at the hook for outgoing packets.
const EGRESS: &str = "tcpguard_egress";

/// Attachment of the two programs to the interface, as the kernel shows it.
#[derive(Debug, Eq, PartialEq)]
struct Attached {
    xdp: bool,
    egress: bool,
}

const BOTH: Attached = Attached { xdp: true, egress: true };
const NEITHER: Attached = Attached { xdp: false, egress: false };

fn attached(host: &Netns) -> Attached {
    let link = host.exec(&format!("ip link show dev {INTERFACE}")).unwrap();
    // TCX, or clsact before Linux 6.6.
    let query = || Ok(SchedClassifier::query_tcx(INTERFACE, TcAttachType::Egress));
    let tcx = host.run(query).unwrap().is_ok_and(|(_, programs)| {
        programs.iter().any(|program| program.name_as_str() == Some(EGRESS))
    });
    let clsact = host.exec(&format!("tc filter show dev {INTERFACE} egress")).unwrap();
    Attached { xdp: link.contains("xdp"), egress: tcx || clsact.contains(EGRESS) }
}

#[track_caller]
fn assert_stays_off(host: &Netns) {
    let begun = Instant::now();
    while begun.elapsed() < STAYS_OFF {
        assert_eq!(attached(host), NEITHER, "after {:?}", begun.elapsed());
        sleep(Duration::from_millis(200));
    }
    let pins = host.exec("find /sys/fs/bpf -mindepth 2 ! -type d").unwrap();
    assert_eq!(pins, "", "pins are left");
}

/// Runs `detach` with these arguments, which must succeed, and returns its human-readable output.
#[track_caller]
fn detach(host: &Netns, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        agent::cli(host, &[&["detach"], arguments].concat()).unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&stdout), format!("detached {INTERFACE}\n"));
    said
}

#[test]
fn a_live_agent_lets_go_and_does_not_attach_again() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert_eq!(attached(&lab.edge), BOTH);

    let said = detach(&lab.edge, &["--all"]);
    assert!(said.contains("the agent still runs"), "{said}");
    assert_stays_off(&lab.edge);

    let health = agent.status().unwrap().health();
    let reported = health.iter().any(|(code, text)| {
        code == "detached" && *text == format!("{INTERFACE}: the XDP program is not attached")
    });
    assert!(reported, "{health:?}");
    agent.stop().unwrap();
    assert!(agent.log().contains("XDP program is attached to no interface"), "{}", agent.log());
}

#[test]
fn an_agent_protects_again_after_a_restart() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let first = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    detach(&lab.edge, &["-i", INTERFACE]);
    drop(first);
    let second = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert_eq!(attached(&lab.edge), BOTH);
    assert_eq!(second.status().unwrap().state(), "protecting");
}

#[test]
fn what_a_stopped_agent_left_is_detached() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    agent.stop().unwrap();
    assert_eq!(attached(&lab.edge), BOTH);

    let said = detach(&lab.edge, &["--all"]);
    assert!(said.contains("unprotected"), "{said}");
    assert_stays_off(&lab.edge);
}

#[test]
fn an_egress_program_that_others_took_off_is_noticed_and_put_back() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let pins = lab.edge.exec("find /sys/fs/bpf -path */egress/* -type f").unwrap();
    lab.edge.exec(&format!("bpftool link detach pinned {}", pins.trim())).unwrap();
    assert!(!attached(&lab.edge).egress);

    let begun = Instant::now();
    while attached(&lab.edge) != BOTH {
        assert!(begun.elapsed() < STAYS_OFF, "not put back: {}", agent.log());
        sleep(Duration::from_millis(100));
    }
}
