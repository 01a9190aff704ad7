//! Events of a fleet, for the journal.

use std::fmt;

use tcpguard_engine::IncidentClass;
use tcpguard_host::units;

use crate::document::{HostId, Id};

/// An event of a fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEvent {
    /// A host has not reported itself for 90 s.
    HostSilent {
        /// The host.
        host: HostId,
        /// Its name.
        hostname: String,
    },
    /// A silent host reports itself again.
    HostReturned {
        /// The host.
        host: HostId,
        /// Its name.
        hostname: String,
    },
    /// An incident was first heard of.
    IncidentStarted {
        /// Its name.
        id: Id,
        /// Its class.
        class: IncidentClass,
        /// The host that reported it first.
        host: HostId,
    },
    /// Two incidents turned out to be one.
    IncidentsMerged {
        /// Name that remains.
        id: Id,
        /// Name that is gone.
        merged: Id,
    },
    /// An incident is over at all hosts.
    IncidentEnded {
        /// Its name.
        id: Id,
        /// Its class.
        class: IncidentClass,
        /// Number of incidents of hosts that were part of it.
        parts: u32,
    },
}

impl FleetEvent {
    /// Priority of the event in the journal.
    pub const fn level(&self) -> log::Level {
        match self {
            Self::HostSilent { .. } | Self::IncidentStarted { .. } => log::Level::Warn,
            Self::HostReturned { .. }
            | Self::IncidentsMerged { .. }
            | Self::IncidentEnded { .. } => log::Level::Info,
        }
    }

    /// Name of the event in the journal.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::HostSilent { .. } => "fleet_host_silent",
            Self::HostReturned { .. } => "fleet_host_returned",
            Self::IncidentStarted { .. } => "fleet_incident_started",
            Self::IncidentsMerged { .. } => "fleet_incidents_merged",
            Self::IncidentEnded { .. } => "fleet_incident_ended",
        }
    }
}

impl fmt::Display for FleetEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostSilent { host, hostname } => {
                write!(out, "{hostname} ({host}) has not reported itself for 90s")
            }
            Self::HostReturned { host, hostname } => {
                write!(out, "{hostname} ({host}) reports itself again")
            }
            Self::IncidentStarted { id, class, host } => {
                write!(out, "fleet incident {id} started: {} at {host}", class.name())
            }
            Self::IncidentsMerged { id, merged } => {
                write!(out, "fleet incident {merged} is part of {id}")
            }
            Self::IncidentEnded { id, class, parts } => {
                let parts = units::counted((*parts).into(), "incident");
                write!(out, "fleet incident {id} ended: {}, {parts} of hosts", class.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::{evidence, host};

    #[test]
    fn an_event_names_its_subject() {
        let (id, class) = (evidence(443, 512).id, IncidentClass::RandomSpoofed);
        let ended = FleetEvent::IncidentEnded { id, class, parts: 3 };
        let text = format!("fleet incident {id} ended: random_spoofed, 3 incidents of hosts");
        assert_eq!((ended.name(), ended.to_string()), ("fleet_incident_ended", text));
        let silent = FleetEvent::HostSilent { host: host(7), hostname: "web7".to_owned() };
        assert_eq!(silent.to_string(), "web7 (00000007) has not reported itself for 90s");
    }
}
