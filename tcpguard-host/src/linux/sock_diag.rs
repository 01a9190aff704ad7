//! TCP sockets as the kernel lists them (`sock_diag(7)`): listeners with their queues, half-open
//! connections, and the removal of a half-open connection; [`SockDiag::each_connection`] lists all.

mod connections;
mod filter;
mod owner;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netlink_packet_core::{DecodeError, Emitable, Nla as _, Parseable};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_SYN_RECV};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, Timer,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use tcpguard_engine::{Listener, Queues};

use super::Error;
use super::netlink::{Message, Netlink, attributes};

pub use connections::{Connection, TcpState};

/// `SOCK_DIAG_BY_FAMILY`, include/uapi/linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`, include/uapi/linux/sock_diag.h.
const SOCK_DESTROY: u16 = 21;

/// `INET_DIAG_ULP_INFO`, include/uapi/linux/inet_diag.h.
const INET_DIAG_ULP_INFO: u16 = 19;
/// `INET_ULP_INFO_NAME`, likewise.
const INET_ULP_INFO_NAME: u16 = 1;

/// Offsets of `tcpi_bytes_acked` and `tcpi_bytes_received` in `struct tcp_info`, include/uapi/linux/tcp.h.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

/// First wait for the third ACK, `TCP_TIMEOUT_INIT` (include/net/tcp.h); it doubles each time.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// Waits that double by default: `tcp_synack_retries` is 5.
const DOUBLED: u8 = 5;

/// A socket in state LISTEN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListeningSocket {
    /// Local address; unspecified for a wildcard. An IPv4-mapped address is given as IPv4.
    pub addr: IpAddr,
    pub port: u16,
    /// True if it is an IPv6 wildcard that takes IPv4 connections too.
    pub dual_stack: bool,
    /// Connections that wait for `accept`.
    pub accept: u32,
    /// Limit of the accept queue, and of the SYN queue: the smaller of the `listen` backlog and
    /// `somaxconn` (`sk_max_ack_backlog`).
    pub backlog: u32,
    /// Inode of the socket, as in `/proc/PID/fd`.
    pub inode: u32,
    /// User id of its owner.
    pub uid: u32,
    /// Interface it is bound to; 0 for any.
    pub interface: u32,
    /// True if it is the TCP side of an MPTCP socket.
    pub mptcp: bool,
    /// Packets that the kernel dropped at this socket since it was made (`sk_drops`), most of them
    /// because a queue was full: SYNs, and the ACKs of clients that were answered. Wraps around.
    /// `None` where the kernel does not say.
    pub drops: Option<u32>,
}

/// All sockets that listen on one address and port: one, or an SO_REUSEPORT group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerGroup {
    /// Address and port to which clients connect.
    pub listener: Listener,
    /// True if it takes IPv4 connections beside IPv6.
    pub dual_stack: bool,
    /// Number of sockets that share the connections.
    pub sockets: u32,
    /// The user id of their owner; the least one of several users.
    pub uid: u32,
    /// True if one of them speaks MPTCP.
    pub mptcp: bool,
    /// Sums over the sockets; half-open connections are not counted here.
    pub queues: Queues,
}

impl ListenerGroup {
    /// Merges the sockets that share an address and port, in the order of these.
    pub fn merge(sockets: &[ListeningSocket]) -> Vec<Self> {
        let mut groups = BTreeMap::new();
        for socket in sockets {
            let group = groups.entry((socket.addr, socket.port)).or_insert_with(|| Self {
                listener: Listener { addr: socket.addr, port: socket.port },
                dual_stack: false,
                sockets: 0,
                uid: socket.uid,
                mptcp: false,
                queues: Queues::default(),
            });
            group.dual_stack |= socket.dual_stack;
            group.sockets += 1;
            group.uid = group.uid.min(socket.uid);
            group.mptcp |= socket.mptcp;
            group.queues.accept = group.queues.accept.saturating_add(socket.accept);
            group.queues.backlog = group.queues.backlog.saturating_add(socket.backlog);
        }
        groups.into_values().collect()
    }
}

