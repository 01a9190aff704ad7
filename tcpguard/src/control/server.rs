//! The agent's end of the sockets. It reads requests, forwards them, and writes answers back; it
//! decides nothing.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::{Admission, Permit};
use super::frame::{self, FrameError, FrameReader};
use super::proto::{self, MAX_CHANGE, MAX_REQUEST, Refusal, RefusalKind, Request, Response};
use super::socket::{BindError, Socket, group_number, refuse_if_alive};
use super::{CONTROL_SOCKET, STATUS_SOCKET};

/// Time for a client to send a request, for the agent to answer it, and for the client to take the
/// answer, each.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The sender of a request, as the kernel reports it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    pub uid: u32,
    /// Process id, if the kernel knows it.
    pub pid: Option<i32>,
}

/// A request on its way to the agent's loop. Requests for changes arrive only from senders with the
/// right to make them.
#[derive(Debug)]
pub struct Incoming {
    pub request: Request,
    pub peer: Peer,
    /// Channel for the response. When it is dropped, the client learns that the agent is stopping.
    pub reply: oneshot::Sender<Response>,
}

/// Both sockets, open. They are removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    status: Socket,
    control: Socket,
}

impl Server {
    /// Makes both sockets in `dir`, which is created if it does not exist. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// A live agent has them already, `group` (a name or number) does not exist, or the system
    /// refuses.
    pub fn bind(dir: &Path, group: Option<&str>) -> Result<Self, BindError> {
        let gid = group_number(group)?;
        std::fs::create_dir_all(dir).map_err(|error| BindError::Io {
            what: "create",
            path: dir.to_owned(),
            error,
        })?;
        let (status, control) = (dir.join(STATUS_SOCKET), dir.join(CONTROL_SOCKET));
        for path in [&status, &control] {
            refuse_if_alive(path)?;
        }
        Ok(Self {
            status: Socket::bind(status, 0o660, gid)?,
            control: Socket::bind(control, 0o600, None)?,
        })
    }

