//! `tcpguard states` agrees with the kernel and with `ss` on connections made here. Needs root and
//! `TCPGUARD_BIN`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use tcpguard_kit::daemon::agent::{binary, cli};
use tcpguard_kit::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use tcpguard_kit::net::raw::PacketSocket;

/// Time limit for operations that the kernel performs at once.
const PATIENCE: Duration = Duration::from_secs(5);

#[track_caller]
fn report(host: &Netns, line: &[&str]) -> Value {
    let output = cli(host, line).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sockets by state as `ss` lists them, under the names of the document.
fn by_ss(host: &Netns) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in host.exec("ss -Htan").unwrap().lines() {
        let state = line.split_whitespace().next().unwrap_or_default();
        let name = match state {
            "ESTAB" => "established".to_owned(),
            "FIN-WAIT-1" => "fin_wait1".to_owned(),
            "FIN-WAIT-2" => "fin_wait2".to_owned(),
            other => other.to_lowercase().replace('-', "_"),
        };
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

/// The counts of a report, IPv4 and IPv6; states without sockets are left out.
fn counts(report: &Value) -> BTreeMap<String, (u64, u64)> {
    let states = report["states"].as_array().unwrap().iter();
    let count = |state: &Value, family| state[family].as_u64().unwrap();
    states
        .map(|it| {
            (it["state"].as_str().unwrap().to_owned(), (count(it, "ipv4"), count(it, "ipv6")))
        })
        .filter(|(_, (ipv4, ipv6))| ipv4 + ipv6 > 0)
        .collect()
}

/// Looks again until `enough` says so.
#[track_caller]
fn wait_for<T: std::fmt::Debug>(look: impl Fn() -> T, enough: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if enough(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "still {found:?}");
        sleep(Duration::from_millis(10));
    }
}

/// The service on the edge, and connections of the client to it.
struct Stage {
    lab: Lab,
    listener: TcpListener,
}

impl Stage {
    fn new() -> Self {
        let lab = Lab::new(LabOptions::default()).unwrap();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
        let listener = lab.edge.run(|| Ok(TcpListener::bind(any)?)).unwrap();
        Self { lab, listener }
    }

    /// The client's end and the edge's.
    fn connect(&self, family: Family) -> (TcpStream, TcpStream) {
        let connect = || Ok(TcpStream::connect_timeout(&family.service(), PATIENCE)?);
        let client = self.lab.client.run(connect).unwrap();
        let (server, _) = self.listener.accept().unwrap();
        (client, server)
    }

    fn send_syns(&self, family: Family, count: u16) {
        let send = || {
            let socket = PacketSocket::open(INTERFACE)?;
            for number in 1..=count {
                let mut syn = Segment::new(spoofed(family, number), family.service(), flags::SYN);
                (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
                syn.options = linux_syn_options(1460, 1);
                socket.send(&syn.to_frame())?;
            }
            Ok(())
        };
        self.lab.attacker.run(send).unwrap();
    }
}

/// The `number`-th of the documentation addresses, which no host has (RFC 5737, RFC 3849).
fn spoofed(family: Family, number: u16) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, number as u8).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1).into(),
    };
    SocketAddr::new(address, 1024 + number)
}

#[test]
fn every_state_is_counted_as_ss_counts_it() {
    let stage = Stage::new();
    let mut kept = Vec::new();
    let plan = [(Family::V4, 5, 3, 2, 7), (Family::V6, 4, 2, 1, 6)];
    for (family, established, close_wait, time_wait, half_open) in plan {
        kept.extend((0..established).map(|_| stage.connect(family)));
        for _ in 0..close_wait {
            let (client, server) = stage.connect(family);
            client.shutdown(Shutdown::Write).unwrap();
            kept.push((client, server));
        }
        for _ in 0..time_wait {
            let (client, server) = stage.connect(family);
            drop(server);
            drop(client);
        }
        let (client, server) = stage.connect(family);
        server.shutdown(Shutdown::Write).unwrap();
        kept.push((client, server));
        stage.send_syns(family, half_open);
    }
    let expected: BTreeMap<_, _> = [
        // The socket for both families counts as IPv6.
        ("listen", (0, 1)),
        ("syn_recv", (7, 6)),
        ("established", (5, 4)),
        ("fin_wait2", (1, 1)),
        ("time_wait", (2, 1)),
        ("close_wait", (3, 2)),
    ]
    .map(|(state, numbers)| (state.to_owned(), numbers))
    .into();
    let edge = &stage.lab.edge;
    let found = wait_for(|| report(edge, &["states", "--json"]), |it| counts(it) == expected);
    let totals: BTreeMap<_, _> =
        counts(&found).into_iter().map(|(state, (ipv4, ipv6))| (state, ipv4 + ipv6)).collect();
    assert_eq!(totals, by_ss(edge));

    let holder = &found["close_wait"][0];
    assert_eq!(
        (&holder["process"]["pid"], &holder["connections"]),
        (&process::id().into(), &5.into())
    );
    let resource = |kind: &str| {
        let mut all = found["resources"].as_array().unwrap().iter();
        all.find(|it| it["resource"] == kind).unwrap_or_else(|| panic!("{kind} in {found}"))
    };
    assert_eq!(resource("time_wait")["used"], 3);
    assert!(resource("descriptors")["limit"].as_u64().is_some());
    assert_eq!(found["findings"], Value::Array(Vec::new()), "nothing of it is much");
    drop(kept);
}

