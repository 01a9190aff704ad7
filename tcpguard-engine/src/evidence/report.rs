//! The evidence for a verdict, as it is reported.

use std::net::IpAddr;

use ipnet::IpNet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measured::Measured;

/// Evidence for the verdict of an incident: failed handshakes of the last 8 s, or of up to 63 s where these are few.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Evidence {
    /// Number of failed flows that were inspected.
    pub failed_flows: u64,
    /// Completed over attempted handshakes in the window, 0 to 1.
    pub completion: f64,
    /// Distinct sources of the incident, estimated.
    pub sources_estimate: u64,
    /// SYNs per distinct source.
    pub syns_per_source: f64,
    /// Share of failed flows from sources seen once.
    pub singleton_share: f64,
    /// Share of the top source.
    pub top_source_share: f64,
    /// The top sources, at most 8.
    pub top_sources: Vec<SourceShare>,
    /// The top /24 (IPv6: /48) networks, at most 8.
    pub top_networks: Vec<NetworkShare>,
    /// Fewest sources that cover 90 % of the failed flows.
    pub k90_sources: u64,
    /// Fewest /24 (IPv6: /48) networks that cover 90 %.
    pub k90_networks: u64,
    /// Distinct /8 (IPv6: /16) networks among the failed flows.
    pub distinct_slash8: u64,
    /// The top signatures, at most 4, the one that a rule uses first.
    pub signatures: Vec<SignatureShare>,
    /// The SYNs of the first of them as a filter of tcpdump. `None` without any, and if clients have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_filter: Option<String>,
    /// Share of the two most frequent TTLs.
    pub top2_ttl_share: f64,
    /// The top TTLs, at most 8, the most frequent first.
    pub ttls: Vec<TtlShare>,
    /// Share of failed flows older than 1.5 s whose SYN was retransmitted. `None` without any.
    pub retransmitted_share: Option<f64>,
    /// Ports at which nothing listens that the busiest source of a scan tried, estimated.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ports_tried: u64,
    /// Local addresses that it tried, estimated.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub addresses_tried: u64,
    /// Baseline of SYNs per second at the listener of a flash crowd or an overload.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub baseline_syn_rate: f64,
    /// Unsolicited replies per second.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsolicited_rate: f64,
    /// SYNs per second to closed ports, refused or dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub closed_rate: f64,
    /// SYNs per second that reached the stack in frames that the XDP program cannot read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub beyond_rate: f64,
    /// Such frames per second that were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub beyond_dropped_rate: f64,
    /// True if the replies are not seen, so that less is known of the handshakes.
    #[serde(default)]
    pub replies_unseen: bool,
    /// The attack indicators, each with whether it holds.
    pub indicators: Vec<Indicator>,
}

/// Returns whether a number of another class of incident may be left out.
fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// One attack indicator.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Indicator {
    /// Its name.
    pub name: IndicatorName,
    /// True if it supports an attack.
    pub holds: bool,
    /// The numbers behind it, with the limits that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
}

/// Name of an attack indicator.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IndicatorName {
    /// One fingerprint, and not the clients'.
    Fingerprint,
    /// TTLs of one machine, or of none.
    Ttl,
    /// Few sources or networks.
    FewSources,
    /// Sources that are seen once.
    Singletons,
    /// No SYN is retransmitted as clients retransmit theirs.
    NoRetransmission,
    /// The failed networks are new, and those that complete are not.
    Novel,
    /// Hardly any handshake completes, and hardly any SYN is retransmitted.
    Silence,
    /// More handshakes fail than clients could begin.
    Surge,
    /// No reply reaches the sources.
    Unreachable,
}

impl Evidence {
    /// Number of indicators that hold.
    pub fn holding(&self) -> usize {
        self.indicators.iter().filter(|indicator| indicator.holds).count()
    }
}

/// A source and its share.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SourceShare {
    /// Address (IPv6: /64 network address).
    pub addr: IpAddr,
    /// Share of the failed flows.
    pub share: f64,
}

/// A network and its share.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct NetworkShare {
    /// The /24 (IPv6: /48).
    #[schemars(with = "String")]
    pub net: IpNet,
    /// Share of the failed flows.
    pub share: f64,
}

/// A TTL and its share.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TtlShare {
    /// The TTL as received.
    pub ttl: u8,
    /// Share of the failed flows.
    pub share: f64,
}

/// A signature and its coverage.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SignatureShare {
    /// The signature in p0f-like words: `opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df`.
    pub text: String,
    /// Name of the mask.
    pub mask: String,
    /// Share of the failed flows that it covers.
    pub share: f64,
    /// Completed handshakes with it, in the window and among all recorded clients.
    pub completed: u64,
    /// Share of the flows with it that completed, in the window.
    pub completion: f64,
}
