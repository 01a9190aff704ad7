//! Checks of the service manager and the unit's settings.

use std::collections::BTreeMap;

use super::super::document::Checked;
use super::super::facts::{ConfigFacts, Facts};

pub(in super::super) fn config(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "configuration";
    let running = facts.agent_runs;
    let (path, findings) = match &facts.config {
        ConfigFacts::Absent { path } => {
            let words = "no configuration file: the defaults name no interface";
            let hint = "tcpguard config init";
            let finding = match running {
                true => Checked::notice(CODE, words).hint(hint),
                false => Checked::warning(CODE, words).hint(hint),
            };
            (path, vec![finding])
        }
        ConfigFacts::Valid { path, interfaces } if interfaces.is_empty() && !running => {
            let words = "valid, but names no interface: the service does not start";
            let hint = format!("edit {}: [interfaces] names", path.display());
            (path, vec![Checked::critical(CODE, words).hint(hint)])
        }
        ConfigFacts::Valid { path, interfaces } => {
            let interfaces = match interfaces.is_empty() {
                true => "the agent's interfaces are set elsewhere".to_owned(),
                false => format!("interfaces: {}", interfaces.join(", ")),
            };
            (path, vec![Checked::passed(CODE, format!("valid; {interfaces}"))])
        }
        ConfigFacts::Invalid { path, problems } => {
            let hint = format!("edit {}, then: tcpguard config check", path.display());
            let finding = |problem: &String| Checked::critical(CODE, problem).hint(&hint);
            (path, problems.iter().map(finding).collect())
        }
        ConfigFacts::Unreadable { path, reason } => {
            let hint = format!("sudo tcpguard config check {}", path.display());
            (path, vec![Checked::unknown(CODE, reason).hint(hint)])
        }
    };
    let path = path.display().to_string();
    findings.into_iter().map(|finding| finding.about(&path)).collect()
}

/// A directive of a unit that breaks the agent, and the reason (measured on systemd 252).
struct Breaks {
    property: &'static str,
    broken: fn(&str) -> bool,
    why: &'static str,
    fix: &'static str,
}

fn is_yes(value: &str) -> bool {
    value == "yes"
}

/// Returns whether a list of allowed names lacks `name`; `~` begins a list of forbidden ones.
pub(super) fn lacks(list: &str, name: &str) -> bool {
    let (forbidden, names) = match list.strip_prefix('~') {
        Some(names) => (true, names),
        None => (false, list),
    };
    let named = names.split_whitespace().any(|word| word.eq_ignore_ascii_case(name));
    !list.is_empty() && named == forbidden
}

const BREAKS: [Breaks; 12] = [
    Breaks {
        property: "PrivateNetwork",
        broken: is_yes,
        why: "the service runs in its own network namespace, without the interfaces",
        fix: "PrivateNetwork=no",
    },
    Breaks {
        property: "PrivateUsers",
        broken: is_yes,
        why: "capabilities in a user namespace do not count for BPF (EPERM)",
        fix: "PrivateUsers=no",
    },
    Breaks {
        property: "DynamicUser",
        broken: is_yes,
        why: "a dynamic user loses access to its pins (EACCES)",
        fix: "DynamicUser=no",
    },
    Breaks {
        property: "ProcSubset",
        broken: |value| value == "pid",
        why: "/proc/net/netstat and /proc/sys are hidden",
        fix: "ProcSubset=all",
    },
    Breaks {
        property: "RestrictAddressFamilies",
        broken: |value| lacks(value, "AF_NETLINK"),
        why: "interfaces and listeners cannot be read without netlink",
        fix: "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
    },
    Breaks {
        property: "RestrictAddressFamilies",
        broken: |value| lacks(value, "AF_UNIX"),
        why: "commands cannot reach the agent without Unix sockets",
        fix: "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
    },
    Breaks {
        property: "SystemCallFilter",
        broken: |value| lacks(value, "bpf"),
        why: "bpf(2) is forbidden (EPERM). It is part of @privileged and must be allowed last.",
        fix: "SystemCallFilter=bpf",
    },
    Breaks {
        property: "CapabilityBoundingSet",
        broken: |value| lacks(value, "cap_bpf") && lacks(value, "cap_sys_admin"),
        why: "CAP_BPF is unavailable",
        fix: "CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
    },
    Breaks {
        property: "CapabilityBoundingSet",
        broken: |value| lacks(value, "cap_net_admin"),
        why: "CAP_NET_ADMIN is unavailable",
        fix: "CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
    },
    Breaks {
        property: "CapabilityBoundingSet",
        broken: |value| lacks(value, "cap_perfmon") && lacks(value, "cap_sys_admin"),
        why: "CAP_PERFMON is unavailable, and the verifier rejects the programs without it",
        fix: "CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
    },
    Breaks {
        property: "Restart",
        broken: |value| value == "no",
        why: "the agent is not restarted, and the XDP program fails open 30s after its end",
        fix: "Restart=always",
    },
    Breaks {
        property: "LoadState",
        broken: |value| value == "masked",
        why: "the unit is masked and cannot start",
        fix: "",
    },
];

