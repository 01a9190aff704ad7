//! Facts about an incident, as the events of its start, its course and its end carry them.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::report::IncidentReport;
use crate::evidence::IncidentClass;
use crate::input::{Listener, Mode, rate, share};

/// An incident as it is now.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IncidentFacts {
    /// Its number.
    pub number: u64,
    /// Its class.
    pub class: IncidentClass,
    /// Its listener, or the address or port that a scan is about.
    pub listener: Listener,
    /// Number of listeners that it concerns.
    pub listeners: u32,
    /// The agent's mode.
    pub mode: Mode,
    /// The mode of its listener, where that is milder.
    #[serde(default)]
    pub listener_mode: Option<Mode>,
    /// SYNs per second over the last second; of class `reflection` unsolicited replies.
    pub syn_rate: f64,
    /// Highest rate over one second.
    pub peak_syn_rate: f64,
    /// Baseline of SYNs per second; 0 where it is not known.
    pub baseline_syn_rate: f64,
    /// Completed handshakes as a share of the attempted ones, 0 to 1.
    pub completion: f64,
    /// Estimated number of distinct sources.
    pub sources: u64,
    /// The source that sends most of the flood, where one does.
    pub top_source: Option<IpAddr>,
    /// Its share of the failed handshakes, 0 to 1.
    pub top_source_share: f64,
    /// Share of the failed handshakes with a retransmitted SYN, 0 to 1; `None` where it is not known.
    pub retransmitted: Option<f64>,
    /// Ports that the busiest scanner tried.
    pub ports_tried: u64,
    /// Addresses that it tried.
    pub addresses_tried: u64,
    /// Dropped share of the SYNs of an incident of the whole host, 0 to 1.
    pub stopped: f64,
}

/// An incident that is over.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct EndFacts {
    /// Its number.
    pub number: u64,
    /// Its class.
    pub class: IncidentClass,
    /// Its listener, or the address or port that a scan was about.
    pub listener: Listener,
    /// Number of listeners that it concerned.
    pub listeners: u32,
    /// Reason for its end.
    pub why: EndReason,
    /// Seconds from its start to its end.
    pub lasted_s: u64,
    /// True if the counts that follow leave out a time without an agent.
    pub at_least: bool,
    /// SYNs in it; of class `reflection` unsolicited replies.
    pub syns: u64,
    /// SYNs that were dropped.
    pub dropped: u64,
    /// SYNs that were answered with cookies.
    pub cookies_sent: u64,
    /// Handshakes that clients completed.
    pub completed: u64,
}

/// Reason for the end of an incident.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EndReason {
    /// Nothing of it was seen for a while.
    Quiet {
        /// Seconds for which nothing was seen.
        for_s: u64,
    },
    /// Handshakes fail now, which is an incident of another class.
    HandshakesFail,
    /// The listener is gone.
    ListenerGone,
    /// The agent restarted, and listeners that were reported together are reported anew.
    AgentRestarted,
}

impl IncidentFacts {
    /// The facts about an incident, in `mode`.
    pub fn of(report: &IncidentReport, mode: Mode) -> Self {
        let evidence = &report.evidence;
        let top = report.dominating_source();
        let stopped = match report.syn_rate > 0.0 {
            true => (report.stopped_rate / report.syn_rate).min(1.0),
            false => 0.0,
        };
        Self {
            number: report.id,
            class: report.class,
            listener: report.listener,
            listeners: report.listeners,
            mode,
            listener_mode: None,
            syn_rate: rate(report.syn_rate),
            peak_syn_rate: rate(report.peak_syn_rate),
            baseline_syn_rate: rate(evidence.baseline_syn_rate),
            completion: share(evidence.completion),
            sources: evidence.sources_estimate,
            top_source: top.map(|top| top.addr),
            top_source_share: share(top.map_or(0.0, |top| top.share)),
            retransmitted: evidence.retransmitted_share.map(share),
            ports_tried: evidence.ports_tried,
            addresses_tried: evidence.addresses_tried,
            stopped: share(stopped),
        }
    }
}

impl EndFacts {
    /// The facts about an incident that ended for this reason.
    pub(crate) fn of(report: &IncidentReport, why: EndReason) -> Self {
        Self {
            number: report.id,
            class: report.class,
            listener: report.listener,
            listeners: report.listeners,
            why,
            lasted_s: report.ended.unwrap_or(report.started).since(report.started).as_secs(),
            at_least: report.actions.iter().any(|one| matches!(one.action, Event::AgentRestarted)),
            syns: report.counts.syns,
            dropped: report.counts.dropped,
            cookies_sent: report.counts.cookies_sent,
            completed: report.counts.completed,
        }
    }
}
