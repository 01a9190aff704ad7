//! A client of the bus that speaks its protocol by hand, so that it may also say what no proper client says.
//!
//! The protocol is text: a line for each operation, and payloads of announced lengths
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tcpguard_kit::net::netns::Netns;

use crate::bus::PORT;
use crate::keys::User;

/// Time for anything that the server is asked for.
const LIMIT: Duration = Duration::from_secs(5);
const LINE_END: &[u8] = b"\r\n";
/// Headers of documents that hosts publish.
const HEADERS: &str = "NATS/1.0\r\nTcpguard-Fleet: 1\r\n\r\n";

/// A connection to the bus.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    inbox: String,
    /// Bytes that were received and not read.
    buffer: Vec<u8>,
    /// Messages that were received and not taken.
    messages: Vec<Message>,
    /// Errors that the server reported.
    errors: Vec<String>,
    subscriptions: u32,
}

/// A message of the bus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Subject under which it was published.
    pub subject: String,
    /// Its header lines; empty without headers.
    pub headers: String,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A line of the server.
enum Line {
    Message(Message),
    Pong,
    Error(String),
    Other,
}

impl Client {
    /// Connects from `host`, without TLS, as this user.
    ///
    /// # Errors
    /// When there is no server, or it refuses the user.
    pub fn connect(host: &Netns, server: Ipv4Addr, user: &User) -> Result<Self> {
        let address = SocketAddr::from((server, PORT));
        let stream = host.run(|| Ok(TcpStream::connect_timeout(&address, LIMIT)?))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LIMIT))?;
        let inbox = format!("_INBOX.{}.kit", user.name);
        let mut client = Self {
            stream,
            inbox,
            buffer: Vec::new(),
            messages: Vec::new(),
            errors: Vec::new(),
            subscriptions: 0,
        };
        let info = client.line(Instant::now() + LIMIT)?.context("the server sends no INFO")?;
        let info = info.strip_prefix("INFO ").context("the server begins without INFO")?;
        let info: Value = serde_json::from_str(info)?;
        let nonce = info["nonce"].as_str().context("the server asks for no proof")?;
        let connect = json!({
            "verbose": false, "pedantic": false, "tls_required": false,
            "lang": "rust", "version": "0", "protocol": 1, "name": user.name,
            "headers": true, "no_responders": true,
            "jwt": user.token(), "sig": user.prove(nonce)?,
        });
        client.send(format!("CONNECT {connect}\r\n").as_bytes())?;
        match client.flush()?.pop() {
            None => Ok(client),
            Some(error) => bail!("the server refuses the user: {error}"),
        }
    }

    /// Sends bytes as they are, whether they are of the protocol or not.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Publishes a message as a document of a host. An error of the server follows: [`Self::flush`].
    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let (headers, length) = (HEADERS.len(), HEADERS.len() + payload.len());
        let head = format!("HPUB {subject} {headers} {length}\r\n{HEADERS}");
        self.send(&[head.as_bytes(), payload, LINE_END].concat())
    }

    /// Sends a request, the reply to which goes to any subject.
    pub fn ask_for(&mut self, reply: &str, subject: &str, payload: &[u8]) -> Result<()> {
        let head = format!("PUB {subject} {reply} {}\r\n", payload.len());
        self.send(&[head.as_bytes(), payload, LINE_END].concat())
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn publish_permitted(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        self.publish(subject, payload)?;
        match self.flush()?.pop() {
            None => Ok(()),
            Some(error) => bail!("{subject}: {error}"),
        }
    }

    /// The error with which the server refuses a message; `None` if it does not.
    pub fn refusal(&mut self, subject: &str, payload: &[u8]) -> Result<Option<String>> {
        self.publish(subject, payload)?;
        Ok(self.flush()?.pop())
    }

    /// Subscribes to a pattern. Returns the error with which the server refuses it, if it does.
    pub fn subscribe(&mut self, pattern: &str) -> Result<Option<String>> {
        self.subscriptions += 1;
        self.send(format!("SUB {pattern} {}\r\n", self.subscriptions).as_bytes())?;
        Ok(self.flush()?.pop())
    }

    /// The reply to a request.
    ///
    /// # Errors
    /// When there is none within five seconds.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Result<Message> {
        self.messages.clear();
        let inbox = format!("{}.{}", self.inbox, self.subscriptions + 1);
        if let Some(error) = self.subscribe(&inbox)? {
            bail!("{inbox}: {error}");
        }
        self.ask_for(&inbox, subject, payload)?;
        if let Some(error) = self.flush()?.pop() {
            bail!("{subject}: {error}");
        }
        let reply = self.next(LIMIT)?;
        self.send(format!("UNSUB {}\r\n", self.subscriptions).as_bytes())?;
        reply.with_context(|| format!("{subject}: no reply within {LIMIT:?}"))
    }

    /// The next message; `None` if there is none within `limit`.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + limit;
        while self.messages.is_empty() {
            match self.read(deadline)? {
                Some(line) => self.note(line),
                None => return Ok(None),
            }
        }
        Ok(Some(self.messages.remove(0)))
    }

    /// Waits until the server has worked off all that was sent, and returns the errors that it reported.
    pub fn flush(&mut self) -> Result<Vec<String>> {
        self.send(b"PING\r\n")?;
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.read(deadline)? {
                Some(Line::Pong) => return Ok(std::mem::take(&mut self.errors)),
                Some(Line::Error(error)) if error.contains("Authorization") => bail!("{error}"),
                Some(line) => self.note(line),
                None => bail!("no reply to PING within {LIMIT:?}"),
            }
        }
    }

    fn note(&mut self, line: Line) {
        match line {
            Line::Message(message) => self.messages.push(message),
            Line::Error(error) => self.errors.push(error),
            Line::Pong | Line::Other => {}
        }
    }

    /// The next line with its payload; `None` after the deadline.
    fn read(&mut self, deadline: Instant) -> Result<Option<Line>> {
        let Some(line) = self.line(deadline)? else { return Ok(None) };
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(Some(match words.as_slice() {
            ["PING"] => {
                self.send(b"PONG\r\n")?;
                Line::Other
            }
            ["PONG"] => Line::Pong,
            ["-ERR", ..] => Line::Error(line["-ERR".len()..].trim().trim_matches('\'').to_owned()),
            ["MSG", subject, .., length] => {
                let payload = self.payload(length.parse()?)?;
                Line::Message(Message {
                    subject: (*subject).to_owned(),
                    headers: String::new(),
                    payload,
                })
            }
            ["HMSG", subject, .., head, length] => {
                let head: usize = head.parse()?;
                let mut bytes = self.payload(length.parse()?)?;
                ensure!(head <= bytes.len(), "headers are longer than their message");
                let payload = bytes.split_off(head);
                let headers = String::from_utf8_lossy(&bytes).into_owned();
                Line::Message(Message { subject: (*subject).to_owned(), headers, payload })
            }
            _ => Line::Other,
        }))
    }

    fn payload(&mut self, length: usize) -> Result<Vec<u8>> {
        let deadline = Instant::now() + LIMIT;
        while self.buffer.len() < length + LINE_END.len() {
            ensure!(self.fill(deadline)?, "a message is cut off");
        }
        let payload = self.buffer.drain(..length).collect();
        self.buffer.drain(..LINE_END.len());
        Ok(payload)
    }

    fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            let end = self.buffer.windows(LINE_END.len()).position(|two| two == LINE_END);
            if let Some(end) = end {
                let line: Vec<u8> = self.buffer.drain(..end + LINE_END.len()).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Receives more bytes. Returns false after the deadline.
    ///
    /// # Errors
    /// When the server has closed the connection.
    fn fill(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would be none.
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => match self.errors.pop() {
                Some(error) => bail!("the server closed the connection: {error}"),
                None => bail!("the server closed the connection"),
            },
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Message {
    /// The payload as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.payload).with_context(|| format!("{}: {self:?}", self.subject))
    }
}