    /// Serves until it is dropped. Requests on the control socket go to `changes`, requests on the
    /// status socket to `questions`. Each socket has its own connection slots and its own queue, so
    /// that clients that may only ask never block a client that may change something.
    pub async fn serve(self, changes: mpsc::Sender<Incoming>, questions: mpsc::Sender<Incoming>) {
        let status =
            SocketRole { may_change: false, admission: Admission::default(), requests: questions };
        let control =
            SocketRole { may_change: true, admission: Admission::default(), requests: changes };
        let mut connections = JoinSet::new();
        loop {
            let (accepted, entrance) = tokio::select! {
                accepted = self.status.listener.accept() => (accepted, &status),
                accepted = self.control.listener.accept() => (accepted, &control),
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(entrance.clone().connection(stream));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: without a pause this would spin.
                    log::warn!(
                        "control connection not accepted: {error}. Open files of the agent: ls -l /proc/{}/fd",
                        std::process::id()
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// The service behind one of the sockets.
#[derive(Clone)]
struct SocketRole {
    may_change: bool,
    admission: Admission,
    requests: mpsc::Sender<Incoming>,
}

impl SocketRole {
    async fn connection(self, mut stream: UnixStream) {
        let Ok(credentials) = stream.peer_cred() else {
            return;
        };
        let peer = Peer { uid: credentials.uid(), pid: credentials.pid() };
        let permit = match self.enter(peer) {
            Ok(permit) => permit,
            Err(refusal) => {
                // A refusal is a courtesy: it fits the socket's buffer or is not sent at all.
                let refusal = Response::Refused(refusal);
                let _ = stream.try_write(&frame::bytes(&refusal).unwrap_or_default());
                return;
            }
        };
        let (read, mut write) = stream.split();
        let longest = if self.may_change { MAX_CHANGE } else { MAX_REQUEST };
        let mut messages = FrameReader::new(read, longest);
        loop {
            let (response, last) = match timeout(DEADLINE, messages.next()).await {
                Ok(Ok(Some(message))) => (self.answer(&message, peer).await, false),
                Ok(Ok(None)) | Ok(Err(FrameError::Broken)) => break,
                Ok(Err(FrameError::TooLong)) => (self.too_long(longest), true),
                Err(_) => {
                    let why = format!("no request within {}s", DEADLINE.as_secs());
                    (Response::refused(RefusalKind::BadRequest, why, "tcpguard status"), true)
                }
            };
            let Ok(bytes) = frame::bytes(&response) else { break };
            let written = timeout(DEADLINE, write.write_all(&bytes)).await;
            if last || !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
        drop(permit);
    }

    /// A permit for one more connection, if `peer` may have one. The mode of the control socket already keeps
    /// others out, but a mode can be changed and a descriptor be passed on.
    fn enter(&self, peer: Peer) -> Result<Permit, Refusal> {
        if self.may_change && !changes_are_for(peer.uid) {
            let why = format!("permission denied: user {} may not make changes", peer.uid);
            return Err(Refusal::new(RefusalKind::ReadOnly, why, "use sudo"));
        }
        let busy = |why| Refusal::of(RefusalKind::Busy, why);
        self.admission.admit(peer.uid).map_err(busy)
    }

    fn too_long(&self, longest: usize) -> Response {
        let hint = if self.may_change {
            "import fewer rules at a time: tcpguard rules import FILE"
        } else {
            "use sudo"
        };
        let why = format!("request too long (limit: {longest} bytes)");
        Response::refused(RefusalKind::BadRequest, why, hint)
    }

    async fn answer(&self, message: &[u8], peer: Peer) -> Response {
        let request = match proto::parse(message) {
            Ok(request) => request,
            Err(refusal) => return Response::Refused(refusal),
        };
        if request.is_change() && !self.may_change {
            let why = format!("{STATUS_SOCKET} accepts no changes, {CONTROL_SOCKET} does");
            return Response::refused(RefusalKind::ReadOnly, why, "use sudo");
        }
        ask(request, peer, &self.requests).await
    }
}

/// Returns whether `uid` may change the behaviour of the agent: root, and the user that the agent runs as. That user
/// could replace the agent by another program anyway.
fn changes_are_for(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Has the agent's loop answer, within [`DEADLINE`].
pub(crate) async fn ask(
    request: Request,
    peer: Peer,
    requests: &mpsc::Sender<Incoming>,
) -> Response {
    let (reply, answered) = oneshot::channel();
    match requests.try_send(Incoming { request, peer, reply }) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            let hint = "try again, or: journalctl -u tcpguard";
            return Response::refused(RefusalKind::Busy, "the agent is busy", hint);
        }
        Err(mpsc::error::TrySendError::Closed(_)) => return stopping(),
    }
    match timeout(DEADLINE, answered).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => stopping(),
        Err(_) => {
            let why = format!("no answer from the agent within {}s", DEADLINE.as_secs());
            Response::refused(RefusalKind::Busy, why, "journalctl -u tcpguard")
        }
    }
}

fn stopping() -> Response {
    Response::refused(RefusalKind::Stopping, "the agent is stopping", "systemctl status tcpguard")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_for_root_and_for_the_agents_own_user() {
        let own = rustix::process::geteuid().as_raw();
        assert!(changes_are_for(0) && changes_are_for(own));
        assert!(!changes_are_for(own + 1) && !changes_are_for(65_534));
    }

    #[test]
    fn others_are_refused_at_the_control_socket_before_they_take_a_place() {
        let (requests, _) = mpsc::channel(1);
        let entrance = |may_change| SocketRole {
            may_change,
            admission: Admission::default(),
            requests: requests.clone(),
        };
        let other = Peer { uid: 65_534, pid: None };
        let Err(refusal) = entrance(true).enter(other) else {
            panic!("another user got in");
        };
        assert_eq!(refusal.kind, RefusalKind::ReadOnly);
        assert!(
            refusal.message.contains("65534")
                && tcpguard_support::hint_check::is_named(&refusal.hint)
        );
        assert!(entrance(false).enter(other).is_ok());
    }
}
