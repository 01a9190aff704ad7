//! `tcpguard listeners` and the kernel's rule behind it, on this kernel. Needs root and
//! `TCPGUARD_BIN`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, process};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::set_thread_res_uid;
use serde_json::Value;
use tcpguard_host::linux::{HalfOpen, SockDiag, Sysctls, TcpState};
use tcpguard_host::listeners::limits;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::peak;
use tcpguard_kit::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// Time within which a listener is monitored, or reported as not monitored.
const LIMIT: Duration = Duration::from_secs(20);
/// Time for which a client tries to connect that is not to get in.
const BRIEFLY: Duration = Duration::from_millis(300);

#[track_caller]
fn report(host: &Netns, line: &[&str]) -> Value {
    let output = cli(host, line).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn listener_on(report: &Value, port: u16) -> &Value {
    let mut listeners = report["listeners"].as_array().unwrap().iter();
    listeners.find(|it| it["port"] == port).unwrap_or_else(|| panic!("{port} in {report}"))
}

fn codes(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|it| (it["code"].as_str().unwrap(), it["subject"].as_str().unwrap())).collect()
}

/// Binds and listens with this backlog.
fn listen(at: SocketAddr, backlog: i32) -> Result<OwnedFd> {
    let family = if at.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    // Whatever is started meanwhile is not to have it too.
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

#[test]
fn a_full_accept_queue_drops_at_its_listener_only() {
    for (full, other) in [("127.0.0.1:8001", "127.0.0.1:8002"), ("[::1]:8001", "[::1]:8002")] {
        let host = Netns::new("full").unwrap();
        let full: SocketAddr = full.parse().unwrap();
        let other: SocketAddr = other.parse().unwrap();
        let kept = host.run(|| Ok((listen(full, 4)?, listen(other, 4)?))).unwrap();
        let connect = || (0..5).map(|_| Ok(TcpStream::connect(full)?)).collect::<Result<Vec<_>>>();
        let clients = host.run(connect).unwrap();
        let before = report(&host, &["listeners", "--json"]);
        let queue = &listener_on(&before, full.port())["accept"];
        assert_eq!((&queue["waiting"], &queue["limit"]), (&5.into(), &4.into()));

        host.run(|| Ok(TcpStream::connect_timeout(&full, BRIEFLY).err()))
            .unwrap()
            .expect("the accept queue is full");
        let after = report(&host, &["listeners", "--json"]);
        assert_eq!(listener_on(&before, full.port())["drops"], 0);
        assert!(listener_on(&after, full.port())["drops"].as_u64() > Some(0), "{after}");
        assert_eq!(listener_on(&after, other.port())["drops"], 0);
        assert!(after["host"]["overflows"].as_u64() > Some(0), "{after}");
        assert_eq!(codes(&after), [("accept_queue_full", full.to_string().as_str())]);
        let page = String::from_utf8(cli(&host, &["listeners"]).unwrap().stdout).unwrap();
        assert!(page.contains("5/4"), "{page}");
        drop((kept, clients));
    }
}

#[test]
fn the_sockets_of_a_group_are_listed_one_by_one() {
    let host = Netns::new("group").unwrap();
    let at: SocketAddr = "127.0.0.1:8001".parse().unwrap();
    let kept = host.run(|| Ok([listen(at, 100)?, listen(at, 28)?])).unwrap();
    let found = report(&host, &["listeners", "--json"]);
    let group = listener_on(&found, 8001);
    assert_eq!((&group["accept"]["limit"], &group["syn"]["limit"]), (&128.into(), &128.into()));
    let mut limits: Vec<_> = group["sockets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["accept_limit"].as_u64().unwrap())
        .collect();
    limits.sort_unstable();
    assert_eq!(limits, [28, 100]);
    drop(kept);
}

#[test]
fn somaxconn_counts_at_the_moment_of_listen() {
    let host = Netns::new("somaxconn").unwrap();
    let at: SocketAddr = "127.0.0.1:8001".parse().unwrap();
    let set = |value: &str| host.sysctl("net.core.somaxconn", value).unwrap();
    let seen = || {
        let found = report(&host, &["listeners", "--json"]);
        let queue = &listener_on(&found, 8001)["accept"];
        (queue["limit"].as_u64().unwrap(), queue["set_by"].as_str().unwrap().to_owned())
    };
    set("128");
    let socket = host.run(|| listen(at, 512)).unwrap();
    assert_eq!(seen(), (128, "somaxconn".to_owned()));
    set("4096");
    assert_eq!(seen(), (128, "application".to_owned()), "it is no longer known");
    host.run(|| Ok(rustix::net::listen(&socket, 512)?)).unwrap();
    assert_eq!(seen(), (512, "application".to_owned()));
    set("256");
    assert_eq!(seen(), (512, "earlier".to_owned()));
    let found = report(&host, &["listeners", "--json"]);
    assert_eq!(codes(&found), [("somaxconn_lowered", "127.0.0.1:8001")]);
}

/// The `number`-th of the addresses that no host owns (RFC 5737, RFC 3849).
fn spoofed(family: Family, number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100 + high, low).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1).into(),
    };
    SocketAddr::new(address, 1024 + number)
}

