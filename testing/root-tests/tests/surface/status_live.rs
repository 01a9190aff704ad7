//! Losses and costs in `tcpguard status`, and the time that it takes. Needs root and `TCPGUARD_BIN`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use tcpguard_common::abi::{Addr, Client, SourceSet, WAYS, maps};
use tcpguard_kit::daemon::agent::{self, Agent, Mode, RUNTIME_DIR};
use tcpguard_kit::daemon::tamper::PinnedMap;
use tcpguard_kit::daemon::terminal::Terminal;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// `net.core.netdev_max_backlog` of the whole machine, put back when this is dropped.
struct Backlog {
    before: String,
}

impl Backlog {
    const PATH: &str = "/proc/sys/net/core/netdev_max_backlog";

    fn set(packets: u32) -> Self {
        let before = fs::read_to_string(Self::PATH).unwrap();
        fs::write(Self::PATH, packets.to_string()).unwrap();
        Self { before }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::PATH, &self.before) {
            eprintln!("{} is not {} again: {error}", Self::PATH, self.before.trim());
        }
    }
}

#[test]
fn a_page_that_is_drawn_again_is_as_wide_as_the_terminal_is_then() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let terminal = Terminal::open(&lab.edge, (80, 50), &[]).unwrap();
    let binary = agent::binary().unwrap();
    let line = format!("{} status --watch --runtime-dir {RUNTIME_DIR}", binary.display());
    terminal.run(&line).unwrap();
    // Its right end is at the page's.
    let headline_ends_at = |columns: usize| {
        move |screen: &str| {
            let mut lines = screen.lines().filter(|line| line.contains("mode observe"));
            lines.any(|line| line.chars().count() == columns)
        }
    };
    for columns in [80, 120, 90] {
        terminal.resize(columns, 50).unwrap();
        let what = format!("a headline of {columns} columns");
        terminal.wait_until(&what, headline_ends_at(columns.into())).unwrap();
    }
}

#[test]
fn packets_that_a_backlog_drops_are_the_headline() {
    let mut lab = Lab::new(LabOptions::default()).unwrap();
    // The sender is on one CPU and its packets are received on the other, so that a backlog is between
    // them as between a card's interrupt and a busy CPU.
    lab.client.keep_on_cpu(1);
    lab.edge.write(&format!("/sys/class/net/{INTERFACE}/queues/rx-0/rps_cpus"), "1").unwrap();
    // Generic: natively the XDP program comes before the backlog.
    let arguments = ["--xdp-mode", "generic"];
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, "", &arguments).unwrap();
    let calm = agent.status().unwrap();
    assert_eq!(calm.state(), "protecting");

    let backlog = Backlog::set(1);
    // Datagrams: a flood of SYNs would be an attack as well, and that is the headline until it is mitigated.
    let over = Arc::new(AtomicBool::new(false));
    let datagrams = lab.client.spawn("datagrams", send_datagrams(Arc::clone(&over))).unwrap();
    let losing = agent
        .wait_until("losses are the headline", 15 * SECOND, |status| {
            status.state() == "dropped_before_xdp"
        })
        .unwrap();
    let text = agent.status_text().unwrap();
    over.store(true, Relaxed);
    datagrams.join().unwrap().unwrap();
    drop(backlog);

    let losses = &losing.document()["losses"];
    assert_eq!(losses["state"], "heavy", "{losses:#}");
    let dropped = |cpu: &Value| cpu["dropped_pps"].as_f64().unwrap();
    let cpus = losses["cpus"].as_array().unwrap();
    assert!(cpus.iter().map(dropped).sum::<f64>() >= 10.0, "{losses:#}");
    assert!(losing.health().iter().any(|(code, _)| code == "dropped_before_xdp"), "{losing:?}");
    let headline = text.lines().next().unwrap();
    assert!(headline.contains("PACKETS DROPPED BEFORE XDP"), "{text}");
    assert!(text.contains("packets dropped before XDP (ring 0/s, backlog "), "{text}");
    agent.wait_until("all is well", 15 * SECOND, |it| it.state() == "protecting").unwrap();
}

