//! The socket for the fleet process: JSON, one message on each line, in both directions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tcpguard_engine::POLL;
use tcpguard_host::finding::Finding;
use tcpguard_host::hint::Hint as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::exchange::Exchange;
use super::inbox::{Inbox, ROOM};
use crate::control::{BindError, FLEET_SOCKET, FrameReader, Socket, group_number};

/// Connections at once: of the fleet process, of its successor, and of people who look.
const CONNECTIONS: usize = 4;
/// The longest line that is read, in bytes. A rule has some 400.
const LONGEST: usize = 4 << 10;
/// Time in which a report must be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// One report on its way to every connection.
pub(super) type Report = Arc<[u8]>;

/// The socket, open. It is removed when this is dropped.
#[derive(Debug)]
pub struct FleetServer {
    socket: Socket,
    desk: Desk,
}

/// The part of the server that each connection shares.
#[derive(Clone, Debug)]
struct Desk {
    inbox: Inbox,
    reports: watch::Receiver<Report>,
    open: Arc<AtomicUsize>,
}

/// Counts a connection until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn of(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FleetServer {
    /// Opens the socket in `dir` for `group` (a name or number), and makes the agent's end of the exchange. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be had. It does not stop the agent.
    pub fn bind(dir: &Path, group: &str) -> Result<(Self, Exchange), Finding> {
        let bound = group_number(Some(group))
            .and_then(|gid| Socket::bind(dir.join(FLEET_SOCKET), 0o660, gid));
        let socket = bound.map_err(|error| not_served(&error))?;
        let (sender, reports) = watch::channel(Report::from([]));
        let (inbox, open) = (Inbox::default(), Arc::new(AtomicUsize::new(0)));
        let exchange = Exchange::new(inbox.clone(), sender, Arc::clone(&open));
        Ok((Self { socket, desk: Desk { inbox, reports, open } }, exchange))
    }

    /// Serves until it is dropped.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // More wait in the kernel.
                accepted = self.socket.listener.accept(), if connections.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(self.desk.clone().connection(stream));
                        }
                        Err(error) => {
                            // Out of file descriptors, most likely: without a pause this would spin.
                            log::warn!(
                                "fleet connection not accepted: {error}. Open files of the agent: \
                                 ls -l /proc/{}/fd",
                                std::process::id()
                            );
                            sleep(POLL).await;
                        }
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Desk {
    async fn connection(self, stream: UnixStream) {
        let (read, write) = stream.into_split();
        let open = Open::of(&self.open);
        tokio::select! {
            () = receive(read, &self.inbox) => {}
            () = send(write, self.reports) => {}
        }
        drop(open);
        // A process that connects again and again costs no more than one that stays.
        sleep(POLL).await;
    }
}

/// Reads messages until the connection ends, at most as many in the time of a poll as the queue holds.
async fn receive(read: impl AsyncRead + Unpin, inbox: &Inbox) {
    let mut lines = FrameReader::lines(read, LONGEST);
    loop {
        for _ in 0..ROOM {
            match lines.next().await {
                Ok(Some(line)) => match serde_json::from_slice(&line) {
                    Ok(message) => inbox.push(message),
                    Err(_) => inbox.note_unreadable(),
                },
                Ok(None) => return,
                Err(_) => return inbox.note_unreadable(),
            }
        }
        sleep(POLL).await;
    }
}

