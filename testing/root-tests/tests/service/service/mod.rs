//! The unit under a real systemd: its privileges, its restarts, and its remains. Needs root,
//! systemd and `TCPGUARD_BIN`.

mod gone;
mod hang;
mod privilege;

use std::fs;
use std::os::fd::AsFd;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tcpguard_host::durable::seal;
use tcpguard_host::linux::{boot_id, netns};
use tcpguard_kit::daemon::machine::Machine;

const CONFIG: &str = "/etc/tcpguard/tcpguard.toml";
const ON_ETH0: &str = "[interfaces]\nnames = [\"eth0\"]\n";

/// The watchdog's time in the unit.
const WATCHDOG: Duration = Duration::from_secs(3);
/// Time after which the service is started again: at once.
const RESTART: Duration = Duration::from_millis(100);
/// Time that systemd may add to the time of the watchdog: its timers may be late by a quarter of a second, and on a busy
/// machine the next agent starts late as well.
const SLACK: Duration = Duration::from_secs(1);
/// Time limit of a start, from the process to its readiness.
const START: Duration = Duration::from_secs(2);

/// A machine with one interface and this configuration; nothing is started.
fn machine(config: &str) -> Machine {
    with_interface(&[(CONFIG, config)])
}

fn with_interface(files: &[(&str, &str)]) -> Machine {
    let machine = Machine::boot(files).unwrap();
    machine.exec("ip link add eth0 type veth peer name wire").unwrap();
    machine.exec("ip link set eth0 up").unwrap();
    machine.exec("ip link set wire up").unwrap();
    machine
}

/// A machine with a running agent, and the agent's process id.
fn booted() -> (Machine, u32) {
    booted_with(&[(CONFIG, ON_ETH0)])
}

fn booted_with(files: &[(&str, &str)]) -> (Machine, u32) {
    let machine = with_interface(files);
    machine.exec("systemctl start tcpguard").unwrap();
    let pid = machine.main_pid().unwrap().expect("it runs");
    (machine, pid)
}

fn is_attached(machine: &Machine) -> bool {
    machine.exec("ip link show dev eth0").unwrap().contains("xdp")
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&machine.exec("tcpguard status --json").unwrap()).unwrap()
}

/// Runs a command line as `user` of `groups` and returns whether it succeeded, and its stderr.
fn as_user(machine: &Machine, groups: &str, line: &str) -> (Option<i32>, String) {
    let line = format!("setpriv --reuid nobody --regid nogroup {groups} {line}");
    let output = machine.output(&line).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units_and_the_catalog() {
    let machine = machine(ON_ETH0);
    let units = "tcpguard.service tcpguard-selftest.service tcpguard-hook.service";
    let verified = machine.output(&format!("systemd-analyze verify --man=no {units}")).unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success(), "{complaints}");
    assert!(!complaints.contains("tcpguard"), "{complaints}");

    machine.exec("journalctl --update-catalog").unwrap();
    let catalog = machine.exec("journalctl --list-catalog").unwrap();
    for id in tcpguard::telemetry::events::descriptors().filter_map(|event| event.message_id) {
        assert!(catalog.contains(&format!("{id} tcpguard: ")), "{id} in {catalog}");
    }
}

