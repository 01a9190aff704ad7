mod firewall;
mod host;
mod interfaces;
mod pages;
mod service;

use std::collections::BTreeSet;

use serde_json::json;
use tcpguard_common::abi::{ABI_VERSION, maps};
use tcpguard_host::doctor::facts::{
    ConfigFacts, Feature, Filesystem, FirewallFacts, InterfaceFacts, Kernel, Link, MULTI_BUFFER,
    Owner, Pins, Privileges, RAW_TRACEPOINTS, READ_KERNEL, Service, Support, TCX,
};
use tcpguard_host::doctor::{Checked, Status as CheckStatus, is_command};
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::firewall::FirewallChoice;
use tcpguard_host::linux::device::XdpFeatures;
use tcpguard_host::linux::interfaces::OperState;
use tcpguard_host::linux::netfilter::RuleSet;
use tcpguard_host::linux::programs::{Attached, Hook};
use tcpguard_host::time::Time;
use tcpguard_host::tune::{self, Device, HostFacts, Listening, Load, Span, Values, sysctl_files};

use super::{checked, examine};
use crate::bpf::{Layout, Usage};
use crate::cli::doctor::facts::{Agent, Facts, SelfTested};
use crate::documents::{NextProgram, Status};

const NETNS: u64 = 7;

/// Outcome of a check in words.
type Outcome = (CheckStatus, Severity);
const PASSED: Outcome = (CheckStatus::Passed, Severity::Notice);
const NOTICE: Outcome = (CheckStatus::Found, Severity::Notice);
const UNKNOWN: Outcome = (CheckStatus::Unknown, Severity::Warning);
const WARNING: Outcome = (CheckStatus::Found, Severity::Warning);
const CRITICAL: Outcome = (CheckStatus::Found, Severity::Critical);

fn outcome(checked: &Checked) -> Outcome {
    (checked.status, checked.finding.severity)
}

fn now() -> Time {
    Time("2026-01-02T03:04:05Z".parse().expect("a time"))
}

fn feature(name: &'static str, needed: bool, support: Support) -> Feature {
    Feature { name, since: None, for_what: "a test", fallback: None, needed, support }
}

fn ours() -> Attached {
    let name = Some("tcpguard_ingress".to_owned());
    Attached { hook: Hook::XdpNative, id: Some(41), name }
}

fn foreign(hook: Hook, name: Option<&str>) -> Attached {
    Attached { hook, id: Some(42), name: name.map(str::to_owned) }
}

fn eth0() -> Link {
    Link {
        ethernet: true,
        loopback: false,
        state: OperState::Up,
        kind: None,
        driver: Some("ixgbe".to_owned()),
        mtu: 1500,
        xdp: Some(XdpFeatures { basic: true, takes: true, large_packets: true }),
        fixed_offloads: None,
        received: None,
        merges: Some(false),
        strips_vlan: Some(false),
        vlans: Vec::new(),
        master: None,
        below: None,
        members: Vec::new(),
        siblings: Vec::new(),
        programs: Ok(vec![ours()]),
        above: Vec::new(),
        device: Device { name: "eth0".to_owned(), lost: Some(0), ..Device::default() },
    }
}

