//! ExaBGP as speaker, by the lines of its API.
//!
//! ExaBGP starts a process for its API and speaks with it over pipes. That process is [`relay`], which carries the
//! lines to a socket of the controller. Every reply is read: ExaBGP stops when a pipe is full.

pub mod relay;
mod table;
pub mod text;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tcpguard_host::durable;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};

use self::table::Table;
use super::child::Child;
use super::peering::Peering;
use super::{START, Speaker, SpeakerError, in_time};
use crate::relief::controller::{Change, Entry};

/// Time for one command. ExaBGP looks for commands once a second when it is idle.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest reply, in bytes: far more than the routes of a controller take.
const LONGEST_REPLY: u64 = 4 << 20;
/// Variables of its settings: no second API, and no change of the user. Both versions take these names and those with
/// dots, which a shell that starts ExaBGP would drop.
const VARIABLES: [(&str, &str); 2] = [("exabgp_api_cli", "false"), ("exabgp_daemon_drop", "false")];

/// ExaBGP as a child of this process.
#[derive(Debug)]
pub struct ExaBgp {
    pipe: Pipe<UnixStream>,
    table: Table,
    neighbor: IpAddr,
    /// The process, which is killed with this.
    _child: Child,
}

impl ExaBgp {
    /// Starts `exabgp` with its configuration and the socket of its API in `directory`, and waits for the API.
    /// `relay` is the command that runs [`relay::run`] with the socket as its last argument.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(
        program: &Path,
        relay: &[&str],
        peering: &Peering,
        directory: &Path,
    ) -> Result<Self, SpeakerError> {
        let failed = |cause| SpeakerError::Start { program: program.display().to_string(), cause };
        let config = directory.join("exabgp.conf");
        let socket = directory.join("exabgp.sock");
        let content = peering.exabgp(relay, &socket);
        durable::replace(&config, 0o600, content.as_bytes()).map_err(failed)?;
        let listener = listen(&socket).map_err(failed)?;
        let child = Child::start(program, &[&config.display().to_string()], &VARIABLES)?;
        let accepted = in_time(START, async { listener.accept().await.map_err(failed) });
        let (stream, _) = accepted.await?;
        let pipe = Pipe::new(stream);
        let table = Table::default();
        Ok(Self { pipe, table, neighbor: peering.neighbor, _child: child })
    }
}

impl Speaker for ExaBgp {
    async fn apply(&mut self, change: &Change) -> Result<(), SpeakerError> {
        in_time(TIMEOUT, self.pipe.apply(change)).await?;
        self.table.acknowledge(change);
        Ok(())
    }

    async fn table(&mut self) -> Result<Vec<Entry>, SpeakerError> {
        Ok(self.table.read(in_time(TIMEOUT, self.pipe.routes()).await?))
    }

    async fn is_established(&mut self) -> Result<bool, SpeakerError> {
        in_time(TIMEOUT, self.pipe.is_established(self.neighbor)).await
    }
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

/// The two directions of the API.
#[derive(Debug)]
struct Pipe<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Pipe<S> {
    fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    async fn apply(&mut self, change: &Change) -> Result<(), SpeakerError> {
        let command = text::command(change);
        let command = command.ok_or_else(|| SpeakerError::Refused("a route".to_owned()))?;
        self.request(&command).await.map(drop)
    }

    /// The routes that it announces, a line each.
    async fn routes(&mut self) -> Result<BTreeSet<String>, SpeakerError> {
        Ok(self.request("show adj-rib out extensive").await?.into_iter().collect())
    }

    async fn is_established(&mut self, neighbor: IpAddr) -> Result<bool, SpeakerError> {
        let lines = self.request("show neighbor summary").await?;
        Ok(lines.iter().any(|line| text::is_established(line, neighbor)))
    }