#[test]
fn a_reload_applies_what_is_valid_and_refuses_what_is_not() {
    let (machine, pid) = booted();
    let write = |config: &str| fs::write(machine.path(CONFIG), config).unwrap();
    write(&format!("{ON_ETH0}[listeners]\nignore_ports = [8080]\n[control]\ngroup = \"adm\"\n"));
    let note = status(&machine)["health"][0]["code"].clone();
    assert_eq!(note, "config_changed", "a file that nobody has read yet is noticed");
    machine.exec("systemctl reload tcpguard").unwrap();
    assert_eq!(machine.main_pid().unwrap(), Some(pid), "the same process");
    assert_eq!(machine.property("ActiveState").unwrap(), "active");
    let reported = machine.journal("TCPGUARD_EVENT=config_reloaded").unwrap();
    let message = reported[0]["MESSAGE"].as_str().unwrap();
    assert!(message.contains("applied listeners.ignore_ports"), "{message}");
    assert!(message.contains("Restart required for control.group"), "{message}");
    assert_eq!(status(&machine)["health"][0]["code"], "config_waits");

    write("mode = \"enforced\"\n[detection]\nfast_min = 0\n");
    assert!(!machine.output("systemctl reload tcpguard").unwrap().status.success());
    assert_eq!(machine.main_pid().unwrap(), Some(pid));
    let log = machine.log().unwrap();
    for mistake in ["1:8: mode: unknown value `enforced`", "3:12: detection.fast_min"] {
        let mistake = format!("{CONFIG}:{mistake}");
        assert!(log.contains(&mistake), "{mistake} in {log}");
    }
    let document = status(&machine);
    let config = &document["daemon"]["config"];
    assert_eq!(config["valid"], false, "{config:#}");
    assert!(
        config["error"].as_str().unwrap().starts_with(&format!("{CONFIG}:1:8: ")),
        "{config:#}"
    );

    write(ON_ETH0);
    machine.exec(&format!("kill -HUP {pid}")).unwrap();
    let begun = Instant::now();
    while status(&machine)["daemon"]["config"]["valid"] == false {
        assert!(begun.elapsed() < Duration::from_secs(2), "SIGHUP is not heard");
        sleep(Duration::from_millis(50));
    }
    assert_eq!(status(&machine)["health"].as_array().unwrap().len(), 0);
    assert_eq!(machine.property("ActiveState").unwrap(), "active", "no longer reloading");
}

#[test]
fn an_agent_that_is_killed_is_back_at_once_as_often_as_it_takes() {
    let (machine, mut pid) = booted();
    machine.exec("tcpguard mode enforce").unwrap();
    machine.exec("tcpguard block 192.0.2.0/24").unwrap();
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        machine.exec(&format!("kill -KILL {pid}")).unwrap();
        assert!(is_attached(&machine), "the XDP program is gone");
        pid = machine.replaced(pid, RESTART + START).unwrap();
        longest = longest.max(begun.elapsed());
        assert!(is_attached(&machine));
    }
    println!("10 times killed, ready again after {longest:.2?} at most");
    assert_eq!(machine.property("NRestarts").unwrap(), "10");
    assert_eq!(machine.property("ActiveState").unwrap(), "active");
    let document = status(&machine);
    assert_eq!(document["daemon"]["state"], "protecting", "the mode is kept: {document:#}");
    assert_eq!(document["rules"]["list"][0]["matches"], "192.0.2.0/24", "so are rules");
    assert_eq!(document["rules"]["in_kernel"], 1);
}

#[test]
fn a_stop_leaves_the_xdp_program_and_detach_removes_it() {
    let (machine, _) = booted();
    machine.exec("systemctl stop tcpguard").unwrap();
    assert_eq!(machine.property("Result").unwrap(), "success");
    assert!(is_attached(&machine));
    assert!(machine.log().unwrap().contains("tcpguard detach --all"), "the way out is named");
    machine.exec("systemctl start tcpguard").unwrap();
    assert!(is_attached(&machine));

    machine.exec("systemctl stop tcpguard").unwrap();
    assert_eq!(machine.exec("tcpguard detach --all").unwrap(), "detached eth0\n");
    assert!(!is_attached(&machine));
}

#[test]
fn a_recreated_interface_is_attached_again_and_the_journal_reports_it() {
    let (machine, _) = booted();
    machine.exec("ip link delete eth0").unwrap();
    machine.exec("ip link add eth0 type veth peer name wire").unwrap();
    let begun = Instant::now();
    while !is_attached(&machine) {
        assert!(begun.elapsed() < Duration::from_secs(2), "not protected again");
    }
    machine.exec("tcpguard detach -i eth0").unwrap();
    let reported = machine.journal("SYSLOG_IDENTIFIER=tcpguard _TRANSPORT=journal").unwrap();
    let reported: Vec<_> = reported.iter().map(|entry| &entry["TCPGUARD_EVENT"]).collect();
    assert_eq!(reported, ["interface_changed", "interface_changed", "filter_detached"]);
}

