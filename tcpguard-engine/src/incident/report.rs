//! An incident, as it is reported.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::record::Record;
use super::retention::Worth;
use crate::evidence::{Evidence, IncidentClass, Severity, SourceShare};
use crate::input::{Listener, ListenerId, RuleId, Timestamp, map_time};
use crate::listener::Signal;

/// One incident, open or closed, with all that a person needs to re-trace the verdict.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
    /// Time of its end, which is the last moment in which it was seen; `None` while it is open.
    pub ended: Option<Timestamp>,
    /// `None` while it goes on, and once it is over.
    #[serde(default)]
    pub quiet: Option<QuietReport>,
    /// The signal that raised the alarm.
    pub signal: Signal,
    /// The numbers behind the verdict, at the last inspection.
    pub evidence: Evidence,
    /// Its path to the verdict, and its outcome.
    pub record: Box<Record>,
    /// Its counts so far.
    #[serde(flatten)]
    pub counts: IncidentCounts,
    /// Time over which these were counted, which leaves out that without an agent.
    #[serde(default)]
    pub counted: Duration,
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
    /// Actions for it, newest last.
    pub actions: Vec<ActionReport>,
    /// Rules that are active because of it.
    pub rules: Vec<RuleId>,
}

/// Counts of an incident since it began.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IncidentCounts {
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
}

/// An open incident of which nothing is seen.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct QuietReport<At = Timestamp> {
    /// Time since which nothing was seen.
    pub since: At,
    /// Time at which it is over if that stays so.
    pub ends_at: At,
}

map_time!(QuietReport: since, ends_at;);

/// Share of the failed handshakes from which one source dominates an incident.
const DOMINATES: f64 = 0.5;

impl IncidentReport {
    /// Its worth in a record with a limit.
    pub const fn worth(&self) -> Worth {
        Worth::new(self.id, self.class, self.counts.syns)
    }

    /// The source of most SYNs of failed handshakes at present. The class may say so for a moment longer.
    pub fn dominating_source(&self) -> Option<&SourceShare> {
        self.evidence.top_sources.first().filter(|top| top.share >= DOMINATES)
    }
}

/// One action about an incident.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ActionReport<At = Timestamp> {
    /// Time of the action.
    pub at: At,
    /// The action, with its facts.
    #[serde(flatten)]
    pub action: Event,
}

map_time!(ActionReport: at; action);
