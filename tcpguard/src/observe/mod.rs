//! What leaves the guard by itself: alerts to the journal and to stderr, the log, and metrics.

pub mod alert;
pub mod events;
pub mod history;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod stderr;

pub use alert::{Alert, AlertSink};
pub use history::History;
pub use journal::Journal;
