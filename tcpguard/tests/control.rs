//! The control sockets under good and bad use.
//!
//! Time is tokio's and stands still, except where a test says that it does not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tcpguard::control::proto::{Call, Change, MAX_REQUEST, VERSION};
use tcpguard::control::{
    BindError, CONTROL_SOCKET, Incoming, RefusalKind, Request, Response, STATUS_SOCKET, Server,
};
use tcpguard::documents::ModeShown;
use tcpguard_engine::{ClientsWithin, Force, Mode, Ports, Which, Whose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Time that a server gives a client for a request, and an agent for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A server with the test as its agent.
struct Agent {
    dir: tempfile::TempDir,
    requests: mpsc::Receiver<Incoming>,
    _serving: tokio::task::JoinSet<()>,
}

impl Agent {
    fn start(queue: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::bind(dir.path(), None).unwrap();
        let (sender, requests) = mpsc::channel(queue);
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(server.serve(sender.clone(), sender));
        Self { dir, requests, _serving: serving }
    }

    async fn connect(&self, socket: &str) -> Connection {
        Connection { stream: UnixStream::connect(self.dir.path().join(socket)).await.unwrap() }
    }

    /// The next request, answered with `mode`.
    async fn answer(&mut self, mode: Mode) -> Request {
        let incoming = self.requests.recv().await.unwrap();
        incoming.reply.send(Response::Mode(ModeShown { mode, was: None, ends: None })).unwrap();
        incoming.request
    }
}

struct Connection {
    stream: UnixStream,
}

impl Connection {
    async fn send(&mut self, request: Request) {
        let mut message = serde_json::to_vec(&Call { version: VERSION, request }).unwrap();
        message.push(0);
        self.stream.write_all(&message).await.unwrap();
    }

    async fn receive(&mut self) -> Response {
        serde_json::from_slice(&self.message().await).unwrap()
    }

    async fn message(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            match self.stream.read_u8().await.expect("the server closed without an answer") {
                0 => return message,
                byte => message.push(byte),
            }
        }
    }

    async fn refusal(&mut self) -> (RefusalKind, String) {
        match self.receive().await {
            Response::Refused(refusal) => {
                assert!(!refusal.hint.is_empty(), "{refusal:?}");
                (refusal.kind, refusal.message)
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    async fn assert_closed(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).await.unwrap(), 0, "the connection is still open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_reaches_the_agent_with_its_peer_and_the_response_arrives() {
    let mut agent = Agent::start(1);
    let mut client = agent.connect(CONTROL_SOCKET).await;
    client.send(Request::SetMode { mode: Mode::Off, for_s: None, rollback_after_s: None }).await;
    let incoming = agent.requests.recv().await.unwrap();
    assert_eq!(
        incoming.request,
        Request::SetMode { mode: Mode::Off, for_s: None, rollback_after_s: None }
    );
    assert_eq!(incoming.peer.uid, rustix::process::geteuid().as_raw());
    assert_eq!(incoming.peer.pid, i32::try_from(std::process::id()).ok());
    incoming
        .reply
        .send(Response::Mode(ModeShown { mode: Mode::Off, was: Some(Mode::Observe), ends: None }))
        .unwrap();
    assert_eq!(
        client.receive().await,
        Response::Mode(ModeShown { mode: Mode::Off, was: Some(Mode::Observe), ends: None })
    );
}

#[tokio::test(start_paused = true)]
async fn requests_sent_together_are_answered_one_after_the_other() {
    let mut agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    client.send(Request::Mode).await;
    client.send(Request::Rules).await;
    assert_eq!(agent.answer(Mode::Observe).await, Request::Mode);
    assert_eq!(agent.answer(Mode::Enforce).await, Request::Rules);
    assert_eq!(
        client.receive().await,
        Response::Mode(ModeShown { mode: Mode::Observe, was: None, ends: None })
    );
    assert_eq!(
        client.receive().await,
        Response::Mode(ModeShown { mode: Mode::Enforce, was: None, ends: None })
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_on_the_status_socket_is_refused_and_never_reaches_the_agent() {
    let mut agent = Agent::start(8);
    let mut client = agent.connect(STATUS_SOCKET).await;
    let net = "192.0.2.0/24".parse().unwrap();
    let block = |dry_run| Request::Change {
        change: Change::Block {
            net,
            ports: Ports::EVERY,
            lifetime: Duration::from_secs(60),
            reason: "x".to_owned(),
            force: Force::No,
            clients: ClientsWithin::default(),
        },
        dry_run,
    };
    for change in [
        Request::SetMode { mode: Mode::Off, for_s: None, rollback_after_s: None },
        Change::Unblock { which: Which::Within(net), whose: Whose::All }.into(),
        block(false),
    ] {
        client.send(change).await;
        assert_eq!(
            client.refusal().await,
            (RefusalKind::ReadOnly, "status.sock accepts no changes, control.sock does".to_owned())
        );
    }
    assert!(agent.requests.try_recv().is_err());

    client.send(block(true)).await;
    assert_eq!(agent.answer(Mode::Observe).await, block(true), "a dry run changes nothing");
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_and_the_connection_lives_on() {
    let mut agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    client.stream.write_all(b"GET / HTTP/1.1\r\n\r\n\0\xff\xfe\0").await.unwrap();
    assert_eq!(client.refusal().await.0, RefusalKind::BadRequest);
    assert_eq!(client.refusal().await.0, RefusalKind::BadRequest);
    client.send(Request::Mode).await;
    agent.answer(Mode::Observe).await;
    assert_eq!(
        client.receive().await,
        Response::Mode(ModeShown { mode: Mode::Observe, was: None, ends: None })
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_of_another_version_can_read_why_it_is_refused() {
    let agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    let call = b"{\"version\":2,\"request\":{\"method\":\"status\"}}\0";
    client.stream.write_all(call).await.unwrap();
    let message = "version mismatch between command and agent: protocol 2, agent 1";
    assert_eq!(client.refusal().await, (RefusalKind::Version, message.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let agent = Agent::start(1);
    let start = Instant::now();
    let mut client = agent.connect(STATUS_SOCKET).await;
    assert_eq!(
        client.refusal().await,
        (RefusalKind::BadRequest, "no request within 5s".to_owned())
    );
    client.assert_closed().await;
    assert!(start.elapsed() >= DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_does_not_keep_a_connection_open() {
    let agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    let start = Instant::now();
    for byte in b"{\"versio" {
        // The last writes may find the connection closed, which is intended.
        let _ = client.stream.write_all(&[*byte]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() > DEADLINE);
    assert_eq!(client.refusal().await.0, RefusalKind::BadRequest);
}

/// In real time: so many bytes take many turns, between which a standing clock would jump.
#[tokio::test]
async fn a_request_of_more_than_64_kib_is_refused() {
    let mut agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    // The server stops reading, so the rest may not be taken.
    let _ = client.stream.write_all(&vec![b' '; 2 * MAX_REQUEST]).await;
    assert_eq!(
        client.refusal().await,
        (RefusalKind::BadRequest, "request too long (limit: 65536 bytes)".to_owned())
    );
    assert!(agent.requests.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_and_come_free_again() {
    let mut agent = Agent::start(1);
    // The rules for other users are in the tests of the admission itself.
    let limit = if rustix::process::geteuid().is_root() { 32 } else { 8 };
    let mut held = Vec::new();
    for _ in 0..limit {
        let mut client = agent.connect(STATUS_SOCKET).await;
        client.send(Request::Mode).await;
        agent.answer(Mode::Observe).await;
        client.receive().await;
        held.push(client);
    }
    let mut one_too_many = agent.connect(STATUS_SOCKET).await;
    assert_eq!(one_too_many.refusal().await.0, RefusalKind::Busy);
    one_too_many.assert_closed().await;
    // Clients that may change something have slots of their own.
    let mut change = agent.connect(CONTROL_SOCKET).await;
    change.send(Request::SetMode { mode: Mode::Off, for_s: None, rollback_after_s: None }).await;
    agent.answer(Mode::Off).await;
    change.receive().await;

    held.pop();
    tokio::task::yield_now().await;
    let mut next = agent.connect(STATUS_SOCKET).await;
    next.send(Request::Mode).await;
    agent.answer(Mode::Observe).await;
    assert_eq!(
        next.receive().await,
        Response::Mode(ModeShown { mode: Mode::Observe, was: None, ends: None })
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_costs_the_client_five_seconds() {
    let mut agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    client.send(Request::Mode).await;
    let _unanswered = agent.requests.recv().await.unwrap();
    assert_eq!(
        client.refusal().await,
        (RefusalKind::Busy, "no answer from the agent within 5s".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let agent = Agent::start(1);
    let mut first = agent.connect(STATUS_SOCKET).await;
    first.send(Request::Mode).await;
    while agent.requests.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut second = agent.connect(STATUS_SOCKET).await;
    second.send(Request::Mode).await;
    assert_eq!(second.refusal().await, (RefusalKind::Busy, "the agent is busy".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_agent_says_so() {
    let mut agent = Agent::start(1);
    let mut client = agent.connect(STATUS_SOCKET).await;
    client.send(Request::Mode).await;
    drop(agent.requests.recv().await.unwrap());
    assert_eq!(client.refusal().await.0, RefusalKind::Stopping);
    agent.requests.close();
    client.send(Request::Mode).await;
    assert_eq!(client.refusal().await.0, RefusalKind::Stopping);
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_sockets_have_their_rights_and_go_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("not-there-yet");
    let server = Server::bind(&run, Some("root")).or_else(|error| match error {
        // Only root may give a socket to another group.
        BindError::Io { .. } => Server::bind(&run, None),
        other => Err(other),
    });
    assert_eq!(mode_of(&run.join(STATUS_SOCKET)), 0o660);
    assert_eq!(mode_of(&run.join(CONTROL_SOCKET)), 0o600);
    assert_eq!(std::fs::read_dir(&run).unwrap().count(), 2, "nothing else is left lying around");
    drop(server);
    assert_eq!(std::fs::read_dir(&run).unwrap().count(), 0);
}

#[tokio::test]
async fn a_live_agent_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Server::bind(dir.path(), None).unwrap();
    assert_eq!(
        Server::bind(dir.path(), None).unwrap_err().to_string(),
        format!(
            "another tcpguard agent is running as pid {} ({})",
            std::process::id(),
            dir.path().join(STATUS_SOCKET).display()
        )
    );
    assert!(dir.path().join(STATUS_SOCKET).exists(), "the live one keeps its socket");
}

#[tokio::test]
async fn the_sockets_of_a_dead_agent_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    for name in [STATUS_SOCKET, CONTROL_SOCKET, "status.new"] {
        // Closing a listener leaves its file, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(name)).unwrap());
    }
    let _server = Server::bind(dir.path(), None).unwrap();
    UnixStream::connect(dir.path().join(STATUS_SOCKET)).await.unwrap();
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CONTROL_SOCKET);
    std::fs::write(&path, "notes").unwrap();
    assert_eq!(
        Server::bind(dir.path(), None).unwrap_err().to_string(),
        format!("{} is not a socket", path.display())
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");

    assert_eq!(
        Server::bind(dir.path(), Some("no-such-group")).unwrap_err().to_string(),
        "control.group: no group no-such-group on this host"
    );
    assert_eq!(
        Server::bind(&path, None).unwrap_err().to_string(),
        format!("cannot create {}: File exists (os error 17)", path.display())
    );
}
