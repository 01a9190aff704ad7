//! Privileges of the service, and access of other users to it.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tcpguard_goals::{Goal, Row, verifier};
use tcpguard_kit::daemon::machine::Machine;
use tcpguard_kit::net::netns::Netns;

use crate::service::{CONFIG, ON_ETH0, as_user, booted, booted_with, is_attached, machine, status};

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
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    for (unit, threshold) in [
        ("tcpguard.service", 15),
        ("tcpguard-selftest.service", 25),
        ("tcpguard-hook.service", 15),
        ("tcpguard-fleet.service", 15),
        ("tcpguard-fleet-collect.service", 15),
        ("tcpguard-fleet-relief.service", 15),
    ] {
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
fn it_runs_with_three_capabilities_and_without_root() {
    let (machine, pid) = booted();
    assert!(is_attached(&machine));
    let status = status(&machine);
    assert_eq!(status["daemon"]["state"], "observing", "{status:#}");
    assert_eq!(status["health"].as_array().unwrap().len(), 0, "{:#}", status["health"]);
    assert_eq!(
        machine.property("StatusText").unwrap(),
        "running on eth0: mode observe. See: tcpguard status"
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

/// The kernel lists these tables to root, and returns their rules by IP sockets.
#[test]
fn it_reads_tables_of_iptables_legacy_without_root_and_says_so_where_it_cannot() {
    let machine = machine(ON_ETH0);
    machine.exec("iptables-legacy -A INPUT -s 192.0.2.0/24 -p tcp --syn -j DROP").unwrap();
    machine.exec("systemctl start tcpguard").unwrap();
    let health = || status(&machine)["health"].as_array().unwrap().clone();
    assert_eq!(health(), [] as [serde_json::Value; 0]);

    let directory = machine.path("/etc/systemd/system/tcpguard.service.d");
    fs::create_dir(&directory).unwrap();
    let families =
        "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX AF_NETLINK\n";
    fs::write(directory.join("families.conf"), families).unwrap();
    machine.exec("systemctl daemon-reload").unwrap();
    machine.exec("systemctl restart tcpguard").unwrap();
    let notes = health();
    let [note] = &notes[..] else { panic!("{notes:#?}") };
    assert_eq!(note["code"], "firewall_unread");
    assert!(note["text"].as_str().unwrap().contains("(ip filter: "), "{note:#}");
    let doctor = machine.output("tcpguard doctor --json").unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("the service cannot read iptables-legacy tables"), "{said}");
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
            (CONFIG, ON_ETH0),
            ("/etc/systemd/system/tcpguard.service.d/without.conf", &drop_in),
        ])
        .unwrap();
        machine.exec("ip link add eth0 type veth peer name wire").unwrap();
        assert!(!machine.output("systemctl start tcpguard").unwrap().status.success());
        let log = machine.log().unwrap();
        assert!(log.contains(&format!("missing {name}")), "{log}");
        assert!(!is_attached(&machine));
    }
}