#[test]
fn what_was_started_by_hand_is_taken_over() {
    let machine = machine(ON_ETH0);
    machine.exec("systemd-run --quiet --unit=by-hand /usr/bin/tcpguard run").unwrap();
    machine.exec("tcpguard status --wait healthy --timeout 5s").unwrap();
    assert!(is_attached(&machine));
    machine.exec("systemctl stop by-hand").unwrap();
    assert!(is_attached(&machine));
    machine.exec("systemctl start tcpguard").unwrap();
    assert!(is_attached(&machine));
    assert_eq!(status(&machine)["interfaces"][0]["pinned"], true);
}

#[test]
fn a_group_that_the_service_is_not_in_is_named_with_the_way_to_join_it() {
    let machine = machine(&format!("{ON_ETH0}[control]\ngroup = \"adm\"\n"));
    assert!(!machine.output("systemctl start tcpguard").unwrap().status.success());
    machine.exec("systemctl stop tcpguard").unwrap();
    let errors =
        machine.exec("journalctl --quiet --unit tcpguard --identifier tcpguard -p info").unwrap();
    assert!(errors.contains("SupplementaryGroups=adm"), "{errors}");

    let directory = machine.path("/etc/systemd/system/tcpguard.service.d");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("group.conf"), "[Service]\nSupplementaryGroups=adm\n").unwrap();
    machine.exec("systemctl daemon-reload").unwrap();
    machine.exec("systemctl start tcpguard").unwrap();
    let (code, said) = as_user(&machine, "--groups adm", "tcpguard status --brief");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn metrics_over_tcp_need_a_drop_in_and_without_it_the_interface_is_attached_all_the_same() {
    let machine = machine(&format!("{ON_ETH0}[metrics]\nlisten = \"127.0.0.1:9469\"\n"));
    machine.exec("systemctl start tcpguard").unwrap();
    assert!(is_attached(&machine));
    let finding = || {
        let document = status(&machine);
        let mut health = document["health"].as_array().unwrap().iter();
        health.find(|finding| finding["code"] == "metrics_not_served").cloned()
    };
    let reported = finding().expect("nobody listens on the port");
    let hint = reported["hint"].as_str().unwrap();
    for line in ["RestrictAddressFamilies=AF_INET AF_INET6", "IPAddressAllow=localhost"] {
        assert!(hint.contains(line), "{hint}");
    }

    let directory = machine.path("/etc/systemd/system/tcpguard.service.d");
    fs::create_dir(&directory).unwrap();
    let drop_in = "[Service]\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressAllow=localhost\n";
    fs::write(directory.join("metrics.conf"), drop_in).unwrap();
    machine.exec("systemctl daemon-reload").unwrap();
    machine.exec("systemctl restart tcpguard").unwrap();
    assert_eq!(finding(), None);
    assert!(machine.exec("ss -Hltn").unwrap().contains("127.0.0.1:9469"));
    machine.exec("systemd-analyze security --threshold=15 tcpguard.service").unwrap();
}

#[test]
fn a_journal_that_hangs_costs_log_lines_and_no_poll() {
    let (machine, pid) = booted();
    let journald =
        machine.exec("systemctl show systemd-journald --property MainPID --value").unwrap();
    machine.exec(&format!("kill -STOP {journald}")).unwrap();
    // Each change is a line in the log; far more than the stream to journald holds.
    let changes =
        "for i in $(seq 200); do tcpguard -q mode enforce; tcpguard -q mode observe; done";
    fs::write(machine.path("/root/changes.sh"), changes).unwrap();
    machine.exec("sh -e /root/changes.sh").unwrap();
    let document = status(&machine);
    assert!(document["daemon"]["watchdog_age_ms"].as_u64().unwrap() < 1000, "{document:#}");
    let lost = document["health"][0]["text"].as_str().unwrap();
    println!("{lost}");
    assert!(lost.contains("did not reach the journal"), "{lost}");
    machine.exec(&format!("kill -CONT {journald}")).unwrap();
    assert_eq!(machine.main_pid().unwrap(), Some(pid));
    machine.exec("tcpguard mode enforce").unwrap();
    let last = machine.journal("TCPGUARD_EVENT=mode_changed").unwrap().pop().expect("an entry");
    assert!(last["TCPGUARD_LOST"].is_string(), "{last:#}");
}

