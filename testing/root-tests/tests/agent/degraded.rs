//! Behaviour of the agent when a part of its host fails: it goes on with the rest and reports the failure,
//! and gives no sign of life when it cannot go on. Needs root and `TCPGUARD_BIN`.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::sleep;
use std::time::Duration;

use tcpguard_common::abi::{Config, ListenerEntry};
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::tamper::PinnedMap;
use tcpguard_kit::net::netns::Netns;

const SECOND: Duration = Duration::from_secs(1);

fn host() -> Netns {
    let host = Netns::new("edge").unwrap();
    host.ip(&["link add eth0 type veth peer name wire0", "link set eth0 up", "link set wire0 up"])
        .unwrap();
    host
}

/// The last sign of life that the programs have of the agent, in ns of boot time.
fn heartbeat(host: &Netns) -> u64 {
    let config = PinnedMap::open(host, "CONFIG", 4, size_of::<Config>()).unwrap();
    let value = config.get(&[0; 4]).unwrap();
    let place = std::mem::offset_of!(Config, heartbeat_ns);
    u64::from_ne_bytes(value[place..place + 8].try_into().unwrap())
}

#[test]
fn a_resolv_conf_that_cannot_be_read_stops_neither_start_nor_polls() {
    let host = host();
    // To open a socket is an error, also for root.
    let _socket = host.run(|| Ok(UnixListener::bind("/run/unreadable")?)).unwrap();
    host.exec("mount --bind /run/unreadable /etc/resolv.conf").unwrap();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    let unread = |health: &[(String, String)]| {
        health.iter().any(|(code, text)| {
            code == "source_unread" && text.starts_with("/etc/resolv.conf unreadable for")
        })
    };
    let status = agent.status().unwrap();
    assert!(unread(&status.health()), "{:?}", status.health());
    // It is read again every five seconds.
    sleep(6 * SECOND);
    let before = heartbeat(&host);
    sleep(SECOND);
    assert!(heartbeat(&host) > before, "polls go on: {}", agent.log());
    assert!(!agent.log().contains("poll failed"), "{}", agent.log());

    host.exec("umount /etc/resolv.conf").unwrap();
    agent.wait_until("read again", 7 * SECOND, |status| !unread(&status.health())).unwrap();
}

#[test]
fn an_agent_whose_polls_fail_gives_no_sign_of_life() {
    let host = host();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    let before = heartbeat(&host);
    sleep(SECOND);
    assert!(heartbeat(&host) > before);

    // The agent can no longer add a new listener to the frozen map, so each poll fails.
    let entries = size_of::<ListenerEntry>();
    PinnedMap::open(&host, "LISTENER_ENTRIES", 4, entries).unwrap().freeze().unwrap();
    let _listener = host.run(|| Ok(TcpListener::bind("0.0.0.0:8443")?)).unwrap();
    sleep(SECOND);
    assert!(agent.log().contains("poll failed"), "{}", agent.log());
    let before = heartbeat(&host);
    sleep(2 * SECOND);
    assert_eq!(heartbeat(&host), before, "a sign of life of polls that did nothing");
}