/// Sends some 50,000 datagrams a second to a port without a socket until it is `over`, for 20 s at most.
fn send_datagrams(over: Arc<AtomicBool>) -> impl FnOnce() -> Result<()> + Send + 'static {
    move || {
        let nowhere = SocketAddr::new(Family::V4.edge(), 9);
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let begun = Instant::now();
        while !over.load(Relaxed) && begun.elapsed() < 20 * SECOND {
            for _ in 0..64 {
                socket.send_to(&[0; 18], nowhere)?;
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Returns the value in the line of `tcpguard metrics` that begins with `name`.
fn metric(host: &Netns, name: &str) -> Option<f64> {
    let output = agent::cli(host, &["metrics"]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// Clients at 20 a second for long enough to be the baseline.
fn clients_and_their_baseline(lab: &Lab, agent: &Agent<'_>) -> Load {
    let load = Load::start(&lab.client, Family::V4.service(), 20).unwrap();
    agent
        .wait_until("the baseline is known", 20 * SECOND, |status| {
            status.document()["clients"]["ratio"].as_f64().is_some_and(|ratio| ratio > 0.95)
        })
        .unwrap();
    load
}

/// The SYNs that a rule drops are no clients that fail: status, check and metrics say by one number that
/// all connect.
#[test]
fn where_all_clients_connect_every_surface_says_so() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = clients_and_their_baseline(&lab, &agent);
    let mut flood = Flood::random(Family::V4.service(), 60 * SECOND);
    flood.rate = 5_000;
    let running = flood.start(&lab).unwrap();
    agent.wait_for_rule(5 * SECOND).unwrap();
    sleep(8 * SECOND);
    running.goes_on().unwrap();

    let status = agent.status().unwrap();
    let document = status.document();
    assert_eq!(status.state(), "attack_mitigated");
    for pointer in ["/clients", "/incidents/0/clients"] {
        let clients = document.pointer(pointer).unwrap();
        assert!(clients["ratio"].as_f64().is_some_and(|ratio| ratio >= 0.9), "{clients:#}");
    }
    let text = agent.status_text().unwrap();
    let line = text.lines().find(|line| line.starts_with("  Clients  ")).unwrap();
    assert!(line.contains(" handshakes/s at "), "{text}");
    assert!(line.contains("(baseline ") && line.ends_with("/s)"), "{text}");

    let output = agent::cli(&lab.edge, &["check", "--crit", "clients=90:"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(" handshakes/s (baseline "), "{said}");
    let ratio = metric(&lab.edge, "tcpguard_listener_clients_ratio{").unwrap();
    assert!(ratio >= 0.9, "{ratio}");
    let completed = metric(&lab.edge, "tcpguard_listener_handshakes_completed_total{").unwrap();
    drop(running);
    let served = load.finish().unwrap();
    println!("{}; {}", served.summary(), line.trim());
    assert!(completed >= 20.0 * 8.0, "{completed}");
}

/// A host with a full queue and without cookies: nothing is done about it, and every output says so.
#[test]
fn where_clients_are_locked_out_every_surface_says_so() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let _load = clients_and_their_baseline(&lab, &agent);
    let mut flood = Flood::random(Family::V4.service(), 60 * SECOND);
    flood.rate = 5_000;
    let running = flood.start(&lab).unwrap();
    agent
        .wait_until("clients are locked out", 20 * SECOND, |status| {
            // They are before the flood is recognised.
            let few = status.document()["clients"]["ratio"].as_f64().is_some_and(|it| it < 0.5);
            few && status.state() == "attack_unmitigated"
        })
        .unwrap();
    let text = agent.status_text().unwrap();
    let line = text.lines().find(|line| line.starts_with("  Clients  ")).unwrap();
    assert!(line.ends_with("MOST CLIENTS FAIL"), "{text}");
    assert!(text.contains("tcpguard mode enforce --rollback-after 60s"), "{text}");

    let output = agent::cli(&lab.edge, &["check", "--crit", "clients=50:"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("MOST CLIENTS FAIL"), "{said}");
    // The inputs of the alert rule: both numbers, of the same listener.
    let ratio = metric(&lab.edge, "tcpguard_listener_clients_ratio{addr=\"::\",port=\"443\"}");
    assert!(ratio.is_some_and(|ratio| ratio < 0.5), "{ratio:?}");
    let sources = metric(&lab.edge, "tcpguard_sources_estimate{addr=\"::\",port=\"443\"}");
    assert!(sources.is_some(), "{text}");
    drop(running);
}

/// Returns the number of runs of the programs, as far as the kernel counted them.
fn runs(agent: &Agent<'_>) -> u64 {
    let status = agent.status().unwrap();
    let programs = status.document()["programs"].as_array().unwrap().clone();
    programs.iter().map(|program| program["runs"].as_u64().unwrap()).sum()
}

/// Under traffic, no run of a program is counted.
#[track_caller]
fn assert_not_counted(agent: &Agent<'_>) {
    let syns = || agent.status().unwrap().total("syn");
    let (before, traffic) = (runs(agent), syns());
    sleep(SECOND);
    assert!(syns() > traffic, "there is traffic");
    assert_eq!(runs(agent), before, "the kernel still counts");
}

#[test]
fn costs_are_measured_and_nothing_stays_switched_on() {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
    let switch = || fs::read_to_string(SWITCH).unwrap().trim().to_owned();
    assert_eq!(switch(), "0", "somebody has switched {SWITCH} on: this test cannot tell then");
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let mut flood = Flood::random(Family::V4.service(), 60 * SECOND);
    flood.rate = 5_000;
    let running = flood.start(&lab).unwrap();
    assert_not_counted(&agent);

    let output = agent::cli(&lab.edge, &["status", "--cost", "--json"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let programs = status["programs"].as_array().unwrap();
    let ingress = programs.iter().find(|one| one["name"] == "tcpguard_ingress").unwrap();
    let cost = |field: &str| ingress["cost"][field].as_f64().unwrap();
    assert!((4_000.0..8_000.0).contains(&cost("runs_pps")), "{ingress:#}");
    assert!((50.0..50_000.0).contains(&cost("ns_per_run")), "{ingress:#}");
    assert!((0.0..1.0).contains(&cost("cpu_ratio")), "{ingress:#}");
    assert_eq!(switch(), "0");
    assert_not_counted(&agent);

    // Killed in the middle of it.
    let mut asking = lab.edge.command(agent::binary().unwrap()).unwrap();
    asking.args(["status", "--cost", "--runtime-dir", RUNTIME_DIR]).stdout(Stdio::null());
    let mut asking = asking.spawn().unwrap();
    let (begun, before) = (Instant::now(), runs(&agent));
    while runs(&agent) == before {
        assert!(begun.elapsed() < SECOND, "it never began to count");
    }
    asking.kill().unwrap();
    asking.wait().unwrap();
    assert_eq!(switch(), "0");
    assert_not_counted(&agent);
    drop(running);
}

/// The `number`th of many sources.
fn one_of_many(number: u32) -> Addr {
    Addr::from_v4(Ipv4Addr::from_bits((100 << 24) + number).octets())
}

/// The tables of sources and of clients.
fn tables(host: &Netns) -> [PinnedMap; 2] {
    let sets = PinnedMap::open(host, maps::SOURCES, size_of::<u32>(), size_of::<SourceSet>());
    let clients = PinnedMap::open(host, maps::CLIENTS, size_of::<Addr>(), size_of::<Client>());
    [sets.unwrap(), clients.unwrap()]
}

/// Fills both.
fn fill([sets, clients]: &[PinnedMap; 2]) {
    let set = SourceSet { tags: [7; WAYS], ..SourceSet::default() };
    let bytes: Vec<u8> = set.tags.iter().flat_map(|tag| tag.to_ne_bytes()).collect();
    let rest = vec![0; size_of::<SourceSet>() - bytes.len()];
    for at in 0..maps::SOURCE_SETS {
        sets.set(&at.to_ne_bytes(), &[bytes.clone(), rest.clone()].concat()).unwrap();
    }
    // More than there is room for: a table that evicts is a full one.
    for number in 0..2 * maps::MAX_CLIENTS {
        clients.set(&one_of_many(number).octets(), &[0; size_of::<Client>()]).unwrap();
    }
}

/// Entries of a table, as the status shows it.
fn entries(status: &Value, name: &str) -> u64 {
    let maps = status["maps"].as_array().unwrap();
    let map = maps.iter().find(|map| map["name"] == name).unwrap();
    map["entries"].as_u64().unwrap_or(0)
}

/// A status is asked for when the host is in trouble; and a monitoring system asks each few seconds.
///
/// Its time is compared with a start of the same program, since machines differ. Either begins after a pause:
/// the caches are cold, as they are for an operator.
#[test]
fn a_status_takes_four_starts_however_full_the_tables_are() {
    const LISTENERS: u16 = 256;
    const ASKED: usize = 20;
    const STARTS: u32 = 4;
    let lab = Lab::new(LabOptions::default()).unwrap();
    let listen = || -> Result<Vec<TcpListener>> {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let ports = 10_000..10_000 + LISTENERS;
        Ok(ports.map(|port| TcpListener::bind((any, port))).collect::<Result<_, _>>()?)
    };
    let _listeners = lab.edge.run(listen).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let tables = tables(&lab.edge);
    fill(&tables);
    agent
        .wait_until("the agent has seen them", 15 * SECOND, |status| {
            let document = status.document();
            entries(document, maps::CLIENTS) > u64::from(maps::MAX_CLIENTS) * 3 / 4
                && entries(document, maps::SOURCES) > u64::from(maps::MAX_SOURCES) * 3 / 4
        })
        .unwrap();

    let timed = |arguments: &[&str]| {
        // Out of phase with the agent's polls.
        sleep(Duration::from_millis(87));
        let begun = Instant::now();
        let output = agent::cli(&lab.edge, arguments).unwrap();
        (begun.elapsed(), output)
    };
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    let mut oldest = 0;
    for _ in 0..ASKED {
        starts.push(timed(&["version"]).0);
        let (time, output) = timed(&["status", "--json"]);
        times.push(time);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(status["listeners"].as_array().unwrap().len() >= usize::from(LISTENERS));
        oldest = oldest.max(status["sources_age_ms"].as_u64().unwrap());
    }
    // What a status would take in addition if it read the tables itself.
    let begun = Instant::now();
    tables.iter().for_each(|table| _ = table.entries().unwrap());
    let naive = begun.elapsed();
    times.sort();
    starts.sort();
    let (median, p99, start) = (times[ASKED / 2], times[ASKED * 99 / 100], starts[ASKED / 2]);
    println!("status with {LISTENERS} listeners and full tables: median {median:?}, p99 {p99:?}");
    println!(
        "start of the program: median {start:?}; sources of a status are at most {oldest} ms old"
    );
    println!("naive: reading both tables takes {naive:?}");
    assert!(median <= STARTS * start, "median {median:?}, a start {start:?}");
    assert!(naive > STARTS * start, "{naive:?}: the limit would allow to read the tables");
    assert!(oldest <= 5_500, "{oldest} ms");
}
