//! The engine's state, for `status`, alerts and JSON. Plain data, no formatting of layout.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    Egress, Listener, ListenerCounters, ListenerId, ListenerKind, Mitigation, Ports, Queues,
    Record, RuleId, Severity, Timestamp,
};

/// Effect of a matching rule. The milder mode is the lesser.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is matched.
    Off,
    /// Matches are counted.
    #[default]
    Observe,
    /// Matches are dropped.
    Enforce,
}

impl Mode {
    /// Command that an operator is advised to use so that rules drop: the mode reverts by itself, in case the
    /// operator is locked out.
    pub const TRY_ENFORCE: &str = "tcpguard mode enforce --confirm 60s";
}

/// State of the engine at one moment.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Report {
    /// The mode.
    pub mode: Mode,
    /// Open incidents, oldest first.
    pub incidents: Vec<IncidentReport>,
    /// Recently closed incidents, newest first (at most 64). None where [`crate::Engine::leave_past`] leaves
    /// them to the caller.
    pub past: Vec<IncidentReport>,
    /// Every listener followed.
    pub listeners: Vec<ListenerReport>,
    /// Every rule wanted in the kernel.
    pub rules: Vec<RuleReport>,
    /// The allowlist.
    pub allowed: Vec<AllowReport>,
    /// One flow in `2^sample_shift` is followed in detail.
    pub sample_shift: u8,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct ListenerReport {
    /// Its id.
    pub id: ListenerId,
    /// Its address.
    pub listener: Listener,
    /// Location of its sockets.
    pub kind: ListenerKind,
    /// Cumulative counters.
    pub counters: ListenerCounters,
    /// Queues of its sockets, where they could be read.
    pub queues: Option<Queues>,
    /// SYNs per second over the last second.
    pub syn_rate: f64,
    /// Completed handshakes per second over the last second.
    pub completed_rate: f64,
    /// SYNs per second that rules matched, or that were too many, over the last second (in observe
    /// mode: rules would drop them).
    pub dropped_rate: f64,
    /// SYNs per second answered with cookies over the last second.
    pub cookie_rate: f64,
    /// SYNs per second over the last second that were left to the stack and completed no handshake. Those in
    /// frames that the XDP program cannot read are among them.
    #[serde(default)]
    pub reaching_rate: f64,
    /// Completed handshakes, compared with their baseline: whether its clients connect.
    pub completions: Completions,
    /// State of the listener.
    pub state: ListenerState,
    /// Egress check: whether its SYN-ACKs leave by an attached interface.
    pub egress: Egress,
    /// The mitigations beside rules that are active for it, and those that cannot be.
    pub mitigations: Vec<MitigationReport>,
}

/// Handshakes that a listener completes, compared with its baseline: the one measure of whether clients
/// connect. A share of the SYNs is none: in a flood most SYNs are spoofed, and those that are dropped or
/// answered with a cookie never complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Completions {
    /// Completed handshakes per second, mean of [`Completions::SPAN`].
    pub rate: f64,
    /// Their baseline, learned while no incident was open; `None` while too little was seen.
    pub baseline: Option<f64>,
}

impl Completions {
    /// Span of the mean rate. With few clients a second, a shorter span would show little.
    pub const SPAN: std::time::Duration = std::time::Duration::from_secs(8);
    /// The lowest baseline against which so short a mean says anything: of 16 handshakes that are to be
    /// expected fewer than half come by chance in 1 span of 100.
    const LEAST: f64 = 2.0;

    /// The rate as a share of the baseline; `None` where the baseline is not known or too low to compare with.
    pub fn ratio(&self) -> Option<f64> {
        self.baseline
            .filter(|baseline| *baseline >= Self::LEAST)
            .map(|baseline| self.rate / baseline)
    }
}

/// A mitigation of a listener's ladder.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct MitigationReport {
    /// The mitigation.
    pub mitigation: Mitigation,
    /// Its state.
    pub state: MitigationState,
    /// Time since which it is active.
    pub since: Option<Timestamp>,
    /// Time until which an operator's order counts, or it is not tried again.
    pub until: Option<Timestamp>,
    /// Reason for its state.
    pub why: String,
}