/// A connection in state SYN_RECV: the SYN was answered, the third ACK has not come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HalfOpen {
    /// Local address and port. IPv4-mapped addresses are given as IPv4.
    pub server: SocketAddr,
    /// Remote address and port, likewise.
    pub client: SocketAddr,
    /// SYN-ACKs retransmitted. A retransmitted SYN causes one too, so that this says nothing about age by
    /// itself.
    pub retransmits: u8,
    /// Time until the kernel sends the next SYN-ACK or gives up.
    pub expires_in: Duration,
    /// Interface it is bound to; 0 for any.
    pub interface: u32,
    /// The kernel's own name for this very connection. Without it a destroy request would hit
    /// whatever the addresses lead to, and that is the listening socket once the entry has gone.
    cookie: [u8; 8],
}

impl HalfOpen {
    /// Lower bound of the time since its SYN, to within a tick of the kernel's timers (10 ms).
    ///
    /// The kernel waits 1 s, 2 s, 4 s … between SYN-ACKs, so that after `k` waits it is at least
    /// `2^k − 1` s old, plus the elapsed part of the current wait of `2^k` s. `k` is taken as small as
    /// the running timer allows: a wait is never shorter than its remainder. `k` cannot be read off
    /// [`HalfOpen::retransmits`] alone, which a client drives up by retransmitting its SYN, but it is
    /// never larger than that.
    pub fn age_at_least(&self) -> Duration {
        let mut wait = FIRST_TIMEOUT;
        let mut before = Duration::ZERO;
        for _ in 0..self.retransmits {
            if wait >= self.expires_in {
                break;
            }
            before = before.saturating_add(wait);
            wait = wait.saturating_mul(2);
        }
        before.saturating_add(wait.saturating_sub(self.expires_in))
    }

    /// Time since its timer was set, which [`is_queued`] compares. A client that retransmits its SYN makes it seem
    /// longer, at most by the longest wait of 32 s.
    pub fn timer_age(&self) -> Duration {
        let wait = FIRST_TIMEOUT * (1 << self.retransmits.min(DOUBLED));
        wait.saturating_sub(self.expires_in)
    }

    fn id(&self) -> SocketId {
        SocketId {
            source_port: self.server.port(),
            destination_port: self.client.port(),
            source_address: self.server.ip(),
            destination_address: self.client.ip(),
            interface_id: self.interface,
            cookie: self.cookie,
        }
    }
}

/// Returns whether a half-open connection with a timer of this age is in the SYN queue of the listener at its place,
/// which has been `listening` for so long (`None`: not known, and it counts).
///
/// When a socket is closed, its half-open connections stay in the kernel's table until their timers end, and then go
/// (`reqsk_timer_handler`, net/ipv4/inet_connection_sock.c; measured on 6.18). A timer from before the socket that
/// listens now is that of an earlier socket, and its connection is in no queue.
pub fn is_queued(timer: Duration, listening: Option<Duration>) -> bool {
    listening.is_none_or(|listening| timer <= listening)
}

/// An established connection to a local port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// Remote address. An IPv4-mapped address is given as IPv4.
    pub client: IpAddr,
    /// The kernel's own name for this very connection.
    pub cookie: [u8; 8],
    /// Bytes that the client has acknowledged.
    pub sent: u64,
    /// Bytes that came from the client.
    pub received: u64,
}

/// A `sock_diag` socket that is kept open.
#[derive(Debug)]
pub struct SockDiag {
    netlink: Netlink,
}

