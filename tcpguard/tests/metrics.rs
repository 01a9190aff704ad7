//! The status in numbers: the metrics, their names, and how they are served.
//!
//! The expected text is `tests/expected/metrics-*.txt`; after a wanted change write it anew with
//! `UPDATE_EXPECTED=1 cargo test -p tcpguard --test metrics` and read the difference.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use support::{calm, degraded, flooded, losing, status};
use tcpguard::control::{Incoming, METRICS_SOCKET, RefusalKind, Request, Response};
use tcpguard::documents::Status;
use tcpguard::telemetry::metrics::{Family, MetricsServer, of_status, text};
use tcpguard_engine::Mode;
use tcpguard_host::finding::Finding;
use tokio::sync::{mpsc, oneshot};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn assert_expected(name: &str, found: &str) {
    let path = repository(&format!("tcpguard/tests/expected/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} differs; found:\n{found}", path.display());
}

fn scenes() -> [(&'static str, Status); 5] {
    [
        ("calm", status(calm())),
        ("mitigating", status(flooded(Mode::Enforce))),
        ("observing", status(flooded(Mode::Observe))),
        ("losing", status(losing())),
        ("degraded", status(degraded())),
    ]
}

#[test]
fn an_attack_in_numbers() {
    let metrics = text(&of_status(&status(flooded(Mode::Enforce))));
    // The samples of a class without an incident are zero, and say nothing that the others do not.
    let is_idle = |line: &str| line.contains("{class=") && line.ends_with(" 0\n");
    let page: String = metrics.split_inclusive('\n').filter(|line| !is_idle(line)).collect();
    assert_expected("metrics-prometheus", &page);
}

/// A flood has millions of sources, and a reader of metrics has no need to know them.
#[test]
fn no_label_names_a_source() {
    for (scene, status) in scenes() {
        let own: BTreeSet<IpAddr> = status.listeners.iter().map(|one| one.addr).collect();
        for family in of_status(&status) {
            for sample in family.samples {
                for (label, value) in sample.labels {
                    let address = value.parse().ok();
                    let is_own = address.is_some_and(|address| own.contains(&address));
                    assert!(
                        address.is_none() || is_own,
                        "{scene}: {}{{{label}={value:?}}}",
                        family.name
                    );
                }
            }
        }
    }
}

#[test]
fn names_and_labels_keep_the_rules_of_the_standard() {
    let word = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || b"0123456789_".contains(&byte))
    };
    for (scene, status) in scenes() {
        let mut names = BTreeSet::new();
        for family in of_status(&status) {
            let Family { name, help, samples } = family;
            assert!(word(name) && names.insert(name), "{scene}: {name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}: {help}");
            let mut labels = BTreeSet::new();
            for sample in samples {
                assert!(sample.labels.iter().all(|(label, _)| word(label)), "{name}");
                assert!(labels.insert(sample.labels), "{scene}: {name} has a sample twice");
            }
            assert!(!name.ends_with("_info") || labels.len() == 1, "{name}");
        }
    }
}

/// Of many listeners the metrics show those that are in trouble or busy, and how many there are.
#[test]
fn a_host_with_thousands_of_listeners_is_affordable() {
    let mut status = status(flooded(Mode::Enforce));
    let quiet = status.listeners[0].clone();
    for port in 1..=2000 {
        let mut listener = quiet.clone();
        (listener.port, listener.totals.syn) = (20_000 + port, 1);
        status.listeners.push(listener);
    }
    let families = of_status(&status);
    let of = |name: &str| families.iter().find(|family| family.name == name).unwrap();
    assert_eq!(of("listener_half_open").samples.len(), 64);
    let first = &of("listener_half_open").samples[0].labels;
    assert_eq!(first[1], ("port", "443".to_owned()), "the one under attack");
    let metrics = text(&families);
    assert!(metrics.contains("tcpguard_listeners 2002\n"), "{metrics}");
}

/// docs/metrics.md lists every family with its labels, and no other.
#[test]
fn the_manual_lists_every_family() {
    let manual = std::fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let listed: BTreeSet<(String, String)> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `tcpguard_"))
        .map(|line| {
            let (name, rest) = line.split_once("` | ").expect(line);
            let (labels, _) = rest.split_once(" | ").expect(line);
            (name.to_owned(), labels.replace('`', ""))
        })
        .collect();
    let mut families = BTreeSet::new();
    for (_, status) in scenes() {
        for family in of_status(&status) {
            let mut labels: Vec<&str> = Vec::new();
            for (label, _) in family.samples.iter().flat_map(|sample| &sample.labels) {
                if !labels.contains(label) {
                    labels.push(label);
                }
            }
            if !family.samples.is_empty() {
                families.insert((family.name.to_owned(), labels.join(", ")));
            }
        }
    }
    assert_eq!(listed, families);
}

