//! The fleet as one picture: its hosts, the incidents across them, and the routes that are announced for them.
//!
//! [`Collector`] takes the documents of hosts and makes `tcpguard.fleet.status/1` of them, and events for the journal.

mod collector;
mod event;
mod health;
mod hosts;
mod incidents;
mod routes;
mod status;

pub use collector::Collector;
pub use event::FleetEvent;
pub use status::{FleetHost, FleetIncident, FleetRoute, FleetStatus, Member, MemberState, Summary};
