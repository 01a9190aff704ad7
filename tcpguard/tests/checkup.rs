//! The output of `tcpguard states` and `tcpguard listeners`, scene by scene, and as real commands.
//!
//! The expected pages are `tests/expected/*.txt`; after a wanted change write them anew with
//! `UPDATE_EXPECTED=1 cargo test -p tcpguard --test checkup` and read the difference.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tcpguard::text::{self, View};
use tcpguard_engine::TcpExt;
use tcpguard_host::linux::sysctl::TcpSettings;
use tcpguard_host::linux::{Connection, DescriptorUse, ListeningSocket, Owners, Process, TcpState};
use tcpguard_host::listeners::{self, Earlier, ListenerFacts, ListenersReport};
use tcpguard_host::states::{self, Counts, Destination, Limits, StateFacts, StatesReport, Tally};
use tcpguard_host::time::Time;
use tcpguard_support::schema::{assert_documented, assert_formed};

fn view(utf8: bool) -> View {
    View { utf8, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

fn at() -> Time {
    Time("2026-11-20T14:05:31.204Z".parse().unwrap())
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[track_caller]
fn assert_expected(name: &str, found: &str) {
    let path = repository(&format!("tcpguard/tests/expected/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let path = path.display();
    assert!(found == expected, "{path} differs; found:\n{found}\nexpected:\n{expected}");
}

fn process(pid: u32, comm: &str, fds: u64) -> Process {
    let fd_limit = Some(1024);
    Process { pid, comm: comm.to_owned(), fds, fd_limit, ..Process::default() }
}

fn counts(numbers: &[(TcpState, u64, u64)]) -> Counts {
    let mut counts = Counts::default();
    for (state, ipv4, ipv6) in numbers {
        counts.add(*state, false, *ipv4);
        counts.add(*state, true, *ipv6);
    }
    counts
}

fn calm_states() -> StateFacts {
    StateFacts {
        at: at(),
        counts: counts(&[
            (TcpState::Listen, 6, 3),
            (TcpState::SynRecv, 2, 0),
            (TcpState::Established, 212, 31),
            (TcpState::FinWait2, 4, 0),
            (TcpState::TimeWait, 118, 2),
        ]),
        ports: Some(28_232),
        destinations: vec![Destination {
            local: "10.0.0.2".parse().unwrap(),
            remote: "10.0.0.5:5432".parse().unwrap(),
            connections: 40,
        }],
        time_wait: (Some(120), Some(65_536)),
        orphans: (Some(0), Some(65_536)),
        memory: (Some(780), Some(376_638)),
        files: (Some(2_144), Some(i64::MAX as u64)),
        descriptors: vec![DescriptorUse {
            pid: 1201,
            comm: "nginx".into(),
            used: 240,
            limit: 1024,
        }],
        close_wait: Vec::new(),
        queues: None,
        unread: Vec::new(),
    }
}

/// Everything is wrong at once.
fn sick_states() -> StateFacts {
    let mut tally = Tally::new([443].into(), Some(32_768..=60_999), true);
    for (number, (recv_queue, send_queue)) in
        [(200_000, 0), (70_000, 0), (0, 2_400_000), (0, 0)].into_iter().enumerate()
    {
        tally.add(&Connection {
            state: TcpState::Established,
            local: "[2001:db8::1]:443".parse().unwrap(),
            remote: format!("[2001:db8:7::{number}]:50123").parse().unwrap(),
            recv_queue,
            send_queue,
            inode: 10 + number as u32,
            uid: 33,
            interface: 0,
        });
    }
    let owners = Owners::new(
        [(process(4711, "java", 1_020), vec![10, 11]), (process(1201, "nginx", 240), vec![12])],
        true,
    );
    StateFacts {
        counts: counts(&[
            (TcpState::Listen, 6, 3),
            (TcpState::SynRecv, 85, 12),
            (TcpState::Established, 620, 310),
            (TcpState::FinWait1, 3, 0),
            (TcpState::TimeWait, 27_300, 0),
            (TcpState::CloseWait, 812, 40),
            (TcpState::LastAck, 1, 0),
            (TcpState::Close, 1, 0),
        ]),
        destinations: vec![
            Destination {
                local: "10.0.0.2".parse().unwrap(),
                remote: "10.0.0.5:5432".parse().unwrap(),
                connections: 27_200,
            },
            Destination {
                local: "10.0.0.2".parse().unwrap(),
                remote: "10.0.0.6:6379".parse().unwrap(),
                connections: 12,
            },
        ],
        time_wait: (Some(27_300), Some(32_768)),
        orphans: (Some(60), Some(64)),
        files: (Some(98_000), Some(100_000)),
        descriptors: vec![
            DescriptorUse { pid: 1201, comm: "nginx".into(), used: 240, limit: 1024 },
            DescriptorUse { pid: 4711, comm: "java".into(), used: 1_020, limit: 1024 },
        ],
        close_wait: vec![
            states::Holder {
                process: Some(tcpguard_host::finding::Owner { name: "java".into(), pid: 4711 }),
                accept_queue: None,
                connections: 812,
                descriptors: Some(1_020),
                descriptor_limit: Some(1024),
            },
            states::Holder {
                process: None,
                accept_queue: Some(9000),
                connections: 40,
                descriptors: None,
                descriptor_limit: None,
            },
        ],
        queues: tally.queues.map(|queues| queues.report(&owners)),
        unread: vec!["processes of other users: run it again with sudo".into()],
        ..calm_states()
    }
}

fn state_scenes() -> [(&'static str, StatesReport); 2] {
    [("states-calm", calm_states()), ("states-sick", sick_states())]
        .map(|(name, facts)| (name, states::judge(&facts, &Limits::default())))
}

fn socket(addr: &str, port: u16, inode: u32, accept: u32, backlog: u32) -> ListeningSocket {
    ListeningSocket {
        addr: addr.parse().unwrap(),
        port,
        dual_stack: addr == "::",
        accept,
        backlog,
        inode,
        uid: 0,
        interface: 0,
        mptcp: false,
        drops: Some(0),
    }
}

fn calm_listeners() -> ListenerFacts {
    ListenerFacts {
        at: at(),
        sockets: vec![
            socket("0.0.0.0", 22, 1, 0, 128),
            socket("::", 443, 2, 1, 511),
            socket("::", 443, 3, 0, 511),
            socket("127.0.0.1", 6379, 4, 0, 511),
            socket("0.0.0.0", 8080, 5, 0, 4096),
        ],
        half_open: BTreeMap::from([(
            ("192.0.2.1".parse().unwrap(), 443, 0),
            vec![Duration::ZERO; 3],
        )]),
        interfaces: BTreeMap::new(),
        tcp: TcpSettings {
            syncookies: Some(1),
            max_syn_backlog: Some(1024),
            abort_on_overflow: Some(0),
            somaxconn: Some(4096),
        },
        tcp_ext: Some(TcpExt::default()),
        owners: Owners::new(
            [
                (process(800, "sshd", 9), vec![1]),
                (process(1201, "nginx", 40), vec![2]),
                (process(1202, "nginx", 40), vec![3]),
                (process(900, "redis-server", 40), vec![4]),
                (process(4711, "java", 40), vec![5]),
            ],
            false,
        ),
        earlier: None,
        unread: Vec::new(),
    }
}

/// No cookies, three full queues and one that was, the second look, and one owner is not seen.
fn sick_listeners() -> ListenerFacts {
    let before = calm_listeners();
    let mut now = calm_listeners();
    now.earlier = Some(Earlier::new(&before, Duration::from_secs(2)));
    now.sockets[0].interface = 4;
    now.interfaces = BTreeMap::from([(4, "eth1".to_owned())]);
    (now.sockets[0].backlog, now.sockets[0].drops) = (8192, Some(7));
    (now.sockets[1].accept, now.sockets[1].drops) = (512, Some(4_000));
    now.sockets[3].drops = Some(12);
    now.sockets[4].accept = 4097;
    let place = ("192.0.2.1".parse().unwrap(), 8080, 0);
    now.half_open = BTreeMap::from([(place, vec![Duration::ZERO; 769])]);
    now.tcp.syncookies = Some(0);
    now.tcp_ext = Some(TcpExt {
        listen_overflows: 3_900,
        listen_drops: 4_030,
        req_q_full_drop: 20,
        ..TcpExt::default()
    });
    now.owners = Owners::new(
        [
            (process(1201, "nginx", 40), vec![2]),
            (process(1202, "nginx", 40), vec![3]),
            (process(900, "redis-server", 40), vec![4]),
            (process(4711, "java", 40), vec![5]),
        ],
        true,
    );
    now.unread = vec!["processes of other users: run it again with sudo".into()];
    now
}

fn many_listeners() -> ListenerFacts {
    let socket = |number: u16| {
        let drops = Some(u32::from(number % 3));
        ListeningSocket { drops, ..socket("0.0.0.0", 10_000 + number, number.into(), 0, 128) }
    };
    ListenerFacts { sockets: (0..60).map(socket).collect(), ..calm_listeners() }
}

fn listener_scenes() -> [(&'static str, ListenersReport); 3] {
    [
        ("listeners-calm", calm_listeners()),
        ("listeners-sick", sick_listeners()),
        ("listeners-many", many_listeners()),
    ]
    .map(|(name, facts)| (name, listeners::judge(&facts)))
}

/// Every page, by its name.
fn pages() -> Vec<(&'static str, String)> {
    let mut pages = Vec::new();
    for (name, report) in state_scenes() {
        let mut page = String::new();
        text::states(&mut page, &report, &view(true)).unwrap();
        pages.push((name, page));
    }
    for (name, report) in listener_scenes() {
        let mut page = String::new();
        text::listeners(&mut page, &report, &view(true), false).unwrap();
        pages.push((name, page));
    }
    pages
}

#[test]
fn each_scene_has_its_page() {
    for (name, page) in pages() {
        assert_expected(name, &page);
    }
}

#[test]
fn no_line_is_wider_than_100_columns() {
    for (name, page) in pages() {
        for line in page.lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

#[test]
fn a_terminal_without_utf8_gets_ascii() {
    for (name, page) in pages() {
        let ascii = view(false).encode(&page).into_owned();
        assert!(ascii.is_ascii() && !ascii.contains('?'), "{name}: {ascii}");
    }
}

#[test]
fn every_document_is_in_its_schema() {
    for (name, report) in state_scenes() {
        println!("{name}");
        assert_formed("states", &serde_json::to_value(report).unwrap());
    }
    for (name, report) in listener_scenes() {
        println!("{name}");
        assert_formed("listeners", &serde_json::to_value(report).unwrap());
    }
}

#[test]
fn all_listeners_are_shown_when_asked_for() {
    let report = listeners::judge(&many_listeners());
    let lines = |all| {
        let mut page = String::new();
        text::listeners(&mut page, &report, &view(true), all).unwrap();
        page.lines().filter(|line| line.starts_with("0.0.0.0:")).count()
    };
    assert_eq!((lines(false), lines(true)), (20, 60));
}

fn run(line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
    command.env_clear().env("LC_ALL", "C.UTF-8").args(line);
    command.output().unwrap()
}

#[track_caller]
fn json(line: &[&str]) -> Value {
    let output = run(line);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn states_of_the_running_host_are_in_the_schema() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_server, _) = listener.accept().unwrap();
    for line in [&["states", "--json"][..], &["states", "--queues", "--json"][..]] {
        let found = json(line);
        assert_documented("states", &found);
        let mut states = found["states"].as_array().unwrap().iter();
        let established = states.find(|it| it["state"] == "established").unwrap();
        assert!(established["ipv4"].as_u64() >= Some(2), "{found}");
        assert_eq!(found["queues"].is_null(), line.len() == 2);
    }
}

#[test]
fn listeners_of_the_running_host_are_in_the_schema_and_name_this_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let found = json(&["listeners", "--json"]);
    assert_documented("listeners", &found);
    let mut listed = found["listeners"].as_array().unwrap().iter();
    let own = listed.find(|it| it["port"] == port).unwrap();
    assert_eq!(own["pids"][0], std::process::id());
    let page = String::from_utf8(run(&["listeners", "--all"]).stdout).unwrap();
    assert!(page.contains(&format!("127.0.0.1:{port}")), "{page}");
}

#[test]
fn a_line_that_makes_no_sense_has_code_2() {
    for line in
        [&["states", "all"][..], &["states", "--watch"][..], &["listeners", "--watch", "0"][..]]
    {
        let output = run(line);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line:?}");
    }
}
