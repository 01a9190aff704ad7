//! Part of the status document that describes an attack or another incident.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use super::Clients;

/// One incident: an attack, or one of the other classes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Incident {
    /// Number of the incident, rising from 1.
    pub id: u64,
    /// Class of the incident.
    pub class: DocumentClass,
    /// Severity of the class.
    pub severity: Severity,
    /// Address of the listener, or the one address that a scan is about. Unspecified for a wildcard listener,
    /// and where no single address is concerned.
    pub dst: IpAddr,
    /// Port of the listener, or the one port that a scan is about; 0 where no single port is concerned.
    pub port: u16,
    /// Start: the time of the first failing handshakes.
    pub since: Time,
    /// Time at which the alarm was raised.
    pub detected_at: Time,
    /// Time of its end; `null` while it is open.
    pub ended_at: Option<Time>,
    /// Summary in one sentence.
    pub summary: String,
    /// Signal that raised the alarm: `fast`, `slow`, `occupancy`, `accept_queue`, `syn_rate`, `probes`,
    /// `answers`, `closed_ports` or `beyond_bounds`.
    pub signal: String,
    /// Confidence in the class, 0 to 1.
    pub confidence: f64,
    /// SYNs per second over the last second; of class `reflection` unsolicited replies per second.
    pub syn_pps: f64,
    /// Highest value of `syn_pps` so far.
    pub peak_syn_pps: f64,
    /// Baseline of SYNs per second when the alarm was raised; `null` while it is not known, and for an
    /// incident of no listener.
    #[serde(default)]
    pub baseline_pps: Option<f64>,
    /// Number of SYNs since the incident began; of class `reflection` the number of unsolicited replies.
    pub syns: u64,
    /// Number of these SYNs that rules matched, in whatever mode.
    pub matched: u64,
    /// Number of these SYNs that were dropped, by rules or because they were too many.
    pub dropped: u64,
    /// Number of SYNs answered with a cookie.
    pub cookies_sent: u64,
    /// Number of valid cookies that clients returned.
    pub cookies_redeemed: u64,
    /// Number of handshakes that completed: clients that got in.
    pub completed: u64,
    /// Completed handshakes at its listener, compared with their baseline. `null` for an incident of no
    /// listener, and for a closed incident without a known baseline.
    #[serde(default)]
    pub clients: Option<Clients>,
    /// Mitigated share of a flood, 0 to 1: SYNs of the last second that were dropped or answered with a
    /// cookie, out of those that completed no handshake with the host's own stack. `null` outside enforce
    /// mode, without such SYNs, where the rate is not known, and for an incident that is closed or no flood.
    pub mitigated_ratio: Option<f64>,
    /// Estimated number of distinct sources in the ten seconds with the most. The whole incident has at least
    /// as many.
    pub sources_est: u64,
    /// Numbers behind the verdict.
    pub evidence: Evidence,
    /// Actions so far, oldest first.
    pub actions: Vec<Action>,
    /// Numbers of the rules that are active because of it.
    pub rules: Vec<u32>,
    /// Advice for the operator; `null` where nothing is to be done.
    pub advice: Option<Advice>,
}

/// Class of an incident.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentClass {
    /// SYN flood from random, spoofed sources.
    RandomSpoofed,
    /// SYN flood in which one source dominates.
    SingleSource,
    /// SYN flood in which a few sources or networks dominate.
    FewSource,
    /// SYN flood from many sources that are not spoofed.
    Distributed,
    /// Attempts at ports or addresses at which no socket listens.
    Scan,
    /// Flash crowd: far more clients than in the baseline, and they are served.
    FlashCrowd,
    /// Full accept queue: the application does not accept as fast as clients connect.
    ListenerOverload,
    /// Failing handshakes without sufficient evidence of an attack.
    HandshakeDegraded,
    /// Unsolicited replies: they answer SYNs that this host never sent.
    Reflection,
    /// SYN flood of ports at which no socket listens; refusing the SYNs takes the stack's time.
    ClosedPorts,
    /// SYN flood in frames that the XDP program cannot read and the stack can.
    Evasion,
}

