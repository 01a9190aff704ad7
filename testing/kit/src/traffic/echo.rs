//! Many short connections: each client says something else, the service says it again and closes.
//!
//! Because the service closes first, the connection waits there in TIME_WAIT, and the client's port is
//! free again at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::daemon::service::Service;
use crate::net::netns::Netns;

/// Bytes that each client says.
const LENGTH: usize = 256;
/// Connections that a client has open at once.
const AT_ONCE: usize = 100;
/// Backlog of the service: more connections than all clients have open at once.
const BACKLOG: i32 = 2000;
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Words of a client on its `number`th connection. No two connections have the same.
fn words(from: SocketAddr, number: u32) -> [u8; LENGTH] {
    let seed = (u64::from(number) << 17 | u64::from(from.port())) << 1 | 1;
    // The high byte of a Weyl sequence.
    std::array::from_fn(|at| {
        (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (at as u64) << 32) >> 56) as u8 ^ at as u8
    })
}

/// The service, IPv4 and IPv6. It ends when dropped.
#[derive(Debug)]
pub struct Echo {
    _service: Service,
}

impl Echo {
    /// Starts the service; it listens when this returns.
    pub fn start(host: &Netns, port: u16) -> Result<Self> {
        Ok(Self { _service: Service::start(host, port, BACKLOG, serve)? })
    }
}

/// Bytes received on a connection so far.
struct Heard {
    stream: TcpStream,
    words: [u8; LENGTH],
    length: usize,
}

impl Heard {
    fn on(stream: TcpStream) -> Self {
        Self { stream, words: [0; LENGTH], length: 0 }
    }

    /// Returns whether all is there, or the peer has said all that it will.
    fn listen(&mut self) -> std::io::Result<bool> {
        match self.stream.read(&mut self.words[self.length..]) {
            Ok(0) => Ok(true),
            Ok(length) => {
                self.length += length;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    let mut open: Vec<Heard> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut ready: Vec<_> = std::iter::once(PollFd::new(listener, PollFlags::IN))
            .chain(open.iter().map(|heard| PollFd::new(&heard.stream, PollFlags::IN)))
            .collect();
        poll(&mut ready, Some(&LOOK_UP))?;
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut of_open = ready[1..].iter();
        open.retain_mut(|heard| {
            if of_open.next() != Some(&true) {
                return true;
            }
            match heard.listen() {
                Ok(false) if heard.length < LENGTH => true,
                // A client that does not get all of it says so.
                _ => {
                    let _ = heard.stream.write(&heard.words[..heard.length]);
                    false
                }
            }
        });
        if ready[0] {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                open.push(Heard::on(stream));
            }
        }
    }
    Ok(())
}

/// One connection of a client.
struct Connection {
    heard: Heard,
    from: SocketAddr,
    said: [u8; LENGTH],
    connected: bool,
    begun: Instant,
}

impl Connection {
    fn begin(service: SocketAddr, from: SocketAddr, number: u32) -> Result<Self> {
        let family = if service.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &from).with_context(|| format!("cannot connect from {from}"))?;
        match connect(&socket, &service) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot connect from {from}")),
        }
        let heard = Heard::on(TcpStream::from(socket));
        let said = words(from, number);
        Ok(Self { heard, from, said, connected: false, begun: Instant::now() })
    }

    const fn wants(&self) -> PollFlags {
        if self.connected { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Returns whether it has ended, and well.
    fn advance(&mut self) -> Result<bool> {
        if !self.connected {
            if let Some(error) = self.heard.stream.take_error()? {
                return Err(error.into());
            }
            self.connected = true;
            ensure!(self.heard.stream.write(&self.said)? == LENGTH, "there was no room");
            return Ok(false);
        }
        if self.heard.length < LENGTH {
            ensure!(!self.heard.listen()?, "closed after {} bytes", self.heard.length);
            return Ok(false);
        }
        // Beyond the last byte, so that it is known to be the last.
        ensure!(self.heard.stream.read(&mut [0])? == 0, "more than was said");
        ensure!(self.heard.words == self.said, "something else than was said");
        Ok(true)
    }
}

/// Outcome of a set of connections.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Number of connections that ended as they should.
    pub well: u32,
    /// Failures of the others.
    pub failed: Vec<String>,
    /// The longest time that a successful connection took.
    pub longest: Duration,
}

/// Opens connections from these addresses and ports, a hundred at a time, to be called in the
/// client's namespace. Each may take as long as `patience`.
pub fn connect_from(
    sources: impl Iterator<Item = SocketAddr>,
    service: SocketAddr,
    patience: Duration,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut sources = (0..).zip(sources).fuse();
    let mut open: Vec<Connection> = Vec::new();
    loop {
        while open.len() < AT_ONCE
            && let Some((number, from)) = sources.next()
        {
            open.push(Connection::begin(service, from, number)?);
        }
        if open.is_empty() {
            return Ok(outcome);
        }
        let mut ready: Vec<_> =
            open.iter().map(|one| PollFd::new(&one.heard.stream, one.wants())).collect();
        poll(&mut ready, Some(&LOOK_UP))?;
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain_mut(|one| {
            let ended = match ready.next() {
                Some(true) => one.advance(),
                _ if one.begun.elapsed() > patience => Err(anyhow::anyhow!(
                    "nothing more after {patience:?}, {}",
                    if one.connected { "connected" } else { "not connected" }
                )),
                _ => Ok(false),
            };
            match ended {
                Ok(false) => return true,
                Ok(true) => {
                    outcome.well += 1;
                    outcome.longest = outcome.longest.max(one.begun.elapsed());
                }
                Err(error) => outcome.failed.push(format!("{}: {error}", one.from)),
            }
            false
        });
    }
}
