//! Legitimate load: new connections at a steady rate, and the outcome of each.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, send, socket_with,
};

use crate::measure::clock::boot_ns;
use crate::net::lab::Family;
use crate::net::netns::Netns;
use crate::traffic::random::Random;
use crate::traffic::server::{REQUEST, RESPONSE};

/// A client gives up after this time; the kernel's own patience would be two minutes.
pub const PATIENCE: Duration = Duration::from_millis(3500);

/// One connection with one request.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Time of the first SYN, in nanoseconds since boot.
    pub at: u64,
    /// Time until the connection was open, if it ever was.
    pub connected: Option<Duration>,
    /// Time until the response was there; `None` if it failed.
    pub took: Option<Duration>,
}

/// Source addresses of a load's connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Home {
    /// The client's own address for all connections.
    One,
    /// [`VALIDATED_CLIENTS`] addresses in turn, as the returning clients of a service.
    ValidatedClients,
    /// [`RESIDENTS`] addresses of a network in turn, which the client's kernel has to own.
    Residents(IpNet),
    /// An address that was never heard of for each connection, at most 65,471 in all.
    NewClients,
    /// One of all these addresses for each connection, at a moment of its own, both drawn from this seed, as
    /// for independent clients.
    Anywhere(u64),
}

/// Addresses of [`Home::ValidatedClients`]: so many that each opens a few connections a second, as clients do.
pub const VALIDATED_CLIENTS: u16 = 64;

/// Addresses of [`Home::Residents`].
pub const RESIDENTS: u16 = 200;

/// The `number`th address in `net`; over IPv6 each is in a /64 of its own.
pub fn resident(net: IpNet, number: u16) -> IpAddr {
    match net.network() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(number)).into(),
        IpAddr::V6(first) => {
            Ipv6Addr::from_bits(first.to_bits() | u128::from(number) << 64 | 1).into()
        }
    }
}

/// Clients that want to connect.
#[derive(Clone, Copy, Debug)]
pub struct Visitors {
    /// New connections per second; on average, where each comes at a moment of its own.
    pub rate: u32,
    /// Source addresses of the connections.
    pub home: Home,
    /// Time after which each gives up.
    pub patience: Duration,
}

/// Attempts that have ended, the earliest ended first.
#[derive(Clone, Debug, Default)]
pub struct Attempts(pub Vec<Attempt>);

impl Attempts {
    /// Returns the attempts begun in `from..to`, both in nanoseconds since boot.
    pub fn begun(&self, from: u64, to: u64) -> Self {
        Self(self.0.iter().copied().filter(|a| (from..to).contains(&a.at)).collect())
    }

    /// The share that got its response within `limit`, 0 to 1.
    ///
    /// # Panics
    /// Without any attempt: a share of nothing would prove nothing.
    pub fn share_within(&self, limit: Duration) -> f64 {
        assert!(!self.0.is_empty(), "no attempt was made");
        self.within(limit) as f64 / self.0.len() as f64
    }

    /// The time within which the given share (0 to 1) of the successful attempts were done, or
    /// `None` when none succeeded.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut took: Vec<_> = self.0.iter().filter_map(|a| a.took).collect();
        took.sort();
        let last = took.len().checked_sub(1)?;
        Some(took[(last as f64 * share).round() as usize])
    }

    /// Returns the number of attempts that got their response within `limit`.
    pub fn within(&self, limit: Duration) -> usize {
        self.0.iter().filter(|a| a.took.is_some_and(|took| took <= limit)).count()
    }

    /// The time within which the given share (0 to 1) of all attempts had an open connection; those
    /// that never had one count as `patience`. `None` without attempts.
    pub fn connect_quantile(&self, share: f64, patience: Duration) -> Option<Duration> {
        let mut took: Vec<_> = self.0.iter().map(|a| a.connected.unwrap_or(patience)).collect();
        took.sort();
        let last = took.len().checked_sub(1)?;
        Some(took[(last as f64 * share).round() as usize])
    }

    /// Returns a summary in one line: the number of connections, the shares that were in time, and the median
    /// time.
    pub fn summary(&self) -> String {
        if self.0.is_empty() {
            return "no attempt ended".to_owned();
        }
        let median = self.quantile(0.5).map_or("–".to_owned(), |took| format!("{took:.1?}"));
        format!(
            "{} connections, {:.1} % answered within 1 s, {:.1} % within 3 s, median {median}",
            self.0.len(),
            100.0 * self.share_within(Duration::from_secs(1)),
            100.0 * self.share_within(Duration::from_secs(3)),
        )
    }
}

