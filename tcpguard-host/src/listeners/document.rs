//! The types of the document `tcpguard.listeners/1`.
//!
//! Rates are per second, and times are RFC 3339 in UTC. `null` means "not known" unless the field says
//! otherwise, and never 0. Readers must tolerate fields and words that they do not know.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::application::Application;
use super::limits::SetBy;
use crate::finding::{Finding, Owner};
use crate::linux::sysctl::TcpSettings;
use crate::time::Time;

/// The listeners of this network namespace, with the fill levels and limits of their queues.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct ListenersReport {
    /// Time at which the listeners were listed.
    pub generated_at: Time,
    /// Settings from which the kernel derives the limits of the queues.
    pub settings: TcpSettings,
    /// Losses of all listeners together; `null` where they cannot be read.
    pub host: Option<Losses>,
    /// Listeners, sorted by address and port.
    pub listeners: Vec<Listener>,
    /// Processes that hold the sockets of the listeners, sorted by process id.
    pub processes: Vec<Owner>,
    /// Findings, the most severe first.
    pub findings: Vec<Finding>,
    /// Facts that could not be read, each with the reason.
    pub unread: Vec<String>,
}

/// Losses of all listeners since this network namespace was created (`TcpExt` of `/proc/net/netstat`).
#[derive(Clone, Copy, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Losses {
    /// SYNs and ACKs dropped because an accept queue was full (`ListenOverflows`).
    pub overflows: u64,
    /// SYNs and ACKs dropped for any reason (`ListenDrops`).
    pub drops: u64,
    /// SYNs to which the kernel replied with a cookie because the SYN queue was full, or because
    /// `tcp_syncookies` is 2 (`TCPReqQFullDoCookies`).
    pub syn_queue_full_cookies: u64,
    /// SYNs dropped because the SYN queue was full (`TCPReqQFullDrop`); those that `tcp_max_syn_backlog` refuses are in
    /// `drops` only.
    pub syn_queue_full_drops: u64,
    /// Growth of `overflows` per second; `null` without an earlier snapshot.
    pub overflows_pps: Option<f64>,
    /// Growth of `drops` per second; `null` without an earlier snapshot.
    pub drops_pps: Option<f64>,
}

/// A listener: one socket, or an SO_REUSEPORT group of them.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Listener {
    /// Local address; unspecified for a wildcard.
    pub addr: IpAddr,
    /// Local port.
    pub port: u16,
    /// Name of the interface that the listener is bound to; `null`: any interface.
    pub interface: Option<String>,
    /// True if the listener takes IPv4 connections beside IPv6.
    pub dual_stack: bool,
    /// True if the listener speaks MPTCP.
    pub mptcp: bool,
    /// Accept queue: connections that wait for `accept`.
    pub accept: Queue,
    /// SYN queue: half-open connections. What a socket that is closed left half-open in the kernel is not counted, if a
    /// process that started since holds the present one.
    pub syn: Queue,
    /// Packets that the kernel dropped at the sockets of the listener since these were made: SYNs, and ACKs of
    /// clients that got a SYN-ACK. `null` where the kernel does not report it.
    pub drops: Option<u64>,
    /// Growth of `drops` per second; `null` without an earlier snapshot of one of these sockets.
    pub drops_pps: Option<f64>,
    /// Ids of the processes that hold the sockets, ascending; empty where this user may not see them.
    pub pids: Vec<u32>,
    /// User id of the owner of the socket; of a group, that of its first socket.
    pub uid: u32,
    /// Application and its setting for the limit of the queues; `null` where the application is not known.
    pub application: Option<Application>,
    /// Sockets of a group; empty for a single socket.
    pub sockets: Vec<Socket>,
}

/// `0.0.0.0:80`, and the interface where it has one.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)?;
        match &self.interface {
            Some(interface) => write!(f, "%{interface}"),
            None => Ok(()),
        }
    }
}

/// A queue of a listener; for a group, with the sums over its sockets.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Queue {
    /// Number of connections that wait.
    pub waiting: u32,
    /// Number of connections that may wait. The kernel takes one more, except in a SYN queue before Linux 6.14
    /// that `tcp_max_syn_backlog` does not limit.
    pub limit: u32,
    /// Origin of the limit; for a group, that of the least limit of its sockets.
    pub set_by: SetBy,
}

/// One socket of a group.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Socket {
    /// Inode of the socket, as in `/proc/PID/fd`.
    pub inode: u32,
    /// Number of connections that wait for `accept`.
    pub accept_waiting: u32,
    /// Number of connections that may wait for `accept`. The kernel takes one more.
    pub accept_limit: u32,
    /// Packets that the kernel dropped at the socket since it was made; wraps around at 2^32. `null` where the
    /// kernel does not report it.
    pub drops: Option<u32>,
}
