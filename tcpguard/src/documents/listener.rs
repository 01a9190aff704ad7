//! The part of the document about one listener.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{
    ListenerCounters, ListenerKind, ListenerReport, ListenerState, MapTime as _, MitigationReport,
};
use tcpguard_host::time::{Clock, Time};

use super::Clients;
use super::build::number;

/// Code of the finding about a listener without a socket, whose clients are refused.
pub const NOTHING_LISTENS: &str = "nothing_listens";

/// State, rates and counters of one listener.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Listener {
    /// Number of the listener while the agent runs.
    pub id: u32,
    /// Local address; `0.0.0.0` or `::` for a wildcard.
    pub addr: IpAddr,
    /// Local port.
    pub port: u16,
    /// Location of the listener's sockets.
    pub kind: ListenerKind,
    /// Number of half-open handshakes in the kernel; `null` where they could not be read, or were not
    /// counted at the last poll.
    pub half_open: Option<u32>,
    /// Limit of the SYN queue, in half-open handshakes; `null` where the sockets could not be read.
    pub half_open_limit: Option<u32>,
    /// Number of connections that wait for `accept`; `null` where the sockets could not be read.
    pub accept_queue: Option<u32>,
    /// Limit of the accept queue, in connections; `null` where the sockets could not be read.
    pub accept_limit: Option<u32>,
    /// SYNs per second over the last second.
    pub syn_pps: f64,
    /// SYNs per second, over the last second, that rules dropped or that were too many (see
    /// `totals.limited`); in mode `observe`, SYNs that rules would have dropped.
    pub dropped_pps: f64,
    /// Success of clients.
    pub clients: Clients,
    /// State of the listener.
    pub state: ListenerState,
    /// SYNs per second, over the last second, to which XDP replied with a cookie.
    pub cookies_sent_pps: f64,
    /// Mitigations that are active beside rules, and those that are refused, forbidden or not yet
    /// active.
    pub mitigations: Vec<Mitigation>,
    /// Counters since the listener is monitored.
    pub totals: ListenerCounters,
}

/// A mitigation of a listener.
pub type Mitigation = MitigationReport<Time>;

impl Listener {
    /// Returns the document's form of a listener.
    pub fn build(listener: &ListenerReport, clock: Clock) -> Self {
        Self {
            id: listener.id.0,
            addr: listener.listener.addr,
            port: listener.listener.port,
            kind: listener.kind,
            half_open: listener.queues.and_then(|queues| queues.half_open),
            half_open_limit: listener.queues.map(|queues| queues.backlog),
            accept_queue: listener.queues.map(|queues| queues.accept),
            accept_limit: listener.queues.map(|queues| queues.backlog),
            syn_pps: number(listener.syn_rate),
            dropped_pps: number(listener.dropped_rate),
            clients: Clients::build(&listener.completions),
            state: listener.state,
            cookies_sent_pps: number(listener.cookie_rate),
            mitigations: listener.mitigations.clone().map_time(&|at| clock.time_at(at)),
            totals: listener.counters,
        }
    }
}
