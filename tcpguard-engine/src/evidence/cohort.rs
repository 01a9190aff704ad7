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
/// How far back flows are looked at when the last seconds hold too few, though not further than it
/// may have begun: as long as a half-open handshake lives. A flood that fills a small queue within a
/// minute need not be faster.
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
    /// From the first to the last of those that failed.
    pub span: Duration,
    /// What completed earlier in the same incident looked like.
    pub admitted: Admitted,
}

impl Cohort {
    /// Sorts the listener's flows; `mature` is the time that handshakes are given. While most have not
    /// had it yet, because the flood has just begun, those that have seen one poll go by must do:
    /// without them the usual lost clients would speak for it. Nor are these asked whether they
    /// repeated their SYNs, if they came before `onset`: who vanishes does not.
    pub fn gather(
        now: Timestamp,
        flows: impl Iterator<Item = Flow> + Clone,
        rtt: Duration,
        mature: Duration,
        onset: Timestamp,
        settings: &Settings,
    ) -> Self {
        let age = |flow: &Flow| now.since(flow.syn_at);
        let failed =
            |flow: &Flow| !matches!(flow.state, FlowState::Completed | FlowState::Acknowledged);
        let within = |window| move |flow: &Flow| age(flow) <= window;
        let dense = flows.clone().filter(within(settings.evidence_window)).filter(failed).count();
        let slow = dense < 2 * settings.distinct_min;
        // Fifty SYNs would be lost among the lost clients of a minute.
        let slowly = SLOW.min(now.since(onset)).max(settings.evidence_window);
        let recent = within(if slow { slowly } else { settings.evidence_window });
        let older = |limit| move |flow: &Flow| age(flow) >= limit;
        let all = || flows.clone().filter(recent).filter(failed);

        let old = all().filter(older(mature)).count();
        let any = all().filter(older(settings.poll)).count();
        let enough = old >= settings.distinct_min && old * 2 >= any;
        let (limit, count) = if enough { (mature, old) } else { (settings.poll, any) };
        let step = count.div_ceil(EXAMINED).max(1);
        let judged = |flow: &Flow| flow.syn_at >= onset && age(flow) >= settings.retransmit_age;
        let times = || all().filter(older(limit)).map(|flow| flow.syn_at);
        let span = times().max().unwrap_or_default().since(times().min().unwrap_or_default());
        let failing = all()
            .filter(older(limit))
            .step_by(step)
            .map(|flow| Failing::new(now, &flow, rtt, step as u64, judged(&flow)))
            .collect();
        let completed = flows
            .clone()
            .filter(recent)
            .filter(|flow| flow.state == FlowState::Completed)
            .map(|flow| (flow.client, flow.fingerprint, flow.weight()))
            .collect();
        Self { failing, completed, span, admitted: Admitted::default() }
    }

    /// What remains without the failing flows that `covered` names.
    pub fn without(&self, covered: impl Fn(&Failing) -> bool) -> Self {
        let failing = self.failing.iter().filter(|flow| !covered(flow)).copied().collect();
        let (completed, admitted) = (self.completed.clone(), self.admitted.clone());
        Self { failing, completed, span: self.span, admitted }
    }

    /// Whether any of the failing flows was reset by its own client. What is reset holds no place in a queue.
    pub fn has_resets(&self) -> bool {
        self.failing.iter().any(|flow| flow.reset)
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
    /// `judged`: a client would have repeated its SYN by now, had it not been answered and said no.
    fn new(now: Timestamp, flow: &Flow, rtt: Duration, scale: u64, judged: bool) -> Self {
        let judged = judged && flow.state != FlowState::Reset;
        Self {
            addr: flow.client,
            source: source(flow.client),
            print: flow.fingerprint,
            weight: flow.weight() * scale,
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ListenerId;

    const NOW: Timestamp = Timestamp::from_millis(60_000);

    fn half_open(age_ms: u64) -> Flow {
        let syn_at = NOW - Duration::from_millis(age_ms);
        Flow {
            listener: ListenerId(0),
            client: Ipv4Addr::new(192, 0, 2, 1).into(),
            server: Ipv4Addr::new(203, 0, 113, 10).into(),
            syn_at,
            syn_ack_at: Some(syn_at),
            done_at: None,
            state: FlowState::SynAck,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    #[test]
    fn lost_clients_of_before_do_not_say_that_nobody_tries_again() {
        let lost: Vec<Flow> = (0..20).map(|n| half_open(2000 + 300 * n)).collect();
        let outage: Vec<Flow> = (0..60).map(|n| half_open(300 + 10 * n)).collect();
        let flows = lost.iter().chain(&outage).copied();
        let judged = |onset_ms: u64| {
            let onset = NOW - Duration::from_millis(onset_ms);
            let rtt = Duration::from_millis(50);
            let mature = Duration::from_millis(500);
            let cohort =
                Cohort::gather(NOW, flows.clone(), rtt, mature, onset, &Settings::default());
            cohort.failing.iter().filter(|flow| flow.repeated.is_some()).count()
        };
        assert_eq!(judged(1000), 0, "too early to say");
        assert_eq!(judged(60_000), 20, "the naive way: they are all there is to ask");
    }

    #[test]
    fn a_pulse_of_fifty_is_not_lost_among_the_lost_clients_of_a_minute() {
        let lost: Vec<Flow> = (0..120).map(|n| half_open(1000 + 500 * n)).collect();
        let pulse: Vec<Flow> = (0..50).map(|n| half_open(500 + 10 * n)).collect();
        let flows = lost.iter().chain(&pulse).copied();
        let failing = |onset| {
            let rtt = Duration::from_millis(50);
            let mature = Duration::from_millis(500);
            let settings = Settings::default();
            Cohort::gather(NOW, flows.clone(), rtt, mature, onset, &settings).failing.len()
        };
        assert_eq!(failing(NOW - Duration::from_secs(1)), 50 + 15, "those of 8 s");
        assert_eq!(failing(NOW - Duration::from_secs(30)), 50 + 59, "it has been on for so long");
        assert_eq!(failing(Timestamp::default()), 50 + 120, "nobody knows for how long");
    }
}