/// State of a mitigation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MitigationState {
    /// It is taken.
    Active,
    /// It could not be taken, or did harm.
    Refused,
    /// An operator forbids it, or the configuration.
    Forbidden,
    /// An operator asked for it, and it is not taken yet.
    Waiting,
}

/// The state of a listener in one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerState {
    /// Handshakes complete.
    Ok,
    /// Handshakes fail and it is not known yet why, its SYN queue is full, or SYNs that the XDP program cannot
    /// read reach its stack.
    Suspect,
    /// An incident is open. Either nothing is done about it, or most of its SYNs reach the stack.
    Attacked,
    /// An incident is open, and mitigations keep most of its SYNs from the stack.
    Mitigating,
    /// Its accept queue is full: the application does not accept as fast as clients connect.
    Overloaded,
}

/// Class of an incident.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentClass {
    /// SYNs from random, spoofed sources.
    RandomSpoofed,
    /// One source dominates.
    SingleSource,
    /// A few sources or networks dominate.
    FewSource,
    /// Many sources without indicators of spoofing: a botnet.
    Distributed,
    /// A source tries many ports or addresses at which nothing listens.
    Scan,
    /// Far more clients than in the baseline, and they are served.
    FlashCrowd,
    /// The application does not accept as fast as clients connect.
    ListenerOverload,
    /// Handshakes fail, but nothing says that it is an attack: a broken client path.
    HandshakeDegraded,
    /// Replies to SYNs that this host never sent: a third party spoofs its address.
    Reflection,
    /// SYNs to ports at which nothing listens, so many that refusing them takes the stack's time.
    ClosedPorts,
    /// SYNs in frames that the XDP program cannot read and the stack can.
    Evasion,
}

impl IncidentClass {
    /// The name in JSON and the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RandomSpoofed => "random_spoofed",
            Self::SingleSource => "single_source",
            Self::FewSource => "few_source",
            Self::Distributed => "distributed",
            Self::Scan => "scan",
            Self::FlashCrowd => "flash_crowd",
            Self::ListenerOverload => "listener_overload",
            Self::HandshakeDegraded => "handshake_degraded",
            Self::Reflection => "reflection",
            Self::ClosedPorts => "closed_ports",
            Self::Evasion => "evasion",
        }
    }

    /// Returns whether it is a SYN flood: the classes for which something is dropped.
    pub const fn is_flood(self) -> bool {
        match self {
            Self::RandomSpoofed
            | Self::SingleSource
            | Self::FewSource
            | Self::Distributed
            | Self::ClosedPorts
            | Self::Evasion => true,
            Self::Scan
            | Self::FlashCrowd
            | Self::ListenerOverload
            | Self::HandshakeDegraded
            | Self::Reflection => false,
        }
    }

    /// Returns whether it concerns the whole host and no listener: nothing is known of handshakes there, and no
    /// rule is made.
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::Scan | Self::Reflection | Self::ClosedPorts | Self::Evasion)
    }

    /// Returns whether it is about real clients that are too many, rather than about failing handshakes.
    pub const fn is_pressure(self) -> bool {
        matches!(self, Self::FlashCrowd | Self::ListenerOverload)
    }

    /// Returns its severity.
    pub const fn severity(self) -> Severity {
        match self {
            Self::RandomSpoofed
            | Self::SingleSource
            | Self::FewSource
            | Self::Distributed
            | Self::Evasion => Severity::Critical,
            Self::ListenerOverload
            | Self::HandshakeDegraded
            | Self::Reflection
            | Self::ClosedPorts => Severity::Warning,
            Self::Scan | Self::FlashCrowd => Severity::Notice,
        }
    }

    /// The name in sentences.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::RandomSpoofed => "random-source SYN flood",
            Self::SingleSource => "single-source SYN flood",
            Self::FewSource => "SYN flood from few sources",
            Self::Distributed => "SYN flood from many sources",
            Self::Scan => "port scan",
            Self::FlashCrowd => "rush of clients, not an attack",
            Self::ListenerOverload => "full accept queue, not an attack",
            Self::HandshakeDegraded => "failing handshakes, not an attack",
            Self::Reflection => "reflected SYN-ACKs",
            Self::ClosedPorts => "SYN flood of closed ports",
            Self::Evasion => "SYN flood in unreadable frames",
        }
    }
}

