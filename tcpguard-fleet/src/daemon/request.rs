//! Requests to a process on its socket, and responses: one of each for a connection, JSON on a line.

use serde::{Deserialize, Serialize};
use tcpguard_host::hint::Failure;

use super::status::ProcessStatus;
use crate::collect::FleetStatus;
use crate::document::HostId;

/// A request to a process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Its state.
    Status,
    /// The routes of this host are wanted for another day.
    Confirm(HostId),
}

/// A response of a process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The state of an edge or of a controller.
    Process(Box<ProcessStatus>),
    /// The state of the fleet, by a collector.
    Fleet(Box<FleetStatus>),
    /// The request is done.
    Done,
    /// The request is refused.
    Refused {
        /// The reason.
        message: String,
        /// The next step.
        hint: String,
    },
}

impl Response {
    /// The request is for another process.
    pub fn not_here(process: &str) -> Self {
        Self::from(Failure::new(format!("the {process} does not do that"), "tcpguard-fleet --help"))
    }
}

impl From<ProcessStatus> for Response {
    fn from(status: ProcessStatus) -> Self {
        Self::Process(Box::new(status))
    }
}

impl From<FleetStatus> for Response {
    fn from(status: FleetStatus) -> Self {
        Self::Fleet(Box::new(status))
    }
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        Self::Refused { message: failure.message, hint: failure.hint }
    }
}