fn send_syns(lab: &Lab, family: Family, to: SocketAddr, numbers: RangeInclusive<u16>) {
    let send = || {
        let socket = PacketSocket::open(INTERFACE)?;
        for number in numbers.clone() {
            let mut syn = Segment::new(spoofed(family, number), to, flags::SYN);
            (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
            syn.options = linux_syn_options(1460, 1);
            socket.send(&syn.to_frame())?;
        }
        Ok(())
    };
    lab.attacker.run(send).unwrap();
}

/// Half-open connections to a port, as the kernel lists them.
/// Waits until the kernel shows it.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn half_open(host: &Netns, port: u16) -> u32 {
    let count = || {
        let mut found = 0;
        SockDiag::open()?.each_connection(&[TcpState::SynRecv], |connection| {
            found += u32::from(connection.local.port() == port);
        })?;
        Ok(found)
    };
    host.run(count).unwrap()
}

/// The half-open handshakes of a socket that was closed stay in the kernel's table until their timers end, and no queue
/// counts them.
#[test]
fn what_a_restarted_server_left_half_open_is_in_no_queue() {
    // A process of its own, which is younger than these handshakes.
    let server = |lab: &Lab, at: SocketAddr| {
        let listen = format!(
            "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalAddr => '{at}', Listen => 64, ReuseAddr => 1) \
             or die $@; sleep 60"
        );
        let mut server = lab.edge.command("perl").unwrap();
        let server = server.args(["-e", &listen]).spawn().unwrap();
        let listens = || lab.edge.run(|| Ok(SockDiag::open()?.listeners()?)).unwrap();
        wait_until("it listens", || listens().iter().any(|socket| socket.port == at.port()));
        server
    };
    let lab = Lab::new(LabOptions::default()).unwrap();
    let at = SocketAddr::new(Family::V4.edge(), 8001);
    let mut first = server(&lab, at);
    send_syns(&lab, Family::V4, at, 1..=32);
    // Their third timer lasts four seconds, and has run for longer than the next process takes to start.
    let entries = || lab.edge.run(|| Ok(SockDiag::open()?.half_open(Some(8001))?)).unwrap();
    let third = |entry: &&HalfOpen| {
        entry.retransmits == 2 && entry.timer_age() >= Duration::from_millis(500)
    };
    wait_until("the third timers of 32", || entries().iter().filter(third).count() == 32);
    first.kill().and_then(|()| first.wait()).unwrap();
    let mut second = server(&lab, at);
    send_syns(&lab, Family::V4, at, 33..=72);
    wait_until("72 half-open", || half_open(&lab.edge, 8001) == 72);
    let found = report(&lab.edge, &["listeners", "--json"]);
    assert_eq!(listener_on(&found, 8001)["syn"]["waiting"], 40);
    assert!(!codes(&found).iter().any(|(code, _)| code.starts_with("syn_queue")), "{found}");
    second.kill().and_then(|()| second.wait()).unwrap();
}

