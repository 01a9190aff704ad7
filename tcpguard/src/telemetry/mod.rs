//! The agent's output: alerts to the journal and to stderr, the audit of changes, and metrics.

pub mod alert;
mod audit;
pub mod events;
pub mod history;
pub mod journal;
pub mod metrics;

pub use alert::{Alert, AlertSink};
pub(crate) use audit::audit;
pub use history::History;
pub use journal::Journal;
