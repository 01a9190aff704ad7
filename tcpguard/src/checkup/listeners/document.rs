//! The types of the document `tcpguard.listeners/1`.
//!
//! Rates are per second, times are RFC 3339 in UTC, and `null` means "not known", never 0. Readers
//! must tolerate fields and words that they do not know.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::super::{Finding, Owner};
use super::application::Application;
use super::limits::SetBy;
use crate::status::Time;

/// The value of [`ListenersReport::schema`].
pub const SCHEMA: &str = "tcpguard.listeners/1";

/// The listeners of this network namespace, how full their queues are, and what limits them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenersReport {
    /// Name and version of this document: `tcpguard.listeners/1`.
    pub schema: &'static str,
    /// When the listeners were listed.
    pub generated_at: Time,
    /// The settings that the kernel's rule refers to.
    pub settings: Settings,
    /// What all listeners lost; `null` where it cannot be read.
    pub host: Option<Losses>,
    /// By address and port.
    pub listeners: Vec<Listener>,
    /// Whose they are, by process id.
    pub processes: Vec<Owner>,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// Settings of this network namespace; `null` where the kernel has no such setting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Settings {
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`: counts only without cookies.
    pub tcp_max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 when the SYN queue is full, 2 always.
    pub tcp_syncookies: Option<u64>,
    /// `net.ipv4.tcp_abort_on_overflow`: 1 resets clients when the accept queue is full.
    pub tcp_abort_on_overflow: Option<u64>,
}

/// What all listeners of this network namespace lost since it exists (`TcpExt` of
/// `/proc/net/netstat`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Losses {
    /// Clients turned away because an accept queue was full (`ListenOverflows`).
    pub overflows: u64,
    /// SYNs and ACKs dropped for any reason (`ListenDrops`).
    pub drops: u64,
    /// SYN queue full, a cookie went out (`TCPReqQFullDoCookies`).
    pub syn_queue_full_cookies: u64,
    /// SYN queue full, the SYN was dropped (`TCPReqQFullDrop`).
    pub syn_queue_full_drops: u64,
    /// Growth of `overflows` per second; `null` at the first look.
    pub overflows_pps: Option<f64>,
    /// Growth of `drops` per second; `null` at the first look.
    pub drops_pps: Option<f64>,
}

/// A listener: one socket, or an SO_REUSEPORT group of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// Local address; unspecified for a wildcard.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// Interface that it is bound to; `null` for any.
    pub interface: Option<String>,
    /// Whether it takes IPv4 connections beside IPv6.
    pub dual_stack: bool,
    /// Whether it speaks MPTCP.
    pub mptcp: bool,
    /// Connections that wait for `accept`.
    pub accept: Queue,
    /// Half-open connections.
    pub syn: Queue,
    /// Packets that the kernel dropped at its sockets since these were made: SYNs, and ACKs of
    /// clients that were answered.
    pub drops: Option<u64>,
    /// Growth of `drops` per second; `null` at the first look.
    pub drops_pps: Option<f64>,
    /// The processes that hold it, by id; none where this user is not shown them.
    pub pids: Vec<u32>,
    /// The user that made it.
    pub uid: u32,
    /// Where its limit is set, if the application is known.
    pub application: Option<Application>,
    /// The sockets of a group; empty where there is one socket only.
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

/// A queue of a listener; of a group the sums over its sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Queue {
    /// How many wait.
    pub waiting: u32,
    /// How many may; the kernel takes one more.
    pub limit: u32,
    /// What sets the limit; of a group, the least of its limits.
    pub set_by: SetBy,
}

/// One socket of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Socket {
    /// Its inode, as in `/proc/PID/fd`.
    pub inode: u32,
    /// Connections that wait for `accept`.
    pub accept_waiting: u32,
    /// How many may; the kernel takes one more.
    pub accept_limit: u32,
    /// Packets that the kernel dropped at it since it was made.
    pub drops: Option<u32>,
}
