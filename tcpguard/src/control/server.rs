//! The agent's end of the sockets. It reads requests, forwards them, and writes answers back; it
//! decides nothing.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Gid;
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::Admission;
use super::frame::{self, FrameError, FrameReader};
use super::proto::{self, MAX_CHANGE, MAX_REQUEST, RefusalKind, Request, Response};
use super::{CONTROL_SOCKET, STATUS_SOCKET, group};

/// Time for a client to send a request, for the agent to answer it, and for the client to take the
/// answer, each.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Who sent a request, as the kernel says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Process id, if the kernel knows it.
    pub pid: Option<i32>,
}

/// A request on its way to the agent's loop. Requests for changes arrive only from those who may
/// make them.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked for.
    pub request: Request,
    /// Who asks.
    pub peer: Peer,
    /// Where the answer goes. Dropping it tells the client that the agent is stopping.
    pub reply: oneshot::Sender<Response>,
}

/// Why the sockets could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A live agent answers there.
    #[error(
        "another tcpguard runs{} and owns {}; stop it first: systemctl stop tcpguard, or use another --runtime-dir",
        pid.map_or_else(String::new, |pid| format!(" (pid {pid})")), socket.display()
    )]
    AlreadyRunning {
        /// Its process id, if the kernel knows it.
        pid: Option<i32>,
        /// The socket.
        socket: PathBuf,
    },
    /// The configured group does not exist.
    #[error(
        "[control] group = \"{group}\" does not exist on this host; create it: groupadd --system {group}"
    )]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// Only root may give a file to a group that it is not in.
    #[error(
        "[control] group = \"{group}\": the service is not in that group, so it cannot give it the status \
         socket; let it join: systemctl edit tcpguard, [Service] SupplementaryGroups={group}"
    )]
    NotInGroup {
        /// Its name.
        group: String,
    },
    /// Something other than a socket is in the way.
    #[error("{} is not a socket; move it away or use another --runtime-dir", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {}: {error}; check --runtime-dir and its owner", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Both sockets, open. They are removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    status: Socket,
    control: Socket,
}

#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing to do about it here, and the next start replaces a socket nobody listens on.
        let _ = std::fs::remove_file(&self.path);
    }
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
        let gid = match group {
            Some(name) => Some(
                group::number(name)
                    .ok_or_else(|| BindError::NoSuchGroup { group: name.to_owned() })?,
            ),
            None => None,
        };
        std::fs::create_dir_all(dir).map_err(|error| BindError::Io {
            what: "create",
            path: dir.to_owned(),
            error,
        })?;
        let (status, control) = (dir.join(STATUS_SOCKET), dir.join(CONTROL_SOCKET));
        for path in [&status, &control] {
            refuse_if_alive(path)?;
        }
        Ok(Self { status: bind(status, 0o660, gid)?, control: bind(control, 0o600, None)? })
    }

    /// Serves until it is dropped; every request goes to `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Incoming>) {
        let admission = Admission::default();
        let mut connections = JoinSet::new();
        loop {
            let (accepted, may_change) = tokio::select! {
                accepted = self.status.listener.accept() => (accepted, false),
                accepted = self.control.listener.accept() => (accepted, true),
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (admission, requests) = (admission.clone(), requests.clone());
                    connections.spawn(connection(stream, may_change, admission, requests));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: without a pause this would spin.
                    log::warn!("cannot accept a control connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn refuse_if_alive(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        _ => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => {
            Err(BindError::AlreadyRunning { pid: listener_pid(stream), socket: path.to_owned() })
        }
        Err(_) => Ok(()),
    }
}

/// The process at the other end: the credentials of a listening socket are those of its maker.
fn listener_pid(stream: std::os::unix::net::UnixStream) -> Option<i32> {
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid()
}

