//! The part of the document that tells the story of an attack.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Clients, Severity, Time};

/// One attack, or another incident of failing handshakes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attack {
    /// Number, rising from 1.
    pub id: u64,
    /// What it is.
    pub kind: AttackKind,
    /// How bad.
    pub severity: Severity,
    /// Address of the listener; unspecified for a wildcard.
    pub dst: IpAddr,
    /// Port of the listener.
    pub port: u16,
    /// First failing handshakes.
    pub since: Time,
    /// When the alarm was raised.
    pub detected_at: Time,
    /// When it was over; `null` while it is open.
    pub ended_at: Option<Time>,
    /// The story in one sentence.
    pub summary: String,
    /// What raised the alarm: `fast`, `slow`, `occupancy`, `accept_queue`, `syn_rate`, `probes`, `answers`,
    /// `closed_ports` or `beyond_bounds`.
    pub signal: String,
    /// How sure the verdict is, 0 to 1.
    pub confidence: f64,
    /// SYNs per second over the last second.
    pub syn_pps: f64,
    /// The highest of these.
    pub peak_syn_pps: f64,
    /// SYNs per second that were usual here when the alarm was raised; `null` while that is not
    /// known, and for what concerns no listener.
    #[serde(default)]
    pub baseline_pps: Option<f64>,
    /// SYNs since it began.
    pub syns: u64,
    /// Of these, matched by rules, in whatever mode.
    pub matched: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// SYNs answered with cookies.
    pub cookies_sent: u64,
    /// Good cookies that came back.
    pub cookies_redeemed: u64,
    /// Handshakes that completed: clients that got in.
    pub completed: u64,
    /// Whether clients of its listener connect; `null` for what concerns no listener, and for what is
    /// over where the baseline is not known.
    #[serde(default)]
    pub clients: Option<Clients>,
    /// Share of a flood's SYNs of the last second that the guard dropped or answered, of all that completed no
    /// handshake with the host's own stack; `null` outside enforce mode and without such SYNs.
    pub mitigated_ratio: Option<f64>,
    /// Distinct sources of the ten seconds with the most, estimated: all in all there are at least as
    /// many.
    pub sources_est: u64,
    /// The numbers behind the verdict.
    pub evidence: Evidence,
    /// What was done, oldest first.
    pub actions: Vec<Action>,
    /// Rules that are active because of it.
    pub rules: Vec<u32>,
    /// What the operator should do; `null` when nothing.
    pub advice: Option<Advice>,
}

/// What an attack is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttackKind {
    /// SYNs from random, forged sources.
    RandomSpoofed,
    /// One source dominates.
    SingleSource,
    /// A few sources or networks dominate.
    FewSource,
    /// Many sources that are not forged.
    Distributed,
    /// Somebody tries ports or addresses at which nothing listens.
    Scan,
    /// Far more clients than usual, and they are served.
    FlashCrowd,
    /// The application does not accept as fast as clients connect.
    ListenerOverload,
    /// Handshakes fail, but nothing says that it is an attack.
    HandshakeDegraded,
    /// Answers to SYNs that this host never sent.
    Reflection,
    /// So many SYNs to ports at which nothing listens that refusing them takes the stack's time.
    ClosedPorts,
    /// SYNs in frames that the guard cannot read and the stack can.
    Evasion,
}

/// The numbers behind a verdict, over the failing handshakes of the last 8 s.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Evidence {
    /// Failing flows looked at.
    pub failing_flows: u64,
    /// Completed over attempted handshakes.
    pub completion: f64,
    /// SYNs per distinct source.
    pub syns_per_source: f64,
    /// Share of failing flows from sources seen once.
    pub singleton_share: f64,
    /// Share of the busiest source.
    pub top_source_share: f64,
    /// The busiest sources.
    pub top_sources: Vec<SourceShare>,
    /// The busiest /24 (IPv6: /48) networks.
    pub top_networks: Vec<NetworkShare>,
    /// Fewest sources that cover 90 % of the failing flows.
    pub k90_sources: u64,
    /// Fewest /24 (IPv6: /48) networks that cover 90 %.
    pub k90_networks: u64,
    /// Distinct /8 (IPv6: /16) networks.
    pub distinct_slash8: u64,
    /// The most frequent SYN signatures.
    pub signatures: Vec<SignatureShare>,
    /// Share of the two most frequent TTLs.
    pub top2_ttl_share: f64,
    /// The most frequent TTLs.
    pub ttls: Vec<TtlShare>,
    /// Share of failing flows older than 1.5 s whose SYN was repeated.
    pub retransmitted_share: Option<f64>,
    /// Half-open handshakes.
    pub half_open: Option<u32>,
    /// Half-open handshakes there is room for.
    pub half_open_limit: Option<u32>,
    /// The items of the evidence gate.
    pub gate: Vec<GateItem>,
}

/// A source and its share of the failing flows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceShare {
    /// The address; IPv6: its /64.
    pub addr: IpAddr,
    /// The share.
    pub share: f64,
}

/// A network and its share of the failing flows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NetworkShare {
    /// The prefix: a /24 (IPv6: /48).
    pub prefix: String,
    /// The share.
    pub share: f64,
}

/// A SYN signature and what it covers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SignatureShare {
    /// The fields, in p0f-like words.
    pub text: String,
    /// Which fields count.
    pub mask: String,
    /// Share of the failing flows that it covers.
    pub share: f64,
    /// Completed handshakes with it: clients that a rule on it would hit.
    pub completed: u64,
    /// Share of the handshakes with it that completed, in the same seconds.
    pub completion: f64,
}

/// A TTL and its share of the failing flows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TtlShare {
    /// The TTL as received.
    pub ttl: u8,
    /// The share.
    pub share: f64,
}

/// One item of the evidence gate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GateItem {
    /// Its name.
    pub name: String,
    /// Whether it speaks for an attack.
    pub holds: bool,
    /// The numbers, in words.
    pub detail: String,
}

/// One thing that was done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Action {
    /// When.
    pub at: Time,
    /// What, in words.
    pub text: String,
}

/// What the operator should do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Advice {
    /// Why, in words.
    pub text: String,
    /// The command that does it; `null` when it is not a command of the guard.
    pub command: Option<String>,
}
