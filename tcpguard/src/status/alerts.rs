//! Alerts as documents.

use serde::{Deserialize, Serialize};

use super::{Severity, Time};

/// The value of [`Event::schema`].
pub const EVENT_SCHEMA: &str = "tcpguard.event/1";
/// The value of [`Alerts::schema`].
pub const ALERTS_SCHEMA: &str = "tcpguard.alerts/1";

/// Something that was told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertEntry {
    /// Its number: a later alert has a higher one, also after a restart of the agent. An agent that
    /// was killed may leave the numbers of its last seconds to the next one.
    #[serde(default)]
    pub seq: u64,
    /// When.
    pub at: Time,
    /// How bad.
    pub severity: Severity,
    /// The event's name.
    pub event: String,
    /// One line in words.
    pub message: String,
    /// The attack it belongs to.
    pub attack: Option<u64>,
}

/// One alert by itself: a line of `tcpguard events --json`, and of `alerts.jsonl`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// Name and version of this document: `tcpguard.event/1`.
    pub schema: String,
    /// The alert.
    #[serde(flatten)]
    pub alert: AlertEntry,
}

impl Event {
    /// The whole document.
    pub fn of(alert: AlertEntry) -> Self {
        Self { schema: EVENT_SCHEMA.to_owned(), alert }
    }
}

/// What `tcpguard alerts --json` prints.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alerts {
    /// Name and version of this document: `tcpguard.alerts/1`.
    pub schema: String,
    /// The alerts, oldest first.
    pub alerts: Vec<AlertEntry>,
}

impl Alerts {
    /// The whole document.
    pub fn of(alerts: Vec<AlertEntry>) -> Self {
        Self { schema: ALERTS_SCHEMA.to_owned(), alerts }
    }
}