/// Makes the socket under another name first, so that it never has wider rights than `mode`, and
/// so that it replaces the one of a dead agent in one step.
fn bind(path: PathBuf, mode: u32, gid: Option<u32>) -> Result<Socket, BindError> {
    let new = path.with_extension("new");
    let refused = |what| {
        let path = path.clone();
        move |error| BindError::Io { what, path, error }
    };
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(refused("clear the way for")(error));
    }
    let listener = UnixListener::bind(&new).map_err(refused("make the socket"))?;
    let finish = || {
        if let Some(gid) = gid {
            rustix::fs::chown(&new, None, Some(Gid::from_raw(gid))).map_err(
                |error| match error {
                    Errno::PERM => BindError::NotInGroup {
                        group: group::name(gid).unwrap_or_else(|| gid.to_string()),
                    },
                    error => refused("give to its group")(error.into()),
                },
            )?;
        }
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))
            .map_err(refused("set the rights of"))?;
        std::fs::rename(&new, &path).map_err(refused("put in place"))
    };
    if let Err(error) = finish() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    Ok(Socket { listener, path })
}

async fn connection(
    mut stream: UnixStream,
    may_change: bool,
    admission: Admission,
    requests: mpsc::Sender<Incoming>,
) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let peer = Peer { uid: credentials.uid(), pid: credentials.pid() };
    let permit = match admission.admit(peer.uid) {
        Ok(permit) => permit,
        Err(why) => {
            // A refusal is a courtesy: it fits the socket's buffer or is not sent at all.
            let _ = stream.try_write(&refusal_bytes(&why));
            return;
        }
    };
    let (read, mut write) = stream.split();
    let longest = if may_change { MAX_CHANGE } else { MAX_REQUEST };
    let mut messages = FrameReader::new(read, longest);
    loop {
        let (response, last) = match timeout(DEADLINE, messages.next()).await {
            Ok(Ok(Some(message))) => (answer(&message, may_change, peer, &requests).await, false),
            Ok(Ok(None)) | Ok(Err(FrameError::Broken)) => break,
            Ok(Err(FrameError::TooLong)) => {
                let why = format!("a request has at most {longest} bytes");
                (Response::refused(RefusalKind::BadRequest, why), true)
            }
            Err(_) => {
                let why = format!("no request within {} s", DEADLINE.as_secs());
                (Response::refused(RefusalKind::BadRequest, why), true)
            }
        };
        let written = timeout(DEADLINE, frame::write(&mut write, &response)).await;
        if last || !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    drop(permit);
}

fn refusal_bytes(why: &str) -> Vec<u8> {
    let response = Response::refused(RefusalKind::Busy, why);
    let mut bytes = serde_json::to_vec(&response).unwrap_or_default();
    bytes.push(0);
    bytes
}

async fn answer(
    message: &[u8],
    may_change: bool,
    peer: Peer,
    requests: &mpsc::Sender<Incoming>,
) -> Response {
    let request = match proto::parse(message) {
        Ok(request) => request,
        Err(refusal) => return Response::Refused(refusal),
    };
    if request.is_change() && !may_change {
        let why =
            format!("{STATUS_SOCKET} only reads; changes go to {CONTROL_SOCKET}, as root: sudo");
        return Response::refused(RefusalKind::ReadOnly, why);
    }
    let (reply, answered) = oneshot::channel();
    match requests.try_send(Incoming { request, peer, reply }) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            return Response::refused(RefusalKind::Busy, "the agent is busy; try again");
        }
        Err(mpsc::error::TrySendError::Closed(_)) => return stopping(),
    }
    match timeout(DEADLINE, answered).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => stopping(),
        Err(_) => {
            let why = format!(
                "the agent gave no answer within {} s; look at its log: journalctl -u tcpguard",
                DEADLINE.as_secs()
            );
            Response::refused(RefusalKind::Busy, why)
        }
    }
}

fn stopping() -> Response {
    Response::refused(
        RefusalKind::Stopping,
        "the agent is stopping; see: systemctl status tcpguard",
    )
}
