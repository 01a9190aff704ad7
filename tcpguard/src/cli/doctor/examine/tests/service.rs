//! Broken settings, services and agents.

use super::*;

pub(super) const CASES: &[Case] = &[
    // Settings and load.
    (
        |f| f.of_host.tune = judged(&f.of_host.host, &[("net.ipv4.tcp_syncookies", "0")], ""),
        "sysctls",
        WARNING,
        "0 (advised: 1)",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    ),
    (
        |f| f.of_host.tune = judged(&f.of_host.host, &[], "net.ipv4.tcp_tw_recycle = 1\n"),
        "sysctls",
        NOTICE,
        "99-web.conf:1",
        "edit /etc/sysctl.d/99-web.conf",
    ),
    (
        |f| {
            let full = Finding::critical("accept_queue_full", "full");
            f.of_host.listeners = Ok(vec![full.hint("tcpguard listeners")]);
        },
        "accept_queue_full",
        CRITICAL,
        "full",
        "tcpguard listeners",
    ),
    (
        |f| f.of_host.listeners = Err("no netlink".to_owned()),
        "listeners",
        UNKNOWN,
        "no netlink",
        "sudo tcpguard doctor",
    ),
    (
        |f| f.of_host.states = Err("no netlink".to_owned()),
        "states",
        UNKNOWN,
        "no netlink",
        "sudo tcpguard doctor",
    ),
    // The service.
    (
        |f| {
            f.of_host.service.unit =
                unit(&[("PrivateNetwork", "yes"), ("DropInPaths", "/etc/x.conf")])
        },
        "unit",
        CRITICAL,
        "drop-ins: /etc/x.conf",
        "PrivateNetwork=no",
    ),
    (
        |f| f.of_host.service.unit = unit(&[("SystemCallFilter", "~bpf mount")]),
        "unit",
        CRITICAL,
        "bpf(2) is forbidden",
        "SystemCallFilter=bpf",
    ),
    (
        |f| f.of_host.service.unit = unit(&[("ActiveState", "failed"), ("Result", "watchdog")]),
        "unit",
        WARNING,
        "watchdog",
        "journalctl",
    ),
    (
        |f| f.of_host.service.unit = unit(&[("LoadState", "not-found")]),
        "unit",
        NOTICE,
        "by hand",
        "",
    ),
    // The agent.
    (
        |f| stop(f, Agent::Silent("no answer".to_owned())),
        "agent",
        CRITICAL,
        "no answer",
        "systemctl restart",
    ),
    (
        |f| with_status(f, |status| status.daemon.version = "0.0.9".to_owned()),
        "agent_version",
        WARNING,
        "0.0.9",
        "systemctl restart",
    ),
    (
        |f| f.selftest = SelfTested::Known { best: None },
        "cookies",
        WARNING,
        "no SYN cookies work",
        "tcpguard doctor --selftest",
    ),
];