/// The properties of `systemctl show` that the checks read.
pub const PROPERTIES: [&str; 19] = [
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "Result",
    "ExecMainStatus",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "Restart",
    "NRestarts",
    "WatchdogUSec",
    "PrivateNetwork",
    "PrivateUsers",
    "DynamicUser",
    "ProcSubset",
    "RestrictAddressFamilies",
    "SystemCallFilter",
    "CapabilityBoundingSet",
    "User",
];

pub(in super::super) fn unit(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "unit";
    let unit = &facts.service.unit;
    let property = |name: &str| unit.get(name).map_or("", String::as_str);
    if facts.service.systemd && unit.is_empty() {
        let words = "systemctl shows nothing of tcpguard.service to this user";
        return vec![Checked::notice(CODE, words).hint("sudo tcpguard doctor")];
    }
    if !facts.service.systemd {
        let words = "systemd is not running: make sure that the agent is restarted when it ends";
        return vec![Checked::notice(CODE, words)];
    }
    if property("LoadState") == "not-found" {
        let words = "tcpguard.service is not installed: the agent has to be started by hand";
        return vec![Checked::notice(CODE, words).about("tcpguard.service")];
    }
    let drop_ins = property("DropInPaths");
    let broken = BREAKS.iter().filter(|directive| (directive.broken)(property(directive.property)));
    let mut findings: Vec<Checked> = broken
        .map(|directive| {
            let by = match drop_ins {
                "" => String::new(),
                files => format!(" (drop-ins: {files})"),
            };
            let value = shortened(property(directive.property));
            let text = format!("{}={value}: {}{by}", directive.property, directive.why);
            let hint = match directive.fix {
                "" => "systemctl unmask tcpguard".to_owned(),
                line => format!("edit by `systemctl edit tcpguard`: [Service] {line}"),
            };
            Checked::critical(CODE, text).hint(hint)
        })
        .collect();
    findings.extend(state(CODE, unit));
    if findings.is_empty() {
        let words = match drop_ins {
            "" => "the sandbox permits the agent".to_owned(),
            files => format!("the sandbox permits the agent, with drop-ins: {files}"),
        };
        findings.push(Checked::passed(CODE, words));
    }
    findings.into_iter().map(|finding| finding.about("tcpguard.service")).collect()
}

/// A list of system calls has hundreds of names.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

/// Problems of the service in its present state.
fn state(id: &str, unit: &BTreeMap<String, String>) -> Vec<Checked> {
    let property = |name: &str| unit.get(name).map_or("", String::as_str);
    let mut findings = Vec::new();
    if property("NeedDaemonReload") == "yes" {
        let words = "unit files changed on disk and not reloaded";
        findings.push(Checked::warning(id, words).hint("systemctl daemon-reload"));
    }
    if property("ActiveState") == "failed" {
        let words =
            format!("failed: {}, exit code {}", property("Result"), property("ExecMainStatus"));
        findings.push(Checked::warning(id, words).hint("journalctl -u tcpguard -e"));
    }
    if property("UnitFileState") == "disabled" && property("ActiveState") == "active" {
        let words = "running, but not enabled at boot";
        findings.push(Checked::warning(id, words).hint("systemctl enable tcpguard"));
    }
    if property("WatchdogUSec") == "0" {
        let words = "no watchdog: a hanging agent is not restarted";
        let hint = "edit by `systemctl edit tcpguard`: [Service] WatchdogSec=3s";
        findings.push(Checked::warning(id, words).hint(hint));
    }
    findings
}
