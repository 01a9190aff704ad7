//! Metrics as a monitoring system gets them: promtool finds no fault with them, and a real Prometheus
//! scrapes them during a flood. Needs root, Prometheus and `TCPGUARD_BIN`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{self, Agent, Mode, RUNTIME_DIR};
use tcpguard_kit::daemon::prometheus::{Prometheus, promtool};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
const TARGET: &str = "127.0.0.1:9469";
const LISTEN: &str = "[metrics]\nlisten = \"127.0.0.1:9469\"\n";

fn packaging(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../packaging/prometheus").join(file)
}

/// Runs promtool, which must find nothing to say.
#[track_caller]
fn assert_faultless(host: &Netns, arguments: &[&str], input: &str) {
    let output = promtool(host, arguments, input).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}{printed}\n{input}");
}

#[test]
fn promtool_finds_no_fault_with_the_alert_rules() {
    let host = Netns::new("promtool").unwrap();
    let path = |file: &str| packaging(file).to_str().unwrap().to_owned();
    assert_faultless(&host, &["check", "rules", &path("alerts.yml")], "");
    assert_faultless(&host, &["test", "rules", &path("alerts_test.yml")], "");
}

#[test]
fn prometheus_sees_a_flood_come_and_raises_the_alarm() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, LISTEN, &[]).unwrap();
    let prometheus = Prometheus::start(&lab.edge, TARGET, &packaging("alerts.yml")).unwrap();
    let wait = |expression: &str, holds: fn(f64) -> bool| {
        prometheus.wait_for(expression, 20 * SECOND, holds).unwrap()
    };
    let is_one = |value: f64| value == 1.0;
    wait("up{job=\"tcpguard\"}", is_one);
    wait("tcpguard_up", is_one);
    wait("tcpguard_state{state=\"protecting\"}", is_one);
    wait("tcpguard_build_info{mode=\"enforce\"}", is_one);
    wait("tcpguard_interface_attached{iface=\"eth0\"}", is_one);
    wait("time() - tcpguard_heartbeat_timestamp_seconds", |age| (0.0..3.0).contains(&age));
    assert_eq!(prometheus.query("ALERTS").unwrap(), []);

    let mut flood = Flood::random(Family::V4.service(), 60 * SECOND);
    flood.rate = 5_000;
    let running = flood.start(&lab).unwrap();
    wait("tcpguard_incident_active{class=\"random_spoofed\"}", is_one);
    wait("tcpguard_incidents_total{class=\"random_spoofed\",severity=\"critical\"}", is_one);
    wait("tcpguard_state{state=\"attack_mitigated\"}", is_one);
    let about = |rate: f64| (3_750.0..6_250.0).contains(&rate);
    wait("sum(rate(tcpguard_syn_packets_total[5s]))", about);
    let stopped = "sum(rate(tcpguard_packets_total{verdict=~\"drop|tx\"}[5s]))";
    wait(stopped, |rate| rate > 2_500.0);
    wait("ALERTS{alertname=\"TcpguardAttack\",alertstate=\"firing\"}", is_one);
    let output = agent::cli(&lab.edge, &["metrics"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_faultless(&lab.edge, &["check", "metrics"], &String::from_utf8(output.stdout).unwrap());
    drop(running);

    // The scraped values are the agent's counters.
    let scraped = wait("tcpguard_syn_packets_total{iface=\"eth0\"}", |syns| syns > 0.0);
    assert!(scraped <= agent.status().unwrap().total("syn") as f64);
}

const BEGIN: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";
const END: &str = "Accept: text/plain\r\n\r\n";

/// Sends `request` and reads all that the agent answers.
fn exchange(mut stream: impl Read + Write, request: &str) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Opens 40 connections with half a head on each, says so, and keeps them.
const SLOW: &str = "trap '' PIPE; for i in {1..40}; do exec {fd}<>/dev/tcp/127.0.0.1/9469; \
                    printf 'GET /metrics HTTP/1.1\r\nX: ' >&$fd; done 2>/dev/null; \
                    echo open; exec sleep 20";

#[test]
fn slow_connections_of_a_user_take_eight_slots_and_none_of_another_users() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start_with(&lab.edge, Mode::Observe, LISTEN, &[]).unwrap();
    let connect = || lab.edge.run(|| Ok(TcpStream::connect(TARGET)?)).unwrap();
    let mut half = connect();
    half.write_all(BEGIN.as_bytes()).unwrap();

    let mut other = lab.edge.command("setpriv").unwrap();
    other.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "bash", "-c", SLOW]);
    let mut other = other.stdout(Stdio::piped()).spawn().unwrap();
    other.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    for _ in 0..12 {
        let answer = exchange(connect(), &[BEGIN, END].concat()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let open = lab.edge.exec("ss -Htn state established sport = :9469").unwrap();
    assert_eq!(open.lines().count(), 8 + 1, "{open}");
    let answer = exchange(half, END).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn the_unix_socket_is_served_without_any_configuration() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let socket = format!("{RUNTIME_DIR}/metrics.sock");
    let request = [BEGIN, END].concat();
    let answer = lab.edge.run(|| exchange(UnixStream::connect(socket)?, &request)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\ntcpguard_build_info{version=\""), "{answer}");
    let listening = lab.edge.exec("ss -Hltn").unwrap();
    assert!(!listening.contains("9469"), "{listening}");
}