fn status() -> Status {
    let status = json!({
        "schema": "tcpguard.status/1",
        "generated_at": "2026-01-02T03:04:05.000Z",
        "interval_ms": 250,
        "daemon": {
            "version": env!("CARGO_PKG_VERSION"), "pid": 812, "hostname": "edge-fra-1",
            "uptime_s": 60, "mode": "enforce", "state": "protecting",
            "config": {
                "path": "/etc/tcpguard/tcpguard.toml", "loaded_at": "2026-01-02T03:03:05.000Z",
                "valid": true, "error": null
            },
            "watchdog_age_ms": 100
        },
        "health": [], "incidents": [], "past_incidents": [],
        "interfaces": [{
            "name": "eth0", "ifindex": 2, "hook": "xdp", "mode": "native", "link_id": 3,
            "pinned": true, "attached": true, "rates": null,
            "totals": {
                "rx_packets": 0, "rx_bytes": 0, "syn": 0, "pass": 0, "pass_reasons": {},
                "drop_total": 0, "drop": {}, "cookies_sent": 0, "unaccounted": 0, "classes": {}
            }
        }],
        "listeners": [],
        "cookies": {
            "backend": "own", "reason": null, "by_family": [], "sent": 0, "valid": 0, "invalid": 0,
            "validated_clients": null, "unanswered": {}
        },
        "kernel": {
            "syncookies_sent": 0, "syncookies_recv": 0, "syncookies_failed": 0,
            "listen_overflows": 0, "listen_drops": 0, "req_q_full_do_cookies": 0,
            "req_q_full_drop": 0, "rates": null
        },
        "rules": {
            "wanted": 3, "in_kernel": 3, "block_auto": 0, "block_manual": 3, "allow": 0,
            "next_expiry_s": null, "drift_since": null, "list": []
        },
        "maps": [
            { "name": "RULES", "entries": 3, "max_entries": maps::RULES, "fill_ratio": null }
        ],
        "sampling": { "shift": 0, "one_in": 1 }, "sources": [],
        "losses": {
            "state": "none", "lost_pps": null, "lost_ratio": null, "interfaces": [], "cpus": [],
            "skew": null
        },
        "programs": [], "counts": { "incidents": [], "reloads_applied": 0, "reloads_refused": 0 },
        "alerts_24h": { "critical": 0, "warning": 0, "notice": 0 }, "alerts": []
    });
    serde_json::from_value(status).expect("a status")
}

fn judged(host: &HostFacts, sysctls: &[(&str, &str)], file: &str) -> tune::Tune {
    let sysctls = sysctls.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let path = std::path::Path::new("/etc/sysctl.d/99-web.conf");
    let values = Values { sysctls: sysctls.collect(), files: sysctl_files::parse(path, file) };
    tune::judge(host, &values, now())
}

/// A host on which everything is as it should be, and an agent that runs.
fn healthy() -> Facts {
    let host = HostFacts {
        kernel: "6.18.1".to_owned(),
        memory: 4 << 30,
        cpus: 4,
        hash_entries: 32_768,
        syncookies: Some(1),
        somaxconn: Some(4096),
        load: Load { received: 1_000_000, ..Load::default() },
        listeners: vec![
            Listening { at: "0.0.0.0:443".parse().expect("an address"), backlog: 511 },
            Listening { at: "127.0.0.1:6379".parse().expect("an address"), backlog: 1 },
        ],
        ..HostFacts::default()
    };
    Facts {
        of_host: tcpguard_host::doctor::Facts {
            kernel: Kernel {
                release: Some("6.18.1".to_owned()),
                btf: true,
                features: vec![
                    feature("XDP programs", true, Support::Present),
                    feature(RAW_TRACEPOINTS, false, Support::Present),
                    Feature {
                        since: Some("5.18"),
                        ..feature(MULTI_BUFFER, false, Support::Present)
                    },
                    feature(READ_KERNEL, false, Support::Present),
                ],
                lockdown: Some("none".to_owned()),
                jit: Some(1),
                page_bytes: 4096,
            },
            privileges: Privileges { root: true, container: false, effective: u64::MAX },
            pins: Pins {
                dir: "/sys/fs/bpf/tcpguard".into(),
                filesystem: Filesystem::Bpf { read_only: false },
                owner: Some(Owner { uid: 997, mode: 0o700 }),
                service_uid: Some(997),
            },
            interfaces: vec![InterfaceFacts {
                name: "eth0".to_owned(),
                link: Some(eth0()),
                existing: vec!["lo".to_owned(), "eth0".to_owned()],
                bond: None,
            }],
            tune: judged(&host, &[("net.ipv4.tcp_syncookies", "1")], ""),
            host,
            listeners: Ok(Vec::new()),
            states: Ok(Vec::new()),
            service: Service { systemd: true, unit: unit(&[]) },
            config: ConfigFacts::Valid {
                path: "/etc/tcpguard/tcpguard.toml".into(),
                interfaces: vec!["eth0".to_owned()],
            },
            agent_runs: true,
            firewall: FirewallFacts {
                rules: Ok(RuleSet { complete: true, ..RuleSet::default() }),
                choice: FirewallChoice::Refuse,
                mark: 0,
                own: Vec::new(),
            },
        },
        agent: Agent::Running(Box::new(status())),
        selftest: SelfTested::Known { best: Some("own cookies work (native)".to_owned()) },
        layouts: vec![layout(ABI_VERSION, NETNS, Usage::Agent(812))],
        netns: Some(NETNS),
    }
}

