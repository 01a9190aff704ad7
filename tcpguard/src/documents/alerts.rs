//! The documents of alerts: `tcpguard.event/1` and `tcpguard.events/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use super::AgentEvent;

/// Name and version of an [`AlertEntry`] by itself.
pub const EVENT_SCHEMA: &str = "tcpguard.event/1";

/// One alert: a message about an event. By itself it is a line of `tcpguard events --follow --json`, and of
/// `alerts.jsonl`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AlertEntry {
    /// Number of the alert. A later alert has a higher number, also after a restart of the agent. After
    /// an agent was killed, the next one may use the numbers of its last seconds again.
    #[serde(default)]
    pub seq: u64,
    /// Time of the event.
    pub at: Time,
    /// Severity of the event.
    pub severity: Severity,
    /// The event. The fields of its facts stand beside its name.
    #[serde(flatten)]
    pub event: AlertEvent,
    /// Description of the event in one line of text.
    pub message: String,
    /// Number of the incident that the alert is about; `null` when it is about none.
    pub incident: Option<u64>,
}

/// Event of an alert.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AlertEvent {
    /// An event of the agent itself. It comes first: a `mode_changed` with a revert is one.
    Agent(AgentEvent),
    /// An event of the engine.
    Engine(Box<engine::Event>),
    /// An event that this version does not know.
    #[schemars(skip)]
    Unknown {
        /// Its name.
        event: String,
    },
}

impl AlertEvent {
    /// The name of the event.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(event) => event.name(),
            Self::Engine(event) => event.name(),
            Self::Unknown { event } => event,
        }
    }
}

/// Document that `tcpguard events --json` prints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Events {
    /// Alerts, oldest first.
    pub events: Vec<AlertEntry>,
}

/// Alerts of an agent, as it hands them over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AlertPage {
    /// Run of the agent that responds: boot time of its start, in ms; 0 where none runs.
    pub run: u64,
    /// Number of the first alert of this run. An earlier run that was killed may have raised alerts under
    /// this number and later ones that it could not write down.
    pub first: u64,
    /// Number of the latest alert; 0 before the first.
    pub last: u64,
    /// Time of the response.
    pub now: Time,
    /// Alerts after the one that was asked for, oldest first, as far as they are remembered.
    pub alerts: Vec<AlertEntry>,
}