#[test]
fn a_hook_gets_each_alert_and_runs_as_long_as_the_agent() {
    const HOOK: &str = "/etc/tcpguard/hook";
    let (machine, _) = booted();
    let state =
        || machine.exec("systemctl show tcpguard-hook --property ActiveState --value").unwrap();
    machine.exec("systemctl enable --now tcpguard-hook").unwrap();
    assert_eq!(state(), "inactive\n", "there is no command");

    // This one prints the alert, and fails.
    fs::write(machine.path(HOOK), "#!/bin/sh\ncat\nexit 7\n").unwrap();
    machine.exec(&format!("chmod 755 {HOOK}")).unwrap();
    machine.exec("systemctl start tcpguard-hook").unwrap();
    let printed = |words: &str| {
        let begun = Instant::now();
        loop {
            let entries = machine.journal("_SYSTEMD_UNIT=tcpguard-hook.service").unwrap();
            let lines = entries.iter().filter_map(|entry| entry["MESSAGE"].as_str());
            if let Some(line) = lines.rev().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "no {words:?}: {entries:?}");
            sleep(Duration::from_millis(50));
        }
    };
    let event = |name: &str| -> Value {
        serde_json::from_str(&printed(&format!("\"event\":\"{name}\""))).unwrap()
    };
    machine.exec("tcpguard allow 203.0.113.7 --for 1h --reason \"known\"").unwrap();
    let added = event("allow_added");
    assert_eq!(added["schema"], "tcpguard.event/1", "{added:#}");
    assert_eq!(added["net"], "203.0.113.7/32", "{added:#}");
    printed("hook: exit code 7");

    machine.exec("systemctl restart tcpguard").unwrap();
    machine.exec("tcpguard disallow 203.0.113.7").unwrap();
    assert!(event("allow_removed")["message"].as_str().unwrap().contains("203.0.113.7/32"));
    machine.exec("systemctl stop tcpguard").unwrap();
    assert_eq!(state(), "inactive\n");
}

#[test]
fn an_error_that_a_restart_cannot_fix_is_not_retried() {
    let unreadable = "chmod 0600 /etc/tcpguard/tcpguard.toml";
    for (config, before, reported) in [
        ("", "true", "no interface to protect"),
        ("mode = \"on\"\n", "true", "tcpguard.toml:1:8: mode: "),
        (ON_ETH0, unreadable, "cannot read the configuration"),
        (ON_ETH0, "umount /sys/fs/bpf", "asserts failed"),
    ] {
        let machine = machine(config);
        machine.exec(before).unwrap();
        assert!(!machine.output("systemctl start tcpguard").unwrap().status.success());
        sleep(3 * RESTART);
        let state = machine.property("ActiveState").unwrap();
        assert!(["failed", "inactive"].contains(&state.as_str()), "{state} with {config:?}");
        assert_eq!(machine.property("NRestarts").unwrap(), "0", "with {config:?}, {before}");
        let log = machine.log().unwrap();
        assert!(log.contains(reported), "{log}");
    }
}

#[test]
fn a_restart_with_a_mistake_uses_the_last_valid_configuration_and_monitoring_warns() {
    let (machine, pid) = booted();
    let write = |config: &str| fs::write(machine.path(CONFIG), config).unwrap();
    write(&format!("{ON_ETH0}mode = \"enforce\"\n"));
    machine.exec("systemctl restart tcpguard").unwrap();
    assert_ne!(machine.main_pid().unwrap(), Some(pid), "another agent");
    assert!(is_attached(&machine));
    let reported = machine.journal("TCPGUARD_EVENT=config_refused").unwrap();
    let message = reported[0]["MESSAGE"].as_str().unwrap();
    assert!(message.contains("The last valid one"), "{message}");
    assert!(message.contains("mode belongs above the first [section]"), "{message}");
    let check = machine.output("tcpguard check").unwrap();
    let line = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "WARNING: {line}");
    assert!(line.contains(&format!("{CONFIG}:3:1: ")), "{line}");
    // The next one, too.
    machine.exec("systemctl restart tcpguard").unwrap();
    assert_eq!(status(&machine)["daemon"]["config"]["valid"], false);

    write(&format!("mode = \"enforce\"\n{ON_ETH0}"));
    machine.exec("systemctl reload tcpguard").unwrap();
    assert_eq!(status(&machine)["daemon"]["config"]["valid"], true);
    assert_eq!(machine.output("tcpguard check").unwrap().status.code(), Some(0));
}

