//! Event counters, for a monitoring system that polls the status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::IncidentClass;
use tcpguard_host::finding::Severity;

/// Events counted since the agent started.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Counts {
    /// Number of attacks and other incidents, by the class with which each was first reported. Classes
    /// without incidents are left out.
    pub incidents: Vec<IncidentCount>,
    /// Number of reloads that applied the configuration.
    pub reloads_applied: u64,
    /// Number of reloads, or starts, that refused the configuration.
    pub reloads_refused: u64,
}

/// Number of incidents of one class.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IncidentCount {
    /// Class of the incidents.
    pub class: IncidentClass,
    /// Severity of this class.
    pub severity: Severity,
    /// Number of incidents.
    pub count: u64,
}
