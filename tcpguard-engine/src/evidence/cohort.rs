//! The flows on which a verdict rests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::Fingerprint;

use super::gate::DISTINCT_MIN;
use super::victims::Victims;
use crate::input::{Flow, FlowState, POLL, Timestamp, constants, is_drawn};
use crate::listener::{Admitted, LIFE};

constants! {
    /// Age up to which half-open handshakes are evidence.
    pub(crate) const EVIDENCE_WINDOW: Duration = 8 Seconds in 4..=63,
        "Weighed against enough of them at 10 SYN/s (80), and against mixing the flood with \
         earlier handshakes. The kernel keeps a half-open handshake for 63 s (tcp_synack_retries = \
         5), and for longer if the client retransmits its SYN.";

    /// Age at which a real client has retransmitted its SYN.
    pub(crate) const RETRANSMIT_AGE: Duration = 1500 Milliseconds in 1100..=10_000,
        "RFC 6298 §2.1: 1 s, and half a second for delays on the way.";
}

/// Failed flows looked at, of one listener or of several together; of more, a part is drawn. Shares keep a
/// standard error below 0.6 %, and the eight masks cost milliseconds, not tenths of a second.
pub(super) const EXAMINED: usize = 8192;
/// Share of resets among the failures beyond the expected ones, from which all are taken to be reset.
/// Elsewhere the same share is taken for all (`fast_share`, `silent_share`). It decides below 128 handshakes
/// only, since the rest must be fewer than are judged by themselves (`evidence_flows`, 32).
const REFUSED: f64 = 0.75;
const SECOND: Duration = Duration::from_secs(1);
/// A client with a first timeout of 3 s (RFC 1122 §4.2.3.1: old and embedded systems) retransmits its SYN so
/// much later than one with a first timeout of 1 s, which by then has retransmitted it twice (after 1 and 3
/// s: RFC 6298 §2.1, §5.5).
const LATER: Duration = Duration::from_secs(2);

/// One attempt that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    /// Source address of the SYN.
    pub addr: IpAddr,
    /// Fingerprint of the SYN.
    pub print: Fingerprint,
    /// Number of flows for which it stands.
    pub weight: u64,
    /// True if the SYN was retransmitted as late as by a client; `None` where it is too early to say.
    pub retransmitted: Option<bool>,
    /// True if it is so old that any client would have retransmitted the SYN.
    pub aged: bool,
    /// True if the SYN was retransmitted less often than a client would have done by now.
    pub given_up: bool,
    /// True if the SYN was answered more than four round trips ago, and nothing came of it.
    pub unfinished: bool,
    /// True if the client was answered and sent a reset. Where the SYN was retransmitted, another device sent
    /// it with the client's address.
    pub reset: bool,
}

/// The attempts of the last seconds at one listener that are old enough to judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cohort {
    /// Attempts that failed.
    pub failing: Vec<Failing>,
    /// Local addresses of the attempts that failed.
    pub victims: Victims,
    /// Attempts that completed: client, fingerprint of the SYN and number of flows.
    pub completed: Vec<(IpAddr, Fingerprint, u64)>,
    /// Time from the first to the last of the attempts that failed.
    pub span: Duration,
    /// Span of the attempts for which retransmissions are counted.
    pub judged: Duration,
    /// Fingerprints that completed earlier in the same incident.
    pub admitted: Admitted,
}

