//! Result of a replay, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_common::abi::Reason;
use tcpguard_engine::{
    ActionReport, Evidence, IncidentClass, IncidentReport, MapTime as _, Scope, Signal, SynHeader,
    Timestamp,
};
use tcpguard_host::time::Time;

use super::incident::target;

/// Start of replayed time. It is far enough from zero that "long ago" exists.
pub const START: Timestamp = Timestamp::from_millis(3_600_000);
/// Reason for the record within which a capture ends.
pub const CUT_OFF: &str = "cut_off";
/// Reason for a packet without TCP.
pub const NOT_TCP: &str = Reason::NotTcp.name();
/// Reason for a packet that was recorded before.
pub const COPY: &str = "copy";

/// Verdicts and actions that tcpguard would have produced for a capture.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Replay {
    /// Name of the capture as it was given; `-` for standard input. Of several captures the names of the first
    /// three, and the number of the others.
    pub file: String,
    /// Number of packets that were read.
    pub packets: u64,
    /// Numbers of packets that were not judged, by reason. Reason `copy` is a packet that was recorded before,
    /// on another interface. Reason `cut_off` is the unfinished packet at the end of a capture, which `packets`
    /// does not count.
    pub skipped: BTreeMap<String, u64>,
    /// Kinds of the packets that were not judged, as in "EtherType 0x0806 (ARP)", and how many of each
    /// there were, the most frequent ones first.
    #[serde(skip)]
    pub kinds: Vec<(String, u64)>,
    /// Number of SYNs, retransmissions included.
    pub syns: u64,
    /// Number of SYN-ACKs that answer one of these SYNs, retransmissions included.
    pub syn_acks: u64,
    /// Number of handshakes that completed.
    pub handshakes: u64,
    /// Number of connections of which the third ACK and the first data were captured, and the SYN was not. XDP may have
    /// answered it.
    #[serde(default)]
    pub connections_without_syn: u64,
    /// Average sampling rate of a capture that `tcpguard capture` recorded: one in so many of the SYNs that XDP
    /// dropped or answered is in it. Rates and counts are those of the sample. `null` for every other capture.
    #[serde(default)]
    pub sampled_one_in: Option<u64>,
    /// Time from the first to the last packet, in seconds.
    pub duration_s: f64,
    /// Incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Capture time of the first packet; `None` where the capture does not state it.
    #[serde(skip)]
    pub began: Option<Time>,
    /// Fault of the times of its packets, if there is one.
    #[serde(skip)]
    pub untimely: Option<Untimely>,
    /// True if incidents rest on handshakes that count as failed because it holds no ACK, not even a client's.
    #[serde(skip)]
    pub lacks_acks: bool,
    /// Remarks about the capture and its contents, in sentences.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Reason for a packet that was captured up to a place before its TCP flags.
pub const CUT_SHORT: &str = "cut_short";

/// Reasons of skipped packets in which no TCP segment is hidden: they hold none, the host's stack refuses
/// them too, they are not whole packets, or they were judged before.
const HIDES_NOTHING: [&str; 4] = [NOT_TCP, Reason::Malformed.name(), CUT_OFF, COPY];

/// Packets of a capture that could not be judged, where they are most of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unread<'a> {
    /// Packets in which there may be TCP segments that were not read; all where none was read.
    pub packets: u64,
    pub of: u64,
    /// Reason of most of them, as in [`Replay::skipped`]; `None` where there is no packet.
    pub why: Option<&'a str>,
    /// Kinds of the packets, as in [`Replay::kinds`].
    pub kinds: &'a [(String, u64)],
}

/// Times by which no rate can be judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Untimely {
    /// The packets have no times, or invented ones.
    Missing,
    /// Time runs backwards.
    SetBack {
        /// Number of times that it does.
        times: u64,
        /// Time that all packets together take.
        read: Duration,
        /// Time from the earliest to the latest packet.
        span: Duration,
        /// True if the former is so much longer that rates are too low.
        longer: bool,
    },
}

impl Untimely {
    /// Returns whether an empty list of incidents means nothing.
    pub const fn is_decisive(&self) -> bool {
        matches!(self, Self::Missing | Self::SetBack { longer: true, .. })
    }
}

impl Replay {
    /// Returns whether the capture could be judged: an empty list of incidents means that there is none.
    pub fn is_judged(&self) -> bool {
        let times = self.untimely.is_some_and(|times| times.is_decisive());
        self.unread().is_none() && !times && !self.lacks_syns()
    }

    /// Returns whether an incident is about SYNs to ports where nothing listens.
    pub fn has_closed_ports(&self) -> bool {
        let mut scopes = self.incidents.iter().map(|incident| incident.class.facts().scope);
        scopes.any(|scope| scope == Scope::ClosedPorts)
    }

