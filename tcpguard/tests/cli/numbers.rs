//! The status in numbers, and of one interface only.

use super::host::Host;
use super::support::{calm, degraded, losing, status};

#[test]
fn metrics_are_text_and_no_json() {
    let host = Host::with(status(calm()));
    let plain = host.run(&["metrics"]);
    assert_eq!((plain.code, &*plain.stderr), (Some(0), ""), "{plain:#?}");
    assert!(plain.stdout.contains("\n# TYPE tcpguard_packets_total counter\n"), "{plain:#?}");
    let usage = host.run(&["metrics", "--json"]);
    assert_eq!((usage.code, &*usage.stdout), (Some(2), ""), "{usage:#?}");
    assert!(usage.stderr.ends_with("hint: tcpguard status --json\n"), "{usage:#?}");
}

#[test]
fn that_there_is_no_agent_is_a_number_too() {
    let host = Host::without_agent();
    let outcome = host.run(&["metrics"]);
    let expected = "# HELP tcpguard_up 1 if the agent responds, else 0.\n# TYPE tcpguard_up gauge\n\
                    tcpguard_up 0\n";
    assert_eq!((outcome.code, &*outcome.stdout), (Some(3), expected), "{outcome:#?}");
    assert!(outcome.stderr.ends_with("systemctl start tcpguard\n"), "{outcome:#?}");
}

#[test]
fn one_interface_is_shown_if_it_is_attached() {
    let host = Host::with(status(degraded()));
    let one = host.run(&["status", "-i", "eth1"]);
    assert_eq!(one.code, Some(0), "{one:#?}");
    assert!(one.stdout.contains("\neth1 "), "{one:#?}");
    assert!(!one.stdout.contains("\neth0 "), "{one:#?}");
    let json = host.run(&["status", "-i", "eth1", "--json"]).json();
    assert_eq!(json["interfaces"].as_array().map(Vec::len), Some(1));
    host.run(&["status", "-i", "eth9"]).is(
        5,
        "",
        "error: eth9 is not protected (protected: eth0, eth1)\n\
         hint: add it in /etc/tcpguard/tcpguard.toml ([interfaces] names)\n",
    );
}

/// `--wait healthy` continues to wait on a host that loses clients' packets.
#[test]
fn a_host_that_loses_packets_is_not_healthy() {
    let host = Host::with(status(losing()));
    let brief = host.run(&["status", "--brief"]);
    assert!(brief.stdout.contains("PACKETS DROPPED BEFORE XDP"), "{brief:#?}");
    let waiting = host.run(&["status", "--wait", "healthy", "--timeout", "1s"]);
    assert_eq!(waiting.code, Some(1), "{waiting:#?}");
    assert!(waiting.stderr.ends_with("hint: tcpguard status\n"), "{waiting:#?}");
}

#[test]
fn costs_take_a_second_and_fit_neither_one_line_nor_waiting() {
    let host = Host::with(status(calm()));
    for line in [["status", "--cost", "--brief"], ["status", "--cost", "--wait=healthy"]] {
        assert_eq!(host.run(&line).code, Some(2), "{line:?}");
    }
}
