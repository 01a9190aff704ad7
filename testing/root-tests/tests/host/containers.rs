//! Agents in network namespaces that end, as those of containers do. Needs root and `TCPGUARD_BIN`.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::pins::PIN_DIR;
use tcpguard_kit::net::netns::Netns;

const SECOND: Duration = Duration::from_secs(1);

/// Runs an agent in a network namespace of its own, with the pins of `host`, and returns when it has attached.
fn container(host: &Netns) -> Child {
    let earlier = links(host);
    let program = std::env::var("TCPGUARD_BIN").unwrap();
    let script = format!(
        "ip link add eth0 type veth peer name wire0 && ip link set eth0 up && \
         exec {program} run -i eth0 --runtime-dir /run/pod --state-dir /run/pod-state"
    );
    let mut command = host.command("unshare").unwrap();
    command.args(["--net", "sh", "-c", &script]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut agent = command.spawn().unwrap();
    let begun = Instant::now();
    while links(host) == earlier {
        assert!(begun.elapsed() < 10 * SECOND, "{:?}", agent.try_wait());
        sleep(SECOND / 20);
    }
    agent
}

/// Kills the only process of a container, and returns when the kernel has removed its interfaces.
fn end(mut agent: Child) {
    agent.kill().unwrap();
    agent.wait().unwrap();
    sleep(2 * SECOND);
}

fn links(host: &Netns) -> usize {
    pins(host).iter().filter(|pin| pin.contains("/links/")).count()
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
    end(container(&host));
    assert_eq!(namespaces(&host), 1);
    let mut agent = Agent::start(&host, Mode::Observe).unwrap();
    assert!(agent.log().contains("maps of 1 ended network namespace removed"), "{}", agent.log());
    assert_eq!(namespaces(&host), 1, "{:?}", pins(&host));
    // Its own stay while it is away.
    agent.kill().unwrap();
    agent.start_again(Mode::Observe).unwrap();
    assert_eq!(agent.log().matches("ended network namespace").count(), 1, "{}", agent.log());
    cli(&host, &["detach", "--all"]).unwrap();
}

/// Hints of the doctor's findings about pins.
fn advised(host: &Netns) -> Vec<String> {
    let doctor = cli(host, &["doctor", "--json"]).unwrap();
    let document: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap().iter();
    let hints = findings.filter(|finding| finding["code"] == "stale_pins");
    hints.map(|finding| finding["hint"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn beside_an_agent_the_doctor_reports_pins_without_one_and_its_command_removes_them() {
    let host = Netns::new("edge").unwrap();
    host.ip(&["link add eth0 type veth peer name wire0", "link set eth0 up", "link set wire0 up"])
        .unwrap();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    let of_container = container(&host);
    assert_eq!(advised(&host), [""; 0], "each namespace has its agent");
    end(of_container);
    let [remove] = &advised(&host)[..] else { panic!("{:?}", pins(&host)) };
    host.exec(remove).unwrap();
    assert_eq!((advised(&host), namespaces(&host)), (Vec::new(), 1), "{:?}", pins(&host));
    assert_eq!(agent.status().unwrap().state(), "protecting");
}