impl Cohort {
    /// Sorts the listener's flows. `mature` is the time that handshakes are given. While most have not had it yet,
    /// because the flood has just begun, those that have lasted one poll must do: without them the normally lost
    /// clients would stand for the flood. Flows from before `onset` are not asked whether they retransmitted their
    /// SYNs, because a client that vanishes does not.
    pub fn gather(
        now: Timestamp,
        flows: impl Iterator<Item = Flow> + Clone,
        rtt: Duration,
        mature: Duration,
        onset: Timestamp,
    ) -> Self {
        // Where the last seconds hold too few, as far back as a half-open handshake lives: a flood that fills a
        // small queue within a minute need not be faster. But no further than it may have begun, or fifty SYNs
        // would be lost among the lost clients of a minute.
        let slowly = LIFE.min(now.since(onset)).max(EVIDENCE_WINDOW);
        let within = |reach| Failed::within(reach, now, mature, flows.clone());
        let recent = within(EVIDENCE_WINDOW);
        let Failed { reach, old, any, .. } =
            if recent.all < 2 * DISTINCT_MIN { within(slowly) } else { recent };

        let enough = old.count >= DISTINCT_MIN && old.count * 2 >= any.count;
        let (limit, judged_by) = if enough { (mature, old) } else { (POLL, any) };
        let span = judged_by.last.since(judged_by.first);
        let step = judged_by.count.div_ceil(EXAMINED).max(1);
        let judge = Judge { now, rtt, onset, again: RETRANSMIT_AGE };
        let judged = (now - RETRANSMIT_AGE).since(onset.max(now - reach));
        let (mut failing, mut completed) = (Vec::new(), Vec::new());
        let mut victims = BTreeMap::<IpAddr, u64>::new();
        let mut place = 0;
        for flow in flows {
            let age = now.since(flow.syn_at);
            if age > reach {
                continue;
            }
            if flow.state == FlowState::Completed {
                completed.push((flow.client, flow.fingerprint, flow.weight()));
            } else if has_failed(&flow) && age >= limit {
                if is_drawn(step, place) {
                    let failed = judge.failing(&flow, step as u64);
                    *victims.entry(flow.server).or_default() += failed.weight;
                    failing.push(failed);
                }
                place += 1;
            }
        }
        let victims = Victims::of(victims);
        Self { failing, victims, completed, span, judged, admitted: Admitted::default() }
    }

    /// The cohort without the failed flows that `covered` names. The victims stay those of all.
    pub fn without(&self, covered: impl Fn(&Failing) -> bool) -> Self {
        let failing = self.failing.iter().filter(|flow| !covered(flow)).copied().collect();
        Self {
            failing,
            victims: self.victims.clone(),
            completed: self.completed.clone(),
            admitted: self.admitted.clone(),
            ..*self
        }
    }

    /// Returns whether the failures beyond the baseline `natural_share` of all handshakes were reset by their own
    /// clients, and the rest is not `enough` to be judged by itself.
    pub fn is_refused(&self, natural_share: f64, enough: usize) -> bool {
        let refused =
            self.failing.iter().filter(|flow| flow.reset && flow.retransmitted != Some(true));
        let reset: u64 = refused.map(|flow| flow.weight).sum();
        let failing = self.weight();
        let completed: u64 = self.completed.iter().map(|(.., weight)| weight).sum();
        let anyway = natural_share * (failing + completed) as f64;
        let left = ((failing - reset) as f64 - anyway).max(0.0);
        reset as f64 >= REFUSED * (reset as f64 + left) && reset > 0 && left < enough as f64
    }

    /// Returns the failures a second that were reset by their own clients.
    pub fn reset_rate(&self) -> f64 {
        let reset = self.failing.iter().filter(|flow| flow.reset);
        let reset: u64 = reset.map(|flow| flow.weight).sum();
        reset as f64 / self.span.max(SECOND).as_secs_f64()
    }

    /// Failures a second of SYNs that are not retransmitted, or less often than a client would.
    pub fn silent_rates(&self) -> Silent {
        let rate = |which: fn(&Failing) -> bool| {
            let silent = self.failing.iter().filter(|flow| !flow.reset && which(flow));
            let count: u64 = silent.map(|flow| flow.weight).sum();
            count as f64 / self.judged.max(SECOND).as_secs_f64()
        };
        Silent {
            not_retransmitted: rate(|flow| flow.retransmitted == Some(false)),
            given_up: rate(|flow| flow.given_up),
        }
    }

    /// Returns whether any of the failed flows was reset by its own client. A reset flow takes no slot in a queue.
    pub fn has_resets(&self) -> bool {
        self.failing.iter().any(|flow| flow.reset)
    }

    /// Returns the number of flows for which the failed ones stand.
    pub fn weight(&self) -> u64 {
        self.failing.iter().map(|flow| flow.weight).sum()
    }

