//! Every threshold of detection and policy, with its unit and where it comes from.

mod list;
mod threshold;
mod tuning;
mod validate;

pub use list::{threshold, thresholds};
pub use threshold::{Threshold, Unit};
pub(crate) use tuning::Tuned;
pub use tuning::{Override, Place, Tuning};
pub use validate::{Fault, SettingsError};

use std::time::Duration;

use tcpguard_common::abi::maps;

/// The thresholds. [`Settings::default`] holds the documented values. No host needs others to be protected.
///
/// `docs/detection.md` explains how they work together. `docs/thresholds.md` lists them with their ranges and
/// with the reasons for each default. That page is generated from [`thresholds`], the one list of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Time between two samples; the unit of "poll" below.
    pub poll: Duration,

    /// Fast path: uncompleted handshakes in two polls from which it judges at all. A public capture has a
    /// harmless burst of 38 SYNs.
    pub fast_failures: u64,
    /// Fast path: their share of the attempts, 0 to 1. Bursts of clients up to 0.5 s away stay below.
    pub fast_share: f64,
    /// Fast path: consecutive polls for which both must hold.
    pub fast_polls: u32,

    /// Slow path: value of the cumulative sum of log likelihood ratios that is an alarm. At 16 chance
    /// alone takes e^16 ticks, some 26 days, if the dispersion is right (Wald: the mean time between
    /// false alarms is at least e^h).
    pub slow_limit: f64,

    /// Occupancy: share of the SYN queue from which it raises an alarm (pf's
    /// `set syncookies adaptive (start 25%, end 12%)`, pf.conf(5)).
    pub occupancy_on: f64,
    /// Occupancy: share below which the alarm is over.
    pub occupancy_off: f64,
    /// Occupancy: half-open handshakes below which it never raises an alarm, so that a few slow
    /// clients at a tiny queue are none.
    pub occupancy_min: u32,
    /// Occupancy: consecutive readings for which it must hold.
    pub occupancy_polls: u32,

    /// Overload: polls with a full accept queue from which it is an incident (two seconds: a server
    /// may pause for a moment).
    pub overload_polls: u32,
    /// Flash crowd: multiple of the baseline of SYNs per second (a mean of ten minutes).
    pub flash_crowd_factor: f64,
    /// Flash crowd: SYNs per second below which it is none, whatever the baseline is.
    pub flash_crowd_floor: f64,
    /// Flash crowd: share of handshakes that complete.
    pub flash_crowd_served: f64,
    /// Flash crowd: consecutive polls for which all must hold.
    pub flash_crowd_polls: u32,

    /// Scan: ports at which nothing listens that one source tries within five minutes. As Zeek's
    /// `port_scan_threshold` (misc/scan) and CrowdSec's `iptables-scan-multi_ports`, both 15.
    pub scan_ports: u32,
    /// Scan: closed ports from which it may be one although they are fewer, if `scan_likelihood` says so.
    pub scan_ports_likely: u32,
    /// Scan: how much more likely the failures and successes of a source must be a scanner's than a
    /// client's (threshold random walk: Jung, Paxson, Berger, Balakrishnan, 2004). 256 is four more
    /// failures than successes.
    pub scan_likelihood: f64,
    /// Scan: local addresses that one source tries at such ports. As Zeek's `addr_scan_threshold`, 25.
    pub scan_addresses: u32,

    /// Reflection: answers per second that this host did not ask for (64 in a poll).
    pub reflection_rate: f64,
    /// Reflection: their share of all answers. A busy proxy stays far below, even while its sample of
    /// own SYNs changes.
    pub reflection_share: f64,
    /// Reflection: consecutive polls for which both must hold.
    pub reflection_polls: u32,

    /// SYN flood of closed ports: SYNs per second that the host's own stack refuses, or that are dropped
    /// instead.
    pub closed_rate: f64,
    /// SYN flood in unreadable frames: SYNs per second that reach the stack, or are dropped, in frames with
    /// headers that extend beyond the parser's bounds.
    pub beyond_rate: f64,

    /// Slow path: handshakes a second that clients may reset before these count as failures. Half-open
    /// health checks end so, for ever; those of more than two balancers with five processes each are known by
    /// their flows.
    pub health_check_rate: f64,

    /// Release: time without failures above the clear threshold. Longer than the pauses of real
    /// pulsed floods (2.75 s in a public capture, 10 s assumed).
    pub quiet: Duration,
    /// Failures per second that matter at all. The clear threshold is half of the larger of this
    /// and `failure_share`: 2:1 hysteresis, as pf's.
    pub failure_floor: f64,
    /// Share of the attempts that must fail to matter.
    pub failure_share: f64,
    /// Time after an attack in which the fast path needs one poll only and the attack's signatures
    /// are applied again at once.
    pub alert_window: Duration,

    /// Evidence: how far back failing flows are looked at.
    pub evidence_window: Duration,
    /// Evidence: sampled failing flows below which no verdict is made (unless time runs out).
    pub evidence_flows: usize,
    /// Evidence: time after the alarm by which an incident is opened with whatever is known.
    pub evidence_patience: Duration,
    /// Share of the top source from which one source is the attack.
    pub single_source_share: f64,
    /// Share of failing flows from sources seen once from which sources are random.
    pub singleton_share: f64,
    /// Distinct sources from which the shares of sources mean anything.
    pub distinct_min: usize,
    /// Gate: share of failing flows that one fingerprint must cover.
    pub fingerprint_share: f64,
    /// Gate: share of completed handshakes with that fingerprint up to which it is not the clients'.
    pub fingerprint_completion: f64,
    /// Gate: share of the two most frequent TTLs. In public captures (StopDDoS/packet-captures) two
    /// floods had two TTLs each; 239 hosts that answered one of them showed 48, the top two 21 %.
    pub ttl_share: f64,
    /// Gate: share of TTLs that no real host's packet arrives with, from which TTLs are spoofed.
    pub ttl_impossible_share: f64,
    /// Gate: number of networks (/24, IPv6 /48) that count as few.
    pub few_networks: u64,
    /// Gate: number of sources that count as few when they send two SYNs each or more.
    pub few_sources: u64,
    /// Gate: share of failing clients that retransmit their SYN, up to which they are no real clients.
    pub retransmit_share: f64,
    /// Gate: age from which a real client has retransmitted its SYN (1 s initial timeout, RFC 6298 §2.1,
    /// and half a second for slack and the way here).
    pub retransmit_age: Duration,
    /// Gate: share of all handshakes that fail from which no normal loss of clients explains it, if next
    /// to no SYN is retransmitted. As `fast_share`.
    pub silent_share: f64,
    /// Gate: share of failing clients that retransmit their SYN, up to which next to none does.
    pub silent_retransmitted: f64,
    /// Failing handshakes per second, as a multiple of the baseline of SYNs per second, that are more
    /// than clients could begin.
    pub surge_factor: f64,
    /// Failing handshakes per second below which they may be clients, however low the baseline is.
    pub surge_floor: f64,
    /// Share of all handshakes that fail from which SYNs with fingerprints of clients, from sources seen
    /// once each and from everywhere, are spoofed. Of a swarm's peers as many are gone before the reply.
    pub scattered_share: f64,
    /// Gate: share of the failing networks from which they are new, or known.
    pub novel_share: f64,
    /// Gate: share of the completing networks that must be known before others can be new.
    pub novel_seen: f64,
    /// Gate: learned handshakes from which new sources are distinguished from known ones. A day with fewer
    /// suffices as well.
    pub novel_completions: u64,
    /// Gate: items from which failing handshakes are an attack.
    pub indicators_attack: u32,
    /// Gate: items from which a signature or a source may be dropped.
    pub indicators_drop: u32,

    /// Source rules: failing flows of a source or network from which a rule against it is considered.
    /// A flood that spoofs sources at random may draw one of them fewer times, and the queue holds these.
    pub source_flows: u64,
    /// Source rules: per incident at most.
    pub sources_per_incident: usize,
    /// Source rules: failing sources in one /24 (IPv6: /48) from which the network is blocked rather
    /// than each of them.
    pub network_sources: usize,

    /// Signature: share of the failing flows that a rule must cover.
    pub signature_coverage: f64,
    /// Signature: coverage that a more specific mask may lose against the best one.
    pub signature_tolerance: f64,
    /// Signature: recorded completions from which "absent among clients" is knowledge.
    pub clients_known: u64,
    /// Signature: answered SYNs without a completion that say the same where clients are not known.
    pub replied_unfinished: u64,
    /// Signature: rules per listener at most.
    pub signatures_per_listener: usize,
    /// Client round-trip time assumed until one has been measured. A SYN counts as unfinished after
    /// four of them.
    pub assumed_rtt: Duration,

    /// Signature rules: completed handshakes, as a share of the SYNs that matched, from which a rule is
    /// withdrawn.
    pub completed_share: f64,
    /// Signature rules: number of them below which they say nothing: these clients have got in anyway.
    pub completed_min: u64,
    /// Signature rules: the shorter of the two spans judged (the other is the rule's whole life).
    pub completed_window: Duration,

    /// Lifetime of a rule without hits; also of the first one against a source.
    pub rule_ttl: Duration,
    /// Longest lifetime without hits, reached by doubling whenever a source is back
    /// (fail2ban's `bantime.increment`, with a limit).
    pub rule_ttl_max: Duration,
    /// Hits per second that keep a rule alive.
    pub rule_hit_rate: f64,

    /// Cookies: failing flows that no rule covers, from which the rest is worth answering.
    pub residual_flows: u64,
    /// Cookies: their share of the failing flows.
    pub residual_share: f64,
    /// A mitigation that failed or did harm is tried again after this long, doubled each time, at most
    /// 16 times as long.
    pub mitigation_retry: Duration,
    /// Cookies: time after which some client must have completed a handshake.
    pub canary: Duration,
    /// Overload: time of one CPU that a SYN takes that is answered with a cookie, from the driver to the
    /// answer on its way. Measured between virtual interfaces (`cargo xtask bench e2e`); a network card's
    /// driver is no dearer.
    pub reply_cost: Duration,
    /// Overload: share of one CPU that answering everything would take, from which not everything is.
    pub saturation_on: f64,
    /// Overload: share below which everything is answered again.
    pub saturation_off: f64,
    /// Overload: consecutive polls for which it must hold.
    pub saturation_polls: u32,
    /// Overload: time below `saturation_off` after which it is over, longer than a flood's pauses.
    pub saturation_hold: Duration,
    /// SYN budget: time in which at most a quarter of the queue may fill.
    pub budget_fill: Duration,
    /// SYN budget: SYNs a second below which it never goes.
    pub budget_min: u32,
    /// SYN budget: SYNs a second where an operator asks for one that the situation does not call for.
    pub ordered_budget: u32,
    /// Capacity for rules of all kinds. A rule for certain ports counts once for each of them. A running
    /// engine keeps the value that it was made with.
    pub rules: u32,
    /// Closed ports: SYNs a second that the stack is left to refuse while there is a flood of them (FreeBSD's
    /// `net.inet.icmp.icmplim`, which limits resets too, is 200).
    pub closed_port_resets: u32,
    /// Strays: segments a second that belong to no connection from which they are looked for. A server
    /// that closes with data unread sends resets of its own.
    pub out_of_state_rate: f64,

    /// Flows followed in detail per second, over all listeners.
    pub followed_per_second: u64,
    /// Time after which fewer SYNs let more of them be followed again.
    pub sampling_hold: Duration,
    /// Open incidents at most; beyond them one alert says that there are more.
    pub incidents: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            fast_failures: 64,
            fast_share: 0.75,
            fast_polls: 2,
            slow_limit: 16.0,
            occupancy_on: 0.25,
            occupancy_off: 0.12,
            occupancy_min: 16,
            occupancy_polls: 2,
            overload_polls: 8,
            flash_crowd_factor: 3.0,
            flash_crowd_floor: 100.0,
            flash_crowd_served: 0.7,
            flash_crowd_polls: 12,
            scan_ports: 15,
            scan_ports_likely: 8,
            scan_likelihood: 256.0,
            scan_addresses: 25,
            reflection_rate: 256.0,
            reflection_share: 0.5,
            reflection_polls: 2,
            closed_rate: 10_000.0,
            beyond_rate: 100.0,
            health_check_rate: 10.0,
            quiet: Duration::from_secs(30),
            failure_floor: 5.0,
            failure_share: 0.05,
            alert_window: Duration::from_secs(600),
            evidence_window: Duration::from_secs(8),
            evidence_flows: 32,
            evidence_patience: Duration::from_secs(1),
            single_source_share: 0.7,
            singleton_share: 0.9,
            distinct_min: 48,
            fingerprint_share: 0.5,
            fingerprint_completion: 0.05,
            ttl_share: 0.8,
            ttl_impossible_share: 0.3,
            few_networks: 8,
            few_sources: 64,
            retransmit_share: 0.35,
            retransmit_age: Duration::from_millis(1500),
            silent_share: 0.75,
            silent_retransmitted: 0.05,
            surge_factor: 100.0,
            surge_floor: 5000.0,
            scattered_share: 0.25,
            novel_share: 0.7,
            novel_seen: 0.7,
            novel_completions: 1000,
            indicators_attack: 2,
            indicators_drop: 3,
            source_flows: 16,
            sources_per_incident: 64,
            network_sources: 8,
            signature_coverage: 0.5,
            signature_tolerance: 0.02,
            clients_known: 200,
            replied_unfinished: 1000,
            signatures_per_listener: 4,
            assumed_rtt: Duration::from_millis(250),
            completed_share: 0.005,
            completed_min: 8,
            completed_window: Duration::from_secs(10),
            rule_ttl: Duration::from_secs(60),
            rule_ttl_max: Duration::from_secs(3600),
            rule_hit_rate: 1.0,
            residual_flows: 64,
            residual_share: 0.05,
            mitigation_retry: Duration::from_secs(60),
            canary: Duration::from_secs(3),
            reply_cost: Duration::from_nanos(700),
            saturation_on: 0.7,
            saturation_off: 0.4,
            saturation_polls: 2,
            saturation_hold: Duration::from_secs(4),
            budget_fill: Duration::from_secs(3),
            budget_min: 8,
            ordered_budget: 1000,
            rules: maps::RULES,
            closed_port_resets: 200,
            out_of_state_rate: 256.0,
            followed_per_second: 20_000,
            sampling_hold: Duration::from_secs(10),
            incidents: 64,
        }
    }
}

