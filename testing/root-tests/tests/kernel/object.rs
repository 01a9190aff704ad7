//! The BPF objects as others see them: loadable without aya and by any verifier, silent unless asked.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use std::{env, fs};

use tcpguard::bpf::{Features, XdpMode};
use tcpguard_goals::verifier::{self, Costs, GROWTH, LIMIT, Record};
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::armed::Armed;
use tcpguard_kit::measure::digest;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// The objects that the agent loads.
const OBJECTS: [&str; 3] = ["tcpguard-ebpf", "tcpguard-ebpf-log", "cookie"];

fn object(name: &str) -> PathBuf {
    let dir = env::var_os("TCPGUARD_BPF_DIR")
        .expect("TCPGUARD_BPF_DIR is not set: cargo xtask test sets it");
    PathBuf::from(dir).join(name).with_extension("o")
}

/// Result of the running kernel's verifier for these objects, by the program that `cargo xtask vm` runs in
/// guests with other kernels.
fn verified(objects: &[&str]) -> Costs {
    const INTERFACE: &str = "attached";
    let host = Netns::new("kernel").unwrap();
    host.ip(&[&format!("link add {INTERFACE} type veth")]).unwrap();
    let mut load = host.command(env!("CARGO_BIN_EXE_load")).unwrap();
    load.arg(INTERFACE).args(objects.iter().map(|name| object(name)));
    let output = load.output().unwrap();
    let costs: Costs = verifier::answers(&String::from_utf8_lossy(&output.stdout))
        .filter_map(|answer| verifier::cost(&answer))
        .collect();
    assert!(!costs.is_empty(), "{output:?}");
    costs
}

/// The program that takes longest; a refused one took no number.
fn longest(costs: &Costs) -> u64 {
    costs.values().flatten().copied().max().unwrap_or_default()
}

#[test]
fn g10_no_program_takes_a_verifier_long() {
    let row = Row::new(Goal::G10);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/kernel-support.json");
    let record = Record::parse(&fs::read_to_string(path).unwrap()).unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = release.trim();

    let costs = verified(&OBJECTS);
    println!("{costs:#?}");
    let mut beyond = record.exceeded(kernel, &costs);
    beyond.extend(record.beyond());
    let digests = OBJECTS.map(|name| (name.to_owned(), digest::of(&object(name)).unwrap()));
    let untried = record.untried(&digests.into());
    // Until builds on many machines are known to be the same, the short form only says so.
    beyond.extend(size(Vec::new(), untried.clone()));
    let others = record.kernels.iter().filter(|tried| !tried.costs.is_empty());
    let recorded = others.clone().map(|tried| longest(&tried.costs)).max().unwrap_or_default();
    let said = format!(
        "programs on Linux {kernel}, of {} instructions at most, and on {} kernels of the record of \
         {recorded}; over {LIMIT}, or {GROWTH} % over the record: {beyond:?}; not tried there as they are: {untried:?}",
        longest(&costs),
        others.count(),
    );

    let naive = verified(&["naive"]);
    let refused = record.exceeded(kernel, &naive);
    row.result(costs.len() as u64, said, beyond.is_empty())
        .naive(
            naive.len() as u64,
            format!(
                "program whose loop over the options has its position in a variable: {refused:?}"
            ),
            !refused.is_empty(),
        )
        .finish();
}

/// libbpf is stricter than aya about how maps are defined.
#[test]
fn bpftool_loads_the_object_and_prints_maps_by_field() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let object = object("tcpguard-ebpf");
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
    let mut agent = Agent::start_with(&lab.edge, Mode::Enforce, "", arguments).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 20).unwrap();
    agent
        .wait_until("handshakes are counted", Duration::from_secs(5), |status| {
            status.reason("handshake_ack") >= 5
        })
        .unwrap();
    // A poll hands over the messages of the programs up to then.
    sleep(Duration::from_millis(600));
    load.finish().unwrap();
    agent.stop().unwrap();
    agent.log()
}

#[test]
fn the_programs_speak_when_asked_and_only_then() {
    let asked = log_of_a_connection(&["--bpf-log", "trace"]);
    assert!(asked.contains("pass, reason"), "{asked}");
    let silent = log_of_a_connection(&[]);
    assert!(!silent.contains("reason"), "{silent}");
}

const NO_FEATURES: Features =
    Features { multi_buffer: false, atomics: false, tail_calls: false, tcx: false };

/// The object as kernels without some features get it, on this one.
#[test]
fn the_object_of_older_kernels_counts_handshakes() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let armed = Armed::with_features(&lab.edge, XdpMode::Native, NO_FEATURES).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(Duration::from_secs(2));
    load.finish().unwrap();
    let counters = armed.counters();
    for seen in [counters.syn, counters.syn_ack, counters.established] {
        assert!(seen >= 50, "{counters:?}");
    }
}

/// Native mode of such an object ends with the page, and the agent says so.
#[test]
fn a_large_mtu_without_multi_buffer_xdp_is_named() {
    let host = Netns::new("host").unwrap();
    host.ip(&["link add eth0 mtu 9000 type veth peer name wire mtu 9000"]).unwrap();
    host.ip(&["link set eth0 up", "link set wire up"]).unwrap();
    let error = Armed::with_features(&host, XdpMode::Native, NO_FEATURES).err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("MTU 9000 needs multi-buffer XDP (Linux 5.18)"), "{error}");
}