    /// Failed flows as a share of all.
    pub fn failed_share(&self) -> f64 {
        let completed: u64 = self.completed.iter().map(|(.., weight)| weight).sum();
        let failing = self.weight();
        if failing == 0 { 0.0 } else { failing as f64 / (failing + completed) as f64 }
    }

    /// Returns whether a client within `net` completed a handshake.
    pub fn completed_within(&self, net: &IpNet) -> bool {
        self.completed.iter().any(|(client, ..)| net.contains(client))
    }
}

/// Returns whether the attempt did not succeed, or not yet.
const fn has_failed(flow: &Flow) -> bool {
    !matches!(flow.state, FlowState::Completed | FlowState::Acknowledged)
}

/// The attempts up to an age that failed.
#[derive(Clone, Copy)]
struct Failed {
    reach: Duration,
    all: usize,
    /// Those that have had their time.
    old: Times,
    /// Those that have lasted one poll.
    any: Times,
}

impl Failed {
    fn within(
        reach: Duration,
        now: Timestamp,
        mature: Duration,
        flows: impl Iterator<Item = Flow>,
    ) -> Self {
        let (mut all, mut old, mut any) = (0, Times::NONE, Times::NONE);
        for flow in flows.filter(has_failed) {
            let age = now.since(flow.syn_at);
            if age > reach {
                continue;
            }
            all += 1;
            for (times, limit) in [(&mut old, mature), (&mut any, POLL)] {
                if age >= limit {
                    times.count += 1;
                    times.first = times.first.min(flow.syn_at);
                    times.last = times.last.max(flow.syn_at);
                }
            }
        }
        Self { reach, all, old, any }
    }
}

/// Number of attempts, and the times of the first and the last.
#[derive(Clone, Copy)]
struct Times {
    count: usize,
    first: Timestamp,
    last: Timestamp,
}

impl Times {
    const NONE: Self = Self { count: 0, first: Timestamp::MAX, last: Timestamp::from_nanos(0) };
}

/// Failed handshakes a second of senders that do not go on as clients do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Silent {
    /// Failures a second of SYNs that were not retransmitted at all.
    pub not_retransmitted: f64,
    /// Failures a second of SYNs that were not retransmitted, or less often than a client would have.
    pub given_up: f64,
}

/// Parameters by which a failed flow is judged.
#[derive(Clone, Copy)]
struct Judge {
    now: Timestamp,
    rtt: Duration,
    onset: Timestamp,
    /// The age from which a client has retransmitted its SYN.
    again: Duration,
}

impl Judge {
    fn failing(&self, flow: &Flow, scale: u64) -> Failing {
        let age = self.now.since(flow.syn_at);
        let judged = flow.syn_at >= self.onset && age >= self.again;
        let aged = judged && age >= self.again + LATER;
        let times = flow.syn_retransmits;
        Failing {
            addr: flow.client,
            print: flow.fingerprint,
            weight: flow.weight() * scale,
            retransmitted: judged.then_some(times > 0),
            aged,
            given_up: judged && times == 0 || aged && times == 1,
            unfinished: flow.state == FlowState::SynAck
                && flow.syn_ack_at.is_some_and(|at| self.now.since(at) >= self.rtt * 4),
            reset: flow.state == FlowState::Reset,
        }
    }
}

impl Failing {
    /// Source for which it counts: the address, or the IPv6 /64.
    pub fn source(&self) -> IpAddr {
        source(self.addr)
    }
}

#[cfg(test)]
impl Failing {
    /// One SYN of this address, of which nothing is known.
    pub fn once(addr: IpAddr) -> Self {
        Self {
            addr,
            print: Fingerprint::default(),
            weight: 1,
            retransmitted: None,
            aged: false,
            given_up: false,
            unfinished: false,
            reset: false,
        }
    }
}

