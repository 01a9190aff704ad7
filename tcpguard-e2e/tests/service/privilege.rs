//! What the service may, and what others may do to it.

use std::path::Path;
use std::process::Command;

use tcpguard_e2e::machine::Machine;
use tcpguard_goals::{Goal, Row};

use crate::{CONFIG, GUARDED, as_user, filtered, guarded, guarded_by, status};

/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF, by their bits in the kernel's `capability.h`.
const CAPABILITIES: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// A line of `/proc/PID/status`.
fn process(machine: &Machine, pid: u32, field: &str) -> String {
    let status = machine.exec(&format!("cat /proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

#[test]
fn the_units_are_exposed_at_1_5_and_2_5_of_10_at_most() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    for (unit, threshold) in [("tcpguard.service", 15), ("tcpguard-probe.service", 25)] {
        let analysis = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={threshold}"))
            .arg(units.join(unit))
            .output()
            .expect("systemd-analyze: install systemd (`cargo xtask setup` does)");
        let report = String::from_utf8_lossy(&analysis.stdout);
        println!("{}", report.lines().last().unwrap_or_default());
        assert!(analysis.status.success(), "{report}");
    }
}

#[test]
fn it_guards_with_three_capabilities_and_without_root() {
    let (machine, pid) = guarded();
    assert!(filtered(&machine));
    let status = status(&machine);
    assert_eq!(status["daemon"]["state"], "observing", "{status:#}");
    assert_eq!(status["health"].as_array().unwrap().len(), 0, "{:#}", status["health"]);
    assert_eq!(
        machine.property("StatusText").unwrap(),
        "guards eth0, mode observe; see: tcpguard status"
    );

    let uids = process(&machine, pid, "Uid");
    let own = machine.exec("id --user tcpguard").unwrap().trim().to_owned();
    assert!(own != "0" && uids.split_whitespace().all(|uid| uid == own), "{uids}, not {own}");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let found = process(&machine, pid, set);
        println!("{set} {found}");
        assert_eq!(u64::from_str_radix(&found, 16).unwrap(), CAPABILITIES, "{set}");
    }
    assert_eq!(process(&machine, pid, "NoNewPrivs"), "1");
    assert_eq!(process(&machine, pid, "Seccomp"), "2", "a filter");
}

#[test]
fn every_one_of_its_capabilities_is_needed() {
    for (name, without) in [
        ("CAP_BPF", "CAP_NET_ADMIN CAP_PERFMON"),
        ("CAP_NET_ADMIN", "CAP_BPF CAP_PERFMON"),
        ("CAP_PERFMON", "CAP_BPF CAP_NET_ADMIN"),
    ] {
        let drop_in = format!(
            "[Service]\nAmbientCapabilities=\nAmbientCapabilities={without}\n\
             CapabilityBoundingSet=\nCapabilityBoundingSet={without}\nRestart=no\n"
        );
        let machine = Machine::boot(&[
            (CONFIG, GUARDED),
            ("/etc/systemd/system/tcpguard.service.d/without.conf", &drop_in),
        ])
        .unwrap();
        machine.exec("ip link add eth0 type veth peer name wire").unwrap();
        assert!(!machine.output("systemctl start tcpguard").unwrap().status.success());
        let log = machine.log().unwrap();
        assert!(log.contains(&format!("missing {name};")), "{log}");
        assert!(!filtered(&machine));
    }
}

#[test]
fn strangers_reach_neither_sockets_nor_pins() {
    let (machine, _) = guarded();
    let nobody = |line: &str| as_user(&machine, "--clear-groups", line);
    for line in ["tcpguard status", "tcpguard mode enforce"] {
        let (code, said) = nobody(line);
        assert_eq!(code, Some(4), "{line}: {said}");
        assert!(said.contains("permission denied"), "{line}: {said}");
    }
    for pins in ["/sys/fs/bpf", "/sys/fs/bpf/tcpguard", "/run/tcpguard/bpf"] {
        let listed = machine.output(&format!(
            "setpriv --reuid nobody --regid nogroup --clear-groups find {pins} -mindepth 1"
        ));
        assert_eq!(String::from_utf8_lossy(&listed.unwrap().stdout), "", "in {pins}");
    }
    let pins = machine.exec("find /sys/fs/bpf/tcpguard -type f").unwrap();
    assert!(pins.lines().count() >= 2, "root finds the links: {pins}");
    let mine = machine.exec("find /sys/fs/bpf/tcpguard -type f ! -perm 0600").unwrap();
    assert_eq!(mine, "", "pins are for their owner alone");
}

/// Of the pinned maps, how many nobody can open by their paths.
fn opened_by_nobody(machine: &Machine) -> (u64, u64) {
    let maps = "( -path */maps/* -o -name heirloom-* )";
    let pins = machine.exec(&format!("find /sys/fs/bpf/tcpguard -type f {maps}")).unwrap();
    let open = |pin: &&str| {
        let line = format!("bpftool map show pinned {pin}");
        as_user(machine, "--clear-groups", &line).0 == Some(0)
    };
    (pins.lines().count() as u64, pins.lines().filter(open).count() as u64)
}

#[test]
fn g11_nobody_opens_a_pin() {
    let row = Row::new(Goal::G11);
    let (machine, _) = guarded();
    let (pins, opened) = opened_by_nobody(&machine);
    assert!(pins >= 20, "{pins} pinned maps");
    machine.exec("chmod 0755 /sys/fs/bpf").unwrap();
    machine.exec("find /sys/fs/bpf/tcpguard -type d -exec chmod 0755 {} +").unwrap();
    machine.exec("find /sys/fs/bpf/tcpguard -type f -exec chmod 0666 {} +").unwrap();
    let (_, naive) = opened_by_nobody(&machine);
    row.result(pins, format!("pinned maps: nobody opens {opened}"), opened == 0)
        .naive(pins, format!("pinned maps of mode 0666 below 0755: {naive} opened"), naive == pins)
        .finish();
}

#[test]
fn g11_the_service_holds_three_capabilities() {
    let row = Row::new(Goal::G11);
    let held = |drop_in: &str| {
        let path = "/etc/systemd/system/tcpguard.service.d/more.conf";
        let (machine, pid) = guarded_by(&[(CONFIG, GUARDED), (path, drop_in)]);
        u64::from_str_radix(&process(&machine, pid, "CapEff"), 16).unwrap()
    };
    let own = held("");
    let naive = held("[Service]\nUser=root\nCapabilityBoundingSet=~\nAmbientCapabilities=\n");
    row.result(u64::from(own.count_ones()), format!("capabilities: {own:#x}"), own == CAPABILITIES)
        .naive(
            u64::from(naive.count_ones()),
            format!("of a service of root: {naive:#x}"),
            naive.count_ones() > 3,
        )
        .finish();
}

#[test]
fn the_group_reads_and_changes_nothing() {
    let (machine, _) = guarded();
    let member = |line: &str| as_user(&machine, "--groups tcpguard", line);
    let (code, said) = member("tcpguard status --brief");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = member("tcpguard mode enforce");
    assert_eq!(code, Some(4), "{said}");
    machine.exec("tcpguard mode enforce").unwrap();
    let entries = machine.journal("TCPGUARD_EVENT=mode_changed").unwrap();
    assert_eq!(entries.len(), 1, "told once, not on stderr again: {entries:#?}");
    assert_eq!(entries[0]["_SYSTEMD_UNIT"], "tcpguard.service");
    assert_eq!(entries[0]["PRIORITY"], "5");
}