/// The rule of `checkup::listeners::limits`: the kernel takes one more than the limit.
#[test]
fn the_syn_queue_holds_what_the_rule_says() {
    let cases = [
        // Cookies, tcp_max_syn_backlog, backlog.
        ("0", "4096", 16, 16),
        ("1", "4096", 16, 16),
        ("0", "256", 512, 192),
        ("1", "256", 512, 512),
    ];
    for family in Family::BOTH {
        // A half-open handshake stays so for a minute, also when its listener has gone.
        let lab = Lab::new(LabOptions::default()).unwrap();
        for (number, (cookies, max_syn_backlog, backlog, expected)) in cases.into_iter().enumerate()
        {
            lab.edge.sysctl("net.ipv4.tcp_syncookies", cookies).unwrap();
            lab.edge.sysctl("net.ipv4.tcp_max_syn_backlog", max_syn_backlog).unwrap();
            let at = SocketAddr::new(family.edge(), 8001 + number as u16);
            let kept = lab.edge.run(|| listen(at, backlog)).unwrap();
            let limit = || {
                let tcp = Sysctls::default().tcp()?;
                let sockets = SockDiag::open()?.listeners()?;
                let socket = sockets.iter().find(|it| it.port == at.port());
                Ok(limits::of(socket.context("it listens")?, &tcp).syn.places)
            };
            let limit = lab.edge.run(limit).unwrap();
            assert_eq!(limit, expected, "{family:?} {cookies} {max_syn_backlog} {backlog}");

            send_syns(&lab, family, at, 1..=600);
            wait_until("a full queue", || half_open(&lab.edge, at.port()) > limit);
            // Whatever is still on its way has had time to come.
            sleep(Duration::from_millis(100));
            assert_eq!(half_open(&lab.edge, at.port()), limit + 1, "{family:?} {cookies}");

            let found = report(&lab.edge, &["listeners", "--json"]);
            let listener = listener_on(&found, at.port());
            assert_eq!(listener["syn"]["waiting"], limit + 1);
            assert_eq!(listener["syn"]["limit"], limit);
            let finding = &found["findings"][0];
            let severity = if cookies == "0" { "critical" } else { "warning" };
            assert_eq!(
                (finding["code"].as_str(), finding["severity"].as_str()),
                (Some("syn_queue_full"), Some(severity))
            );
            drop(kept);
        }
    }
}

#[test]
fn the_setting_of_a_known_application_is_named() {
    // The kernel calls a process as it calls itself.
    fs::write("/proc/self/comm", "nginx").unwrap();
    let host = Netns::new("nginx").unwrap();
    let at: SocketAddr = "[::1]:8001".parse().unwrap();
    let socket = host.run(|| listen(at, 2)).unwrap();
    let connect = || (0..3).map(|_| Ok(TcpStream::connect(at)?)).collect::<Result<Vec<_>>>();
    let clients = host.run(connect).unwrap();
    let found = report(&host, &["listeners", "--json"]);
    let listener = listener_on(&found, 8001);
    assert_eq!(listener["application"]["name"], "nginx");
    assert_eq!(listener["pids"], Value::from(vec![process::id()]));
    let hint = found["findings"][0]["hint"].as_str().unwrap();
    assert!(hint.contains("raise `listen … backlog=` in nginx.conf (now 2"), "{hint}");
    drop((socket, clients));
}

#[test]
fn half_open_connections_are_those_of_the_listener_that_answered() {
    for family in Family::BOTH {
        let lab = Lab::new(LabOptions::default()).unwrap();
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let exact = SocketAddr::new(family.edge(), 8001);
        let kept =
            lab.edge.run(|| Ok([listen(SocketAddr::new(any, 8001), 512)?, listen(exact, 512)?]));
        let kept = kept.unwrap();
        send_syns(&lab, family, exact, 1..=30);
        wait_until("30 half-open", || half_open(&lab.edge, 8001) >= 30);
        let found = report(&lab.edge, &["listeners", "--json"]);
        let waiting = |at: IpAddr| {
            let mut listeners = found["listeners"].as_array().unwrap().iter();
            listeners.find(|it| it["addr"] == at.to_string()).unwrap()["syn"]["waiting"].clone()
        };
        assert_eq!((waiting(exact.ip()), waiting(any)), (30.into(), 0.into()), "{family:?}");
        drop(kept);
    }
}

/// 10,000 sockets that listen, and a connection to nearly each that no process has accepted. Its other end
/// needs no descriptor, of which a process may have no more than 20,000 here and there.
fn crowd(host: &Netns) -> (Vec<TcpListener>, Vec<TcpStream>) {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let make = || {
        let mut listeners = Vec::new();
        for port in 10_000..20_000u16 {
            listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?);
        }
        let mut clients = Vec::new();
        for listener in &listeners[..9_500] {
            clients.push(TcpStream::connect(listener.local_addr()?)?);
        }
        Ok((listeners, clients))
    };
    host.run(make).unwrap()
}

#[test]
fn ten_thousand_sockets_take_little_time_and_memory() {
    const TIME: Duration = Duration::from_millis(200);
    const MEMORY: u64 = 13 << 20;
    let host = Netns::new("crowd").unwrap();
    let crowd = crowd(&host);
    for line in [
        &["listeners"][..],
        &["listeners", "--all"],
        &["listeners", "--json"],
        &["states"],
        &["states", "--queues"],
    ] {
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let begun = Instant::now();
                let output = cli(&host, line).unwrap();
                assert!(output.status.success(), "{output:?}");
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        let memory = peak::memory(&host, line).unwrap();
        println!("{line:?}: {:?} (median), {:?} (worst), {memory}", times[4], times[8]);
        assert!(times[4] <= TIME, "{line:?}: {times:?}");
        assert!(memory.judged() <= MEMORY, "{line:?}: {memory}");
    }
    drop(crowd);
}

