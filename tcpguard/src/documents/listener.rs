//! The part of the document about one listener.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{ListenerReport, MitigationReason, MitigationReport};
use tcpguard_host::time::{Clock, Time};

use super::Clients;
use super::build::number;

/// State, rates and counters of one listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// Number of the listener while the agent runs.
    pub id: u32,
    /// Local address; `0.0.0.0` or `::` for a wildcard.
    pub addr: IpAddr,
    /// Local port.
    pub port: u16,
    /// Address family of `addr`.
    pub family: Family,
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
    /// Completed handshakes per second over the last second.
    pub completed_pps: f64,
    /// SYNs per second, over the last second, that rules dropped or that were too many (see
    /// `totals.limited`); in mode `observe`, SYNs that rules would have dropped.
    pub dropped_pps: f64,
    /// Completed handshakes compared with their baseline: whether clients connect.
    pub clients: Clients,
    /// State of the listener.
    pub state: ListenerState,
    /// SYNs per second, over the last second, to which XDP replied with a cookie.
    pub cookies_pps: f64,
    /// Mitigations that are active beside rules, and those that are refused, forbidden or not yet
    /// active.
    pub mitigations: Vec<Mitigation>,
    /// Counters since the listener is monitored.
    pub totals: ListenerTotals,
}

/// Mitigation of a listener, and its state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mitigation {
    /// Name of the mitigation: `out_of_state`, `source`, `signature`, `cookies`, `overload` or `budget`.
    pub mitigation: String,
    /// State of the mitigation.
    pub state: MitigationState,
    /// Time since which the mitigation is active; `null` while it is not.
    pub since: Option<Time>,
    /// Time until which an operator's order counts, or else until which a refused mitigation is not
    /// retried; `null` where there is no such time.
    pub until: Option<Time>,
    /// Reason for the state.
    pub why: MitigationReason,
}

/// State of a mitigation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MitigationState {
    /// The mitigation is active.
    Active,
    /// The mitigation could not be started, or did harm.
    Refused,
    /// An operator, or the configuration, forbids the mitigation.
    Forbidden,
    /// An operator ordered the mitigation, and it is not active yet.
    Waiting,
    /// A value that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// Address family of a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Internet Protocol version 4.
    Ipv4,
    /// IPv6; a wildcard may accept IPv4 as well.
    Ipv6,
}

/// Location of a listener's sockets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ListenerKind {
    /// This network namespace.
    Local,
    /// Elsewhere: another host or network namespace. The listener is known only by its SYN-ACKs.
    Forwarded,
    /// A value that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// State of a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ListenerState {
    /// Handshakes complete.
    Ok,
    /// Handshakes fail and the cause is not known yet, the SYN queue is full, or SYNs that the XDP
    /// program cannot read reach the stack.
    Suspect,
    /// An incident other than a flash crowd is open. Either no mitigation is active, or most of its
    /// SYNs reach the stack.
    Attacked,
    /// An incident is open, and rules or other mitigations keep most of its SYNs from the stack.
    Mitigating,
    /// The accept queue is full: the application does not accept as fast as clients connect.
    Overloaded,
    /// A value that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// Counters of a listener. Those marked "sampled" are estimates.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenerTotals {
    /// SYNs that arrived, including retransmitted ones.
    pub syn: u64,
    /// Retransmitted SYNs among these (sampled).
    pub syn_retransmit: u64,
    /// SYN-ACKs that left, including retransmitted ones.
    pub syn_ack: u64,
    /// Retransmitted SYN-ACKs among these (sampled).
    pub syn_ack_retransmit: u64,
    /// Handshakes that the kernel completed; `null` where its tracepoint is not available.
    pub established: Option<u64>,
    /// Third ACKs of handshakes (sampled).
    pub acknowledged: u64,
    /// Half-open handshakes reset by the client (sampled).
    pub reset: u64,
    /// Out-of-state segments: the listener sent a reset, or the XDP program dropped them.
    pub refused: u64,
    /// SYNs dropped by source rules; in mode `observe`, SYNs that would have been dropped.
    pub dropped_source: u64,
    /// SYNs dropped by signature rules; in mode `observe`, SYNs that would have been dropped.
    pub dropped_signature: u64,
    /// Retransmitted SYNs that a signature rule matched, and that passed or got a cookie in reply.
    pub accepted_retransmits: u64,
    /// SYNs that a rule matched, and that passed because their source is a validated client or exempt.
    pub spared: u64,
    /// SYNs to which XDP replied with a cookie.
    pub cookies_sent: u64,
    /// Valid cookies that clients returned. The host may still refuse them: `established` counts the
    /// handshakes that it completed.
    pub cookies_redeemed: u64,
    /// SYNs dropped because there were too many: by the first-SYN drop, the SYN rate limit, or the
    /// limit of replies to one network.
    pub limited: u64,
}