/// Limits that no setting can exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits;

impl Settings {
    /// SYNs a second that fill a quarter of a SYN queue with this limit in [`Self::budget_fill`].
    pub fn budget(&self, backlog: u32) -> u32 {
        let rate = f64::from(backlog) / 4.0 / self.budget_fill.as_secs_f64();
        (rate as u32).max(self.budget_min)
    }

    /// Retransmitted SYNs a second that rules let through to the stack, at a SYN queue with this limit and
    /// with so many of their handshakes completed a second.
    ///
    /// A completed handshake has left the queue. So at most [`Self::budget`] a second do not complete,
    /// whatever their source. If handshakes suddenly fail, those of one second fill about half of the queue.
    pub fn retransmit_budget(&self, backlog: u32, completing: f64) -> u32 {
        self.budget(backlog).saturating_add((completing as u32).min(backlog / 2))
    }
}

impl Limits {
    /// Longest lifetime of an exemption; longer ones are cut to it.
    pub const MAX_ALLOW: Duration = Duration::from_secs(30 * 24 * 3600);
    /// Shortest IPv4 prefix that may be allowed without force.
    pub const MIN_ALLOW_V4: u8 = 8;
    /// Shortest IPv6 prefix that may be allowed without force.
    pub const MIN_ALLOW_V6: u8 = 16;
    /// Exemptions that operators may ask for; the rest of the kernel's table is for protected
    /// prefixes.
    pub const ALLOWED: u32 = maps::MAX_EXEMPT / 2;
    /// Lifetime of a rule that is imported without one.
    pub const MANUAL_RULE: Duration = Duration::from_secs(3600);
    /// Longest lifetime of a rule made by hand; longer ones are cut to it.
    pub const MAX_MANUAL_RULE: Duration = Duration::from_secs(24 * 3600);
    /// Longest time for which an operator's order for a mitigation counts; longer ones are cut to it.
    pub const MAX_ORDER: Duration = Duration::from_secs(24 * 3600);
    /// An incident does not ask again for a rule that an operator removed for this long.
    pub const REMOVED: Duration = Duration::from_secs(600);
    /// Shortest IPv4 prefix that may be blocked without force: a /16 is 65,536 addresses.
    pub const MIN_PREFIX_V4: u8 = 16;
    /// Shortest IPv6 prefix that may be blocked without force: the allocation of one provider.
    pub const MIN_PREFIX_V6: u8 = 32;
    /// Signature rules.
    pub const SIGNATURES: u32 = maps::MAX_SIGNATURES;
    /// Closed incidents kept for [`crate::Report::past`].
    pub const PAST_INCIDENTS: usize = 64;
    /// Entries of an incident's list of actions; further ones are not noted.
    pub const ACTIONS: usize = 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_retransmissions_more_pass_as_complete_up_to_half_of_the_queue() {
        let settings = Settings::default();
        for (backlog, completing, expected) in [
            (128, 0.0, 10),
            (128, 16.0, 26),
            (128, 1000.0, 10 + 64),
            (4096, 0.0, 341),
            (4096, 500.0, 841),
            (4096, 1e9, 341 + 2048),
            (0, 500.0, 8),
        ] {
            assert_eq!(
                settings.retransmit_budget(backlog, completing),
                expected,
                "{backlog} {completing}"
            );
        }
    }
}
