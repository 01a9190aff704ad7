//! Metrics by HTTP: on a Unix socket for every user that may read the status, and, where an operator
//! wants it, on a TCP port of this host.
//!
//! Each scrape is one question to the agent's loop, as `tcpguard status` is. A connection is answered
//! once and closed.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response as HttpResponse, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tcpguard_host::finding::Finding;
use tcpguard_host::linux::SockDiag;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::format::{self, text};
use super::of_status;
use super::slots::{Client, Slots};
use crate::control::{
    BindError, DEADLINE, Incoming, METRICS_SOCKET, Peer, Request, Response, Socket, ask,
    group_number,
};

/// The one path that there is.
const PATH: &str = "/metrics";
/// Longest head of a request, in bytes; browsers send some hundred.
const LONGEST_HEAD: usize = 16 << 10;
/// The sender of each scrape for the agent, which distinguishes only who changes something: `nobody`, by its
/// customary number.
const SCRAPER: Peer = Peer { uid: 65_534, pid: None };

#[derive(Debug)]
pub struct MetricsServer {
    unix: Socket,
    tcp: Option<TcpListener>,
}

impl MetricsServer {
    /// Opens the socket in `dir`, for `group` (a name or number) too, and `listen` if it is given. A port that
    /// cannot be had does not stop the agent: it is the finding that comes with the server. Must be called
    /// within a tokio runtime.
    pub async fn bind(
        dir: &Path,
        group: Option<&str>,
        listen: Option<SocketAddr>,
    ) -> Result<(Self, Option<Finding>), BindError> {
        let unix = Socket::bind(dir.join(METRICS_SOCKET), 0o660, group_number(group)?)?;
        let (tcp, finding) = match listen {
            None => (None, None),
            Some(address) => match TcpListener::bind(address).await {
                Ok(tcp) => (Some(tcp), denied(address).map(|error| not_served(address, &error))),
                Err(error) => (None, Some(not_served(address, &error))),
            },
        };
        Ok((Self { unix, tcp }, finding))
    }

