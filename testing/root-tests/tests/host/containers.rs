//! Agents in network namespaces that end, as those of containers do. Needs root and `TCPGUARD_BIN`.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::pins::PIN_DIR;
use tcpguard_kit::net::netns::Netns;

const SECOND: Duration = Duration::from_secs(1);

/// Runs an agent in a network namespace of its own, with the pins of `host`, until it has attached, and kills it.
fn container_that_ends(host: &Netns) {
    let program = std::env::var("TCPGUARD_BIN").unwrap();
    let script = format!(
        "ip link add eth0 type veth peer name wire0 && ip link set eth0 up && \
         exec {program} run -i eth0 --runtime-dir /run/pod --state-dir /run/pod-state"
    );
    let mut command = host.command("unshare").unwrap();
    command.args(["--net", "sh", "-c", &script]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut agent = command.spawn().unwrap();
    let begun = Instant::now();
    while !pins(host).iter().any(|pin| pin.contains("/links/")) {
        assert!(begun.elapsed() < 10 * SECOND, "{:?}", agent.try_wait());
        sleep(SECOND / 20);
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}

fn pins(host: &Netns) -> Vec<String> {
    let found = host.exec(&format!("find {PIN_DIR} -type f")).unwrap_or_default();
    found.lines().map(str::to_owned).collect()
}

fn namespaces(host: &Netns) -> usize {
    let found = host.exec(&format!("find {PIN_DIR} -mindepth 1 -maxdepth 1 -name v*")).unwrap();
    found.lines().count()
}

#[test]
fn pins_of_ended_namespaces_are_removed_and_those_of_others_stay() {
    let host = Netns::new("edge").unwrap();
    host.ip(&["link add eth0 type veth peer name wire0", "link set eth0 up", "link set wire0 up"])
        .unwrap();
    container_that_ends(&host);
    assert_eq!(namespaces(&host), 1);
    // The kernel removes the namespace's interfaces some time after its last process.
    sleep(2 * SECOND);
    let mut agent = Agent::start(&host, Mode::Observe).unwrap();
    assert!(agent.log().contains("maps of 1 ended network namespace removed"), "{}", agent.log());
    assert_eq!(namespaces(&host), 1, "{:?}", pins(&host));
    // Its own stay while it is away.
    agent.kill().unwrap();
    agent.start_again(Mode::Observe).unwrap();
    assert_eq!(agent.log().matches("ended network namespace").count(), 1, "{}", agent.log());
    cli(&host, &["detach", "--all"]).unwrap();
}