impl SockDiag {
    /// Opens the socket in the network namespace of this thread, to which all answers refer.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { netlink: Netlink::open(NETLINK_SOCK_DIAG)? })
    }

    /// Every listening TCP socket. The kernel walks its listeners only, so this is cheap.
    ///
    /// # Errors
    /// [`Error::NoSockDiag`] on a kernel without it, otherwise netlink's error.
    pub fn listeners(&mut self) -> Result<Vec<ListeningSocket>, Error> {
        self.dump("list listening sockets", StateFlags::LISTEN, 0, filter::none, listening_socket)
    }

    /// Lists the listening sockets that take connections from outside the host: not those bound to a loopback
    /// address, which the kernel passes over. Any user may have thousands of them.
    pub fn open_listeners(&mut self) -> Result<Vec<ListeningSocket>, Error> {
        let what = "list listening sockets";
        self.dump(what, StateFlags::LISTEN, 0, filter::but_loopback, listening_socket)
    }

    /// The sockets that listen on one port.
    ///
    /// # Errors
    /// As of [`Self::listeners`].
    pub fn listeners_on(&mut self, port: u16) -> Result<Vec<ListeningSocket>, Error> {
        let what = "list listening sockets";
        self.dump(what, StateFlags::LISTEN, port, filter::none, listening_socket)
    }

    /// The half-open connections, of all listeners or of those on one local port. The kernel
    /// walks its whole connection table, so ask seldom; the port only saves the copying.
    ///
    /// Connections that TCP Fast Open has handed to the application already are left out.
    pub fn half_open(&mut self, port: Option<u16>) -> Result<Vec<HalfOpen>, Error> {
        // Port 0 in the request means any (inet_diag_dump_icsk).
        let port = port.unwrap_or(0);
        self.dump("list half-open connections", StateFlags::SYN_RECV, port, filter::none, half_open)
    }

    /// All established connections to these local ports.
    pub fn connections_to(&mut self, ports: &[u16]) -> Result<Vec<Incoming>, Error> {
        let what = "list established connections";
        let mut found = Vec::new();
        for &port in ports.iter().filter(|&&port| port != 0) {
            found.extend(self.dump(what, StateFlags::ESTABLISHED, port, filter::none, incoming)?);
        }
        Ok(found)
    }

    /// Removes a half-open connection from the kernel. `false` if it is no longer half-open: it
    /// was completed, reset or timed out, and nothing is touched.
    ///
    /// The kernel offers no removal conditional on the state, and a connection keeps its cookie
    /// when it completes; the state is therefore read just before. A third ACK that arrives
    /// within the microseconds between the two calls is lost, and its client is reset.
    ///
    /// # Errors
    /// [`Error::NoSockDestroy`], [`Error::NotPermitted`] without `CAP_NET_ADMIN`, otherwise netlink's
    /// error.
    pub fn destroy(&mut self, entry: &HalfOpen) -> Result<bool, Error> {
        let what = "remove a half-open connection";
        let request = request(entry.server.is_ipv6(), StateFlags::all(), entry.id());
        let state = self.netlink.query(what, SOCK_DIAG_BY_FAMILY, &request, |message| {
            let answer = InetResponse::parse(message.payload)?;
            Ok(Some(answer.header.state))
        });
        match state {
            Ok(Some(TCP_SYN_RECV)) => {}
            Ok(_) => return Ok(false),
            Err(error) if has_gone(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        match self.netlink.query(what, SOCK_DESTROY, &request, |_| Ok(Some(()))) {
            Ok(_) => Ok(true),
            Err(error) if has_gone(&error) => Ok(false),
            Err(error) => Err(match error.os_error() {
                Some(libc::EOPNOTSUPP) => Error::NoSockDestroy,
                Some(libc::EPERM) => Error::NotPermitted { what },
                _ => error,
            }),
        }
    }

    fn dump<T>(
        &mut self,
        what: &'static str,
        states: StateFlags,
        port: u16,
        filter: fn(bool) -> Vec<u8>,
        convert: fn(&InetResponse) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        for ipv6 in [false, true] {
            let mut id = if ipv6 { SocketId::new_v6() } else { SocketId::new_v4() };
            id.source_port = port;
            let mut request = request(ipv6, states.clone(), id);
            request.extend(filter(ipv6));
            let some = self.netlink.dump(what, SOCK_DIAG_BY_FAMILY, &request, |message| {
                parse(message).map(|answer| convert(&answer))
            });
            found.extend(some.map_err(unlisted)?);
        }
        Ok(found)
    }
}

/// Explains ENOENT for a whole list: no module of the kernel lists TCP sockets.
fn unlisted(error: Error) -> Error {
    match error.os_error() {
        Some(libc::ENOENT) => Error::NoSockDiag,
        _ => error,
    }
}

/// Returns whether the socket has gone. ENOENT: no socket has these addresses. ESTALE: another socket has them now.
fn has_gone(error: &Error) -> bool {
    matches!(error.os_error(), Some(libc::ENOENT | libc::ESTALE))
}

fn request(ipv6: bool, states: StateFlags, socket_id: SocketId) -> Vec<u8> {
    let request = InetRequest {
        family: if ipv6 { AF_INET6 } else { AF_INET },
        protocol: IPPROTO_TCP,
        // Only with these the kernel reports the handler of arriving packets, and the packets that it
        // dropped; and the bytes of a connection.
        extensions: match &states {
            listen if *listen == StateFlags::LISTEN => {
                ExtensionFlags::INFO | ExtensionFlags::SKMEMINFO
            }
            open if *open == StateFlags::ESTABLISHED => ExtensionFlags::INFO,
            _ => ExtensionFlags::empty(),
        },
        states,
        socket_id,
    };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut bytes);
    bytes
}

