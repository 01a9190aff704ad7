//! Listeners and established connections, as many as a busy host has.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcpguard_kit::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags};
use tcpguard_kit::net::raw::{MAX_BATCH, PacketSocket};

const FIRST_PORT: u16 = 10_000;
/// Ports of a peer from [`FIRST_PORT`] on.
const PEER_PORTS: u32 = 50_000;
/// First address of the peers: a range for benchmarks (RFC 2544), behind the attacker's interface.
const PEERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Listens on `count` ports of all IPv4 addresses of `host`.
///
/// # Errors
/// When a process may not have so many descriptors.
pub fn listeners(host: &Netns, count: u16) -> Result<Vec<TcpListener>> {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits })?;
    let open = |port| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        listener.with_context(|| format!("cannot listen on port {port} (see ulimit -n)"))
    };
    host.run(|| (FIRST_PORT..FIRST_PORT + count).map(open).collect())
}

/// A service with connections that it has not accepted: they need no descriptor, of which a process may
/// have too few, nor a kernel at their other end. Dropping it ends them all.
#[derive(Debug)]
pub struct Crowd {
    _service: TcpListener,
    /// Connections that the kernel has.
    pub established: u32,
}

impl Crowd {
    /// Makes up to `count` peers connect, until no more of them connect or `limit` is over.
    pub fn gather(lab: &Lab, count: u32, limit: Duration) -> Result<Self> {
        lab.edge.sysctl("net.core.somaxconn", &count.to_string())?;
        let service = lab.edge.run(|| {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
            listen(&socket, count.try_into()?)?;
            Ok(TcpListener::from(socket))
        })?;
        lab.attacker.run(|| connect_all(count, limit))?;
        // Handshakes may be lost: the kernel's number counts.
        let sockstat = lab.edge.read("/proc/thread-self/net/sockstat")?;
        let in_use = in_use(&sockstat).context("sockstat names no TCP sockets")?;
        let established = in_use.saturating_sub(1);
        ensure!(established > 0, "none of {count} peers got in");
        Ok(Self { _service: service, established })
    }
}

/// Handshakes by hand, a handful at a time: the replies to one have to fit into a socket's buffer.
fn connect_all(count: u32, limit: Duration) -> Result<()> {
    const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    let socket = PacketSocket::open(INTERFACE).context("the attacker's interface")?;
    let (begun, mut buffer) = (Instant::now(), [0; 2048]);
    let mut number = 0;
    while number < count && begun.elapsed() < limit {
        let next = (number + MAX_BATCH as u32).min(count);
        let syn = |number| Segment { seq: number, ..segment(peer(number), flags::SYN) }.to_frame();
        send(&socket, &(number..next).map(syn).collect::<Vec<_>>())?;
        let mut acks = Vec::new();
        while acks.len() < (next - number) as usize {
            if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&WAIT))? == 0 {
                break;
            }
            while let Some(length) = socket.try_receive(&mut buffer)? {
                acks.extend(Segment::parse(&buffer[..length]).as_ref().and_then(ack_of));
            }
        }
        send(&socket, &acks)?;
        number = next;
    }
    Ok(())
}

fn send(socket: &PacketSocket, mut frames: &[Vec<u8>]) -> Result<()> {
    while !frames.is_empty() {
        frames = &frames[socket.send_batch(frames)?..];
    }
    Ok(())
}

fn peer(number: u32) -> SocketAddr {
    let address = Ipv4Addr::from_bits(PEERS.to_bits() + number / PEER_PORTS);
    SocketAddr::from((address, FIRST_PORT + (number % PEER_PORTS) as u16))
}

fn segment(from: SocketAddr, flags: u8) -> Segment {
    let to = Family::V4.service();
    Segment { src_mac: ATTACKER_MAC, dst_mac: EDGE_MAC, ..Segment::new(from, to, flags) }
}

/// The ACK that completes the handshake of a SYN-ACK.
fn ack_of(answer: &Segment) -> Option<Vec<u8>> {
    if answer.flags & (flags::SYN | flags::ACK) != flags::SYN | flags::ACK {
        return None;
    }
    let (seq, ack) = (answer.ack, answer.seq.wrapping_add(1));
    Some(Segment { seq, ack, window: 65_535, ..segment(answer.dst, flags::ACK) }.to_frame())
}

/// TCP sockets of a network namespace, in `/proc/net/sockstat`: `TCP: inuse 5 orphan 0 …`.
fn in_use(sockstat: &str) -> Option<u32> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP: inuse "))?;
    line.split_whitespace().next()?.parse().ok()
}
