//! The socket of a process: it reads requests, forwards them to the task that owns the state, and writes responses.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tcpguard_host::hint::Failure;
use tcpguard_host::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::request::{Request, Response};

/// Connections at once. More wait in the kernel.
const CONNECTIONS: usize = 8;
/// Longest request, in bytes.
const LONGEST: u64 = 4 << 10;
/// Time for the request, and for the response to be taken, each.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for the response: a controller may wait for its BGP speaker meanwhile.
const ANSWER: Duration = Duration::from_secs(15);

/// A request on its way to the state.
#[derive(Debug)]
pub(super) struct Incoming {
    pub request: Request,
    pub reply: oneshot::Sender<Response>,
}

/// The socket, open. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Opens the socket at `path` for the user and the group of the process. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When another process listens there, or the directory cannot be written.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let message = format!("another process listens at {}", path.display());
            return Err(Failure::new(message, "systemctl status 'tcpguard-fleet*'"));
        }
        let listener = listen(path).map_err(|error| {
            let hint = "check --runtime-dir and its owner";
            Failure::new(format!("cannot make the socket {}: {error}", path.display()), hint)
        })?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until it is dropped. Requests go to `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Incoming>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(serve(stream, requests.clone()));
                        }
                        Err(error) => {
                            // Out of file descriptors, most likely: without a pause this would spin.
                            let own = std::process::id();
                            log::warn!("connection not accepted: {error}. See: ls -l /proc/{own}/fd");
                            sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The next start replaces a socket at which no process listens.
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves one request.
async fn serve(stream: UnixStream, requests: mpsc::Sender<Incoming>) {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(read).take(LONGEST);
    let read = timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let response = match serde_json::from_slice(&line) {
        Ok(request) => ask(request, &requests).await,
        Err(error) => {
            let message = format!("the request cannot be read: {error}");
            Failure::new(message, "systemctl restart 'tcpguard-fleet*'").into()
        }
    };
    let Ok(mut line) = json::bytes(&response) else { return };
    line.push(b'\n');
    // A client that does not take it has gone.
    let _ = timeout(PATIENCE, write.write_all(&line)).await;
}

async fn ask(request: Request, requests: &mpsc::Sender<Incoming>) -> Response {
    let busy = || {
        let hint = "try again, or: journalctl -u 'tcpguard-fleet*'";
        Failure::new("the process is busy or stopping", hint).into()
    };
    let (reply, answer) = oneshot::channel();
    if requests.try_send(Incoming { request, reply }).is_err() {
        return busy();
    }
    match timeout(ANSWER, answer).await {
        Ok(Ok(response)) => response,
        _ => busy(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::call;
    use super::*;

    #[tokio::test]
    async fn a_request_has_a_response() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("edge.sock");
        let server = Server::bind(&path).expect("a socket");
        let second = Server::bind(&path).expect_err("there is one");
        assert!(second.message.starts_with("another process listens"), "{second}");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let (sender, mut requests) = mpsc::channel(8);
        let server = tokio::spawn(server.serve(sender));
        let state = tokio::spawn(async move {
            while let Some(Incoming { request, reply }) = requests.recv().await {
                let response = match request {
                    Request::Confirm(_) => Response::Done,
                    Request::Status => Response::not_here("edge"),
                };
                let _ = reply.send(response);
            }
        });
        let asked = |request| {
            let path = path.clone();
            async move {
                tokio::task::spawn_blocking(move || call(&path, &request)).await.expect("no panic")
            }
        };
        let confirm = Request::Confirm("a1b2c3d4".parse().expect("a host"));
        assert_eq!(asked(confirm).await, Ok(Response::Done));
        let refused = asked(Request::Status).await.expect_err("refused");
        assert_eq!(refused.message, "the edge does not do that");
        server.abort();
        let _ = server.await;
        assert!(!path.exists());
        state.abort();
    }

    #[tokio::test]
    async fn a_line_that_is_no_request_is_answered_and_an_endless_one_is_not_read() {
        let (sender, _requests) = mpsc::channel(8);
        for (line, expected) in
            [(b"{}\n".to_vec(), "cannot be read"), (vec![b'x'; 10_000], "cannot be read")]
        {
            let (near, far) = UnixStream::pair().expect("a pair");
            let serving = tokio::spawn(serve(near, sender.clone()));
            let (read, mut write) = far.into_split();
            // The rest is not taken.
            let _ = timeout(Duration::from_secs(1), write.write_all(&line)).await;
            let mut response = String::new();
            let _ = BufReader::new(read).read_line(&mut response).await;
            assert!(response.contains(expected), "{response}");
            serving.await.expect("no panic");
        }
    }
}