fn parse(message: &Message) -> Result<InetResponse, DecodeError> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return Err(format!("message type {} in a list of sockets", message.kind).into());
    }
    InetResponse::parse(message.payload)
}

fn listening_socket(answer: &InetResponse) -> Option<ListeningSocket> {
    let header = &answer.header;
    let addr = header.socket_id.source_address;
    // The kernel says so for every listening IPv6 socket.
    let v6_only = answer.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
    Some(ListeningSocket {
        addr: addr.to_canonical(),
        port: header.socket_id.source_port,
        dual_stack: addr == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !v6_only,
        accept: header.recv_queue,
        backlog: header.send_queue,
        inode: header.inode,
        uid: header.uid,
        interface: header.socket_id.interface_id,
        mptcp: answer.nlas.iter().any(is_mptcp),
        drops: answer.nlas.iter().find_map(|nla| match nla {
            Nla::MemInfo(memory) => Some(memory.drops),
            _ => None,
        }),
    })
}

fn incoming(answer: &InetResponse) -> Option<Incoming> {
    let id = &answer.header.socket_id;
    let info = answer.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Some(info.as_slice()),
        _ => None,
    });
    let number = |at: usize| {
        let bytes = info?.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    };
    Some(Incoming {
        client: id.destination_address.to_canonical(),
        cookie: id.cookie,
        sent: number(BYTES_ACKED).unwrap_or(0),
        received: number(BYTES_RECEIVED).unwrap_or(0),
    })
}

/// Returns whether an attribute says that MPTCP handles the arriving packets: `INET_DIAG_ULP_INFO` with the
/// name of net/mptcp/subflow.c.
fn is_mptcp(nla: &Nla) -> bool {
    let Nla::Other(nla) = nla else { return false };
    let mut info = vec![0; nla.value_len()];
    nla.emit_value(&mut info);
    nla.kind() == INET_DIAG_ULP_INFO
        && attributes(&info, 0)
            .flatten()
            .any(|name| name.kind() == INET_ULP_INFO_NAME && name.value() == b"mptcp\0")
}

fn half_open(answer: &InetResponse) -> Option<HalfOpen> {
    let header = &answer.header;
    // Full sockets carry INET_DIAG_SHUTDOWN, connection requests do not. A full socket in SYN_RECV is a
    // Fast Open connection: its client has proved its address.
    if answer.nlas.iter().any(|nla| matches!(nla, Nla::Shutdown(_))) {
        return None;
    }
    let (expires_in, retransmits) = match header.timer {
        Some(Timer::Retransmit(expires_in, retransmits)) => (expires_in, retransmits),
        _ => (Duration::ZERO, 0),
    };
    let id = &header.socket_id;
    Some(HalfOpen {
        server: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        client: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        retransmits,
        expires_in,
        interface: id.interface_id,
        cookie: id.cookie,
    })
}

#[cfg(test)]
mod tests;
