//! The part of the document that is about one listener.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{ListenerReport, StepReport};

use super::build::number;
use super::{Clients, Clock, Time};

/// One listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// Its number while the agent runs.
    pub id: u32,
    /// Local address; unspecified for a wildcard.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// Address family.
    pub family: Family,
    /// Where its sockets are.
    pub kind: ListenerKind,
    /// Half-open handshakes.
    pub half_open: Option<u32>,
    /// Half-open handshakes there is room for.
    pub half_open_limit: Option<u32>,
    /// Connections waiting for `accept`.
    pub accept_queue: Option<u32>,
    /// Connections that may wait.
    pub accept_limit: Option<u32>,
    /// SYNs per second.
    pub syn_pps: f64,
    /// Completed handshakes per second.
    pub completed_pps: f64,
    /// SYNs per second dropped by rules; in observe mode: that would have been.
    pub dropped_pps: f64,
    /// Whether its clients connect.
    pub clients: Clients,
    /// What is the matter.
    pub state: ListenerState,
    /// SYNs answered with cookies per second.
    pub cookies_pps: f64,
    /// The steps that are taken beside rules, and those that cannot be.
    pub steps: Vec<Step>,
    /// Counters since the listener is followed.
    pub totals: ListenerTotals,
}

/// A step of a listener's ladder.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// Which: `strays`, `source`, `signature`, `cookies`, `overload` or `budget`.
    pub step: String,
    /// How it stands.
    pub state: StepState,
    /// Since when it is taken.
    pub since: Option<Time>,
    /// Until when an operator's word counts, or it is not tried again.
    pub until: Option<Time>,
    /// Why.
    pub why: String,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It is taken.
    Taken,
    /// It could not be taken, or did harm.
    Refused,
    /// An operator forbids it, or the configuration.
    Forbidden,
    /// An operator asked for it, and it is not taken yet.
    Waiting,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// Address family.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6; a wildcard may accept IPv4 too.
    Ipv6,
}

/// Where a listener's sockets are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ListenerKind {
    /// In this network namespace.
    Local,
    /// Elsewhere: only its answers are seen.
    Forwarded,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// What is the matter with a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ListenerState {
    /// Handshakes complete.
    Ok,
    /// Handshakes fail and it is not known yet why, or its SYN queue is full.
    Suspect,
    /// An incident is open, and nothing is done about it or most of what it is about reaches the stack.
    Attacked,
    /// An incident is open, and rules or steps keep most of it from the stack.
    Protected,
    /// Its accept queue is full: the application does not accept as fast as clients connect.
    Overloaded,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// Counters of a listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenerTotals {
    /// SYNs, repetitions included.
    pub syn: u64,
    /// Of these, repetitions (sampled).
    pub syn_retransmit: u64,
    /// SYN-ACKs, repetitions included.
    pub syn_ack: u64,
    /// Of these, repetitions (sampled).
    pub syn_ack_retransmit: u64,
    /// Handshakes that the kernel completed; `null` where it does not say.
    pub established: Option<u64>,
    /// Third packets of handshakes (sampled).
    pub acknowledged: u64,
    /// Half-open handshakes reset by the client (sampled).
    pub reset: u64,
    /// Segments that belong to no connection: the listener sent a reset, or the guard dropped them.
    pub refused: u64,
    /// SYNs dropped by source rules; in observe mode: that would have been.
    pub dropped_source: u64,
    /// SYNs dropped by signature rules; in observe mode: that would have been.
    pub dropped_signature: u64,
    /// Retransmitted SYNs that a signature rule matched and that passed or were answered.
    pub returned: u64,
    /// SYNs that a rule matched and that passed because their source is known or exempt.
    pub spared: u64,
    /// SYNs answered with a cookie.
    pub cookies_sent: u64,
    /// Good cookies that clients sent back. The host may still refuse them: `established` has those that it
    /// completed.
    pub cookies_redeemed: u64,
    /// SYNs dropped because there were too many.
    pub limited: u64,
}

impl ListenerTotals {
    /// Handshakes that completed: the kernel's word, and the third packets where it does not say.
    pub fn completed(&self) -> u64 {
        self.established.unwrap_or(self.acknowledged)
    }

    /// SYNs dropped, or that would have been.
    pub fn matched(&self) -> u64 {
        self.dropped_source + self.dropped_signature + self.limited
    }
}

impl Listener {
    /// The document's form of a listener.
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
                engine::ListenerState::Protected => ListenerState::Protected,
                engine::ListenerState::Overloaded => ListenerState::Overloaded,
            },
            cookies_pps: number(listener.cookie_rate),
            steps: listener.steps.iter().map(|step| Step::build(step, clock)).collect(),
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
                returned: counters.returned,
                spared: counters.spared,
                cookies_sent: counters.cookies_sent,
                cookies_redeemed: counters.cookies_redeemed,
                limited: counters.limited,
            },
        }
    }
}

impl Step {
    /// The document's form of a step.
    pub fn build(step: &StepReport, clock: Clock) -> Self {
        Self {
            step: step.step.name().to_owned(),
            state: match step.state {
                engine::StepState::Taken => StepState::Taken,
                engine::StepState::Refused => StepState::Refused,
                engine::StepState::Forbidden => StepState::Forbidden,
                engine::StepState::Waiting => StepState::Waiting,
            },
            since: step.since.map(|at| clock.time_at(at)),
            until: step.until.map(|at| clock.time_at(at)),
            why: step.why.clone(),
        }
    }
}
