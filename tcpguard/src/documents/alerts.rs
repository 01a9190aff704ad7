//! The documents of alerts: `tcpguard.event/1` and `tcpguard.events/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use super::AgentEvent;

/// The value of [`Event::schema`].
pub const EVENT_SCHEMA: &str = "tcpguard.event/1";
/// The value of [`Events::schema`].
pub const EVENTS_SCHEMA: &str = "tcpguard.events/1";

/// One alert: a message about an event.
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

/// One alert by itself: a line of `tcpguard events --follow --json`, and of `alerts.jsonl`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Event {
    /// Name and version of this document: `tcpguard.event/1`.
    pub schema: String,
    /// The alert; its fields are those of the document.
    #[serde(flatten)]
    pub alert: AlertEntry,
}

impl Event {
    /// Returns the document for one alert.
    pub fn of(alert: AlertEntry) -> Self {
        Self { schema: EVENT_SCHEMA.to_owned(), alert }
    }
}

/// Document that `tcpguard events --json` prints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Events {
    /// Name and version of this document: `tcpguard.events/1`.
    pub schema: String,
    /// Alerts, oldest first.
    pub events: Vec<AlertEntry>,
}

impl Events {
    /// Returns the document for these alerts.
    pub fn of(events: Vec<AlertEntry>) -> Self {
        Self { schema: EVENTS_SCHEMA.to_owned(), events }
    }
}
