//! The output of the engine: commands, reports, responses, and the sentences of alerts.

mod command;
mod report;
mod response;
mod words;

pub use command::Command;
pub use report::{Completions, ListenerReport, ListenerState, Report};
pub use response::{ImportReport, RequestError, Response};
pub(crate) use words::story;