/// The results of one check.
fn found(facts: &Facts, code: &str) -> Vec<Checked> {
    checked(facts, false).into_iter().filter(|one| one.finding.code == code).collect()
}

fn layout(version: u32, netns: u64, usage: Usage) -> (Layout, Usage) {
    (Layout { version, netns, interfaces: vec!["eth0".to_owned()] }, usage)
}

/// The output of `systemctl show` for the unit as it is shipped, with changes.
fn unit(changes: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let shipped = [
        ("LoadState", "loaded"),
        ("ActiveState", "active"),
        ("UnitFileState", "enabled"),
        ("NeedDaemonReload", "no"),
        ("DropInPaths", ""),
        ("Restart", "always"),
        ("WatchdogUSec", "3s"),
        ("PrivateNetwork", "no"),
        ("PrivateUsers", "no"),
        ("DynamicUser", "no"),
        ("ProcSubset", "all"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_NETLINK AF_UNIX"),
        ("SystemCallFilter", "accept bpf chown close"),
        ("CapabilityBoundingSet", "cap_net_admin cap_perfmon cap_bpf"),
    ];
    let all = shipped.iter().chain(changes);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with_status(facts: &mut Facts, change: impl FnOnce(&mut Status)) {
    let mut status = status();
    change(&mut status);
    facts.agent = Agent::Running(Box::new(status));
}

fn stop(facts: &mut Facts, agent: Agent) {
    if matches!(agent, Agent::NotRunning) {
        facts.layouts = vec![layout(ABI_VERSION, NETNS, Usage::Attached)];
    }
    facts.agent = agent;
    facts.of_host.agent_runs = false;
}

fn link(facts: &mut Facts) -> &mut Link {
    facts.of_host.interfaces[0].link.as_mut().expect("eth0")
}

#[test]
fn nothing_is_wrong_with_a_healthy_host() {
    let doctor = examine(&healthy(), false, now());
    assert_eq!((&doctor.findings, &doctor.unknown), (&Vec::new(), &Vec::new()));
    assert_eq!((doctor.worst(), doctor.complete), (None, true));
}

type Break = fn(&mut Facts);

/// A defect, and the expected result: the check, the outcome, a part of the text, a part of the hint.
type Case = (Break, &'static str, Outcome, &'static str, &'static str);

fn cases() -> impl Iterator<Item = &'static Case> {
    [host::CASES, interfaces::CASES, service::CASES].into_iter().flatten()
}

#[test]
fn what_is_broken_is_found_with_text_and_hint() {
    for (number, (change, code, expected, text, hint)) in cases().enumerate() {
        let mut facts = healthy();
        change(&mut facts);
        let of_check: Vec<Checked> =
            found(&facts, code).into_iter().filter(|one| outcome(one) != PASSED).collect();
        let [found] = &of_check[..] else { panic!("case {number}, {code}: {of_check:#?}") };
        assert_eq!(outcome(found), *expected, "case {number}: {found:#?}");
        assert!(found.finding.text.contains(text), "case {number}: {found:#?}");
        let reported = found.finding.hint.as_deref().unwrap_or_default();
        assert!(reported.contains(hint), "case {number}: {found:#?}");
        assert_eq!(reported.is_empty(), hint.is_empty(), "case {number}: {found:#?}");
        assert!(examine(&facts, false, now()).worst() >= Some(expected.1), "case {number}");
    }
}

#[test]
fn every_check_can_find_something() {
    let tried: BTreeSet<&str> = cases().map(|case| case.1).collect();
    for Checked { finding, .. } in checked(&healthy(), false) {
        assert!(
            finding.code == "agent_health" || tried.contains(finding.code.as_str()),
            "{}",
            finding.code
        );
    }
}

/// Directives that break the sandbox, each on its own, as measured on systemd 252.
#[test]
fn every_directive_that_keeps_the_service_from_working_is_found() {
    for (property, value) in [
        ("PrivateNetwork", "yes"),
        ("PrivateUsers", "yes"),
        ("DynamicUser", "yes"),
        ("ProcSubset", "pid"),
        ("RestrictAddressFamilies", "AF_UNIX"),
        ("RestrictAddressFamilies", "~AF_NETLINK"),
        ("RestrictAddressFamilies", "AF_NETLINK"),
        ("SystemCallFilter", "accept close"),
        ("CapabilityBoundingSet", "cap_net_admin cap_perfmon"),
        ("CapabilityBoundingSet", "cap_bpf cap_perfmon"),
        ("CapabilityBoundingSet", "cap_bpf cap_net_admin"),
        ("Restart", "no"),
        ("LoadState", "masked"),
    ] {
        let mut facts = healthy();
        facts.of_host.service.unit = unit(&[(property, value)]);
        let findings = found(&facts, "unit");
        assert_eq!(findings.len(), 1, "{property}={value}: {findings:#?}");
        assert_eq!(outcome(&findings[0]), CRITICAL, "{property}={value}");
    }
    for (property, value) in [
        ("RestrictAddressFamilies", ""),
        ("RestrictAddressFamilies", "~AF_PACKET"),
        ("SystemCallFilter", ""),
        ("SystemCallFilter", "~mount reboot"),
        ("CapabilityBoundingSet", "cap_net_admin cap_sys_admin"),
        ("Restart", "on-failure"),
    ] {
        let mut facts = healthy();
        facts.of_host.service.unit = unit(&[(property, value)]);
        let findings = found(&facts, "unit");
        assert_eq!(outcome(&findings[0]), PASSED, "{property}={value}: {findings:#?}");
    }
}

#[test]
fn without_securityfs_a_trial_says_whether_kernel_memory_is_read() {
    let mut facts = healthy();
    facts.of_host.kernel.lockdown = None;
    let findings = found(&facts, "lockdown");
    assert_eq!(findings.iter().map(outcome).collect::<Vec<_>>(), [PASSED], "{findings:#?}");
    facts.of_host.kernel.features[3].support = Support::Missing;
    assert_eq!(outcome(&found(&facts, "kernel_features")[0]), PASSED, "the other check reports it");
    facts.of_host.kernel.lockdown = Some("integrity".to_owned());
    assert_eq!(outcome(&found(&facts, "kernel_features")[0]), NOTICE);
}

#[test]
fn pins_of_running_agents_and_empty_directories_are_no_finding() {
    let mut facts = healthy();
    for (netns, usage) in [(8, Usage::Agent(813)), (9, Usage::Empty)] {
        facts.layouts.push(layout(ABI_VERSION, netns, usage));
    }
    let findings = found(&facts, "stale_pins");
    assert_eq!(findings.iter().map(outcome).collect::<Vec<_>>(), [PASSED], "{findings:#?}");
    // An agent that does not answer keeps its pins.
    stop(&mut facts, Agent::Silent("no answer".to_owned()));
    assert_eq!(outcome(&found(&facts, "stale_pins")[0]), PASSED);
}

#[test]
fn checks_refused_for_one_reason_are_reported_once() {
    let mut facts = healthy();
    for feature in &mut facts.of_host.kernel.features {
        feature.support = Support::Refused(libc::EPERM);
    }
    let findings = found(&facts, "kernel_features");
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(outcome(&findings[0]), CRITICAL, "one of them is needed");
    assert!(findings[0].finding.text.contains("XDP programs, raw tracepoints"), "{findings:#?}");
}

#[test]
fn the_agents_findings_are_the_doctors_with_their_severity() {
    let health = [
        Finding::warning("xdp_generic", "words").about("eth0"),
        Finding::notice("one_queue", "words").hint("tcpguard status"),
        Finding::critical("rule_drift", "words"),
    ];
    let mut facts = healthy();
    with_status(&mut facts, |status| status.health = health.to_vec());
    let [warning, notice, critical] = health;
    assert_eq!(examine(&facts, false, now()).findings, [critical, warning, notice]);
}

#[test]
fn the_next_program_of_an_interface_is_named() {
    let mut facts = healthy();
    assert_eq!(found(&facts, "next_program"), []);
    let mut next = NextProgram { name: "balancer".to_owned(), id: Some(42) };
    with_status(&mut facts, |status| status.interfaces[0].next_program = Some(next.clone()));
    let named = found(&facts, "next_program");
    assert_eq!(named.len(), 1, "{named:#?}");
    assert_eq!(outcome(&named[0]), PASSED);
    assert!(named[0].finding.text.contains("handed on to balancer (id 42)"), "{named:#?}");
    // The agent's own finding says why.
    next.id = None;
    with_status(&mut facts, |status| status.interfaces[0].next_program = Some(next));
    assert_eq!(found(&facts, "next_program"), []);
}

#[test]
fn one_interface_can_be_looked_at_alone() {
    let mut facts = healthy();
    link(&mut facts).merges = Some(true);
    facts.of_host.kernel.btf = false;
    let doctor = examine(&facts, true, now());
    let codes: Vec<&str> = doctor.findings.iter().map(|finding| finding.code.as_ref()).collect();
    assert_eq!(codes, ["btf", "lro"], "what every attachment depends on, and the interface");
    assert!(doctor.passed.iter().all(|finding| finding.code != "unit"));
    facts.of_host.kernel.features[0].support = Support::Missing;
    assert_eq!(examine(&facts, true, now()).worst(), Some(Severity::Critical));
}

#[test]
fn rings_and_queues_are_reported_with_the_command() {
    let mut facts = healthy();
    facts.of_host.host.devices = vec![Device {
        name: "eth0".to_owned(),
        driver: None,
        rx_ring: Some(Span { now: 256, max: 4096 }),
        queues: Some(Span { now: 1, max: 4 }),
        lost: Some(3_000),
        rps: None,
    }];
    facts.of_host.tune = judged(&facts.of_host.host, &[], "");
    let findings = found(&facts, "queues");
    let expected =
        [("eth0 rx ring", "ethtool -G eth0 rx 512"), ("eth0 queues", "ethtool -L eth0 combined 4")];
    for (one, (subject, command)) in findings.iter().zip(expected) {
        assert_eq!(outcome(one), NOTICE);
        let Finding { subject: of, hint, .. } = &one.finding;
        assert_eq!((of.as_deref(), hint.as_deref()), (Some(subject), Some(command)));
    }
    assert_eq!(findings.len(), expected.len());
    facts.of_host.interfaces[0].name = "eth1".to_owned();
    assert_eq!(found(&facts, "queues"), []);
}

#[test]
fn without_root_the_document_says_that_it_is_not_whole() {
    let mut facts = healthy();
    facts.of_host.privileges = Privileges { root: false, container: false, effective: 0 };
    let doctor = examine(&facts, false, now());
    assert!(!doctor.complete);
    assert!(doctor.findings.is_empty() && !doctor.unknown.is_empty(), "{doctor:#?}");
}

/// A hint is a command or names the file to edit; nothing else helps at night.
#[test]
fn every_hint_can_be_followed() {
    for (change, ..) in cases() {
        let mut facts = healthy();
        change(&mut facts);
        for Checked { status, finding } in checked(&facts, false) {
            let hint = finding.hint.as_deref();
            let followed = hint.is_none_or(|hint| is_command(hint) || hint.starts_with("edit "));
            assert!(followed, "{finding:#?}");
            // An urgent finding always has a hint.
            let urgent = status != CheckStatus::Passed && finding.severity >= Severity::Warning;
            assert!(!urgent || hint.is_some(), "{finding:#?}");
        }
    }
}