    /// Writes a command and reads the lines up to the one that ends the reply.
    async fn request(&mut self, command: &str) -> Result<Vec<String>, SpeakerError> {
        let broken = |error: io::Error| SpeakerError::Disconnected(error.to_string());
        self.0.write_all(format!("{command}\n").as_bytes()).await.map_err(broken)?;
        self.0.flush().await.map_err(broken)?;
        let mut reply = (&mut self.0).take(LONGEST_REPLY);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if reply.read_until(b'\n', &mut line).await.map_err(broken)? == 0 {
                return Err(SpeakerError::Disconnected("the API has ended".to_owned()));
            }
            match String::from_utf8_lossy(&line).trim_end() {
                "done" => return Ok(lines),
                "error" => return Err(SpeakerError::Refused(command.to_owned())),
                // A message about the session, in JSON.
                message if message.starts_with('{') || message.is_empty() => {}
                line => lines.push(line.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::relief::flowspec::{Action, FlowSpec, Lengths, Terms};
    use crate::relief::route::Route;

    fn route() -> Route {
        let terms = Terms {
            destination: "192.0.2.10".parse().unwrap(),
            port: 443,
            lengths: Some(Lengths { first: 40, last: 40 }),
            action: Action::RateLimit(9_600),
        };
        Route::FlowSpec(FlowSpec::new(terms).unwrap())
    }

    /// A pipe to an API that replies with these texts, and returns the commands at its end.
    fn api(
        replies: &'static [&'static str],
    ) -> (Pipe<DuplexStream>, tokio::task::JoinHandle<Vec<String>>) {
        let (near, far) = tokio::io::duplex(4096);
        let api = tokio::spawn(async move {
            let mut far = BufReader::new(far);
            let mut commands = Vec::new();
            for reply in replies {
                let mut command = String::new();
                far.read_line(&mut command).await.unwrap();
                commands.push(command.trim_end().to_owned());
                far.write_all(reply.as_bytes()).await.unwrap();
            }
            commands
        });
        (Pipe::new(near), api)
    }

    #[tokio::test]
    async fn a_change_is_a_command_with_a_reply() {
        let (mut pipe, api) = api(&["done\n", "error\n"]);
        pipe.apply(&Change::Announce(route())).await.unwrap();
        let refused = pipe.apply(&Change::Withdraw(route().key())).await.unwrap_err();
        assert!(matches!(refused, SpeakerError::Refused(_)), "{refused}");
        let commands = api.await.unwrap();
        assert!(commands[0].starts_with("announce flow route"), "{commands:?}");
        assert!(commands[1].starts_with("withdraw flow route"), "{commands:?}");
    }

    #[tokio::test]
    async fn the_routes_are_read_past_messages_about_the_session_and_what_is_no_text() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut pipe = Pipe::new(near);
        let reply = b"{ \"type\": \"state\" }\n10.99.0.2 ipv4 flow flow\nnot \xff text\ndone\n";
        far.write_all(reply).await.unwrap();
        let lines = ["10.99.0.2 ipv4 flow flow", "not \u{fffd} text"].map(str::to_owned);
        assert_eq!(pipe.routes().await.unwrap(), BTreeSet::from(lines));
        far.write_all(b"done\n").await.unwrap();
        assert_eq!(pipe.routes().await.unwrap(), BTreeSet::new());
    }

    #[tokio::test]
    async fn the_session_is_that_of_the_neighbor() {
        let (mut pipe, _api) = api(&[
            "Peer            AS        up/down state       |     #sent     #recvd\n\
             10.99.0.2       65000     0:00:12 established          3          0\ndone\n",
            "Peer            AS        up/down state       |     #sent     #recvd\ndone\n",
        ]);
        let neighbor = "10.99.0.2".parse().unwrap();
        assert!(pipe.is_established(neighbor).await.unwrap());
        assert!(!pipe.is_established(neighbor).await.unwrap());
    }

    #[tokio::test]
    async fn an_api_that_ends_is_an_error() {
        let (mut pipe, _api) = api(&["neighbor 10.99.0.2 ipv4"]);
        let ended = pipe.routes().await.unwrap_err();
        assert!(matches!(ended, SpeakerError::Disconnected(_)), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_does_not_reply_is_not_waited_for() {
        let (near, _far) = tokio::io::duplex(64);
        let mut pipe = Pipe::new(near);
        let late = in_time(TIMEOUT, pipe.routes()).await.unwrap_err();
        assert_eq!(late.to_string(), "the BGP speaker did not reply within 5s");
    }
}
