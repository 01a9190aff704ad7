//! The flows a verdict rests on.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::fastpath::Fingerprint;

use crate::learned::Admitted;
use crate::{Flow, FlowState, Settings, Timestamp};

/// Failing flows looked at; of more, every n-th. Shares keep a standard error below 0.6 %, and the
/// eight masks cost milliseconds, not tenths of a second.
const EXAMINED: usize = 8192;
/// How far back flows are looked at when the last seconds hold too few: as long as a half-open
/// handshake lives. A flood that fills a small queue within a minute need not be faster.
const SLOW: Duration = Duration::from_secs(63);

/// One attempt that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    /// The address.
    pub addr: IpAddr,
    /// Whom it counts under: the address, or the IPv6 /64.
    pub source: IpAddr,
    /// What the SYN looked like.
    pub print: Fingerprint,
    /// Stands for this many flows.
    pub weight: u64,
    /// Whether the SYN was repeated; `None` where it is too early to say, or the client was
    /// answered and has said no.
    pub repeated: Option<bool>,
    /// Answered more than four round trips ago, and nothing came of it.
    pub unfinished: bool,
    /// The client was answered and has said no.
    pub reset: bool,
}

/// The attempts of the last seconds at one listener that are old enough to judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cohort {
    /// Those that failed.
    pub failing: Vec<Failing>,
    /// Those that completed: client and SYN.
    pub completed: Vec<(IpAddr, Fingerprint, u64)>,
    /// What completed earlier in the same incident looked like.
    pub admitted: Admitted,
}

impl Cohort {
    /// Sorts the listener's flows; `mature` is the time that handshakes are given. While most have not
    /// had it yet, because the flood has just begun, those that have seen one poll go by must do:
    /// without them the usual lost clients would speak for it.
    pub fn gather(
        now: Timestamp,
        flows: &[&Flow],
        rtt: Duration,
        mature: Duration,
        settings: &Settings,
    ) -> Self {
        let age = |flow: &Flow| now.since(flow.syn_at);
        let failed = |flow: &&&Flow| flow.state != FlowState::Completed;
        let within = |window| move |flow: &&&Flow| age(flow) <= window;
        let dense = flows.iter().filter(within(settings.evidence_window)).filter(failed).count();
        let slow = dense < 2 * settings.distinct_min;
        let recent = within(if slow { SLOW } else { settings.evidence_window });
        let older = |limit| move |flow: &&&Flow| age(flow) >= limit;
        let all = || flows.iter().filter(recent).filter(failed);

        let old = all().filter(older(mature)).count();
        let any = all().filter(older(settings.poll)).count();
        let enough = old >= settings.distinct_min && old * 2 >= any;
        let (limit, count) = if enough { (mature, old) } else { (settings.poll, any) };
        let step = count.div_ceil(EXAMINED).max(1);
        let failing = all()
            .filter(older(limit))
            .step_by(step)
            .map(|flow| Failing::new(now, flow, rtt, step as u64, settings))
            .collect();
        let completed = flows
            .iter()
            .filter(recent)
            .filter(|flow| flow.state == FlowState::Completed)
            .map(|flow| (flow.client, flow.fingerprint, u64::from(flow.weight)))
            .collect();
        Self { failing, completed, admitted: Admitted::default() }
    }

    /// What remains without the failing flows that `covered` names.
    pub fn without(&self, covered: impl Fn(&Failing) -> bool) -> Self {
        let failing = self.failing.iter().filter(|flow| !covered(flow)).copied().collect();
        Self { failing, completed: self.completed.clone(), admitted: self.admitted.clone() }
    }

    /// How many flows the failing ones stand for.
    pub fn weight(&self) -> u64 {
        self.failing.iter().map(|flow| flow.weight).sum()
    }

    /// Failing flows as a share of all.
    pub fn failing_share(&self) -> f64 {
        let completed: u64 = self.completed.iter().map(|(.., weight)| weight).sum();
        let failing = self.weight();
        if failing == 0 { 0.0 } else { failing as f64 / (failing + completed) as f64 }
    }

    /// Whether a client within `net` completed a handshake.
    pub fn completed_within(&self, net: &IpNet) -> bool {
        self.completed.iter().any(|(client, ..)| net.contains(client))
    }
}

impl Failing {
    fn new(now: Timestamp, flow: &Flow, rtt: Duration, scale: u64, settings: &Settings) -> Self {
        let judged =
            flow.state != FlowState::Reset && now.since(flow.syn_at) >= settings.retransmit_age;
        Self {
            addr: flow.client,
            source: source(flow.client),
            print: flow.fingerprint,
            weight: u64::from(flow.weight.max(1)) * scale,
            repeated: judged.then_some(flow.syn_retransmits > 0),
            unfinished: flow.state == FlowState::SynAck
                && flow.syn_ack_at.is_some_and(|at| now.since(at) >= rtt * 4),
            reset: flow.state == FlowState::Reset,
        }
    }
}

/// Whom an address counts under: one IPv6 host owns at least a /64.
pub(crate) fn source(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64).into(),
    }
}
