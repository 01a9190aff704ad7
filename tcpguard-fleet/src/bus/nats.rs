//! NATS as the bus: the client of its makers (`async-nats`), with limits for a daemon that must neither wait nor grow.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{
    Client, ClientError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, Request,
    ServerAddr, ServerError, StatusCode,
};
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tcpguard_host::time::Time;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::credentials::{Claims, Credentials};
use super::{Bus, BusError, Received, Stored, store};

/// Header of the documents that hosts publish. A host can have the server send its reply to a request to the subject
/// of another host, where the server vouches for nothing. A reply never has this header.
const PUBLISHED: &str = "Tcpguard-Fleet";
/// Begin of the server's words about a subject that the credentials do not permit.
const NOT_PERMITTED: &str = "Permissions Violation";
/// Limit of a publication. Without it, one waits for as long as the server does not read.
const PUBLISH: Duration = Duration::from_secs(1);
/// Limit of a request with a reply.
const REQUEST: Duration = Duration::from_secs(5);
/// Interval of pings. Three without a reply end the connection.
const PING: Duration = Duration::from_secs(5);
/// Messages of a subscription that wait to be taken out: 1 MiB of the longest, and 16 MiB in all subscriptions of a host.
pub(crate) const WAITING: usize = 256;
/// Publications that wait to be sent.
const UNSENT: usize = 64;
/// First wait before another connection.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest wait before another connection.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Longest wait after the server refused the credentials.
const LAST_RETRY_REFUSED: Duration = Duration::from_secs(300);

/// Servers and the identity of this host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Addresses, such as `tls://nats.example.net:4222`. Any of them is enough, and no others are used. With one of
    /// `tls://`, all connections have TLS.
    pub servers: Vec<String>,
    /// Name of this host on the bus: a token without dots.
    pub host: String,
    /// Proof of the name.
    pub credentials: Credentials,
    /// Certificates of the authorities of servers; `None`: those of the system.
    pub authorities: Option<PathBuf>,
}

/// Connection to the bus.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BusStatus {
    /// True while there is a connection.
    pub connected: bool,
    /// True if the server refused the credentials when a connection was last tried.
    pub refused: bool,
    /// The last error; `null` if there was none.
    pub last_error: Option<String>,
    /// The last publication or subscription over this connection that the credentials do not permit; `null` if there
    /// was none.
    pub denied: Option<String>,
    /// End of the credentials; `null` if they have none.
    pub credentials_end: Option<Time>,
    /// Received documents that were dropped because they came too fast.
    pub overflowed: u64,
    /// Documents that were not published.
    pub unsent: u64,
    /// Received messages that no host has published, such as replies of the server that a host had sent to a foreign
    /// subject.
    pub misdirected: u64,
}

impl BusStatus {
    /// The connection in words.
    pub const fn words(&self) -> &'static str {
        if self.connected { "connected" } else { "not connected" }
    }
}

#[derive(Default)]
struct State {
    is_connected: AtomicBool,
    connections: watch::Sender<u64>,
    is_refused: AtomicBool,
    last_error: Mutex<Option<String>>,
    denied: Mutex<Option<String>>,
    ends: Option<jiff::Timestamp>,
    overflowed: AtomicU64,
    unsent: AtomicU64,
    misdirected: AtomicU64,
}

/// A connection to NATS, made again by itself whenever it is lost.
#[derive(Clone)]
pub struct Nats {
    client: Client,
    state: Arc<State>,
}

impl State {
    fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.is_connected.store(true, Ordering::Relaxed);
                self.is_refused.store(false, Ordering::Relaxed);
                *lock(&self.denied) = None;
                self.connections.send_modify(|connections| *connections += 1);
            }
            Event::Disconnected | Event::Closed => {
                self.is_connected.store(false, Ordering::Relaxed);
            }
            Event::SlowConsumer(_) => {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
            }
            Event::ServerError(error) => {
                match error {
                    ServerError::AuthorizationViolation => {
                        self.is_refused.store(true, Ordering::Relaxed);
                    }
                    // The connection goes on.
                    ServerError::Other(words) if words.starts_with(NOT_PERMITTED) => {
                        *lock(&self.denied) = Some(words.clone());
                    }
                    ServerError::SlowConsumer(_) | ServerError::Other(_) => {}
                }
                self.keep(error.to_string());
            }
            Event::ClientError(error) => {
                // A connection that failed. The client reports the kind of its error by words only.
                let refusal = ConnectErrorKind::AuthorizationViolation.to_string();
                let is_refused = matches!(error, ClientError::Other(words) if *words == refusal);
                self.is_refused.store(is_refused, Ordering::Relaxed);
                self.keep(error.to_string());
            }
            Event::LameDuckMode | Event::Draining => {}
        }
    }

    fn keep(&self, error: String) {
        *lock(&self.last_error) = Some(error);
    }
}

