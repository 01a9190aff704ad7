//! The types of the document `tcpguard.states/1`.
//!
//! Shares are 0 to 1, sizes are bytes, and times are RFC 3339 in UTC. `null` means "not known" unless
//! the field says otherwise, and never 0. Readers must tolerate fields and words that they do not know.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::Severity;
use crate::finding::{Finding, Owner};
use crate::linux::TcpState;
use crate::time::Time;

/// Report on the TCP connections of this network namespace: their states and the resources they use.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct StatesReport {
    /// Time at which the connections were listed.
    pub generated_at: Time,
    /// Number of connections in each state.
    pub states: Vec<StateCount>,
    /// Limited resources that connections use.
    pub resources: Vec<Resource>,
    /// Owners of connections in CLOSE_WAIT, those with the most first.
    pub close_wait: Vec<Holder>,
    /// Data that waits in connections; `null` without `--queues`.
    pub queues: Option<Queues>,
    /// Problems found, the worst first; empty when there are none.
    pub findings: Vec<Finding>,
    /// Facts that could not be read, each with the reason.
    pub unread: Vec<String>,
}

/// Number of connections in one state.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct StateCount {
    /// State of the connections.
    pub state: TcpState,
    /// Number of connections over IPv4, including those of sockets that accept both families.
    pub ipv4: u64,
    /// Number of connections over IPv6.
    pub ipv6: u64,
    /// Number of connections, over both families, up to which nothing is reported; `null` where no
    /// limit is set for this state.
    pub expected_max: Option<u64>,
    /// Severity of the number of connections; `null` while it is within the limit, or has none.
    pub severity: Option<Severity>,
}

impl StateCount {
    /// Returns the number of connections over both families.
    pub fn total(&self) -> u64 {
        self.ipv4 + self.ipv6
    }
}

/// Value from which on a limit counts as none. The kernel reports such a value where the number of
/// files is not limited.
pub const NO_LIMIT: u64 = 1 << 62;

/// Use of one limited resource.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Resource {
    /// Kind of the resource.
    pub resource: ResourceKind,
    /// Process that holds the descriptors; `null` for other resources.
    pub process: Option<Owner>,
    /// Destination of the connections that take the local ports; `null` for other resources.
    pub destination: Option<SocketAddr>,
    /// Units in use; `null` where they could not be read.
    pub used: Option<u64>,
    /// Units that may be in use; 2^62 and more mean no limit; `null` where the limit could not be read.
    pub limit: Option<u64>,
    /// Share in use: `used` divided by `limit`; `null` where one of them is not known, and where there is
    /// no limit.
    pub ratio: Option<f64>,
    /// Severity of that share; `null` while it is below 80 %, or not known.
    pub severity: Option<Severity>,
}

/// Limited resource that connections use.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// Slots for connections in TIME_WAIT (`net.ipv4.tcp_max_tw_buckets`).
    TimeWait,
    /// Slots for orphans, sockets that are closed while their connection has not ended
    /// (`net.ipv4.tcp_max_orphans`); of the whole host.
    Orphans,
    /// Pages of memory in the queues of TCP connections (`net.ipv4.tcp_mem`, the third number); of the
    /// whole host.
    Memory,
    /// Open files of the whole host (`fs.file-max`).
    Files,
    /// Local ports from one address to one destination (`net.ipv4.ip_local_port_range`).
    LocalPorts,
    /// File descriptors of one process (`RLIMIT_NOFILE`).
    Descriptors,
}

/// A process, or an accept queue, that holds connections in CLOSE_WAIT.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Holder {
    /// Process that holds the connections; `null` for all processes together that this user may not
    /// see, and for connections in an accept queue.
    pub process: Option<Owner>,
    /// Port of the listener with the accept queue in which the connections wait; `null` for connections
    /// that a process has accepted.
    pub accept_queue: Option<u16>,
    /// Number of connections in CLOSE_WAIT.
    pub connections: u64,
    /// Number of descriptors that the process uses; `null` without `process`.
    pub descriptors: Option<u64>,
    /// Number of descriptors that the process may use; `null` without `process`, and where the limit
    /// could not be read.
    pub descriptor_limit: Option<u64>,
}

/// Data that waits in connections.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize)]
pub struct Queues {
    /// Data by process, those with the most unread or unacknowledged bytes first.
    pub processes: Vec<ProcessQueues>,
    /// Connections with the most unread or unacknowledged bytes, these first; at most 10.
    pub worst: Vec<ConnectionQueues>,
}

/// Data that waits in the connections of one process.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct ProcessQueues {
    /// Process that holds the connections; `null` for connections that no process holds, or none that
    /// this user may see.
    pub process: Option<Owner>,
    /// Port of the listener with the accept queue in which the connections wait; `null` for connections
    /// that a process has accepted.
    pub accept_queue: Option<u16>,
    /// Number of connections.
    pub connections: u64,
    /// Bytes that the process has not read, over all of its connections.
    pub unread: u64,
    /// Largest number of unread bytes in one connection.
    pub unread_max: u32,
    /// Bytes that the other ends have not acknowledged, over all of its connections.
    pub unacknowledged: u64,
    /// Largest number of unacknowledged bytes in one connection.
    pub unacknowledged_max: u32,
}

/// Data that waits in one connection.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct ConnectionQueues {
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port.
    pub remote: SocketAddr,
    /// State of the connection.
    pub state: TcpState,
    /// Bytes that the application has not read.
    pub unread: u32,
    /// Bytes that the other end has not acknowledged.
    pub unacknowledged: u32,
    /// Process that holds the connection; `null` where there is none, or this user may not see it.
    pub process: Option<Owner>,
    /// Port of the listener with the accept queue in which the connection waits; `null` once a process
    /// has accepted it.
    pub accept_queue: Option<u16>,
}
