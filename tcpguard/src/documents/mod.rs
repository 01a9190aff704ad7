//! The status and the other JSON documents: their types, and how they are made.
//!
//! [`Status::build`] is a pure function of the engine's report (`tcpguard_engine::Report`) and the
//! agent's measurements ([`Facts`]). A document is a contract with other programs. `docs/schema`
//! describes each, and within version 1 it only grows.

mod agent_event;
mod alerts;
mod allowed;
mod build;
mod capture;
mod changes;
mod clients;
mod counts;
mod document;
mod explanation;
mod facts;
mod fleet;
mod header;
pub mod history;
pub mod incident;
mod incidents;
mod listener;
mod losses;
pub mod monitoring;
mod programs;
mod record;
pub mod replay;
pub mod selftest;
pub mod timeline;
mod transfer;

pub use agent_event::*;
pub use alerts::*;
pub use allowed::Allowed;
pub(crate) use build::{MOSTLY_STOPPED, PAST_LISTED, open_incident};
pub use capture::{CaptureEnd, CaptureResult, CapturedSyn, CapturedSyns};
pub use changes::*;
pub use clients::{Clients, Connect};
pub use counts::{Counts, IncidentCount};
pub use document::*;
pub use explanation::*;
pub use facts::{Facts, InterfaceFacts, LossCounters, NextProgramFacts, Reading};
pub use fleet::{Fleet, FleetHint};
pub use header::{SynHeader, decoded, destination};
pub use incident::*;
pub use incidents::Incidents;
pub use listener::*;
pub use losses::{CpuLoad, InterfaceLosses, LossState, Losses};
pub use programs::{Cost, Program};
pub use record::*;
pub use transfer::{ExportedRule, ExportedRules};