    /// Returns the packets that could not be read although TCP may be in them, if they are most of the
    /// capture or may hold more SYNs than were read, and all packets if no TCP was in any. An empty list of incidents then
    /// means nothing.
    pub fn unread(&self) -> Option<Unread<'_>> {
        let skipped = || self.skipped.iter().filter(|(why, _)| *why != CUT_OFF);
        let none_judged = skipped().map(|(_, count)| count).sum::<u64>() == self.packets;
        let hide =
            |(why, _): &(&String, &u64)| none_judged || !HIDES_NOTHING.contains(&why.as_str());
        let packets: u64 = skipped().filter(hide).map(|(_, count)| count).sum();
        let why = skipped().filter(hide).max_by_key(|(_, count)| **count);
        let why = why.map(|(why, _)| why.as_str());
        // Of packets that were cut before their flags any may be a SYN.
        let cut = self.skipped.get(CUT_SHORT).copied().unwrap_or(0);
        let unread = Unread { packets, of: self.packets, why, kinds: &self.kinds };
        (none_judged || 2 * packets > self.packets || cut > self.syns).then_some(unread)
    }

    /// Returns whether no incident was found, and there are no SYNs, or fewer than connections that began without one.
    /// That means nothing: XDP may have dropped or answered the SYNs.
    pub fn lacks_syns(&self) -> bool {
        let skipped = self.skipped.iter().filter(|(why, _)| *why != CUT_OFF);
        let skipped: u64 = skipped.map(|(_, count)| count).sum();
        let segments = self.packets > skipped;
        let lacking = self.syns == 0 || self.connections_without_syn > self.syns;
        self.incidents.is_empty() && segments && lacking
    }
}

impl Unread<'_> {
    /// Returns their share of all packets, 0 to 1.
    pub fn share(&self) -> f64 {
        self.packets as f64 / self.of.max(1) as f64
    }
}

/// One incident. Times are in seconds after the first packet.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Incident {
    /// Class of the last verdict.
    pub class: IncidentClass,
    /// Target: the listener, as in `203.0.113.10:443`, `[2001:db8::1]:443`; an address or a port alone for a
    /// scan; `500 listeners` for those that are reported together; `this host` for an incident of the whole
    /// host.
    pub listener: String,
    /// Start, in seconds after the first packet.
    pub started_s: f64,
    /// Time from the start to the detection, in seconds.
    pub detected_after_s: f64,
    /// End, in seconds after the first packet; `null` if the incident was not over before the capture's end.
    pub ended_s: Option<f64>,
    /// Number of SYNs in it; of class `reflection` the number of unsolicited replies.
    pub syns: u64,
    /// Evidence for the verdict.
    pub evidence: Grounds,
    /// Actions that were taken, or would have been in enforce mode, oldest first.
    pub actions: Vec<ActionReport<f64>>,
    /// Headers of SYNs to the listener from the first second after the first verdict, at most 16. They may be
    /// of the flood or of clients.
    pub syn_headers: Vec<SynHeader<f64>>,
}

/// Evidence for a verdict.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Grounds {
    /// Signal that raised the alarm.
    pub signal: Signal,
    /// Highest SYN rate over one second, in SYNs per second.
    pub peak_syn_pps: f64,
    /// Number of SYNs that rules matched, in whatever mode.
    pub matched: u64,
    /// Number of SYNs dropped: those of the matched ones that were dropped, and those that were too many.
    pub dropped: u64,
    /// Numbers of the last inspection.
    #[serde(flatten)]
    pub numbers: Evidence,
}

impl Incident {
    /// Builds the document's form of an incident.
    pub fn new(report: &IncidentReport) -> Self {
        Self {
            class: report.class,
            listener: target(report.listener, report.listeners),
            started_s: since_start(report.started),
            detected_after_s: seconds(report.detected.since(report.started)),
            ended_s: report.ended.map(since_start),
            syns: report.counts.syns,
            evidence: Grounds {
                signal: report.signal,
                peak_syn_pps: (report.peak_syn_rate * 10.0).round() / 10.0,
                matched: report.counts.matched,
                dropped: report.counts.dropped,
                numbers: report.evidence.clone(),
            },
            actions: report.actions.clone().map_time(&since_start),
            syn_headers: report.record.syn_headers.clone().map_time(&since_start),
        }
    }
}

/// Converts a span to seconds, rounded to the millisecond.
pub(crate) fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}

fn since_start(at: Timestamp) -> f64 {
    seconds(at.since(START))
}