impl ListenerTotals {
    /// Returns the completed handshakes: those that the kernel counted, or the third ACKs where it does
    /// not.
    pub fn completed(&self) -> u64 {
        self.established.unwrap_or(self.acknowledged)
    }

    /// Returns the SYNs that were dropped, or in mode `observe` would have been.
    pub fn matched(&self) -> u64 {
        self.dropped_source + self.dropped_signature + self.limited
    }
}

impl Listener {
    /// Returns the document's form of a listener.
    pub fn build(listener: &ListenerReport, clock: Clock) -> Self {
        let counters = &listener.counters;
        Self {
            id: listener.id.0,
            addr: listener.listener.addr,
            port: listener.listener.port,
            family: match listener.listener.addr {
                IpAddr::V4(_) => Family::Ipv4,
                IpAddr::V6(_) => Family::Ipv6,
            },
            kind: match listener.kind {
                engine::ListenerKind::Local => ListenerKind::Local,
                engine::ListenerKind::Forwarded => ListenerKind::Forwarded,
            },
            half_open: listener.queues.and_then(|queues| queues.half_open),
            half_open_limit: listener.queues.map(|queues| queues.backlog),
            accept_queue: listener.queues.map(|queues| queues.accept),
            accept_limit: listener.queues.map(|queues| queues.backlog),
            syn_pps: number(listener.syn_rate),
            completed_pps: number(listener.completed_rate),
            dropped_pps: number(listener.dropped_rate),
            clients: Clients::build(&listener.completions),
            state: match listener.state {
                engine::ListenerState::Ok => ListenerState::Ok,
                engine::ListenerState::Suspect => ListenerState::Suspect,
                engine::ListenerState::Attacked => ListenerState::Attacked,
                engine::ListenerState::Mitigating => ListenerState::Mitigating,
                engine::ListenerState::Overloaded => ListenerState::Overloaded,
            },
            cookies_pps: number(listener.cookie_rate),
            mitigations: listener
                .mitigations
                .iter()
                .map(|mitigation| Mitigation::build(mitigation, clock))
                .collect(),
            totals: ListenerTotals {
                syn: counters.syn,
                syn_retransmit: counters.syn_retransmit,
                syn_ack: counters.syn_ack,
                syn_ack_retransmit: counters.syn_ack_retransmit,
                established: counters.established,
                acknowledged: counters.acknowledged,
                reset: counters.reset,
                refused: counters.refused,
                dropped_source: counters.dropped_source,
                dropped_signature: counters.dropped_signature,
                accepted_retransmits: counters.accepted_retransmits,
                spared: counters.spared,
                cookies_sent: counters.cookies_sent,
                cookies_redeemed: counters.cookies_redeemed,
                limited: counters.limited,
            },
        }
    }
}

impl Mitigation {
    /// Returns the document's form of a mitigation.
    pub fn build(mitigation: &MitigationReport, clock: Clock) -> Self {
        Self {
            mitigation: mitigation.mitigation.name().to_owned(),
            state: match mitigation.state {
                engine::MitigationState::Active => MitigationState::Active,
                engine::MitigationState::Refused => MitigationState::Refused,
                engine::MitigationState::Forbidden => MitigationState::Forbidden,
                engine::MitigationState::Waiting => MitigationState::Waiting,
            },
            since: mitigation.since.map(|at| clock.time_at(at)),
            until: mitigation.until.map(|at| clock.time_at(at)),
            why: mitigation.why.clone(),
        }
    }
}