#[test]
fn unprivileged_users_reach_neither_sockets_nor_pins() {
    let (machine, _) = booted();
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

/// Of all pins, which are maps and links (at the interface, at the tracepoint), the number that user `nobody`
/// can open by their paths.
fn opened_by_nobody(machine: &Machine) -> [(u64, u64); 2] {
    const MAPS: &str = "-path */maps/*";
    [("map", MAPS.to_owned()), ("link", format!("! {MAPS}"))].map(|(kind, which)| {
        let pins = machine.exec(&format!("find /sys/fs/bpf/tcpguard -type f {which}")).unwrap();
        let open = |pin: &&str| {
            let line = format!("bpftool {kind} show pinned {pin}");
            as_user(machine, "--clear-groups", &line).0 == Some(0)
        };
        (pins.lines().count() as u64, pins.lines().filter(open).count() as u64)
    })
}

#[test]
fn g11_no_unprivileged_user_opens_a_pin() {
    let row = Row::new(Goal::G11);
    let (machine, _) = booted();
    let [(maps, opened_maps), (links, opened_links)] = opened_by_nobody(&machine);
    assert!(maps >= 20 && links >= 2, "{maps} pinned maps, {links} pinned links");
    machine.exec("chmod 0755 /sys/fs/bpf").unwrap();
    machine.exec("find /sys/fs/bpf/tcpguard -type d -exec chmod 0755 {} +").unwrap();
    machine.exec("find /sys/fs/bpf/tcpguard -type f -exec chmod 0666 {} +").unwrap();
    let [(_, naive_maps), (_, naive_links)] = opened_by_nobody(&machine);
    row.result(
        maps + links,
        format!("pins: nobody opens {opened_maps} of {maps} maps, {opened_links} of {links} links"),
        opened_maps + opened_links == 0,
    )
    .naive(
        maps + links,
        format!("pins of mode 0666 below 0755: {naive_maps} maps and {naive_links} links opened"),
        (naive_maps, naive_links) == (maps, links),
    )
    .finish();
}

/// The kernel's refusal to user `nobody` with these capabilities alone, where that user makes the maps, loads
/// the XDP program and attaches it. `None` if nothing is refused. The program that tries does not look at its
/// capabilities itself. (It tries the tracepoint as well, which the agent can do without.)
fn refusal(host: &Netns, capabilities: &[&str]) -> Option<String> {
    let only = capabilities.iter().fold("-all".to_owned(), |only, name| only + ",+" + name);
    let mut load = host.command("setpriv").unwrap();
    load.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    load.args(["bounding-set", "inh-caps", "ambient-caps"].map(|set| format!("--{set}={only}")));
    let output = load.args(["/run/load", "attached", "/run/object"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut answers = verifier::answers(&printed).peekable();
    assert!(answers.peek().is_some(), "{only}: {output:?}");
    answers.filter(|answer| answer["program"] != "tcpguard_established").find_map(|answer| {
        let reason = answer["refused"].as_str()?;
        // The attempted operation stands before the kernel's message.
        let said = reason.rsplit("`: ").next().unwrap_or(reason);
        Some(format!("{}: {said}", answer["program"].as_str().unwrap_or_default()))
    })
}

/// Of a service's capabilities, those without which nothing is refused; and every refusal, in words.
fn unneeded<'a>(host: &Netns, held: &[&'a str]) -> (Vec<&'a str>, Vec<String>) {
    let (mut unneeded, mut refusals) = (Vec::new(), Vec::new());
    for missing in held {
        let others: Vec<&str> = held.iter().copied().filter(|name| name != missing).collect();
        match refusal(host, &others) {
            Some(said) => refusals.push(format!("without {missing} \"{said}\"")),
            None => unneeded.push(*missing),
        }
    }
    (unneeded, refusals)
}

#[test]
fn g11_the_kernel_refuses_the_xdp_program_without_any_of_three_capabilities() {
    let row = Row::new(Goal::G11);
    let held = ["bpf", "net_admin", "perfmon"];
    let host = Netns::new("kernel").unwrap();
    host.ip(&["link add attached type veth"]).unwrap();
    let objects = env::var("TCPGUARD_BPF_DIR").expect("cargo xtask test sets TCPGUARD_BPF_DIR");
    let object = fs::canonicalize(Path::new(&objects).join("tcpguard-ebpf.o")).unwrap();
    // User `nobody` must be able to read them, whatever directory they are in.
    for (file, name) in [(Path::new(env!("CARGO_BIN_EXE_load")), "load"), (&object, "object")] {
        host.write(&format!("/run/{name}"), "").unwrap();
        host.exec(&format!("mount --bind {} /run/{name}", file.display())).unwrap();
    }
    assert_eq!(refusal(&host, &held), None, "the three are enough");
    let (unneeded_of_three, refusals) = unneeded(&host, &held);
    let fewer = [&held[..1], &held[1..2], &held[2..], &[]];
    let taken = fewer.iter().filter(|few| refusal(&host, few).is_none()).count();

    let more = ["bpf", "net_admin", "perfmon", "net_raw"];
    let (unneeded_of_four, _) = unneeded(&host, &more);
    row.result(
        (held.len() + fewer.len()) as u64,
        format!(
            "subsets of the capabilities: {} of 3 that lack one and {taken} of {} that lack more are \
             enough; {}",
            unneeded_of_three.len(),
            fewer.len(),
            refusals.join(", "),
        ),
        unneeded_of_three.is_empty() && taken == 0,
    )
    .naive(
        more.len() as u64,
        format!("of a service with CAP_NET_RAW on top: {unneeded_of_four:?} is not needed"),
        unneeded_of_four == ["net_raw"],
    )
    .finish();
}

#[test]
fn g11_the_service_holds_three_capabilities() {
    let row = Row::new(Goal::G11);
    let held = |drop_in: &str| {
        let path = "/etc/systemd/system/tcpguard.service.d/more.conf";
        let (machine, pid) = booted_with(&[(CONFIG, ON_ETH0), (path, drop_in)]);
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
    let (machine, _) = booted();
    let member = |line: &str| as_user(&machine, "--groups tcpguard", line);
    let (code, said) = member("tcpguard status --brief");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = member("tcpguard mode enforce");
    assert_eq!(code, Some(4), "{said}");
    machine.exec("tcpguard mode enforce").unwrap();
    let entries = machine.journal("TCPGUARD_EVENT=mode_changed").unwrap();
    assert_eq!(entries.len(), 1, "reported once, not on stderr again: {entries:#?}");
    assert_eq!(entries[0]["_SYSTEMD_UNIT"], "tcpguard.service");
    assert_eq!(entries[0]["PRIORITY"], "5");
}
