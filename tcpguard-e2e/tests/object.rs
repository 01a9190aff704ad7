//! The BPF objects as others see them: loadable without aya, silent unless asked.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use tcpguard::host::SocketOffsets;
use tcpguard::kernel::{Load, Object};
use tcpguard_e2e::guard::{Guard, Mode};
use tcpguard_e2e::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_e2e::server::{Behaviour, Server};

fn object() -> PathBuf {
    let dir = env::var_os("TCPGUARD_BPF_DIR")
        .expect("TCPGUARD_BPF_DIR is not set: cargo xtask test sets it");
    PathBuf::from(dir).join("tcpguard-ebpf.o")
}

/// The kernel gives up at a million; older ones need up to a fifth more than newer ones.
#[test]
fn no_program_takes_the_verifier_long() {
    const LIMIT: u32 = 100_000;
    let offsets = Some(SocketOffsets::of_running_kernel().unwrap());
    let object = Object::load(Load { offsets, ..Load::default() }).unwrap();
    for cost in object.costs() {
        println!("{cost:?}");
        assert!(cost.verified.unwrap() < LIMIT, "{cost:?}");
    }
}

/// libbpf is stricter than aya about how maps are defined.
#[test]
fn bpftool_loads_the_object_and_prints_maps_by_field() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let object = object();
    let load = format!(
        "bpftool prog loadall {} /sys/fs/bpf/programs pinmaps /sys/fs/bpf/maps",
        object.display()
    );
    lab.edge.exec(&load).unwrap();
    let programs = lab.edge.exec("ls /sys/fs/bpf/programs").unwrap();
    for program in ["tcpguard_ingress", "tcpguard_egress", "tcpguard_established"] {
        assert!(programs.contains(program), "{programs}");
    }
    let config = lab.edge.exec("bpftool map dump pinned /sys/fs/bpf/maps/CONFIG").unwrap();
    for field in ["abi_version", "sample_shift", "heartbeat_ns"] {
        assert!(config.contains(field), "{config}");
    }
}

fn log_of_a_connection(arguments: &[&str]) -> String {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut guard = Guard::start_with(&lab.edge, Mode::Enforce, "", arguments).unwrap();
    let load = tcpguard_e2e::clients::Load::start(&lab.client, Family::V4.service(), 20).unwrap();
    guard
        .wait_until("handshakes are counted", Duration::from_secs(5), |status| {
            status.reason("handshake_ack") >= 5
        })
        .unwrap();
    // A poll hands over what the programs have said until then.
    std::thread::sleep(Duration::from_millis(600));
    load.finish().unwrap();
    guard.stop().unwrap();
    guard.log()
}

#[test]
fn the_programs_speak_when_asked_and_only_then() {
    let asked = log_of_a_connection(&["--bpf-log", "trace", "-v", "-v"]);
    assert!(asked.contains("pass, reason"), "{asked}");
    let silent = log_of_a_connection(&[]);
    assert!(!silent.contains("reason"), "{silent}");
}
