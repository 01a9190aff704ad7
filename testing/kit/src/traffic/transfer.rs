//! Long connections: bytes that both ends know, so that each one can be checked as it arrives.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::net::netns::Netns;
use crate::traffic::random::Random;

/// First bytes of an order of [`Direction::Pull`], where other requests have [`crate::traffic::server::REQUEST`].
pub(crate) const PULL: &[u8; 4] = b"pull";
/// First bytes of an order of [`Direction::Push`].
pub(crate) const PUSH: &[u8; 4] = b"push";
/// Response of the service when all bytes have arrived.
const THANKS: &[u8; 4] = b"done";
/// Bytes written at once.
const CHUNK: usize = 16_384;
/// Silence after which an end gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The end that sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    Pull,
    Push,
}

/// A transfer to be made.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The end that sends.
    pub direction: Direction,
    pub bytes: u64,
    /// Bytes per second, at most; 0: no limit.
    pub pace: u64,
}

/// A transfer under way.
#[derive(Debug)]
pub struct Transfer {
    pub client: SocketAddr,
    /// Time from the first SYN to the open connection.
    pub connected: Duration,
    stream: TcpStream,
    thread: JoinHandle<Result<Duration>>,
}

impl Transfer {
    /// Connects from `host` to `service` and begins.
    ///
    /// # Errors
    /// When there is no connection within 10 s.
    pub fn begin(host: &Netns, service: SocketAddr, order: Order) -> Result<Self> {
        Self::begin_by(host, service, order, || {
            Ok(TcpStream::connect_timeout(&service, Duration::from_secs(10))?)
        })
    }

    /// Like [`Self::begin`], from an address that `host` owns.
    pub fn begin_from(
        host: &Netns,
        address: IpAddr,
        service: SocketAddr,
        order: Order,
    ) -> Result<Self> {
        Self::begin_by(host, service, order, || {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            bind(&socket, &SocketAddr::new(address, 0))?;
            connect(&socket, &service)?;
            Ok(TcpStream::from(socket))
        })
    }

    fn begin_by(
        host: &Netns,
        service: SocketAddr,
        order: Order,
        connect: impl FnOnce() -> Result<TcpStream> + Send,
    ) -> Result<Self> {
        let begun = Instant::now();
        let stream = host.run(connect).with_context(|| format!("no connection to {service}"))?;
        let (client, connected) = (stream.local_addr()?, begun.elapsed());
        let moved = stream.try_clone()?;
        let thread = host.spawn("transfer", move || carry_out(moved, order))?;
        Ok(Self { client, connected, stream, thread })
    }

    /// Ends the connection, whatever has arrived.
    pub fn abandon(self) {
        // Either fails if the connection is broken, and it ends all the same.
        let _closed = self.stream.shutdown(Shutdown::Both);
        let _broken = self.thread.join();
    }

    /// Waits until every byte has arrived as it was sent, and returns the time that it took.
    pub fn finish(self) -> Result<Duration> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the transfer panicked"))?
    }
}

fn carry_out(mut stream: TcpStream, order: Order) -> Result<Duration> {
    set_patience(&stream)?;
    let verb = if order.direction == Direction::Pull { PULL } else { PUSH };
    let mut message = verb.to_vec();
    message.extend(order.bytes.to_le_bytes());
    message.extend(order.pace.to_le_bytes());
    let begun = Instant::now();
    stream.write_all(&message)?;
    match order.direction {
        Direction::Pull => receive(&mut stream, order.bytes)?,
        Direction::Push => {
            send(&mut stream, order.bytes, order.pace)?;
            let mut thanks = [0; THANKS.len()];
            stream.read_exact(&mut thanks).context("no word that all arrived")?;
            ensure!(thanks == *THANKS, "the service received something else");
        }
    }
    Ok(begun.elapsed())
}

/// The service's part, in a thread of its own. Its client finds out how it went.
pub(crate) fn serve(mut stream: TcpStream, verb: [u8; 4]) {
    thread::spawn(move || -> Result<()> {
        stream.set_nonblocking(false)?;
        set_patience(&stream)?;
        let (mut bytes, mut pace) = ([0; 8], [0; 8]);
        stream.read_exact(&mut bytes)?;
        stream.read_exact(&mut pace)?;
        let (bytes, pace) = (u64::from_le_bytes(bytes), u64::from_le_bytes(pace));
        if verb == *PULL {
            return send(&mut stream, bytes, pace);
        }
        receive(&mut stream, bytes)?;
        Ok(stream.write_all(THANKS)?)
    });
}

fn set_patience(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream.set_write_timeout(Some(PATIENCE))?)
}

fn send(stream: &mut TcpStream, bytes: u64, pace: u64) -> Result<()> {
    let (mut contents, mut chunk) = (Contents::new(), vec![0; CHUNK]);
    let (begun, mut sent) = (Instant::now(), 0);
    while sent < bytes {
        let length = CHUNK.min((bytes - sent) as usize);
        contents.fill(&mut chunk[..length]);
        stream.write_all(&chunk[..length]).with_context(|| format!("broken after {sent} bytes"))?;
        sent += length as u64;
        if pace > 0 {
            let due = Duration::from_secs_f64(sent as f64 / pace as f64);
            sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let mut contents = Contents::new();
    let (mut chunk, mut wanted) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut received = 0;
    while received < bytes {
        let length = CHUNK.min((bytes - received) as usize);
        stream
            .read_exact(&mut chunk[..length])
            .with_context(|| format!("lost {} bytes", bytes - received))?;
        contents.fill(&mut wanted[..length]);
        if chunk[..length] != wanted[..length] {
            bail!("a wrong byte after {received}");
        }
        received += length as u64;
    }
    Ok(())
}

/// The bytes of every transfer, in chunks of any length that is a multiple of eight, and a last one.
struct Contents(Random);

impl Contents {
    const fn new() -> Self {
        Self(Random::new(0x7472_616e_7366_6572))
    }

    fn fill(&mut self, chunk: &mut [u8]) {
        for bytes in chunk.chunks_mut(8) {
            bytes.copy_from_slice(&self.0.bits().to_ne_bytes()[..bytes.len()]);
        }
    }
}
