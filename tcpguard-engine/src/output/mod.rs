//! The output of the engine: commands, reports and responses, and the reports for a fleet.

mod command;
mod evidence;
mod fleet;
mod report;
mod response;

pub use command::Command;
pub(crate) use evidence::SharedRates;
pub use evidence::{
    ClientLength, FleetReport, LinkPressure, RefusedRule, SharedEvidence, SignatureEvidence, Victim,
};
pub use fleet::{FleetRefusal, HintReport};
pub use report::{Completions, ListenerReport, ListenerState, Report};
pub use response::{ImportReport, RequestError, Response};
