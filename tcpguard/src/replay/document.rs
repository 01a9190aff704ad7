//! What a replay tells, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tcpguard_engine as engine;
use tcpguard_engine::{IncidentReport, Timestamp};

use super::clock::START;
use crate::status::{self, Evidence, Time, narrative};

/// Name and version of the document.
pub const SCHEMA: &str = "tcpguard.replay/1";

/// What the guard would have said and done about a capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Replay {
    /// Name and version of this document: `tcpguard.replay/1`.
    pub schema: &'static str,
    /// The capture, as it was named; `-` for standard input.
    pub file: String,
    /// Packets read.
    pub packets: u64,
    /// Of these, packets that were not judged, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// SYNs, repetitions included.
    pub syns: u64,
    /// SYN-ACKs that answer one of these SYNs, repetitions included.
    pub syn_acks: u64,
    /// Handshakes that completed.
    pub handshakes: u64,
    /// Time from the first to the last packet, in seconds.
    pub duration_s: f64,
    /// What happened, oldest first.
    pub incidents: Vec<Incident>,
    /// When the first packet was captured.
    #[serde(skip)]
    pub began: Option<Time>,
    /// How the capture was taken, in sentences.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// One incident. Times are seconds after the first packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Incident {
    /// What it is, by the last verdict.
    #[cfg_attr(test, schemars(extend("enum" = CLASSES)))]
    pub class: &'static str,
    /// Where: `203.0.113.10:443`, `[2001:db8::1]:443`; an address or a port alone for a scan;
    /// `this host` for what concerns no single listener.
    pub listener: String,
    /// When it began.
    pub started_s: f64,
    /// How long after that it was detected, in seconds.
    pub detected_after_s: f64,
    /// When it was over; `null` when it was not before the capture's end.
    pub ended_s: Option<f64>,
    /// SYNs in it.
    pub syns: u64,
    /// Distinct sources of the ten seconds with the most, estimated.
    pub sources_est: u64,
    /// How sure the verdict is, 0 to 1.
    pub confidence: f64,
    /// What the verdict rests on.
    pub evidence: Grounds,
    /// What was done, or would have been in enforce mode, oldest first.
    pub actions: Vec<Action>,
    /// Headers of SYNs to the listener from the first second after the first verdict, the flood's
    /// and others', at most 16.
    pub syn_headers: Vec<SynHeader>,
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Grounds {
    /// The verdict in one sentence.
    pub summary: String,
    /// What raised the alarm.
    pub signal: String,
    /// Highest SYN rate over one second.
    pub peak_syn_pps: f64,
    /// SYNs that rules matched, in whatever mode.
    pub matched: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// The numbers.
    #[serde(flatten)]
    pub numbers: Evidence,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Action {
    /// When, in seconds after the first packet.
    pub at_s: f64,
    /// What, in words.
    pub text: String,
}

/// The header of one SYN, as it is in the capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SynHeader {
    /// When it came, in seconds after the first packet.
    pub at_s: f64,
    /// Its bytes in hexadecimal, from the IP header up to the end of the TCP options; at most 112.
    pub hex: String,
    /// Bytes from there to there in the SYN, where they are more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u16>,
}

/// Every class of [`Incident::class`].
#[cfg(test)]
const CLASSES: [&str; 9] = [
    "random_spoofed",
    "single_source",
    "few_source",
    "distributed",
    "scan",
    "flash_crowd",
    "listener_overload",
    "handshake_degraded",
    "reflection",
];

impl Incident {
    /// The document's form of an incident.
    pub fn new(report: &IncidentReport) -> Self {
        Self {
            class: report.class.name(),
            listener: report.listener.to_string(),
            started_s: since_start(report.started),
            detected_after_s: seconds(report.detected.since(report.started)),
            ended_s: report.ended.map(since_start),
            syns: report.syns,
            sources_est: report.evidence.sources_estimate,
            confidence: report.confidence,
            evidence: Grounds {
                summary: narrative::summary(report),
                signal: report.signal.clone(),
                peak_syn_pps: (report.peak_syn_rate * 10.0).round() / 10.0,
                matched: report.matched,
                dropped: report.dropped,
                numbers: status::evidence(&report.evidence),
            },
            actions: report
                .actions
                .iter()
                .map(|action| Action { at_s: since_start(action.at), text: action.text.clone() })
                .collect(),
            syn_headers: report.record.headers.iter().map(SynHeader::new).collect(),
        }
    }
}

impl SynHeader {
    fn new(header: &engine::SynHeader) -> Self {
        let cut = header.bytes.len() < usize::from(header.whole);
        Self {
            at_s: since_start(header.at),
            hex: status::hex(&header.bytes),
            length: cut.then_some(header.whole),
        }
    }
}

/// Seconds, to the millisecond.
pub(super) fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}

fn since_start(at: Timestamp) -> f64 {
    seconds(at.since(START))
}