/// A load that runs until stopped or dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    ended: Arc<Mutex<Attempts>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Opens `rate` connections per second from `host` to `service`.
    pub fn start(host: &Netns, service: SocketAddr, rate: u32) -> Result<Self> {
        Self::of(host, service, Visitors { rate, home: Home::One, patience: PATIENCE })
    }

    /// Opens the connections of `visitors` from `host`, which must be a lab's client, to `service`.
    pub fn of(host: &Netns, service: SocketAddr, visitors: Visitors) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(Mutex::new(Attempts::default()));
        let (stopped, log) = (Arc::clone(&stop), Arc::clone(&ended));
        let thread = host.spawn("clients", move || run(service, visitors, &stopped, &log))?;
        Ok(Self { stop, ended, thread: Some(thread) })
    }

    /// Attempts that have ended so far.
    pub fn so_far(&self) -> Attempts {
        lock(&self.ended).clone()
    }

    /// Makes no new attempts, waits for those under way and returns all.
    pub fn finish(mut self) -> Result<Attempts> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the load was already finished")?;
        thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        Ok(std::mem::take(&mut lock(&self.ended)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(ended: &Mutex<Attempts>) -> MutexGuard<'_, Attempts> {
    ended.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Connection {
    stream: TcpStream,
    begun: Instant,
    at: u64,
    connected: Option<Duration>,
}

enum Progress {
    Waiting,
    Done,
    Failed,
}

impl Connection {
    fn begin(service: SocketAddr, from: Option<IpAddr>) -> Result<Self> {
        let family = if service.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        if let Some(from) = from {
            bind(&socket, &SocketAddr::new(from, 0))
                .with_context(|| format!("cannot connect from {from}"))?;
        }
        let (begun, at) = (Instant::now(), boot_ns());
        match connect(&socket, &service) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("cannot connect"),
        }
        Ok(Self { stream: TcpStream::from(socket), begun, at, connected: None })
    }

    fn wants(&self) -> PollFlags {
        if self.connected.is_some() { PollFlags::IN } else { PollFlags::OUT }
    }

    fn advance(&mut self) -> Progress {
        if !matches!(self.stream.take_error(), Ok(None)) {
            return Progress::Failed;
        }
        if self.connected.is_none() {
            self.connected = Some(self.begun.elapsed());
            return match send(self.stream.as_fd(), REQUEST, SendFlags::NOSIGNAL) {
                Ok(length) if length == REQUEST.len() => Progress::Waiting,
                _ => Progress::Failed,
            };
        }
        let mut response = [0; RESPONSE.len()];
        match self.stream.read(&mut response) {
            Ok(length) if response[..length] == *RESPONSE => Progress::Done,
            _ => Progress::Failed,
        }
    }
}

fn run(
    service: SocketAddr,
    visitors: Visitors,
    stop: &AtomicBool,
    ended: &Mutex<Attempts>,
) -> Result<()> {
    const LOOK_UP: Duration = Duration::from_millis(20);
    let interval = Duration::from_secs(1) / visitors.rate;
    let mut random = Random::new(match visitors.home {
        Home::Anywhere(seed) => seed,
        _ => 0,
    });
    let family = if service.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut new_clients =
        (1..=u16::MAX - VALIDATED_CLIENTS).map(|number| family.new_client(number));
    let mut validated_clients = (u16::MAX - VALIDATED_CLIENTS + 1..=u16::MAX).cycle();
    let mut residents = (1..=RESIDENTS).cycle();
    let mut open: Vec<Connection> = Vec::new();
    let mut next = Instant::now();
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if stopping && open.is_empty() {
            return Ok(());
        }
        while !stopping && next <= Instant::now() {
            let from = match visitors.home {
                Home::One => None,
                Home::ValidatedClients => {
                    validated_clients.next().map(|number| family.new_client(number))
                }
                Home::Residents(net) => residents.next().map(|number| resident(net, number)),
                Home::NewClients => Some(new_clients.next().context("no new client is left")?),
                Home::Anywhere(_) => {
                    let number = random.between(1, u64::from(u16::MAX - VALIDATED_CLIENTS));
                    Some(family.new_client(number as u16))
                }
            };
            open.push(Connection::begin(service, from)?);
            next += match visitors.home {
                // Independent of each other: the time between two is exponential.
                Home::Anywhere(_) => interval.mul_f64(-(1.0 - random.share()).ln()),
                _ => interval,
            };
        }
        let wait = match stopping {
            true => LOOK_UP,
            false => LOOK_UP.min(next.saturating_duration_since(Instant::now())),
        };
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut ready: Vec<_> = open.iter().map(|c| PollFd::new(&c.stream, c.wants())).collect();
        poll(&mut ready, Some(&wait))?;
        let ready: Vec<_> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain_mut(|connection| {
            let progress = match ready.next() {
                Some(true) => connection.advance(),
                _ if connection.begun.elapsed() > visitors.patience => Progress::Failed,
                _ => Progress::Waiting,
            };
            let took = match progress {
                Progress::Waiting => return true,
                Progress::Done => Some(connection.begun.elapsed()),
                Progress::Failed => None,
            };
            lock(ended).0.push(Attempt {
                at: connection.at,
                connected: connection.connected,
                took,
            });
            false
        });
    }
}