/// Locks a text. A panic leaves it whole: each change replaces it.
fn lock(text: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether a message was published under its subject: by a host, or by the server when it stored a document.
fn is_published(message: &Message) -> bool {
    let headers = message.headers.as_ref().filter(|_| message.status.is_none());
    headers.is_some_and(|headers| match store::is_of_store(&message.subject) {
        true => store::is_republished(&message.subject, headers),
        false => headers.get(PUBLISHED).is_some(),
    })
}

/// Wait before connection number `attempt` (from 1): doubled each time, and shortened by chance by up to a half, so
/// that the hosts of a fleet do not come back at the same moment. `random` is any number.
fn retry(attempt: usize, is_refused: bool, random: u64) -> Duration {
    let last = if is_refused { LAST_RETRY_REFUSED } else { LAST_RETRY };
    let doubled = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let full = FIRST_RETRY.saturating_mul(1 << doubled).min(last);
    full.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
}

impl Nats {
    /// Begins to connect, and returns at once: the connection may come later.
    ///
    /// # Errors
    /// When a file or an address of the settings cannot be used.
    pub async fn connect(settings: &Settings) -> Result<Self, BusError> {
        let invalid = |what: String| move |cause| BusError::Settings { what, cause };
        let servers = settings
            .servers
            .iter()
            .map(|server| server.parse::<ServerAddr>().map_err(invalid(server.clone())))
            .collect::<Result<Vec<_>, _>>()?;
        let needs_tls = settings.authorities.is_some()
            || matches!(settings.credentials, Credentials::Certificate { .. })
            || servers.iter().any(ServerAddr::tls_required);
        let mut ends = None;
        let mut options = match &settings.credentials {
            Credentials::None => ConnectOptions::new(),
            Credentials::File(path) => {
                let shown = path.display().to_string();
                let file = std::fs::read_to_string(path).map_err(invalid(shown.clone()))?;
                ends = Claims::read(&file).and_then(|claims| claims.end());
                ConnectOptions::with_credentials(&file).map_err(invalid(shown))?
            }
            Credentials::Certificate { certificate, key } => {
                ConnectOptions::new().add_client_certificate(certificate.clone(), key.clone())
            }
        };
        if let Some(authorities) = &settings.authorities {
            options = options.add_root_certificates(authorities.clone());
        }
        let state = Arc::new(State { ends, ..State::default() });
        let (events, retries) = (Arc::clone(&state), Arc::clone(&state));
        let client = options
            .name(&settings.host)
            .require_tls(needs_tls)
            // A server names others before TLS begins, so that an attacker on the path could add one.
            .ignore_discovered_servers()
            .custom_inbox_prefix(format!("_INBOX.{}", settings.host))
            .ping_interval(PING)
            .connection_timeout(REQUEST)
            .request_timeout(Some(REQUEST))
            .subscription_capacity(WAITING)
            .client_capacity(UNSENT)
            .retry_on_initial_connect()
            .event_callback(move |event| {
                let state = Arc::clone(&events);
                async move { state.note(&event) }
            })
            .reconnect_delay_callback(move |attempt| {
                let random = tcpguard_host::random::words::<1>().map_or(u64::MAX, |[word]| word);
                retry(attempt, retries.is_refused.load(Ordering::Relaxed), random)
            })
            .connect(servers)
            .await
            .map_err(|error| BusError::Refused(error.to_string()))?;
        Ok(Self { client, state })
    }

    /// State of the connection.
    pub fn status(&self) -> BusStatus {
        let State {
            is_connected,
            is_refused,
            last_error,
            denied,
            ends,
            overflowed,
            unsent,
            misdirected,
            ..
        } = &*self.state;
        BusStatus {
            connected: is_connected.load(Ordering::Relaxed),
            refused: is_refused.load(Ordering::Relaxed),
            last_error: lock(last_error).clone(),
            denied: lock(denied).clone(),
            credentials_end: ends.map(Time),
            overflowed: overflowed.load(Ordering::Relaxed),
            unsent: unsent.load(Ordering::Relaxed),
            misdirected: misdirected.load(Ordering::Relaxed),
        }
    }

    /// Makes the durable store, once for a fleet, on so many servers of a cluster.
    ///
    /// # Errors
    /// When the server refuses it, as it does if there is one with another configuration.
    pub async fn make_store(&self, replicas: u32) -> Result<(), BusError> {
        let reply = self.ask(store::create(), &store::configuration(replicas)).await?;
        store::reply(&reply.payload).map(|_| ())
    }

    async fn ask(&self, subject: String, question: &Value) -> Result<Message, BusError> {
        self.send(subject, Request::new().payload(question.to_string().into())).await
    }

    async fn send(&self, subject: String, request: Request) -> Result<Message, BusError> {
        if !self.state.is_connected.load(Ordering::Relaxed) {
            return Err(BusError::Disconnected);
        }
        let limit = BusError::Timeout { seconds: REQUEST.as_secs() };
        match timeout(REQUEST, self.client.send_request(subject, request)).await {
            Err(_) => Err(limit),
            Ok(Err(error)) => Err(BusError::Refused(error.to_string())),
            Ok(Ok(message)) => Ok(message),
        }
    }
}

impl Bus for Nats {
    fn connections(&self) -> watch::Receiver<u64> {
        self.state.connections.subscribe()
    }

    async fn publish(&self, subject: &str, document: Vec<u8>) -> Result<(), BusError> {
        let sent = match self.state.is_connected.load(Ordering::Relaxed) {
            false => Err(BusError::Disconnected),
            true => {
                let mut headers = HeaderMap::new();
                headers.insert(PUBLISHED, "1");
                let (subject, document) = (subject.to_owned(), document.into());
                let publication = self.client.publish_with_headers(subject, headers, document);
                match timeout(PUBLISH, publication).await {
                    Err(_) => Err(BusError::Timeout { seconds: PUBLISH.as_secs() }),
                    Ok(Err(error)) => Err(BusError::Refused(error.to_string())),
                    Ok(Ok(())) => Ok(()),
                }
            }
        };
        if sent.is_err() {
            self.state.unsent.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    async fn subscribe(&self, pattern: &str) -> Result<mpsc::Receiver<Received>, BusError> {
        let subscription = timeout(REQUEST, self.client.subscribe(pattern.to_owned())).await;
        let mut subscription = subscription
            .map_err(|_| BusError::Timeout { seconds: REQUEST.as_secs() })?
            .map_err(|error| BusError::Refused(error.to_string()))?;
        // The client's own buffer is the one that fills, and that counts the messages that it drops.
        let (sender, receiver) = mpsc::channel(1);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = subscription.next() => message,
                    // The receiver was dropped: the server need not send more.
                    () = sender.closed() => None,
                };
                let Some(message) = message else { return };
                if !is_published(&message) {
                    state.misdirected.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let Message { subject, payload, .. } = message;
                let received = Received { subject: subject.to_string(), document: payload.into() };
                if sender.send(received).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn stored(&self, after: u64, limit: usize) -> Result<Vec<Stored>, BusError> {
        let mut documents: Vec<Stored> = Vec::new();
        while documents.len() < limit {
            let last = documents.last().map_or(after, |stored| stored.sequence);
            let reply = self.ask(store::direct_get(), &store::next(last)).await?;
            match reply.status {
                Some(StatusCode::NOT_FOUND) => break,
                Some(status) if !status.is_success() => {
                    let words = reply.description.unwrap_or_default();
                    return Err(BusError::Refused(format!("{words} (code {status})")));
                }
                _ => {}
            }
            let headers = reply.headers.unwrap_or_default();
            let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
            documents.push(store::document(header, &reply.payload)?);
        }
        Ok(documents)
    }

    async fn store(&self, key: &str, document: Option<Vec<u8>>) -> Result<u64, BusError> {
        let mut request = Request::new();
        match document {
            Some(document) => request = request.payload(document.into()),
            None => {
                let mut headers = HeaderMap::new();
                headers.insert("KV-Operation", "DEL");
                request = request.headers(headers);
            }
        }
        let reply = self.send(store::subject(key), request).await?;
        store::reply(&reply.payload)?
            .ok_or_else(|| BusError::Unreadable("a reply without a position".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_differ_between_hosts() {
        let latest = |attempt| retry(attempt, false, u64::MAX);
        assert_eq!([1, 2, 3].map(latest), [500, 1000, 2000].map(Duration::from_millis));
        assert_eq!(latest(1000), LAST_RETRY);
        assert_eq!(retry(1000, true, u64::MAX), LAST_RETRY_REFUSED);
        assert_eq!(retry(1000, false, 0), LAST_RETRY / 2);
        assert_eq!(retry(0, false, u64::MAX), FIRST_RETRY);
    }

    /// A server that sends this greeting.
    async fn server(greeting: String, listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(format!("INFO {greeting}\r\n").as_bytes()).await.expect("taken");
        stream
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    async fn connect(servers: Vec<String>) -> Nats {
        let settings = Settings { servers, host: "a1b2c3d4".to_owned(), ..Settings::default() };
        Nats::connect(&settings).await.expect("settings")
    }

    const GREETING: &str = r#""server_id":"S","version":"2.12.7","max_payload":4096"#;

    #[tokio::test]
    async fn no_credentials_are_sent_without_tls_where_a_server_needs_it() {
        let (listener, port) = listener().await;
        let servers = vec![format!("nats://127.0.0.1:{port}"), "tls://127.0.0.1:9".to_owned()];
        let _client = connect(servers).await;
        let mut stream = server(format!("{{{GREETING}}}"), &listener).await;
        let mut sent = [0; 7];
        // Without certificates of the system the connection ends.
        let read = stream.read(&mut sent).await.unwrap_or_default();
        assert!(read == 0 || sent[0] == 0x16, "{:?} is no begin of TLS", &sent[..read]);
    }

    #[tokio::test]
    async fn no_server_beside_those_of_the_settings_is_used() {
        let (known, port) = listener().await;
        let (named, other) = listener().await;
        let _client = connect(vec![format!("nats://127.0.0.1:{port}")]).await;
        let greeting = format!(r#"{{{GREETING},"connect_urls":["127.0.0.1:{other}"]}}"#);
        // Each round of tries takes every server that is known.
        for _ in 0..3 {
            let mut stream = server(greeting.clone(), &known).await;
            let mut sent = [0; 8];
            stream.read_exact(&mut sent).await.expect("a greeting");
        }
        let tried = timeout(Duration::ZERO, named.accept()).await;
        assert!(tried.is_err(), "{tried:?}");
    }

    /// A message as the client receives it.
    fn message(subject: &str, status: Option<StatusCode>, headers: &[(&str, &str)]) -> Message {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        Message {
            subject: subject.into(),
            reply: None,
            payload: Vec::new().into(),
            headers: Some(map).filter(|_| status.is_some() || !headers.is_empty()),
            status,
            description: None,
            length: 0,
        }
    }

    /// The reply to a request of one host can be sent to the subject of another.
    #[test]
    fn a_reply_of_the_server_is_no_document_of_a_host() {
        let of_host = "tg.1.relief.0f0f0f0f";
        let reply = [
            ("Nats-Stream", "KV_rule"),
            ("Nats-Subject", "$KV.rule.ops.0123456789abcdef"),
            ("Nats-Sequence", "7"),
        ];
        let not_found = Some(StatusCode::NOT_FOUND);
        assert!(is_published(&message(of_host, None, &[(PUBLISHED, "1")])));
        assert!(!is_published(&message(of_host, None, &reply)));
        assert!(!is_published(&message(of_host, None, &[])), "a reply without headers");
        assert!(!is_published(&message(of_host, not_found, &[])));
        let of_store = "tg.1.rule.ops.0123456789abcdef";
        let republished = [&reply[..], &[("Nats-Last-Sequence", "0")]].concat();
        assert!(is_published(&message(of_store, None, &republished)));
        assert!(!is_published(&message(of_store, not_found, &republished)));
        assert!(!is_published(&message(of_store, None, &reply)));
        assert!(!is_published(&message(of_store, None, &[(PUBLISHED, "1")])));
    }

    #[test]
    fn a_subject_that_is_not_permitted_is_remembered_over_its_connection() {
        let state = State::default();
        let denied = || lock(&state.denied).clone();
        state.note(&Event::ServerError(ServerError::Other("Stale Connection".to_owned())));
        assert_eq!(denied(), None);
        let words = "Permissions Violation for Subscription to \"tg.1.host.*\"";
        state.note(&Event::ServerError(ServerError::Other(words.to_owned())));
        state.note(&Event::ServerError(ServerError::Other("Stale Connection".to_owned())));
        assert_eq!(denied().as_deref(), Some(words));
        state.note(&Event::Connected);
        assert_eq!(denied(), None);
    }

    #[test]
    fn refused_credentials_are_remembered_until_a_connection_comes() {
        let state = State::default();
        let failed = |kind: ConnectErrorKind| {
            state.note(&Event::ClientError(ClientError::Other(kind.to_string())));
            state.is_refused.load(Ordering::Relaxed)
        };
        assert!(failed(ConnectErrorKind::AuthorizationViolation));
        assert!(!failed(ConnectErrorKind::Io));
        state.note(&Event::ServerError(ServerError::AuthorizationViolation));
        assert!(state.is_refused.load(Ordering::Relaxed));
        state.note(&Event::SlowConsumer(3));
        state.note(&Event::Connected);
        assert!(!state.is_refused.load(Ordering::Relaxed));
        assert!(state.is_connected.load(Ordering::Relaxed));
        assert_eq!(*state.connections.borrow(), 1);
        state.note(&Event::Disconnected);
        assert!(!state.is_connected.load(Ordering::Relaxed));
        assert_eq!(state.overflowed.load(Ordering::Relaxed), 1);
    }
}
