//! The output of the engine: commands, reports and responses.

mod command;
mod report;
mod response;

pub use command::Command;
pub use report::{Completions, ListenerReport, ListenerState, Report};
pub use response::{ImportReport, RequestError, Response};