/// Without a pause of its own it would keep a CPU busy at the highest priority.
#[test]
fn an_agent_that_cannot_start_is_tried_once_a_second() {
    let machine = machine(&format!("{ON_ETH0}[control]\ngroup = \"adm\"\n"));
    assert!(!machine.output("systemctl start tcpguard").unwrap().status.success());
    let tries = || machine.property("NRestarts").unwrap().parse::<u32>().unwrap();
    let before = tries();
    sleep(Duration::from_secs(3));
    let tries = tries() - before;
    assert!((1..=3).contains(&tries), "{tries} tries in 3 s");
}

#[test]
fn log_lines_reach_the_journal_with_their_priority() {
    let (machine, _) = booted();
    let entries =
        machine.journal("--unit tcpguard _TRANSPORT=stdout SYSLOG_IDENTIFIER=tcpguard").unwrap();
    let started = entries.iter().find(|entry| {
        entry["MESSAGE"].as_str().is_some_and(|message| message.contains("started on eth0"))
    });
    let started = started.unwrap_or_else(|| panic!("the line at start is missing: {entries:#?}"));
    assert_eq!(started["PRIORITY"], "6");
    assert!(started["MESSAGE"].as_str().unwrap().starts_with("tcpguard "), "no time of its own");
}

/// Runs `work` on a thread in the machine's network namespace.
fn in_network<T: Send>(machine: &Machine, work: impl FnOnce() -> T + Send) -> T {
    let root = machine.path("");
    let network = root.parent().expect("the process").join("ns/net");
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let network = fs::File::open(network).unwrap();
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        inside.join().unwrap()
    })
}

const SYNCOOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";

fn syncookies(machine: &Machine) -> String {
    let value = in_network(machine, || fs::read_to_string(SYNCOOKIES).unwrap());
    value.trim_end().to_owned()
}

#[test]
fn the_service_may_borrow_one_sysctl_and_systemd_gives_it_back_after_every_end() {
    // As the service, within its sandbox, once.
    let borrow = "[Service]\n\
         ExecStartPre=/bin/sh -c 'test -e /var/lib/tcpguard/once || \
         (echo 2 >/proc/sys/net/ipv4/tcp_syncookies && touch /var/lib/tcpguard/once)'\n\
         ExecStartPre=/bin/sh -c '! (echo 1 >/proc/sys/net/ipv4/tcp_sack)'\n";
    let machine = Machine::boot(&[
        (CONFIG, ON_ETH0),
        ("/etc/systemd/system/tcpguard.service.d/borrow.conf", borrow),
    ])
    .unwrap();
    machine.exec("ip link add eth0 type veth peer name wire").unwrap();
    let set = |value: &str| in_network(&machine, || fs::write(SYNCOOKIES, value).unwrap());
    set("1");
    machine.exec("systemctl start tcpguard").unwrap();
    assert_eq!(syncookies(&machine), "2", "it may write this one, and no other");

    let saved = json!({
        "schema": "tcpguard.syncookies/1",
        "boot": boot_id(),
        "netns": in_network(&machine, || netns::cookie().unwrap()),
        "value": 1,
    });
    let file = machine.path("/var/lib/tcpguard/syncookies.json");
    let save = || seal::replace(&file, 0o644, saved.to_string().as_bytes()).unwrap();
    save();
    let pid = machine.main_pid().unwrap().expect("it runs");
    machine.exec(&format!("kill -KILL {pid}")).unwrap();
    machine.replaced(pid, RESTART + START).unwrap();
    assert_eq!((syncookies(&machine).as_str(), file.exists()), ("1", false), "after kill -9");

    set("2");
    save();
    machine.exec("systemctl stop tcpguard").unwrap();
    assert_eq!((syncookies(&machine).as_str(), file.exists()), ("1", false), "after a stop");
    let log = machine.log().unwrap();
    assert_eq!(log.matches("net.ipv4.tcp_syncookies restored to 1").count(), 2, "{log}");

    machine.exec("systemctl start tcpguard").unwrap();
    set("0");
    save();
    machine.exec("systemctl stop tcpguard").unwrap();
    assert_eq!((syncookies(&machine).as_str(), file.exists()), ("0", false), "somebody's own");
    assert!(machine.log().unwrap().contains("net.ipv4.tcp_syncookies stays 0"));
}

