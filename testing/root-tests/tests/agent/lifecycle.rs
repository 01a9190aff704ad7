//! Start, refusal and end of the daemon: whatever is wrong is said in one line with its remedy, and
//! nothing is left half-attached. Needs root and `TCPGUARD_BIN`.
#![expect(unsafe_code, reason = "what a child gives up before it becomes the program")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::net::foreign::{ForeignXdp, Verdict};
use tcpguard_kit::net::lab::{INTERFACE, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;

/// A host with one interface and a valid, empty configuration.
fn stage() -> Lab {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.edge.write(agent::CONFIG, "").unwrap();
    lab
}

/// Starts a command that must refuse to start, and checks its message: an error and its hint, which contain
/// every one of `words`. Nothing of it is left on the host.
#[track_caller]
fn assert_refused(host: &Netns, mut daemon: Command, words: &[&str]) {
    let output = ended(&mut daemon);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it should have refused: {said}");
    assert_eq!(said.lines().count(), 2, "an error and its hint:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    assert_nothing_left(host);
}

#[track_caller]
fn assert_nothing_left(host: &Netns) {
    assert!(!xdp_attached(host), "an XDP program is attached");
    let pins = host.exec("find /sys/fs/bpf -mindepth 2 ! -type d").unwrap();
    assert_eq!(pins, "", "pins are left");
}

fn xdp_attached(host: &Netns) -> bool {
    host.exec(&format!("ip link show dev {INTERFACE}")).unwrap().contains("xdp")
}

/// Waits for the end of a daemon that must not run for long.
#[track_caller]
fn ended(daemon: &mut Command) -> Output {
    let mut child = daemon.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it still ran after 10 s: {}", String::from_utf8_lossy(&output.stderr));
        }
        sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_wrong_interface_is_named() {
    let lab = stage();
    // As long as one of those that are named is there, the others are waited for.
    lab.edge.exec("ip link delete eth0").unwrap();
    let output = ended(&mut agent::daemon(&lab.edge, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have refused: {said}");
    assert!(said.contains("no interface eth0 (this host has: lo)"), "{said}");
}

#[test]
fn every_mistake_in_a_configuration_is_reported_with_its_line() {
    let lab = stage();
    let config = "mode = \"enforced\"\n\n[detection]\nclear_s = \"soon\"\nfast_minn = 1\n";
    lab.edge.write(agent::CONFIG, config).unwrap();
    let output = ended(&mut agent::daemon(&lab.edge, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    // There never was a valid one, by which it could start.
    assert_eq!(output.status.code(), Some(2), "{said}");
    for (line, word) in [(1, "enforced"), (4, "clear_s"), (5, "fast_minn")] {
        let place = format!("{}:{line}", agent::CONFIG);
        let found = said.lines().any(|said| said.contains(&place) && said.contains(word));
        assert!(found, "{word} at {place} is missing in:\n{said}");
    }
    assert_nothing_left(&lab.edge);
}

#[test]
fn a_missing_configuration_file_is_named() {
    let lab = stage();
    let mut daemon = lab.edge.command(agent::binary().unwrap()).unwrap();
    daemon
        .args(["run", "-c", "/run/nowhere.toml", "-i", INTERFACE])
        .args(["--runtime-dir", agent::RUNTIME_DIR, "--state-dir", agent::STATE_DIR])
        .stderr(std::process::Stdio::piped());
    assert_refused(&lab.edge, daemon, &["/run/nowhere.toml"]);
}

#[test]
fn an_interface_with_a_foreign_xdp_program_is_left_to_it() {
    let lab = stage();
    let foreign = ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Pass).unwrap();
    let output = ended(&mut agent::daemon(&lab.edge, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have refused: {said}");
    assert_eq!(said.lines().count(), 2, "an error and its hint:\n{said}");
    assert!(said.contains(INTERFACE) && said.contains("XDP program"), "{said}");
    assert!(xdp_attached(&lab.edge), "the foreign program stays");
    drop(foreign);
    assert_nothing_left(&lab.edge);
}

#[test]
fn a_missing_bpf_file_system_is_named() {
    let lab = stage();
    lab.edge.exec("umount /sys/fs/bpf").unwrap();
    let mut daemon = agent::daemon(&lab.edge, Mode::Observe).unwrap();
    let output = ended(&mut daemon);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have refused: {said}");
    assert_eq!(said.lines().count(), 2, "an error and its hint:\n{said}");
    assert!(said.contains("bpf filesystem") && said.contains("mount -t bpf"), "{said}");
    assert!(!xdp_attached(&lab.edge));
}

#[test]
fn missing_capabilities_are_named() {
    let lab = stage();
    for (name, capabilities) in [
        // CAP_SYS_ADMIN stands in for the newer ones.
        ("CAP_BPF", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_PERFMON", CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN),
    ] {
        let mut daemon = agent::daemon(&lab.edge, Mode::Observe).unwrap();
        let drop_them = move || {
            for capability in capabilities.iter() {
                remove_capability_from_bounding_set(capability)?;
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls; it neither allocates nor takes locks.
        unsafe { daemon.pre_exec(drop_them) };
        assert_refused(&lab.edge, daemon, &[name]);
    }
}

#[test]
fn a_second_daemon_does_not_disturb_the_first() {
    let lab = stage();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let output = ended(&mut agent::daemon(&lab.edge, Mode::Enforce).unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have refused: {said}");
    assert_eq!(said.lines().count(), 2, "an error and its hint:\n{said}");
    assert!(said.contains("another tcpguard agent is running"), "{said}");
    assert_eq!(agent.status().unwrap().state(), "observing");
    assert!(xdp_attached(&lab.edge), "the first one's program stays");
}

#[test]
fn a_runtime_directory_that_cannot_be_made_is_named() {
    let lab = stage();
    lab.edge.write(agent::RUNTIME_DIR, "a file where the directory should be").unwrap();
    let daemon = agent::daemon(&lab.edge, Mode::Observe).unwrap();
    assert_refused(&lab.edge, daemon, &[agent::RUNTIME_DIR]);
}

#[test]
fn a_stop_keeps_the_xdp_program_and_detach_removes_it() {
    let lab = stage();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert!(xdp_attached(&lab.edge));
    let state = format!("{}/state.json", agent::STATE_DIR);
    lab.edge.exec(&format!("rm -f {state}")).unwrap();

    assert!(agent.stop().unwrap().success());
    assert!(xdp_attached(&lab.edge), "a restart must open no gap");
    assert!(lab.edge.read(&state).is_ok(), "the state of the last moment is on the disk");
    assert!(agent.log().contains("detach"), "the way out is named: {}", agent.log());
    let status = agent::cli(&lab.edge, &["status"]).unwrap();
    assert_eq!(status.status.code(), Some(3), "not running");

    let detached = agent::cli(&lab.edge, &["detach", "--all"]).unwrap();
    assert!(detached.status.success());
    assert_nothing_left(&lab.edge);
}

#[test]
fn a_restart_takes_over_what_is_attached() {
    let lab = stage();
    let mut first = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    first.stop().unwrap();
    let second = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert_eq!(second.status().unwrap().state(), "protecting");
    drop(second);
    assert_nothing_left(&lab.edge);
}