/// A check that `promtool` cannot make: numbers of these names exist.
#[test]
fn alert_rules_and_dashboard_ask_for_numbers_that_there_are() {
    let mut known = BTreeSet::new();
    for (_, status) in scenes() {
        known.extend(of_status(&status).iter().map(|family| format!("tcpguard_{}", family.name)));
    }
    for file in ["packaging/prometheus/alerts.yml", "packaging/grafana/tcpguard.json"] {
        let text = std::fs::read_to_string(repository(file)).unwrap();
        let mut asked = 0;
        for word in text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')) {
            if word.starts_with("tcpguard_") {
                assert!(known.contains(word), "{file} asks for {word}");
                asked += 1;
            }
        }
        assert!(asked > 5, "{file}: {asked}");
    }
    let dashboard = std::fs::read_to_string(repository("packaging/grafana/tcpguard.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A server in a directory of its own, with an agent that answers each request with `answer`.
struct Served {
    dir: tempfile::TempDir,
    tcp: Option<SocketAddr>,
    finding: Option<Finding>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn with(answer: impl Fn() -> Response + Send + 'static) -> Self {
        Self::on(None, answer)
    }

    fn on(listen: Option<SocketAddr>, answer: impl Fn() -> Response + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (server, finding) = MetricsServer::bind(&path, None, listen).await.unwrap();
                ready.send((server.tcp_address(), finding)).unwrap();
                let (sender, mut requests) = mpsc::channel::<Incoming>(4);
                let answers = async {
                    while let Some(incoming) = requests.recv().await {
                        assert_eq!(incoming.request, Request::Status);
                        // A client that has gone needs no answer.
                        let _ = incoming.reply.send(answer());
                    }
                };
                tokio::select! {
                    () = server.serve(sender) => {}
                    () = answers => {}
                    _ = stopped => {}
                }
            });
        });
        let (tcp, finding) = is_ready.recv().unwrap();
        Self { dir, tcp, finding, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(METRICS_SOCKET)
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    /// Sends this and returns all that the server sends until it closes.
    fn ask(&self, request: &str) -> String {
        exchange(self.connect(), request)
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        // One that died has said why already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn attacked() -> Response {
    Response::Status(Box::new(status(flooded(Mode::Enforce))))
}

#[test]
fn a_scrape_gets_the_numbers_whatever_it_accepts() {
    let served = Served::with(attacked);
    for accept in ["", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"] {
        let answer =
            served.ask(&format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let content_type = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(head.contains(content_type), "{head}");
        assert_eq!(body, text(&of_status(&status(flooded(Mode::Enforce)))));
    }
}

#[test]
fn what_is_not_a_scrape_is_refused() {
    let served = Served::with(attacked);
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 "),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 405 "),
        ("{\"version\":1,\"request\":{\"method\":\"status\"}}\0", "HTTP/1.1 400 "),
        ("\r\n\r\n\0\0\0\0", "HTTP/1.1 400 "),
    ] {
        let answer = served.ask(request);
        assert!(answer.starts_with(expected), "{request:?}: {answer}");
    }
    let mut stream = served.connect();
    stream.write_all(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)).as_bytes()).unwrap();
    // No more than that: input that the server left unread makes the end of the connection an
    // error.
    let mut begins = [0; 10];
    stream.read_exact(&mut begins).unwrap();
    assert_eq!(&begins, b"HTTP/1.1 4");
    let head = served.ask("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
}

#[test]
fn a_busy_agent_is_no_empty_scrape() {
    let served = Served::with(|| Response::refused(RefusalKind::Busy, "the agent is busy", ""));
    let answer = served.ask(SCRAPE);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("the agent is busy\n"), "{answer}");
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_server() {
    let mut served = Served::with(attacked);
    let mode = std::fs::metadata(served.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    served.stop();
    assert!(!served.socket().exists());
}

#[test]
fn slow_clients_keep_no_scraper_away_though_the_user_is_the_same() {
    let served = Served::on(Some("127.0.0.1:0".parse().unwrap()), attacked);
    let connect = || TcpStream::connect(served.tcp.unwrap()).unwrap();
    let slow = || {
        let (mut tcp, mut unix) = (connect(), served.connect());
        let streams: [&mut dyn Write; 2] = [&mut tcp, &mut unix];
        for stream in streams {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
        }
        (tcp, unix)
    };
    let _slow: Vec<_> = (0..40).map(|_| slow()).collect();
    for _ in 0..12 {
        for answer in [exchange(connect(), SCRAPE), served.ask(SCRAPE)] {
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
    }
}

#[test]
fn a_port_of_this_host_is_served_where_one_is_named() {
    // Whichever is free: only the configuration insists on a certain one.
    let served = Served::on(Some("127.0.0.1:0".parse().unwrap()), attacked);
    assert_eq!(served.finding, None);
    let address = served.tcp.unwrap();
    let answer =
        exchange(TcpStream::connect(address).unwrap(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains("\ntcpguard_up 1\n"), "{answer}");

    let second = Served::on(Some(address), attacked);
    assert_eq!(second.tcp, None, "it is taken");
    let finding = second.finding.as_ref().unwrap();
    assert_eq!(finding.code, "metrics_not_served");
    assert!(finding.hint.as_ref().is_some_and(|hint| hint.contains("ss -ltnp")), "{finding:?}");
    let answer = second.ask(SCRAPE);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "the socket is served all the same: {answer}");
}