/// Writes each new report until the other side does not take one in time.
async fn send(mut write: impl AsyncWrite + Unpin, mut reports: watch::Receiver<Report>) {
    // The last one may be old.
    drop(reports.borrow_and_update());
    while reports.changed().await.is_ok() {
        let report = reports.borrow_and_update().clone();
        if !matches!(timeout(PATIENCE, write.write_all(&report)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Returns the health note about a socket that could not be made.
fn not_served(error: &BindError) -> Finding {
    let (why, hint) = match error {
        BindError::NoSuchGroup { group } => (
            format!("fleet.group: no group {group} on this host"),
            format!("install tcpguard-fleet, or: sudo groupadd --system {group}"),
        ),
        BindError::NotInGroup { group } => (
            format!("fleet.group: the service is not a member of the group {group}"),
            format!("systemctl edit tcpguard ([Service] SupplementaryGroups={group})"),
        ),
        other => (other.to_string(), other.hint()),
    };
    let text = format!("the fleet process cannot connect: {why}");
    Finding::warning("fleet_not_served", text)
        .hint(format!("{hint}, then: systemctl restart tcpguard"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::super::inbox::tests::hint;
    use super::*;

    /// The group of this process, which may give a file to no other.
    fn own_group() -> String {
        rustix::process::getgid().as_raw().to_string()
    }

    fn line(message: &tcpguard_engine::FleetMessage) -> Vec<u8> {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        line
    }

    /// Waits until `holds`, or fails after ten seconds.
    async fn until(holds: impl Fn() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("it never happens");
    }

    #[tokio::test]
    async fn messages_come_in_and_reports_go_out() {
        let dir = tempfile::tempdir().unwrap();
        let (server, mut exchange) = FleetServer::bind(dir.path(), &own_group()).unwrap();
        let path = dir.path().join(FLEET_SOCKET);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let (inbox, open) = (server.desk.inbox.clone(), Arc::clone(&server.desk.open));
        let server = tokio::spawn(server.serve());
        exchange.publish(&"too old for a newcomer");

        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(&line(&hint(443))).await.unwrap();
        stream.write_all(&line(&hint(80))).await.unwrap();
        stream.write_all(b"no JSON\n\n").await.unwrap();
        until(|| inbox.lost().unreadable == 2).await;
        assert_eq!(open.load(Ordering::Relaxed), 1);
        until(|| exchange.is_connected()).await;
        exchange.publish(&"news");
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("\"news\""));
        assert_eq!([inbox.pop(), inbox.pop()], [Some(hint(443)), Some(hint(80))]);

        drop(lines);
        until(|| open.load(Ordering::Relaxed) == 0).await;
        assert!(!exchange.is_connected());
        server.abort();
    }

    /// The naive way reads as fast as the other side writes, which costs the agent its CPU.
    #[tokio::test(start_paused = true)]
    async fn a_flood_of_messages_is_read_at_the_pace_of_the_loop() {
        let inbox = Inbox::default();
        let flood = line(&hint(443)).repeat(100_000);
        let reading = receive(&flood[..], &inbox);
        assert!(timeout(POLL * 10, reading).await.is_err(), "it goes on");
        let read = inbox.lost().dropped as usize + ROOM;
        assert!(read <= 11 * ROOM, "{read}");
    }

    #[tokio::test]
    async fn an_endless_line_ends_the_connection() {
        let inbox = Inbox::default();
        receive(&[b'x'; 100_000][..], &inbox).await;
        assert_eq!((inbox.lost().unreadable, inbox.pop()), (1, None));
    }

    /// The naive way waits for a process that was stopped.
    #[tokio::test(start_paused = true)]
    async fn a_process_that_takes_no_report_holds_up_nothing() {
        let (sender, reports) = watch::channel(Report::from([]));
        let (write, _unread) = tokio::io::duplex(16);
        let sending = tokio::spawn(send(write, reports));
        tokio::task::yield_now().await;
        for _ in 0..100 {
            sender.send_replace(Report::from([b'x'; 1000]));
        }
        sending.await.unwrap();
        drop(sender);
    }

    #[test]
    fn a_socket_that_cannot_be_made_is_a_note_with_a_remedy() {
        let note = not_served(&BindError::NoSuchGroup { group: "tcpguard-fleet".to_owned() });
        assert_eq!(
            note.text,
            "the fleet process cannot connect: fleet.group: no group tcpguard-fleet on this host"
        );
        assert!(note.hint.is_some_and(|hint| hint.contains("groupadd")));
        let note = not_served(&BindError::NotInGroup { group: "tcpguard-fleet".to_owned() });
        assert!(note.hint.is_some_and(|hint| hint.contains("SupplementaryGroups")));
    }
}
