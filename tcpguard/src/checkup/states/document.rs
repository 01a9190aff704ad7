//! The types of the document `tcpguard.states/1`.
//!
//! Shares are 0 to 1, sizes are bytes, times are RFC 3339 in UTC, and `null` means "not known",
//! never 0. Readers must tolerate fields and words that they do not know.

use std::net::SocketAddr;

use serde::Serialize;

use super::super::{Finding, Owner};
use crate::host::TcpState;
use crate::status::{Severity, Time};

/// The value of [`StatesReport::schema`].
pub const SCHEMA: &str = "tcpguard.states/1";

/// The TCP connections of this network namespace, and whether there are too many of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StatesReport {
    /// Name and version of this document: `tcpguard.states/1`.
    pub schema: &'static str,
    /// When the connections were listed.
    pub generated_at: Time,
    /// How many connections are in each state.
    pub states: Vec<StateCount>,
    /// What connections use up.
    pub resources: Vec<Resource>,
    /// Who has connections in CLOSE_WAIT, the most first.
    pub close_wait: Vec<Holder>,
    /// What waits in connections; only with `--queues`.
    pub queues: Option<Queues>,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// Connections in one state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateCount {
    /// Which.
    pub state: TcpState,
    /// Over IPv4, also where the socket takes both.
    pub ipv4: u64,
    /// Over IPv6.
    pub ipv6: u64,
    /// Up to how many are usual; `null` where no number is.
    pub usual: Option<u64>,
    /// How bad their number is; `null` when it is not.
    pub severity: Option<Severity>,
}

impl StateCount {
    /// Over both.
    pub fn total(&self) -> u64 {
        self.ipv4 + self.ipv6
    }
}

/// A limit as high as this is none: so the kernel says that there may be any number of files.
pub const NO_LIMIT: u64 = 1 << 62;

/// Something of which there is only so much.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Resource {
    /// What.
    pub resource: ResourceKind,
    /// Whose descriptors.
    pub process: Option<Owner>,
    /// To where the ports are taken.
    pub destination: Option<SocketAddr>,
    /// In use.
    pub used: Option<u64>,
    /// How much there is; 2^62 and more mean that there is no limit.
    pub limit: Option<u64>,
    /// Share in use; `null` also where there is no limit.
    pub ratio: Option<f64>,
    /// How bad that is; `null` when it is not.
    pub severity: Option<Severity>,
}

/// What connections use up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// Places for connections in TIME_WAIT (`net.ipv4.tcp_max_tw_buckets`).
    TimeWait,
    /// Places for sockets that were closed and are not over (`net.ipv4.tcp_max_orphans`); of the
    /// whole host.
    Orphans,
    /// Pages of memory in the queues of TCP connections (`net.ipv4.tcp_mem`, the third number); of the
    /// whole host.
    Memory,
    /// Open files of the whole host (`fs.file-max`).
    Files,
    /// Local ports from one address to one destination (`net.ipv4.ip_local_port_range`).
    LocalPorts,
    /// Descriptors of one process (`RLIMIT_NOFILE`).
    Descriptors,
}

/// A process that has connections in CLOSE_WAIT.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holder {
    /// Which; `null` for all those that this user is not shown, and for those in an accept queue.
    pub process: Option<Owner>,
    /// Port of the listener in whose accept queue they wait: no process has accepted them.
    pub accept_queue: Option<u16>,
    /// How many.
    pub connections: u64,
    /// Descriptors that it uses.
    pub descriptors: Option<u64>,
    /// Descriptors that it may use.
    pub descriptor_limit: Option<u64>,
}

/// What waits in connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Queues {
    /// By process, those with the most waiting first.
    pub processes: Vec<ProcessQueues>,
    /// The connections in which the most waits.
    pub worst: Vec<ConnectionQueues>,
}

/// What waits in the connections of one process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessQueues {
    /// Which; `null` for connections that no process has, or none that this user is shown.
    pub process: Option<Owner>,
    /// Port of the listener in whose accept queue they wait: no process has accepted them.
    pub accept_queue: Option<u16>,
    /// Its connections.
    pub connections: u64,
    /// Bytes that it has not read, over all of them.
    pub unread: u64,
    /// The same in the worst of them.
    pub unread_max: u32,
    /// Bytes that the other ends have not acknowledged, over all of them.
    pub unacknowledged: u64,
    /// The same in the worst of them.
    pub unacknowledged_max: u32,
}

/// What waits in one connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionQueues {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Its state.
    pub state: TcpState,
    /// Bytes that the application has not read.
    pub unread: u32,
    /// Bytes that the other end has not acknowledged.
    pub unacknowledged: u32,
    /// Whose it is.
    pub process: Option<Owner>,
    /// Port of the listener in whose accept queue it waits: no process has accepted it.
    pub accept_queue: Option<u16>,
}