/// Returns the source for which an address counts: an IPv4 address itself, of an IPv6 address the /64, since
/// one IPv6 host owns at least a /64.
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
    use crate::input::ListenerId;

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
    fn earlier_lost_clients_do_not_show_that_no_client_retransmits() {
        let lost: Vec<Flow> = (0..20).map(|n| half_open(2000 + 300 * n)).collect();
        let outage: Vec<Flow> = (0..60).map(|n| half_open(300 + 10 * n)).collect();
        let flows = lost.iter().chain(&outage).copied();
        let judged = |onset_ms: u64| {
            let onset = NOW - Duration::from_millis(onset_ms);
            let rtt = Duration::from_millis(50);
            let mature = Duration::from_millis(500);
            let cohort = Cohort::gather(NOW, flows.clone(), rtt, mature, onset);
            cohort.failing.iter().filter(|flow| flow.retransmitted.is_some()).count()
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
            Cohort::gather(NOW, flows.clone(), rtt, mature, onset).failing.len()
        };
        assert_eq!(failing(NOW - Duration::from_secs(1)), 50 + 15, "those of 8 s");
        assert_eq!(failing(NOW - Duration::from_secs(30)), 50 + 59, "it has been on for so long");
        assert_eq!(failing(Timestamp::default()), 50 + 120, "nobody knows for how long");
    }

    /// Headers that were sampled at the begin would show the first victim for as long as the incident lasts.
    #[test]
    fn victims_are_the_addresses_of_the_handshakes_that_failed_in_the_last_seconds() {
        let to = |last: u8, age_ms: u64| Flow {
            server: Ipv4Addr::new(203, 0, 113, last).into(),
            ..half_open(age_ms)
        };
        let before = (0..1000).map(|n| to(10, 9000 + 10 * n));
        let now = (0..100).map(|n| to(11, 600 + 10 * n));
        let lost = (0..5).map(|n| to(12, 600 + 10 * n));
        let served = (0..900).map(|_| Flow { state: FlowState::Completed, ..to(13, 1000) });
        let victims = gathered(before.chain(now).chain(lost).chain(served)).victims;
        let expected = IpAddr::from([203, 0, 113, 11]);
        let shares: Vec<_> = victims.shares().collect();
        assert_eq!(shares.len(), 1, "{shares:?}");
        assert!(shares[0].0 == expected && shares[0].1 > 0.95, "{shares:?}");
    }

    fn gathered(flows: impl Iterator<Item = Flow> + Clone) -> Cohort {
        let (rtt, mature) = (Duration::from_millis(50), Duration::from_millis(500));
        let onset = NOW - Duration::from_secs(6);
        Cohort::gather(NOW, flows, rtt, mature, onset)
    }

    #[test]
    fn whether_a_syn_is_repeated_is_asked_of_those_that_were_reset_too() {
        let reset = |age_ms, times| Flow {
            state: FlowState::Reset,
            syn_retransmits: times,
            ..half_open(age_ms)
        };
        let flows = [reset(1000, 0), reset(2000, 0), reset(2000, 1)];
        let retransmitted: Vec<_> =
            gathered(flows.into_iter()).failing.iter().map(|f| f.retransmitted).collect();
        assert_eq!(retransmitted, [None, Some(false), Some(true)]);
        let refused = gathered(std::iter::repeat_n(flows, 20).flatten());
        assert!(!refused.is_refused(0.0, 32), "a third of them goes on");
        let health_checks =
            (0..90).map(|n| reset(500 + 60 * n, 0)).chain((0..30).map(|_| half_open(900)));
        let health_checks = gathered(health_checks);
        assert!(health_checks.is_refused(0.0, 32) && !health_checks.is_refused(0.0, 30));
        assert!(health_checks.is_refused(0.1, 20), "12 fail anyway");
        assert!(!gathered(std::iter::empty()).is_refused(0.0, 32));
    }

    #[test]
    fn a_source_that_gives_up_after_one_retransmission_is_no_client_of_a_patient_kernel() {
        // Ten a second, each of which was retransmitted once.
        let once = (0..60).map(|n| Flow { syn_retransmits: 1, ..half_open(100 * n) });
        let Silent { not_retransmitted, given_up } = gathered(once).silent_rates();
        assert_eq!(not_retransmitted, 0.0);
        // Those that are 3.5 s old, in the time of those that are 1.5 s old.
        assert!((5.5..6.0).contains(&given_up), "{given_up}");
        let never = (0..60).map(|n| half_open(100 * n));
        let Silent { not_retransmitted, given_up } = gathered(never).silent_rates();
        assert!(not_retransmitted == given_up && (9.9..10.5).contains(&given_up), "{given_up}");
    }
}
