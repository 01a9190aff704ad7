//! `tcpguard.fleet.announced/1`: routes that a controller announces for one host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_host::time::Time;

use super::check;
use super::envelope::Envelope;
use super::error::DocumentError;
use super::names::HostId;
use super::part::Part;
use super::relief::ReliefRoute;

/// Routes that a controller announces for one host. The sender is the controller.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Announced {
    /// The sender.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Place of this document among those that carry the list.
    #[serde(flatten)]
    pub part: Part,
    /// The host that asked for the routes.
    pub about: HostId,
    /// True while a BGP session to a router is established.
    pub established: bool,
    /// The routes, at most 4; empty when none are left.
    pub routes: Vec<AnnouncedRoute>,
}

/// A route that a host asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct AnnouncedRoute {
    /// The route.
    pub route: ReliefRoute,
    /// Its state.
    pub state: RouteState,
    /// Time since which it has this state.
    pub since: Time,
    /// Reason for the state; left out where it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// State of a route that a host asked for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// The speaker announces it.
    Announced,
    /// The controller would announce it, but only simulates changes.
    DryRun,
    /// The route waits: for the speaker, or for the limit of changes.
    Pending,
    /// The controller refuses it.
    Refused,
}

impl Announced {
    /// Most routes of one document.
    pub const MAX_ROUTES: usize = 4;
    /// Longest reason, in bytes.
    pub const MAX_REASON: usize = 80;

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        self.part.check()?;
        check::list("routes", &self.routes, Self::MAX_ROUTES)?;
        self.routes.iter().try_for_each(|route| {
            route.route.check()?;
            let mut reason = route.reason.iter();
            reason.try_for_each(|reason| check::text("reason", reason, Self::MAX_REASON))
        })
    }
}
