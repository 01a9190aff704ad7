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
        |f| f.of_host.host.listeners[0].backlog = 1,
        "listener_limits",
        WARNING,
        "a backlog of 1,",
        "tcpguard listeners",
    ),
    (
        |f| f.of_host.host.listeners[0].backlog = 100,
        "listener_limits",
        NOTICE,
        "somaxconn 4096",
        "tcpguard listeners",
    ),
    (
        |f| {
            f.of_host.host.listeners[0].backlog = 100;
            f.of_host.host.load.listen_overflows = 12;
        },
        "listener_limits",
        WARNING,
        "12 SYNs and ACKs dropped",
        "tcpguard listeners",
    ),
    (
        |f| f.of_host.host.load.backlog_drops = 3_000,
        "lost_by_cpus",
        WARNING,
        "3000 packets",
        "tcpguard tune",
    ),
    (
        |f| f.of_host.host.load.received_by_busiest = 990_000,
        "receive_skew",
        NOTICE,
        "one of 4 CPUs processed 99%",
        "tcpguard tune",
    ),
    (
        |f| {
            f.of_host.host.load.received_by_busiest = 800_000;
            f.of_host.host.load.squeezed = 7;
        },
        "receive_skew",
        WARNING,
        "overloaded at times",
        "tcpguard tune",
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