/// One incident, open or closed, with all that a person needs to re-trace the verdict.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct IncidentReport {
    /// Its number, rising from 1.
    pub id: u64,
    /// Id of its listener; [`ListenerId::HOST`] for one that concerns the whole host.
    pub listener_id: ListenerId,
    /// Its address; [`Listener::HOST`], or the address or port that a scan is about.
    pub listener: Listener,
    /// Number of listeners that it is about: one, or the number so far of listeners that are reported
    /// together. 0: none.
    #[serde(default)]
    pub listeners: u32,
    /// Its class.
    pub class: IncidentClass,
    /// Its severity.
    pub severity: Severity,
    /// First tick in which handshakes failed.
    pub started: Timestamp,
    /// Time of the alarm.
    pub detected: Timestamp,
    /// Time of its end; `None` while it is open.
    pub ended: Option<Timestamp>,
    /// The signal that raised the alarm: `fast`, `slow`, `occupancy`, `accept_queue`, `syn_rate`, `probes`,
    /// `answers`, `closed_ports` or `beyond_bounds`.
    pub signal: String,
    /// Confidence in the class, 0 to 1. A verdict on flows with n signs of an attack has `1 - 2^-n`: the indicators
    /// that hold, silence, a surge and unreachable sources. A verdict on counters has a value of its own.
    pub confidence: f64,
    /// The numbers behind the verdict, at the last inspection.
    pub evidence: Evidence,
    /// Its path to the verdict, and its outcome.
    pub record: Box<Record>,
    /// SYNs in the incident so far.
    pub syns: u64,
    /// SYNs that its rules matched so far, in whatever mode.
    pub matched: u64,
    /// SYNs dropped so far: of these, and because they were too many.
    pub dropped: u64,
    /// SYNs answered with a cookie so far.
    pub cookies_sent: u64,
    /// Valid cookies that clients returned.
    pub cookies_redeemed: u64,
    /// Handshakes that completed: clients that got in.
    pub completed: u64,
    /// Baseline of completed handshakes per second at its listener when it was opened. `None` where that is
    /// not known, and for an incident of no listener.
    #[serde(default)]
    pub baseline_completed_rate: Option<f64>,
    /// SYNs per second over the last second.
    pub syn_rate: f64,
    /// SYNs per second that were dropped over the last second, where it concerns the whole host. Drops at a
    /// listener are in the listener's own report.
    #[serde(default)]
    pub stopped_rate: f64,
    /// Highest SYN rate over one second.
    pub peak_syn_rate: f64,
    /// Actions for it, newest last, in words with times relative to `started`.
    pub actions: Vec<ActionReport>,
    /// Rules that are active because of it.
    pub rules: Vec<RuleId>,
}

/// One thing that was done about an incident.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct ActionReport {
    /// Time of the action.
    pub at: Timestamp,
    /// The action, in words.
    pub text: String,
}