    /// Returns the address on which it listens on TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Serves until it is dropped; every scrape is a request to `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Incoming>) {
        let mut slots = Slots::default();
        let mut connections = JoinSet::new();
        // Where the kernel does not name the users of connections, these are counted by address.
        let mut sockets = self.tcp.as_ref().and_then(|_| SockDiag::open().ok());
        loop {
            let accepted = tokio::select! {
                accepted = self.unix.listener.accept() => accepted.map(|(it, _)| Stream::Unix(it)),
                accepted = accept(self.tcp.as_ref()) => accepted.map(Stream::Tcp),
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(stream) => {
                    let Some(client) = stream.client(sockets.as_mut()) else { continue };
                    slots.admit(client, |asked| {
                        connections.spawn(stream.answer(asked, requests.clone()))
                    });
                    // A head that has arrived is read before a further connection takes its slot.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Out of file descriptors, most likely: without a pause this would spin.
                    log::warn!(
                        "metrics connection not accepted: {error}. Open files of the agent: ls -l /proc/{}/fd",
                        std::process::id()
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Returns the error that denies the service a packet to `address`, an address of this host. systemd's
/// IPAddressDeny= lets it listen, and drops all packets.
fn denied(address: SocketAddr) -> Option<io::Error> {
    let socket = UdpSocket::bind(SocketAddr::new(address.ip(), 0)).ok()?;
    let error = socket.send_to(&[], address).err()?;
    (error.kind() == io::ErrorKind::PermissionDenied).then_some(error)
}

/// Returns the health note about a port without metrics: the reason, and the way to get them.
fn not_served(address: SocketAddr, error: &io::Error) -> Finding {
    let hint = match error.raw_os_error() {
        // As systemd's RestrictAddressFamilies= and IPAddressDeny= answer.
        Some(libc::EAFNOSUPPORT | libc::EPERM | libc::EACCES) => {
            "systemctl edit tcpguard: [Service] RestrictAddressFamilies=AF_INET AF_INET6 \
             IPAddressAllow=localhost; then: systemctl restart tcpguard"
        }
        Some(libc::EADDRINUSE) => {
            "change [metrics] listen, or find the owner of the port: ss -ltnp; then: systemctl restart tcpguard"
        }
        _ => "change [metrics] listen, then: systemctl restart tcpguard",
    };
    let text = format!("metrics are not served on {address}: {error}");
    Finding::warning("metrics_not_served", text).about(address.to_string()).hint(hint)
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Returns the client at the other end, or `None` if it has gone.
    fn client(&self, sockets: Option<&mut SockDiag>) -> Option<Client> {
        match self {
            Self::Unix(stream) => Client::of_unix(stream),
            Self::Tcp(stream) => Client::of_tcp(stream, sockets),
        }
    }

    async fn answer(self, asked: Arc<AtomicBool>, requests: mpsc::Sender<Incoming>) {
        match self {
            Self::Unix(stream) => connection(stream, &asked, &requests).await,
            Self::Tcp(stream) => connection(stream, &asked, &requests).await,
        }
    }
}

/// Answers one request, and sets `asked` once its head is complete. A client that is too slow is dropped
/// without a reply: a scraper asks again.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: &AtomicBool,
    requests: &mpsc::Sender<Incoming>,
) {
    let service = service_fn(|request: HttpRequest<Body>| {
        asked.store(true, Ordering::Relaxed);
        let subject = Asked::of(&request);
        async move { Ok::<_, Infallible>(respond(subject, requests).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(DEADLINE);
    server.keep_alive(false).max_buf_size(LONGEST_HEAD);
    let served = server.serve_connection(TokioIo::new(stream), service);
    // The head, the agent's answer, and writing it out: each has its time.
    if let Ok(Err(error)) = timeout(3 * DEADLINE, served).await {
        log::debug!("a connection for metrics failed: {error}");
    }
}

/// The subject of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Metrics,
    OtherPath,
    OtherMethod,
}

impl Asked {
    fn of<B>(request: &HttpRequest<B>) -> Self {
        if request.uri().path() != PATH {
            return Self::OtherPath;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Self::OtherMethod;
        }
        Self::Metrics
    }
}

async fn respond(asked: Asked, requests: &mpsc::Sender<Incoming>) -> HttpResponse<Full<Bytes>> {
    match asked {
        Asked::Metrics => {}
        Asked::OtherPath => {
            let text = format!("there is nothing here; metrics are at {PATH}\n");
            return plain(StatusCode::NOT_FOUND, text);
        }
        Asked::OtherMethod => {
            let text = format!("metrics are read: GET {PATH}\n");
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, text);
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
    }
    match ask(Request::Status, SCRAPER, requests).await {
        Response::Status(status) => plain(StatusCode::OK, text(&of_status(&status))),
        Response::Refused(refusal) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, refusal.message + "\n")
        }
        _ => {
            let text =
                "the agent answered another question; look at its log: journalctl -u tcpguard\n";
            plain(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
        }
    }
}

fn plain(status: StatusCode, text: String) -> HttpResponse<Full<Bytes>> {
    let mut response = HttpResponse::new(Full::from(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(format::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    fn asked(method: &str, uri: &str) -> Asked {
        Asked::of(&HttpRequest::builder().method(method).uri(uri).body(()).unwrap())
    }

    #[test]
    fn there_is_one_path_and_it_is_only_read() {
        assert_eq!(asked("GET", "/metrics"), Asked::Metrics);
        assert_eq!(asked("HEAD", "/metrics?x=1"), Asked::Metrics);
        assert_eq!(asked("POST", "/metrics"), Asked::OtherMethod);
        for path in ["/", "/metrics/", "/metrics/../status", "//metrics"] {
            assert_eq!(asked("GET", path), Asked::OtherPath, "{path}");
        }
    }

    #[test]
    fn packets_to_loopback_addresses_are_sent_where_nothing_denies_them() {
        for address in ["127.0.0.1:9469", "127.0.0.2:1"] {
            assert!(denied(address.parse().unwrap()).is_none(), "{address}");
        }
    }

    #[test]
    fn a_port_that_cannot_be_had_is_reported_with_the_way_out() {
        let address: SocketAddr = "127.0.0.1:9469".parse().unwrap();
        for (errno, hint) in [
            (libc::EAFNOSUPPORT, "RestrictAddressFamilies=AF_INET AF_INET6"),
            (libc::EPERM, "IPAddressAllow=localhost"),
            (libc::EADDRINUSE, "ss -ltnp"),
            (libc::EADDRNOTAVAIL, "change [metrics] listen"),
        ] {
            let finding = not_served(address, &io::Error::from_raw_os_error(errno));
            let found = finding.hint.as_deref().unwrap();
            assert!(found.contains(hint) && hint_check::is_named(found), "{finding:?}");
            assert!(finding.text.contains("127.0.0.1:9469"), "{finding:?}");
        }
    }
}