/// Numbers behind a verdict, over the failing handshakes of the last 8 s (by default), or of up to 63 s where
/// these are few. Shares are 0 to 1.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Evidence {
    /// Number of failing flows that were inspected.
    pub failing_flows: u64,
    /// Completed handshakes as a share of the attempted ones.
    pub completion: f64,
    /// SYNs per distinct source.
    pub syns_per_source: f64,
    /// Share of failing flows from sources seen once.
    pub singleton_share: f64,
    /// Share of the busiest source among the failing flows.
    pub top_source_share: f64,
    /// Sources with the most failing flows, at most 8, the busiest first.
    pub top_sources: Vec<SourceShare>,
    /// Networks, /24 (IPv6: /48), with the most failing flows, at most 8, the busiest first.
    pub top_networks: Vec<NetworkShare>,
    /// Smallest number of sources that cover 90 % of the failing flows.
    pub k90_sources: u64,
    /// Smallest number of /24 (IPv6: /48) networks that cover 90 % of the failing flows.
    pub k90_networks: u64,
    /// Number of distinct /8 (IPv6: /16) networks among the failing flows.
    pub distinct_slash8: u64,
    /// Most frequent signatures of the failing flows, at most 4; a signature that a rule uses comes first.
    pub signatures: Vec<SignatureShare>,
    /// Share of the two most frequent TTLs among the failing flows.
    pub top2_ttl_share: f64,
    /// Most frequent TTLs of the failing flows, at most 8, the most frequent first.
    pub ttls: Vec<TtlShare>,
    /// Share of failing flows older than 1.5 s with a retransmitted SYN; `null` without such flows.
    pub retransmitted_share: Option<f64>,
    /// Number of half-open handshakes; `null` where it is not known.
    pub half_open: Option<u32>,
    /// Capacity for half-open handshakes; `null` where it is not known.
    pub half_open_limit: Option<u32>,
    /// Indicators for or against an attack.
    pub gate: Vec<Indicator>,
}

/// A source and its share of the failing flows.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SourceShare {
    /// Address of the source; of IPv6 its /64 network.
    pub addr: IpAddr,
    /// Its share of the failing flows, 0 to 1.
    pub share: f64,
}

/// A network and its share of the failing flows.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct NetworkShare {
    /// Prefix of the network: a /24 (IPv6: /48).
    pub prefix: String,
    /// Its share of the failing flows, 0 to 1.
    pub share: f64,
}

/// A SYN signature and its coverage.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SignatureShare {
    /// Fields of the signature, in p0f-like words.
    pub text: String,
    /// Name of the mask, which selects the fields that count.
    pub mask: String,
    /// Share of the failing flows that it covers, 0 to 1.
    pub share: f64,
    /// Number of completed handshakes with it: clients that a rule on it would hit.
    pub completed: u64,
    /// Share of the flows with it that completed, in the window of the evidence, 0 to 1.
    pub completion: f64,
}

/// A TTL and its share of the failing flows.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TtlShare {
    /// The TTL as received.
    pub ttl: u8,
    /// Its share of the failing flows, 0 to 1.
    pub share: f64,
}

/// One indicator for or against an attack.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Indicator {
    /// Short name of the indicator.
    pub name: String,
    /// True if it supports an attack.
    pub holds: bool,
    /// Numbers behind it, in words.
    pub detail: String,
}

/// One action about an incident.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Action {
    /// Time of the action.
    pub at: Time,
    /// Description of the action, in words.
    pub text: String,
}

/// Advice for the operator.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Advice {
    /// Advice and its reason, in words.
    pub text: String,
    /// Command that follows the advice; `null` where no command of tcpguard does.
    pub command: Option<String>,
}