const PROBED: &str = "/var/lib/tcpguard/selftest.json";

/// Result of the self-test of cookies, as the service reads it.
fn probed(machine: &Machine) -> Value {
    let read = machine.exec(&format!("setpriv --reuid tcpguard --clear-groups cat {PROBED}"));
    let (_seal, probe) = read.as_deref().unwrap().split_once('\n').unwrap();
    serde_json::from_str(probe).unwrap()
}

#[test]
fn cookie_backends_are_tested_before_the_agent_starts_and_not_again() {
    const TIMESTAMPS: &str = "/proc/sys/net/ipv4/tcp_timestamps";
    let machine = machine(ON_ETH0);
    let of_host = || {
        let names = ["tcp_syncookies", "tcp_timestamps", "tcp_rmem"];
        let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        in_network(&machine, || names.map(read))
    };
    let before = of_host();
    let begun = Instant::now();
    machine.exec("systemctl start tcpguard").unwrap();
    println!("started after {:.2?}", begun.elapsed());
    let probe = probed(&machine);
    println!("{:#}", probe["results"]);
    assert_eq!(probe["schema"], "tcpguard.selftest/1");
    let helper = &probe["results"][2];
    assert_eq!((&helper["backend"], &helper["reason"]), (&json!("kernel_helper"), &Value::Null));
    assert_eq!(of_host(), before, "what it sets, it sets in its own namespace");

    let written = || fs::metadata(machine.path(PROBED)).unwrap().modified().unwrap();
    let first = written();
    let pid = machine.main_pid().unwrap().expect("it runs");
    machine.exec(&format!("kill -KILL {pid}")).unwrap();
    machine.replaced(pid, RESTART + START).unwrap();
    machine.exec("systemctl restart tcpguard").unwrap();
    assert_eq!(written(), first, "it is known");

    in_network(&machine, || fs::write(TIMESTAMPS, "2").unwrap());
    machine.exec("systemctl restart tcpguard").unwrap();
    assert_eq!(probed(&machine)["host"]["sysctls"]["net.ipv4.tcp_timestamps"], "2");
}

#[test]
fn a_selftest_that_fails_or_hangs_does_not_keep_the_agent_from_starting() {
    for (ends, limit) in [
        ("ExecStart=/bin/false", START),
        ("ExecStart=/bin/sleep 60\nTimeoutStartSec=1s", Duration::from_secs(1) + START),
    ] {
        let drop_in = format!("[Service]\nExecStart=\n{ends}\n");
        let machine = Machine::boot(&[
            (CONFIG, ON_ETH0),
            ("/etc/systemd/system/tcpguard-selftest.service.d/ends.conf", &drop_in),
        ])
        .unwrap();
        machine.exec("ip link add eth0 type veth peer name wire").unwrap();
        let begun = Instant::now();
        machine.exec("systemctl start tcpguard").unwrap();
        println!("{ends:?}: started after {:.2?}", begun.elapsed());
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
        assert!(is_attached(&machine));
        assert!(!machine.output("systemctl is-active tcpguard-selftest").unwrap().status.success());
        assert!(!machine.path(PROBED).exists());
    }
}