#[test]
fn many_half_open_connections_are_above_the_baseline() {
    let stage = Stage::new();
    stage.send_syns(Family::V4, 20);
    let look = || report(&stage.lab.edge, &["states", "--json"]);
    let found = wait_for(look, |it| counts(it).get("syn_recv") == Some(&(20, 0)));
    assert_eq!(found["findings"][0]["code"], "many_half_open");
    assert_eq!(found["findings"][0]["severity"], "notice");
    let page = cli(&stage.lab.edge, &["states"]).unwrap();
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("20 half-open connections (expected: at most 15)"), "{page}");
}

/// Writes until nothing more is taken.
fn fill(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut idle = 0;
    // The other end's window opens a little more for a while.
    while idle < 20 {
        assert!(Instant::now() < deadline, "it still takes data");
        match (&*stream).write(&[0; 64 * 1024]) {
            Ok(_) => idle = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                idle += 1;
                sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Queues of the edge's connections to a client according to `ss`: port of the client, unread,
/// unacknowledged.
fn queues_by_ss(edge: &Netns) -> BTreeMap<u16, (u64, u64)> {
    let listed = edge.exec("ss -Htn state established").unwrap();
    let line = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let port = columns[3].rsplit(':').next().unwrap().parse().unwrap();
        (port, (columns[0].parse().unwrap(), columns[1].parse().unwrap()))
    };
    listed.lines().map(line).collect()
}

fn queues_by_report(report: &Value) -> BTreeMap<u16, (u64, u64)> {
    let worst = report["queues"]["worst"].as_array().unwrap().iter();
    worst
        .map(|it| {
            let remote: SocketAddr = it["remote"].as_str().unwrap().parse().unwrap();
            let bytes = |which| it[which].as_u64().unwrap();
            (remote.port(), (bytes("unread"), bytes("unacknowledged")))
        })
        .collect()
}

#[test]
fn unread_and_unacknowledged_data_is_what_ss_shows_and_has_its_process() {
    for family in Family::BOTH {
        let stage = Stage::new();
        let (talkative, unread) = stage.connect(family);
        fill(&talkative);
        let (silent, unacknowledged) = stage.connect(family);
        fill(&unacknowledged);
        let edge = &stage.lab.edge;
        let found = wait_for(
            || (queues_by_ss(edge), report(edge, &["states", "--queues", "--json"])),
            |(by_ss, report)| *by_ss == queues_by_report(report),
        );
        let (by_ss, report) = found;
        let port = |client: &TcpStream| client.local_addr().unwrap().port();
        assert!(by_ss[&port(&talkative)].0 > 0, "{by_ss:?}");
        assert!(by_ss[&port(&silent)].1 > 0, "{by_ss:?}");
        let own = &report["queues"]["processes"][0];
        assert_eq!(own["process"]["pid"], process::id());
        assert_eq!(own["connections"], 2);
        assert_eq!(own["unread"].as_u64(), Some(by_ss[&port(&talkative)].0));
        assert_eq!(own["unacknowledged"].as_u64(), Some(by_ss[&port(&silent)].1));
        drop(unread);
    }
}

#[test]
fn connections_that_use_up_the_local_ports_are_reported_with_their_destination() {
    let host = Netns::new("ports").unwrap();
    host.sysctl("net.ipv4.ip_local_port_range", "40000 40019").unwrap();
    let connect = || -> Result<_> {
        let listener = TcpListener::bind("127.0.0.1:7000")?;
        let clients = (0..19).map(|_| TcpStream::connect("127.0.0.1:7000"));
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        Ok((listener, clients))
    };
    let kept = host.run(connect).unwrap();
    let found = report(&host, &["states", "--json"]);
    let finding = &found["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["severity"]),
        (&"ports_short".into(), &"critical".into())
    );
    assert_eq!(finding["subject"], "127.0.0.1:7000");
    drop(kept);
}

#[test]
fn another_user_sees_the_counts_and_learns_what_sudo_would_show() {
    let host = Netns::new("user").unwrap();
    let copy = "/run/tcpguard-copy";
    host.exec(&format!("cp {} {copy}", binary().unwrap().display())).unwrap();
    host.exec(&format!("chmod 755 {copy}")).unwrap();
    let connect = || -> Result<_> {
        let listener = TcpListener::bind("127.0.0.1:7000")?;
        let client = TcpStream::connect("127.0.0.1:7000")?;
        let (server, _) = listener.accept()?;
        client.shutdown(Shutdown::Write)?;
        Ok((listener, client, server))
    };
    let kept = host.run(connect).unwrap();
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for line in ["states --json", "listeners --json"] {
        let found = host.exec(&format!("{nobody} {copy} {line}")).unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        let unread = found["unread"].as_array().unwrap();
        assert_eq!(unread.len(), 1, "{line}: {found}");
        assert!(unread[0].as_str().unwrap().contains("sudo"), "{line}: {found}");
    }
    let page = host.exec(&format!("{nobody} {copy} states")).unwrap();
    assert!(page.contains("CLOSE_WAIT   1") && page.contains("unknown"), "{page}");
    drop(kept);
}