/// Evidence for the verdict of an incident: failing handshakes of the last 8 s, or of up to 63 s where these are few.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Evidence {
    /// Number of failing flows that were inspected.
    pub failing_flows: u64,
    /// Completed over attempted handshakes in the window, 0 to 1.
    pub completion: f64,
    /// Distinct sources of the incident, estimated.
    pub sources_estimate: u64,
    /// SYNs per distinct source.
    pub syns_per_source: f64,
    /// Share of failing flows from sources seen once.
    pub singleton_share: f64,
    /// Share of the top source.
    pub top_source_share: f64,
    /// The top sources, at most 8.
    pub top_sources: Vec<SourceShare>,
    /// The top /24 (IPv6: /48) networks, at most 8.
    pub top_networks: Vec<NetworkShare>,
    /// Fewest sources that cover 90 % of the failing flows.
    pub k90_sources: u64,
    /// Fewest /24 (IPv6: /48) networks that cover 90 %.
    pub k90_networks: u64,
    /// Distinct /8 (IPv6: /16) networks among the failing flows.
    pub distinct_slash8: u64,
    /// The top signatures, at most 4, the one that a rule uses first.
    pub signatures: Vec<SignatureShare>,
    /// Share of the two most frequent TTLs.
    pub top2_ttl_share: f64,
    /// TTL histogram: (TTL, share), at most 8, the most frequent first.
    pub ttls: Vec<(u8, f64)>,
    /// Share of failing flows older than 1.5 s whose SYN was retransmitted. `None` without any.
    pub retransmitted_share: Option<f64>,
    /// Ports at which nothing listens that the busiest source of a scan tried, estimated.
    pub ports_tried: u64,
    /// Local addresses that it tried, estimated.
    pub addresses_tried: u64,
    /// Baseline of SYNs per second at the listener of a flash crowd or an overload.
    pub baseline_syn_rate: f64,
    /// Unsolicited replies per second.
    pub unsolicited_rate: f64,
    /// SYNs per second to closed ports, refused or dropped.
    #[serde(default)]
    pub closed_rate: f64,
    /// SYNs per second that reached the stack in frames that the XDP program cannot read.
    #[serde(default)]
    pub beyond_rate: f64,
    /// Such frames per second that were dropped.
    #[serde(default)]
    pub beyond_dropped_rate: f64,
    /// Half-open handshakes and the limit, where known.
    pub half_open: Option<(u32, u32)>,
    /// The attack indicators, each with whether it holds.
    pub gate: Vec<Indicator>,
}

/// One item of the evidence gate.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Indicator {
    /// Short name.
    pub name: String,
    /// True if it speaks for an attack.
    pub holds: bool,
    /// The numbers, in words.
    pub detail: String,
}

/// A source and its share.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct SourceShare {
    /// Address (IPv6: /64 network address).
    pub addr: IpAddr,
    /// Share of the failing flows.
    pub share: f64,
}

/// A network and its share.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct NetworkShare {
    /// The /24 (IPv6: /48).
    pub net: IpNet,
    /// Share of the failing flows.
    pub share: f64,
}

/// A signature and its coverage.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct SignatureShare {
    /// The signature in p0f-like words: `opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df`.
    pub text: String,
    /// Name of the mask.
    pub mask: String,
    /// Share of the failing flows that it covers.
    pub share: f64,
    /// Completed handshakes with it, in the window and among all recorded clients.
    pub completed: u64,
    /// Share of the flows with it that completed, in the window.
    pub completion: f64,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RuleReport {
    /// Its id.
    pub id: RuleId,
    /// `source` or `signature`.
    pub kind: String,
    /// Its matcher, in words: a prefix, or a signature and its listener.
    pub matches: String,
    /// Local ports to which it drops SYNs; a signature's listener has its own.
    pub ports: Ports,
    /// `incident` or `operator`.
    pub origin: String,
    /// The incident it was made for.
    pub incident: Option<u64>,
    /// Reason for which it was made.
    pub reason: String,
    /// Time at which it was made.
    pub created: Timestamp,
    /// Time at which it ends, unless renewed.
    pub expires: Timestamp,
    /// Time at which it ends unless an operator confirms it before that. `None`: it needs no confirmation.
    #[serde(default)]
    pub confirmed_until: Option<Timestamp>,
    /// SYNs dropped (in observe mode: would have been).
    pub hits: u64,
    /// SYNs that matched and passed because they were retransmitted.
    pub accepted_retransmits: u64,
    /// Handshakes that new clients completed after that.
    #[serde(default)]
    pub completed: u64,
}

/// A prefix of the allowlist.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct AllowReport {
    /// Sources that are exempt from drops by source or signature.
    pub net: IpNet,
    /// Reason for the exemption.
    pub reason: String,
    /// User id of the operator.
    pub uid: u32,
    /// Time since which they are exempt.
    pub created: Timestamp,
    /// Time until which they are exempt.
    pub expires: Timestamp,
}