/// One slot of 4,096 is for the agent's own test of its cookies.
#[test]
fn of_more_listeners_than_there_is_room_for_the_rest_is_named() {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap();
    let listen = || {
        let ports = 10_000..14_200_u16;
        Ok(ports
            .map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
            .collect::<Result<Vec<_>, _>>()?)
    };
    let listeners = lab.edge.run(listen).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let reported = |status: &Status| {
        let full = status.health().into_iter().find(|(code, _)| code == "listeners_full");
        full.map(|(_, text)| text)
    };
    let status = agent
        .wait_until("the rest is named", Duration::from_secs(5), |status| {
            reported(status).is_some()
        })
        .unwrap();
    let text = "105 listeners are not monitored: the table is full; 105 of root";
    assert_eq!(reported(&status).unwrap(), text);
    assert_eq!(status.state(), "degraded");
    let followed = status.document()["listeners"].as_array().unwrap();
    assert_eq!((followed.len(), listeners.len()), (4_095, 4_200));
}

/// Opens sockets of the user `uid` that listen at an address, one for each port.
fn held(host: &Netns, uid: u32, addr: IpAddr, ports: std::ops::Range<u16>) -> Vec<TcpListener> {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    host.run(|| {
        // Of this thread only, which ends with this.
        let uid = Uid::from_raw(uid);
        set_thread_res_uid(uid, uid, uid)?;
        Ok(ports.map(|port| TcpListener::bind((addr, port))).collect::<Result<Vec<_>, _>>()?)
    })
    .unwrap()
}

fn full(status: &Status) -> Option<String> {
    let full = status.health().into_iter().find(|(code, _)| code == "listeners_full");
    full.map(|(_, text)| text)
}

const NOBODY: u32 = 65_534;

#[test]
fn a_users_thousands_of_listeners_on_loopback_take_nobodys_place() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _held = held(&lab.edge, NOBODY, "127.1.2.3".parse().unwrap(), 10_000..14_200);
    let _held6 = held(&lab.edge, NOBODY, "::1".parse().unwrap(), 10_000..10_100);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let status = agent.wait_until("the service", LIMIT, |status| status.follows(PORT)).unwrap();
    assert_eq!(full(&status), None);
    let followed = status.document()["listeners"].as_array().unwrap();
    assert_eq!(followed.len(), 1, "{followed:#?}");
}

#[test]
fn a_users_thousands_of_listeners_take_only_slots_that_no_other_user_wants() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let _held = held(&lab.edge, NOBODY, any, 10_000..14_200);
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let named = |status: &Status| {
        full(status).is_some_and(|text| text.contains("105 of uid 65534"))
            && status.state() == "degraded"
    };
    agent.wait_until("the rest is named", LIMIT, named).unwrap();
    // Services that start when the table is full: of root, and of another user.
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _other = held(&lab.edge, 1_001, any, 8_080..8_081);
    let both = |status: &Status| status.follows(PORT) && status.follows(8_080);
    let status = agent.wait_until("both services", LIMIT, both).unwrap();
    let text = full(&status).unwrap();
    assert!(text.contains("of uid 65534"), "{text}");
}

#[test]
fn many_thousands_of_listeners_make_no_poll_late() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let addresses = [Family::V4.edge(), "127.1.2.3".parse().unwrap()];
    let _held = addresses.map(|addr| held(&lab.edge, NOBODY, addr, 10_000..19_000));
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    agent.wait_until("the service", LIMIT, |status| status.follows(PORT)).unwrap();
    let (before, begun) = (agent.cpu_time().unwrap(), Instant::now());
    let mut oldest = Duration::ZERO;
    for _ in 0..20 {
        sleep(Duration::from_millis(500));
        oldest = oldest.max(agent.status().unwrap().heartbeat_age());
    }
    let taken = agent.cpu_time().unwrap() - before;
    let share = taken.as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("{:.0} % of a CPU, the oldest heartbeat {oldest:.2?}", 100.0 * share);
    assert!(oldest < Duration::from_secs(1) && share < 0.5, "{oldest:?}, {share}");
}
